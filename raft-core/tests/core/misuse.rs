//! What a careless host or a strange peer does must not hurt: each test was once a trap.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    AppendResult, Body, Chain, Chunk, ChunkId, ChunkPurpose, ChunkRequest, Config, ConfigError,
    Effect, Entries, Entry, EntryId, Envelope, HardState, Incarnation, Index, Message, Observation,
    Payload, Raft, RecoverError, RecoveredState, Refused, RepairId, RepairRpc, Round, Rpc, RpcKind,
    Session, Slot, SnapshotMeta, Term, Ticket, Time, Violation,
};

use crate::support::{Cluster, config, member, membership};

/// A transport that refuses at once must not turn into a storm: no time passes here.
#[test]
fn an_unreachable_peer_is_not_asked_again_before_a_heartbeat_is_answered() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.network.clear();
    for _ in 0..100 {
        cluster.step(1, Body::PeerUnreachable { peer: member(3) });
    }
    assert!(cluster.network.is_empty());
    cluster.propose(1, 1, "x");
    assert!(cluster.take(|sent| sent.to == member(3)).is_empty(), "it waits for a sign of life");
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(cluster.status(3).last.index, Index(2));
}

/// A host that cannot keep a chunk says how far it got; the transfer goes on from there.
#[test]
fn a_chunk_that_could_not_be_staged_is_sent_again() {
    let mut follower = start(2);
    let snapshot = snapshot(50, 9);
    let chunk = || install(&snapshot, 0, b"abcd", false);
    let id = chunk_id(&step(&mut follower, chunk()));
    let answer = step(&mut follower, Body::ChunkStaged { id, staged: 0 });
    assert!(answer.iter().any(|effect| matches!(
        effect,
        Effect::Send(Envelope { rpc: Rpc::InstallSnapshotResponse { staged: 0, .. }, .. })
    )));
    assert_eq!(staged_offset(&step(&mut follower, chunk())), Some(0));
}

/// While an installation needs the staged bytes, no other transfer may touch them.
#[test]
fn a_new_transfer_waits_for_the_installation_of_the_last_one() {
    let mut follower = start(2);
    let (first, second) = (snapshot(50, 9), snapshot(60, 10));
    let id = chunk_id(&step(&mut follower, install(&first, 0, b"abcd", true)));
    let mut effects = Vec::new();
    let staged = Body::ChunkStaged { id, staged: 4 };
    follower.step_batch([Message { now: Time(0), body: staged }], &mut effects);
    let installs =
        |effect: &Effect| matches!(effect, Effect::Persist(batch) if batch.install.is_some());
    assert!(effects.iter().any(installs));
    let early = follower.step(Message { now: Time(0), body: install(&second, 0, b"efgh", true) });
    assert_eq!(staged_offset(&early), None);
    sync(&mut follower, effects);
    assert_eq!(staged_offset(&step(&mut follower, install(&second, 0, b"efgh", true))), Some(0));
}

/// A transfer has one sender: another node's bytes for the same state may be cut differently.
#[test]
fn a_transfer_does_not_go_on_with_another_senders_bytes() {
    let mut follower = start(2);
    let snapshot = snapshot(50, 9);
    let id = chunk_id(&step(&mut follower, install(&snapshot, 0, b"abcd", false)));
    step(&mut follower, Body::ChunkStaged { id, staged: 4 });
    let effects = step(&mut follower, from_successor(install(&snapshot, 4, b"efgh", true)));
    assert_eq!(staged_offset(&effects), None);
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::Send(Envelope { rpc: Rpc::InstallSnapshotResponse { staged: 0, .. }, .. })
    )));
}

