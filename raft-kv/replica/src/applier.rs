//! What committed entries change (§5.3): the machine, the sessions, and a digest of both.
//!
//! The applier takes entries in the order of the log and skips none. It is the replicated state as
//! a whole: [`Image`] is its snapshot, equal bytes on every member that makes one at an index.

mod reading;

use std::error::Error;
use std::fmt;

use bytes::Bytes;
use raft_core::{Chain, Entry, EntryId, Index, Payload};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::machine::StateMachine;
use crate::session::{Executed, LogCommand, SessionId, Sessions, Verdict};
pub(crate) use reading::Reading;

/// The format of an image, its first byte.
const IMAGE_VERSION: u8 = 1;

/// The most bytes that a length takes in `postcard`.
const LENGTH_BYTES_MAX: usize = 10;

/// The length of the checksum at the end of an image, in bytes.
const CHECKSUM_BYTES: usize = 8;

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied<M: StateMachine> {
    /// An entry that no client sent: a leader's first one, or a membership.
    Nothing,
    /// A session is open.
    Opened(SessionId),
    /// A command was executed.
    Response {
        /// The answer.
        response: M::Response,
        /// The checksum of its encoded form.
        checksum: u64,
    },
    /// A command was executed before.
    Duplicate(Executed),
    /// The serial is below the session's last one.
    Stale,
    /// The session is not open.
    Expired,
    /// The entry is no command of this version.
    Malformed,
}

/// The replicated state, as of the last applied entry.
///
/// Invariant: `applied` names the last entry that has changed machine, sessions and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applier<M> {
    machine: M,
    sessions: Sessions,
    applied: EntryId,
    digest: u64,
    /// Where responses are encoded; empty between entries.
    scratch: Vec<u8>,
}

impl<M: StateMachine> Applier<M> {
    /// An empty state after the entry `genesis`, with a machine that has applied nothing.
    pub(crate) fn new(machine: M, genesis: EntryId) -> Self {
        Self {
            machine,
            sessions: Sessions::new(),
            applied: genesis,
            digest: 0,
            scratch: Vec::new(),
        }
    }

    pub(crate) fn machine(&self) -> &M {
        &self.machine
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(crate) fn applied(&self) -> EntryId {
        self.applied
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// The group's genesis is known now; nothing has been applied yet.
    pub(crate) fn found(&mut self, genesis: Chain) {
        assert!(self.applied.index == Index::ZERO, "the history has not begun yet");
        self.applied.chain = genesis;
    }

    /// Applies the entry after the last one.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Applied<M> {
        assert!(entry.index() == self.applied.index.next(), "entries are applied without a gap");
        let applied = match entry.payload() {
            Payload::Noop | Payload::Membership(_) => Applied::Nothing,
            Payload::Command(command) => self.execute(entry.index(), command),
        };
        self.applied = entry.id();
        self.extend_digest(&applied);
        applied
    }

    fn execute(&mut self, index: Index, command: &[u8]) -> Applied<M> {
        let (session, serial, command) = match LogCommand::decode(command) {
            Err(_) => return Applied::Malformed,
            Ok(LogCommand::OpenSession { sessions_max }) => {
                return Applied::Opened(self.sessions.open(index, sessions_max));
            }
            Ok(LogCommand::Apply { session, serial, command }) => (session, serial, command),
        };
        match self.sessions.admit(index, session, serial) {
            Verdict::Duplicate(executed) => return Applied::Duplicate(executed),
            Verdict::Stale => return Applied::Stale,
            Verdict::Expired => return Applied::Expired,
            Verdict::Fresh => {}
        }
        let response = self.machine.apply(index, command);
        let encoded = self.encode(&response);
        let checksum = XxHash3_64::oneshot(&encoded);
        self.sessions.record(session, Executed { serial, index, response: encoded });
        Applied::Response { response, checksum }
    }

    fn encode(&mut self, response: &M::Response) -> Bytes {
        let buffer = std::mem::take(&mut self.scratch);
        self.scratch = postcard::to_extend(response, buffer)
            .expect("responses serialize by the contract of a state machine");
        let encoded = Bytes::copy_from_slice(&self.scratch);
        self.scratch.clear();
        encoded
    }

    /// Covers the history (by its chain) and everything that was answered.
    fn extend_digest(&mut self, applied: &Applied<M>) {
        let (kind, detail) = match applied {
            Applied::Nothing => (0, 0),
            Applied::Opened(session) => (1, session.0),
            Applied::Response { checksum, .. } => (2, *checksum),
            Applied::Duplicate(executed) => (3, XxHash3_64::oneshot(&executed.response)),
            Applied::Stale => (4, 0),
            Applied::Expired => (5, 0),
            Applied::Malformed => (6, 0),
        };
        let words = [self.digest, self.applied.index.0, self.applied.chain.0, kind, detail];
        let mut bytes = [0; 5 * 8];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.digest = XxHash3_64::oneshot(&bytes);
    }

    /// The present state, to be encoded later.
    pub(crate) fn freeze(&self) -> Frozen<M> {
        Frozen {
            applied: self.applied,
            digest: self.digest,
            sessions: self.sessions.clone(),
            machine: self.machine.snapshot(),
        }
    }
}

/// The replicated state as of one entry, apart from what is applied later: a snapshot that is not in
/// bytes yet. To make one is cheap, to encode it takes as long as the state is large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen<M: StateMachine> {
    applied: EntryId,
    digest: u64,
    sessions: Sessions,
    machine: M::Snapshot,
}

