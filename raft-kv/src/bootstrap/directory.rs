//! The data directory: who owns it, and how far its founding has come.
//!
//! `raft/` is made once. A directory of that name which was never finished was never used, and is made
//! again; one that is finished holds what a voter has promised, and nothing here ever removes it, whatever
//! else is lost.

use std::fmt;
mod record;

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Settled, draw_lineage};
use crate::spare::SpareDisk;
use raft_core::{GroupId, Lineage, Member, NodeId};
use raft_replica::disk::DiskError;
use raft_replica::file_disk::FileDisk;
use raft_replica::storage::{Found, Identity, Storage, StorageError, StorageOptions, inspect};

/// The one group of a server.
pub(crate) const GROUP: GroupId = GroupId(1);

const RAFT: &str = "raft";
const SPARE: &str = "spare";

/// How far the founding of a directory has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// The server, with the lineage that was drawn for this directory.
    pub member: Member,
    /// The cluster, once it is known.
    pub settled: Option<Settled>,
    /// Whether `raft/` has been made.
    pub is_formatted: bool,
}

/// A data directory that nobody else has as long as this exists.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    founding: Founding,
    _lock: File,
}

impl DataDirectory {
    /// Takes the directory of server `id`; an empty or missing one becomes its, with a new lineage.
    ///
    /// # Errors
    /// [`DirectoryError`] says whose it is otherwise, or what is wrong with it.
    pub fn open(path: &Path, id: NodeId) -> Result<Self, DirectoryError> {
        let fail = |error| DirectoryError::io(path, error);
        if path.exists() && !path.is_dir() {
            return Err(fail(ErrorKind::NotADirectory.into()));
        }
        fs::create_dir_all(path).map_err(fail)?;
        let lock = take(path)?;
        let record::Found { founding, is_whole } = match record::read(path)? {
            Some(found) => found,
            None => record::Found { founding: begin(path, id)?, is_whole: true },
        };
        founding.is_of(id, path)?;
        if !is_whole {
            record::write(path, &founding).map_err(fail)?;
        }
        Ok(Self { path: path.to_owned(), founding, _lock: lock })
    }

    /// Who the directory of server `id` makes it, in which cluster, and what its storage would find; `None`:
    /// it belongs to no cluster. Nothing is changed, and nothing is mended.
    ///
    /// # Errors
    /// As for [`DataDirectory::open`] and [`DataDirectory::open_storage`].
    pub fn look(
        path: &Path,
        id: NodeId,
        options: &StorageOptions,
    ) -> Result<Option<(Member, Settled, Found)>, DirectoryError> {
        // What somebody else is changing says nothing.
        let _lock = take(path)?;
        let Some(record::Found { founding, .. }) = record::read(path)? else { return Ok(None) };
        founding.is_of(id, path)?;
        let Founding { member, settled, .. } = founding;
        let Some(settled) = settled else { return Ok(None) };
        let path = path.join(RAFT);
        let identity = Identity { cluster: settled.cluster, group: GROUP, member };
        let mut disk = FileDisk::read_only(&path).map_err(DirectoryError::disk(&path))?;
        let found = Storage::look(&mut disk, options, Some(identity));
        Ok(Some((member, settled, found.map_err(DirectoryError::storage(&path))?)))
    }

    /// How far its founding has come.
    #[must_use]
    pub fn founding(&self) -> &Founding {
        &self.founding
    }

    /// Makes durable to which cluster it belongs.
    ///
    /// # Errors
    /// The disk fails.
    pub fn settle(&mut self, settled: Settled) -> Result<(), DirectoryError> {
        self.change(|founding| founding.settled = Some(settled))
    }

