//! Stories about time: LZ, by a clock that no node sees, and ET, by each node's own.

use crate::story::{Story, broken};
use raft_core::{NodeId, Rpc, Span, Term, Time};
use raft_sim::check::{Invariant, Violation};

/// n1 leads term 1 of three voters and answers by a lease until 500.
fn leased() -> Story {
    let mut story = Story::led();
    story.checker.leased(NodeId(1), Time(500), Time(100)).unwrap();
    story
}

/// n2 wins term 2 at some moment.
fn succeed(story: &mut Story, now: u64) -> Result<(), Violation> {
    story.elect(2, 2, &[2, 3]).unwrap();
    story.checker.elected(NodeId(2), Term(2), Time(now))
}

#[test]
fn nobody_is_elected_while_a_lease_lasts() {
    broken(succeed(&mut leased(), 499), Invariant::LeaseOverlap, Some(2));
    succeed(&mut leased(), 500).unwrap();
    // The holder itself may win again, and nobody answers by the lease of a process that has ended.
    let mut again = leased();
    again.elect(1, 2, &[1, 3]).unwrap();
    again.checker.elected(NodeId(1), Term(2), Time(200)).unwrap();
    let mut crashed = leased();
    let kept = crashed.actor(1).hard_state;
    crashed.crash(1, kept, 1).unwrap();
    succeed(&mut crashed, 200).unwrap();
}

#[test]
fn a_lease_is_the_only_one() {
    let overlap = |now: u64| {
        let mut story = leased();
        story.elect(2, 2, &[2, 3]).unwrap();
        story.checker.leased(NodeId(2), Time(900), Time(now))
    };
    broken(overlap(499), Invariant::LeaseOverlap, Some(2));
    overlap(500).unwrap();
}

#[test]
fn a_leader_that_was_replaced_has_no_lease() {
    let mut story = leased();
    succeed(&mut story, 500).unwrap();
    let late = story.checker.leased(NodeId(1), Time(700), Time(600));
    broken(late, Invariant::LeaseOverlap, Some(1));
    story.checker.leased(NodeId(2), Time(700), Time(600)).unwrap();
}

#[test]
fn who_learns_late_of_its_election_disturbs_no_lease() {
    let mut story = Story::new(3);
    for voter in [1, 2] {
        story.vote(voter, 1, 1).unwrap();
    }
    story.elect(3, 2, &[3, 2]).unwrap();
    story.checker.leased(NodeId(3), Time(500), Time(100)).unwrap();
    story.checker.became_leader(NodeId(1), Term(1)).unwrap();
    story.checker.elected(NodeId(1), Term(1), Time(200)).unwrap();
    let late = story.checker.leased(NodeId(1), Time(400), Time(300));
    broken(late, Invariant::LeaseOverlap, Some(1));
}

/// n2 gives its vote in term 1 when its clock shows 1000; its election timeout is 100.
fn granted() -> Story {
    let mut story = Story::new(3);
    story.checker.expect_patience(Span(100));
    story.checker.stepped(NodeId(2), Time(1000));
    story.vote(2, 1, 1).unwrap();
    story
}

fn campaign(story: &mut Story, is_forced: bool) -> Result<(), Violation> {
    story.hard_state(2, 2, Some(2)).unwrap();
    story.sync(2).unwrap();
    let last = story.last(2);
    story.send(2, 3, Rpc::RequestVote { last, is_forced })
}

#[test]
fn who_has_given_its_vote_waits_before_it_asks_for_others() {
    let at = |clock: u64, is_forced: bool| {
        let mut story = granted();
        story.checker.stepped(NodeId(2), Time(clock));
        campaign(&mut story, is_forced)
    };
    broken(at(1099, false), Invariant::ElectionTimeout, Some(2));
    at(1100, false).unwrap();
    at(1099, true).unwrap();
    let mut asks_first = granted();
    asks_first.checker.stepped(NodeId(2), Time(1099));
    let last = asks_first.last(2);
    let early = asks_first.send(2, 3, Rpc::RequestPreVote { last, attempt: 1 });
    broken(early, Invariant::ElectionTimeout, Some(2));
}

#[test]
fn an_operator_and_a_restart_end_the_wait() {
    let mut urged = granted();
    urged.checker.urged(NodeId(2));
    urged.checker.stepped(NodeId(2), Time(1010));
    campaign(&mut urged, false).unwrap();

    let mut restarted = granted();
    let kept = restarted.actor(2).hard_state;
    restarted.crash(2, kept, 0).unwrap();
    restarted.checker.stepped(NodeId(2), Time(1010));
    campaign(&mut restarted, false).unwrap();
}

#[test]
fn what_was_asked_before_the_vote_was_given_may_leave_after_it() {
    let mut story = granted();
    let last = story.last(2);
    // In the same step, or of an earlier term.
    story.send(2, 3, Rpc::RequestPreVote { last, attempt: 1 }).unwrap();
    story.checker.stepped(NodeId(2), Time(1010));
    let mut earlier = story.envelope(2, 3, Rpc::RequestPreVote { last, attempt: 1 });
    earlier.term = Term(0);
    story.checker.sent(NodeId(2), &earlier).unwrap();
}
