//! Stories about logs, commits and disks: LM, PS, CQ, CI, SM, REC.

use crate::story::{Story, broken, command};
use raft_core::{
    Entries, HardState, Index, NodeId, Payload, PersistBatch, Round, Rpc, Session, Slot, Term,
};
use raft_sim::check::Invariant;

#[test]
fn one_index_and_one_term_have_one_history() {
    let mut story = Story::led();
    story.propose(1, 1, vec![command(b"x")]).unwrap();
    let other = Entries::after(story.at(2, 1), [(Term(1), command(b"y"))]);
    broken(story.write(2, None, &other), Invariant::LogMatching, Some(2));

    let mut twin = Story::led();
    twin.propose(1, 1, vec![command(b"x")]).unwrap();
    let later = Entries::after(twin.at(2, 1), [(Term(2), command(b"y"))]);
    twin.write(2, None, &later).unwrap();
}

#[test]
fn an_append_follows_the_log() {
    let mut story = Story::led();
    story.propose(1, 1, vec![command(b"x"), command(b"y")]).unwrap();
    let gap = story.entries(1, 3);
    broken(story.write(2, None, &gap), Invariant::LogMatching, Some(2));
    // Nor may a suffix that differs stay in front of it.
    let mut stale = Story::led();
    stale.propose(3, 2, vec![command(b"z")]).unwrap();
    stale.propose(1, 1, vec![command(b"x"), command(b"y")]).unwrap();
    let behind = stale.entries(1, 3);
    broken(stale.write(3, None, &behind), Invariant::LogMatching, Some(3));
    let mut twin = Story::led();
    twin.propose(1, 1, vec![command(b"x"), command(b"y")]).unwrap();
    twin.follow(2, 1, 2).unwrap();
}

#[test]
fn a_message_carries_the_history_of_its_log() {
    let mut story = Story::led();
    story.propose(1, 1, vec![command(b"x")]).unwrap();
    story.append(1, 2, 2, 1).unwrap();
    let entries = Entries::after(story.at(1, 1), [(Term(1), command(b"y"))]);
    let (session, round, prev) = (Session(1), Round(0), story.at(1, 1));
    let rpc = Rpc::AppendEntries { session, round, prev, entries, commit: Index(1) };
    broken(story.send(1, 2, rpc), Invariant::LogMatching, Some(1));
}

#[test]
fn an_acknowledged_entry_is_durable() {
    let mut story = Story::led();
    story.noop(1, 1).unwrap();
    story.follow(2, 1, 2).unwrap();
    broken(story.acknowledge(2, 1, 2), Invariant::PromiseDurability, Some(2));
    story.acknowledge(2, 1, 1).unwrap();
    story.sync(2).unwrap();
    story.acknowledge(2, 1, 2).unwrap();
}

#[test]
fn an_acknowledged_entry_can_be_read() {
    let mut story = Story::led();
    story.propose(1, 1, vec![command(b"x")]).unwrap();
    story.replicate(1, 2, 2).unwrap();
    let mut found = story.found(2);
    found.slots[1] = Slot::Damaged { id: found.slots[1].id(), bytes: 1, is_membership: false };
    story.checker.crashed(NodeId(2));
    story.checker.recovered(NodeId(2), &found).unwrap();
    story.raise_incarnation(2);
    story.acknowledge(2, 1, 1).unwrap();
    broken(story.acknowledge(2, 1, 2), Invariant::PromiseDurability, Some(2));

    let heal = vec![story.entries(1, 2)];
    let batch = PersistBatch { heal, ..story.batch(2) };
    story.issue(2, &batch).unwrap();
    broken(story.acknowledge(2, 1, 2), Invariant::PromiseDurability, Some(2));
    story.sync(2).unwrap();
    story.acknowledge(2, 1, 2).unwrap();
}

#[test]
fn who_may_have_acknowledged_more_does_not_vote() {
    let mut story = Story::led();
    let mut batch = story.batch(2);
    let doubts = HardState { term: Term(2), is_tail_unknown: true, ..story.actor(2).hard_state };
    batch.hard_state = Some(HardState { vote: Some(story.founders.incoming()[2]), ..doubts });
    broken(story.issue(2, &batch), Invariant::PromiseDurability, Some(2));
}

