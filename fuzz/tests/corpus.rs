//! The committed corpora keep every promise of their targets.
//!
//! Files named `seed_..` are valid inputs that were made by hand, `long_..` are eventful random
//! lives; the others were found by an engine, because each reaches something that no other does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fuzz::Life;
use raft_core::{Body, Message, Recorded, RpcKind, wire};
use raft_sim::fault::Fault;
use raft_sim::report::Report;

#[test]
fn wire_replays() {
    replay("wire", fuzz::wire);
    let (mut kinds, mut bodies) = (Vec::new(), BTreeSet::new());
    for (path, seed) in files("wire").into_iter().filter(|(path, _)| is_seed(path)) {
        let seed = Bytes::from(seed);
        if let Ok(recorded) = wire::decode_recorded(seed.clone(), &wire::Limits::for_recorded()) {
            bodies.extend(messages(recorded).iter().map(|message| first_word(&message.body)));
            continue;
        }
        let envelope = wire::decode(seed, &wire::Limits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        kinds.push(envelope.rpc.kind());
    }
    kinds.sort_unstable();
    kinds.dedup();
    let all: Vec<RpcKind> = std::iter::successors(Some(RpcKind::RequestPreVote), after).collect();
    assert_eq!(kinds, all, "there is a seed for each kind of message");
    assert_eq!(bodies.len(), 21, "there is a seed for all that a node is given: {bodies:?}");
}

/// The kind that follows this one: with a new kind this does not compile until it is named here.
fn after(kind: &RpcKind) -> Option<RpcKind> {
    match kind {
        RpcKind::RequestPreVote => Some(RpcKind::RequestPreVoteResponse),
        RpcKind::RequestPreVoteResponse => Some(RpcKind::RequestVote),
        RpcKind::RequestVote => Some(RpcKind::RequestVoteResponse),
        RpcKind::RequestVoteResponse => Some(RpcKind::AppendEntries),
        RpcKind::AppendEntries => Some(RpcKind::AppendEntriesResponse),
        RpcKind::AppendEntriesResponse => Some(RpcKind::Commit),
        RpcKind::Commit => Some(RpcKind::Heartbeat),
        RpcKind::Heartbeat => Some(RpcKind::HeartbeatResponse),
        RpcKind::HeartbeatResponse => Some(RpcKind::InstallSnapshot),
        RpcKind::InstallSnapshot => Some(RpcKind::InstallSnapshotResponse),
        RpcKind::InstallSnapshotResponse => Some(RpcKind::TimeoutNow),
        RpcKind::TimeoutNow => Some(RpcKind::ReadIndex),
        RpcKind::ReadIndex => Some(RpcKind::ReadIndexResponse),
        RpcKind::ReadIndexResponse => Some(RpcKind::Barrier),
        RpcKind::Barrier => Some(RpcKind::BarrierResponse),
        RpcKind::BarrierResponse => Some(RpcKind::RequestEntry),
        RpcKind::RequestEntry => Some(RpcKind::RequestEntryResponse),
        RpcKind::RequestEntryResponse => Some(RpcKind::RequestSnapshot),
        RpcKind::RequestSnapshot => Some(RpcKind::RequestSnapshotResponse),
        RpcKind::RequestSnapshotResponse => None,
    }
}

fn messages(recorded: Recorded) -> Vec<Message> {
    match recorded {
        Recorded::Start(_) => Vec::new(),
        Recorded::Batch(batch) => batch.messages,
    }
}

/// What an input is, as traces tell it.
fn first_word(body: &Body) -> String {
    body.to_string().split(' ').next().expect("it says something").to_owned()
}

#[test]
fn step_replays() {
    replay("step", fuzz::step);
}

/// A corpus in which nobody leads would replay well too.
#[test]
fn the_corpus_of_step_reaches_what_matters() {
    let lives: Vec<Life> = files("step").iter().map(|(_, data)| fuzz::step_life(data)).collect();
    let reaching = |what: fn(&Life) -> bool| lives.iter().filter(|life| what(life)).count();
    assert_eq!(reaching(|life| life.commits > 0), lives.len(), "every life ends with a commit");
    assert!(reaching(|life| life.commits > 5) > 5);
    assert!(reaching(|life| life.losses > 0) > 5);
    assert!(reaching(|life| life.reads > 0) > 5);
    assert!(reaching(|life| life.leases > 0) > 0, "a lease is relied upon");
    assert!(reaching(|life| life.restores > life.crashes) > 0, "a leader's snapshot is restored");
    assert!(reaching(|life| life.crashes > 2) > 5);
    assert!(reaching(|life| life.leaders > 3) > 5);
    assert!(reaching(|life| life.changes > 0) > 5);
    assert!(reaching(|life| life.transfers > 0) > 0);
    assert!(reaching(|life| life.epochs > 0) > 0);
    assert!(reaching(|life| life.healed > 0) > 0);
    assert!(reaching(|life| life.discarded > 0) > 0);
    assert!(reaching(|life| life.doubts > 0) > 0);
    assert!(reaching(|life| life.full_disks > 0) > 0);
}

#[test]
fn hostile_replays() {
    replay("hostile", fuzz::hostile);
}

/// A corpus of which every word is refused would replay well too.
#[test]
fn the_corpus_of_hostile_is_believed() {
    let lives: Vec<Life> =
        files("hostile").iter().map(|(_, data)| fuzz::hostile_life(data)).collect();
    let reaching = |what: fn(&Life) -> bool| lives.iter().filter(|life| what(life)).count();
    assert!(reaching(|life| life.commits > 0) > 20, "entries are appended and committed");
    assert!(reaching(|life| life.restores > 0) > 5, "a snapshot is installed");
    assert!(reaching(|life| life.leaders > 0) > 20);
    assert!(reaching(|life| life.healed > 0) > 5);
    assert!(reaching(|life| life.doubts > 0) > 5);
    assert!(reaching(|life| life.full_disks > 0) > 5);
}

#[test]
fn recover_replays() {
    replay("recover", fuzz::recover);
}

#[test]
fn tape_replays() {
    replay("tape", fuzz::tape);
}

/// Tapes on which nothing is committed, or nothing strikes, would replay well too.
#[test]
fn the_corpus_of_tape_reaches_what_matters() {
    let runs: Vec<_> = files("tape").iter().map(|(_, data)| fuzz::tape_run(data)).collect();
    let reaching = |what: fn(&Report) -> bool| runs.iter().filter(|run| what(run)).count();
    assert!(reaching(|run| run.committed > 5) > 5);
    assert!(reaching(|run| run.stats.elections > 1) > 3);
    assert!(reaching(|run| run.stats.crashes > 1) > 3);
    assert!(reaching(|run| run.stats.restored > 0) > 0);
    assert!(reaching(|run| run.stats.reads > 0) > 5);
    assert!(reaching(|run| run.stats.tally.of(Fault::Membership).1 > 0) > 0);
    assert!(reaching(|run| run.stats.tally.of(Fault::Partition).0 > 0) > 3);
    assert!(reaching(|run| run.stats.tally.of(Fault::TornWork).1 > 0) > 0);
    assert!(reaching(|run| run.stats.tally.of(Fault::Corruption).1 > 0) > 0);
}

fn replay(target: &str, body: fn(&[u8])) {
    let files = files(target);
    assert!(!files.is_empty(), "the corpus of {target} is there");
    for (_, data) in files {
        body(&data);
    }
}

/// The files of a target's corpus, in the order of their names.
fn files(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("it is a file"))).collect()
}

fn is_seed(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed_"))
}
