//! Arbitrary bytes as the life of a cluster.

use crate::cluster::{Cluster, Life, SERVERS};

/// A longer life is cut: what goes wrong late can go wrong early.
const STEPS_MAX: usize = 600;

/// Three servers live through what the bytes say, and keep the promises of Raft: Election Safety,
/// State Machine Safety, durability before every claim, linearizable reads, one outcome for each
/// request; and, once all faults have ended, progress.
///
/// The first byte chooses the options. Then every two bytes are one event: what, and where. The
/// format is plain on purpose: an engine that changes, drops or repeats bytes changes, drops or
/// repeats events.
///
/// # Panics
/// If a promise is broken.
pub fn step(data: &[u8]) {
    live(data);
}

/// The same, and what has happened: so that a test can tell that a corpus is worth its name.
///
/// # Panics
/// If a promise is broken.
pub fn live(data: &[u8]) -> Life {
    let Some((&options, events)) = data.split_first() else { return Life::default() };
    let mut cluster = Cluster::new(options);
    for event in events.chunks_exact(2).take(STEPS_MAX) {
        happen(&mut cluster, event[0], usize::from(event[1]));
    }
    cluster.heal();
    cluster.life
}

fn happen(cluster: &mut Cluster, what: u8, choice: usize) {
    let (at, rest) = (choice % SERVERS, choice / SERVERS);
    match what % 24 {
        0..=2 => cluster.fire(at),
        3..=7 => cluster.deliver(choice, false),
        8 => cluster.deliver(choice, true),
        9 => cluster.lose(choice),
        10..=12 => cluster.sync(at, 1 + rest % 4),
        13 | 14 => cluster.work(at),
        15 => cluster.propose(at, &[rest % 10]),
        16 => cluster.propose(at, &[rest % 3, 1, rest % 7]),
        17 => cluster.read(at),
        18 => cluster.crash(at, rest % 4, rest / 4 % 8),
        19 => cluster.snapshot(at),
        20 => cluster.settle(Some(at)),
        21 => cluster.settle(None),
        22 => cluster.campaign(at),
        _ if rest % 2 == 0 => cluster.disconnect(at, rest / 2 % SERVERS),
        _ => cluster.fail(at),
    }
}