#[test]
fn an_acknowledged_log_is_the_leaders() {
    // n3 has an entry of an old term where the leader has another one.
    let story = || {
        let mut story = Story::led();
        story.propose(3, 1, vec![command(b"old")]).unwrap();
        story.sync(3).unwrap();
        story.elect(2, 2, &[2, 1]).unwrap();
        story.noop(2, 2).unwrap();
        story.hard_state(3, 2, None).unwrap();
        story.sync(3).unwrap();
        story
    };
    broken(story().acknowledge(3, 2, 2), Invariant::PromiseDurability, Some(3));
    // The new entry is asked for; the old one is still on the disk.
    let mut pending = story();
    pending.follow(3, 2, 2).unwrap();
    broken(pending.acknowledge(3, 2, 2), Invariant::PromiseDurability, Some(3));
    pending.sync(3).unwrap();
    pending.acknowledge(3, 2, 2).unwrap();
}

#[test]
fn an_acknowledgement_ends_with_the_leaders_log() {
    let mut story = Story::led();
    story.propose(3, 1, vec![command(b"old")]).unwrap();
    story.sync(3).unwrap();
    broken(story.acknowledge(3, 1, 2), Invariant::PromiseDurability, Some(3));
    story.acknowledge(3, 1, 1).unwrap();
}

#[test]
fn a_commit_needs_a_quorum() {
    let mut story = Story::new(5);
    story.elect(1, 1, &[1, 2, 3]).unwrap();
    story.noop(1, 1).unwrap();
    story.sync(1).unwrap();
    story.replicate(1, 2, 1).unwrap();
    broken(story.heartbeat(1, 2, 1), Invariant::CommitQuorum, Some(1));
    story.replicate(1, 3, 1).unwrap();
    story.heartbeat(1, 2, 1).unwrap();
    assert_eq!(story.checker.committed(), Index(1));
}

#[test]
fn a_leader_counts_itself_once_its_own_disk_has_the_entry() {
    let mut story = Story::new(3);
    story.elect(1, 1, &[1, 2]).unwrap();
    story.noop(1, 1).unwrap();
    story.replicate(1, 2, 1).unwrap();
    broken(story.append(1, 2, 2, 1), Invariant::CommitQuorum, Some(1));
    story.sync(1).unwrap();
    story.append(1, 2, 2, 1).unwrap();
}

#[test]
fn an_entry_of_an_earlier_term_is_committed_by_a_later_one() {
    // Figure 8: n1's entry of term 1 is on a quorum, but its leader is one of term 3.
    let story = || {
        let mut story = Story::new(3);
        story.elect(1, 1, &[1, 2]).unwrap();
        story.noop(1, 1).unwrap();
        story.sync(1).unwrap();
        story.elect(3, 2, &[3, 2]).unwrap();
        story.elect(1, 3, &[1, 2]).unwrap();
        story
    };
    let mut early = story();
    early.replicate(1, 2, 1).unwrap();
    broken(early.commit(1, 1), Invariant::CommitQuorum, Some(1));

    let mut twin = story();
    twin.noop(1, 3).unwrap();
    twin.sync(1).unwrap();
    twin.replicate(1, 2, 1).unwrap();
    // The lower index is shown first: what justifies it lies above.
    twin.heartbeat(1, 2, 1).unwrap();
    twin.commit(1, 2).unwrap();
}

#[test]
fn only_a_leader_is_the_first_to_know_of_a_commit() {
    let mut story = Story::led();
    story.noop(1, 1).unwrap();
    story.sync(1).unwrap();
    story.replicate(1, 2, 2).unwrap();
    broken(story.commit(2, 2), Invariant::CommitQuorum, Some(2));
    story.commit(1, 2).unwrap();
    story.commit(2, 2).unwrap();
}

