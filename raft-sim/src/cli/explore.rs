//! `raft-sim explore`: bounds in, a report out.

use std::cell::Cell;
use std::fs;
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
#[expect(clippy::disallowed_types, reason = "the speed of an exploration decides nothing")]
use std::time::Instant;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use indicatif::{ProgressBar, ProgressStyle};

use super::output::{Output, stop_on_interrupt, tell};
use super::{EXIT_INTERRUPTED, EXIT_OUTPUT, EXIT_USAGE};
use crate::explore::{self, ANY_NUMBER, Bounds, PANIC, Progress, Report, Verdict};
use crate::processor;

/// An invariant is violated.
const EXIT_VIOLATED: u8 = 2;
/// The product has panicked.
const EXIT_PANICKED: u8 = 101;
/// The exploration is complete and has not reached what its bounds demand.
const EXIT_VACUOUS: u8 = 3;

/// Seconds between two lines of progress where nobody can see a line change.
const LINE_SECONDS: u64 = 10;

/// What an exploration may do.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// Voters that found the cluster.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = within(1, 5))]
    nodes: u8,
    /// Learners that found it too.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0, 2))]
    learners: u8,
    /// No server goes beyond this term.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = within(1, 9))]
    terms: u8,
    /// Commands that clients propose.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(0, 9))]
    entries: u8,
    /// Crashes, each with every possible loss of what was not durable.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(0, 9))]
    crashes: u8,
    /// Linearizable reads.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0, 9))]
    reads: u8,
    /// Followers and learners are asked for reads too, and forward them to their leader.
    #[arg(long)]
    forward: bool,
    /// Crashes, among those of --crashes, after which one entry that was durable is damaged, or the
    /// snapshot that the log begins with.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0, 9))]
    damages: u8,
    /// Entries are damaged while servers run, too, among those of --damages, and found at once.
    #[arg(long)]
    rot: bool,
    /// Crashes, among those of --crashes, after which the end of the log is gone.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0, 9))]
    lost_tails: u8,
    /// Let disks lose more than the group can bear: then only safety is asked for.
    #[arg(long)]
    beyond: bool,
    /// Leadership transfers.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0, 9))]
    transfers: u8,
    /// Membership changes: the first learner takes the place of the last voter, or, without
    /// learners, the last voter is removed.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0, 9))]
    changes: u8,
    /// Snapshots that servers take.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0, 9))]
    snapshots: u8,
    /// How often the timers of a leader fire in one term, or `any`.
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse_count)]
    heartbeats: u8,
    /// How often a server may campaign within one term (more than once only with --pre-vote).
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = within(1, 9))]
    attempts: u8,
    /// How many servers' timers begin a campaign, all in all, after --from [default: any number].
    #[arg(long, value_name = "N", requires = "from", value_parser = within(0, 9))]
    campaigns: Option<u8>,
    /// Servers ask before they campaign.
    #[arg(long)]
    pre_vote: bool,
    /// Leaders step down without a quorum, and followers stick to a leader that they hear.
    #[arg(long)]
    check_quorum: bool,
    /// Leaders answer reads by lease, by clocks of which some run twice as fast as others.
    #[arg(long)]
    leases: bool,
    /// Keep messages that nothing can react to any more.
    #[arg(long)]
    no_collect: bool,
    /// Explore a state although another one has the same servers and more messages.
    #[arg(long)]
    no_subsume: bool,
    /// Let terms and votes be written as slowly after the last crash, and where --campaigns are counted,
    /// as before it.
    #[arg(long)]
    no_hurry: bool,
    /// Let candidates hear votes in one go, up to one that decides something: where many of many voters
    /// may campaign there are far fewer states.
    #[arg(long)]
    gather: bool,
    /// Tell servers apart that differ in nothing but their names.
    #[arg(long)]
    no_symmetry: bool,
    /// How many threads [default: one per processor]. The report does not depend on it.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Start where this script ends, instead of from a cluster that was just founded.
    #[arg(long, value_name = "SCRIPT")]
    from: Option<PathBuf>,
    /// Where to write the trace of a violation.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Stop when the visited states take more memory than this: bytes, or with K, M or G.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory_max: Option<usize>,
}

fn within(least: u64, most: u64) -> RangedU64ValueParser<u8> {
    RangedU64ValueParser::new().range(least..=most)
}