/// A host may say twice how far it got. What it says of one sender's last chunk does not stand for
/// the next sender's, although snapshot and length are the same: those bytes are not staged yet.
#[test]
fn a_repeated_answer_does_not_install_another_senders_snapshot() {
    let mut follower = start(2);
    let snapshot = snapshot(50, 9);
    let first = chunk_id(&step(&mut follower, install(&snapshot, 0, b"abcd", false)));
    step(&mut follower, Body::ChunkStaged { id: first, staged: 4 });
    let second = chunk_id(&step(&mut follower, install(&snapshot, 4, b"efgh", false)));
    let answer = Body::ChunkStaged { id: second, staged: 8 };
    step(&mut follower, answer.clone());

    let effects = step(&mut follower, from_successor(install(&snapshot, 0, b"EFGHIJKL", true)));
    let third = chunk_id(&effects);
    let before = follower.status();
    let effects = step(&mut follower, answer);
    assert_eq!(effects, [refused(Refused::UnknownChunk { id: second })]);
    assert_eq!(follower.status(), before);

    step(&mut follower, Body::ChunkStaged { id: third, staged: 8 });
    assert_eq!(follower.status().snapshot, snapshot.last, "now they are");
}

/// A repeated answer to one chunk does not make room for another while the next one is at the host.
#[test]
fn a_repeated_answer_does_not_end_the_staging_of_the_next_chunk() {
    let mut follower = start(2);
    let snapshot = snapshot(50, 9);
    let first = chunk_id(&step(&mut follower, install(&snapshot, 0, b"abcd", false)));
    let answer = Body::ChunkStaged { id: first, staged: 4 };
    step(&mut follower, answer.clone());
    let second = chunk_id(&step(&mut follower, install(&snapshot, 4, b"efgh", true)));
    assert_ne!(first, second);
    let effects = step(&mut follower, answer);
    assert_eq!(effects, [refused(Refused::UnknownChunk { id: first })]);

    let again = step(&mut follower, install(&snapshot, 4, b"efgh", true));
    let (from, kind) = (Some(member(1)), Some(RpcKind::InstallSnapshot));
    let busy = Observation::Refused { from, kind, reason: Refused::Busy };
    assert_eq!(again, [Effect::Observe(busy)], "one chunk at a time");
    step(&mut follower, Body::ChunkStaged { id: second, staged: 8 });
    assert_eq!(follower.status().snapshot, snapshot.last);
}

/// Nothing but the genesis stands before the first entry: with anything else there, a node that knows
/// nothing yet would contradict every leader from then on.
#[test]
fn a_snapshot_before_the_first_entry_is_the_genesis() {
    let mut follower = start(2);
    let (from, kind) = (Some(member(1)), Some(RpcKind::InstallSnapshot));
    let impossible = Observation::Refused { from, kind, reason: Refused::Impossible };
    let genesis = RecoveredState::genesis(membership(&[1, 2, 3], &[])).snapshot;
    for last in
        [EntryId { chain: Chain(5), ..genesis.last }, EntryId { term: Term(1), ..genesis.last }]
    {
        let other = Arc::new(SnapshotMeta { last, ..SnapshotMeta::clone(&genesis) });
        let effects = step(&mut follower, install(&other, 0, b"", true));
        assert_eq!(effects, [Effect::Observe(impossible.clone())]);
    }
}

/// What an earlier life asked for is not confused with what this one asks.
#[test]
fn an_answer_to_an_earlier_life_is_refused() {
    let mut follower = start(2);
    let snapshot = snapshot(50, 9);
    let id = chunk_id(&step(&mut follower, install(&snapshot, 0, b"abcd", true)));
    let earlier = ChunkId { incarnation: Incarnation(id.incarnation.0 - 1), ..id };
    let effects = step(&mut follower, Body::ChunkStaged { id: earlier, staged: 4 });
    assert_eq!(effects, [refused(Refused::UnknownChunk { id: earlier })]);
    assert_eq!(follower.status().snapshot.index, Index(0));
}

/// A chunk that nobody waits for is refused aloud, at a follower and at a leader.
#[test]
fn a_chunk_that_was_not_asked_for_is_refused() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let request = ChunkRequest {
        to: member(3),
        purpose: ChunkPurpose::Lag { session: Session(1) },
        snapshot: snapshot(50, 9).last,
        offset: 0,
        bytes_max: 4,
    };
    let chunk = Some(Chunk { data: Bytes::from_static(b"abcd"), done: true });
    for id in [1, 2] {
        let raft = &mut cluster.servers.get_mut(&id).expect("it is there").raft;
        let body = Body::ChunkRead { request, chunk: chunk.clone() };
        let effects = raft.step(Message { now: Time(0), body });
        assert_eq!(effects, [refused(Refused::Unasked)]);
    }
}

