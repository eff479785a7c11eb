//! One exploration in a process of its own.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::list::Figures;
use crate::mutants::child::{self, End};

/// Every few seconds it tells how far it is.
const PATIENCE: Duration = Duration::from_secs(600);

/// What an exploration has found, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) figures: Figures,
    pub(super) cpu_ms: u64,
    pub(super) mib: u64,
}

/// Explores with these arguments, with one thread.
///
/// # Errors
/// What it says if it is not complete.
pub(super) fn explore(root: &Path, arguments: &str, stop: &AtomicBool) -> Result<Measured, String> {
    let program = std::env::current_exe().map_err(|error| format!("who am I? {error}"))?;
    let mut explore = Command::new(program);
    explore.current_dir(root).arg("explore").args(arguments.split_whitespace());
    explore.args(["--jobs", "1"]);
    let ended = child::run(&mut explore, PATIENCE, stop, |_| false)?;
    let said = ended.stdout.join("\n");
    let told: Vec<String> = ended.stderr.into();
    if ended.end != End::Code(0) {
        let last = told.last().map(String::as_str).unwrap_or_default();
        return Err(format!("it ends with {:?}\n{said}\n{last}", ended.end));
    }
    read(&said, &told.join("\n")).ok_or_else(|| format!("nobody understands what it says:\n{said}"))
}

/// Reads a report, and the last line about its speed.
fn read(said: &str, told: &str) -> Option<Measured> {
    let number = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let figures = Figures {
        states: number("states ")?,
        transitions: number("transitions ")?,
        depth: number("depth ")?,
        landmarks: number("landmarks ")?,
    };
    let speed = told.lines().rev().find(|line| line.starts_with("speed "))?;
    let part = |unit: &str| {
        let part = speed.split(", ").find_map(|part| part.strip_suffix(unit))?;
        part.parse().ok()
    };
    Some(Measured { figures, cpu_ms: part(" ms of processor time")?, mib: part(" MiB in all")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let said = "verdict    complete: every state keeps every promise\nbounds     --nodes 3\n\
                    states     860354\ntransitions 4593828\ndepth      42\nfrontier   0\n\
                    landmarks  24 of 24 reached\n";
        let told = "speed      860354 states, 1/s, depth 42, frontier 0, 47 MiB, 6.7s, 123 per \
                    CPU-second, 6712 ms of processor time, 235 MiB in all\n";
        let figures = Figures { states: 860_354, transitions: 4_593_828, depth: 42, landmarks: 24 };
        assert_eq!(read(said, told), Some(Measured { figures, cpu_ms: 6_712, mib: 235 }));
        assert_eq!(read(said, ""), None);
        assert_eq!(read("", told), None);
    }
}
