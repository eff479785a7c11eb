//! Parts of the log whose payloads are not in memory: what stays, what is loaded, for whom, and
//! what becomes of an answer that comes late or is wrong (§5.3 with a log larger than memory).

use bytes::Bytes;
use raft_core::{
    AppendResult, Body, ClusterId, Effect, Entries, Entry, EntryId, Envelope, GroupId, Incarnation,
    Index, LoadPurpose, LoadRequest, Message, Payload, Raft, RecoverError, RecoveredState, Refused,
    RepairId, RepairRpc, Round, Rpc, RpcKind, Session, Slot, Term, Ticket, Time,
};

use crate::support::{Cluster, config, member, membership};

/// A group with so little memory that everything applied and durable is cold at once, of which n3
/// has missed `commands`.
fn lagging(commands: u64) -> Cluster {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.resident_bytes_max = 1;
        config.append_bytes_max = 30;
    });
    cluster.elect(1);
    for ticket in 1..=commands {
        cluster.propose(1, ticket, "ten bytes.");
        cluster.deliver_if(|sent| sent.to != member(3));
    }
    cluster
}

fn heartbeat(cluster: &mut Cluster) {
    cluster.tick(1, 100);
    cluster.deliver();
}

/// A node whose disk has a log of term 1 that is cold through `cold`, all of it known to be
/// committed if `is_committed`.
fn recovered(entries: &Entries, cold: usize, is_committed: bool) -> RecoveredState {
    let slot = |(place, entry): (usize, &Entry)| {
        let (id, payload) = (entry.id(), entry.payload().clone());
        let is_membership = matches!(payload, Payload::Membership(_));
        if place < cold && !is_membership {
            Slot::Cold { id, bytes: payload.len() }
        } else {
            Slot::Resident { id, payload }
        }
    };
    let mut found = RecoveredState::genesis(membership(&[1], &[]));
    found.founding = false;
    found.hard_state.term = Term(1);
    found.slots = entries.iter().enumerate().map(slot).collect();
    if is_committed {
        found.commit = Index(entries.len() as u64);
    }
    found
}

fn commands(count: usize) -> Entries {
    let before = RecoveredState::genesis(membership(&[1], &[])).before;
    let command = Payload::Command(Bytes::from_static(b"ten bytes."));
    Entries::after(before, (0..count).map(|_| (Term(1), command.clone())))
}

/// The node starts, and its first batch is durable.
fn start(
    found: RecoveredState,
    adjust: impl FnOnce(&mut raft_core::Config),
) -> (Raft, Vec<Effect>) {
    let mut config = config(1);
    adjust(&mut config);
    Raft::recover(config, found, Time(0)).expect("the disk holds a valid state")
}

/// Everything that the node wants written is durable.
fn persist(raft: &mut Raft, effects: &[Effect]) {
    let batch = |effect: &Effect| {
        let Effect::Persist(batch) = effect else { return None };
        Some(batch.seq)
    };
    if let Some(seq) = effects.iter().filter_map(batch).last() {
        let effects = step(raft, Body::Persisted { seq });
        persist(raft, &effects);
    }
}

/// A message of the learner n2 in the node's own term.
fn from_2(raft: &Raft, rpc: Rpc) -> Envelope {
    let status = raft.status();
    let (from, to) = (member(2), status.member);
    Envelope {
        cluster: ClusterId(7),
        group: GroupId(1),
        from,
        to,
        epoch: status.epoch,
        incarnation: Incarnation(1),
        term: status.term,
        rpc,
    }
}

fn step(raft: &mut Raft, body: Body) -> Vec<Effect> {
    raft.step(Message { now: Time(0), body })
}

fn loads(effects: &[Effect]) -> Vec<LoadRequest> {
    let load = |effect: &Effect| {
        let Effect::Load(request) = effect else { return None };
        Some(*request)
    };
    effects.iter().filter_map(load).collect()
}

fn applied(effects: &[Effect]) -> Vec<Index> {
    let indices = |effect: &Effect| {
        let Effect::Apply { entries } = effect else { return None };
        Some(entries.iter().map(Entry::index).collect::<Vec<_>>())
    };
    effects.iter().filter_map(indices).flatten().collect()
}

