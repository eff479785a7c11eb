//! The data directory: what it says of itself bears one fault, and a voter's promises are never wiped.

use std::fs;
use std::path::Path;

use raft_core::{
    Entries, HardState, Incarnation, Index, NodeId, PersistBatch, PersistSeq, RecoveredState, Term,
};
use raft_kv::bootstrap::{DataDirectory, DirectoryError, Settled, cluster_of};
use raft_replica::storage::StorageOptions;
use raft_replica::storage::work::Work;

const COPIES: [&str; 2] = ["founding.toml", "founding.copy.toml"];

fn open(path: &Path) -> Result<DataDirectory, DirectoryError> {
    DataDirectory::open(path, NodeId(1))
}

/// A directory that has found its cluster.
fn settled(path: &Path) -> DataDirectory {
    let mut directory = open(path).unwrap();
    let founders = vec![directory.founding().member];
    let cluster = cluster_of(&founders);
    directory.settle(Settled { cluster, founders }).unwrap();
    directory
}

/// What both copies hold.
fn copies(path: &Path) -> [Vec<u8>; 2] {
    COPIES.map(|name| fs::read(path.join(name)).unwrap())
}

/// The crash came after the storage was made, before the directory said so: or a backup has brought
/// back what it said before.
#[test]
fn a_storage_that_was_finished_is_never_made_again() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path();
    let mut directory = settled(path);
    let before = copies(path);
    let (mut storage, _) = directory.open_storage(StorageOptions::small()).unwrap();
    assert!(directory.founding().is_formatted);
    let genesis = RecoveredState::genesis(Default::default()).snapshot;
    let promised = HardState { term: Term(7), incarnation: Incarnation(1), ..Default::default() };
    let batch = PersistBatch {
        seq: PersistSeq { incarnation: Incarnation(1), n: 1 },
        hard_state: Some(promised),
        install: Some(genesis),
        truncate_from: None,
        heal: Vec::new(),
        append: Entries::empty(),
        compact_to: None,
    };
    storage.write(Work::Persist { batch, commit: Index::ZERO }).unwrap();
    storage.sync().unwrap();
    drop((storage, directory));
    for (name, bytes) in COPIES.iter().zip(&before) {
        fs::write(path.join(name), bytes).unwrap();
    }
    let mut directory = open(path).unwrap();
    assert!(!directory.founding().is_formatted);
    let (_, found) = directory.open_storage(StorageOptions::small()).unwrap();
    assert_eq!(found.hard_state, promised);
    assert!(directory.founding().is_formatted);
}

/// What a crash has left of one that was not finished is made anew.
#[test]
fn a_storage_that_was_not_finished_is_made_again() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path();
    let mut directory = settled(path);
    fs::create_dir_all(path.join("raft/wal")).unwrap();
    fs::write(path.join("raft/hs.a"), "half").unwrap();
    directory.open_storage(StorageOptions::small()).unwrap();
}

#[test]
fn each_byte_of_one_copy_may_rot() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path();
    let founding = settled(path).founding().clone();
    let whole = copies(path);
    assert_eq!(whole[0], whole[1]);
    // What stands before the checksum says nothing.
    let start = whole[0].iter().position(|byte| *byte == b':').unwrap() + 1;
    for (copy, name) in COPIES.into_iter().enumerate() {
        for at in start..whole[0].len() {
            let mut bytes = whole[0].clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(path.join(name), &bytes).unwrap();
            assert_eq!(*open(path).unwrap().founding(), founding, "byte {at} of {name}");
            // A digit of the checksum may be a capital.
            let mended = copies(path)[copy].eq_ignore_ascii_case(&whole[copy]);
            assert!(mended, "byte {at} of {name}: it is written again");
        }
        fs::remove_file(path.join(name)).unwrap();
        assert_eq!(*open(path).unwrap().founding(), founding, "{name} is gone");
        assert_eq!(copies(path), whole);
    }
    for name in COPIES {
        fs::write(path.join(name), "rot").unwrap();
    }
    let error = open(path).unwrap_err().to_string();
    assert!(error.contains("founding.toml is damaged"), "{error}");
    assert_eq!(copies(path), [b"rot", b"rot"], "nothing is modified");
}

/// A bad sector is no reason to stay down: that is what the copy is for. The memory of a process, where
/// there is none, is read like one.
#[cfg(target_os = "linux")]
#[test]
fn one_copy_may_be_unreadable() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path();
    let founding = settled(path).founding().clone();
    let whole = copies(path);
    let spoil = |name: &str| {
        fs::remove_file(path.join(name)).unwrap();
        std::os::unix::fs::symlink("/proc/self/mem", path.join(name)).unwrap();
        let error = fs::read(path.join(name)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
    };
    for name in COPIES {
        spoil(name);
        assert_eq!(*open(path).unwrap().founding(), founding, "{name} is unreadable");
        assert_eq!(copies(path), whole, "{name} is written again");
    }
    COPIES.into_iter().for_each(spoil);
    let error = open(path).unwrap_err();
    assert!(matches!(error, DirectoryError::Damaged { .. }), "{error}");
}

/// Another server's directory is left alone, damaged as it is.
#[test]
fn a_refused_directory_is_not_mended() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path();
    drop(settled(path));
    fs::write(path.join(COPIES[1]), "rot").unwrap();
    let error = DataDirectory::open(path, NodeId(2)).unwrap_err().to_string();
    assert!(error.contains("belongs to server 1"), "{error}");
    assert_eq!(fs::read(path.join(COPIES[1])).unwrap(), b"rot");
}

/// What a later version writes there is no damage, and its copy does not stand in for it.
#[test]
fn a_later_version_is_called_so() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path();
    drop(settled(path));
    let old = copies(path);
    let body = "version = 2\nid = \"one\"\nflavour = \"new\"\n";
    let checksum = twox_hash::XxHash3_64::oneshot(body.as_bytes());
    for name in COPIES {
        let text = format!("# Written by raft-kv. Do not edit: {checksum:016x}\n{body}");
        fs::write(path.join(name), text).unwrap();
        let error = open(path).unwrap_err().to_string();
        let says = format!("{name}: format version 2, but only 1 is understood");
        assert!(error.contains(&says), "{error}");
        fs::write(path.join(name), &old[0]).unwrap();
    }
}
