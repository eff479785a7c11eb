//! The disk as storage sees it: a few synchronous calls, each of which can fail.
//!
//! Paths are relative to the data directory and use `/`. What the calls promise is what a POSIX
//! file system promises, and no more: a write is in a cache until `sync` of its file returned; a
//! created, renamed or removed name is in a cache until `sync_dir` of its directory returned. A
//! crash may keep any part of what was not synced.

use core::fmt;

/// A directory tree on a disk.
pub trait Disk {
    /// An open file.
    type File: fmt::Debug;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], or whatever the disk reports.
    fn open(&mut self, path: &str) -> Result<Self::File, DiskError>;

    /// Creates a file of `len` zero bytes and opens it. If that fails, there is no file.
    ///
    /// # Errors
    /// [`DiskError::Exists`], [`DiskError::NoSpace`], or whatever the disk reports.
    fn create(&mut self, path: &str, len: u64) -> Result<Self::File, DiskError>;

    /// Whether so many bytes more fit, as far as can be told without writing any. To find out by writing
    /// would take the last room from everybody else on this disk.
    fn has_room(&mut self, bytes: u64) -> bool {
        _ = bytes;
        true
    }

    /// Asks whether files can be made, renamed and removed in a directory, as far as can be told without
    /// doing so.
    ///
    /// # Errors
    /// [`DiskError::NoPermission`], or whatever the disk reports.
    fn may_change(&mut self, dir: &str) -> Result<(), DiskError> {
        _ = dir;
        Ok(())
    }

    /// The length of a file in bytes.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn len(&mut self, file: &Self::File) -> Result<u64, DiskError>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`DiskError::Short`] if the file ends before, [`DiskError::Unreadable`] if some of it is on
    /// a bad sector, or whatever the disk reports.
    fn read(&mut self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// How many bytes are best read at once by who reads a file from its beginning to its end: one
    /// more call costs as much as to read so many bytes for nothing.
    fn read_ahead_bytes(&mut self) -> u64 {
        256 << 10
    }

    /// Who reads this file next wants to hear from the medium: what a cache holds of it may be dropped there
    /// as far as it is durable. A hint.
    fn forget(&mut self, file: &Self::File) {
        _ = file;
    }

    /// Writes `data` at `offset`, growing the file if it ends before.
    ///
    /// # Errors
    /// [`DiskError::NoSpace`], or whatever the disk reports.
    fn write(&mut self, file: &Self::File, offset: u64, data: &[u8]) -> Result<(), DiskError>;

    /// Makes everything written to the file, and its length, durable.
    ///
    /// # Errors
    /// After an error nothing is known about what was written; calling again proves nothing.
    fn sync(&mut self, file: &Self::File) -> Result<(), DiskError>;

    /// Creates a directory; its parent exists. An existing directory is no error.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn create_dir(&mut self, path: &str) -> Result<(), DiskError>;

    /// Gives a file another name in the same directory, replacing what had it.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], or whatever the disk reports.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], or whatever the disk reports.
    fn remove(&mut self, path: &str) -> Result<(), DiskError>;

    /// The names in a directory (`""` is the data directory), sorted.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], or whatever the disk reports.
    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As for [`Disk::sync`].
    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError>;
}

/// Why a disk call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskError {
    /// There is nothing of this name.
    NotFound,
    /// The name is taken.
    Exists,
    /// The file ends before what was to be read.
    Short,
    /// What was to be read is on a bad sector; other parts of the file may be readable.
    Unreadable,
    /// The disk is full.
    NoSpace,
    /// The process may not do this.
    NoPermission,
    /// Somebody else works on the data directory.
    InUse {
        /// Its path.
        directory: String,
    },
    /// There is something of this name, and it is no directory.
    NotADirectory,
    /// The disk, or the machine under it, has failed.
    Failed(String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::Exists => f.write_str("exists already"),
            Self::Short => f.write_str("the file is too short"),
            Self::Unreadable => f.write_str("it cannot be read: a bad sector"),
            Self::NoPermission => f.write_str("permission denied"),
            Self::NoSpace => f.write_str("no space left"),
            Self::InUse { directory } => {
                write!(f, "{directory} is in use: another process has opened it")
            }
            Self::NotADirectory => f.write_str("not a directory"),
            Self::Failed(reason) => write!(f, "input/output error: {reason}"),
        }
    }
}

impl core::error::Error for DiskError {}
