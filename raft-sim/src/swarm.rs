//! Many seeds, on several threads. Each run is as deterministic as ever; only their order is not.
//!
//! Progress goes to standard error, results to standard output in the order of the seeds, so that
//! the same range always prints the same.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::{Report, Summary};
use crate::run::{self, How};

/// What a swarm runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// The seeds.
    pub seeds: Range<u64>,
    /// How many threads run them.
    pub jobs: usize,
    /// How each is run.
    pub how: How,
}

/// How fast a swarm was. Not part of its result: it differs from run to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// Events of all runs.
    pub events: u64,
    /// Effects of all faults.
    pub effects: u64,
    /// The processor time of all threads together, in microseconds.
    pub busy_us: u64,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events and {} effective faults per CPU-second",
            self.rate(self.events),
            self.rate(self.effects)
        )
    }
}

impl Speed {
    fn rate(&self, count: u64) -> u128 {
        u128::from(count) * 1_000_000 / u128::from(self.busy_us.max(1))
    }

    fn progress(&self, failed: u64) -> String {
        let Self { events, effects, .. } = self;
        let rate = self.rate(*events);
        format!("{events} events ({rate}/s of CPU), {effects} effective faults, {failed} failed")
    }
}

impl Swarm {
    /// Runs all seeds. `failed` is called with each failing report, in the order of the seeds.
    pub fn run(&self, mut failed: impl FnMut(&Report)) -> (Summary, Speed) {
        let bar = progress(self.seeds.end.saturating_sub(self.seeds.start));
        let next = AtomicU64::new(self.seeds.start);
        let (sender, receiver) = mpsc::channel();
        let (mut summary, mut speed) = (Summary::default(), Speed::default());
        let mut early = BTreeMap::new();
        let mut turn = self.seeds.start;
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || self.work(next, &sender));
            }
            drop(sender);
            for (seed, report, busy_us) in receiver {
                speed.events += report.stats.events;
                speed.effects += report.stats.tally.effects();
                speed.busy_us += busy_us;
                early.insert(seed, report);
                while let Some(report) = early.remove(&turn) {
                    turn += 1;
                    summary.add(&report);
                    if report.failure.is_some() {
                        bar.suspend(|| failed(&report));
                    }
                }
                bar.set_message(speed.progress(summary.failed));
                bar.inc(1);
            }
        });
        bar.finish_and_clear();
        (summary, speed)
    }

    fn work(&self, next: &AtomicU64, sender: &mpsc::Sender<(u64, Report, u64)>) {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.seeds.end {
                return;
            }
            let (report, busy_us) = timed(|| run::seed(seed, self.how));
            if sender.send((seed, report, busy_us)).is_err() {
                return;
            }
        }
    }
}

/// Does some work and says how much processor time this thread has spent on it.
fn timed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let start = processor_time_us();
    let result = work();
    (result, processor_time_us().saturating_sub(start))
}

#[cfg(unix)]
fn processor_time_us() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    let micros = i128::from(spent.tv_sec) * 1_000_000 + i128::from(spent.tv_nsec) / 1_000;
    u64::try_from(micros).unwrap_or_default()
}

/// Without a clock for it, the time on the wall stands in for processor time.
#[cfg(not(unix))]
#[expect(clippy::disallowed_types, reason = "the speed of a swarm decides nothing")]
fn processor_time_us() -> u64 {
    use std::time::SystemTime;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn progress(seeds: u64) -> ProgressBar {
    let template = "{bar:30} {pos}/{len} seeds, {elapsed}, {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is right");
    ProgressBar::new(seeds).with_style(style)
}
