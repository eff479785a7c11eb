//! Bytes as a choice tape: whole servers, with their storage, clients, and whatever strikes them.
//!
//! The other targets know the core alone. Here a simulated cluster runs for a few hundred events, and
//! the bytes decide what the seed of a run decides: five say how the cluster is set up, and each
//! record of eight that follows is a strike or one word of one draw. Everything else is calm. After
//! every event all that must never happen is checked.
//!
//! Deliberately absent: the last phase of a run, which asks whether the healed cluster lives.
//! Networks and disks that are as slow as words can make them keep any cluster from that.

use std::collections::BTreeMap;
use std::rc::Rc;

use raft_sim::fault::Fault;
use raft_sim::nemesis::STRIKING;
use raft_sim::options::{DelayLaw, Options};
use raft_sim::report::Report;
use raft_sim::rng::{CALM, Purpose, Ratio};
use raft_sim::run;
use raft_sim::tape::{Planned, Tape, When};

/// How many events a run has.
const EVENTS: u64 = 400;

/// How many bytes are one choice.
const RECORD: usize = 8;

/// What a record can decide a word of.
const PURPOSES: [Purpose; 6] = [
    Purpose::Link,
    Purpose::Client,
    Purpose::DiskCrash,
    Purpose::DiskLatency,
    Purpose::Schedule,
    Purpose::Operator,
];

/// Runs a tape.
///
/// # Panics
/// If the run breaks an invariant, or the tape is not read as it is written.
pub fn tape(data: &[u8]) {
    let report = tape_run(data);
    assert!(report.failure.is_none(), "{report}");
}

/// Runs a tape and says what came of it.
///
/// # Panics
/// If the tape is not read as it is written.
#[must_use]
pub fn tape_run(data: &[u8]) -> Report {
    let tape = of_bytes(data);
    let read = tape.to_string().parse::<Tape>();
    assert_eq!(read.as_ref(), Ok(&tape), "a tape is read as it is written");
    run::chaos(&tape)
}

fn of_bytes(data: &[u8]) -> Tape {
    let (head, records) = data.split_at(data.len().min(5));
    let at = |at: usize| head.get(at).copied().unwrap_or_default();
    let mut tape = Tape::calm(options([at(0), at(1), at(2), at(3), at(4)]));
    let mut strikes = Vec::new();
    let mut draws: BTreeMap<_, BTreeMap<u64, [u64; 8]>> = BTreeMap::new();
    for record in records.chunks_exact(RECORD) {
        let record: [u8; RECORD] = record.try_into().expect("a chunk has its size");
        if record[0] < 64 {
            strikes.extend(strike(record, &tape.options));
            continue;
        }
        let [purpose, entity, life, number, word, high, low] =
            [1, 2, 3, 4, 5, 6, 7].map(|at| record[at]);
        let purpose = PURPOSES[usize::from(purpose) % PURPOSES.len()];
        let nodes = tape.options.nodes() as u64;
        let entity = match purpose {
            Purpose::Link => u64::from(entity) % (nodes * nodes),
            Purpose::DiskCrash => ((u64::from(entity) % nodes) << 32) | u64::from(life % 8),
            Purpose::Options
            | Purpose::DiskLatency
            | Purpose::Client
            | Purpose::Nemesis
            | Purpose::Schedule
            | Purpose::Lineage
            | Purpose::Operator
            | Purpose::Node
            | Purpose::History => u64::from(entity % 8),
        };
        let words = draws.entry((purpose, entity)).or_default().entry(number.into());
        let word = usize::from(word % 8);
        words.or_insert([CALM; 8])[word] = u64::from(u16::from_be_bytes([high, low])) << 48;
    }
    strikes.sort_by_key(|strike: &Planned| match strike.when {
        When::Event(at) | When::Time(at) => at,
    });
    tape.strikes = Rc::new(strikes);
    tape.draws = draws.into_iter().map(|(key, draws)| (key, Rc::new(draws))).collect();
    tape
}

/// A small cluster that snapshots often.
fn options([cluster, protocol, limits, network, faults]: [u8; 5]) -> Options {
    let bit = |byte: u8, at: u8| byte >> at & 1 == 1;
    let one_in = |is_on: bool, den: u32| if is_on { Ratio::new(1, den) } else { Ratio::NEVER };
    let mut options = Options {
        events: EVENTS,
        voters: usize::from(cluster % 5) + 1,
        learners: usize::from(bit(cluster, 5)),
        spares: usize::from(bit(cluster, 6)),
        pre_vote: bit(protocol, 0),
        has_mixed_pre_vote: bit(protocol, 4),
        check_quorum: bit(protocol, 1),
        lease_us: if bit(protocol, 2) { 50_000 } else { 0 },
        append_entries_max: usize::from(limits % 4) + 1,
        snapshot_after_entries: u64::from(limits / 4 % 16) + 4,
        inbox_us: if bit(limits, 7) { 200 } else { 0 },
        // Within what nodes with leases are prepared for: the drift of the default options.
        skew_ppm: if bit(network, 5) { 40_000 } else { 0 },
        segment_slots: 16,
        ..Options::default()
    };
    options.client.clients = usize::from(bit(cluster, 7)) + 1;
    options.client.twice = one_in(bit(protocol, 3), 4);
    options.link.reorder = bit(network, 0);
    options.link.loss = one_in(bit(network, 1), 2);
    options.link.duplication = one_in(bit(network, 2), 2);
    options.link.corruption = one_in(bit(network, 3), 2);
    options.link.late_us = 50_000;
    if bit(network, 4) {
        options.link.delay = DelayLaw::HeavyTail { low_us: 100 };
    }
    let on = STRIKING.iter().filter(|&&fault| !bit(faults, fault as u8 % 8));
    for &fault in on.filter(|&&fault| options.lease_us == 0 || fault != Fault::Jump) {
        options.faults.insert(fault);
    }
    options
}

/// A strike after so many events, if its class is on.
fn strike(record: [u8; RECORD], options: &Options) -> Option<Planned> {
    let [at, at_low, fault, node, lasts, operations, clients, word] = record;
    let fault = STRIKING[usize::from(fault) % STRIKING.len()];
    options.faults.contains(fault).then(|| Planned {
        when: When::Event(u64::from(u16::from_be_bytes([at, at_low])) % EVENTS),
        fault,
        is_aimed: node >= 128,
        node: usize::from(node) % options.nodes(),
        lasts_us: 1 << (lasts % 24),
        operations: u32::from(operations) % 24 + 1,
        clients: clients.into(),
        words: [u64::from(word) << 56; 8],
    })
}