fn refused(effects: &[Effect]) -> Vec<Refused> {
    let reason = |effect: &Effect| {
        let Effect::Observe(raft_core::Observation::Refused { reason, .. }) = effect else {
            return None;
        };
        Some(*reason)
    };
    effects.iter().filter_map(reason).collect()
}

/// A follower that lags behind what is in memory gets the rest from the leader's disk, in ranges
/// that fit a message, one at a time.
#[test]
fn a_lagging_follower_is_fed_from_the_disk() {
    let mut cluster = lagging(10);
    heartbeat(&mut cluster);
    assert_eq!(cluster.status(3).last, cluster.status(1).last);
    assert_eq!(cluster.status(3).commit, Index(11));
    let ranges = cluster.server(1).loads.iter().map(|load| (load.after.index.0, load.through.0));
    let ranges: Vec<(u64, u64)> = ranges.collect();
    assert_eq!(ranges, [(1, 4), (4, 7), (7, 10), (10, 11)], "thirty bytes each");
    assert_eq!(cluster.log_of(3), cluster.log_of(1));
}

/// While the place where the logs match is looked for, identities do: nothing is loaded for it.
#[test]
fn a_probe_loads_nothing() {
    let mut cluster = lagging(10);
    cluster.crash(3);
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| {
        if sent.to == member(3) && sent.rpc.kind() == RpcKind::AppendEntries {
            assert!(matches!(&sent.rpc, Rpc::AppendEntries { entries, .. } if entries.is_empty()));
        }
        sent.rpc.kind() != RpcKind::AppendEntriesResponse
    });
    assert_eq!(cluster.server(1).loads, []);
}

/// What the state machine still works on stays in memory, whatever the limit; once it is applied,
/// it is the disk's.
#[test]
fn only_what_is_applied_is_let_go_of() {
    let mut found = RecoveredState::genesis(membership(&[1], &[2]));
    found.hard_state.term = Term(1);
    let (mut raft, effects) = start(found, |config| config.resident_bytes_max = 1);
    persist(&mut raft, &effects);
    let effects = step(&mut raft, Body::Campaign);
    persist(&mut raft, &effects);
    for ticket in 1..=3 {
        let command = Bytes::from_static(b"ten bytes.");
        let effects = step(&mut raft, Body::Propose { ticket: Ticket(ticket), command });
        persist(&mut raft, &effects);
    }
    assert_eq!((raft.status().commit, raft.status().applied), (Index(4), Index(0)));
    let learner_matches = |raft: &mut Raft, session: u64, index: u64| {
        let result = AppendResult::Matched { index: Index(index) };
        let (session, round) = (Session(session), Round(0));
        step(raft, Body::Peer(from_2(raft, Rpc::AppendEntriesResponse { session, round, result })))
    };
    let mut busy = raft.clone();
    assert_eq!(loads(&learner_matches(&mut busy, 1, 0)), [], "all of it is here");
    assert_eq!(loads(&step(&mut raft, Body::Applied { through: Index(3) })), []);
    let ask = loads(&learner_matches(&mut raft, 1, 0));
    assert_eq!((ask[0].after.index, ask[0].through), (Index(0), Index(3)));
}

/// What cannot be read is asked for again once the peer has answered a heartbeat, not before.
#[test]
fn a_failed_read_for_a_peer_waits_for_its_next_heartbeat() {
    let mut cluster = lagging(3);
    cluster.is_reading = false;
    heartbeat(&mut cluster);
    assert_eq!(cluster.server(1).loads.len(), 1, "once");
    heartbeat(&mut cluster);
    assert_eq!(cluster.server(1).loads.len(), 2, "once for each heartbeat answered");
    cluster.is_reading = true;
    heartbeat(&mut cluster);
    assert_eq!(cluster.status(3).last, cluster.status(1).last);
}

