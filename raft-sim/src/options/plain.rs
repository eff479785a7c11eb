//! The plainest run: what a tape need not say.

use super::{ClientOptions, DelayLaw, EVENTS_DEFAULT, Gaps, LinkOptions, Options, Profile};
use crate::fault::FaultSet;
use crate::rng::Ratio;

/// Three voters, one client, and no faults.
impl Default for Options {
    fn default() -> Self {
        Self {
            profile: Profile::Swarm,
            seed: 0,
            events: EVENTS_DEFAULT,
            voters: 3,
            learners: 0,
            spares: 0,
            faults: FaultSet::default(),
            election_timeout_us: 100_000,
            heartbeat_interval_us: 20_000,
            pre_vote: true,
            has_mixed_pre_vote: false,
            check_quorum: true,
            lease_us: 0,
            clock_drift_percent: 10,
            has_priorities: false,
            promotion_lag_entries_max: 16,
            append_entries_max: 64,
            inflight_appends_max: 16,
            inflight_bytes_max: 1 << 20,
            unapplied_bytes_max: 1 << 20,
            resident_bytes_max: 1 << 20,
            uncommitted_bytes_max: 1 << 20,
            requests_max: 4096,
            snapshot_chunk_bytes: 4096,
            kept_behind_snapshot: 0,
            snapshot_after_entries: 256,
            sessions_max: 64,
            segment_slots: 256,
            guard_bytes: 0,
            disk_bytes: u64::MAX,
            inbox_us: 0,
            disk_us: 50,
            slow_factor: 16,
            rest_after_us: 0,
            link: LinkOptions::default(),
            client: ClientOptions::default(),
            strike_events: 256,
            strikes: Gaps::default(),
            fault_us: 100_000,
            skew_ppm: 0,
            is_beyond: false,
        }
    }
}

/// Half a millisecond, always.
impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            delay: DelayLaw::Uniform { low_us: 500, high_us: 500 },
            reorder: false,
            late_us: 0,
            loss: Ratio::NEVER,
            duplication: Ratio::NEVER,
            corruption: Ratio::NEVER,
            queue_max: u32::MAX,
        }
    }
}

/// One client that writes to one key and reads it.
impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            clients: 1,
            keys: 1,
            think_us: 5_000,
            timeout_us: 100_000,
            reads: Ratio::new(1, 2),
            twice: Ratio::NEVER,
            oversized: Ratio::NEVER,
            padding: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plainest_run_can_be_made() {
        assert_eq!(Options::default().check(), Ok(()));
    }
}
