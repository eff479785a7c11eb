//! `raft-sim check`: histories in, verdicts out.
//!
//! Several files are judged one after the other, each for itself; the exit code is the worst of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
#[expect(clippy::disallowed_types, reason = "a person waits only so long")]
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::output::{Output, stop_on_interrupt, tell};
use super::{EXIT_OUTPUT, EXIT_USAGE};
use crate::linear::core::{self, Core};
use crate::linear::explain::counted;
use crate::linear::{History, Judge, Limits, Stopped, Verdict, explain, page, read, validate};

/// There is no order.
const EXIT_VIOLATED: u8 = 2;
/// It is not known whether there is one.
const EXIT_UNKNOWN: u8 = 6;

/// What is judged.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Reads JSON lines (a header {\"format\":\"jepsen-jsonl/1\",\"model\":\"kv-cas\"|\"kv-append\"}, then one event a
line) and the logs of Jepsen tests of one register; the content tells which.

Of a violation it shows a core: answers that contradict each other, none of which can be left out.
To leave one out is to say that its client has heard nothing: an update may then take effect at any
time after it began, also more than once, or never.

Exit codes (of several files, what comes first here): 2 not linearizable, 64 not a history,
74 a file cannot be read or written, 6 unknown, 0 linearizable.")]
pub(super) struct Arguments {
    /// Histories.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Give up on a file after so many seconds; 0: never.
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout: u64,
    /// Let a compare-and-swap that has found another value say nothing.
    #[arg(long)]
    weak: bool,
    /// Write the order of operations that was found (of the last file that has one).
    #[arg(long, value_name = "FILE")]
    witness: Option<PathBuf>,
    /// Write a page that shows the violation (of the first file that has one).
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Judge each file so many times, and tell the least time that it took.
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u32,
}

/// When to give up.
#[expect(clippy::disallowed_types, reason = "a person waits only so long")]
struct Patience<'a> {
    end: Option<Instant>,
    stop: &'a AtomicBool,
}

impl Patience<'_> {
    #[expect(clippy::disallowed_types, reason = "a person waits only so long")]
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.end.is_some_and(|end| Instant::now() >= end)
    }
}

/// Judges, and returns the exit code.
pub(super) fn main(arguments: &Arguments, mut output: Output) -> u8 {
    let stop = stop_on_interrupt("interrupted: no more is found out (once more: end at once)");
    let mut exit_code = 0;
    let mut is_shown = false;
    for file in &arguments.files {
        let code = match load(file) {
            Ok(history) => one(arguments, file, history, stop, &mut is_shown, &mut output),
            Err((line, code)) => {
                tell(line);
                code
            }
        };
        exit_code = worse(exit_code, code);
    }
    if let Some(path) = arguments.html.as_ref().filter(|_| !is_shown) {
        let why = "it would show why a history is not linearizable, and no such reason was found";
        tell(format_args!("{} is not written: {why}", path.display()));
    }
    output.finish(exit_code)
}

fn worse(one: u8, other: u8) -> u8 {
    let rank = |code: u8| match code {
        0 => 0,
        EXIT_UNKNOWN => 1,
        EXIT_OUTPUT => 2,
        EXIT_USAGE => 3,
        _ => 4,
    };
    if rank(other) > rank(one) { other } else { one }
}

/// The history in a file; or a line that says why there is none, and an exit code.
fn load(file: &Path) -> Result<History, (String, u8)> {
    let name = file.display();
    let bytes = fs::read(file)
        .map_err(|error| (format!("error: cannot read {name}: {error}"), EXIT_OUTPUT))?;
    read::history(&bytes).map_err(|malformed| (format!("error: {name}:{malformed}"), EXIT_USAGE))
}

