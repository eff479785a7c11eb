//! A bare loop of commits, for profilers and instruction counters.
//!
//! `commits SERVERS OUTSTANDING BYTES direct|wire COMMANDS`

use std::process::ExitCode;

use benches::{Group, Link, Load};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((load, commands)) = parse(&arguments) else {
        say("usage: commits SERVERS OUTSTANDING BYTES direct|wire COMMANDS, with SERVERS 1..=64");
        say("and OUTSTANDING 1..=4096, for example: commits 3 1 256 direct 20000");
        return ExitCode::FAILURE;
    };
    let mut group = Group::new(load);
    group.commit(commands);
    say(&format!("{:?}", group.costs()));
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Option<(Load, u64)> {
    let [servers, outstanding, bytes, link, commands] = arguments else { return None };
    let load = Load {
        servers: servers.parse().ok().filter(|servers| (1..=64).contains(servers))?,
        outstanding: outstanding.parse().ok().filter(|count| (1..=4096).contains(count))?,
        command_bytes: bytes.parse().ok().filter(|bytes| *bytes <= 1 << 20)?,
        link: match link.as_str() {
            "direct" => Link::Direct,
            "wire" => Link::Wire,
            _ => return None,
        },
    };
    Some((load, commands.parse().ok()?))
}

#[expect(clippy::print_stderr, reason = "it is a program for the command line")]
fn say(line: &str) {
    eprintln!("{line}");
}
