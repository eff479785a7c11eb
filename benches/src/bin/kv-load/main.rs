//! How fast a cluster of raft-kv serves: closed loop, so many clients, one request at a time each.
//!
//! ```text
//! raft-kv cluster start
//! cargo run --release -p benches --bin kv-load -- --operation put --clients 1,16,64,256
//! ```
//!
//! With `--etcd` the same is asked of a cluster of etcd, in turns: each cell of the table is measured
//! here, then there, as often as `--rounds` says, and the ratio stands below. raft-kv/docs/performance.md
//! has the command lines, and what they showed.
//!
//! Every client keeps one connection. Latencies are kept one by one and sorted, so the percentiles are
//! exact. The servers' processor time is read from `/proc` where their process numbers are given: what
//! a request costs says more than how many fit into a machine that also runs the clients.
//!
//! Deliberately absent: an open loop (a fixed rate).

mod connection;
mod etcd;
mod measure;
mod system;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use measure::Measured;
use system::System;

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    /// Write a value.
    Put,
    /// Read linearizably.
    Read,
    /// Read what the server has.
    Stale,
    /// One write, nine linearizable reads.
    Mixed,
}

/// Whom the clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// The leader.
    Leader,
    /// All servers, evenly.
    All,
}

#[derive(Clone, Debug, Parser)]
#[command(name = "kv-load", about = "Measures a running cluster of raft-kv, or of etcd beside it")]
pub(crate) struct Options {
    /// Addresses of the servers for clients
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003"
    )]
    pub(crate) endpoints: Vec<String>,
    /// What the clients do
    #[arg(long, value_enum, value_delimiter = ',', default_value = "put")]
    pub(crate) operation: Vec<Operation>,
    /// How many clients; several numbers are measured one after the other
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    pub(crate) clients: Vec<usize>,
    /// Whom they ask
    #[arg(long, value_enum, default_value = "leader")]
    pub(crate) target: Target,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// How long it runs before that, in seconds
    #[arg(long, default_value_t = 1)]
    pub(crate) warm_up: u64,
    /// The bytes of a value
    #[arg(long, default_value_t = 256)]
    pub(crate) value_bytes: usize,
    /// How many keys there are
    #[arg(long, default_value_t = 10_000)]
    pub(crate) keys: u64,
    /// The servers' processes, whose processor time is read
    #[arg(long, value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// Addresses of the servers of an etcd cluster, to be measured in turns
    #[arg(long, value_delimiter = ',')]
    pub(crate) etcd: Vec<String>,
    /// Its processes
    #[arg(long, value_delimiter = ',', requires = "etcd")]
    pub(crate) etcd_pids: Vec<u32>,
    /// How often every measurement is made
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(measure_all(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("kv-load: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn measure_all(options: &Options) -> Result<(), String> {
    show(&measure::HEAD);
    let systems = System::all(options);
    for operation in &options.operation {
        for clients in &options.clients {
            let mut found: Vec<Measured> = systems.iter().map(|_| Measured::default()).collect();
            for round in 1..=options.rounds {
                for (system, found) in systems.iter().zip(&mut found) {
                    tell(&format!(
                        "{}: {operation:?}, {clients} clients, round {round}, {} s",
                        system.name,
                        options.seconds + options.warm_up
                    ));
                    let endpoints = match options.target {
                        Target::All => system.endpoints.clone(),
                        Target::Leader => vec![system.leader().await?],
                    };
                    let more =
                        measure::run(options, system, *operation, *clients, &endpoints).await?;
                    found.merge(more);
                }
            }
            for (system, found) in systems.iter().zip(&mut found) {
                show(&found.row(system.name, *operation, *clients));
            }
            if let [ours, theirs] = &found[..] {
                show(&ours.ratios(theirs));
            }
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is the product")]
fn show(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "what goes on meanwhile")]
fn tell(line: &str) {
    eprintln!("{line}");
}
