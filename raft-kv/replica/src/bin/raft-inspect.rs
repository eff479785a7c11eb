//! `raft-inspect DIR [--json]` prints what a data directory holds, and changes nothing in it.
//!
//! It says what a start would find: identity, hard state, snapshots, segments of the log, and what of
//! them is damaged, torn, or kept twice and needed. Exit status 0: nothing amiss; 1: something is, and
//! a node starts nevertheless; 2: no node can start on this directory, or it cannot be read.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use raft_replica::file_disk::FileDisk;
use raft_replica::storage::inspect;

const USAGE: &str = "usage: raft-inspect DIR [--json]";

fn main() -> ExitCode {
    let mut directories = Vec::new();
    let mut is_json = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => is_json = true,
            "--help" | "-h" => {
                say(&mut std::io::stdout(), USAGE);
                return ExitCode::SUCCESS;
            }
            option if option.starts_with('-') => {
                return refuse(&format!("{option} is no option; {USAGE}"));
            }
            _ => directories.push(argument),
        }
    }
    let [directory] = directories.as_slice() else { return refuse(USAGE) };
    let disk = FileDisk::read_only(directory);
    let inspected = disk
        .map_err(|error| error.to_string())
        .and_then(|mut disk| inspect(&mut disk).map_err(|error| error.to_string()));
    match inspected {
        Ok(inspection) => {
            let text = if is_json { inspection.to_json() } else { inspection.to_string() };
            say(&mut std::io::stdout(), text.trim_end());
            ExitCode::from(u8::from(!inspection.report.is_clean()))
        }
        Err(error) => refuse(&format!("{directory}: {error}")),
    }
}

fn refuse(why: &str) -> ExitCode {
    say(&mut std::io::stderr(), &format!("raft-inspect: {why}"));
    ExitCode::from(2)
}

/// Who does not listen any more need not be told.
fn say(to: &mut impl Write, text: &str) {
    drop(writeln!(to, "{text}"));
}