impl Arguments {
    /// The bounds that they mean.
    ///
    /// # Errors
    /// A sentence, if they contradict each other.
    fn bounds(&self) -> Result<Bounds, &'static str> {
        if self.transfers > 0 && self.nodes == 1 {
            return Err("--transfers needs a voter to hand over to: at least --nodes 2");
        }
        if self.changes > 0 && self.nodes == 1 && self.learners == 0 {
            return Err("--changes would remove the only voter: give --nodes 2 or --learners 1");
        }
        if self.check_quorum && self.nodes == 1 {
            return Err("--check-quorum means nothing to a single voter: give --nodes 2");
        }
        let damages = if self.rot { 0 } else { self.damages };
        if damages.max(self.lost_tails) > self.crashes {
            return Err("what a disk has lost is found at a restart: give as many --crashes");
        }
        if self.rot && self.damages == 0 {
            return Err("--rot is about --damages");
        }
        if self.leases && (self.pre_vote || self.check_quorum || self.damages + self.lost_tails > 0)
        {
            return Err("--leases goes without --pre-vote, --check-quorum and lossy disks");
        }
        if self.leases && self.heartbeats == ANY_NUMBER {
            return Err("each heartbeat asks for a new lease: give a number of --heartbeats");
        }
        if self.forward && (self.leases || self.reads == 0) {
            return Err("--forward is about --reads, without --leases");
        }
        Ok(Bounds {
            nodes: self.nodes,
            learners: self.learners,
            terms: self.terms,
            entries: self.entries,
            crashes: self.crashes,
            damages: self.damages,
            rot: self.rot,
            lost_tails: self.lost_tails,
            beyond: self.beyond,
            reads: self.reads,
            forward: self.forward,
            transfers: self.transfers,
            changes: self.changes,
            snapshots: self.snapshots,
            pre_vote: self.pre_vote,
            check_quorum: self.check_quorum,
            leases: self.leases,
            attempts: self.attempts,
            campaigns: self.campaigns,
            heartbeats: self.heartbeats,
            symmetry: !self.no_symmetry,
            collect: !self.no_collect,
            subsume: !self.no_subsume,
            hurry: !self.no_hurry,
            gather: self.gather,
        })
    }
}

/// Explores, and returns the exit code.
pub(super) fn main(arguments: &Arguments, mut output: Output) -> u8 {
    let bounds = match arguments.bounds() {
        Ok(bounds) => bounds,
        Err(line) => {
            tell(format_args!("error: {line} (see --help)"));
            return EXIT_USAGE;
        }
    };
    let stop = stop_on_interrupt("interrupted: the report comes soon (once more: end at once)");
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok());
    let watch = Watch::new();
    let is_full = Cell::new(false);
    let jobs = jobs.map_or(1, NonZeroUsize::get);
    let look = |progress: &Progress| {
        watch.look(progress);
        if arguments.memory_max.is_some_and(|most| progress.bytes > most) {
            is_full.set(true);
            stop.store(true, Ordering::Relaxed);
        }
    };
    let report = match &arguments.from {
        None => explore::run(&bounds, jobs, stop, look),
        Some(path) => match from_script(path, &bounds, jobs, stop, look) {
            Ok(report) => report,
            Err((exit_code, line)) => {
                tell(format_args!("error: {line}"));
                return exit_code;
            }
        },
    };
    watch.finish(&report.progress());
    if is_full.get() {
        tell("stopped: the visited states have reached --memory-max");
    }
    output.line(&report);
    if let Some(path) = &arguments.trace {
        write_trace(path, report.verdict());
    }
    output.finish(exit_code(&report))
}

/// Writes the trace of a violation, if there is one.
fn write_trace(path: &Path, verdict: &Verdict) {
    let Verdict::Violated { trace, .. } = verdict else { return };
    if let Err(error) = fs::write(path, trace) {
        tell(format_args!("error: cannot write {}: {error}", path.display()));
    }
}

fn from_script(
    path: &Path,
    bounds: &Bounds,
    jobs: usize,
    stop: &AtomicBool,
    look: impl FnMut(&Progress),
) -> Result<Report, (u8, String)> {
    let name = path.display().to_string();
    let script = fs::read_to_string(path)
        .map_err(|error| (EXIT_OUTPUT, format!("cannot read {name}: {error}")))?;
    explore::run_from(&name, &script, bounds, jobs, stop, look)
        .map_err(|error| (EXIT_USAGE, format!("{name}: {error}")))
}

fn exit_code(report: &Report) -> u8 {
    match report.verdict() {
        Verdict::Violated { broken, .. } => exit_code_of(broken.id),
        Verdict::Stopped => EXIT_INTERRUPTED,
        Verdict::Complete if report.is_vacuous() => EXIT_VACUOUS,
        Verdict::Complete => 0,
    }
}

/// The exit code for a promise that is broken.
fn exit_code_of(id: &str) -> u8 {
    if id == PANIC { EXIT_PANICKED } else { EXIT_VIOLATED }
}

/// What is seen of an exploration while it runs, on standard error.
#[expect(clippy::disallowed_types, reason = "the speed of an exploration decides nothing")]
struct Watch {
    start: Instant,
    /// Processor time at the beginning, in microseconds.
    start_us: u64,
    /// On a terminal.
    bar: Option<ProgressBar>,
    /// Elsewhere: when the last line was told, in units of [`LINE_SECONDS`].
    told: Cell<Option<u64>>,
}

