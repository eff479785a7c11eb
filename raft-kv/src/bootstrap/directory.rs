//! The data directory: who owns it, and how far its founding has come.
//!
//! `founding.toml` is written whole under another name, synced, and renamed: a crash leaves the old
//! one or the new one. It carries a checksum, since what it says must not change by itself: a lineage
//! that is read wrong is somebody else.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use raft_core::{ClusterId, GroupId, Lineage, Member, NodeId};
use raft_replica::disk::DiskError;
use raft_replica::file_disk::FileDisk;
use raft_replica::storage::{Found, Identity, Storage, StorageError, StorageOptions};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{Settled, draw_lineage};
use crate::spare::SpareDisk;

/// The one group of a server.
pub(crate) const GROUP: GroupId = GroupId(1);

const FOUNDING: &str = "founding.toml";
const SCRATCH: &str = "founding.toml.new";
const RAFT: &str = "raft";
const SPARE: &str = "spare";
const VERSION: u32 = 1;

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

/// The file. Numbers of 64 bits are written in hexadecimal: the format has only signed ones.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    id: u64,
    lineage: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    founders: Vec<(u64, String)>,
    formatted: bool,
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
        let lock = File::open(path).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DirectoryError::InUse { path: path.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let founding = match fs::read_to_string(path.join(FOUNDING)) {
            Ok(text) => parse(&text).map_err(|what| DirectoryError::damaged(path, what))?,
            Err(error) if error.kind() == ErrorKind::NotFound => begin(path, id)?,
            Err(error) => return Err(fail(error)),
        };
        if founding.member.id != id {
            let found = founding.member.id;
            return Err(DirectoryError::OtherServer { path: path.to_owned(), found, expected: id });
        }
        Ok(Self { path: path.to_owned(), founding, _lock: lock })
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
        if !self.founding.is_formatted {
            // Nothing that a crash left here was ever used: no storage was opened on it.
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(DirectoryError::io(&path, error));
                }
                Ok(()) | Err(_) => {}
            }
            fs::create_dir(&path).map_err(|error| DirectoryError::io(&path, error))?;
            let mut disk = FileDisk::new(&path)?;
            Storage::format(&mut disk, identity)?;
            drop(disk);
            self.change(|founding| founding.is_formatted = true)?;
        }
        let disk = SpareDisk::new(&path, self.path.join(SPARE))?;
        Ok(Storage::open(disk, options, Some(identity))?)
    }

    fn change(&mut self, change: impl FnOnce(&mut Founding)) -> Result<(), DirectoryError> {
        change(&mut self.founding);
        write(&self.path, &self.founding).map_err(|error| DirectoryError::io(&self.path, error))
    }
}

/// Makes an empty directory the one of server `id`.
fn begin(path: &Path, id: NodeId) -> Result<Founding, DirectoryError> {
    let fail = |error| DirectoryError::io(path, error);
    for entry in fs::read_dir(path).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        if name != SCRATCH {
            let file = name.to_string_lossy().into_owned();
            return Err(DirectoryError::Foreign { path: path.to_owned(), file });
        }
    }
    let lineage = Lineage(draw_lineage().map_err(fail)?);
    let member = Member { id, lineage };
    let founding = Founding { member, settled: None, is_formatted: false };
    write(path, &founding).map_err(fail)?;
    Ok(founding)
}

fn write(path: &Path, founding: &Founding) -> io::Result<()> {
    let hex = |number: u64| format!("{number:016x}");
    let settled = founding.settled.as_ref();
    let founders = settled.map_or(&[][..], |settled| &settled.founders);
    let record = Record {
        version: VERSION,
        id: founding.member.id.0,
        lineage: hex(founding.member.lineage.0),
        cluster: settled.map(|settled| hex(settled.cluster.0)),
        founders: founders.iter().map(|member| (member.id.0, hex(member.lineage.0))).collect(),
        formatted: founding.is_formatted,
    };
    let body = toml::to_string(&record).map_err(io::Error::other)?;
    let text =
        format!("# Written by raft-kv. Do not edit: {:016x}\n{body}", xxh3_64(body.as_bytes()));
    let scratch = path.join(SCRATCH);
    let mut file = File::create(&scratch)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&scratch, path.join(FOUNDING))?;
    File::open(path)?.sync_all()
}

fn parse(text: &str) -> Result<Founding, String> {
    let (head, body) = text.split_once('\n').ok_or("it ends too early")?;
    let checksum = head.rsplit(' ').next().and_then(unhex).ok_or("it has no checksum")?;
    if checksum != xxh3_64(body.as_bytes()) {
        return Err("its checksum is wrong".into());
    }
    let record: Record = toml::from_str(body).map_err(|error| error.to_string())?;
    if record.version != VERSION {
        return Err(format!("its version is {}, and {VERSION} is understood", record.version));
    }
    let number = |text: &str| unhex(text).ok_or_else(|| format!("{text} is no number"));
    let member = Member::new(record.id, number(&record.lineage)?);
    let founders: Result<_, String> = record
        .founders
        .iter()
        .map(|(id, lineage)| Ok(Member::new(*id, number(lineage)?)))
        .collect();
    let founders: Vec<Member> = founders?;
    let cluster = record.cluster.as_deref().map(number).transpose()?.map(ClusterId);
    let settled = cluster.map(|cluster| Settled { cluster, founders });
    Ok(Founding { member, settled, is_formatted: record.formatted })
}

fn unhex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
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
    /// Its storage cannot be used.
    Storage(StorageError),
}

impl DirectoryError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}

impl From<StorageError> for DirectoryError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<DiskError> for DirectoryError {
    fn from(error: DiskError) -> Self {
        Self::Storage(StorageError::Disk { file: RAFT.to_owned(), error })
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
                write!(f, "{}/{FOUNDING} is damaged: {what}", path.display())
            }
            Self::Storage(error) => write!(f, "the storage cannot be used: {error}"),
        }
    }
}

impl std::error::Error for DirectoryError {}
