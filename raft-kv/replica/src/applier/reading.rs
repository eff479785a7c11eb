//! An [`Image`](super::Image) that is read part by part: nobody needs to have all of it in memory.
//!
//! What it makes of the parts stands beside the state, which is replaced when the checksum of all of them
//! has proved right.

use std::fmt;
use std::hash::Hasher as _;

use raft_core::EntryId;
use twox_hash::XxHash3_64;

use super::{Applier, CHECKSUM_BYTES, IMAGE_VERSION, ImageError, RestoreError};
use crate::machine::{Restore, StateMachine};
use crate::session::Sessions;

/// An image of which a part has been read.
#[derive(Clone, Debug)]
pub(crate) struct Reading<M: StateMachine> {
    checksum: Checksum,
    content: Content<M>,
}

impl<M: StateMachine> Reading<M> {
    /// Nothing has been read.
    pub(crate) fn new() -> Self {
        Self { checksum: Checksum::default(), content: Content::Head(Vec::new()) }
    }

    /// Takes the next bytes. Whether they can be read is said at the end: a wrong checksum explains more.
    pub(crate) fn feed(&mut self, part: &[u8]) {
        let Self { checksum, content } = self;
        checksum.feed(part, |covered| {
            if let Err(error) = content.feed(covered) {
                *content = Content::Failed(error);
            }
        });
    }

    /// Replaces the state by the snapshot through `last`; it is unchanged if that fails.
    pub(crate) fn finish(
        self,
        last: EntryId,
        applier: &mut Applier<M>,
    ) -> Result<(), RestoreError<M::Error>> {
        match &self.content {
            Content::Head(bytes) if bytes.is_empty() => return Err(malformed()),
            // What the checksum of another version covers, nobody knows here.
            Content::Failed(RestoreError::Image(error @ ImageError::UnknownVersion(_))) => {
                return Err(RestoreError::Image(*error));
            }
            Content::Head(_) | Content::Machine { .. } | Content::Failed(_) => {}
        }
        self.checksum.verify().map_err(RestoreError::Image)?;
        let (head, machine) = match self.content {
            Content::Machine { head, left: 0, machine } => (head, machine),
            Content::Failed(error) => return Err(error),
            Content::Head(_) | Content::Machine { .. } => return Err(malformed()),
        };
        let (applied, digest, sessions, _) = head;
        if !sessions.is_valid(applied.index) {
            return Err(malformed());
        }
        if applied != last {
            return Err(RestoreError::OtherEntry { expected: last, found: applied });
        }
        machine.finish(&mut applier.machine).map_err(RestoreError::Machine)?;
        applier.sessions = sessions;
        applier.applied = applied;
        applier.digest = digest;
        Ok(())
    }
}

fn malformed<E>() -> RestoreError<E> {
    RestoreError::Image(ImageError::Malformed)
}

/// What stands before the machine's part, and how long that is.
type Head = (EntryId, u64, Sessions, u64);

/// What has been made of the bytes that the checksum covers.
#[derive(Clone, Debug)]
enum Content<M: StateMachine> {
    /// The head has not come as a whole: its bytes.
    Head(Vec<u8>),
    /// The machine's part has begun.
    Machine {
        head: Head,
        /// How many bytes of it are to come.
        left: u64,
        machine: M::Restore,
    },
    Failed(RestoreError<M::Error>),
}

impl<M: StateMachine> Content<M> {
    fn feed(&mut self, covered: &[u8]) -> Result<(), RestoreError<M::Error>> {
        match self {
            Self::Head(bytes) => {
                bytes.extend_from_slice(covered);
                let Some((head, rest)) = take_head(bytes)? else { return Ok(()) };
                let rest = rest.to_vec();
                let (left, machine) = (head.3, M::Restore::default());
                *self = Self::Machine { head, left, machine };
                self.feed(&rest)
            }
            Self::Machine { left, machine, .. } => {
                *left = left.checked_sub(covered.len() as u64).ok_or_else(malformed)?;
                machine.feed(covered).map_err(RestoreError::Machine)
            }
            Self::Failed(_) => Ok(()),
        }
    }
}

/// Reads the head, and gives what comes behind it; `None` if not all of it is there yet.
fn take_head<E>(bytes: &[u8]) -> Result<Option<(Head, &[u8])>, RestoreError<E>> {
    let Some((&version, rest)) = bytes.split_first() else { return Ok(None) };
    if version != IMAGE_VERSION {
        return Err(RestoreError::Image(ImageError::UnknownVersion(version)));
    }
    match postcard::take_from_bytes(rest) {
        Ok(taken) => Ok(Some(taken)),
        Err(postcard::Error::DeserializeUnexpectedEnd) => Ok(None),
        Err(_) => Err(malformed()),
    }
}

/// The checksum of all bytes but the last ones, which say what it should be.
#[derive(Clone, Default)]
struct Checksum {
    covered: Box<XxHash3_64>,
    /// The bytes that have come last.
    last: Vec<u8>,
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checksum").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Checksum {
    /// Takes the next bytes, and tells those of all that have come that it certainly covers.
    fn feed(&mut self, part: &[u8], mut tell: impl FnMut(&[u8])) {
        let mut cover = |bytes: &[u8]| {
            self.covered.write(bytes);
            tell(bytes);
        };
        let covered = (self.last.len() + part.len()).saturating_sub(CHECKSUM_BYTES);
        let (before, now) = (covered.min(self.last.len()), covered.saturating_sub(self.last.len()));
        cover(&self.last[..before]);
        cover(&part[..now]);
        self.last.drain(..before);
        self.last.extend_from_slice(&part[now..]);
    }

    fn verify(&self) -> Result<(), ImageError> {
        let expected: [u8; CHECKSUM_BYTES] =
            self.last[..].try_into().map_err(|_| ImageError::Malformed)?;
        if self.covered.finish() != u64::from_le_bytes(expected) {
            return Err(ImageError::WrongChecksum);
        }
        Ok(())
    }
}
