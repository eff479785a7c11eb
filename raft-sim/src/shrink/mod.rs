//! Shrinking: the least run that still breaks the same promise.
//!
//! A failing run of thousands of events is evidence; one of forty is an explanation. Two ways lead
//! from the one to the other, and each finds what the other does not:
//!
//! * *Taking away.* Without a node, a client, a class of faults, a strike, a word: does the rest of
//!   the tape fail all the same? What is left is the run that was found, without what did not
//!   matter.
//! * *Looking again.* With plainer options and other seeds, and no more events than now: does any
//!   small run fail in the same way? Most defects do not need the run in which they were found.
//!
//! A failure that shows only after the faults have ended rarely needs all of them: so there the faults
//! end sooner first, and most strikes go, before anything else is tried on runs that are long.
//!
//! Whatever fails with the same name and is easier to follow is the new best, as it is recorded: what
//! it did not use is gone from its tape.
//!
//! Deliberately absent: any knowledge of why a run fails. A run that fails for another reason under
//! the same name is taken for the same one.

mod draws;
mod options;
mod strikes;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::options::Options;
use crate::report::Report;
use crate::run::{Case, Extent};
use crate::sabotage::Sabotage;
use crate::tape::{Tape, When};
use crate::trace::Trace;
use crate::workload::{KeyValue, Workload};

/// How often everything is tried at most.
const ROUNDS_MAX: usize = 6;

/// With how many seeds a plainer run is looked for, at least and at most, and in how many events. Of runs
/// that go on after the faults, with the fewest: few of their events depend on the seed.
const SEEDS: (u64, u64) = (4, 48);
const SEARCH_EVENTS: u64 = 100_000;

/// How soon the faults end at the soonest, in events.
const CHAOS_EVENTS_MIN: u64 = 16;

/// How large a failing run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Events until it fails.
    pub events: u64,
    /// Nodes.
    pub nodes: usize,
    /// Clients.
    pub clients: usize,
    /// Classes of faults that are on.
    pub faults: usize,
    /// Options that are not as in the plainest run.
    pub options: usize,
    /// Strikes of the nemesis.
    pub strikes: usize,
    /// Other decisions that are not calm.
    pub draws: usize,
}

impl Size {
    /// How hard a run is to follow, in events: a strike or an option costs a reader more than one
    /// event more, and another node costs much.
    fn cost(&self) -> u64 {
        let weighted = [
            (self.nodes, 40),
            (self.clients, 30),
            (self.faults, 20),
            (self.strikes, 8),
            (self.options, 3),
            (self.draws, 2),
        ];
        self.events + weighted.iter().map(|&(count, weight)| count as u64 * weight).sum::<u64>()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, nodes, clients, faults, options, strikes, draws } = self;
        write!(
            f,
            "{events} events, {nodes} nodes, {clients} clients, {faults} classes of faults, "
        )?;
        write!(f, "{strikes} strikes, {draws} draws, {options} options set")
    }
}

/// Options that are counted by themselves.
const COUNTED: [&str; 5] = ["voters", "learners", "spares", "faults", "client.clients"];

/// What came of shrinking.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The least tape that was found.
    pub tape: Tape,
    /// Its run, with the lines before the failure.
    pub report: Report,
    /// How large the run was.
    pub before: Size,
    /// How large it is.
    pub after: Size,
    /// How many runs that took.
    pub tried: u64,
}

/// Looks for the least run that fails as this tape does, until nothing gets smaller or `stop` is
/// set. `tell` hears of each step.
///
/// # Errors
/// The report of the tape if it passes.
pub fn shrink(
    tape: &Tape,
    sabotage: Sabotage,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&str, &Size),
) -> Result<Shrunk, Box<Report>> {
    shrink_workload(&|options| KeyValue::new(options.client), tape, sabotage, stop, tell)
}

/// The same for a workload of your own: `make` gives the one for these options, which may have other
/// clients than those of the tape.
///
/// # Errors
/// The report of the tape if it passes.
pub fn shrink_workload<W: Workload>(
    make: &dyn Fn(&Options) -> W,
    tape: &Tape,
    sabotage: Sabotage,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&str, &Size),
) -> Result<Shrunk, Box<Report>> {
    let mut shrinker = Shrinker::new(make, tape, sabotage, stop, tell)?;
    let before = shrinker.size;
    shrinker.tell("found");
    for round in 0..ROUNDS_MAX {
        // Short runs are looked at closely first, with an eye for what only goes together after that.
        shrinker.is_bold = shrinker.extent == Extent::Whole || round % 2 == 1;
        let last = shrinker.best.clone();
        shrinker.end_the_faults_sooner();
        shrinker.look_for_plainer_options();
        shrinker.take_away_nodes_and_clients();
        shrinker.take_away_strikes();
        shrinker.take_away_draws();
        // What a bold round has not changed, none changes.
        let is_over = shrinker.best == last && shrinker.is_bold;
        if is_over || shrinker.is_stopped() {
            break;
        }
    }
    let report = shrinker.case(&shrinker.best).attempt(Extent::Whole, Trace::last());
    let Shrinker { best, size, tried, .. } = shrinker;
    Ok(Shrunk { tape: best, report, before, after: size, tried })
}

/// The search, and the best that it has found.
struct Shrinker<'a, W> {
    make: &'a dyn Fn(&Options) -> W,
    best: Tape,
    size: Size,
    /// When the strikes of the best came.
    times_us: Vec<u64>,
    /// What is broken.
    id: &'static str,
    /// How much of a run it takes to see it.
    extent: Extent,
    sabotage: Sabotage,
    stop: &'a AtomicBool,
    tell: &'a mut dyn FnMut(&str, &Size),
    tried: u64,
    /// Whether many options are changed at once, where that works.
    is_bold: bool,
}

