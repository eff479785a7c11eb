//! Directories that no node can start on, on real files: one clear error that names the file and the
//! reason, and not a byte changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use raft_core::{ClusterId, Member};
use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;
use raft_replica::layer::Layer;
use raft_replica::storage::{Identity, Storage, StorageError, StorageOptions};
use twox_hash::XxHash3_64;

use crate::files::Directory;
use crate::model::{Script, checksum, identity, seed};

/// A directory in which a node has lived.
fn lived_in(name: &str) -> Directory {
    let directory = Directory::new(name);
    let mut disk = directory.disk();
    Storage::format(&mut disk, identity()).unwrap();
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 80]).sync().snapshot(30, &[9; 9000]).append(&[3, 4]).sync();
    let (mut storage, _) = Storage::open(disk, StorageOptions::small(), None).unwrap();
    script.run(&mut storage).unwrap();
    directory
}

fn open(directory: &Directory, expect: Option<Identity>) -> Result<(), StorageError> {
    Storage::open(directory.disk(), StorageOptions::small(), expect).map(drop)
}

/// Every file, with its bytes.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn refused(directory: &Directory, expect: Option<Identity>, says: &[&str]) {
    let before = contents(&directory.0);
    let error = open(directory, expect).unwrap_err().to_string();
    for part in says {
        assert!(error.contains(part), "{error}: does not say {part}");
    }
    assert!(contents(&directory.0) == before, "{error}: something was modified");
}

#[test]
fn a_directory_of_another_cluster() {
    let directory = lived_in("other-cluster");
    let other = Identity { cluster: ClusterId(0xdead), ..identity() };
    refused(&directory, Some(other), &["IDENTITY", "belongs to", "cdead"]);
    let other = Identity { member: Member::new(9, 101), ..identity() };
    refused(&directory, Some(other), &["IDENTITY", "belongs to", "n9"]);
}

#[test]
fn a_file_that_is_not_ours() {
    let directory = Directory::new("not-ours");
    fs::write(directory.0.join("IDENTITY"), "a letter to somebody").unwrap();
    refused(&directory, None, &["IDENTITY", "none of ours"]);
    let directory = Directory::new("empty");
    refused(&directory, None, &["IDENTITY", "missing", "not a data directory"]);
    fs::write(directory.0.join("notes.txt"), "keep me").unwrap();
    refused(&directory, None, &["IDENTITY", "missing"]);
    let before = contents(&directory.0);
    let error = Storage::format(&mut directory.disk(), identity()).unwrap_err();
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert!(contents(&directory.0) == before);
}

/// What somebody else has put beside our files stays there.
#[test]
fn strangers_among_the_files_are_left_alone() {
    let directory = lived_in("strangers");
    let strangers =
        ["README", "wal/notes.txt", "wal/seg-01-1.wal", "snap/notes.txt", "snap/1.data"];
    for name in strangers {
        fs::write(directory.0.join(name), "keep me").unwrap();
    }
    open(&directory, Some(identity())).unwrap();
    for name in strangers {
        assert_eq!(fs::read(directory.0.join(name)).unwrap(), b"keep me", "{name}");
    }
}

#[test]
fn a_later_format() {
    let directory = lived_in("later");
    let file = directory.0.join("IDENTITY");
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 7;
    let length = 16 + 36;
    let checksum = checksum("IDENTITY", &bytes[..length]);
    bytes[length..length + 8].copy_from_slice(&checksum);
    fs::write(&file, bytes).unwrap();
    refused(&directory, None, &["IDENTITY", "version 7", "only 1"]);
}

