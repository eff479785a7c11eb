//! What it takes to judge a history: many clients at one key, with and without an order, and very many
//! operations.

use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use raft_sim::linear::generate::{Plan, jsonl};
use raft_sim::linear::{History, Judge, Limits, Verdict, read};
use raft_sim::rng::Ratio;

/// Reads, writes and compare-and-swaps at one register of a few values: what was read tells little.
fn plan(operations: u32, clients: u32, lies: u32) -> Plan {
    Plan {
        operations,
        clients,
        keys: 1,
        values: 5,
        reads: Ratio::new(1, 2),
        swaps: Ratio::new(1, 2),
        deletes: Ratio::new(0, 1),
        unknown: Ratio::new(1, 100),
        lies,
        append: false,
    }
}

fn history(plan: &Plan, seed: u64) -> History {
    read::history(jsonl(plan, seed).as_bytes()).expect("what is made up is a history")
}

fn judge(history: &History) -> Verdict {
    Judge::new().judge(history, Limits::default(), || false)
}

/// The first history that has, or has no order.
fn first(plan: &Plan, has_order: bool) -> History {
    (0..)
        .map(|seed| history(plan, seed))
        .find(|history| matches!(judge(history), Verdict::Linearizable(_)) == has_order)
        .expect("some lies are believed, and some are not")
}

fn verdicts(criterion: &mut Criterion) {
    let mut measured = criterion.benchmark_group("judge");
    measured.sampling_mode(SamplingMode::Flat);
    for (name, operations, clients, lies) in [
        ("of 20 clients", 1_000, 20, 0),
        ("of 20 clients, no order", 1_000, 20, 1),
        ("of 5 clients", 100_000, 5, 0),
        ("of 20 clients", 100_000, 20, 0),
    ] {
        let history = first(&plan(operations, clients, lies), lies == 0);
        measured.throughput(Throughput::Elements(operations.into()));
        let id = BenchmarkId::new(name, operations);
        measured.bench_function(id, |bencher| bencher.iter(|| judge(&history)));
    }
    measured.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
}

criterion_group! {
    name = checker;
    config = quick();
    targets = verdicts
}
criterion_main!(checker);
