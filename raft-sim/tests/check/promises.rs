//! Stories about what is promised and not said: leases, damage, silence. PS, DMG, CF.

use std::sync::Arc;

use raft_core::{
    Entries, EntryId, EntryResult, HardState, Incarnation, Index, Member, Membership, NodeId,
    Payload, PersistBatch, RepairId, RepairRpc, Round, Rpc, Session, Slot, Span, Term,
};
use raft_sim::check::{Invariant, Violation};

use crate::story::{Story, broken, command};

const QUESTION: RepairId = RepairId { incarnation: Incarnation(1), n: 1 };

/// n1 leads, and n1 and n2 have an entry that n3 lacks. n1 has asked for it.
fn asked_by_the_leader() -> (Story, EntryId) {
    let mut story = Story::led();
    story.propose(1, 1, vec![command(b"x")]).unwrap();
    story.sync(1).unwrap();
    story.follow(2, 1, 2).unwrap();
    story.sync(2).unwrap();
    let wanted = story.at(1, 2);
    for other in [2, 3] {
        ask(&mut story, other, wanted).unwrap();
    }
    (story, wanted)
}

fn ask(story: &mut Story, whom: u64, wanted: EntryId) -> Result<(), Violation> {
    let rpc = RepairRpc::RequestEntry { id: QUESTION, wanted, is_snapshot: false };
    story.send(1, whom, Rpc::Repair(rpc))
}

fn answer(story: &mut Story, id: u64, result: EntryResult) -> Result<(), Violation> {
    let rpc = RepairRpc::RequestEntryResponse { id: QUESTION, result };
    story.send(id, 1, Rpc::Repair(rpc))
}

#[test]
fn an_entry_is_denied_by_who_never_had_it() {
    let (story, wanted) = asked_by_the_leader();
    answer(&mut story.clone(), 3, EntryResult::DontHave).unwrap();
    let lies = answer(&mut story.clone(), 2, EntryResult::DontHave);
    broken(lies, Invariant::PromiseDurability, Some(2));
    // It came after the question, while the answer was on its way.
    let mut later = story.clone();
    later.follow(3, 1, 2).unwrap();
    answer(&mut later, 3, EntryResult::DontHave).unwrap();
    // It may be on its way to the disk, or damaged there: it is in the log.
    let mut pending = Story::led();
    pending.propose(1, 1, vec![command(b"x")]).unwrap();
    pending.follow(3, 1, 2).unwrap();
    let index = pending.at(1, 2);
    ask(&mut pending, 3, index).unwrap();
    broken(answer(&mut pending, 3, EntryResult::DontHave), Invariant::PromiseDurability, Some(3));
    let mut damaged = story.clone();
    damage(&mut damaged, 2, wanted).unwrap();
    broken(answer(&mut damaged, 2, EntryResult::DontHave), Invariant::PromiseDurability, Some(2));
    // A later leader's entries are about to take its place: it is on the disk, and can be denied.
    let mut replaced = story;
    replaced.elect(3, 2, &[2, 3]).unwrap();
    replaced.noop(3, 2).unwrap();
    replaced.follow(2, 3, 2).unwrap();
    answer(&mut replaced, 2, EntryResult::DontHave).unwrap();
}

#[test]
fn who_does_not_know_the_end_of_its_log_denies_nothing() {
    let (mut story, _) = asked_by_the_leader();
    let kept = HardState { is_tail_unknown: true, ..story.actor(3).hard_state };
    story.crash(3, kept, 1).unwrap();
    broken(answer(&mut story, 3, EntryResult::DontHave), Invariant::PromiseDurability, Some(3));
    answer(&mut story, 3, EntryResult::HaveDamaged).unwrap();
}

#[test]
fn what_is_answered_is_what_was_asked_for() {
    let (mut story, _) = asked_by_the_leader();
    let entries = story.entries(2, 1).slice(Index(1), Index(2));
    let other = answer(&mut story.clone(), 2, EntryResult::Have { entries });
    broken(other, Invariant::Damage, Some(2));
    let entries = story.entries(2, 2);
    answer(&mut story.clone(), 2, EntryResult::Have { entries }).unwrap();
    let snapshot = story.snapshot(2, 1);
    let short = answer(&mut story.clone(), 2, EntryResult::HaveSnapshot { snapshot });
    broken(short, Invariant::Damage, Some(2));
    let unasked = RepairId { n: 2, ..QUESTION };
    let rpc = RepairRpc::RequestEntryResponse { id: unasked, result: EntryResult::HaveDamaged };
    broken(story.send(2, 1, Rpc::Repair(rpc)), Invariant::Damage, Some(2));
}

#[test]
fn who_has_lost_nothing_does_not_say_that_it_has() {
    let (mut story, _) = asked_by_the_leader();
    let result = EntryResult::HaveDamaged;
    let rpc = Rpc::Repair(RepairRpc::RequestEntryResponse { id: QUESTION, result });
    let envelope = story.envelope(2, 1, rpc.clone());
    let told = story.checker.sent_by_the_whole(NodeId(2), &envelope);
    broken(told, Invariant::Damage, Some(2));
    let envelope = story.envelope(3, 1, rpc);
    story.checker.sent_by_the_whole(NodeId(3), &envelope).unwrap();
}

