//! One seed: run it, and say what came of it.
//!
//! A failing run is repeated with a trace, since nothing is formatted before it is known that
//! somebody will look. If the repetition goes otherwise, that is a failure of its own.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

use crate::failure::Failure;
use crate::fault::Fault;
use crate::options::Options;
use crate::report::Report;
use crate::sabotage::Sabotage;
use crate::trace::Trace;
use crate::world::World;

/// How a seed is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// How many events the chaos lasts.
    pub events: u64,
    /// Run twice and compare.
    pub twice: bool,
    /// What is broken on purpose.
    pub sabotage: Sabotage,
}

impl How {
    /// Once, silently, with nothing broken.
    #[must_use]
    pub fn once(events: u64) -> Self {
        Self { events, twice: false, sabotage: Sabotage::None }
    }
}

/// Runs a seed.
#[must_use]
pub fn seed(seed: u64, how: How) -> Report {
    traced(seed, how, Trace::off())
}

/// Runs a seed, the first time with this trace.
#[must_use]
pub fn traced(seed: u64, how: How, trace: Trace) -> Report {
    traced_twice(seed, how, trace, |trace| trace)
}

/// Runs a seed, the first time with `trace`, the second time with what `again` makes of its trace.
#[must_use]
pub fn traced_twice(
    seed: u64,
    how: How,
    trace: Trace,
    again: impl FnOnce(Trace) -> Trace,
) -> Report {
    options_twice(&Options::draw(seed, how.events), how, trace, again)
}

/// Runs what options describe, and nothing else of `how` than whether twice and what is broken.
#[must_use]
pub fn options(options: &Options, how: How) -> Report {
    options_twice(options, how, Trace::off(), |trace| trace)
}

/// Runs what options describe, the first time with `trace`, the second time with what `again` makes
/// of its trace.
#[must_use]
pub fn options_twice(
    options: &Options,
    how: How,
    trace: Trace,
    again: impl FnOnce(Trace) -> Trace,
) -> Report {
    let first = attempt(options, how.sabotage, trace);
    if !how.twice && first.failure.is_none() {
        return first;
    }
    let trace = if first.failure.is_some() { Trace::last() } else { Trace::off() };
    let second = attempt(options, how.sabotage, again(trace));
    match difference(&first, &second) {
        None => Report { is_repeated: true, ..second },
        Some(failure) => {
            let third = attempt(options, how.sabotage, Trace::last());
            Report { failure: Some(failure), is_repeated: true, ..third }
        }
    }
}

/// What is wrong if two runs of one seed went otherwise.
fn difference(first: &Report, second: &Report) -> Option<Failure> {
    let is_same = (first.digest, &first.failure) == (second.digest, &second.failure);
    (!is_same).then_some(Failure::Determinism { first: first.digest, second: second.digest })
}

thread_local! {
    /// Whether this thread is inside a run, whose panics are reported as its failure.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics inside a run from being printed where they happen: they are part of its report.
pub fn catch_panics() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !RUNNING.with(Cell::get) {
            default(info);
        }
    }));
}

fn attempt(options: &Options, sabotage: Sabotage, trace: Trace) -> Report {
    RUNNING.with(|running| running.set(true));
    let mut world = None;
    // A world that has panicked is only looked at: its counters, digest and trace.
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        world.insert(World::new(options.clone(), sabotage, trace)).run()
    }));
    RUNNING.with(|running| running.set(false));
    let failure = match result {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(payload) => Some(Failure::Panic(message(payload.as_ref()))),
    };
    let world = world.expect("a world for drawn options can be made");
    Report {
        options: options.clone(),
        failure,
        is_vacuous: is_vacuous(options, &world),
        committed: world.committed(),
        now_us: world.now(),
        digest: world.digest(),
        stats: world.stats().clone(),
        is_repeated: false,
        lines: world.trace().lines(),
    }
}

/// Whether the run proves little: no crash, no election, or a class of faults without an effect.
fn is_vacuous(options: &Options, world: &World) -> bool {
    let stats = world.stats();
    let silent = |fault: Fault| stats.tally.of(fault).1 == 0;
    stats.crashes == 0 || stats.elections == 0 || options.faults.iter().any(silent)
}

/// What comes of a call, or the message with which it panics. Nothing is printed.
pub(crate) fn quietly<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    RUNNING.with(|running| running.set(true));
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    RUNNING.with(|running| running.set(false));
    result.map_err(|payload| message(payload.as_ref()))
}

/// The text of a panic.
pub(crate) fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_digest_or_another_end_is_a_failure_of_determinism() {
        let how = How::once(200);
        let (one, two) = (seed(1, how), seed(1, how));
        assert_eq!(difference(&one, &two), None);

        let digest = two.digest + 1;
        let failure = difference(&one, &Report { digest, ..two.clone() }).unwrap();
        assert_eq!(failure, Failure::Determinism { first: one.digest, second: digest });
        assert_eq!(failure.exit_code(), 4);

        let failed = Report { failure: Some(Failure::Panic("once".to_owned())), ..two };
        assert_eq!(difference(&one, &failed).unwrap().exit_code(), 4);
    }

    #[test]
    fn a_run_is_repeated_when_that_is_asked_for() {
        let how = How::once(200);
        assert!(!seed(1, how).is_repeated);
        let twice = seed(1, How { twice: true, ..how });
        assert!(twice.is_repeated);
        assert_eq!(Report { is_repeated: false, ..twice }, seed(1, how));
    }
}
