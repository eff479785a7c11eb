//! A node's life, written down and played again.
//!
//! A node is what it started from and the batches that it was given: the same ones give the same
//! effects and the same digests, on every machine, in every build of one version. So whoever keeps
//! a [`RecordedStart`] and each [`RecordedBatch`] has the node as it was after each of them, and can
//! step through its life in a debugger. [`crate::wire::encode_recorded`] makes bytes of them.
//!
//! Deliberately absent: effects, which follow; and where recordings are kept.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::config::Config;
use crate::durable::RecoveredState;
use crate::effect::Effect;
use crate::message::Message;
use crate::raft::Raft;
use crate::recovery::RecoverError;
use crate::types::Time;

/// One piece of a node's life, in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recorded {
    /// The node has started, perhaps not for the first time.
    Start(Box<RecordedStart>),
    /// It was given one batch.
    Batch(RecordedBatch),
}

/// What [`Raft::recover`] was given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordedStart {
    /// The options.
    pub config: Config,
    /// What was on the disk.
    pub found: RecoveredState,
    /// The clock.
    pub now: Time,
    /// What [`Raft::digest`] said then.
    pub digest: u64,
}

/// What one [`Raft::step_batch`] was given; [`Raft::step`] is a batch of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordedBatch {
    /// The inbox, in order.
    pub messages: Vec<Message>,
    /// What [`Raft::digest`] said after it.
    pub digest: u64,
}

/// Plays a recording, piece by piece, and compares the digests.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    raft: Option<Raft>,
    played: u64,
}

impl Replay {
    /// Nothing is played yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Plays the next piece. The effects are what the node asked its host to do; they were executed
    /// when it lived, and what came of them is in later batches.
    ///
    /// # Errors
    /// [`ReplayError`] if the recording does not lead where it says. What is played after that
    /// means nothing.
    pub fn play(&mut self, recorded: Recorded) -> Result<Vec<Effect>, ReplayError> {
        let position = self.played;
        let (raft, effects, expected) = match recorded {
            Recorded::Start(start) => {
                let RecordedStart { config, found, now, digest } = *start;
                let (raft, effects) = Raft::recover(config, found, now)
                    .map_err(|error| ReplayError::Refused { position, error })?;
                (&*self.raft.insert(raft), effects, digest)
            }
            Recorded::Batch(RecordedBatch { messages, digest }) => {
                let raft = self.raft.as_mut().ok_or(ReplayError::NoStart)?;
                let mut effects = Vec::new();
                raft.step_batch(messages, &mut effects);
                (&*raft, effects, digest)
            }
        };
        let actual = raft.digest();
        if actual != expected {
            return Err(ReplayError::Differs { position, expected, actual });
        }
        self.played += 1;
        Ok(effects)
    }

    /// The node as it was after the last piece; `None` before the first one.
    #[must_use]
    pub fn raft(&self) -> Option<&Raft> {
        self.raft.as_ref()
    }

    /// How many pieces were played and led where they say.
    #[must_use]
    pub fn played(&self) -> u64 {
        self.played
    }
}

/// Why a recording cannot be played on. Positions count all pieces, starts included, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplayError {
    /// The first piece is not a start.
    NoStart,
    /// A node does not start from what this start says.
    Refused {
        /// Where the start stands.
        position: u64,
        /// Why.
        error: RecoverError,
    },
    /// The first piece after which the node is not what it was: the recording was made by another
    /// version, or is not what was recorded, or the core depends on what it was not given.
    Differs {
        /// Where the piece stands.
        position: u64,
        /// The digest that was recorded.
        expected: u64,
        /// The digest now.
        actual: u64,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStart => f.write_str("the recording does not begin with a start"),
            Self::Refused { position, error } => {
                write!(f, "record {position}: no node starts like this: {error}")
            }
            Self::Differs { position, expected, actual } => {
                write!(f, "record {position}: the digest is {actual:016x}, it was {expected:016x}")
            }
        }
    }
}

impl core::error::Error for ReplayError {}