/// A node starts again, and cannot read an entry.
fn damage(story: &mut Story, id: u64, lost: EntryId) -> Result<(), Violation> {
    story.checker.crashed(NodeId(id));
    let mut found = story.found(id);
    let slots = found.slots.iter_mut().filter(|slot| slot.id() == lost);
    slots.for_each(|slot| *slot = Slot::Damaged { id: lost, bytes: 1, is_membership: false });
    story.checker.recovered(NodeId(id), &found)?;
    story.raise_incarnation(id);
    Ok(())
}

#[test]
fn who_lacks_an_entry_neither_applies_it_nor_leads_past_it() {
    let (mut story, wanted) = asked_by_the_leader();
    story.acknowledge(2, 1, 2).unwrap();
    story.commit(1, 2).unwrap();
    let mut whole = story.clone();
    damage(&mut story, 2, wanted).unwrap();
    story.commit(2, 2).unwrap();
    story.apply(2, 1, 1, 1).unwrap();
    broken(story.apply(2, 2, 2, 2), Invariant::Damage, Some(2));
    story.elect(2, 2, &[2, 3]).unwrap();
    broken(story.noop(2, 2), Invariant::Damage, Some(2));

    whole.crash(2, whole.actors[1].hard_state, 2).unwrap();
    whole.commit(2, 2).unwrap();
    whole.apply(2, 1, 2, 2).unwrap();
    whole.elect(2, 2, &[2, 3]).unwrap();
    whole.noop(2, 2).unwrap();
}

#[test]
fn nothing_but_the_entry_takes_the_place_of_a_damaged_one() {
    let (mut story, wanted) = asked_by_the_leader();
    damage(&mut story, 2, wanted).unwrap();
    let mut batch = story.batch(2);
    batch.heal = vec![story.entries(1, 2)];
    let before = story.at(2, 1);
    let mut other = batch.clone();
    other.heal = vec![Entries::after(before, [(Term(1), command(b"y"))])];
    broken(story.issue(2, &other), Invariant::Damage, Some(2));
    story.issue(2, &batch).unwrap();
}

#[test]
fn a_lease_is_granted_by_a_promise_on_disk() {
    let mut story = Story::led();
    story.checker.expect_drift(10);
    let (session, round, commit) = (Session(1), Round(3), Index(1));
    let heartbeat = Rpc::Heartbeat { session, round, commit, lease: Span(1_000) };
    let agrees = Rpc::HeartbeatResponse { session, round };
    story.send(1, 2, heartbeat).unwrap();
    broken(story.send(2, 1, agrees.clone()), Invariant::PromiseDurability, Some(2));
    // To another heartbeat, which asks for nothing, it may say so.
    story.send(2, 1, Rpc::HeartbeatResponse { session, round: Round(2) }).unwrap();
    for (promise, is_enough) in [(1_099, false), (1_100, true)] {
        let mut batch = story.batch(2);
        story.actor(2).hard_state.promise = Span(promise);
        batch.hard_state = Some(story.actor(2).hard_state);
        story.issue(2, &batch).unwrap();
        let too_early = story.send(2, 1, agrees.clone());
        broken(too_early, Invariant::PromiseDurability, Some(2));
        story.sync(2).unwrap();
        assert_eq!(story.send(2, 1, agrees.clone()).is_ok(), is_enough);
    }
}

#[test]
fn who_has_halted_is_silent_until_it_starts_again() {
    let mut story = Story::led();
    story.checker.fell_silent(NodeId(2));
    broken(story.acknowledge(2, 1, 1), Invariant::PromiseDurability, Some(2));
    broken(story.hard_state(2, 2, None), Invariant::PromiseDurability, Some(2));
    let mut story = Story::led();
    story.checker.fell_silent(NodeId(2));
    let kept = story.actor(2).hard_state;
    story.crash(2, kept, 1).unwrap();
    story.acknowledge(2, 1, 1).unwrap();
}

/// A membership that a disk has lost is not in force before it has been given back.
#[test]
fn a_membership_that_cannot_be_read_is_not_in_force() {
    let mut story = Story::led();
    let larger = Arc::new(
        Membership::new(story.founders.incoming().to_vec(), vec![Member::new(9, 9)]).unwrap(),
    );
    story.propose(1, 1, vec![Payload::Membership(Arc::clone(&larger))]).unwrap();
    story.replicate(1, 2, 2).unwrap();
    let (n2, founders) = (NodeId(2), Arc::new(story.founders.clone()));
    broken(story.checker.membership_observed(n2, &founders), Invariant::Configuration, Some(2));
    let mut found = story.found(2);
    found.slots[1] = Slot::Damaged { id: found.slots[1].id(), bytes: 1, is_membership: true };
    story.checker.crashed(n2);
    story.checker.recovered(n2, &found).unwrap();
    story.raise_incarnation(2);
    story.checker.membership_observed(n2, &founders).unwrap();
    broken(story.checker.membership_observed(n2, &larger), Invariant::Configuration, Some(2));

    let heal = vec![story.entries(1, 2)];
    let batch = PersistBatch { heal, ..story.batch(2) };
    story.issue(2, &batch).unwrap();
    story.checker.membership_observed(n2, &larger).unwrap();
    broken(story.checker.membership_observed(n2, &founders), Invariant::Configuration, Some(2));
}
