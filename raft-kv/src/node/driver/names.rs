//! How fast new single names may come.
//!
//! A single name is remembered until as many others have followed as there is room for. Who tries again
//! cannot know how many did. So their pace is bounded, and with it the time for which a name is
//! remembered at least: some 15 seconds, which is more than a client tries. The bound is this leader's
//! own and no part of the replicated state: what it refuses is not proposed. The leader before it may have let
//! all of a burst through, so a new one begins with a handful: a millisecond of those 15 seconds.

use raft_core::Time;

/// How many new names in a second.
const PER_SECOND: u64 = 4096;
/// How many at once, after a pause.
const BURST: u64 = 4096;
/// How many at once as soon as it leads: somebody has waited for that.
const FIRST: u64 = 4;
/// What one takes, in microseconds of waiting.
const PRICE_US: u64 = 1_000_000 / PER_SECOND;

/// What is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewNames {
    left_us: u64,
    as_of: Time,
}

impl NewNames {
    /// Those of who leads from now on.
    pub(super) fn new(now: Time) -> Self {
        Self { left_us: FIRST * PRICE_US, as_of: now }
    }

    /// Whether there is room for one more now.
    pub(super) fn take(&mut self, now: Time) -> bool {
        let left = self.left_us.saturating_add(now.since(self.as_of).0).min(BURST * PRICE_US);
        self.as_of = now;
        let rest = left.checked_sub(PRICE_US);
        self.left_us = rest.unwrap_or(left);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::Span;

    #[test]
    fn a_burst_passes_and_then_so_many_in_a_second() {
        let start = Time(5);
        let mut names = NewNames::new(start);
        let at_once = |names: &mut NewNames, now| (0..9999).take_while(|_| names.take(now)).count();
        assert_eq!(at_once(&mut names, start), 4, "another one may have led until now");
        let start = start.after(Span(1_000_000));
        assert_eq!(at_once(&mut names, start), 4096);
        assert_eq!(at_once(&mut names, start), 0);
        let later = start.after(Span(1000 * PRICE_US));
        assert_eq!(at_once(&mut names, later), 1000);
        let much_later = later.after(Span(3_600_000_000));
        assert_eq!(at_once(&mut names, much_later), 4096, "a pause saves up no more than that");
        // One after the other, for ten seconds.
        let passed = (0..1_000_000).filter(|n| names.take(much_later.after(Span(n * 10)))).count();
        assert!((40_900..41_100).contains(&passed), "{passed}");
    }
}
