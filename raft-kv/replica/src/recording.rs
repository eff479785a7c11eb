//! What a core was given, as a file: records of [`raft_core::wire`], one after the other.
//!
//! ```text
//! | "raft recording 1" | (length 4B LE, record)* |
//! ```
//!
//! A crash may cut the last record. Absent: the file itself, which is the host's.

use bytes::Bytes;
use raft_core::Recorded;
use raft_core::wire::{self, Limits, WireError};

/// How such a file begins.
pub const MAGIC: &[u8; 16] = b"raft recording 1";

const LENGTH_BYTES: usize = 4;

/// Appends a record.
///
/// # Panics
/// If it has 4 GiB: no limit of a node allows that much in memory.
pub fn write(recorded: &Recorded, out: &mut Vec<u8>) {
    let record = wire::encode_recorded(recorded);
    let length = u32::try_from(record.len()).expect("a record fits into memory many times");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&record);
}

/// Reads the records of a file, one after the other.
#[derive(Clone, Debug)]
pub struct Records {
    rest: Bytes,
}

impl Records {
    /// The records of a file with this content; `None` if it does not begin like one.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "the records keep the file's memory")]
    pub fn of(content: Bytes) -> Option<Self> {
        let is_recording = content.starts_with(MAGIC);
        is_recording.then(|| Self { rest: content.slice(MAGIC.len()..) })
    }

    /// How many bytes are left, of a record that was cut, or of what comes after one that is none.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }
}

/// Ends at the end of the file, or where a record is cut: see [`Records::left`].
impl Iterator for Records {
    type Item = Result<Recorded, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = self.rest.first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let end = LENGTH_BYTES.checked_add(length).filter(|end| *end <= self.rest.len())?;
        let record = self.rest.split_to(end).slice(LENGTH_BYTES..);
        Some(wire::decode_recorded(record, &Limits::for_recorded()))
    }
}
