//! A bank that is replicated: money moves between accounts, and none may vanish or appear.
//!
//! `cargo run -p raft-sim --example bank -- 1000` runs the seeds below 1000.

use std::io::Write;

use raft_core::Index;
use raft_replica::machine::{Gathered, StateMachine};
use raft_sim::options::Options;
use raft_sim::rng::Draw;
use raft_sim::run::{self, How};
use raft_sim::workload::{Replay, Turn, Workload};

/// The balances of eight accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bank([u64; 8]);

/// What they sum up to.
const TOTAL: u64 = 8 * 100;

impl StateMachine for Bank {
    /// From, to, amount.
    type Command = (usize, usize, u64);
    /// Whether the money was there.
    type Response = bool;
    type Query = ();
    type Answer = [u64; 8];
    type Snapshot = [u64; 8];
    type Error = postcard::Error;
    type Restore = Gathered;

    fn apply(&mut self, _: Index, (from, to, amount): (usize, usize, u64)) -> bool {
        let is_covered = self.0[from] >= amount;
        if is_covered {
            self.0[from] -= amount;
            self.0[to] += amount;
        }
        is_covered
    }

    fn query(&self, (): &()) -> [u64; 8] {
        self.0
    }

    fn snapshot(&self) -> [u64; 8] {
        self.0
    }

    fn encode(balances: &[u64; 8], bytes: &mut Vec<u8>) {
        bytes.extend(postcard::to_allocvec(balances).expect("numbers serialize"));
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), postcard::Error> {
        self.0 = postcard::from_bytes(snapshot)?;
        Ok(())
    }
}

/// Its clients move money about, and its invariant looks after it.
#[derive(Clone, Debug)]
struct Tellers;

impl Workload for Tellers {
    type Machine = Bank;
    type Model = Replay<Bank>;

    fn machine(&self) -> Bank {
        Bank([100; 8])
    }

    fn command(&mut self, _: Turn, draw: &mut Draw) -> (usize, usize, u64) {
        (draw.position(8), draw.position(8), draw.below(60))
    }

    fn query(&mut self, _: Turn, _: &mut Draw) {}

    fn invariant(bank: &Bank) -> Result<(), String> {
        let sum: u64 = bank.0.iter().sum();
        if sum == TOTAL { Ok(()) } else { Err(format!("the bank has {sum} instead of {TOTAL}")) }
    }
}

fn main() -> std::io::Result<()> {
    let seeds = std::env::args().nth(1).map_or(20, |count| count.parse().expect("a number"));
    for seed in 0..seeds {
        let report = run::workload(Tellers, &Options::draw(seed, 2_000), How::once(2_000));
        assert!(report.failure.is_none(), "{report}");
    }
    writeln!(std::io::stdout(), "{seeds} seeds: no money has vanished")
}