/// An answer that nobody waits for, of another stream, or with other entries, is refused.
#[test]
fn answers_that_do_not_fit_are_refused() {
    let mut cluster = lagging(3);
    cluster.is_reading = false;
    heartbeat(&mut cluster);
    let request = cluster.server(1).loads[0];
    let mut raft = cluster.server(1).raft.clone();
    let right = cluster.server(1).disk.load(&request);
    let late = Body::Loaded { request, entries: Some(right.clone()) };
    assert_eq!(refused(&step(&mut raft, late.clone())), [Refused::UnknownLoad], "it has failed");
    // Asked again: now wrong answers, each of which counts as a failure.
    let wrong = Payload::Command(Bytes::from_static(b"other"));
    let other = Entries::after(request.after, [(Term(1), wrong)]);
    let shifted = Entries::after(right[0].id(), [(Term(1), Payload::Noop)]);
    let answers = [
        (Entries::empty(), Refused::UnknownLoad),
        (other, Refused::BrokenChain),
        (shifted, Refused::BrokenChain),
    ];
    for (entries, reason) in answers {
        cluster.network.clear();
        cluster.tick(1, 100);
        let mut asked = None;
        cluster.deliver_if(|sent| {
            asked = Some(sent.clone()).filter(|sent| sent.to == member(1)).or(asked.take());
            sent.to != member(1)
        });
        let answer = asked.expect("n3 answers the heartbeat");
        let mut raft = cluster.server(1).raft.clone();
        assert_eq!(loads(&step(&mut raft, Body::Peer(answer))), [request]);
        let mut session = request;
        session.purpose = LoadPurpose::Peer { member: member(3), session: Session(99) };
        let stale = Body::Loaded { request: session, entries: Some(right.clone()) };
        assert_eq!(refused(&step(&mut raft, stale)), [Refused::UnknownLoad]);
        let effects = step(&mut raft, Body::Loaded { request, entries: Some(entries) });
        assert_eq!(refused(&effects), [reason]);
        assert_eq!(refused(&step(&mut raft, late.clone())), [Refused::UnknownLoad]);
    }
}

/// A start hands out what it knows to be committed; what is cold of it is loaded first.
#[test]
fn a_start_applies_cold_entries_from_the_disk() {
    let entries = commands(5);
    let (mut raft, effects) =
        start(recovered(&entries, 4, true), |config| config.unapplied_bytes_max = 20);
    let ask = loads(&effects);
    assert_eq!(ask.len(), 1);
    assert_eq!((ask[0].purpose, ask[0].through), (LoadPurpose::Apply, Index(2)));
    assert_eq!(applied(&effects), []);
    let through = |from: usize, to: usize| {
        let (after, to) = (entries[from].index().prev(), Index(to as u64));
        entries.slice(after.next(), to.next())
    };
    let body = Body::Loaded { request: ask[0], entries: Some(through(0, 2)) };
    let effects = step(&mut raft, body);
    assert_eq!(applied(&effects), [Index(1), Index(2)]);
    assert_eq!(loads(&effects), [], "the state machine is busy");
    let effects = step(&mut raft, Body::Applied { through: Index(2) });
    let ask = loads(&effects);
    assert_eq!(ask[0].after, entries[1].id());
    // Fewer than asked for are welcome.
    let effects = step(&mut raft, Body::Loaded { request: ask[0], entries: Some(through(2, 3)) });
    assert_eq!(applied(&effects), [Index(3)]);
    let ask = loads(&effects);
    let effects = step(&mut raft, Body::Loaded { request: ask[0], entries: Some(through(3, 4)) });
    assert_eq!(applied(&effects), [Index(4)]);
    let effects = step(&mut raft, Body::Applied { through: Index(4) });
    assert_eq!(applied(&effects), [Index(5)], "what is in memory needs no loading");
}

/// For a peer in repair the host reads one entry at a time, however often, and for what, it is asked.
#[test]
fn a_peer_in_repair_is_lent_one_entry_at_a_time() {
    let entries = commands(5);
    let (mut raft, effects) = start(recovered(&entries, 5, false), |_| {});
    persist(&mut raft, &effects);
    let ask = |n: usize| {
        let receiver = config(1);
        let id = RepairId { incarnation: Incarnation(1), n: n as u64 };
        let wanted = entries[n % 5].id();
        let rpc = RepairRpc::RequestEntry { id, wanted, is_snapshot: false };
        Body::Peer(Envelope {
            cluster: receiver.cluster,
            group: receiver.group,
            from: member(2),
            to: member(1),
            epoch: raft_core::Epoch(0),
            incarnation: Incarnation(1),
            term: Term(1),
            rpc: Rpc::Repair(rpc),
        })
    };
    let asked: Vec<LoadRequest> = (1..100).flat_map(|n| loads(&step(&mut raft, ask(n)))).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    step(&mut raft, Body::Loaded { request: asked[0], entries: None });
    assert_eq!(loads(&step(&mut raft, ask(100))).len(), 1, "whoever asks again is answered");
}

