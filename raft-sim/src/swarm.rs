//! Many seeds, on several threads. Each run is as deterministic as ever; only their order is not.
//!
//! Progress goes to standard error, results to standard output in the order of the seeds, so that
//! the same range always prints the same. Most seeds run once: to run all of them twice would halve
//! what a swarm sees. A swarm that ends early, because it was told to, its time is over or a run has
//! failed, sums up the beginning of its range without a gap.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;
#[expect(clippy::disallowed_types, reason = "when a swarm ends decides nothing within a run")]
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::processor;
use crate::report::{Report, Summary};
use crate::run::{self, How};
use crate::setup::Setup;

/// Each seed that this number divides is run twice, and the digests are compared.
pub const REPEATED_EVERY: u64 = 16;

/// Progress without a terminal: after how many seeds a line comes at the latest.
const LINE_SEEDS_MAX: u64 = 250;

/// What a swarm runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// The seeds; up to [`u64::MAX`] is without end.
    pub seeds: Range<u64>,
    /// After how much time no run begins any more.
    pub time: Option<Duration>,
    /// How many threads run them.
    pub jobs: usize,
    /// What their options have in common.
    pub setup: Setup,
    /// How each is run, but for its events, which are those of the setup.
    pub how: How,
    /// Whether it goes on after a run that fails.
    pub keep_going: bool,
}

/// Why a swarm has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All seeds have run.
    Whole,
    /// Its time is over.
    Time,
    /// A run has failed.
    Failure,
    /// It was told to stop.
    Interrupted,
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

/// A seed of a swarm that is over. Without a report, its options describe no cluster.
struct Run {
    seed: u64,
    report: Option<Report>,
    busy_us: u64,
}

impl Swarm {
    /// Runs the seeds. `done` is called for each in their order, with its report if it was run: not
    /// if no cluster runs with the options that it draws and those that are set by hand.
    pub fn run(
        &self,
        stop: &AtomicBool,
        mut done: impl FnMut(Option<&Report>),
    ) -> (Summary, Speed, Ended) {
        let mut progress = Progress::new(self);
        let next = AtomicU64::new(self.seeds.start);
        let enough = AtomicBool::new(false);
        let (sender, receiver) = mpsc::channel();
        let mut summary = Summary::default();
        let mut speed = Speed::default();
        let mut early = BTreeMap::new();
        let mut turn = self.seeds.start;
        let mut ended = Ended::Whole;
        let is_over = self.deadline();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                let (sender, next, enough) = (sender.clone(), &next, &enough);
                let is_over = &is_over;
                scope.spawn(move || {
                    self.work(next, || is_over() || is_set(stop) || is_set(enough), &sender);
                });
            }
            drop(sender);
            for Run { seed, report, busy_us } in receiver {
                if let Some(report) = &report {
                    speed.events += report.stats.events;
                    speed.effects += report.stats.tally.effects();
                }
                speed.busy_us += busy_us;
                early.insert(seed, report);
                // What was run beyond the first failure is none of the result.
                while ended != Ended::Failure
                    && let Some(report) = early.remove(&turn)
                {
                    turn += 1;
                    let failed = summary.failed;
                    summary.add(report.as_ref());
                    progress.suspend(|| done(report.as_ref()));
                    if summary.failed > failed && !self.keep_going {
                        ended = Ended::Failure;
                    }
                }
                enough.store(ended != Ended::Whole, Ordering::Relaxed);
                progress.advance(|| speed.progress(summary.failed));
            }
        });
        progress.finish();
        let ended = match ended {
            Ended::Whole if turn < self.seeds.end => {
                if is_over() {
                    Ended::Time
                } else {
                    Ended::Interrupted
                }
            }
            ended @ (Ended::Whole | Ended::Time | Ended::Failure | Ended::Interrupted) => ended,
        };
        (summary, speed, ended)
    }

    /// Whether its time is over.
    #[expect(clippy::disallowed_types, reason = "when a swarm ends decides nothing within a run")]
    fn deadline(&self) -> impl Fn() -> bool {
        let time = self.time;
        let begin = Instant::now();
        move || time.is_some_and(|time| begin.elapsed() >= time)
    }

    fn work(&self, next: &AtomicU64, is_enough: impl Fn() -> bool, sender: &mpsc::Sender<Run>) {
        // Never past the end, which may be the last number there is.
        let after = |seed| (seed < self.seeds.end).then(|| seed + 1);
        while !is_enough() {
            let Ok(seed) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after) else {
                return;
            };
            let twice = self.how.twice || seed.is_multiple_of(REPEATED_EVERY);
            let how = How { twice, ..self.how };
            let (report, busy_us) =
                timed(|| self.setup.options(seed).ok().map(|options| run::options(&options, how)));
            if sender.send(Run { seed, report, busy_us }).is_err() {
                return;
            }
        }
    }
}

