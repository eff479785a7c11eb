//! MT: hard state never regresses, in memory, on disk or across a restart.
//!
//! A start has an incarnation that its disk has never had: what was answered to the life before is
//! no answer to this one.

use raft_core::{HardState, NodeId, PersistBatch};

use super::ghost::{Ghost, Node};
use super::violation::{Invariant, Violation};

/// The hard state `old` is replaced by `new`.
pub(super) fn check(node: NodeId, old: &HardState, new: &HardState) -> Result<(), Violation> {
    let predicted = if new.term < old.term {
        format!("its term stays at {} or rises", old.term)
    } else if new.term == old.term && old.vote.is_some() && new.vote != old.vote {
        format!("[{old}] keeps its vote in {}", old.term)
    } else if new.incarnation < old.incarnation {
        format!("its incarnation stays at {} or rises", old.incarnation)
    } else if new.epoch < old.epoch {
        format!("its epoch stays at {} or rises", old.epoch)
    } else if new.promise < old.promise {
        format!("its longest promise stays {}us or grows", old.promise.0)
    } else {
        return Ok(());
    };
    Err(Violation::new(Invariant::MonotonicTerms, predicted, format!("[{new}]")).on(node))
}

/// What a node asks for belongs to an incarnation above the one that it has found.
pub(super) fn starts_anew(node: &Node, batch: &PersistBatch) -> Result<(), Violation> {
    if batch.seq.incarnation > node.found {
        return Ok(());
    }
    Err(Violation::new(
        Invariant::MonotonicTerms,
        format!("it has started on a disk with inc{} and has a higher one now", node.found.0),
        format!("it asks for a batch of inc{}", batch.seq.incarnation.0),
    )
    .on(node.member.id))
}

/// A node's disk now holds `hard_state`.
pub(super) fn durable(
    ghost: &mut Ghost,
    slot: usize,
    hard_state: &HardState,
) -> Result<(), Violation> {
    let node = &mut ghost.nodes[slot];
    check(node.member.id, &node.durable.hard_state, hard_state)?;
    node.durable.hard_state = *hard_state;
    if let Some(vote) = hard_state.vote {
        node.votes.insert(hard_state.term, vote);
    }
    Ok(())
}
