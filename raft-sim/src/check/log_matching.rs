//! LM: one index and one term, one history (§5.3), among all logs and messages that ever were.

use raft_core::{EntryId, Envelope, NodeId, PersistBatch, Rpc};

use super::ghost::Ghost;
use super::violation::{Invariant, Violation};

/// A node appends entries to its log, which is as the rest of the batch has left it.
pub(super) fn appended(
    ghost: &mut Ghost,
    slot: usize,
    batch: &PersistBatch,
) -> Result<(), Violation> {
    follows(ghost, slot, batch)?;
    let node = ghost.nodes[slot].member.id;
    for entry in batch.append.iter() {
        if is_known(ghost, node, entry.id())? {
            continue;
        }
        ghost.chains.insert(entry.id());
    }
    Ok(())
}

/// A message names entries of its sender's log.
pub(super) fn sent(ghost: &Ghost, slot: usize, envelope: &Envelope) -> Result<(), Violation> {
    let node = ghost.nodes[slot].member.id;
    match &envelope.rpc {
        Rpc::AppendEntries { prev, entries, .. } => {
            // The chain of the last entry covers all before it.
            let last = entries.last().map_or(*prev, |entry| entry.id());
            is_known(ghost, node, last)?;
        }
        Rpc::RequestVote { last, .. } | Rpc::RequestPreVote { last, .. } => {
            is_known(ghost, node, *last)?;
        }
        Rpc::InstallSnapshot { snapshot, .. } => {
            is_known(ghost, node, snapshot.last)?;
        }
        Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVoteResponse { .. }
        | Rpc::AppendEntriesResponse { .. }
        | Rpc::Commit { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => {}
    }
    Ok(())
}

/// Whether the entry was seen before, with this chain.
fn is_known(ghost: &Ghost, node: NodeId, id: EntryId) -> Result<bool, Violation> {
    match ghost.chains.get(id.index, id.term) {
        None => Ok(false),
        Some(chain) if chain == id.chain => Ok(true),
        Some(chain) => Err(Violation::new(
            Invariant::LogMatching,
            format!("{id} has the chain {chain} wherever it is"),
            format!("{id} has the chain {} here", id.chain),
        )
        .on(node)
        .at(id.index)),
    }
}

/// The entries of a batch follow the end of the log to which they are appended.
fn follows(ghost: &Ghost, slot: usize, batch: &PersistBatch) -> Result<(), Violation> {
    let Some(first) = batch.append.first() else { return Ok(()) };
    let node = &ghost.nodes[slot];
    let last = node.issued.log.last();
    if first.index() == last.index.next() && batch.append.chain_before() == last.chain {
        return Ok(());
    }
    Err(Violation::new(
        Invariant::LogMatching,
        format!("an append follows the end of the log, {last} with chain {}", last.chain),
        format!("{} follows the chain {}", first.id(), batch.append.chain_before()),
    )
    .on(node.member.id)
    .at(first.index()))
}
