use std::sync::Arc;

use raft_core::*;

/// What a log file of batches gives back: genesis, and then every batch that is there, in order.
pub fn found(founders: Membership, log: impl IntoIterator<Item = PersistBatch>) -> RecoveredState {
    let mut found = RecoveredState::genesis(founders);
    for batch in log {
        // The fields take effect in the order in which they stand in a batch.
        found.hard_state = batch.hard_state.unwrap_or(found.hard_state);
        if let Some(snapshot) = batch.install {
            let is_on_log = has(&found, snapshot.last);
            found.slots.retain(|slot| is_on_log && slot.id().index > snapshot.last.index);
            (found.before, found.founding) = (snapshot.last, false);
            found.snapshot = snapshot;
        }
        if let Some(from) = batch.truncate_from {
            found.slots.retain(|slot| slot.id().index < from);
        }
        for healed in batch.heal.iter().flat_map(|run| run.iter()).map(resident) {
            if let Some(slot) = found.slots.iter_mut().find(|slot| slot.id() == healed.id()) {
                *slot = healed;
            }
        }
        found.slots.extend(batch.append.iter().map(resident));
        if let Some(through) = batch.compact_to {
            let ids = || found.slots.iter().map(Slot::id);
            found.before = ids().find(|id| id.index == through).unwrap_or(found.before);
            found.slots.retain(|slot| slot.id().index > through);
        }
    }
    found
}

/// Starts from that. `taken` is the newest snapshot that the host has made durable by itself; it may be
/// newer than any that the log speaks of.
pub fn restart(
    config: Config,
    mut found: RecoveredState,
    taken: Option<Arc<SnapshotMeta>>,
    now: Time,
) -> Result<(Raft, Vec<Effect>), RecoverError> {
    let is_newer = |taken: &Arc<SnapshotMeta>| taken.last.index > found.snapshot.last.index;
    if let Some(taken) = taken.filter(|taken| is_newer(taken) && has(&found, taken.last)) {
        found.snapshot = taken;
    }
    // The state machine is in memory, so it has applied nothing: it is told to restore the snapshot.
    found.applied = Index(0);
    Raft::recover(config, found, now)
}

fn has(found: &RecoveredState, last: EntryId) -> bool {
    found.before == last || found.slots.iter().any(|slot| slot.id() == last)
}

/// With its payload; a [`Slot::Cold`] without it is enough where the file can be read again.
fn resident(entry: &Entry) -> Slot {
    Slot::Resident { id: entry.id(), payload: entry.payload().clone() }
}
