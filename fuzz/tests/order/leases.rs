//! Histories in which a lease is all that stands between two leaders; the cluster checks that
//! nobody else begins to lead while one of them may still answer by it.
//!
//! Random histories hardly ever get the moments right: without pre-votes and stickiness, which
//! would hide what the promises do, and with clocks of which the third server's is the slowest and
//! the second one's the fastest, by all that is allowed.

use fuzz::{Event, LEADER, Shape, live};

const SHAPE: Shape =
    Shape { voters: 3, learners: 0, spares: 0, options: 0b1_0011, is_mixed: false };

/// What the lease is by the leader's clock, in microseconds.
const LEASE: u64 = 500_000;

/// The third server leads, one peer has promised, and a client has read by the lease.
fn lent_with(peer: usize) -> Vec<Event> {
    vec![Event::Campaign(2), Event::Settle(None), Event::Borrow(LEADER, peer)]
}

/// Thesis §6.4.1: who has promised counts by a clock that may be the fastest.
#[test]
fn a_promise_outlasts_the_drift_of_the_clocks() {
    for us in [LEASE / 11 * 10 - 1_000, LEASE / 11 * 10 + 1_000, LEASE - 1_000] {
        let mut events = lent_with(1);
        events.extend([Event::Pass(us), Event::Campaign(1), Event::Talk(1, 0)]);
        let life = live(SHAPE, events);
        assert_eq!((life.leases, life.leaders), (1, 1), "after {us}us nobody else leads");
    }
    let mut events = lent_with(1);
    events.extend([Event::Pass(LEASE + 1_000), Event::Campaign(1), Event::Talk(1, 0)]);
    assert_eq!(live(SHAPE, events).leaders, 2, "later somebody else does");
}

/// The leader promises too, or its own vote would elect another one while its host still answers.
#[test]
fn a_leader_that_steps_down_does_not_vote_while_its_lease_lasts() {
    let mut events = lent_with(1);
    events.extend([Event::StepDown(LEADER), Event::Campaign(0), Event::Talk(0, 2)]);
    let life = live(SHAPE, events);
    assert_eq!(life.leases, 1);
}

/// A crash does not end a promise.
#[test]
fn a_server_that_starts_again_keeps_its_promise() {
    let crash = Event::Crash { at: 1, whole: 0, steps: 0, state: false };
    let mut events = lent_with(1);
    events.extend([crash, Event::Talk(1, 1), Event::Campaign(1), Event::Talk(1, 0)]);
    let life = live(SHAPE, events);
    assert_eq!((life.leases, life.leaders), (1, 1), "nobody else leads");
}

/// An election that the leader asks for passes all promises, so it waits for the lease.
#[test]
fn a_handover_waits_for_the_lease() {
    let mut events = lent_with(1);
    events.extend([Event::Transfer(LEADER, Some(0)), Event::Talk(2, 0), Event::Talk(0, 1)]);
    let life = live(SHAPE, events);
    assert_eq!((life.leases, life.transfers), (1, 1), "and then comes about");
}