/// A snapshot of another history with the same last index and term replaces nothing.
#[test]
fn a_divergent_snapshot_is_a_violation() {
    let mut follower = start(2);
    let base = follower.status().last;
    let mine = Entries::after(base, [(Term(1), Payload::Noop), (Term(1), Payload::Noop)]);
    let last = mine[1].id();
    let append = Rpc::AppendEntries {
        session: Session(1),
        round: Round(0),
        prev: base,
        entries: mine,
        commit: Index(0),
    };
    step(&mut follower, from_leader(append));
    let theirs = Chain(last.chain.0 ^ 1);
    let snapshot = Arc::new(SnapshotMeta {
        last: EntryId { chain: theirs, ..last },
        ..(*snapshot(2, 0)).clone()
    });
    let effects = step(&mut follower, install(&snapshot, 0, b"abcd", true));
    let expected = Violation::ChainMismatch { index: Index(2), mine: last.chain, theirs };
    assert!(effects.contains(&Effect::Observe(Observation::Violation(expected))));
    assert_eq!(staged_offset(&effects), None);
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::Send(Envelope {
            rpc: Rpc::AppendEntriesResponse { result: AppendResult::Diverged { .. }, .. },
            ..
        })
    )));
}

/// A follower whose log already has the snapshot's last entry needs no transfer.
#[test]
fn a_snapshot_that_the_log_covers_is_acknowledged_at_once() {
    let mut follower = start(2);
    let base = follower.status().last;
    let entries = Entries::after(base, [(Term(1), Payload::Noop)]);
    let last = entries[0].id();
    let (session, round, commit) = (Session(1), Round(0), Index(0));
    let append = Rpc::AppendEntries { session, round, prev: base, entries, commit };
    step(&mut follower, from_leader(append));
    let snapshot = Arc::new(SnapshotMeta { last, ..(*snapshot(1, 0)).clone() });
    let effects = step(&mut follower, install(&snapshot, 0, b"abcd", true));
    assert_eq!(staged_offset(&effects), None);
    assert_eq!(follower.status().commit, Index(1));
}

/// A configuration that would send what every peer refuses is refused itself.
#[test]
fn a_configuration_beyond_what_peers_accept_is_refused() {
    let refused = |adjust: fn(&mut Config)| {
        let mut config = config(1);
        adjust(&mut config);
        config.validate()
    };
    let too_large = |option, max| Err(ConfigError::LimitTooLarge { option, max });
    let (entries, bytes) = (too_large("append_entries_max", 1 << 16), 1 << 30);
    assert_eq!(refused(|config| config.append_entries_max = (1 << 16) + 1), entries);
    let appended = too_large("append_bytes_max", bytes);
    assert_eq!(refused(|config| config.append_bytes_max = (1 << 30) + 1), appended);
    let command = too_large("command_bytes_max", bytes);
    assert_eq!(refused(|config| config.command_bytes_max = (1 << 30) + 1), command);
    let chunk = too_large("snapshot_chunk_bytes", bytes);
    assert_eq!(refused(|config| config.snapshot_chunk_bytes = (1 << 30) + 1), chunk);
    let requests = too_large("requests_max", 1 << 31);
    assert_eq!(refused(|config| config.requests_max = (1 << 31) + 1), requests);
    assert_eq!(
        refused(|config| config.election_timeout_us = 100),
        Err(ConfigError::ElectionTimeoutTooShort)
    );
    let none = ConfigError::ZeroLimit { option: "requests_max" };
    assert_eq!(none.to_string(), "requests_max is zero");
    assert_eq!(refused(|config| config.requests_max = 0), Err(none));
    assert_eq!(refused(|_| {}), Ok(()));
}

