//! Clocks that are faster or slower than others, by no more than leases bear or by more.

use crate::event::NodeAt;
use crate::fault::{Fault, Tally};
use crate::options::skew_within;
use crate::workload::Workload;
use crate::world::World;

impl<W: Workload> World<W> {
    /// Its clock goes faster or slower from the beginning.
    pub(crate) fn skew(&mut self, at: NodeAt) {
        let most = self.options.skew_ppm;
        if most == 0 {
            return;
        }
        let ppm = self.schedule.draw().below_or(2 * most + 1, most);
        let ppm = i64::try_from(ppm).expect("small") - i64::try_from(most).expect("small");
        self.nodes[at].clock.set_skew(0, ppm);
        self.count_skew(at, Tally::injected);
    }

    /// Counts an injection or an effect of a clock that is off.
    pub(crate) fn count_skew(&mut self, at: NodeAt, count: fn(&mut Tally, Fault)) {
        for fault in [Fault::Skew, Fault::Drift] {
            let is_it = fault == Fault::Skew || self.is_too_skewed(at);
            if self.options.faults.contains(fault) && is_it {
                count(&mut self.stats.tally, fault);
            }
        }
    }

    /// Whether a clock alone is off by more than leases bear of all.
    fn is_too_skewed(&self, at: NodeAt) -> bool {
        let ppm = self.nodes[at].clock.skew_ppm().unsigned_abs();
        ppm > skew_within(self.options.clock_drift_percent.into())
    }
}