    /// Opens the storage; makes it first if that has not been done.
    ///
    /// # Errors
    /// It is not settled, or the storage says what is wrong.
    pub fn open_storage(
        &mut self,
        options: StorageOptions,
    ) -> Result<(Storage<SpareDisk>, Found), DirectoryError> {
        let path = self.path.join(RAFT);
        let settled = self.founding.settled.as_ref();
        let cluster =
            settled.ok_or_else(|| DirectoryError::damaged(&self.path, "not settled"))?.cluster;
        let identity = Identity { cluster, group: GROUP, member: self.founding.member };
        let is_finished = path.join(Identity::FILE).try_exists();
        let is_finished = is_finished.map_err(|error| DirectoryError::io(&path, error))?;
        if !self.founding.is_formatted && !is_finished {
            // Nothing that a crash left here was ever used: no storage was opened on it.
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(DirectoryError::io(&path, error));
                }
                Ok(()) | Err(_) => {}
            }
            fs::create_dir(&path).map_err(|error| DirectoryError::io(&path, error))?;
            let mut disk = FileDisk::new(&path).map_err(DirectoryError::disk(&path))?;
            Storage::format(&mut disk, identity).map_err(DirectoryError::storage(&path))?;
        }
        let spare = self.path.join(SPARE);
        let disk = SpareDisk::new(&path, spare).map_err(DirectoryError::disk(&path))?;
        let opened = Storage::open(disk, options, Some(identity));
        let opened = opened.map_err(DirectoryError::storage(&path))?;
        if !self.founding.is_formatted {
            self.change(|founding| founding.is_formatted = true)?;
        }
        Ok(opened)
    }

    /// Gives a directory that has lost its promises, or who it is, a new lineage: it has promised nothing to
    /// anybody, and keeps the log and the snapshots, which may be the last good copies of something. One
    /// that was given a new lineage by an attempt which did not end is finished.
    ///
    /// # Errors
    /// [`DirectoryError::Whole`] if it has lost nothing, and otherwise as [`DataDirectory::open_storage`].
    pub fn readmit(&mut self, options: StorageOptions) -> Result<(Member, Found), DirectoryError> {
        let settled = self.founding.settled.as_ref();
        let settled = settled.filter(|_| self.founding.is_formatted);
        let cluster =
            settled.ok_or_else(|| DirectoryError::damaged(&self.path, "never used"))?.cluster;
        let (path, old) = (self.path.join(RAFT), self.founding.member);
        let fail = |error| DirectoryError::io(&path, error);
        let of = |member| Identity { cluster, group: GROUP, member };
        // It is read first, and nothing is changed if it is whole.
        let (on_disk, in_storage) = (DirectoryError::disk(&path), DirectoryError::storage(&path));
        let mut disk = FileDisk::read_only(&path).map_err(&on_disk)?;
        let (storage, found, member) = match inspect(&mut disk) {
            Ok(whole) if whole.identity == of(old) => {
                return Err(DirectoryError::Whole { path: self.path.clone() });
            }
            Ok(whole) => {
                let is_ours = whole.identity.member.id == old.id;
                let expected = if is_ours { of(whole.identity.member) } else { of(old) };
                let disk = FileDisk::new(&path).map_err(&on_disk)?;
                let opened = Storage::open(disk, options, Some(expected));
                let (storage, found) = opened.map_err(&in_storage)?;
                (storage, found, expected.member)
            }
            Err(StorageError::Amnesia { .. }) => {
                let lineage = Lineage(draw_lineage().map_err(fail)?);
                let member = Member { id: old.id, lineage };
                let disk = FileDisk::new(&path).map_err(&on_disk)?;
                let opened = Storage::readmit(disk, options, of(member));
                let (storage, found) = opened.map_err(&in_storage)?;
                (storage, found, member)
            }
            Err(error) => return Err(in_storage(error)),
        };
        drop(storage);
        self.change(|founding| founding.member = member)?;
        Ok((member, found))
    }

    fn change(&mut self, change: impl FnOnce(&mut Founding)) -> Result<(), DirectoryError> {
        change(&mut self.founding);
        record::write(&self.path, &self.founding)
            .map_err(|error| DirectoryError::io(&self.path, error))
    }
}

impl Founding {
    fn is_of(&self, id: NodeId, path: &Path) -> Result<(), DirectoryError> {
        let (path, found) = (path.to_owned(), self.member.id);
        if found == id {
            Ok(())
        } else {
            Err(DirectoryError::OtherServer { path, found, expected: id })
        }
    }
}

