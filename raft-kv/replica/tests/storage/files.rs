//! Storage on real files: the same script leaves the same bytes as in memory.

use std::fs;
use std::path::PathBuf;

use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;
use raft_replica::storage::{Storage, StorageError, StorageOptions};

use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, identity};

/// A directory of its own for a test, removed when the test is over.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("raft-storage-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn disk(&self) -> FileDisk {
        FileDisk::new(&self.0).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nothing to be done about a directory that will not go.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn run<D: Disk>(disk: D, script: &Script) -> Storage<D> {
    let (mut storage, _) = Storage::open(disk, StorageOptions::small(), None).unwrap();
    script.run(&mut storage).unwrap();
    storage
}

#[test]
fn files_and_memory_hold_the_same_bytes() {
    let directory = Directory::new("parity");
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[0, 10, 20]).sync().append(&[1; 100]).sync();
    script.term(2, None).rewrite(40, &[7, 9000]).sync().commit(40);
    script.snapshot(30, &[9; 10_000]).append(&[3]).sync();

    let mut memory = MemoryDisk::default();
    Storage::format(&mut memory, identity()).unwrap();
    drop(run(memory.clone(), &script));
    Storage::format(&mut directory.disk(), identity()).unwrap();
    drop(run(directory.disk(), &script));

    let files = memory.files();
    assert!(files.len() >= 7, "{files:?}");
    for file in &files {
        let found = fs::read(directory.0.join(file)).unwrap();
        assert!(Some(found) == memory.bytes(file), "{file} differs");
    }
    let count = ["", "wal", "snap"].map(|dir| directory.disk().list(dir).unwrap().len());
    assert_eq!(count.iter().sum::<usize>(), files.len() + 2, "no other file but two directories");
    let (_, found) = Storage::open(directory.disk(), StorageOptions::small(), None).unwrap();
    assert_eq!(Durable::found(&found), *script.now());
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
    let (_, found) = Storage::open(directory.disk(), options, None).unwrap();
    assert_eq!(Durable::found(&found), *script.now());
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