impl Watch {
    #[expect(clippy::disallowed_types, reason = "the speed of an exploration decides nothing")]
    fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let bar = ProgressBar::new_spinner();
            bar.set_style(style.expect("the template is right"));
            bar
        });
        Self {
            start: Instant::now(),
            start_us: processor::of_process_us(),
            bar,
            told: Cell::new(None),
        }
    }

    fn look(&self, progress: &Progress) {
        match &self.bar {
            Some(bar) => {
                // A bar is not drawn more often than a person can read.
                bar.set_message(self.line(progress));
                bar.tick();
            }
            None => {
                let due = Some(self.start.elapsed().as_secs() / LINE_SECONDS);
                if due > self.told.replace(due) {
                    tell(format_args!("progress   {}", self.line(progress)));
                }
            }
        }
    }

    fn finish(self, progress: &Progress) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let spent_us = processor::of_process_us().saturating_sub(self.start_us).max(1);
        let rate = u128::from(progress.states as u64) * 1_000_000 / u128::from(spent_us);
        let (line, ms, mib) = (self.line(progress), spent_us / 1_000, processor::memory_max_mib());
        tell(format_args!(
            "speed      {line}, {rate} per CPU-second, {ms} ms of processor time, {mib} MiB in all"
        ));
    }

    fn line(&self, progress: &Progress) -> String {
        let Progress { states, depth, frontier, bytes, .. } = progress;
        let elapsed_ms = self.start.elapsed().as_millis().max(1);
        let rate = *states as u128 * 1_000 / elapsed_ms;
        let (s, ms) = (elapsed_ms / 1_000, elapsed_ms % 1_000);
        let mib = bytes >> 20;
        format!(
            "{states} states, {rate}/s, depth {depth}, frontier {frontier}, {mib} MiB, {s}.{ms:03}s"
        )
    }
}

/// Reads a small number, or `any`.
///
/// # Errors
/// A sentence that says what it looks like.
fn parse_count(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().filter(|number| *number <= 9);
    let any = (text == "any").then_some(ANY_NUMBER);
    any.or(number).ok_or_else(|| "it is a number up to 9, or `any`".to_owned())
}

/// Reads a number of bytes.
///
/// # Errors
/// A sentence that says what it looks like.
fn parse_bytes(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'K')) => (&text[..at], 10),
        Some((at, 'M')) => (&text[..at], 20),
        Some((at, 'G')) => (&text[..at], 30),
        Some(_) | None => (text, 0),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = is_number.then(|| digits.parse::<usize>().ok()).flatten();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "an amount of memory is a number of bytes, or of K, M or G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::facts::Fact;
    use crate::explore::facts::forbidden::forbid;

    #[test]
    fn the_usual_bounds_are_those_of_the_library() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let line: Line = clap::Parser::try_parse_from(["explore"]).expect("nothing is required");
        assert_eq!(line.arguments.bounds(), Ok(Bounds::default()));
    }

    #[test]
    fn amounts_of_memory_have_units() {
        assert_eq!(parse_bytes("512"), Ok(512));
        assert_eq!(parse_bytes("8G"), Ok(8 << 30));
        for bad in ["", "G", "-1", "+1", "0", "1.5G", "8GB", "99999999999999999999", "99999999999G"]
        {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_small_or_any() {
        let read = ["0", "9", "any"].map(parse_count);
        assert_eq!(read, [Ok(0), Ok(9), Ok(ANY_NUMBER)]);
        for bad in ["", "10", "-1", "255", "ANY"] {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_trace_of_a_violation_is_written_and_no_other() {
        let path = std::env::temp_dir().join(format!("raft-sim-explore-{}", std::process::id()));
        write_trace(&path, &Verdict::Complete);
        assert!(!path.exists());
        forbid(|fact, _| *fact == Fact::Leads);
        let bounds = Bounds { nodes: 2, terms: 1, entries: 0, crashes: 0, ..Bounds::default() };
        let report = explore::run(&bounds, 1, &AtomicBool::new(false), |_| ());
        assert_eq!(exit_code(&report), EXIT_VIOLATED);
        write_trace(&path, report.verdict());
        let written = fs::read_to_string(&path).expect("it was written");
        fs::remove_file(&path).expect("it is there");
        let Verdict::Violated { trace, .. } = report.verdict() else { panic!("{report}") };
        assert!(written == *trace && !written.is_empty());
    }

    #[test]
    fn a_panic_has_an_exit_code_of_its_own() {
        assert_eq!(exit_code_of(PANIC), 101);
        assert_eq!(exit_code_of("ES"), 2);
    }
}
