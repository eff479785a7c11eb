//! Whether options that somebody has changed by hand still describe a cluster.
//!
//! What a seed draws always does. Only what would make the simulator itself stumble is refused, and
//! what would call a fault of the options one of the product: clocks that no lease can bear. Options
//! that leave a cluster too little to live on are the business of whoever sets them.

use super::{KnobError, Options, skew_within};
use crate::fault::Fault;
use crate::node;

/// The longest time that an option names, in microseconds: ten minutes.
const TIME_MAX_US: u64 = 600_000_000;

/// The most nodes: seeds draw 12 at most.
const NODES_MAX: usize = 20;

impl Options {
    /// Whether a cluster runs with these options.
    ///
    /// # Errors
    /// What is impossible about them.
    pub fn check(&self) -> Result<(), KnobError> {
        let times = [
            self.election_timeout_us,
            self.disk_us,
            self.rest_after_us,
            self.inbox_us,
            self.fault_us,
            self.link.late_us,
            self.client.think_us,
            self.client.timeout_us,
        ];
        // Unless they are meant to break what leases rest on.
        let is_bound = self.lease_us > 0 && !self.faults.contains(Fault::Drift);
        let rules = [
            (self.voters == 0, "no voters"),
            (self.nodes() > NODES_MAX, "more than 20 nodes"),
            (self.client.clients == 0 || self.client.clients > 64, "clients are 1 to 64"),
            (self.client.keys == 0, "no keys"),
            (self.client.padding > 1 << 10, "padding of more than 1 KiB"),
            (times.iter().any(|&time| time > TIME_MAX_US), "a time of more than ten minutes"),
            (self.slow_factor == 0 || self.slow_factor > 1_000, "slowness is 1 to 1000"),
            (self.strike_events == 0, "no events between strikes"),
            (self.skew_ppm >= 1_000_000, "a clock that stands still"),
            (self.link.queue_max == 0, "links that hold no frame"),
            (
                is_bound && self.skew_ppm > skew_within(self.clock_drift_percent.into()),
                "clocks drift more than leases bear",
            ),
            (is_bound && self.faults.contains(Fault::Jump), "clocks jump and leases rest on them"),
        ];
        if let Some((_, why)) = rules.into_iter().find(|(is_broken, _)| *is_broken) {
            return Err(KnobError::Impossible(why.to_owned()));
        }
        node::check(self).map_err(KnobError::Impossible)
    }
}