#[test]
fn a_follower_commits_what_is_committed() {
    // n3 has a stale tail; "commit 2" does not make it committed.
    let mut story = Story::led();
    story.propose(3, 1, vec![command(b"stale")]).unwrap();
    story.elect(2, 2, &[2, 1]).unwrap();
    story.noop(2, 2).unwrap();
    story.sync(2).unwrap();
    story.replicate(2, 1, 2).unwrap();
    story.commit(2, 2).unwrap();
    broken(story.commit(3, 2), Invariant::CommitImmutable, Some(3));
    story.commit(3, 1).unwrap();
    story.follow(3, 2, 2).unwrap();
    story.commit(3, 2).unwrap();
}

#[test]
fn a_commit_index_never_falls() {
    let mut story = Story::led();
    broken(story.commit(2, 0), Invariant::CommitImmutable, Some(2));
    // A restart may forget it.
    let kept = story.actor(2).hard_state;
    story.crash(2, kept, 1).unwrap();
    story.commit(2, 0).unwrap();
}

#[test]
fn what_a_node_knows_to_be_committed_is_not_truncated() {
    let mut story = Story::led();
    let other = Entries::after(story.at(3, 0), [(Term(2), Payload::Noop)]);
    broken(story.write(3, Some(1), &other), Invariant::CommitImmutable, Some(3));

    let mut twin = Story::led();
    twin.propose(3, 1, vec![command(b"stale")]).unwrap();
    let other = Entries::after(twin.at(3, 1), [(Term(2), Payload::Noop)]);
    twin.write(3, Some(2), &other).unwrap();
}

#[test]
fn a_committed_entry_stays_on_a_quorum() {
    // The entry at 2 is committed by n1 and n2; n3 has it as well, unacknowledged.
    let story = || {
        let mut story = Story::led();
        story.noop(1, 1).unwrap();
        story.sync(1).unwrap();
        story.replicate(1, 2, 2).unwrap();
        story.commit(1, 2).unwrap();
        story.follow(3, 1, 2).unwrap();
        story.sync(3).unwrap();
        story
    };
    // Nobody has told n2 or n3 of the commit. One of them may drop it, and n2 must not after n3.
    let mut early = story();
    early.write(3, Some(2), &Entries::empty()).unwrap();
    early.sync(3).unwrap();
    broken(early.write(2, Some(2), &Entries::empty()), Invariant::CommitImmutable, Some(2));
    story().write(2, Some(2), &Entries::empty()).unwrap();
}

#[test]
fn a_snapshot_is_one_of_the_committed_log() {
    let mut story = Story::led();
    story.noop(1, 1).unwrap();
    let committed = story.snapshot(1, 1);
    let uncommitted = story.snapshot(1, 2);
    let mut batch = story.batch(2);
    batch.install = Some(uncommitted);
    broken(story.issue(2, &batch), Invariant::CommitImmutable, Some(2));
    batch.install = Some(committed);
    story.issue(2, &batch).unwrap();
}

#[test]
fn entries_are_applied_in_order_and_once() {
    let story = || {
        let mut story = Story::led();
        story.propose(1, 1, vec![command(b"x"), command(b"y")]).unwrap();
        story.sync(1).unwrap();
        story.replicate(1, 2, 2).unwrap();
        story.commit(1, 3).unwrap();
        story.commit(2, 3).unwrap();
        story
    };
    broken(story().apply(2, 3, 3, 9), Invariant::StateMachineSafety, Some(2));
    broken(story().apply(2, 1, 2, 9), Invariant::StateMachineSafety, Some(2));
    story().apply(2, 2, 3, 9).unwrap();
    // n1 has applied both at once, n2 one after the other: the digests meet at the end.
    let mut split = story();
    split.apply(1, 2, 3, 9).unwrap();
    split.apply(2, 2, 2, 8).unwrap();
    broken(split.apply(2, 3, 3, 7), Invariant::StateMachineSafety, Some(2));
}