/// The host may fail for as long as it likes: it is asked again at a tick, never at once.
#[test]
fn a_failed_read_for_the_state_machine_waits_for_a_tick() {
    let entries = commands(3);
    let (mut raft, effects) = start(recovered(&entries, 3, true), |_| {});
    let request = loads(&effects)[0];
    for _ in 0..3 {
        let effects = step(&mut raft, Body::Loaded { request, entries: None });
        assert_eq!(loads(&effects), []);
        let effects =
            step(&mut raft, Body::Read { ticket: Ticket(1), mode: raft_core::ReadMode::Lease });
        assert_eq!(loads(&effects), []);
        assert_eq!(loads(&step(&mut raft, Body::Tick)), [request]);
    }
    let loaded = Body::Loaded { request, entries: Some(entries) };
    assert_eq!(applied(&step(&mut raft, loaded)).len(), 3);
}

/// A membership entry that lies among cold ones keeps its content beside the log: it is in force,
/// and the one before comes back when a later leader truncates it.
#[test]
fn a_membership_among_cold_entries_is_in_force_and_rolls_back() {
    let genesis = RecoveredState::genesis(membership(&[1, 2, 3], &[])).before;
    let command = Payload::Command(Bytes::from_static(b"x"));
    let change = Payload::Membership(membership(&[1, 2, 3], &[4]).into());
    let items = [(Term(1), command.clone()), (Term(1), change), (Term(1), command)];
    let entries = Entries::after(genesis, items);
    let mut found = RecoveredState::genesis(membership(&[1, 2, 3], &[]));
    found.founding = false;
    found.slots = recovered(&entries, 3, false).slots;
    found.hard_state.term = Term(1);
    let (mut raft, _) = start(found, |_| {});
    assert_eq!(raft.status().membership.learners(), [member(4)]);
    assert_eq!(raft.status().last, entries[2].id());
    let rpc = Rpc::AppendEntries {
        session: Session(1),
        round: Round(0),
        prev: entries[0].id(),
        entries: Entries::after(entries[0].id(), [(Term(2), Payload::Noop)]),
        commit: Index(0),
    };
    let envelope = Envelope { term: Term(2), ..from_2(&raft, rpc) };
    step(&mut raft, Body::Peer(envelope));
    assert_eq!(raft.status().membership.learners(), []);
    assert_eq!((raft.status().last.index, raft.status().last.term), (Index(2), Term(2)));
}

/// Of cold slots everything is checked that can be: places, terms, sizes, and the chains of
/// the whole entries that follow one.
#[test]
fn cold_slots_are_checked_as_far_as_they_can_be() {
    let entries = commands(4);
    let fails = |adjust: &dyn Fn(&mut RecoveredState)| {
        let mut found = recovered(&entries, 2, false);
        adjust(&mut found);
        Raft::recover(config(1), found, Time(0)).expect_err("something is wrong")
    };
    let id = |place: usize, change: fn(&mut EntryId)| {
        let mut id = entries[place].id();
        change(&mut id);
        id
    };
    let bytes = 10;
    let gap = id(1, |id| id.index = Index(9));
    let error = fails(&|found| found.slots[1] = Slot::Cold { id: gap, bytes });
    assert_eq!(error, RecoverError::NotConsecutive { index: Index(2) });
    let fall = id(1, |id| id.term = Term(0));
    let error = fails(&|found| found.slots[1] = Slot::Cold { id: fall, bytes });
    assert_eq!(error, RecoverError::NotConsecutive { index: Index(2) });
    let other = id(1, |id| id.chain.0 ^= 1);
    let error = fails(&|found| found.slots[1] = Slot::Cold { id: other, bytes });
    assert_eq!(error, RecoverError::BrokenChain { index: Index(3) });
    let whole = entries[1].id();
    let error = fails(&|found| found.slots[1] = Slot::Cold { id: whole, bytes: usize::MAX });
    assert_eq!(error, RecoverError::OutOfBounds);
    // A whole entry among cold ones is checked from the identity before it.
    let flipped = Slot::Resident { id: entries[0].id(), payload: Payload::Noop };
    let error = fails(&|found| found.slots[0] = flipped.clone());
    assert_eq!(error, RecoverError::BrokenChain { index: Index(1) });
}
