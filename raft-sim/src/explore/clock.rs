//! Clocks, where leaders answer reads by lease (thesis §6.4.1).
//!
//! A lease is safe because clocks agree about the length of a span, within the drift that the
//! configuration allows. So they go on together: when time passes, every clock goes on by one beat or
//! by two, as the exploration wants it, since one may outrun another by a hundred percent here. That
//! happens in between any two other steps, as often as one likes; states stay few, because a node
//! keeps spans that are left of something and no moments.
//!
//! A lease lasts for two beats of the leader's clock, and the promise for it for four of the
//! follower's. That is as short as it can be for a forgotten drift to show: of a lease and a promise of
//! one length, counted by a slow and by a fast clock, the one takes two steps of time and the other
//! one.
//!
//! What is left out, because no lease and no promise hangs on it:
//!
//! - When elections begin. They may at any moment, as an operator may wish it; a timer that is due is
//!   one more way, which a promise must stop too. So it need not be told apart how long ago a follower
//!   has heard its leader: it hears of it whenever time passes ([`Host::take`]).
//! - Time, while nobody leads and nobody has ever promised anything; and when nobody can begin to lead
//!   any more.
//!
//! A heartbeat is never early, since a lease is counted from it, and as late as it pleases. Clocks do
//! not jump, and no node is down for longer than it takes to start again: to wait out what it may have
//! promised is the hardest then.

use std::sync::Arc;

use raft_core::{Config, Index, Membership, Span, Term, Time};

use super::host::Host;
use crate::ideal_disk::Disk;

/// By how much a slow clock goes on when time passes; a fast one goes on twice as far.
const BEAT_US: u64 = 50;

/// The speeds of a clock, in beats.
pub(crate) const SPEEDS: [u8; 2] = [1, 2];

/// Leases, and timers that can be due.
///
/// Election timers of all servers are due in the third beat, so that servers are alike but for their
/// names: each has a seed of its own by which they are, in every term.
pub(super) fn set(config: &mut Config, genesis: &Membership, last: Term) {
    config.heartbeat_interval_us = BEAT_US;
    config.election_timeout_us = 2 * BEAT_US;
    config.lease_us = 2 * BEAT_US;
    config.clock_drift_percent = 100;
    let is_third = |config: &Config| {
        (0..=last.0).all(|term| {
            let disk = Disk::new(genesis.clone()).with_log([], Term(term));
            let (host, _) = Host::start(Arc::new(config.clone()), disk, Index::ZERO, Time(0));
            let due = host.raft.next_deadline();
            due.is_none_or(|at| (2 * BEAT_US + 1..=3 * BEAT_US).contains(&at.0))
        })
    };
    while !is_third(config) {
        config.seed += 1;
    }
}

/// So many beats.
pub(super) fn beats(beats: u8) -> Span {
    Span(BEAT_US * u64::from(beats))
}

#[cfg(test)]
mod tests {
    use super::super::bounds::Bounds;
    use super::super::host::Input;
    use super::*;

    #[test]
    fn a_promise_of_a_fast_clock_lasts_as_long_as_the_lease_of_a_slow_one() {
        let config = Bounds { leases: true, ..Bounds::default() }.config(0);
        assert_eq!(config.validate(), Ok(()));
        let [slow, fast] = SPEEDS.map(beats);
        assert_eq!(config.lease().0 / slow.0, config.promise(config.lease()).0 / fast.0);
        assert_eq!(config.lease().0.div_ceil(fast.0), 1, "a promise without drift ends earlier");
    }

    #[test]
    fn servers_differ_in_nothing_but_their_names() {
        let bounds = Bounds { leases: true, terms: 3, ..Bounds::default() };
        let due = |at: usize, term: u64| {
            let disk = Disk::new(bounds.genesis()).with_log([], Term(term));
            let (mut host, _) =
                Host::start(Arc::new(bounds.config(at)), disk, Index::ZERO, Time(0));
            (1..9).find(|_| {
                host.take(&Input::Pass { beats: 1 });
                host.may_fire()
            })
        };
        for term in 0..=3 {
            assert_eq!([0, 1, 2].map(|at| due(at, term)), [Some(3); 3], "in {term}");
        }
    }
}
