//! What a broken promise looks like: which invariant, where, what was predicted, what was seen.

use core::fmt;

use raft_core::{Index, NodeId};

/// The promises that the checker judges, by the short names under which reports show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Election safety (§5.2).
    ElectionSafety,
    /// Monotonic terms: the persistent state of Figure 2 never regresses.
    MonotonicTerms,
    /// Promise durability: what a message promises is on the sender's disk.
    PromiseDurability,
    /// Log matching (§5.3).
    LogMatching,
    /// Commit by quorum (§5.3, §5.4.2).
    CommitQuorum,
    /// Leader completeness (§5.4).
    LeaderCompleteness,
    /// Committed entries are immutable.
    CommitImmutable,
    /// State machine safety (§5.4.3).
    StateMachineSafety,
    /// Exactly-once semantics of client sessions (thesis §6.3).
    ExactlyOnce,
    /// Linearizability (thesis §6.3, §6.4).
    Linearizability,
    /// Leases do not overlap (thesis §6.4.1).
    LeaseOverlap,
    /// Election timeouts: who has just given its vote does not campaign (§5.2).
    ElectionTimeout,
    /// Configurations: which memberships may follow each other, and when (§6, thesis §4).
    Configuration,
    /// Recovery: what a disk gives back after a crash is what was written to it.
    Recovery,
    /// Damage: what is said about damaged entries is true, and nothing takes their place but they.
    Damage,
    /// Bounds: what a node holds and sends at once is within its options.
    Bounds,
    /// The application's own: what a workload demands of every state of its machine.
    Application,
}

impl Invariant {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 17] = [
        Self::ElectionSafety,
        Self::MonotonicTerms,
        Self::PromiseDurability,
        Self::LogMatching,
        Self::CommitQuorum,
        Self::LeaderCompleteness,
        Self::CommitImmutable,
        Self::StateMachineSafety,
        Self::ExactlyOnce,
        Self::Linearizability,
        Self::LeaseOverlap,
        Self::ElectionTimeout,
        Self::Configuration,
        Self::Recovery,
        Self::Damage,
        Self::Bounds,
        Self::Application,
    ];

    /// The short name.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::ElectionSafety => "ES",
            Self::MonotonicTerms => "MT",
            Self::PromiseDurability => "PS",
            Self::LogMatching => "LM",
            Self::CommitQuorum => "CQ",
            Self::LeaderCompleteness => "LC",
            Self::CommitImmutable => "CI",
            Self::StateMachineSafety => "SM",
            Self::ExactlyOnce => "EO",
            Self::Linearizability => "LIN",
            Self::LeaseOverlap => "LZ",
            Self::ElectionTimeout => "ET",
            Self::Configuration => "CF",
            Self::Recovery => "REC",
            Self::Damage => "DMG",
            Self::Bounds => "BND",
            Self::Application => "AP",
        }
    }

    /// What it says, in one sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::ElectionSafety => {
                "a term has at most one leader, chosen by a quorum, and a node gives at most one \
                 vote in a term, across restarts"
            }
            Self::MonotonicTerms => {
                "a node's durable term, vote and incarnation never regress, across restarts"
            }
            Self::PromiseDurability => {
                "when a message leaves, everything that it promises is durable on its sender's disk"
            }
            Self::LogMatching => {
                "entries of one index and one term are the same entry, with the same log before it"
            }
            Self::CommitQuorum => {
                "an entry is committed only when a quorum has acknowledged it or a later entry of \
                 the leader's own term"
            }
            Self::LeaderCompleteness => {
                "a new leader's log contains every entry that was committed in an earlier term"
            }
            Self::CommitImmutable => "a committed entry is never replaced and never lost",
            Self::StateMachineSafety => {
                "every node applies the same committed entries, each once and in order, and \
                 reaches the same state"
            }
            Self::ExactlyOnce => {
                "a client's request takes effect at most once, and exactly once if it was \
                 acknowledged"
            }
            Self::Linearizability => {
                "every answer is the one of a single machine that serves all requests one after \
                 the other, each between its call and its answer"
            }
            Self::LeaseOverlap => {
                "while a leader may answer by its lease, no other node has one or is elected, as \
                 long as clocks drift no more than was configured"
            }
            Self::ElectionTimeout => {
                "a node that has given its vote to another campaigns an election timeout later at \
                 the earliest, unless it is asked to"
            }
            Self::Configuration => {
                "the newest membership in a log is in force; its quorums meet those of the one \
                 before it; it follows a commit of its term, and no other uncommitted one"
            }
            Self::Damage => {
                "what a node says of an entry that is damaged elsewhere is true; nothing but the entry \
                 itself takes its place, and before that nobody applies it or leads past it"
            }
            Self::Bounds => {
                "what a node sends at once, and what it holds that others wait for, is within the \
                 bounds of its options"
            }
            Self::Application => "what the application demands of its state holds on every node",
            Self::Recovery => {
                "after a crash a disk gives back all that was durable, and nothing that was never \
                 written"
            }
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A broken promise, caught at the moment at which it was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub invariant: Invariant,
    /// The node that broke it, if one did.
    pub node: Option<NodeId>,
    /// The position in the log that it is about, if there is one.
    pub index: Option<Index>,
    /// What the ghost's facts allow.
    pub predicted: String,
    /// What was seen.
    pub actual: String,
}

impl Violation {
    /// A violation of `invariant`; place it with [`Self::at`] and [`Self::on`].
    pub(crate) fn new(invariant: Invariant, predicted: String, actual: String) -> Self {
        Self { invariant, node: None, index: None, predicted, actual }
    }

    /// The same, caused by `node`.
    pub(crate) fn on(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// The same, about `index`.
    pub(crate) fn at(self, index: Index) -> Self {
        Self { index: Some(index), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.invariant)?;
        if let Some(node) = self.node {
            write!(f, " at {node}")?;
        }
        if let Some(index) = self.index {
            write!(f, " {index}")?;
        }
        write!(f, ": predicted {}; actual {}", self.predicted, self.actual)
    }
}

impl core::error::Error for Violation {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_reads_as_one_line() {
        let violation = Violation::new(
            Invariant::CommitQuorum,
            "2 acknowledgements".into(),
            "1 acknowledgement".into(),
        )
        .on(NodeId(3))
        .at(Index(7));
        assert_eq!(
            violation.to_string(),
            "CQ at n3 i7: predicted 2 acknowledgements; actual 1 acknowledgement"
        );
    }

    #[test]
    fn short_names_and_meanings_are_distinct() {
        for (position, one) in Invariant::ALL.iter().enumerate() {
            for other in &Invariant::ALL[position + 1..] {
                assert_ne!(one.id(), other.id());
                assert_ne!(one.meaning(), other.meaning());
            }
        }
    }
}
