//! A cluster of real processes through everything that goes wrong, and a judge of what clients saw.
//!
//! ```text
//! cargo build --release -p raft-kv
//! cargo run --release -p benches --bin kv-chaos -- --minutes 1 --seed 7
//! ```
//!
//! starts raft-kv processes whose connections to each other pass through proxies of this one, lets
//! clients read, write, delete, compare-and-swap and retry, and meanwhile kills nodes (-9), stops
//! and continues them, starts them again, cuts and delays links in either direction or lets them lose
//! everything without a word, hands the leadership over, lets members leave, lose their disks and come back, and flips bits in the files
//! of stopped nodes (of one at a time, until it is whole again: what no disk has any more nobody
//! can heal). Then it heals everything, waits until all servers answer and all of them vote, reads
//! every key at each of them, and judges the history: by what the servers say of their log, and by
//! `raft-sim`'s search for an order, which needs no word of theirs.
//!
//! A third of the reads are by lease, and are judged like the others. A server that ends and was
//! not asked to fails the run, unless its disk was filled or had lost something and it says so; so
//! does a panic in a log, and a broken assumption of the protocol, in a log or in
//! `raft_kv_violations_total`. A run in which too little happened is VACUOUS, which is no success.
//!
//! The seed decides what is drawn, not what happens: processes and networks have a mind of their own.
//! A failing run keeps its directory, with the logs of all servers.
//!
//! `--history FILE` keeps what the clients saw, one event a line, for any other judge: a checker of
//! linearizability needs no word of the servers on where a write took effect.
//!
//! Each server has a small file system of its own where this program may mount one (root may; others run
//! it under `unshare -rm`): disks fill up, to the last byte or nearly, the leader's more often than others',
//! and have room again.
//!
//! Deliberately absent: clocks that jump.

mod clients;
mod cluster;
mod dice;
mod disks;
mod history;
mod judge;
mod moment;
mod nemesis;
mod proxy;
mod rot;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

/// What clients do most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    /// Everything, with faults.
    Chaos,
    /// Everything, without faults.
    Healthy,
    /// Many clients, with faults.
    HighConcurrency,
    /// Nine writes of ten, with faults.
    WriteHeavy,
    /// Nine reads of ten, with faults.
    ReadHeavy,
}

#[derive(Clone, Debug, Parser)]
#[command(
    name = "kv-chaos",
    about = "A cluster of real processes through everything that goes wrong"
)]
pub(crate) struct Options {
    /// How long the faults last
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// What is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many servers
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(3..=7))]
    nodes: u64,
    /// What clients do most
    #[arg(long, value_enum, default_value = "chaos")]
    mix: Mix,
    /// The size of each server's disk, if it can have one of its own; 0: none has
    #[arg(long, value_name = "MIB", default_value_t = 160)]
    disk_mib: u64,
    /// Keep what the clients saw in this file, in the form jepsen-jsonl/1
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// The server's binary; without it, `raft-kv` beside this program
    #[arg(long)]
    program: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(run(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("kv-chaos: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), String> {
    show(&format!("seed {}, {} servers, {:?}", options.seed, options.nodes, options.mix));
    let program = program(options)?;
    let cluster = cluster::Cluster::start(program, options.nodes, options.disk_mib);
    let mut cluster = cluster.await?;
    cluster.all_answer().await?;
    let count = if options.mix == Mix::HighConcurrency { 64 } else { 12 };
    let clients = clients::Clients::start(&cluster.urls(), options, count);
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let mut faults = nemesis::Faults::new();
    let struck = nemesis::strike(&mut cluster, options, end, &clients, &mut faults).await;
    let mut history = Vec::new();
    let verdict = match struck {
        Ok(()) => settle(&mut cluster, clients, &mut history).await,
        Err(error) => {
            history = clients.stop().await;
            Err(error)
        }
    };
    let text = history::jsonl(&history);
    if let Some(file) = &options.history {
        std::fs::write(file, &text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    tell("looking for an order that explains it");
    let verdict = verdict.and_then(|()| judge::explain(&text));
    show(&judge::summary(&history));
    for (fault, count) in &faults {
        show(&format!("  {fault:<12}{count:>6}"));
    }
    if cluster.has_small_disks() {
        let (asked, came_about) = cluster.hand_overs();
        show(&format!("{asked} hand-overs of leaders with little room, {came_about} came about"));
    }
    let struck = (options.mix != Mix::Healthy).then(|| nemesis::effective(&faults));
    let vacuous = judge::is_vacuous(&history, struck, options.minutes);
    match (verdict, vacuous) {
        (Ok(()), None) => {
            show(&format!("PASS  seed {}", options.seed));
            Ok(())
        }
        (Ok(()), Some(what)) => {
            show(&format!("VACUOUS  seed {}: {what}", options.seed));
            Err("the run shows nothing".to_owned())
        }
        (Err(what), _) => {
            show(&format!("FAIL  seed {}: {what}", options.seed));
            let kept = cluster.keep();
            std::fs::write(kept.join("history.jsonl"), text).map_err(|error| error.to_string())?;
            Err(format!("see {}", kept.display()))
        }
    }
}

/// Ends all faults, waits until the cluster is whole, and judges what servers and clients say.
async fn settle(
    cluster: &mut cluster::Cluster,
    clients: clients::Clients,
    history: &mut Vec<clients::Record>,
) -> Result<(), String> {
    tell("healing");
    let healed = cluster.heal().await;
    *history = clients.stop().await;
    healed?;
    cluster.all_vote().await?;
    history.extend(clients::read_all(&cluster.urls(), history.len()).await?);
    cluster.last_words().await?;
    judge::judge(history)
}

fn program(options: &Options) -> Result<PathBuf, String> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("raft-kv"));
    let program = options.program.clone().or_else(beside).unwrap_or_default();
    if program.is_file() {
        return Ok(program);
    }
    Err(format!("{} is missing: cargo build --release -p raft-kv", program.display()))
}

#[expect(clippy::print_stdout, reason = "the verdict is the product")]
fn show(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "what goes on meanwhile")]
fn tell(line: &str) {
    eprintln!("{line}");
}
