//! One seed: run it, and say what came of it.
//!
//! A failing run is repeated with a trace, since nothing is formatted before it is known that
//! somebody will look. If the repetition goes otherwise, that is a failure of its own.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};

use crate::beyond::Outlook;
use crate::failure::Failure;
use crate::fault::Fault;
use crate::options::Options;
use crate::report::{Origin, Report};
use crate::sabotage::Sabotage;
use crate::script::{Scribe, Story};
use crate::tape::{Choices, Tape};
use crate::trace::Trace;
use crate::workload::{KeyValue, Workload};
use crate::world::{Stats, World};

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
    key_value(options, how.sabotage).run(how.twice, trace, again)
}

/// Runs what options describe with a workload of your own: see [`crate::workload`].
#[must_use]
pub fn workload<W: Workload>(workload: W, options: &Options, how: How) -> Report {
    workload_traced(workload, options, how, Trace::off())
}

/// Runs what options describe with a workload of your own, the first time with this trace.
#[must_use]
pub fn workload_traced<W: Workload>(
    workload: W,
    options: &Options,
    how: How,
    trace: Trace,
) -> Report {
    let case = Case::of_options(workload, options.clone(), how.sabotage).from(Origin::Workload);
    case.run(how.twice, trace, |trace| trace)
}

/// The same, recorded: what the options leave to chance, up to a failure.
#[must_use]
pub fn workload_recorded<W: Workload>(
    workload: W,
    options: &Options,
    sabotage: Sabotage,
) -> (Report, Tape) {
    let case = Case::of_options(workload, options.clone(), sabotage).from(Origin::Workload);
    case.record(Extent::Whole).0
}

/// Runs a tape with the workload that it was recorded of, and again if `twice` says so or if it fails; the
/// first time with this trace.
#[must_use]
pub fn workload_replayed<W: Workload>(
    workload: W,
    tape: &Tape,
    twice: bool,
    sabotage: Sabotage,
    trace: Trace,
) -> Report {
    let case = Case::of_tape(workload, tape, sabotage).from(Origin::WorkloadTape);
    case.run(twice, trace, |trace| trace)
}

/// Runs what options describe and records what they leave to chance, up to a failure.
#[must_use]
pub fn record(options: &Options, sabotage: Sabotage) -> (Report, Tape) {
    key_value(options, sabotage).record(Extent::Whole).0
}

/// Runs a tape, and again if `twice` says so or if it fails; the first time with this trace.
#[must_use]
pub fn replay(tape: &Tape, twice: bool, sabotage: Sabotage, trace: Trace) -> Report {
    of_key_values(tape, sabotage).run(twice, trace, |trace| trace)
}

/// Runs a tape until its faults would end.
#[must_use]
pub fn chaos(tape: &Tape) -> Report {
    of_key_values(tape, Sabotage::None).attempt(Extent::Chaos, Trace::off())
}

/// The run of a tape as a script, if a script has as many servers.
#[must_use]
pub fn story(tape: &Tape, sabotage: Sabotage) -> Option<Story> {
    let mut scribe = Some(Box::new(Scribe::new(&tape.options)?));
    let case = of_key_values(tape, sabotage);
    let (_, mut world) =
        case.make(Extent::Whole, Trace::off(), |world| world.scribe = scribe.take());
    world.scribe.take().map(|scribe| scribe.story())
}

/// How much of a run is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// Until the faults would end.
    Chaos,
}

/// What is run: options, who decides about everything else, and what is broken.
#[derive(Debug)]
pub(crate) struct Case<W> {
    workload: W,
    /// What a report says about where it comes from.
    origin: Origin,
    options: Options,
    choices: Choices,
    sabotage: Sabotage,
}

/// The run of these options with the key-value store.
fn key_value(options: &Options, sabotage: Sabotage) -> Case<KeyValue> {
    Case::of_options(KeyValue::new(options.client), options.clone(), sabotage)
}

/// The run of a tape with the key-value store.
fn of_key_values(tape: &Tape, sabotage: Sabotage) -> Case<KeyValue> {
    Case::of_tape(KeyValue::new(tape.options.client), tape, sabotage)
}

impl<W: Workload> Case<W> {
    /// The run of a tape.
    pub(crate) fn of_tape(workload: W, tape: &Tape, sabotage: Sabotage) -> Self {
        let (options, choices) = (tape.options.clone(), Choices::of_tape(tape));
        Self { workload, origin: Origin::Seed, options, choices, sabotage }
    }

    /// The run of the seed of these options.
    pub(crate) fn of_options(workload: W, options: Options, sabotage: Sabotage) -> Self {
        let choices = Choices::of_seed(options.seed);
        Self { workload, origin: Origin::Seed, options, choices, sabotage }
    }

