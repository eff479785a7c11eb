//! Storage on real files: the same script leaves the same bytes as in memory.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use raft_core::{EntryId, Index, Term};

use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;
use raft_replica::storage::{Found, Storage, StorageError, StorageOptions};

use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, entries, identity};

/// A directory of its own for a test, removed when the test is over.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("raft-storage-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn disk(&self) -> FileDisk {
        FileDisk::new(&self.0).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nothing to be done about a directory that will not go.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Each script is run on both disks, and both are opened again, with the same sector gone bad: the
/// same bytes, and the same of what is found.
#[test]
fn files_and_memory_hold_the_same_bytes() {
    let mut append = Script::founding();
    append.term(1, Some(1)).append(&[0, 10, 20]).sync().append(&[1; 100]).sync();
    let mut rewrite = append.clone();
    rewrite.term(2, None).rewrite(40, &[7, 9000]).sync().membership(4).sync().commit(40);
    let mut snapshot = rewrite.clone();
    snapshot.snapshot(30, &[9; 10_000]).append(&[3]).sync();
    let mut install = snapshot.clone();
    let before = EntryId { index: Index(99), ..EntryId::default() };
    let last = entries(before, Term(2), &[1])[0].id();
    install.receive(last, &[6; 9000], 4000).append(&[2; 2]).sync();
    let scripts =
        [("append", append), ("rewrite", rewrite), ("snapshot", snapshot), ("install", install)];
    let mut verdicts = 0;
    for (name, script) in &scripts {
        verdicts += same_on_both(name, script);
    }
    println!("{verdicts} verdicts are the same on both disks");
}

fn same_on_both(name: &str, script: &Script) -> u64 {
    let directory = Directory::new(&format!("parity-{name}"));
    let mut memory = MemoryDisk::default();
    Storage::format(&mut memory, identity()).unwrap();
    Storage::format(&mut directory.disk(), identity()).unwrap();
    script.run(&mut open(memory.clone()).unwrap().0).unwrap();
    script.run(&mut open(directory.disk()).unwrap().0).unwrap();
    compare(name, &directory, &memory);
    let mut verdicts = 0;
    for file in memory.files() {
        // A start may have removed it.
        let length = memory.bytes(&file).map_or(0, |bytes| bytes.len());
        for offset in [0, 4096, 8192, 12_288, 12_800].into_iter().filter(|at| at + 512 <= length) {
            let context = format!("{name}: {file} at {offset}");
            memory.overwrite(&file, offset, &[0xa5; 512]);
            let real = fs::OpenOptions::new().write(true).open(directory.0.join(&file)).unwrap();
            real.write_all_at(&[0xa5; 512], offset as u64).unwrap();
            let (in_memory, on_disk) = (open(memory.clone()), open(directory.disk()));
            verdicts += 1;
            match (in_memory, on_disk) {
                (Ok((mut memory, first)), Ok((mut disk, second))) => {
                    assert_eq!(first, second, "{context}");
                    let first = Durable::found(&mut memory, &first);
                    assert_eq!(first, Durable::found(&mut disk, &second), "{context}");
                }
                (Err(first), Err(second)) => {
                    assert_eq!(first, second, "{context}");
                    return verdicts;
                }
                (first, second) => panic!("{context}: {first:?}, {second:?}"),
            }
            compare(&context, &directory, &memory);
            if !memory.files().contains(&file) {
                break;
            }
        }
    }
    verdicts
}

/// Copies what is in a directory of files and of directories of files.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// Each file is gone, or ends early: both disks say the same of it, and a start leaves the same.
#[test]
fn files_and_memory_say_the_same_of_lost_and_short_files() {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 40]).sync().snapshot(20, &[9; 10_000]).membership(4).sync();
    script.term(2, None).rewrite(35, &[7, 900]).sync().append(&[3]).sync();
    let whole = Directory::new("parity-whole");
    let mut memory = MemoryDisk::default();
    Storage::format(&mut memory, identity()).unwrap();
    Storage::format(&mut whole.disk(), identity()).unwrap();
    script.run(&mut open(memory.clone()).unwrap().0).unwrap();
    script.run(&mut open(whole.disk()).unwrap().0).unwrap();
    let mut seen = [0; 2];
    for file in memory.files() {
        let length = memory.bytes(&file).unwrap().len();
        for left in [None, Some(0), Some(4096), Some(length / 2), Some(length.saturating_sub(1))] {
            let context = format!("{file}, {left:?} of {length}");
            let memory = memory.fork();
            let directory = Directory::new("parity-struck");
            copy(&whole.0, &directory.0);
            let path = directory.0.join(&file);
            match left.filter(|left| *left <= length) {
                Some(left) => {
                    memory.cut_off(&file, left);
                    let real = fs::OpenOptions::new().write(true).open(path).unwrap();
                    real.set_len(left as u64).unwrap();
                }
                None => {
                    memory.lose(&file);
                    fs::remove_file(path).unwrap();
                }
            }
            match (open(memory.clone()), open(directory.disk())) {
                (Ok((mut first, in_memory)), Ok((mut second, on_disk))) => {
                    assert_eq!(in_memory, on_disk, "{context}");
                    let first = Durable::found(&mut first, &in_memory);
                    assert_eq!(first, Durable::found(&mut second, &on_disk), "{context}");
                    seen[0] += 1;
                }
                (Err(first), Err(second)) => {
                    assert_eq!(first, second, "{context}");
                    seen[1] += 1;
                }
                (first, second) => panic!("{context}: {first:?}, {second:?}"),
            }
            for file in memory.files() {
                let found = fs::read(directory.0.join(&file)).unwrap();
                assert!(Some(found) == memory.bytes(&file), "{context}: {file} differs");
            }
        }
    }
    println!("{} starts and {} refusals are the same on both disks", seen[0], seen[1]);
    assert!(seen[0] > 20 && seen[1] > 5, "{seen:?}");
}

