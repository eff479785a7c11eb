//! The command line. Without a verb it is a server; every verb is a client or an offline tool.

#[cfg(feature = "tls")]
mod certs;
mod cluster;
mod readmit;
mod recover;
mod serve;
mod verbs;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// What a run comes to, beside success: the command line makes no sense.
const USAGE: u8 = 64;

#[derive(Parser, Debug)]
#[command(
    name = "raft-kv",
    version,
    about = "A replicated key-value store. Without a verb: a server.",
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(flatten)]
    serve: serve::Serve,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    #[command(flatten)]
    Client(verbs::Verb),
    /// Make an authority and certificates for trying things out
    #[cfg(feature = "tls")]
    Certs(certs::Certs),
    /// Run a whole cluster on this machine
    Cluster(cluster::Cluster),
    /// Give a directory that has lost its hard state or identity a new lineage
    Readmit(readmit::Readmit),
    /// Make a directory a cluster of one, when the quorum is lost for good
    Recover(recover::Recover),
}

/// Runs what the command line says.
pub(crate) fn main() -> ExitCode {
    let parsed = Cli::command()
        .try_get_matches()
        .and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Nobody is left to be told that standard error is closed.
            drop(error.print());
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match cli.verb {
        None => serve::run(cli.serve.preferring_flags(&matches)),
        Some(Verb::Client(verb)) => verbs::run(verb),
        #[cfg(feature = "tls")]
        Some(Verb::Certs(certs)) => certs::run(&certs),
        Some(Verb::Cluster(cluster)) => cluster::run(cluster),
        Some(Verb::Readmit(readmit)) => readmit::run(&readmit),
        Some(Verb::Recover(recover)) => recover::run(&recover),
    }
}

/// One line for people.
#[expect(clippy::print_stderr, reason = "what the command line has to say")]
fn complain(what: impl std::fmt::Display) {
    eprintln!("raft-kv: {what}");
}
