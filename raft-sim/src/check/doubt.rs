//! REC: a log whose end a disk has lost, and the end of that doubt.
//!
//! A start may find less than was durable only if it says so: then its hard state is marked, durably,
//! and the ghost notes which entries it had. The mark may go when the node holds again all of them that
//! are committed: from then on its vote speaks for that. Other entries may have been committed in their
//! places meanwhile; the node owes nobody those.
//!
//! Deliberately absent: whether the disk had a reason. The world knows which disks were hurt.

use raft_core::{EntryId, HardState, Index, Payload, RecoveredState, Slot};

use super::ghost::{Ghost, View};
use super::log::Log;
use super::violation::{Invariant, Violation};

/// Brings the ghost's disk to where a real one stands that has lost its end, and says that it may
/// have. What had been truncated may be back, if the file is gone that said so; nothing is made up.
/// Leaves the ghost as it is if that is impossible.
pub(super) fn begins(ghost: &mut Ghost, slot: usize, found: &RecoveredState) {
    let is_known = |id: EntryId| {
        id.index == Index::ZERO || ghost.chains.get(id.index, id.term) == Some(id.chain)
    };
    let is_marked = found.hard_state.is_tail_unknown;
    if !is_marked || !found.slots.iter().all(|slot| is_known(slot.id())) {
        return;
    }
    let node = &mut ghost.nodes[slot];
    let is_like = |view: &View| {
        let hard_state = HardState { is_tail_unknown: true, ..view.hard_state };
        hard_state == found.hard_state && view.log.holds(found.before)
    };
    let mut view = node.durable.clone();
    let mut is_found = is_like(&view);
    for batch in &node.pending {
        is_found = is_found || super::recovery::reaches(&mut view, batch, is_like);
    }
    if is_found {
        view.hard_state.is_tail_unknown = true;
        replace(&mut view.log, found);
        let had = &node.durable.log;
        let after =
            (found.before.index.0 + 1..=had.last_index().0).filter_map(|at| had.at(Index(at)));
        node.owed.extend(after.filter(|id| !view.log.holds(*id)));
        node.durable = view;
    }
}

/// The log becomes the one that was found.
fn replace(log: &mut Log, found: &RecoveredState) {
    let is_there = |slot: &&Slot| log.holds(slot.id()) && slot.id().index <= log.last_index();
    let same = found.slots.iter().take_while(is_there).count();
    let last = same.checked_sub(1).map_or(found.before, |last| found.slots[last].id());
    log.truncate(last.index.next());
    for slot in &found.slots[same..] {
        let payload = match slot {
            Slot::Resident { payload, .. } => payload,
            // Memberships are always resident, unless they are damaged.
            Slot::Cold { .. } | Slot::Damaged { .. } => &Payload::Noop,
        };
        log.push(slot.id(), payload);
    }
}

/// A node's disk is about to hold `hard_state`.
pub(super) fn ended(
    ghost: &mut Ghost,
    slot: usize,
    hard_state: &HardState,
) -> Result<(), Violation> {
    let committed = &ghost.committed;
    let node = &mut ghost.nodes[slot];
    if hard_state.is_tail_unknown || !node.durable.hard_state.is_tail_unknown {
        return Ok(());
    }
    let owed = std::mem::take(&mut node.owed);
    let is_missed =
        |id: &&EntryId| committed.at(id.index) == Some(**id) && !node.durable.log.holds(**id);
    let Some(owed) = owed.iter().filter(is_missed).max_by_key(|id| id.index) else {
        return Ok(());
    };
    Err(Violation::new(
        Invariant::Recovery,
        format!("it is in doubt until it holds {owed}, which it had and which is committed"),
        format!("it is certain of its log through {}", node.durable.log.last()),
    )
    .on(node.member.id)
    .at(owed.index))
}
