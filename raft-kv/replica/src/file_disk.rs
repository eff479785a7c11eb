//! A [`Disk`] of real files in one directory.
//!
//! `sync` is `fdatasync`, which also makes a changed length durable; `sync_dir` is `fsync` of the
//! directory. A new file is filled with zeros, not only given a length: its blocks exist before
//! the first write into it, so no later sync has to wait for the file system to find some, and a
//! full disk shows when the file is made. Nothing here retries.
//!
//! The directory itself is locked for as long as the disk exists: two processes with one identity
//! would vote twice and write over each other's log. The lock is of the kind that the system lets go
//! when the process ends, however it ends, so no stale one is ever in the way, and there is no lock
//! file that a restored backup could bring along.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskError};

/// A directory of the machine's file system, which nobody else has as long as this exists.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    /// Holds the lock; locks are the directory's, whatever name led to it.
    _lock: File,
}

impl FileDisk {
    /// The directory at `root`, which exists, for this disk alone.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] if it does not exist, [`DiskError::InUse`] if another process, or
    /// another disk of this one, has it, or whatever the system reports.
    pub fn new(root: impl AsRef<Path>) -> Result<Self, DiskError> {
        let root = root.as_ref().canonicalize().map_err(disk_error)?;
        if !root.is_dir() {
            return Err(DiskError::NotFound);
        }
        let lock = File::open(&root).map_err(disk_error)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(DiskError::InUse { directory: root.display().to_string() })
            }
            Err(TryLockError::Error(error)) => Err(disk_error(error)),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

impl Disk for FileDisk {
    type File = File;

    fn open(&mut self, path: &str) -> Result<File, DiskError> {
        let path = self.path(path);
        OpenOptions::new().read(true).write(true).open(path).map_err(disk_error)
    }

    fn create(&mut self, path: &str, len: u64) -> Result<File, DiskError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true);
        let mut file = options.open(self.path(path)).map_err(disk_error)?;
        let zeros = [0; 64 << 10];
        let mut left = len;
        while left > 0 {
            let part = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
            file.write_all(&zeros[..part]).map_err(disk_error)?;
            left -= part as u64;
        }
        Ok(file)
    }

    fn len(&mut self, file: &File) -> Result<u64, DiskError> {
        file.metadata().map(|metadata| metadata.len()).map_err(disk_error)
    }

    fn read(&mut self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        file.read_exact_at(buffer, offset).map_err(disk_error)
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        file.write_all_at(data, offset).map_err(disk_error)
    }

    fn sync(&mut self, file: &File) -> Result<(), DiskError> {
        file.sync_data().map_err(disk_error)
    }

    fn create_dir(&mut self, path: &str) -> Result<(), DiskError> {
        match std::fs::create_dir(self.path(path)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(disk_error(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        std::fs::rename(self.path(from), self.path(to)).map_err(disk_error)
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        std::fs::remove_file(self.path(path)).map_err(disk_error)
    }

    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(dir)).map_err(disk_error)? {
            let name = entry.map_err(disk_error)?.file_name();
            // A name that is no text is none of ours, but the directory is not empty.
            names.push(name.to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError> {
        let dir = File::open(self.path(dir)).map_err(disk_error)?;
        dir.sync_all().map_err(disk_error)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn disk_error(error: Error) -> DiskError {
    let kind = error.kind();
    if kind == ErrorKind::NotFound {
        DiskError::NotFound
    } else if kind == ErrorKind::AlreadyExists {
        DiskError::Exists
    } else if kind == ErrorKind::UnexpectedEof {
        DiskError::Short
    } else if kind == ErrorKind::StorageFull {
        DiskError::NoSpace
    } else {
        DiskError::Failed(error.to_string())
    }
}