impl<'a, W: Workload> Shrinker<'a, W> {
    fn new(
        make: &'a dyn Fn(&Options) -> W,
        tape: &Tape,
        sabotage: Sabotage,
        stop: &'a AtomicBool,
        tell: &'a mut dyn FnMut(&str, &Size),
    ) -> Result<Self, Box<Report>> {
        let ((report, mut best), times_us) =
            Case::of_tape(make(&tape.options), tape, sabotage).record(Extent::Whole);
        let Some(failure) = &report.failure else { return Err(Box::new(report)) };
        let id = failure.id();
        // What breaks before the faults end needs no healing.
        let is_early = report.stats.events <= tape.options.events;
        let extent = if is_early { Extent::Chaos } else { Extent::Whole };
        let size = measure(&best, report.stats.events);
        if is_early {
            best.options.events = report.stats.events;
        }
        let (tried, is_bold) = (0, false);
        Ok(Self { make, best, size, times_us, id, extent, sabotage, stop, tell, tried, is_bold })
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn tell(&mut self, what: &str) {
        (self.tell)(what, &self.size);
    }

    /// Takes a tape for the best if it fails in the same way.
    fn attempt(&mut self, tape: Tape) -> bool {
        let Tape { options, strikes, draws } = tape;
        let Some(options) = self.bounded(options) else { return false };
        self.judge(&self.case(&Tape { options, strikes, draws }), true)
    }

    /// Looks for a run with these options and any seed that fails in the same way.
    fn search(&mut self, options: &Options) -> bool {
        let Some(options) = self.bounded(options.clone()) else { return false };
        let most = if self.extent == Extent::Chaos { SEEDS.1 } else { SEEDS.0 };
        let seeds = (SEARCH_EVENTS / self.size.events.max(1)).clamp(SEEDS.0, most);
        (0..seeds).any(|seed| {
            let options = Options { seed, ..options.clone() };
            self.judge(&Case::of_options((self.make)(&options), options, self.sabotage), false)
        })
    }

    /// A run that is plainer may be a little longer than the best.
    fn bounded(&self, mut options: Options) -> Option<Options> {
        if self.extent == Extent::Chaos {
            options.events = self.best.options.events + self.best.options.events / 2 + 20;
        }
        options.check().ok().map(|()| options)
    }

    fn case(&self, tape: &Tape) -> Case<W> {
        Case::of_tape((self.make)(&tape.options), tape, self.sabotage)
    }

    fn judge(&mut self, case: &Case<W>, is_plainer: bool) -> bool {
        if self.is_stopped() {
            return false;
        }
        self.tried += 1;
        let report = case.attempt(self.extent, Trace::off());
        let fails = report.failure.is_some_and(|failure| failure.id() == self.id);
        if !fails || report.stats.events > self.size.cost() {
            return false;
        }
        let ((report, tape), times_us) = case.record(self.extent);
        let size = measure(&tape, report.stats.events);
        // What is no larger may be plainer in a way that has no size.
        let most = self.size.cost() - u64::from(!is_plainer);
        if size.cost() > most {
            return false;
        }
        self.size = size;
        self.best = tape;
        self.times_us = times_us;
        if self.extent == Extent::Chaos {
            self.best.options.events = report.stats.events;
        }
        true
    }

    /// Strikes come at a time rather than after so many events, so that they stay where they are
    /// when something before them is taken away.
    fn pin_strikes(&mut self) {
        let mut tape = self.best.clone();
        let strikes = tape.strikes.iter().copied().zip(&self.times_us).map(|(mut strike, &at)| {
            strike.when = When::Time(at);
            strike
        });
        tape.strikes = strikes.collect::<Vec<_>>().into();
        self.attempt(tape);
    }

    /// Where a failure shows after the faults have ended, they end as soon as may be. Short runs cost
    /// little, so they are tried first.
    fn end_the_faults_sooner(&mut self) {
        if self.extent == Extent::Chaos {
            return;
        }
        let mut events = CHAOS_EVENTS_MIN;
        while events < self.best.options.events && !self.is_stopped() {
            let mut tape = self.best.clone();
            tape.options.events = events;
            if self.attempt(tape) {
                self.tell("the faults end sooner");
                break;
            }
            events *= 2;
        }
        self.take_away_most_strikes();
    }

    /// Takes away as many parts as can be, whole halves first.
    fn sweep(
        &mut self,
        len: impl Fn(&Tape) -> usize,
        without: impl Fn(&Tape, std::ops::Range<usize>) -> Tape,
    ) {
        let mut chunk = len(&self.best);
        while chunk > 0 && !self.is_stopped() {
            let mut from = 0;
            while from < len(&self.best) {
                let to = (from + chunk).min(len(&self.best));
                if !self.attempt(without(&self.best, from..to)) {
                    from = to;
                }
            }
            chunk /= 2;
        }
    }
}

/// How many options are not as in the plainest run, those aside that have a size of their own.
fn not_plain(options: &Options) -> usize {
    let plain = Options { seed: options.seed, events: options.events, ..Options::default() };
    let pairs = options.knobs().into_iter().zip(plain.knobs());
    let is_other = |(one, plain): &((String, String), (String, String))| {
        one != plain && !COUNTED.contains(&one.0.as_str())
    };
    pairs.filter(is_other).count()
}

fn measure(tape: &Tape, events: u64) -> Size {
    Size {
        events,
        nodes: tape.options.nodes(),
        clients: tape.options.client.clients,
        faults: tape.options.faults.iter().count(),
        options: not_plain(&tape.options),
        strikes: tape.strikes.len(),
        draws: tape.draws_len(),
    }
}
