//! Arbitrary bytes as what a node finds on its disk.

use raft_core::{
    Body, ClusterId, Config, Effect, Entry, EntryId, Epoch, GroupId, HardState, Incarnation, Index,
    Member, Message, Payload, Raft, RecoveredState, Slot, Span, Term, Time,
};

use crate::script::Script;

/// A node refuses what it finds, or starts from it and lives; never a panic.
///
/// # Panics
/// If it does panic, or starts from what it should have refused.
pub fn recover(data: &[u8]) {
    let mut script = Script::new(data);
    let me = Member::new(1, 7);
    let config = Config::new(ClusterId(1), GroupId(1), me);
    let found = found(&mut script);
    let last = found.slots.last().map_or(found.before, Slot::id);
    let Ok((mut raft, effects)) = Raft::recover(config, found.clone(), Time(0)) else { return };
    let status = raft.status();
    assert!(status.incarnation > found.hard_state.incarnation, "every start is counted");
    assert_eq!((status.term, status.vote), (found.hard_state.term, found.hard_state.vote));
    assert_eq!(status.last, last, "nothing is invented or dropped");
    let mut unsynced = batches(&effects);
    for _ in 0..6 {
        let body = match unsynced.pop() {
            Some(seq) => Body::Persisted { seq },
            None => Body::Tick,
        };
        let now = raft.next_deadline().unwrap_or_default();
        unsynced.extend(batches(&raft.step(Message { now, body })));
    }
}

fn found(script: &mut Script<'_>) -> RecoveredState {
    let hard_state = HardState {
        epoch: Epoch(script.number()),
        incarnation: Incarnation(script.number()),
        term: Term(script.number()),
        vote: script.flag().then(|| script.member()),
        promise: Span(script.number()),
        is_tail_unknown: script.below(8) == 0,
    };
    let before = script.entry_id();
    let entries = script.entries(before);
    let cold = script.below(6);
    let mut slots: Vec<Slot> =
        entries.iter().enumerate().map(|(at, entry)| slot(entry, at < cold)).collect();
    for slot in &mut slots {
        if script.below(8) == 0 {
            *slot = damaged(slot);
        }
    }
    if script.below(8) == 0 {
        slots.push(Slot::Resident { id: script.entry_id(), payload: script.payload() });
    }
    let mut snapshot = script.snapshot();
    let ids: Vec<EntryId> = [before].into_iter().chain(slots.iter().map(Slot::id)).collect();
    if script.below(8) != 0 {
        let last = ids[script.below(ids.len())];
        snapshot = raft_core::SnapshotMeta { last, ..(*snapshot).clone() }.into();
    }
    RecoveredState {
        hard_state,
        snapshot,
        slots,
        before,
        commit: Index(script.number()),
        applied: Index(script.number()),
        founding: script.below(8) == 0,
        is_snapshot_damaged: script.below(8) == 0,
    }
}

fn batches(effects: &[Effect]) -> Vec<raft_core::PersistSeq> {
    let batch = |effect: &Effect| match effect {
        Effect::Persist(batch) => Some(batch.seq),
        Effect::Send(_)
        | Effect::Apply { .. }
        | Effect::RestoreState { .. }
        | Effect::Outcome { .. }
        | Effect::ReadReady { .. }
        | Effect::Load(_)
        | Effect::ReadChunk(_)
        | Effect::StageChunk { .. }
        | Effect::Observe(_) => None,
    };
    effects.iter().filter_map(batch).collect()
}

fn slot(entry: &Entry, is_cold: bool) -> Slot {
    if is_cold {
        Slot::Cold { id: entry.id(), bytes: entry.payload().len() }
    } else {
        Slot::Resident { id: entry.id(), payload: entry.payload().clone() }
    }
}

/// The same position, its payload gone.
fn damaged(slot: &Slot) -> Slot {
    let id = slot.id();
    let (bytes, is_membership) = match slot {
        Slot::Resident { payload, .. } => {
            (payload.len(), matches!(payload, Payload::Membership(_)))
        }
        Slot::Cold { bytes, .. } => (*bytes, false),
        Slot::Damaged { bytes, is_membership, .. } => (*bytes, *is_membership),
    };
    Slot::Damaged { id, bytes, is_membership }
}