/// One file.
#[expect(clippy::disallowed_types, reason = "a person waits only so long")]
fn one(
    arguments: &Arguments,
    file: &Path,
    mut history: History,
    stop: &AtomicBool,
    is_shown: &mut bool,
    output: &mut Output,
) -> u8 {
    if arguments.weak {
        history.drop_mismatches();
    }
    let end = (arguments.timeout > 0)
        .then(|| Instant::now().checked_add(Duration::from_secs(arguments.timeout)))
        .flatten();
    let patience = Patience { end, stop };
    let verdict = judge(arguments, file, &history, &patience);
    let name = file.display();
    match verdict {
        Verdict::Linearizable(orders) => {
            output.line(format_args!("{name}: linearizable ({})", size(&history)));
            match &arguments.witness {
                Some(path) => write(path, &witness(&history, &orders)),
                None => 0,
            }
        }
        Verdict::Violated { key } => {
            output.line(format_args!("{name}: not linearizable ({})", size(&history)));
            let core = core::find(&history, key, Limits::default(), || patience.is_over());
            let Some(core) = core else {
                output.line("  no time was left to find out why");
                return EXIT_VIOLATED;
            };
            show(&history, &core, output);
            if let Some(path) = arguments.html.as_ref().filter(|_| !*is_shown) {
                *is_shown = true;
                write(path, &page::html(&name.to_string(), &history, &core));
            }
            EXIT_VIOLATED
        }
        Verdict::Unknown { key, why } => {
            let why = match why {
                Stopped::Steps => "time is up",
                Stopped::Memory => "it takes too much memory",
                Stopped::Width => "too many operations are under way at once",
            };
            let key = of_key(&history, key);
            output.line(format_args!("{name}: unknown ({}): {why}{key}", size(&history)));
            EXIT_UNKNOWN
        }
    }
}

/// The verdict; an order is none before it was checked.
#[expect(clippy::disallowed_types, reason = "how long it takes decides nothing")]
fn judge(
    arguments: &Arguments,
    file: &Path,
    history: &History,
    patience: &Patience<'_>,
) -> Verdict {
    let mut judge = Judge::new();
    let limits = Limits { orders: arguments.witness.is_some(), ..Limits::default() };
    let mut again = || {
        let begin = Instant::now();
        (judge.judge(history, limits, || patience.is_over()), begin.elapsed())
    };
    let (mut verdict, mut least) = again();
    for _ in 1..arguments.repeat {
        let (next, spent) = again();
        (verdict, least) = (next, least.min(spent));
    }
    if arguments.repeat > 1 {
        let (us, ns) = (least.as_micros(), least.subsec_nanos() % 1_000);
        tell(format_args!("{}: {us}.{ns:03} us", file.display()));
    }
    if let (Verdict::Linearizable(orders), true) = (&verdict, limits.orders) {
        for (key, order) in (0..).zip(orders) {
            validate(history, key, order).expect("the order that was found is one");
        }
    }
    verdict
}

fn size(history: &History) -> String {
    let keys = history.keys();
    let keys = if keys == 1 { String::new() } else { format!(", {keys} keys") };
    format!("{}{keys}", counted(history.asked(), "operation"))
}

fn of_key(history: &History, key: u32) -> String {
    let name = history.key(key);
    if name.is_empty() { String::new() } else { format!(", key {name}") }
}

/// The core, one operation a line, with the events that begin and end it.
fn show(history: &History, core: &Core, output: &mut Output) {
    output.line(format_args!("  {}", explain::sentence(history, core)));
    let answers = counted(core.operations.len(), "answer");
    let is_minimal = if core.is_minimal { "each is needed" } else { "some may not be needed" };
    let key = of_key(history, core.key);
    output.line(format_args!("  core: {answers}, {is_minimal}{key}"));
    for number in &core.operations {
        let operation = &history.operations()[*number as usize];
        let end = operation.end.map_or("..".to_owned(), |end| end.to_string());
        let what = explain::describe(history, operation);
        let what = what.strip_prefix("the ").unwrap_or(&what);
        output.line(format_args!("    events {:>6} to {end:>6}  {what}", operation.call));
    }
    let stuck = explain::describe(history, &history.operations()[core.stuck as usize]);
    let done = counted(core.longest.len(), "operation");
    let found = if core.is_minimal { "" } else { " that was found" };
    output.line(format_args!("  the longest order{found} has {done}; {stuck} fits nowhere"));
}

/// An order as JSON lines: a key, and its operations by the events that begin them.
fn witness(history: &History, orders: &[Vec<u32>]) -> String {
    let mut text = String::new();
    for (key, order) in (0..).zip(orders) {
        for number in order {
            let operation = &history.operations()[*number as usize];
            let line = json!({
                "key": history.key(key),
                "process": history.process(operation.process),
                "invoke": operation.call,
                "end": operation.end,
                "what": explain::describe(history, operation),
            });
            text.push_str(&line.to_string());
            text.push('\n');
        }
    }
    text
}

fn write(path: &Path, text: &str) -> u8 {
    match fs::write(path, text) {
        Ok(()) => 0,
        Err(error) => {
            tell(format_args!("error: cannot write {}: {error}", path.display()));
            EXIT_OUTPUT
        }
    }
}
