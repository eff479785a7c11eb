//! Throughput of the protocol alone: committed commands per second of one thread that runs all
//! replicas of a group.

use std::time::Duration;

use benches::{Group, Link, Load};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// One client: every command pays for a whole round of messages.
fn one_at_a_time(criterion: &mut Criterion) {
    for command_bytes in [16, 256, 4096] {
        let load = Load { servers: 3, outstanding: 1, command_bytes, link: Link::Direct };
        measure(criterion, "one", load, 256);
    }
}

/// Many clients: a round of messages carries what arrived during the last one.
fn many_outstanding(criterion: &mut Criterion) {
    for command_bytes in [16, 256, 4096] {
        let load = Load { servers: 3, outstanding: 256, command_bytes, link: Link::Direct };
        measure(criterion, "outstanding256", load, 4096);
    }
}

/// The same with every message encoded and decoded, as between processes.
fn over_the_wire(criterion: &mut Criterion) {
    for (name, outstanding, commands) in [("wire/one", 1, 256), ("wire/outstanding256", 256, 4096)]
    {
        let load = Load { servers: 3, outstanding, command_bytes: 256, link: Link::Wire };
        measure(criterion, name, load, commands);
    }
}

fn measure(criterion: &mut Criterion, name: &str, load: Load, commands: u64) {
    let mut measured = criterion.benchmark_group("commit");
    measured.throughput(Throughput::Elements(commands));
    let mut group = Group::new(load);
    measured.bench_function(format!("{name}/{}B", load.command_bytes), |bencher| {
        bencher.iter(|| group.commit(commands));
    });
    measured.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
}

criterion_group! {
    name = commit;
    config = quick();
    targets = one_at_a_time, many_outstanding, over_the_wire
}
criterion_main!(commit);