/// Only genesis can be founded.
#[test]
fn a_founder_starts_from_genesis_alone() {
    let mut found = RecoveredState::genesis(membership(&[1], &[]));
    found.snapshot = Arc::new(SnapshotMeta {
        last: EntryId { index: Index(9), term: Term(1), chain: Chain(3) },
        membership: found.snapshot.membership.clone(),
    });
    found.before = found.snapshot.last;
    found.hard_state.term = Term(1);
    found.applied = Index(9);
    let refused = Raft::recover(config(1), found, Time(0)).err();
    assert_eq!(refused, Some(RecoverError::NotGenesis));
}

/// A node that halts in the middle of a batch does not send what the batch had produced before.
#[test]
fn a_batch_in_which_the_disk_fails_sends_nothing() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    let command = Bytes::from_static(b"x");
    let bodies = [
        Body::Read { ticket: Ticket(1), mode: raft_core::ReadMode::ReadIndex },
        Body::Tick,
        Body::PersistFailed,
        Body::Propose { ticket: Ticket(2), command },
    ];
    let raft = &mut cluster.servers.get_mut(&1).expect("n1 is there").raft;
    let mut effects = Vec::new();
    let now = Time(100);
    raft.step_batch(bodies.map(|body| Message { now, body }), &mut effects);
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Send(_) | Effect::Persist(_))));
    let outcomes = effects.iter().filter(|effect| matches!(effect, Effect::Outcome { .. }));
    assert_eq!(outcomes.count(), 2);
}

/// Whoever does not vote has no election timer: nothing will happen until an input arrives.
#[test]
fn a_learner_waits_without_a_deadline() {
    let cluster = Cluster::new(&[1, 2, 3], &[4]);
    assert_eq!(cluster.server(4).raft.next_deadline(), None);
    assert!(cluster.server(1).raft.next_deadline().is_some());
}

/// Whoever contradicts itself without end makes a disk that hangs no longer queue than others do.
#[test]
fn a_liar_does_not_fill_the_queue_of_a_slow_disk() {
    let mut follower = start(2);
    let mut batches = 0;
    for turn in 0..10_000 {
        let body = append_after_genesis(&[1 + turn % 2]);
        let effects = follower.step(Message { now: Time(0), body });
        batches += effects.iter().filter(|effect| matches!(effect, Effect::Persist(_))).count();
    }
    assert_eq!(batches, 4_096, "as many as wait for a disk at most");
}

/// Terms that rise without end fill it no more: the newest hard state waits for the disk to come back, and
/// nothing leaves before it is durable.
#[test]
fn rising_terms_do_not_fill_the_queue_of_a_slow_disk() {
    let mut follower = start(2);
    let commit = from_leader(Rpc::Commit { session: Session(1), commit: Index(0) });
    let Body::Peer(heard) = commit else { unreachable!("the helper builds peer messages") };
    let mut batches = Vec::new();
    for term in 2..10_000 {
        let body = Body::Peer(Envelope { term: Term(term), ..heard.clone() });
        for effect in follower.step(Message { now: Time(0), body }) {
            assert!(!matches!(effect, Effect::Send(_)), "no term is durable");
            if let Effect::Persist(batch) = effect {
                batches.push(batch.seq);
            }
        }
    }
    assert_eq!(batches.len(), 4_096, "as many as wait for a disk at most");
    let seq = *batches.last().expect("many");
    let effects = follower.step(Message { now: Time(0), body: Body::Persisted { seq } });
    let terms: Vec<Term> = effects.iter().filter_map(written_term).collect();
    assert_eq!(terms, [Term(9_999)], "the newest alone");
}

