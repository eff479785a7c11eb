//! Why storage refuses to work.
//!
//! One error type for the whole boundary. What a crash can leave behind is no error, and neither is a
//! damaged entry or snapshot: those are found and reported. An error is what leaves a node without
//! its identity or its promises, or without a log to begin from; it is never repaired by guessing.

use core::fmt;

use raft_core::EntryId;

use crate::disk::{Disk, DiskError};
use crate::storage::Identity;
use crate::storage::frame::{Flaw, VERSION};

/// Why storage could not be formatted, opened, written or synced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageError {
    /// A disk call failed. After a failed write or sync the storage refuses all further work.
    Disk {
        /// The file or directory, relative to the data directory.
        file: String,
        /// What the disk said.
        error: DiskError,
    },
    /// The directory to be formatted holds something already.
    NotEmpty {
        /// A name that was found in it.
        file: String,
    },
    /// A file without which the directory is no data directory. Absence is not emptiness: a node is
    /// created by formatting a directory, never by starting on an empty one.
    Missing {
        /// The file.
        file: String,
    },
    /// The directory belongs to somebody else.
    OtherNode {
        /// The file that says so.
        file: String,
        /// Whose it is.
        found: Identity,
        /// Whose it should be.
        expected: Identity,
    },
    /// A record was written by a later version of this program.
    NewerFormat {
        /// The file.
        file: String,
        /// The version of the record.
        found: u32,
        /// The newest version that is understood here.
        supported: u32,
    },
    /// Something that was once durable cannot be read any more. Nothing has been changed.
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// What makes the node who it is cannot be read any more: its identity, its hard state, or what
    /// says where its log is. It must not go on as if it had never voted. Nothing has been changed;
    /// [`crate::storage::Storage::readmit`] is the way back into the group.
    Amnesia {
        /// The file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// There was no space for a new file. Nothing of the work has been lost, nothing that was
    /// acknowledged is at risk, and the same work may be handed in again.
    NoSpace {
        /// The file that was to be made.
        file: String,
    },
    /// A snapshot is to be installed of which not all chunks are staged.
    NotStaged {
        /// The snapshot.
        snapshot: EntryId,
    },
    /// The work does not follow what was written before it.
    OutOfOrder {
        /// The rule that it breaks.
        what: &'static str,
    },
    /// An option is out of range.
    Options {
        /// The option and its range.
        what: &'static str,
    },
    /// An earlier write or sync failed: what is on the disk is unknown until it is opened again.
    Poisoned,
}

impl StorageError {
    pub(super) fn amnesia(file: &str, what: impl Into<String>) -> Self {
        Self::Amnesia { file: file.to_owned(), what: what.into() }
    }

    pub(super) fn damaged(file: &str, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), what: what.into() }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { file, error } => write!(f, "{file}: {error}"),
            Self::NotEmpty { file } => write!(f, "the directory is not empty: it holds {file}"),
            Self::Missing { file } => write!(f, "{file} is missing: not a data directory"),
            Self::OtherNode { file, found, expected } => {
                write!(f, "{file}: the directory belongs to {found}, not to {expected}")
            }
            Self::NewerFormat { file, found, supported } => {
                write!(f, "{file}: format version {found}, but only {supported} is understood")
            }
            Self::Damaged { file, what } => write!(f, "{file} is damaged: {what}"),
            Self::Amnesia { file, what } => {
                write!(f, "{file}: {what}: the node cannot know what it has promised")
            }
            Self::NoSpace { file } => write!(f, "{file}: no space left for it"),
            Self::NotStaged { snapshot } => write!(f, "snapshot {snapshot} is not wholly staged"),
            Self::OutOfOrder { what } => write!(f, "work out of order: {what}"),
            Self::Options { what } => write!(f, "storage options: {what}"),
            Self::Poisoned => f.write_str("an earlier write failed; open the storage again"),
        }
    }
}

impl core::error::Error for StorageError {}

/// Names the file in the error of a disk call.
pub(super) trait InFile<T> {
    fn in_file(self, file: &str) -> Result<T, StorageError>;
}

impl<T> InFile<T> for Result<T, DiskError> {
    fn in_file(self, file: &str) -> Result<T, StorageError> {
        self.map_err(|error| StorageError::Disk { file: file.to_owned(), error })
    }
}

/// What a file holds in some place; `None` if it is not there or cannot be read. What a later version has
/// written there is neither, and nothing must be made of it.
pub(super) fn known<T>(found: Result<T, Flaw>, file: &str) -> Result<Option<T>, StorageError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Flaw::Zero | Flaw::Bad) => Ok(None),
        Err(Flaw::Newer(found)) => {
            let file = file.to_owned();
            Err(StorageError::NewerFormat { file, found, supported: VERSION })
        }
    }
}

/// Opens a file; `None` if it is not there.
pub(super) fn open_found<D: Disk>(
    disk: &mut D,
    file: &str,
) -> Result<Option<D::File>, StorageError> {
    match disk.open(file) {
        Ok(file) => Ok(Some(file)),
        Err(DiskError::NotFound) => Ok(None),
        Err(error) => Err(StorageError::Disk { file: file.to_owned(), error }),
    }
}

/// Removes a file that may not be there.
pub(super) fn remove_found<D: Disk>(disk: &mut D, file: &str) -> Result<(), StorageError> {
    match disk.remove(file) {
        Err(DiskError::NotFound) => Ok(()),
        result => result.in_file(file),
    }
}

/// Creates a file on which nothing depends yet. No space for it is no failure of the disk: what is
/// there stays as it is.
pub(super) fn create_fresh<D: Disk>(
    disk: &mut D,
    file: &str,
    len: u64,
) -> Result<D::File, StorageError> {
    disk.create(file, len).map_err(|error| match error {
        DiskError::NoSpace => StorageError::NoSpace { file: file.to_owned() },
        DiskError::NotFound
        | DiskError::Exists
        | DiskError::Short
        | DiskError::Unreadable
        | DiskError::NoPermission
        | DiskError::InUse { .. }
        | DiskError::NotADirectory
        | DiskError::Failed(_) => StorageError::Disk { file: file.to_owned(), error },
    })
}
