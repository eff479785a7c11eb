//! How a run can fail, and the exit code that says so.

use std::fmt;

use raft_core::{NodeId, RecoverError};
use raft_replica::storage::StorageError;

use crate::check::Violation;

/// Why a run has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An invariant is broken.
    Violation(Violation),
    /// A node itself has noticed that an assumption of the protocol is broken.
    Reported {
        /// The node.
        node: NodeId,
        /// What it said.
        what: String,
    },
    /// A storage refuses what a crash has left, or fails without an injected error.
    Storage {
        /// The node.
        node: NodeId,
        /// Why.
        error: StorageError,
    },
    /// A node refuses what its storage has found.
    Recover {
        /// The node.
        node: NodeId,
        /// Why.
        error: RecoverError,
    },
    /// After the faults had ended, the cluster did not do what it must.
    Liveness(String),
    /// A group that works, and of which nobody wants anything, is not quiet.
    Unrest(String),
    /// A second run of the seed went otherwise.
    Determinism {
        /// The digest of the first run.
        first: u64,
        /// The digest of the second one.
        second: u64,
    },
    /// The simulator does not do what it was told: the run proves nothing.
    Simulator(String),
    /// The product panicked.
    Panic(String),
}

impl Failure {
    /// The name of what is broken.
    #[must_use]
    pub fn id(&self) -> &'static str {
        match self {
            Self::Violation(violation) => violation.invariant.id(),
            Self::Reported { .. } => "REPORTED",
            Self::Storage { .. } | Self::Recover { .. } => "REC",
            Self::Liveness(_) => "LV",
            Self::Unrest(_) => "QS",
            Self::Determinism { .. } => "DT",
            Self::Simulator(_) => "SELF",
            Self::Panic(_) => "PANIC",
        }
    }

    /// What that means, in one sentence.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        match self {
            Self::Violation(violation) => violation.invariant.meaning(),
            Self::Reported { .. } => "no node ever has a reason to report a broken protocol",
            Self::Storage { .. } | Self::Recover { .. } => {
                "what a crash leaves on an honest disk is always enough to start again"
            }
            Self::Liveness(_) => {
                "once the faults have ended, the cluster elects a leader, serves writes and reads, \
                 and brings every node up to date within a bound"
            }
            Self::Unrest(_) => {
                "a group that works, and of which nobody wants anything, comes to rest: heartbeats and \
                 their answers are all that passes"
            }
            Self::Determinism { .. } => "a seed gives the same run every time",
            Self::Simulator(_) => "the simulator does what it is told, no less and no more",
            Self::Panic(_) => "the product never panics",
        }
    }

    /// What should have come about instead, where the failure does not say it itself.
    #[must_use]
    pub fn predicted(&self) -> Option<&'static str> {
        match self {
            Self::Violation(_) | Self::Determinism { .. } | Self::Panic(_) | Self::Simulator(_) => {
                None
            }
            Self::Reported { .. } => Some("no word of a broken protocol, and frames taken as sent"),
            Self::Storage { .. } => Some("a storage that opens and works, but for injected errors"),
            Self::Recover { .. } => Some("a core that starts from what its storage has found"),
            Self::Liveness(_) => Some(
                "a leader in the core, a write and a read by ReadIndex served, one more change of the \
                 membership where they change, each node of the core at the end of the log on a whole disk",
            ),
            Self::Unrest(_) => {
                Some("heartbeats and their answers, nobody left waiting, and nothing else")
            }
        }
    }

    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Violation(_)
            | Self::Reported { .. }
            | Self::Storage { .. }
            | Self::Recover { .. } => 2,
            Self::Liveness(_) | Self::Unrest(_) => 3,
            Self::Determinism { .. } => 4,
            Self::Simulator(_) => 7,
            Self::Panic(_) => 101,
        }
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Reported { node, what } => write!(f, "{node} reports {what}"),
            Self::Storage { node, error } => write!(f, "the storage of {node}: {error}"),
            Self::Recover { node, error } => write!(f, "the recovery of {node}: {error}"),
            Self::Liveness(reason) | Self::Unrest(reason) => f.write_str(reason),
            Self::Determinism { first, second } => {
                write!(f, "the first run has the digest {first:016x}, the second {second:016x}")
            }
            Self::Simulator(what) => f.write_str(what),
            Self::Panic(message) => write!(f, "panic: {message}"),
        }
    }
}

impl std::error::Error for Failure {}
