//! PS: when a message leaves, what it promises is on its sender's disk.
//!
//! The table of what each message promises is the contract of the core's durability gate. It is
//! checked against what the disk truly holds, not against what it has confirmed.

use raft_core::{
    AppendResult, EntryId, Envelope, HardState, Index, Member, NodeId, Rpc, SnapshotMeta, Term,
};

use super::ghost::{Ghost, Node};
use super::log::Log;
use super::violation::{Invariant, Violation};

/// A storage confirms what it was given: the promise that all others rest on. `unsynced` is something that
/// it wrote and that its disk could still lose.
pub(super) fn confirmed(node: NodeId, unsynced: Option<String>) -> Result<(), Violation> {
    let Some(what) = unsynced else { return Ok(()) };
    let predicted = "a storage confirms what is on its disk, wherever the power fails next";
    let actual = format!("it confirms while {what} could still be lost");
    Err(Violation::new(Invariant::PromiseDurability, predicted.to_owned(), actual).on(node))
}

/// A node sends a message.
pub(super) fn sent(ghost: &Ghost, slot: usize, envelope: &Envelope) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    lives(node, "speaks")?;
    identity(node, envelope)?;
    match &envelope.rpc {
        Rpc::RequestVote { last, .. } => {
            vote(node, envelope.term, envelope.from)?;
            log_through(node, *last, "a candidacy")
        }
        Rpc::RequestVoteResponse { granted: true } => vote(node, envelope.term, envelope.to),
        Rpc::AppendEntriesResponse { result: AppendResult::Matched { index }, .. } => {
            matched(ghost, node, envelope, *index)
        }
        // The identity above is all that these promise. A leader's messages run ahead of its own
        // disk on purpose; its commit index is judged apart, and so are promises to elect nobody and
        // what is said about damage.
        Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVoteResponse { granted: false }
        | Rpc::AppendEntries { .. }
        | Rpc::AppendEntriesResponse {
            result:
                AppendResult::Conflict { .. } | AppendResult::Blank | AppendResult::Diverged { .. },
            ..
        }
        | Rpc::Commit { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => Ok(()),
    }
}

/// A node asks for `hard_state`. A vote speaks for all that its node has acknowledged, and one in doubt
/// may have acknowledged more than it holds. The vote that it gave before, when it held all of it, may
/// be said again: in that term it can have acknowledged entries only to the candidate itself.
pub(super) fn decides(node: &Node, hard_state: &HardState) -> Result<(), Violation> {
    let was = &node.issued.hard_state;
    let is_given_before = (was.term, was.vote) == (hard_state.term, hard_state.vote);
    let is_in_doubt = was.is_tail_unknown || hard_state.is_tail_unknown;
    let Some(candidate) = hard_state.vote.filter(|_| is_in_doubt && !is_given_before) else {
        return Ok(());
    };
    Err(broken(
        node,
        format!("a vote in {} speaks for all that its node has acknowledged", hard_state.term),
        format!("it votes for {candidate}, and may have acknowledged more than it holds"),
    ))
}

/// Nothing is promised by a disk that has failed: who has halted, or knows that, is silent until it
/// starts again.
pub(super) fn lives(node: &Node, what: &str) -> Result<(), Violation> {
    if !node.is_over {
        return Ok(());
    }
    let predicted = "who has halted, or whose disk has failed, is silent until it starts again";
    Err(broken(node, predicted.to_owned(), format!("it {what}")))
}

/// A node has applied entries through `last`.
pub(super) fn applied(ghost: &Ghost, slot: usize, last: EntryId) -> Result<(), Violation> {
    log_through(&ghost.nodes[slot], last, "applying")
}

/// A state machine is to become what a snapshot says. Disks that work in order would read it only after
/// it is durable; the core must not rely on them.
pub(super) fn restore_asked(node: &Node, snapshot: &SnapshotMeta) -> Result<(), Violation> {
    let mut pending = node.pending.iter().filter_map(|batch| batch.install.as_ref());
    if pending.all(|installed| installed.last != snapshot.last) {
        return Ok(());
    }
    Err(broken(
        node,
        "a state machine takes over a snapshot that is on disk".to_owned(),
        format!("it is asked to take over {snapshot}, which the disk is about to install"),
    )
    .at(snapshot.last.index))
}

/// Every message promises the term, the incarnation and the epoch under which it was made.
fn identity(node: &Node, envelope: &Envelope) -> Result<(), Violation> {
    let durable = &node.durable.hard_state;
    if durable.term >= envelope.term
        && durable.incarnation == envelope.incarnation
        && durable.epoch >= envelope.epoch
    {
        return Ok(());
    }
    Err(broken(
        node,
        format!("a message under {} inc{} has them on disk", envelope.term, envelope.incarnation.0),
        format!("its disk has [{durable}] when it sends {envelope}"),
    ))
}

fn vote(node: &Node, term: Term, candidate: Member) -> Result<(), Violation> {
    if node.votes.get(&term) == Some(&candidate) {
        return Ok(());
    }
    Err(broken(
        node,
        format!("its vote for {candidate} in {term} is on disk before it is told to anybody"),
        format!("its disk has [{}]", node.durable.hard_state),
    ))
}

fn log_through(node: &Node, last: EntryId, what: &str) -> Result<(), Violation> {
    if node.durable.log.holds(last) {
        return Ok(());
    }
    Err(broken(
        node,
        format!("{what} promises that its log through {last} is on disk"),
        format!("its disk has the log through {}", node.durable.log.last()),
    )
    .at(last.index))
}

fn matched(ghost: &Ghost, node: &Node, envelope: &Envelope, index: Index) -> Result<(), Violation> {
    if node.durable.log.last_index() < index {
        return Err(broken(
            node,
            format!("an acknowledgement through {index} promises that log on disk"),
            format!("its disk has the log through {}", node.durable.log.last()),
        )
        .at(index));
    }
    if let Some(damaged) = node.damaged.first().filter(|damaged| **damaged <= index) {
        return Err(broken(
            node,
            format!("an acknowledgement through {index} promises what can be read"),
            format!("its disk has lost the entry at {damaged}"),
        )
        .at(*damaged));
    }
    // What the disk holds must be the log of the leader that is answered. A node's log is that of
    // the term only as long as the node is in it.
    let (term, durable) = (envelope.term, &node.durable.log);
    if node.issued.hard_state.term == term && differ(durable, &node.issued.log, index) {
        return Err(broken(
            node,
            format!("an acknowledgement through {index} promises {}", node.issued.log.show(index)),
            format!("its disk has {}", durable.show(index)),
        )
        .at(index));
    }
    let leader = ghost.find(envelope.to).map(|slot| &ghost.nodes[slot]);
    let leads = |leader: &&Node| leader.led == Some(term) && leader.issued.hard_state.term == term;
    match leader.filter(leads) {
        Some(leader) if differ(durable, &leader.issued.log, index) => Err(broken(
            node,
            format!(
                "an acknowledgement through {index} promises the leader's {}",
                leader.issued.log.show(index)
            ),
            format!("its disk has {}", durable.show(index)),
        )
        .at(index)),
        Some(_) | None => Ok(()),
    }
}

/// Whether both logs are known at `index` and are not the same there.
fn differ(one: &Log, other: &Log, index: Index) -> bool {
    index >= one.base().index.max(other.base().index) && one.at(index) != other.at(index)
}

fn broken(node: &Node, predicted: String, actual: String) -> Violation {
    Violation::new(Invariant::PromiseDurability, predicted, actual).on(node.member.id)
}