type Opened<D> = (Storage<D>, Found);

fn open<D: Disk>(disk: D) -> Result<Opened<D>, StorageError> {
    Storage::open(disk, StorageOptions::small(), None)
}

fn compare(context: &str, directory: &Directory, memory: &MemoryDisk) {
    let files = memory.files();
    assert!(files.len() >= 6, "{context}: {files:?}");
    for file in &files {
        let found = fs::read(directory.0.join(file)).unwrap();
        assert!(Some(found) == memory.bytes(file), "{context}: {file} differs");
    }
    let count = ["", "wal", "snap"].map(|dir| directory.disk().list(dir).unwrap().len());
    assert_eq!(
        count.iter().sum::<usize>(),
        files.len() + 2,
        "{context}: two directories, no other file"
    );
}

#[test]
fn production_sizes_work() {
    let directory = Directory::new("sizes");
    Storage::format(&mut directory.disk(), identity()).unwrap();
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1 << 20; 3]).sync();
    let options = StorageOptions::default();
    let (mut storage, _) = Storage::open(directory.disk(), options, None).unwrap();
    script.run(&mut storage).unwrap();
    drop(storage);
    let (mut storage, found) = Storage::open(directory.disk(), options, None).unwrap();
    assert_eq!(Durable::found(&mut storage, &found), *script.now());
}

#[test]
fn the_calls_say_what_went_wrong() {
    let directory = Directory::new("calls");
    let mut disk = directory.disk();
    assert_eq!(disk.open("none").unwrap_err(), DiskError::NotFound);
    assert_eq!(disk.remove("none"), Err(DiskError::NotFound));
    assert_eq!(disk.list("none"), Err(DiskError::NotFound));
    disk.create_dir("dir").unwrap();
    disk.create_dir("dir").unwrap();
    let file = disk.create("dir/file", 5).unwrap();
    assert_eq!(disk.create("dir/file", 5).unwrap_err(), DiskError::Exists);
    assert_eq!(disk.read(&file, 0, &mut [1; 6]), Err(DiskError::Short));
    disk.write(&file, 4, b"abc").unwrap();
    assert_eq!(disk.len(&file), Ok(7));
    let mut bytes = [1; 7];
    disk.read(&file, 0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\0\0\0abc");
    disk.rename("dir/file", "dir/other").unwrap();
    assert_eq!(disk.list("dir").unwrap(), ["other"]);
    let not_empty = StorageError::NotEmpty { file: "dir".to_owned() };
    assert_eq!(Storage::format(&mut disk, identity()), Err(not_empty));
    assert_eq!(FileDisk::new(directory.0.join("none")).unwrap_err(), DiskError::NotFound);
    assert!(disk.has_room(1) && !disk.has_room(u64::MAX));
    assert_eq!((disk.may_change("dir"), disk.may_change("")), (Ok(()), Ok(())));
    assert_eq!(disk.may_change("none"), Err(DiskError::NotFound));
    let mut read_only = FileDisk::read_only(&directory.0).unwrap();
    assert_eq!(read_only.may_change("dir"), Err(DiskError::NoPermission));
}

#[test]
fn a_directory_has_one_owner() {
    let directory = Directory::new("lock");
    Storage::format(&mut directory.disk(), identity()).unwrap();
    let (storage, _) = Storage::open(directory.disk(), StorageOptions::small(), None).unwrap();
    for other_name in [directory.0.clone(), directory.0.join("wal/..")] {
        let error = FileDisk::new(other_name).unwrap_err();
        let path = directory.0.canonicalize().unwrap().display().to_string();
        assert_eq!(error, DiskError::InUse { directory: path.clone() });
        assert_eq!(error.to_string(), format!("{path} is in use: another process has opened it"));
    }
    let disk = storage.into_disk();
    assert!(FileDisk::new(&directory.0).is_err(), "the disk outlives the storage");
    drop(disk);
    directory.disk();
}