/// Each record that says its version, each copy of it by itself: a later one is no damage, and no copy
/// stands in for it.
#[test]
fn a_later_format_of_any_record() {
    let directory = lived_in("later-records");
    let pages = |file: &str, pages: &[u64]| -> Vec<(PathBuf, u64)> {
        pages.iter().map(|page| (directory.0.join(file), page * 4096)).collect()
    };
    let mut records = [pages("IDENTITY", &[0, 1]), pages("hs.a", &[0, 1]), pages("hs.b", &[0, 1])];
    let mut all: Vec<_> = records.iter_mut().flat_map(core::mem::take).collect();
    for path in contents(&directory.0).into_keys() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("seg-") {
            all.extend([(path.clone(), 0), (path, 4096)]);
        } else if name.contains(".manifest") {
            all.push((path, 0));
        }
    }
    assert!(all.len() >= 12, "{all:?}");
    for (path, offset) in all {
        let before = fs::read(&path).unwrap();
        let at = usize::try_from(offset).unwrap();
        let mut bytes = before.clone();
        bytes[at + 8] = 7;
        let body = u32::from_le_bytes(bytes[at + 12..at + 16].try_into().unwrap());
        let end = at + 16 + usize::try_from(body).unwrap();
        let checksum = checksum(path.to_str().unwrap(), &bytes[at..end]);
        bytes[end..end + 8].copy_from_slice(&checksum);
        fs::write(&path, bytes).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        refused(&directory, None, &[name, "version 7", "only 1"]);
        fs::write(&path, before).unwrap();
    }
    open(&directory, Some(identity())).unwrap();
}

/// The same for the batches of the log, which have a header of their own.
#[test]
fn a_later_format_of_a_batch() {
    const HEADER: usize = 64;
    let directory = lived_in("later-batch");
    let mut seen = 0;
    for (path, before) in contents(&directory.0.join("wal")) {
        for at in (0..before.len()).step_by(4096) {
            if !before[at..].starts_with(b"RBAT") {
                continue;
            }
            let mut bytes = before.clone();
            bytes[at + 6] = 7;
            let covered = &bytes[at..at + HEADER - 8];
            let seed = seed(identity()) ^ at as u64;
            let checksum = XxHash3_64::oneshot_with_seed(seed, covered).to_le_bytes();
            bytes[at + HEADER - 8..at + HEADER].copy_from_slice(&checksum);
            fs::write(&path, bytes).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            refused(&directory, None, &[name, "version 7", "only 1"]);
            seen += 1;
        }
        fs::write(&path, &before).unwrap();
    }
    assert!(seen >= 2, "{seen} batches");
    open(&directory, Some(identity())).unwrap();
}

/// Files where one directory may not be changed. (Who runs tests may be allowed everything.)
struct Guarded(FileDisk, &'static str);

impl Layer for Guarded {
    type Below = FileDisk;

    fn below(&mut self) -> &mut FileDisk {
        &mut self.0
    }

    fn may_change(&mut self, dir: &str) -> Result<(), DiskError> {
        if dir == self.1 {
            Err(DiskError::NoPermission)
        } else {
            Disk::may_change(&mut self.0, dir)
        }
    }
}

/// What a start makes, or a new lineage, it makes in a directory: whether it may is asked before anything is
/// written in another one.
#[test]
fn no_permission_for_a_directory() {
    let directory = lived_in("permission-of-a-directory");
    let options = StorageOptions::small();
    let again = Identity { member: Member::new(1, 102), ..identity() };
    for lost in [false, true] {
        if lost {
            fs::remove_file(directory.0.join("hs.a")).unwrap();
        }
        let before = contents(&directory.0);
        for dir in ["wal", "snap", ""] {
            let disk = Guarded(directory.disk(), dir);
            let opened = if lost {
                Storage::readmit(disk, options, again)
            } else {
                Storage::open(disk, options, None)
            };
            // A start makes no file beside the two directories.
            let is_allowed = dir.is_empty() && !lost;
            match opened {
                Ok(_) => assert!(is_allowed, "{dir}"),
                Err(error) => {
                    let file = if dir.is_empty() { "." } else { dir };
                    assert_eq!(error.to_string(), format!("{file}: permission denied"));
                    assert!(contents(&directory.0) == before, "{error}");
                }
            }
        }
    }
}

#[test]
fn no_permission() {
    let directory = lived_in("permission");
    let before = contents(&directory.0);
    let disk = FileDisk::read_only(&directory.0).unwrap();
    let error = Storage::open(disk, StorageOptions::small(), None).unwrap_err().to_string();
    assert!(error.contains("wal: permission denied"), "{error}");
    let empty = Directory::new("permission-empty");
    let mut disk = FileDisk::read_only(&empty.0).unwrap();
    let error = Storage::format(&mut disk, identity()).unwrap_err().to_string();
    assert!(error.contains("wal: permission denied"), "{error}");
    assert!(contents(&directory.0) == before);
}
