//! A disk of real files that counts the bytes which are written to it.

use std::fs::File;

use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;
use raft_replica::layer::Layer;

/// The files of one directory, and how much was written. Zeros that a new file is filled with do not
/// count: they are the same for who preallocates by other means.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) disk: FileDisk,
    pub(crate) written: u64,
}

impl Layer for Counted {
    type Below = FileDisk;

    fn below(&mut self) -> &mut FileDisk {
        &mut self.disk
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.written += data.len() as u64;
        self.disk.write(file, offset, data)
    }
}
