//! A node's clock: true time bent by a rate, and jumps.
//!
//! The product sees nothing else of time. A rate is the skew of an oscillator; a jump forward is a
//! suspended machine, and a jump backward a host that reads a clock which is not monotonic. The
//! core must bear both.

use raft_core::Time;

/// Parts per million: how a rate is written.
const MILLION: i128 = 1_000_000;

/// One node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    anchor_true: u64,
    anchor_local: u64,
    skew_ppm: i64,
    /// What it would show at true time zero if it had only ever jumped.
    steady: i128,
}

impl Clock {
    /// A clock that shows `local` at true time zero and gains `skew_ppm` microseconds a second.
    ///
    /// # Panics
    /// If the clock would stand still or run backward.
    #[must_use]
    pub fn new(local: u64, skew_ppm: i64) -> Self {
        assert!(i128::from(skew_ppm) > -MILLION, "a clock moves forward");
        Self { anchor_true: 0, anchor_local: local, skew_ppm, steady: i128::from(local) }
    }

    /// What it shows at a true time.
    #[must_use]
    pub fn local(&self, now: u64) -> Time {
        let elapsed = i128::from(now - self.anchor_true) * (MILLION + i128::from(self.skew_ppm));
        let elapsed = u64::try_from(elapsed / MILLION).expect("a clock moves forward");
        Time(self.anchor_local + elapsed)
    }

    /// The first true time, not before `now`, at which it shows `local` or later.
    #[must_use]
    pub fn when(&self, local: Time, now: u64) -> u64 {
        let Some(ahead) = local.0.checked_sub(self.anchor_local) else { return now };
        let rate = MILLION + i128::from(self.skew_ppm);
        let elapsed = (i128::from(ahead) * MILLION + rate - 1) / rate;
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        self.anchor_true.saturating_add(elapsed).max(now)
    }

    /// Moves what it shows, from `now` on, by `by_us`; it never shows less than zero. Returns
    /// whether it shows another time.
    pub fn jump(&mut self, now: u64, by_us: i64) -> bool {
        let before = self.local(now).0;
        self.anchor_local = before.saturating_add_signed(by_us);
        self.anchor_true = now;
        self.steady += i128::from(self.anchor_local) - i128::from(before);
        self.local(now).0 != before
    }

    /// Changes the rate from `now` on.
    pub fn set_skew(&mut self, now: u64, skew_ppm: i64) {
        self.jump(now, 0);
        self.skew_ppm = skew_ppm;
    }

    /// How much faster than true time it goes, in parts per million.
    #[must_use]
    pub fn skew_ppm(&self) -> i64 {
        self.skew_ppm
    }

    /// Whether it shows another time than it would without any skew.
    #[must_use]
    pub fn is_off(&self, now: u64) -> bool {
        i128::from(self.local(now).0) != self.steady + i128::from(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_comes_up_exactly_when_the_clock_shows_it() {
        for skew in [-300_000, -7, 0, 13, 250_000] {
            let clock = Clock::new(500, skew);
            for local in [500, 501, 777, 123_456_789] {
                let at = clock.when(Time(local), 0);
                assert!(clock.local(at).0 >= local, "skew {skew}");
                assert!(at == 0 || clock.local(at - 1).0 < local, "skew {skew}");
            }
        }
    }

    #[test]
    fn jumps_and_rates_change_what_follows_only() {
        let mut clock = Clock::new(0, 0);
        assert!(clock.jump(1_000, 5_000) && !clock.is_off(1_000));
        assert_eq!(clock.local(1_000), Time(6_000));
        clock.set_skew(2_000, 1_000_000);
        assert!(!clock.is_off(2_000) && clock.is_off(2_010));
        assert_eq!((clock.local(2_000), clock.local(2_010)), (Time(7_000), Time(7_020)));
        assert!(clock.jump(2_010, -10_000) && !clock.jump(2_010, -1));
        assert_eq!(clock.local(2_010), Time(0));
        assert_eq!(clock.when(Time(0), 2_500), 2_500, "what has passed is now");
    }
}