#[test]
fn what_is_applied_is_durable_here() {
    let mut story = Story::led();
    story.noop(1, 1).unwrap();
    story.sync(1).unwrap();
    story.replicate(1, 2, 2).unwrap();
    story.commit(1, 2).unwrap();
    story.follow(3, 1, 2).unwrap();
    story.commit(3, 2).unwrap();
    broken(story.apply(3, 2, 2, 5), Invariant::PromiseDurability, Some(3));
    let mut twin = Story::led();
    twin.noop(1, 1).unwrap();
    twin.sync(1).unwrap();
    twin.replicate(1, 3, 2).unwrap();
    twin.commit(1, 2).unwrap();
    twin.apply(3, 2, 2, 5).unwrap();
    assert_eq!(twin.checker.applied_index(NodeId(3)), Index(2));
    assert!(twin.checker.has_all_committed(NodeId(3)));
    assert!(!twin.checker.has_all_committed(NodeId(2)));
    assert_eq!(twin.checker.durable_last(NodeId(2)), Index(1));
}

#[test]
fn a_restored_state_is_the_one_that_was_applied() {
    let story = || {
        let mut story = Story::led();
        story.noop(1, 1).unwrap();
        story.sync(1).unwrap();
        story.replicate(1, 2, 2).unwrap();
        story.commit(1, 2).unwrap();
        story.apply(1, 2, 2, 5).unwrap();
        let mut batch = story.batch(3);
        batch.install = Some(story.snapshot(1, 2));
        story.issue(3, &batch).unwrap();
        story
    };
    let mut early = story();
    let snapshot = early.snapshot(1, 2);
    let restored = early.checker.restored(NodeId(3), &snapshot, 5);
    broken(restored, Invariant::PromiseDurability, Some(3));
    let mut other = story();
    other.sync(3).unwrap();
    let restored = other.checker.restored(NodeId(3), &snapshot, 6);
    broken(restored, Invariant::StateMachineSafety, Some(3));
    let mut twin = story();
    twin.sync(3).unwrap();
    twin.checker.restored(NodeId(3), &snapshot, 5).unwrap();
    // A state does not go back in time.
    let older = twin.snapshot(1, 1);
    let restored = twin.checker.restored(NodeId(3), &older, 1);
    broken(restored, Invariant::StateMachineSafety, Some(3));
}

#[test]
fn a_crash_keeps_what_was_durable_and_any_beginning_of_the_rest() {
    // Two entries are durable, then a truncation and two other entries are asked for.
    let story = || {
        let mut story = Story::led();
        story.propose(3, 1, vec![command(b"a"), command(b"b")]).unwrap();
        story.sync(3).unwrap();
        let before = story.at(3, 2);
        let kept = story.actor(3).hard_state;
        story.hard_state(3, 2, None).unwrap();
        let other = Entries::after(before, [(Term(2), Payload::Noop), (Term(2), command(b"c"))]);
        story.write(3, Some(3), &other).unwrap();
        (story, kept)
    };
    let (mut story, kept) = story();
    let issued = story.actor(3).hard_state;
    // By the hard state that was found and the end of the log: whether a disk may say so.
    let cases = [
        (issued, 4, true),
        (issued, 3, true),
        (issued, 2, true),
        (issued, 1, false),
        (kept, 4, false),
        (kept, 2, false),
    ];
    for (found, last, is_allowed) in cases {
        let mut story = story.clone();
        let end = story.crash(3, found, last);
        if is_allowed {
            end.unwrap();
            assert_eq!(story.checker.durable_last(NodeId(3)), Index(last));
        } else {
            broken(end, Invariant::Recovery, Some(3));
        }
    }
}

/// A disk that was hurt: what is truncated may be gone in part, from the end, and nothing before it.
#[test]
fn a_crash_in_a_truncation_keeps_any_beginning_of_what_was_to_go() {
    let mut story = Story::led();
    story.propose(3, 1, vec![command(b"a"), command(b"b"), command(b"c")]).unwrap();
    story.sync(3).unwrap();
    let (kept, old) = (story.actor(3).hard_state, story.actor(3).log.clone());
    let before = story.at(3, 2);
    let other = Entries::after(before, [(Term(2), Payload::Noop)]);
    story.write(3, Some(3), &other).unwrap();
    story.actor(3).log = old;
    for (last, is_allowed) in [(4, true), (3, true), (2, true), (1, false)] {
        let mut story = story.clone();
        let end = story.crash(3, kept, last);
        if is_allowed {
            end.unwrap();
            assert_eq!(story.checker.durable_last(NodeId(3)), Index(last));
        } else {
            broken(end, Invariant::Recovery, Some(3));
        }
    }
}

