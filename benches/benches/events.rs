//! Throughput of the simulator: events per second of one thread, with every disk, fault and
//! invariant that a run has.

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use raft_sim::options::EVENTS_DEFAULT;
use raft_sim::report::Report;
use raft_sim::run::{self, How};

/// Several seeds: what one run costs depends much on the faults that it draws.
const SEEDS: u64 = 8;

/// Runs as the command line makes them.
fn runs(criterion: &mut Criterion) {
    let reports: Vec<Report> = all().collect();
    for report in &reports {
        let (seed, failure) = (report.options.seed, &report.failure);
        assert!(failure.is_none(), "seed {seed} fails, and a failing run measures nothing");
    }
    // A run goes on after its chaos: all of its events count.
    let events = reports.iter().map(|report| report.stats.events).sum();
    let mut measured = criterion.benchmark_group("simulate");
    measured.throughput(Throughput::Elements(events));
    measured.sampling_mode(SamplingMode::Flat);
    measured.bench_function("events", |bencher| bencher.iter(|| all().count()));
    measured.finish();
}

fn all() -> impl Iterator<Item = Report> {
    (0..SEEDS).map(|seed| run::seed(seed, How::once(EVENTS_DEFAULT)))
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5))
        .without_plots()
}

criterion_group! {
    name = simulate;
    config = quick();
    targets = runs
}
criterion_main!(simulate);
