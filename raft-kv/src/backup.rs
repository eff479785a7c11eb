//! A backup: all keys as of one index, in one file that proves that it is whole.
//!
//! ```text
//! | "raftkvbk" | version 1B | cluster 8B | index 8B | the map's snapshot | XXH3-64 of all before |
//! ```
//!
//! Numbers are little-endian. A backup belongs to no cluster in particular: it is restored by writing
//! its keys into one that is empty. What clients have done exactly once is not in it.

use std::fmt;
use std::hash::Hasher as _;

use bytes::Bytes;
use raft_core::{ClusterId, Index};
use raft_replica::kv::{Kv, KvError};
use raft_replica::machine::StateMachine as _;
use twox_hash::XxHash3_64;

const MAGIC: &[u8; 8] = b"raftkvbk";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;

/// What a backup holds.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The cluster that it was taken from, zero if that is not known.
    pub cluster: ClusterId,
    /// Every change through this index is in it.
    pub index: Index,
    /// The keys.
    pub kv: Kv,
}

/// How large the parts of a backup are that are made at once, about, in bytes.
const PART_BYTES: usize = 256 << 10;

/// Writes a backup, part by part, so that nobody needs to have all of it in memory. `take` gets each
/// part; false: nobody wants the rest.
pub fn encode(
    cluster: Option<ClusterId>,
    index: Index,
    kv: &Kv,
    mut take: impl FnMut(Bytes) -> bool,
) {
    let mut checksum = XxHash3_64::new();
    let mut tell = |part: Vec<u8>| {
        checksum.write(&part);
        take(part.into())
    };
    let mut head = MAGIC.to_vec();
    head.push(VERSION);
    head.extend_from_slice(&cluster.unwrap_or_default().0.to_le_bytes());
    head.extend_from_slice(&index.0.to_le_bytes());
    if tell(head) && kv.encode_parts(PART_BYTES, tell) {
        take(checksum.finish().to_le_bytes().to_vec().into());
    }
}

/// Reads a backup.
///
/// # Errors
/// [`BackupError`] says what is wrong with the bytes.
pub fn decode(bytes: &[u8]) -> Result<Backup, BackupError> {
    let (content, checksum) =
        bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(BackupError::NoBackup)?;
    let rest = content.strip_prefix(MAGIC).ok_or(BackupError::NoBackup)?;
    let (&version, rest) = rest.split_first().ok_or(BackupError::NoBackup)?;
    if version != VERSION {
        return Err(BackupError::UnknownVersion(version));
    }
    if XxHash3_64::oneshot(content) != u64::from_le_bytes(*checksum) {
        return Err(BackupError::NotWhole);
    }
    let (cluster, rest) = rest.split_first_chunk::<8>().ok_or(BackupError::NoBackup)?;
    let (index, map) = rest.split_first_chunk::<8>().ok_or(BackupError::NoBackup)?;
    let mut kv = Kv::new();
    kv.restore(map).map_err(BackupError::Map)?;
    let cluster = ClusterId(u64::from_le_bytes(*cluster));
    Ok(Backup { cluster, index: Index(u64::from_le_bytes(*index)), kv })
}

/// Why bytes are not a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackupError {
    /// They are something else.
    NoBackup,
    /// They are of a version that is not known here.
    UnknownVersion(u8),
    /// They have changed, or the end is missing.
    NotWhole,
    /// The keys in them cannot be read.
    Map(KvError),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBackup => f.write_str("not a backup"),
            Self::UnknownVersion(version) => write!(f, "a backup of the unknown version {version}"),
            Self::NotWhole => f.write_str("the backup is not whole: its checksum is wrong"),
            Self::Map(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BackupError {}
