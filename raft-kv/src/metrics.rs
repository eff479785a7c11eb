//! What is counted and timed, as Prometheus reads it.

mod levels;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use raft_core::Span;
use raft_replica::storage::{Report, ScrubStep, What};

pub use levels::{Levels, PeerLevels};

use levels::Gauges;

/// All metrics of a server. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    commit: Histogram,
    fsync: Histogram,
    apply: Histogram,
    read: Histogram,
    encode: Histogram,
    save: Histogram,
    batches: Counter,
    elections: Counter,
    leader_changes: Counter,
    refused_messages: Counter,
    bad_frames: Counter,
    repairs: Counter,
    violations: Counter,
    failed_writes: Counter,
    scrubbed_bytes: Counter,
    scrub_rounds: Counter,
    scrub_damaged: Counter,
    scrub_repaired: Counter,
    found: Family<[(&'static str, &'static str); 1], Counter>,
    forgotten_clients: Counter,
    /// One page is written at a time.
    gauges: Mutex<Gauges>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What is counted one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This server has begun to campaign.
    Election,
    /// It knows another leader now, or none.
    LeaderChange,
    /// The core has refused a message.
    RefusedMessage,
    /// A frame was no message.
    BadFrame,
    /// Something damaged was made whole.
    Repair,
    /// An assumption of the protocol is broken.
    Violation,
    /// A command has ended without a result.
    FailedWrite,
}

fn version() -> Info<[(&'static str, &'static str); 1]> {
    Info::new([("version", env!("CARGO_PKG_VERSION"))])
}

/// What a start finds, by kind; every kind is there from the beginning.
fn found_at_start(registry: &mut Registry) -> Family<[(&'static str, &'static str); 1], Counter> {
    let found = Family::default();
    let help = "What the start found on the disk that a clean stop does not leave there";
    registry.register("found_at_start", help, found.clone());
    for kind in What::KINDS {
        drop(found.get_or_create(&[("kind", kind)]));
    }
    found
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("raft_kv");
        let mut seconds = |name: &str, help: &str| {
            // 50 microseconds to 13 seconds.
            let histogram = Histogram::new(exponential_buckets(0.000_05, 2.0, 18));
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
            histogram
        };
        let commit = seconds("commit", "From a command to its result");
        let fsync = seconds("fsync", "One sync of the log");
        let apply = seconds("apply", "One step of the node, with what it applied");
        let read = seconds("read", "From a linearizable read to its answer");
        let encode = seconds("snapshot_encode", "The state into bytes, beside the node");
        let save = seconds("snapshot_save", "The bytes of a snapshot to the disk, between batches");
        let mut counter = |name: &str, help: &str| {
            let counter: Counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let batches = counter("log_batches", "Batches of the log that were made durable");
        let elections = counter("elections", "Elections that this server has begun");
        let leader_changes = counter("leader_changes", "Changes of the leader as seen here");
        let refused_messages = counter("refused_messages", "Messages that the core has refused");
        let bad_frames = counter("bad_frames", "Frames that were no messages");
        let repairs = counter("repairs", "Damaged things that were made whole");
        let violations = counter("violations", "Broken assumptions of the protocol");
        let failed_writes = counter("failed_writes", "Commands that ended without a result here");
        let scrubbed_bytes =
            counter("scrubbed_bytes", "Bytes of the disk that were looked through");
        let scrub_rounds = counter("scrub_rounds", "How often all of the disk was looked through");
        let scrub_damaged = counter("scrub_damaged", "Entries and snapshots found damaged by that");
        let scrub_repaired = counter("scrub_repaired", "Bad copies written again by that");
        let forgotten_clients =
            counter("forgotten_clients", "Clients forgotten for others: their retries are refused");
        let found = found_at_start(&mut registry);
        registry.register("build", "Which program this is", version());
        let gauges = Mutex::new(Gauges::register(&mut registry));
        let inner = Inner {
            registry,
            commit,
            fsync,
            apply,
            read,
            encode,
            save,
            batches,
            elections,
            leader_changes,
            refused_messages,
            bad_frames,
            repairs,
            violations,
            failed_writes,
            scrubbed_bytes,
            scrub_rounds,
            scrub_damaged,
            scrub_repaired,
            found,
            forgotten_clients,
            gauges,
        };
        Self { inner: Arc::new(inner) }
    }

    /// A command has its result.
    pub fn committed(&self, after: Duration) {
        self.inner.commit.observe(after.as_secs_f64());
    }

    /// A linearizable read has its answer.
    pub fn read(&self, after: Duration) {
        self.inner.read.observe(after.as_secs_f64());
    }

    /// A snapshot is in bytes.
    pub fn encoded(&self, after: Span) {
        self.inner.encode.observe(Duration::from_micros(after.0).as_secs_f64());
    }

    /// A snapshot is on the disk, so long after it was to be.
    pub fn saved(&self, after: Span) {
        self.inner.save.observe(Duration::from_micros(after.0).as_secs_f64());
    }

    /// The log was synced, with so many batches.
    pub fn synced(&self, after: Span, batches: u64) {
        self.inner.fsync.observe(Duration::from_micros(after.0).as_secs_f64());
        self.inner.batches.inc_by(batches);
    }

    /// A part of the disk was looked through.
    pub fn scrubbed(&self, step: &ScrubStep) {
        let inner = &self.inner;
        inner.scrubbed_bytes.inc_by(step.bytes);
        inner.scrub_rounds.inc_by(u64::from(step.is_round_over));
        inner.scrub_damaged.inc_by((step.damaged.len() + step.snapshots.len()) as u64);
        inner.scrub_repaired.inc_by(step.repaired);
    }

    /// The start has found this.
    pub fn found(&self, report: &Report) {
        for finding in &report.findings {
            self.inner.found.get_or_create(&[("kind", finding.what.kind())]).inc();
        }
    }

    /// The node has taken a step in which it applied something.
    pub fn applied(&self, after: Span) {
        self.inner.apply.observe(Duration::from_micros(after.0).as_secs_f64());
    }

    /// Something happened.
    pub fn count(&self, event: Event) {
        let inner = &self.inner;
        let counter = match event {
            Event::Election => &inner.elections,
            Event::LeaderChange => &inner.leader_changes,
            Event::RefusedMessage => &inner.refused_messages,
            Event::BadFrame => &inner.bad_frames,
            Event::Repair => &inner.repairs,
            Event::Violation => &inner.violations,
            Event::FailedWrite => &inner.failed_writes,
        };
        counter.inc();
    }

    /// The page that Prometheus reads.
    #[must_use]
    pub fn page(&self, levels: &Levels) -> String {
        let inner = &self.inner;
        let gauges = inner.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.set(levels);
        // It is counted in the replicated state.
        inner.forgotten_clients.inner().store(levels.forgotten_clients, Ordering::Relaxed);
        let mut page = String::new();
        encode(&mut page, &inner.registry).expect("a string takes everything");
        page
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