#[test]
fn a_truncated_suffix_does_not_come_back() {
    let mut story = Story::led();
    story.propose(3, 1, vec![command(b"old")]).unwrap();
    story.sync(3).unwrap();
    let mut resurrected = story.actor(3).log.clone();
    story.write(3, Some(2), &Entries::empty()).unwrap();
    story.sync(3).unwrap();
    story.actor(3).log.append(&mut resurrected);
    story.actor(3).log.drain(..1);
    let kept = story.actor(3).hard_state;
    broken(story.crash(3, kept, 2), Invariant::Recovery, Some(3));
}

#[test]
fn a_disk_does_not_make_up_a_commit() {
    let mut story = Story::led();
    story.noop(1, 1).unwrap();
    story.sync(1).unwrap();
    let mut found = story.found(1);
    found.commit = Index(2);
    story.checker.crashed(NodeId(1));
    let mut twin = story.checker.clone();
    broken(story.checker.recovered(NodeId(1), &found), Invariant::Recovery, Some(1));
    found.commit = Index(1);
    twin.recovered(NodeId(1), &found).unwrap();
}

#[test]
fn a_doubt_ends_where_all_that_was_committed_is_there() {
    let mut story = Story::led();
    story.propose(1, 1, vec![command(b"x")]).unwrap();
    story.sync(1).unwrap();
    story.replicate(1, 2, 2).unwrap();
    story.commit(1, 2).unwrap();
    story.checker.crashed(NodeId(2));
    let mut found = story.found(2);
    found.slots.truncate(1);
    let mut silent = story.checker.clone();
    broken(silent.recovered(NodeId(2), &found), Invariant::Recovery, Some(2));

    found.hard_state.is_tail_unknown = true;
    story.checker.recovered(NodeId(2), &found).unwrap();
    story.actor(2).log.truncate(1);
    story.actor(2).hard_state.is_tail_unknown = true;
    story.raise_incarnation(2);
    let certain = HardState { is_tail_unknown: false, ..story.actor(2).hard_state };
    let clear = PersistBatch { hard_state: Some(certain), ..story.batch(2) };
    let mut hasty = story.checker.clone();
    hasty.persist_issued(NodeId(2), &clear).unwrap();
    broken(hasty.persist_durable(NodeId(2), clear.seq), Invariant::Recovery, Some(2));

    story.replicate(1, 2, 2).unwrap();
    let clear = PersistBatch { hard_state: Some(certain), ..story.batch(2) };
    story.issue(2, &clear).unwrap();
    story.sync(2).unwrap();
}

#[test]
fn a_doubt_owes_nothing_that_was_committed_in_another_place() {
    let mut story = Story::led();
    // Only n2 has the second entry of the first term.
    story.propose(1, 1, vec![command(b"x")]).unwrap();
    story.replicate(1, 2, 2).unwrap();
    story.checker.crashed(NodeId(2));
    let mut found = story.found(2);
    found.slots.truncate(1);
    found.hard_state.is_tail_unknown = true;
    story.checker.recovered(NodeId(2), &found).unwrap();
    story.actor(2).log.truncate(1);
    story.actor(2).hard_state.is_tail_unknown = true;
    story.raise_incarnation(2);
    // The others commit another entry in its place.
    story.elect(3, 2, &[3, 1]).unwrap();
    story.noop(3, 2).unwrap();
    story.sync(3).unwrap();
    story.replicate(3, 1, 2).unwrap();
    story.commit(3, 2).unwrap();
    let certain = HardState { is_tail_unknown: false, ..story.actor(2).hard_state };
    let clear = PersistBatch { hard_state: Some(certain), ..story.batch(2) };
    story.issue(2, &clear).unwrap();
    story.sync(2).unwrap();
}