/// Makes a directory that of this process alone, as long as what it returns exists.
fn take(path: &Path) -> Result<File, DirectoryError> {
    let fail = |error| DirectoryError::io(path, error);
    let lock = File::open(path).map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(DirectoryError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// Makes an empty directory the one of server `id`.
fn begin(path: &Path, id: NodeId) -> Result<Founding, DirectoryError> {
    let fail = |error| DirectoryError::io(path, error);
    for entry in fs::read_dir(path).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        if name != record::SCRATCH {
            let file = name.to_string_lossy().into_owned();
            return Err(DirectoryError::Foreign { path: path.to_owned(), file });
        }
    }
    // Whoever finds no directory after a crash would draw another lineage, and be somebody else.
    let full = path.canonicalize().map_err(fail)?;
    keep_names(&full, |directory| File::open(directory)?.sync_all()).map_err(fail)?;
    let lineage = Lineage(draw_lineage().map_err(fail)?);
    let member = Member { id, lineage };
    let founding = Founding { member, settled: None, is_formatted: false };
    record::write(path, &founding).map_err(fail)?;
    Ok(founding)
}

/// Makes the names durable that lead to a directory. Which of them are new, an earlier attempt may know;
/// where this process may not look, it has made none.
fn keep_names(path: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for parent in path.ancestors().skip(1) {
        match sync(parent) {
            Err(error) if error.kind() != ErrorKind::PermissionDenied => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Why a data directory cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The system refuses.
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process has it.
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It holds something that is no server's.
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What.
        file: String,
    },
    /// It belongs to another server.
    OtherServer {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who was to start.
        expected: NodeId,
    },
    /// What it says of its founding cannot be read.
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What it says of its founding was written by a later version of this program.
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that is understood here.
        supported: u32,
    },
    /// It has lost nothing that a new lineage would be the answer to.
    Whole {
        /// The directory.
        path: PathBuf,
    },
    /// Its storage cannot be used.
    Storage {
        /// The directory of the storage.
        path: PathBuf,
        /// Why; it names the file.
        error: StorageError,
    },
}

impl DirectoryError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    fn storage(path: &Path) -> impl Fn(StorageError) -> Self {
        move |error| Self::Storage { path: path.to_owned(), error }
    }

    /// Of a disk on this directory, or of a file beside it.
    fn disk(path: &Path) -> impl Fn(DiskError) -> Self {
        move |error| {
            let (file, path) = (".".to_owned(), path.to_owned());
            Self::Storage { path, error: StorageError::Disk { file, error } }
        }
    }

    fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::InUse { path } => {
                write!(f, "{} is in use: another process has opened it", path.display())
            }
            Self::Foreign { path, file } => write!(
                f,
                "{} is no data directory, and it is not empty: it holds {file}",
                path.display()
            ),
            Self::OtherServer { path, found, expected } => write!(
                f,
                "{} belongs to server {}, not to server {}",
                path.display(),
                found.0,
                expected.0
            ),
            Self::Damaged { path, what } => {
                write!(f, "{}/{} is damaged: {what}", path.display(), record::FILES[0])
            }
            Self::NewerFormat { path, found, supported } => write!(
                f,
                "{}: format version {found}, but only {supported} is understood",
                path.display()
            ),
            Self::Whole { path } => write!(
                f,
                "{} knows who it is and what it has promised: it needs no new lineage",
                path.display()
            ),
            Self::Storage { path, error } => {
                write!(f, "the storage in {} cannot be used: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for DirectoryError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_lead_to_a_new_directory_are_kept() {
        let mut synced = Vec::new();
        let sync = |directory: &Path| {
            synced.push(directory.to_owned());
            let is_ours = directory != Path::new("/");
            if is_ours { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
        };
        keep_names(Path::new("/a/b/c"), sync).unwrap();
        assert_eq!(synced, [Path::new("/a/b"), Path::new("/a"), Path::new("/")]);
        let fails = |_: &Path| Err(ErrorKind::StorageFull.into());
        assert!(keep_names(Path::new("/a/b"), fails).is_err(), "a failed sync is no success");
    }
}