impl<M: StateMachine> Frozen<M> {
    /// The bytes of its [`Image`].
    ///
    /// The machine's part may be most of what memory has room for, so it is written once: its length
    /// stands before it and is known after it, for which room is left.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let Self { applied, digest, sessions, machine } = self;
        let why = "integers, byte strings and maps of them always serialize";
        let head = postcard::to_extend(&(applied, digest, sessions), vec![IMAGE_VERSION]);
        let head = head.expect(why);
        let start = head.len() + LENGTH_BYTES_MAX;
        let mut bytes = vec![0; start];
        M::encode(machine, &mut bytes);
        let head = postcard::to_extend(&(bytes.len() - start), head).expect(why);
        let begin = start - head.len();
        bytes[begin..start].copy_from_slice(&head);
        let checksum = XxHash3_64::oneshot(&bytes[begin..]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Bytes::from(bytes).slice(begin..)
    }
}

/// The replicated state as bytes: what a snapshot of a replica contains.
///
/// A version byte, these fields in `postcard`, the XXH3-64 of all before it in little-endian order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image<'a> {
    /// The last entry that it contains.
    pub applied: EntryId,
    /// The digest of everything applied through that entry.
    pub digest: u64,
    /// The open sessions.
    pub sessions: Sessions,
    /// What [`StateMachine::encode`] gave.
    pub machine: &'a [u8],
}

impl<'a> Image<'a> {
    /// The bytes of the image.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.machine.len() + 64);
        bytes.push(IMAGE_VERSION);
        let mut bytes = postcard::to_extend(self, bytes)
            .expect("integers, byte strings and maps of them always serialize");
        let checksum = XxHash3_64::oneshot(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.into()
    }

    /// Reads back what [`Image::encode`] wrote; the machine's part stays where it is.
    ///
    /// # Errors
    /// [`ImageError`] says what is wrong with the bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let (covered, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(ImageError::Malformed)?;
        let (&version, rest) = covered.split_first().ok_or(ImageError::Malformed)?;
        if version != IMAGE_VERSION {
            return Err(ImageError::UnknownVersion(version));
        }
        if XxHash3_64::oneshot(covered) != u64::from_le_bytes(*checksum) {
            return Err(ImageError::WrongChecksum);
        }
        let (image, rest): (Self, _) =
            postcard::take_from_bytes(rest).map_err(|_| ImageError::Malformed)?;
        if !rest.is_empty() || !image.sessions.is_valid(image.applied.index) {
            return Err(ImageError::Malformed);
        }
        Ok(image)
    }
}