    /// The same, with another word for where it comes from.
    fn from(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    fn run(&self, twice: bool, trace: Trace, again: impl FnOnce(Trace) -> Trace) -> Report {
        let first = self.attempt(Extent::Whole, trace);
        if !twice && first.failure.is_none() {
            return first;
        }
        let trace = if first.failure.is_some() { Trace::last() } else { Trace::off() };
        let second = self.attempt(Extent::Whole, again(trace));
        match difference(&first, &second) {
            None => Report { is_repeated: true, ..second },
            Some(failure) => {
                let third = self.attempt(Extent::Whole, Trace::last());
                Report { failure: Some(failure), is_repeated: true, ..third }
            }
        }
    }

    /// Runs it once; what it uses becomes a tape, with the times of its strikes.
    pub(crate) fn record(&self, extent: Extent) -> ((Report, Tape), Vec<u64>) {
        let (choices, recording) = self.choices.clone().recorded();
        let (workload, options) = (self.workload.clone(), self.options.clone());
        let (origin, sabotage) = (self.origin.clone(), self.sabotage);
        let case = Self { workload, origin, options, choices, sabotage };
        let report = case.attempt(extent, Trace::off());
        let recording = recording.borrow();
        // A tape says how long the faults have really lasted.
        let Stats { chaos_events, events, .. } = report.stats;
        let lasted = if chaos_events > 0 { chaos_events } else { events.max(self.options.events) };
        let tape = recording.tape(&Options { events: lasted, ..self.options.clone() });
        ((report, tape), recording.times_us().to_vec())
    }

    /// Runs it once.
    pub(crate) fn attempt(&self, extent: Extent, trace: Trace) -> Report {
        let (failure, world) = self.make(extent, trace, |_| ());
        let options = &self.options;
        let is_late = matches!(failure, Some(Failure::Liveness(_) | Failure::Unrest(_)));
        let is_shown = is_late && world.trace().is_on();
        let lines = match is_late {
            true => world.trace().lines_since_healed(),
            false => world.trace().lines(),
        };
        Report {
            options: options.clone(),
            failure,
            is_vacuous: is_vacuous(options, &world),
            committed: world.committed(),
            now_us: world.now(),
            digest: world.digest(),
            stats: world.stats().clone(),
            is_repeated: false,
            lines,
            lacking: if is_shown { world.lacking() } else { Vec::new() },
            origin: self.origin.clone(),
        }
    }

    /// Makes a world, prepares it, and runs it.
    fn make(
        &self,
        extent: Extent,
        trace: Trace,
        prepare: impl FnOnce(&mut World<W>),
    ) -> (Option<Failure>, World<W>) {
        let Self { workload, options, choices, sabotage, .. } = self;
        RUNNING.with(|running| running.set(true));
        let mut world = None;
        // A world that has panicked is only looked at: its counters, digest and trace.
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            let (options, choices) = (options.clone(), choices.clone());
            let workload = workload.clone();
            let world = world.insert(World::new(workload, options, choices, *sabotage, trace));
            prepare(world);
            world.run_chaos()?;
            if extent == Extent::Whole { world.run_healed() } else { Ok(()) }
        }));
        RUNNING.with(|running| running.set(false));
        let failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(payload) => Some(Failure::Panic(message(payload.as_ref()) + &place())),
        };
        (failure, world.expect("a world for options that were checked can be made"))
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
    /// Where it panicked.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Where this thread has panicked, as the end of a message.
fn place() -> String {
    PLACE.with(RefCell::take)
}

/// Keeps panics inside a run from being printed where they happen: they are part of its report.
pub fn catch_panics() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !RUNNING.with(Cell::get) {
            return default(info);
        }
        let place = info.location().map(|at| format!(", at {}:{}", at.file(), at.line()));
        PLACE.with(|last| last.replace(place.unwrap_or_default()));
    }));
}

/// Whether the run proves little: no crash, no election, nothing answered while there were faults, no disk
/// at rest, or a class of faults without an effect.
fn is_vacuous<W: Workload>(options: &Options, world: &World<W>) -> bool {
    let stats = world.stats();
    let silent = |fault: Fault| stats.tally.of(fault).1 == 0;
    let is_borne = stats.beyond.as_ref().is_some_and(|one| one.predicted == Outlook::Lives);
    let is_restless = options.rest_after_us > 0 && stats.rests.told == 0;
    let is_calm = stats.crashes == 0 || stats.elections == 0;
    let is_unserved = stats.served == 0;
    is_calm || is_unserved || is_restless || options.faults.iter().any(silent) || is_borne
}

/// What comes of a call, or the message with which it panics. Nothing is printed.
pub(crate) fn quietly<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    // A story is played while a run is made.
    let was_running = RUNNING.with(|running| running.replace(true));
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    RUNNING.with(|running| running.set(was_running));
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
    fn a_run_in_which_nobody_is_served_before_the_faults_end_is_vacuous() {
        let mut runs = (0..16).map(|seed| {
            let options = Options::draw(seed, 2_000);
            let mut world = World::of_options(options.clone());
            assert_eq!(world.run(), Ok(()));
            (options, world)
        });
        let run = runs.find(|(options, world)| !is_vacuous(options, world));
        let (options, mut world) = run.expect("some runs are worth something");
        assert!(world.stats().served > 0, "{options}");
        // What is answered after the faults is demanded of each run.
        world.stats.served = 0;
        assert!(is_vacuous(&options, &world));
    }

    #[test]
    fn a_tape_gives_the_run_of_its_seed() {
        for number in 0..24 {
            let how = How::once(600);
            let options = Options::draw(number, how.events);
            let (report, tape) = record(&options, how.sabotage);
            assert_eq!(report, seed(number, how));
            let text = tape.to_string();
            let read: Tape = text.parse().unwrap();
            assert_eq!(read, tape);
            let again = of_key_values(&read, Sabotage::None);
            let ((replayed, recorded), _) = again.record(Extent::Whole);
            // But for how long its faults were meant to last.
            let planned = report.options.clone();
            assert_eq!(Report { options: planned, ..replayed }, report);
            assert_eq!(recorded, tape, "what is on a tape is used");
        }
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
