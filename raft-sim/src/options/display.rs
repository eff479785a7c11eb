//! How the options of a run are shown, before it begins.

use std::fmt;

use super::{DelayLaw, LinkOptions, Options, Profile};

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, client, .. } = self;
        write!(f, "seed       {:#x}, {} events", self.seed, self.events)?;
        if self.profile != Profile::Swarm {
            write!(f, ", profile {}", self.profile)?;
        }
        if self.is_beyond {
            write!(f, ", beyond what can be borne")?;
        }
        writeln!(f)?;
        let Self { voters, learners, spares, .. } = self;
        writeln!(f, "cluster    {voters} voters, {learners} learners, {spares} spares")?;
        writeln!(
            f,
            "protocol   election timeout {}us, heartbeat {}us, pre-vote {}, check-quorum {}",
            self.election_timeout_us,
            self.heartbeat_interval_us,
            if self.has_mixed_pre_vote { "mixed" } else { on(self.pre_vote) },
            on(self.check_quorum)
        )?;
        self.show_leases(f)?;
        writeln!(
            f,
            "limits     {} entries/append, {} in flight, bytes: {} in flight, {} uncommitted, \
             {} unapplied, {} resident, {} requests, inbox {}us",
            self.append_entries_max,
            self.inflight_appends_max,
            self.inflight_bytes_max,
            self.uncommitted_bytes_max,
            self.unapplied_bytes_max,
            self.resident_bytes_max,
            self.requests_max,
            self.inbox_us
        )?;
        writeln!(
            f,
            "snapshots  every {} entries, {} kept, chunks of {} bytes, {} sessions",
            self.snapshot_after_entries,
            self.kept_behind_snapshot,
            self.snapshot_chunk_bytes,
            self.sessions_max
        )?;
        writeln!(
            f,
            "disk       {}us a write, {} times as long where slow, at rest after {}us, \
             {} slots/segment, guard of {} bytes",
            self.disk_us,
            self.slow_factor,
            self.rest_after_us,
            self.segment_slots,
            self.guard_bytes
        )?;
        writeln!(f, "network    {}", link)?;
        writeln!(
            f,
            "clients    {}, {} keys, think {}us, timeout {}us, {} reads, {} bytes padding",
            client.clients,
            client.keys,
            client.think_us,
            client.timeout_us,
            client.reads,
            client.padding
        )?;
        writeln!(
            f,
            "nemesis    every {} events for {}us, skew {}ppm",
            self.strike_events, self.fault_us, self.skew_ppm
        )?;
        writeln!(f, "strikes    {}", self.strikes)?;
        write!(f, "faults     {}", self.faults)
    }
}

impl Options {
    fn show_leases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "leases     {}us, clock drift {}%, priorities {}, promotion within {} entries",
            self.lease_us,
            self.clock_drift_percent,
            on(self.has_priorities),
            self.promotion_lag_entries_max
        )
    }
}

/// What [`Options::set`] reads.
impl fmt::Display for DelayLaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform { low_us, high_us } => write!(f, "uniform {low_us}..{high_us}"),
            Self::Exponential { low_us, mean_us } => write!(f, "exponential {low_us}+{mean_us}"),
            Self::HeavyTail { low_us } => write!(f, "heavy-tail {low_us}"),
        }
    }
}

impl fmt::Display for LinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.delay)?;
        let order = if self.reorder { "any order" } else { "in order" };
        write!(f, ", {order}, loss {}", self.loss)?;
        write!(f, ", duplication {}", self.duplication)?;
        write!(f, ", corruption {}", self.corruption)?;
        match self.queue_max {
            u32::MAX => Ok(()),
            max => write!(f, ", at most {max} frames"),
        }
    }
}

fn on(flag: bool) -> &'static str {
    if flag { "on" } else { "off" }
}