/// Why bytes are not an [`Image`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageError {
    /// They are of a version that is not known here.
    UnknownVersion(u8),
    /// They have changed since they were written.
    WrongChecksum,
    /// They do not decode, or the sessions in them cannot be.
    Malformed,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion(version) => {
                write!(f, "the snapshot has the unknown version {version}")
            }
            Self::WrongChecksum => f.write_str("the checksum of the snapshot is wrong"),
            Self::Malformed => f.write_str("the snapshot is malformed"),
        }
    }
}

impl Error for ImageError {}

/// Why a snapshot cannot replace the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RestoreError<E> {
    /// The storage cannot read it.
    Unreadable,
    /// It is no image.
    Image(ImageError),
    /// It is an image as of another entry.
    OtherEntry {
        /// The entry that was asked for.
        expected: EntryId,
        /// The entry of the image.
        found: EntryId,
    },
    /// The state machine refuses its part.
    Machine(E),
}

impl<E: fmt::Display> fmt::Display for RestoreError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("the snapshot cannot be read"),
            Self::Image(error) => error.fmt(f),
            Self::OtherEntry { expected, found } => {
                write!(f, "the snapshot is as of {found}, not {expected}")
            }
            Self::Machine(error) => error.fmt(f),
        }
    }
}

impl<E: Error> Error for RestoreError<E> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Kv, KvCommand};

    #[test]
    fn a_frozen_state_has_the_bytes_of_its_image_however_long_the_machine_is() {
        for length in [0, 100, 200, 20_000, 3_000_000] {
            let (mut machine, mut sessions) = (Kv::new(), Sessions::new());
            let (key, value) = (Bytes::from_static(b"k"), Bytes::from(vec![7; length]));
            machine.apply(Index(3), KvCommand::Put { key, value });
            sessions.open(Index(2), 10);
            let applied = EntryId { index: Index(3), ..EntryId::default() };
            let frozen = Frozen { applied, digest: 5, sessions, machine };
            let mut machine = Vec::new();
            Kv::encode(&frozen.machine, &mut machine);
            let sessions = frozen.sessions.clone();
            let image = Image { applied, digest: 5, sessions, machine: &machine };
            let frozen: Frozen<Kv> = frozen;
            assert!(frozen.encode() == image.encode(), "{length} bytes");
        }
    }

    #[test]
    fn an_image_is_read_in_parts_and_is_worth_what_its_checksum_says() {
        let (mut machine, mut sessions) = (Kv::new(), Sessions::new());
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"a value"));
        machine.apply(Index(3), KvCommand::Put { key, value });
        sessions.open(Index(2), 10);
        let applied = EntryId { index: Index(3), ..EntryId::default() };
        let frozen: Frozen<Kv> = Frozen { applied, digest: 5, sessions, machine };
        let bytes = frozen.encode();
        let read = |bytes: &[u8], part_bytes| {
            let (mut applier, mut reading) =
                (Applier::new(Kv::new(), EntryId::default()), Reading::new());
            bytes.chunks(part_bytes).for_each(|part| reading.feed(part));
            let outcome = reading.finish(applied, &mut applier);
            assert_eq!(outcome.is_ok(), applier.freeze() == frozen, "all of it or nothing");
            assert_eq!(outcome.is_ok(), applier.applied().index > Index::ZERO);
            outcome
        };
        for part_bytes in 1..=bytes.len() {
            assert_eq!(read(&bytes, part_bytes), Ok(()));
            for at in 0..bytes.len() {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 0x41;
                let expected = Image::decode(&damaged).map(drop).map_err(RestoreError::Image);
                assert!(expected.is_err());
                assert_eq!(read(&damaged, part_bytes), expected, "{at} in parts of {part_bytes}");
                let cut = Image::decode(&bytes[..at]).map(drop).map_err(RestoreError::Image);
                assert_eq!(read(&bytes[..at], part_bytes), cut, "{at} in parts of {part_bytes}");
            }
        }
    }
}