/// Whoever asks without end for what a host has to read makes it read one thing at a time.
#[test]
fn who_asks_without_end_does_not_fill_the_queue_of_a_slow_disk() {
    let mut follower = start(2);
    let snapshot = snapshot(50, 9);
    let id = chunk_id(&step(&mut follower, install(&snapshot, 0, b"abcd", true)));
    step(&mut follower, Body::ChunkStaged { id, staged: 4 });
    let ask = |n: u64| {
        let id = RepairId { incarnation: Incarnation(1), n };
        let rpc = RepairRpc::RequestSnapshot { id, snapshot: snapshot.last, offset: 0 };
        from_leader(Rpc::Repair(rpc))
    };
    let reads = |effects: &[Effect]| -> Vec<ChunkRequest> {
        let read = |effect: &Effect| {
            let Effect::ReadChunk(request) = effect else { return None };
            Some(*request)
        };
        effects.iter().filter_map(read).collect()
    };
    let mut asked: Vec<ChunkRequest> =
        (1..100).flat_map(|n| reads(&step(&mut follower, ask(n)))).collect();
    assert_eq!(asked.len(), 1);
    let request = asked.remove(0);
    let answer = |chunk| Body::ChunkRead { request, chunk };
    let chunk = Chunk { data: Bytes::from_static(b"abcd"), done: true };
    let sent = step(&mut follower, answer(Some(chunk)));
    assert!(sent.iter().any(|effect| matches!(effect, Effect::Send(_))), "{sent:?}");
    assert_eq!(step(&mut follower, answer(None)), [refused(Refused::Unasked)]);
    assert_eq!(reads(&step(&mut follower, ask(100))).len(), 1, "whoever asks again is answered");
}

/// A leader that contradicts what it sent in the same term lies. A node in doubt about the end of its
/// log then forgets that the two logs were equal: nothing may be committed that it has not got.
#[test]
fn a_doubt_does_not_count_what_a_liar_took_back() {
    let genesis = RecoveredState::genesis(membership(&[1, 2, 3], &[]));
    let doubtful = HardState { is_tail_unknown: true, ..genesis.hard_state };
    let found = RecoveredState { hard_state: doubtful, ..genesis };
    let (mut follower, effects) = Raft::recover(config(2), found, Time(0)).expect("it may be lost");
    sync(&mut follower, effects);
    let append = append_after_genesis;
    let commit = || Rpc::Commit { session: Session(1), commit: Index(3) };
    step(&mut follower, append(&[1, 1, 1]));
    step(&mut follower, append(&[2]));
    assert_eq!(follower.status().last.index, Index(1), "what contradicts is truncated");
    step(&mut follower, from_successor(from_leader(commit())));
    assert_eq!(follower.status().commit, Index(1), "it has no more that was compared");
    // The same by a snapshot of another history.
    step(&mut follower, append(&[2, 2, 2, 2]));
    let id =
        chunk_id(&step(&mut follower, from_successor(install(&snapshot(2, 9), 0, b"a", true))));
    step(&mut follower, Body::ChunkStaged { id, staged: 1 });
    assert_eq!(follower.status().last.index, Index(2));
    step(&mut follower, from_successor(from_leader(commit())));
    assert_eq!(follower.status().commit, Index(2));
}

/// A snapshot that covers damage may lie below the commit index. It must then be of the history that is
/// committed, and a chain is not all of an identity.
#[test]
fn a_snapshot_that_gives_a_committed_entry_another_term_is_not_installed() {
    let genesis = RecoveredState::genesis(membership(&[1, 2, 3], &[]));
    let entries = Entries::after(genesis.before, [2, 2, 2].map(|term| (Term(term), Payload::Noop)));
    let damaged = |entry: &Entry| Slot::Damaged { id: entry.id(), bytes: 0, is_membership: false };
    let intact = |entry: &Entry| Slot::Resident { id: entry.id(), payload: Payload::Noop };
    let found = RecoveredState {
        hard_state: HardState { term: Term(2), ..genesis.hard_state },
        slots: vec![damaged(&entries[0]), intact(&entries[1]), intact(&entries[2])],
        commit: Index(3),
        founding: false,
        ..genesis
    };
    let (mut follower, effects) =
        Raft::recover(config(2), found, Time(0)).expect("it may be healed");
    sync(&mut follower, effects);
    let last = EntryId { term: Term(1), ..entries[1].id() };
    let lie = SnapshotMeta { last, membership: membership(&[1, 2, 3], &[]) };
    let told = step(&mut follower, from_successor(install(&Arc::new(lie), 0, b"a", true)));
    let conflict = Violation::CommittedConflict { index: Index(2), commit: Index(3) };
    assert!(told.contains(&Effect::Observe(Observation::Violation(conflict))), "{told:?}");
    assert_eq!((follower.status().last.index, follower.status().commit), (Index(3), Index(3)));
}

