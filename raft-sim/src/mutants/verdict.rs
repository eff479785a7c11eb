//! What came of a mutant, read from what `raft-sim` says.
//!
//! A swarm tells each failing seed in a line of its own, in the order of the seeds: the first one
//! decides, and the rest is not waited for. An exploration says at its end what it has found, and so
//! does a simulator that has looked at itself.

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::child::{self, End, Ended};
use super::plan::Judge;

/// Who says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// What came of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody noticed.
    Survived {
        /// How much was looked at.
        looked: String,
    },
    /// An invariant caught it.
    Killed {
        /// Its short name.
        by: String,
        /// How much was looked at until then.
        after: String,
    },
    /// It failed in a way that says nothing about why: a panic, an end that was not expected, a
    /// process that hangs.
    Weak {
        /// In which way.
        how: String,
        /// How much was looked at until then.
        after: String,
    },
    /// It does not build.
    DoesNotBuild,
    /// Somebody has pressed Ctrl-C.
    Interrupted,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Survived { looked } => write!(f, "survived {looked}"),
            Self::Killed { by, after } => write!(f, "killed by {by} after {after}"),
            Self::Weak { how, after } => write!(f, "{how} (weak) after {after}"),
            Self::DoesNotBuild => f.write_str("does not build"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// Runs the program that was built, and says what came of it and its processor time in
/// milliseconds.
pub(super) fn judge(
    program: &Path,
    judge: &Judge,
    jobs: usize,
    stop: &AtomicBool,
) -> Result<(Verdict, Option<u64>), String> {
    let program = program.to_str().ok_or("the path of the copy is not valid Unicode")?;
    let mut command = child::limited(program);
    command.args(judge.arguments());
    let ended = match judge {
        Judge::Swarm { .. } | Judge::SelfCheck { .. } => {
            command.args(["--jobs", &jobs.to_string()]);
            child::run(&mut command, PATIENCE, stop, |line| {
                failing_seed(line).is_some() || missing(line).is_some()
            })?
        }
        Judge::Explore { .. } => child::run(&mut command, PATIENCE, stop, |_| false)?,
    };
    let verdict = match judge {
        Judge::Swarm { seeds, .. } | Judge::SelfCheck { seeds } => of_swarm(&ended, *seeds),
        Judge::Explore { .. } => of_exploration(&ended),
    };
    Ok((verdict, ended.cpu_ms))
}

fn of_swarm(ended: &Ended, seeds: u64) -> Verdict {
    if let Some((id, what)) = ended.stdout.iter().find_map(|line| missing(line)) {
        let after = format!("{}: {what}", count(seeds, "seed"));
        return Verdict::Killed { by: id.to_owned(), after };
    }
    if let Some((seed, id)) = ended.stdout.iter().find_map(|line| failing_seed(line)) {
        let after = count(seed.saturating_add(1), "seed");
        return if id == "PANIC" {
            Verdict::Weak { how: "panic".to_owned(), after }
        } else {
            Verdict::Killed { by: id.to_owned(), after }
        };
    }
    without_a_finding(ended, count(seeds, "seed"))
}

/// The seed and the short name in `seed 0x2a: PS: ...`.
fn failing_seed(line: &str) -> Option<(u64, &str)> {
    let (seed, rest) = line.strip_prefix("seed 0x")?.split_once(": ")?;
    let (id, _) = rest.split_once(": ")?;
    Some((u64::from_str_radix(seed, 16).ok()?, id))
}

/// The short name in `missing INERT: loss: ...`, and who it is.
fn missing(line: &str) -> Option<(&str, &str)> {
    let (id, rest) = line.strip_prefix("missing ")?.split_once(": ")?;
    let (what, _) = rest.split_once(": ")?;
    Some((id, what))
}

fn of_exploration(ended: &Ended) -> Verdict {
    let states = ended.stdout.iter().rev().find_map(|line| {
        let count = line.strip_prefix("states ")?.trim_start();
        count.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    });
    let after = states.map_or("unknown states".to_owned(), |states| count(states, "state"));
    if let Some((id, depth)) = ended.stdout.iter().find_map(|line| violated(line)) {
        let after = format!("{after}, depth {depth}");
        if id == "PANIC" {
            return Verdict::Weak { how: "panic".to_owned(), after };
        }
        return Verdict::Killed { by: id.to_owned(), after };
    }
    without_a_finding(ended, after)
}

/// The short name and the depth in `violated   ES at depth 9: ...`.
fn violated(line: &str) -> Option<(&str, u64)> {
    let (id, rest) = line.strip_prefix("violated ")?.trim_start().split_once(" at depth ")?;
    let (depth, _) = rest.split_once(':')?;
    Some((id, depth.parse().ok()?))
}

fn without_a_finding(ended: &Ended, after: String) -> Verdict {
    let how = match ended.end {
        End::Code(0) => return Verdict::Survived { looked: after },
        End::Interrupted => return Verdict::Interrupted,
        // Ctrl-C reaches everybody who sits at the terminal.
        End::Code(code) if code == i32::from(super::EXIT_INTERRUPTED) => {
            return Verdict::Interrupted;
        }
        End::Code(101) => "panic".to_owned(),
        End::Code(code) => {
            let last = ended.stderr.back().map_or("", String::as_str);
            format!("exit code {code}: {last}")
        }
        End::Signal => "signal".to_owned(),
        End::Silent | End::Enough => "timeout".to_owned(),
    };
    Verdict::Weak { how, after }
}

fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(end: End, stdout: &[&str]) -> Ended {
        let stdout = stdout.iter().map(|line| (*line).to_owned()).collect();
        let stderr = ["the end".to_owned()].into();
        Ended { end, stdout, stderr, cpu_ms: None }
    }

    #[test]
    fn the_first_failing_seed_of_a_swarm_decides() {
        let lines =
            ["seed 0x2a: PS: PS at n1: predicted a; actual b", "  cargo run", "seed 0x2b: ES: e"];
        let verdict = of_swarm(&ended(End::Enough, &lines), 50);
        assert_eq!(verdict.to_string(), "killed by PS after 43 seeds");
        let inert =
            ["missing INERT: loss: on in 31 runs, injected 7 times, and nothing came of it"];
        let verdict = of_swarm(&ended(End::Enough, &inert), 64);
        assert_eq!(verdict.to_string(), "killed by INERT after 64 seeds: loss");
        let panic = of_swarm(&ended(End::Enough, &["seed 0x0: PANIC: panic: it fell"]), 50);
        assert_eq!(panic.to_string(), "panic (weak) after 1 seed");
    }

    #[test]
    fn an_exploration_tells_invariant_depth_and_states() {
        let lines = ["states     12345", "violated   ES at depth 9: two leaders"];
        let verdict = of_exploration(&ended(End::Code(2), &lines));
        assert_eq!(verdict.to_string(), "killed by ES after 12345 states, depth 9");
        let passed = of_exploration(&ended(End::Code(0), &["states     7, 3 frontier"]));
        assert_eq!(passed.to_string(), "survived 7 states");
    }

    #[test]
    fn an_end_without_a_finding_is_weak_unless_it_is_a_success() {
        let swarm = |end| of_swarm(&ended(end, &["seeds      50: 0 failed"]), 50).to_string();
        assert_eq!(swarm(End::Code(0)), "survived 50 seeds");
        assert_eq!(swarm(End::Code(101)), "panic (weak) after 50 seeds");
        assert_eq!(swarm(End::Code(64)), "exit code 64: the end (weak) after 50 seeds");
        assert_eq!(swarm(End::Signal), "signal (weak) after 50 seeds");
        assert_eq!(swarm(End::Silent), "timeout (weak) after 50 seeds");
        assert_eq!(swarm(End::Code(130)), "interrupted");
        assert_eq!(swarm(End::Interrupted), "interrupted");
    }
}
