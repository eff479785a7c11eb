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

use rustix::fs::{Access, Advice, access, fadvise, statvfs};

use crate::disk::{Disk, DiskError};

/// A directory of the machine's file system, which nobody else has as long as this exists.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    /// Holds the lock; locks are the directory's, whatever name led to it. There is none on a
    /// directory that is only read.
    lock: Option<File>,
}

impl FileDisk {
    /// The directory at `root`, which exists, for this disk alone.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] if it does not exist, [`DiskError::NotADirectory`] if it is something else,
    /// [`DiskError::InUse`] if another process, or another disk of this one, has it, or whatever the system
    /// reports.
    pub fn new(root: impl AsRef<Path>) -> Result<Self, DiskError> {
        let root = directory(root)?;
        let lock = File::open(&root).map_err(disk_error)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => {
                Err(DiskError::InUse { directory: root.display().to_string() })
            }
            Err(TryLockError::Error(error)) => Err(disk_error(error)),
        }
    }

    /// The directory at `root`, to be read and not to be changed, whoever else has it. While somebody
    /// works on it, what is read may be of different moments.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] if it does not exist, [`DiskError::NotADirectory`] if it is something else,
    /// or whatever the system reports.
    pub fn read_only(root: impl AsRef<Path>) -> Result<Self, DiskError> {
        Ok(Self { root: directory(root)?, lock: None })
    }

    /// Whether files may be changed; without the lock they may not.
    fn writable(&self) -> Result<(), DiskError> {
        if self.lock.is_some() { Ok(()) } else { Err(DiskError::NoPermission) }
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

impl Disk for FileDisk {
    type File = File;

    fn open(&mut self, path: &str) -> Result<File, DiskError> {
        let path = self.path(path);
        let may_write = self.lock.is_some();
        OpenOptions::new().read(true).write(may_write).open(path).map_err(disk_error)
    }

    fn create(&mut self, path: &str, len: u64) -> Result<File, DiskError> {
        self.writable()?;
        let path = self.path(path);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true);
        let mut file = options.open(&path).map_err(disk_error)?;
        if let Err(error) = fill(&mut file, len) {
            // Half a file would take space and stand in the way of the next attempt.
            std::fs::remove_file(&path).map_err(disk_error)?;
            return Err(disk_error(error));
        }
        Ok(file)
    }

    fn has_room(&mut self, bytes: u64) -> bool {
        // Where the system does not say, that shows when they are written.
        let free =
            statvfs(&self.root).map(|system| system.f_bavail.saturating_mul(system.f_frsize));
        free.map_or(true, |free| bytes <= free)
    }

    fn may_change(&mut self, dir: &str) -> Result<(), DiskError> {
        self.writable()?;
        let may = Access::WRITE_OK | Access::EXEC_OK;
        access(self.path(dir), may).map_err(|error| disk_error(error.into()))
    }

    fn len(&mut self, file: &File) -> Result<u64, DiskError> {
        file.metadata().map(|metadata| metadata.len()).map_err(disk_error)
    }

    fn read(&mut self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        file.read_exact_at(buffer, offset).map_err(|error| {
            if error.raw_os_error() == Some(EIO) {
                DiskError::Unreadable
            } else {
                disk_error(error)
            }
        })
    }

    fn forget(&mut self, file: &File) {
        // What it cannot drop is read from memory, which is no error.
        _ = fadvise(file, 0, None, Advice::DontNeed);
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.writable()?;
        file.write_all_at(data, offset).map_err(disk_error)
    }

    fn sync(&mut self, file: &File) -> Result<(), DiskError> {
        self.writable()?;
        file.sync_data().map_err(disk_error)
    }

    fn create_dir(&mut self, path: &str) -> Result<(), DiskError> {
        self.writable()?;
        match std::fs::create_dir(self.path(path)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(disk_error(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.writable()?;
        std::fs::rename(self.path(from), self.path(to)).map_err(disk_error)
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.writable()?;
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

/// The number of an input/output error, on every system that has `pread`.
const EIO: i32 = 5;

fn directory(root: impl AsRef<Path>) -> Result<PathBuf, DiskError> {
    let root = root.as_ref().canonicalize().map_err(disk_error)?;
    if root.is_dir() { Ok(root) } else { Err(DiskError::NotADirectory) }
}

/// Writes so many zeros.
fn fill(file: &mut File, len: u64) -> Result<(), Error> {
    let zeros = [0; 64 << 10];
    let mut left = len;
    while left > 0 {
        let part = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all(&zeros[..part])?;
        left -= part as u64;
    }
    Ok(())
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
    } else if kind == ErrorKind::StorageFull || kind == ErrorKind::QuotaExceeded {
        DiskError::NoSpace
    } else if kind == ErrorKind::NotADirectory {
        DiskError::NotADirectory
    } else if kind == ErrorKind::PermissionDenied || kind == ErrorKind::ReadOnlyFilesystem {
        DiskError::NoPermission
    } else {
        DiskError::Failed(error.to_string())
    }
}
