//! `raft-inspect DIR [--json]` prints what a data directory holds, and changes nothing in it.
//!
//! It says what a start would find: identity, hard state, snapshots, segments of the log, and what of
//! them is damaged, torn, or kept twice and needed. Exit status 0: nothing amiss; 1: something is, and
//! a node starts nevertheless; 2: no node can start on this directory, or it cannot be read; 64: wrong
//! arguments; 74: standard output cannot be written.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use raft_replica::file_disk::FileDisk;
use raft_replica::storage::inspect;

const USAGE: &str = "usage: raft-inspect DIR [--json]";
/// No node can start there.
const EXIT_UNFIT: u8 = 2;
/// The arguments name no directory.
const EXIT_USAGE: u8 = 64;
/// What was found could not be told.
const EXIT_IO: u8 = 74;

fn main() -> ExitCode {
    let mut directories = Vec::new();
    let mut is_json = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => is_json = true,
            "--help" | "-h" => return tell(USAGE, 0),
            option if option.starts_with('-') => {
                return refuse(EXIT_USAGE, &format!("{option} is no option; {USAGE}"));
            }
            _ => directories.push(argument),
        }
    }
    let [directory] = directories.as_slice() else { return refuse(EXIT_USAGE, USAGE) };
    let disk = FileDisk::read_only(directory);
    let inspected = disk
        .map_err(|error| error.to_string())
        .and_then(|mut disk| inspect(&mut disk).map_err(|error| error.to_string()));
    match inspected {
        Ok(inspection) => {
            let text = if is_json { inspection.to_json() } else { inspection.to_string() };
            tell(text.trim_end(), u8::from(!inspection.is_clean()))
        }
        Err(error) => refuse(EXIT_UNFIT, &format!("{directory}: {error}")),
    }
}

/// Says it on standard output. A reader that closes a pipe early knows enough.
fn tell(text: &str, code: u8) -> ExitCode {
    let mut out = std::io::stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            refuse(EXIT_IO, &format!("standard output: {error}"))
        }
        Ok(()) | Err(_) => ExitCode::from(code),
    }
}

fn refuse(code: u8, why: &str) -> ExitCode {
    // Who does not listen any more need not be told.
    drop(writeln!(std::io::stderr(), "raft-inspect: {why}"));
    ExitCode::from(code)
}