fn is_set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

/// Does some work and says how much processor time this thread has spent on it.
fn timed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let start = processor::of_thread_us();
    let result = work();
    (result, processor::of_thread_us().saturating_sub(start))
}

/// What is seen of a swarm while it runs, on standard error.
enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a file or a pipe, where a bar would be noise and nothing at all would look like a hang.
    Lines { total: u64, is_open: bool, done: u64 },
}

impl Progress {
    fn new(swarm: &Swarm) -> Self {
        let total = swarm.seeds.end.saturating_sub(swarm.seeds.start);
        // With a time, nobody knows how many seeds there will be.
        let is_open = swarm.time.is_some() || swarm.seeds.end == u64::MAX;
        if !io::stderr().is_terminal() {
            return Self::Lines { total, is_open, done: 0 };
        }
        let template = if is_open {
            "{spinner} {pos} seeds, {elapsed}, {msg}"
        } else {
            "{bar:30} {pos}/{len} seeds, {elapsed}, {msg}"
        };
        let style = ProgressStyle::with_template(template).expect("the template is right");
        Self::Bar(ProgressBar::new(total).with_style(style))
    }

    fn advance(&mut self, message: impl FnOnce() -> String) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(message());
                bar.inc(1);
            }
            Self::Lines { total, is_open, done } => {
                *done += 1;
                if is_line_due(*done, *total) {
                    let of = if *is_open { String::new() } else { format!("/{total}") };
                    // Progress that nobody can see is no reason to stop.
                    drop(writeln!(io::stderr(), "progress   {done}{of} seeds, {}", message()));
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

    const EVENTS: u64 = 200;

    fn swarm(seeds: Range<u64>) -> Swarm {
        Swarm {
            seeds,
            time: None,
            jobs: 3,
            setup: Setup { events: EVENTS, ..Setup::default() },
            how: How::once(EVENTS),
            keep_going: false,
        }
    }

    #[test]
    fn a_sixteenth_of_the_seeds_is_repeated() {
        let (summary, _, ended) = swarm(15..33).run(&AtomicBool::new(false), |_| ());
        assert_eq!((summary.seeds, summary.repeated, ended), (18, 2, Ended::Whole));
    }

    #[test]
    fn the_last_seeds_there_are_end_a_swarm() {
        let seeds = u64::MAX - 2..u64::MAX;
        let (summary, _, ended) = swarm(seeds).run(&AtomicBool::new(false), |_| ());
        assert_eq!((summary.seeds, ended), (2, Ended::Whole));
    }

    #[test]
    fn a_swarm_that_is_stopped_begins_no_other_seed() {
        let (summary, _, ended) = swarm(0..1_000).run(&AtomicBool::new(true), |_| ());
        assert_eq!((summary.seeds, summary.exit_code, ended), (0, 0, Ended::Interrupted));
    }

    #[test]
    fn a_swarm_whose_time_is_over_begins_no_other_seed() {
        let short = Swarm { time: Some(Duration::ZERO), ..swarm(0..u64::MAX) };
        let (summary, _, ended) = short.run(&AtomicBool::new(false), |_| ());
        assert_eq!((summary.seeds, ended), (0, Ended::Time));
    }

    #[test]
    fn the_first_failure_ends_a_swarm_unless_it_keeps_going() {
        let sabotage = crate::sabotage::Sabotage::SyncDoesNothing;
        let broken = Swarm { how: How { sabotage, ..How::once(EVENTS) }, ..swarm(0..40) };
        let stop = AtomicBool::new(false);
        let mut seen = Vec::new();
        let (one, _, ended) = broken
            .run(&stop, |report| seen.push(report.is_some_and(|report| report.failure.is_some())));
        assert_eq!((one.failed, ended), (1, Ended::Failure));
        assert_eq!(seen.iter().position(|&failed| failed), Some(seen.len() - 1), "the last one");

        let (all, _, ended) = Swarm { keep_going: true, ..broken }.run(&stop, |_| ());
        assert_eq!((all.seeds, ended), (40, Ended::Whole));
        assert!(all.failed > 1, "{all}");
    }

    #[test]
    fn progress_comes_in_twentieths_and_at_least_each_250() {
        let lines = |total| (1..=total).filter(|&done| is_line_due(done, total)).count();
        assert_eq!([1, 10, 200, 1_000].map(lines), [1, 10, 20, 20]);
        assert_eq!(lines(100_000), 400);
    }
}
