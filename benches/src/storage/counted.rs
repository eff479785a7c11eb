//! A disk of real files that counts the bytes which are written to it.

use std::fs::File;

use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;

/// The files of one directory, and how much was written. Zeros that a new file is filled with do not
/// count: they are the same for who preallocates by other means.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) disk: FileDisk,
    pub(crate) written: u64,
}

impl Disk for Counted {
    type File = File;

    fn open(&mut self, path: &str) -> Result<File, DiskError> {
        self.disk.open(path)
    }

    fn create(&mut self, path: &str, len: u64) -> Result<File, DiskError> {
        self.disk.create(path, len)
    }

    fn len(&mut self, file: &File) -> Result<u64, DiskError> {
        self.disk.len(file)
    }

    fn read(&mut self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read(file, offset, buffer)
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.written += data.len() as u64;
        self.disk.write(file, offset, data)
    }

    fn sync(&mut self, file: &File) -> Result<(), DiskError> {
        self.disk.sync(file)
    }

    fn create_dir(&mut self, path: &str) -> Result<(), DiskError> {
        self.disk.create_dir(path)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.disk.remove(path)
    }

    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.disk.list(dir)
    }

    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError> {
        self.disk.sync_dir(dir)
    }
}