fn start(id: u64) -> Raft {
    let found = RecoveredState::genesis(membership(&[1, 2, 3], &[]));
    let (mut raft, effects) = Raft::recover(config(id), found, Time(0)).expect("genesis is valid");
    sync(&mut raft, effects);
    raft
}

/// Makes everything durable at once, and returns all effects.
fn sync(raft: &mut Raft, effects: Vec<Effect>) -> Vec<Effect> {
    let mut all = Vec::new();
    let mut queue = effects;
    while !queue.is_empty() {
        let mut next = Vec::new();
        for effect in queue {
            if let Effect::Persist(batch) = &effect {
                let body = Body::Persisted { seq: batch.seq };
                next.extend(raft.step(Message { now: Time(0), body }));
            }
            all.push(effect);
        }
        queue = next;
    }
    all
}

fn step(raft: &mut Raft, body: Body) -> Vec<Effect> {
    let effects = raft.step(Message { now: Time(0), body });
    sync(raft, effects)
}

fn snapshot(index: u64, chain: u64) -> Arc<SnapshotMeta> {
    let last = EntryId { index: Index(index), term: Term(1), chain: Chain(chain) };
    Arc::new(SnapshotMeta { last, membership: membership(&[1, 2, 3], &[]) })
}

/// A message from n1, the leader of term 1, to n2.
fn from_leader(rpc: Rpc) -> Body {
    let receiver = config(2);
    Body::Peer(Envelope {
        cluster: receiver.cluster,
        group: receiver.group,
        from: member(1),
        to: member(2),
        epoch: raft_core::Epoch(0),
        incarnation: Incarnation(1),
        term: Term(1),
        rpc,
    })
}

fn install(snapshot: &Arc<SnapshotMeta>, offset: u64, data: &'static [u8], done: bool) -> Body {
    from_leader(Rpc::InstallSnapshot {
        session: Session(1),
        round: Round(0),
        snapshot: Arc::clone(snapshot),
        offset,
        data: Bytes::from_static(data),
        done,
    })
}

/// Entries of these terms after the genesis, from n3, the leader of term 2.
fn append_after_genesis(terms: &[u64]) -> Body {
    let prev = RecoveredState::genesis(membership(&[1, 2, 3], &[])).before;
    let items = terms.iter().map(|term| (Term(*term), Payload::Noop));
    let (session, round, commit) = (Session(1), Round(0), Index(0));
    let entries = Entries::after(prev, items);
    from_successor(from_leader(Rpc::AppendEntries { session, round, prev, entries, commit }))
}

/// The same message from n3, the leader of term 2.
fn from_successor(body: Body) -> Body {
    let Body::Peer(envelope) = body else { unreachable!("the helper builds peer messages") };
    Body::Peer(Envelope { from: member(3), term: Term(2), ..envelope })
}

fn written_term(effect: &Effect) -> Option<Term> {
    let Effect::Persist(batch) = effect else { return None };
    batch.hard_state.map(|hard_state| hard_state.term)
}

fn refused(reason: Refused) -> Effect {
    Effect::Observe(Observation::Refused { from: None, kind: None, reason })
}

fn chunk_id(effects: &[Effect]) -> ChunkId {
    let id = effects.iter().find_map(|effect| {
        let Effect::StageChunk { id, .. } = effect else { return None };
        Some(*id)
    });
    id.expect("a chunk is to be staged")
}

fn staged_offset(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| {
        let Effect::StageChunk { offset, .. } = effect else { return None };
        Some(*offset)
    })
}
