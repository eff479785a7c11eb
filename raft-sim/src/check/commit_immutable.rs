//! CI: what is committed stays, the same and at the same place, on a quorum of disks.

use raft_core::{EntryId, Index, NodeId, SnapshotMeta};

use super::ghost::Ghost;
use super::violation::{Invariant, Violation};

/// A node knows everything through `index`, which is committed, to be committed.
pub(super) fn claimed(ghost: &Ghost, slot: usize, index: Index) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    let committed = ghost.committed.at(index).expect("the caller names a committed index");
    if node.issued.log.holds(committed) {
        return Ok(());
    }
    Err(broken(
        node.member.id,
        index,
        format!("the committed entry is {committed}"),
        format!("it takes its {} to be committed", node.issued.log.show(index)),
    ))
}

/// The commit index that a node shows at the end of a step.
pub(super) fn observed(ghost: &Ghost, slot: usize, commit: Index) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    if commit >= node.commit {
        return Ok(());
    }
    Err(broken(
        node.member.id,
        commit,
        format!("its commit index stays at {} or rises", node.commit),
        format!("it is {commit}"),
    ))
}

/// A node drops the entries of its log from `from` on.
///
/// One that has never heard of the commit, and is no part of the quorum, may drop a committed
/// entry on the word of an old leader: its log is repaired later. The others may not.
pub(super) fn truncated(ghost: &Ghost, slot: usize, from: Index) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    let log = &node.issued.log;
    let safe = node.commit.max(log.base().index);
    if from <= safe {
        return Err(broken(
            node.member.id,
            from,
            format!("it keeps its log through {safe}, which it knows to be committed"),
            format!("it drops its log from {from} on"),
        ));
    }
    if log.at(from) != ghost.committed.at(from) || log.last_index() < from {
        return Ok(());
    }
    let newest = ghost.committed.last_index().min(log.last_index());
    stays_on_quorum(ghost, slot, from)?;
    if log.at(newest) == ghost.committed.at(newest) {
        return stays_on_quorum(ghost, slot, newest);
    }
    Ok(())
}

/// A node replaces the beginning of its log by a snapshot.
pub(super) fn installed(
    ghost: &Ghost,
    slot: usize,
    snapshot: &SnapshotMeta,
) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    if ghost.is_blank(snapshot.last) && node.issued.log.holds(snapshot.last) {
        // A node that was given nothing writes that down.
        return Ok(());
    }
    is_committed(ghost, node.member.id, snapshot.last)?;
    if node.issued.log.holds(snapshot.last) || node.commit <= snapshot.last.index {
        return Ok(());
    }
    Err(broken(
        node.member.id,
        snapshot.last.index,
        format!("it keeps its log through {}, which it knows to be committed", node.commit),
        format!("{snapshot} replaces the whole log"),
    ))
}

/// A snapshot ends with the entry `last`.
pub(super) fn is_committed(ghost: &Ghost, node: NodeId, last: EntryId) -> Result<(), Violation> {
    let committed = ghost.committed.at(last.index);
    if committed == Some(last) {
        return Ok(());
    }
    Err(broken(
        node,
        last.index,
        match committed {
            Some(committed) => format!("the committed entry is {committed}"),
            None => format!("the log is committed through {}", ghost.committed.last_index()),
        },
        format!("a snapshot ends with {last}"),
    ))
}

fn stays_on_quorum(ghost: &Ghost, slot: usize, index: Index) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    let id = ghost.committed.at(index).expect("the caller names a committed index");
    let holds =
        |other: usize| Index(u64::from(other != slot && ghost.nodes[other].durable.log.holds(id)));
    // Whoever comes later must have it: the newest committed membership's quorum has everything.
    let (_, membership) = ghost.committed.membership();
    if ghost.quorum_index(membership, holds) > Index::ZERO {
        return Ok(());
    }
    Err(broken(
        node.member.id,
        index,
        format!("the committed entry {id} stays on the disks of a quorum of {membership}"),
        "it drops that entry, and with it the quorum".into(),
    ))
}

fn broken(node: NodeId, index: Index, predicted: String, actual: String) -> Violation {
    Violation::new(Invariant::CommitImmutable, predicted, actual).on(node).at(index)
}
