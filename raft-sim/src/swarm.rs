//! Many seeds, on several threads. Each run is as deterministic as ever; only their order is not.
//!
//! Progress goes to standard error, results to standard output in the order of the seeds, so that
//! the same range always prints the same. Most seeds run once: to run all of them twice would halve
//! what a swarm sees. A swarm that is told to stop ends the runs under way, so that what it sums up
//! is always the beginning of its range.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::{Report, Summary};
use crate::run::{self, How};

/// Each seed that this number divides is run twice, and the digests are compared.
pub const REPEATED_EVERY: u64 = 16;

/// Progress without a terminal: after how many seeds a line comes at the latest.
const LINE_SEEDS_MAX: u64 = 1_000;

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
    /// Runs all seeds, or those that were begun before `stop` was set. `failed` is called with each
    /// failing report, in the order of the seeds.
    pub fn run(&self, stop: &AtomicBool, mut failed: impl FnMut(&Report)) -> (Summary, Speed) {
        let asked = self.seeds.end.saturating_sub(self.seeds.start);
        let mut progress = Progress::new(asked);
        let next = AtomicU64::new(self.seeds.start);
        let (sender, receiver) = mpsc::channel();
        let mut summary = Summary { asked, ..Summary::default() };
        let mut speed = Speed::default();
        let mut early = BTreeMap::new();
        let mut turn = self.seeds.start;
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || self.work(next, stop, &sender));
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
                        progress.suspend(|| failed(&report));
                    }
                }
                progress.advance(|| speed.progress(summary.failed));
            }
        });
        progress.finish();
        (summary, speed)
    }

    fn work(&self, next: &AtomicU64, stop: &AtomicBool, sender: &mpsc::Sender<(u64, Report, u64)>) {
        // Never past the end, which may be the last number there is.
        let after = |seed| (seed < self.seeds.end).then(|| seed + 1);
        while !stop.load(Ordering::Relaxed) {
            let Ok(seed) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after) else {
                return;
            };
            let twice = self.how.twice || seed.is_multiple_of(REPEATED_EVERY);
            let (report, busy_us) = timed(|| run::seed(seed, How { twice, ..self.how }));
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

/// What is seen of a swarm while it runs, on standard error.
enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a file or a pipe, where a bar would be noise and nothing at all would look like a hang.
    Lines { total: u64, done: u64 },
}

impl Progress {
    fn new(total: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines { total, done: 0 };
        }
        let template = "{bar:30} {pos}/{len} seeds, {elapsed}, {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is right");
        Self::Bar(ProgressBar::new(total).with_style(style))
    }

    fn advance(&mut self, message: impl FnOnce() -> String) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(message());
                bar.inc(1);
            }
            Self::Lines { total, done } => {
                *done += 1;
                if is_line_due(*done, *total) {
                    // Progress that nobody can see is no reason to stop.
                    drop(writeln!(io::stderr(), "progress   {done}/{total} seeds, {}", message()));
                }
            }
        }
    }

    fn suspend(&self, work: impl FnOnce()) {
        match self {
            Self::Bar(bar) => bar.suspend(work),
            Self::Lines { .. } => work(),
        }
    }

    fn finish(self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines { .. } => {}
        }
    }
}

/// A line for each twentieth of the seeds; more often when that is many.
fn is_line_due(done: u64, total: u64) -> bool {
    done.is_multiple_of((total / 20).clamp(1, LINE_SEEDS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swarm(seeds: Range<u64>) -> Swarm {
        Swarm { seeds, jobs: 3, how: How::once(200) }
    }

    #[test]
    fn a_sixteenth_of_the_seeds_is_repeated() {
        let (summary, _) = swarm(15..33).run(&AtomicBool::new(false), |_| ());
        assert_eq!((summary.asked, summary.seeds, summary.repeated), (18, 18, 2));
    }

    #[test]
    fn the_last_seeds_there_are_end_a_swarm() {
        let seeds = u64::MAX - 2..u64::MAX;
        let (summary, _) = swarm(seeds).run(&AtomicBool::new(false), |_| ());
        assert_eq!(summary.seeds, 2);
    }

    #[test]
    fn a_swarm_that_is_stopped_begins_no_other_seed() {
        let (summary, _) = swarm(0..1_000).run(&AtomicBool::new(true), |_| ());
        assert_eq!((summary.asked, summary.seeds, summary.exit_code), (1_000, 0, 0));
    }

    #[test]
    fn progress_comes_in_twentieths_and_at_least_each_thousand() {
        let lines = |total| (1..=total).filter(|&done| is_line_due(done, total)).count();
        assert_eq!([1, 10, 200, 1_000].map(lines), [1, 10, 20, 20]);
        assert_eq!(lines(100_000), 100);
    }
}
