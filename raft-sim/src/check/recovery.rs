//! REC: a crash leaves whole batches, then at most a beginning of the next one.
//!
//! The ghost replays what was asked for behind what was durable, step by step, until it stands
//! where the disk stands. If it never does, the disk has lost something or made something up.

use raft_core::{EntryId, HardState, Index, PersistBatch, RecoveredState, Slot};

use super::ghost::{Ghost, Node, View};
use super::violation::{Invariant, Violation};
use super::{commit_immutable, doubt, monotonic_terms};

/// A node starts from what its storage has found.
pub(super) fn check(
    ghost: &mut Ghost,
    slot: usize,
    found: &RecoveredState,
) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    let id = node.member.id;
    monotonic_terms::check(id, &node.durable.hard_state, &found.hard_state)?;
    if !ghost.is_blank(found.snapshot.last) {
        commit_immutable::is_committed(ghost, id, found.snapshot.last)?;
    }
    let last = found_last(found);
    if is_shorter(&ghost.nodes[slot], found, last) {
        doubt::begins(ghost, slot, found);
    }
    advance(&mut ghost.nodes[slot], found, last)?;
    monotonic_terms::durable(ghost, slot, &found.hard_state)?;
    let node = &mut ghost.nodes[slot];
    is_the_log(node, found)?;
    node.pending.clear();
    let is_missed = |slot: &&Slot| matches!(slot, Slot::Damaged { .. });
    let missed = found.slots.iter().filter(is_missed).map(|slot| slot.id().index);
    let covered = if found.is_snapshot_damaged { Index::ZERO } else { found.snapshot.last.index };
    node.damaged = missed.filter(|index| *index > covered).collect();
    let is_unread = |slot: &&Slot| matches!(slot, Slot::Damaged { is_membership: true, .. });
    let unread = found.slots.iter().filter(is_unread).map(|slot| slot.id().index);
    // A snapshot names the membership of its last entry, whatever has become of its bytes.
    node.unread = unread.filter(|index| *index > found.snapshot.last.index).collect();
    node.found = found.hard_state.incarnation;
    node.compacted = found.before.index;
    // A start vouches for all that it has found.
    node.vouched = last.index;
    node.named = Index::ZERO;
    let View { hard_state, log } = &mut node.issued;
    *hard_state = found.hard_state;
    log.copy_from(&node.durable.log);
    node.commit = Index::ZERO;
    node.applied = found.applied;
    commit_hint(ghost, slot, found, last)
}

/// A node that has lost its hard state starts over with another, under a new lineage: it promises
/// nothing, in a term that its old lineage has known.
pub(super) fn starts_over(old: &Node, hard_state: &HardState) -> Result<(), Violation> {
    let HardState { term, epoch, .. } = *hard_state;
    let blank = HardState { term, epoch, ..HardState::default() };
    if *hard_state == blank && term <= old.issued.hard_state.term {
        return Ok(());
    }
    Err(Violation::new(
        Invariant::Recovery,
        format!("a new lineage promises nothing, in {} at most", old.issued.hard_state.term),
        format!("it begins with [{hard_state}]"),
    )
    .on(old.member.id))
}

/// The end of the log that was found.
fn found_last(found: &RecoveredState) -> EntryId {
    found.slots.last().map_or(found.before, Slot::id)
}

/// Whether an end is missing that was durable, or the mark of a doubt is new.
fn is_shorter(node: &Node, found: &RecoveredState, last: EntryId) -> bool {
    let durable = &node.durable;
    let is_marked = found.hard_state.is_tail_unknown;
    is_marked
        && (!durable.hard_state.is_tail_unknown
            || !durable.log.holds(last)
            || last.index < durable.log.last_index())
}

/// Brings the ghost's disk to where the real one stands.
fn advance(node: &mut Node, found: &RecoveredState, last: EntryId) -> Result<(), Violation> {
    let id = node.member.id;
    let start = (node.durable.hard_state, node.durable.log.last());
    let stands = |view: &View| view.hard_state == found.hard_state && view.log.last() == last;
    if stands(&node.durable) {
        return Ok(());
    }
    for batch in std::mem::take(&mut node.pending) {
        if reaches(&mut node.durable, &batch, stands) {
            return Ok(());
        }
    }
    Err(Violation::new(
        Invariant::Recovery,
        format!(
            "at least [{}] with the log through {}, at most what was asked for by then, [{}] with \
             the log through {}",
            start.0,
            start.1,
            node.durable.hard_state,
            node.durable.log.last()
        ),
        format!("the disk has [{}] with the log through {last}", found.hard_state),
    )
    .on(id)
    .at(last.index))
}

/// Executes a batch step by step; true, and no further, once `stands` holds.
pub(super) fn reaches(
    view: &mut View,
    batch: &PersistBatch,
    stands: impl Fn(&View) -> bool,
) -> bool {
    if let Some(hard_state) = batch.hard_state {
        view.hard_state = hard_state;
        if stands(view) {
            return true;
        }
    }
    if let Some(snapshot) = &batch.install {
        view.log.install(snapshot);
        if stands(view) {
            return true;
        }
    }
    // The disk stops vouching for all that is to go before any of it goes. Of a log that was hurt, the end
    // of that may be missing already, and nobody will miss it: a leader has it not, so it never counted.
    let gone = batch.truncate_from.map_or(0..0, |from| from.0..view.log.last_index().0 + 1);
    for from in gone.rev() {
        view.log.truncate(Index(from));
        if stands(view) {
            return true;
        }
    }
    batch.append.iter().any(|entry| {
        view.log.push(entry.id(), entry.payload());
        stands(view)
    })
}

/// Every slot that was found is the one that was written there, with no gap before or between.
fn is_the_log(node: &Node, found: &RecoveredState) -> Result<(), Violation> {
    let broken = |index: Index, predicted: String, actual: String| {
        Violation::new(Invariant::Recovery, predicted, actual).on(node.member.id).at(index)
    };
    if found.before.index > found.snapshot.last.index {
        return Err(broken(
            found.before.index,
            format!("the log begins at {} or before it", found.snapshot.last),
            format!("it begins after {}", found.before),
        ));
    }
    let mut index = found.before.index;
    let slots = found.slots.iter().map(Slot::id);
    for id in std::iter::once(found.before).chain(slots) {
        let written = node.durable.log.at(index);
        if written.is_some_and(|written| written != id) || id.index != index {
            return Err(broken(
                index,
                match written {
                    Some(written) => format!("the disk has {written}"),
                    None => format!("the disk has an entry at {index}"),
                },
                format!("it gives back {id}"),
            ));
        }
        index = index.next();
    }
    Ok(())
}

/// The commit index that came back is one that somebody had known, within the log that came back.
fn commit_hint(
    ghost: &mut Ghost,
    slot: usize,
    found: &RecoveredState,
    last: EntryId,
) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    if found.commit > ghost.committed.last_index() || found.commit > last.index {
        return Err(Violation::new(
            Invariant::Recovery,
            format!("its log ends at {last} and {} is committed", ghost.committed.last_index()),
            format!("the disk says that {} is committed", found.commit),
        )
        .on(node.member.id)
        .at(found.commit));
    }
    if found.commit > Index::ZERO {
        commit_immutable::claimed(ghost, slot, found.commit)?;
    }
    ghost.nodes[slot].commit = found.commit;
    Ok(())
}
