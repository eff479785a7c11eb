//! What clients are told: linearizable answers, one effect per command, one reply per request.

use bytes::Bytes;
use raft_core::{
    Entries, EntryId, Index, MemberStep, MembershipChange, NodeId, Payload, ReadMode,
    RecoveredState, Rejection, Slot, Term, Time,
};
use raft_replica::kv::{Kv, KvAnswer, KvCommand, KvError, KvQuery, KvResponse};
use raft_replica::machine::{Gathered, StateMachine};
use raft_replica::replica::Replica;
use raft_replica::request::{Failure, Input, Output, Reply, Request};
use raft_replica::session::SessionId;
use raft_replica::storage::work::{Done, Work};

use crate::cluster::{Cluster, Hold, founders, get, member, options, put};

fn index_of(reply: &Reply<Kv>) -> Index {
    match reply {
        Reply::Response { index, .. }
        | Reply::Answer { index, .. }
        | Reply::MembershipChanged { index } => *index,
        Reply::SessionOpened { .. } | Reply::Transferred { .. } | Reply::Failed(_) => {
            panic!("no index: {reply:?}")
        }
    }
}

/// What operators ask for has a typed answer, definite refusals included.
#[test]
fn operators_are_told_what_became_of_their_wishes() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    cluster.open_session(0);
    let change = |step| {
        let change = MembershipChange::Steps(vec![step]);
        Request::ChangeMembership { change, expect: None }
    };
    let remove = change(MemberStep::Remove(NodeId(9)));
    let unknown = Reply::Failed(Failure::Refused(Rejection::UnknownMember));
    assert_eq!(cluster.call(0, remove.clone()), unknown);
    assert!(matches!(cluster.call(1, remove), Reply::Failed(Failure::NotLeader { .. })));
    let demote = change(MemberStep::Demote(NodeId(3)));
    assert!(matches!(cluster.call(0, demote), Reply::MembershipChanged { .. }));
    let to_nobody = Request::TransferLeadership { to: Some(NodeId(3)) };
    assert_eq!(cluster.call(0, to_nobody), unknown, "a learner cannot lead");
    let handed = cluster.call(0, Request::TransferLeadership { to: Some(NodeId(2)) });
    assert_eq!(handed, Reply::Transferred { term: Term(2) });
}

#[test]
fn a_write_is_answered_and_every_later_read_sees_it() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    let session = cluster.open_session(0);
    let written = cluster.call(0, put(session, 1, "a", "1"));
    let previous = KvResponse::Changed { previous: None };
    assert_eq!(written, Reply::Response { response: previous, index: index_of(&written) });
    assert_eq!(cluster.get(0, "a"), Some(("1".to_owned(), index_of(&written))));
    assert_eq!(cluster.get(0, "b"), None);
    let query = KvQuery::Scan { prefix: Bytes::new(), after: None, limit: 10 };
    let Reply::Answer { answer: KvAnswer::Page { entries, more }, index } =
        cluster.call(0, Request::Query { query, mode: ReadMode::ReadIndex })
    else {
        panic!("a scan is answered by a page");
    };
    assert_eq!((entries.len(), more), (1, false));
    assert!(index >= index_of(&written));
    // The next heartbeat tells the followers what is committed; then all are in one state.
    cluster.pass(2);
    let states = cluster.states();
    assert!(states[0].0 >= index_of(&written) && states[0].1 != 0);
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
}

#[test]
fn a_follower_names_the_leader() {
    let mut cluster = Cluster::new(3);
    let nobody = Reply::Failed(Failure::NotLeader { hint: None });
    assert_eq!(cluster.call(1, Request::OpenSession), nobody);
    cluster.elect(2);
    let elsewhere = Reply::Failed(Failure::NotLeader { hint: Some(member(2)) });
    assert_eq!(cluster.call(1, Request::OpenSession), elsewhere);
    assert_eq!(cluster.call(1, put(SessionId(1), 1, "a", "1")), elsewhere);
}

/// A read needs no log entry: a follower asks its leader how far it must have applied.
#[test]
fn a_follower_answers_a_read_that_covers_what_was_acknowledged() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.call(1, get("a")), Reply::Failed(Failure::NotLeader { hint: None }));
    cluster.elect(2);
    let session = cluster.open_session(2);
    let written = cluster.call(2, put(session, 1, "a", "1"));
    assert_eq!(cluster.get(1, "a"), Some(("1".to_owned(), index_of(&written))));
}

/// Who hosts a leader can see for how long its answers need no round.
#[test]
fn a_lease_has_an_end_that_moves_on_with_the_heartbeats() {
    let mut cluster = Cluster::with(3, |options| options.config.lease_us = 500_000);
    cluster.elect(0);
    cluster.pass(2);
    let until = |cluster: &Cluster, server: usize| cluster.servers[server].replica.leased_until();
    assert!(matches!(cluster.call(0, get("a")), Reply::Answer { .. }));
    assert_eq!(until(&cluster, 0), None, "a round is no lease");
    let query = KvQuery::Get { key: Bytes::from_static(b"a") };
    let by_lease = Request::Query { query, mode: ReadMode::Lease };
    assert!(matches!(cluster.call(0, by_lease.clone()), Reply::Answer { .. }));
    let first = until(&cluster, 0).expect("a quorum has promised");
    cluster.pass(1);
    assert!(matches!(cluster.call(0, by_lease), Reply::Answer { .. }));
    assert_eq!(until(&cluster, 0), Some(Time(first.0 + 100_000)));
    assert_eq!(until(&cluster, 1), None);
}

#[test]
fn a_command_takes_effect_once_however_often_it_is_sent() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    let session = cluster.open_session(0);
    let first = cluster.call(0, put(session, 1, "a", "1"));
    assert_eq!(cluster.call(0, put(session, 1, "a", "1")), first);
    let second = cluster.call(0, put(session, 2, "a", "2"));
    let replaced = KvResponse::Changed { previous: Some(index_of(&first)) };
    assert_eq!(second, Reply::Response { response: replaced, index: index_of(&second) });
    let stale = cluster.call(0, put(session, 1, "a", "1"));
    assert_eq!(stale, Reply::Failed(Failure::StaleSerial));
    let unknown = cluster.call(0, put(SessionId(999), 1, "a", "1"));
    assert_eq!(unknown, Reply::Failed(Failure::Expired));
    // The next leader knows the sessions as well: they are part of what is replicated.
    cluster.cut.insert(0);
    cluster.elect(1);
    assert_eq!(cluster.call(1, put(session, 2, "a", "2")), second);
    assert_eq!(cluster.get(1, "a"), Some(("2".to_owned(), index_of(&second))));
}

/// A client that asks again before its command is through does not make the log longer.
#[test]
fn who_repeats_a_command_waits_with_it() {
    let mut cluster = Cluster::with(3, |options| options.config.requests_max = 6);
    cluster.elect(0);
    let session = cluster.open_session(0);
    let last = |cluster: &Cluster| cluster.servers[0].replica.status().last.index;
    let before = last(&cluster);
    for server in [1, 2] {
        cluster.servers[server].hold = Some(Hold::Persists);
    }
    let asked: Vec<_> = (0..4).map(|_| cluster.ask(0, put(session, 1, "a", "1"))).collect();
    cluster.settle();
    assert_eq!(last(&cluster), before.next());
    assert_eq!(cluster.servers[0].replica.requests_open(), 4);
    // They leave room for others.
    let more = cluster.ask(0, put(session, 1, "a", "1"));
    assert_eq!(cluster.reply(more), Some(Reply::Failed(Failure::Busy)));
    let read = cluster.ask(0, get("a"));
    assert_eq!(cluster.reply(read), None);
    cluster.release(1);
    let replies: Vec<_> = asked.into_iter().map(|id| cluster.reply(id)).collect();
    assert!(matches!(&replies[0], Some(Reply::Response { index, .. }) if *index == before.next()));
    assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
    cluster.settle();
    assert!(matches!(cluster.reply(read), Some(Reply::Answer { .. })));
    assert_eq!(cluster.servers[0].replica.requests_open(), 0);
    // What was executed is known wherever it was applied.
    cluster.release(2);
    cluster.pass(1);
    for server in 0..3 {
        assert_eq!(Some(cluster.call(server, put(session, 1, "a", "1"))), replies[0]);
    }
    assert_eq!(last(&cluster), before.next());
}

/// Whatever becomes of a command, who repeats it hears the same.
#[test]
fn who_repeats_a_command_of_a_session_that_expires_hears_so() {
    let mut cluster = Cluster::with(3, |options| {
        options.sessions_max = 1;
        options.config.requests_max = 8;
    });
    cluster.elect(0);
    let session = cluster.open_session(0);
    for server in [1, 2] {
        cluster.servers[server].hold = Some(Hold::Persists);
    }
    let other = cluster.ask(0, Request::OpenSession);
    let asked = [(); 3].map(|()| cluster.ask(0, put(session, 1, "a", "1")));
    cluster.settle();
    cluster.release(1);
    assert!(matches!(cluster.reply(other), Some(Reply::SessionOpened { .. })));
    for id in asked {
        assert_eq!(cluster.reply(id), Some(Reply::Failed(Failure::Expired)));
    }
}

/// A replica that leads no more may have to wait for long: who repeats a command there is told so.
#[test]
fn who_repeats_a_command_at_a_deposed_leader_asks_elsewhere() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    let session = cluster.open_session(0);
    cluster.cut.insert(0);
    let asked = [(); 2].map(|()| cluster.ask(0, put(session, 1, "a", "lost")));
    // Nobody answers it, so it steps down.
    cluster.pass(30);
    let late = cluster.call(0, put(session, 1, "a", "lost"));
    assert_eq!(late, Reply::Failed(Failure::NotLeader { hint: None }));
    assert_eq!(asked.map(|id| cluster.reply(id)), [None, None]);
    cluster.elect(1);
    assert!(matches!(cluster.call(1, put(session, 1, "a", "kept")), Reply::Response { .. }));
    cluster.cut.clear();
    cluster.pass(5);
    let superseded = Some(Reply::Failed(Failure::Superseded));
    assert_eq!(asked.map(|id| cluster.reply(id)), [superseded.clone(), superseded]);
}

#[test]
fn a_full_table_expires_the_session_used_least_recently() {
    let mut cluster = Cluster::with(3, |options| options.sessions_max = 2);
    cluster.elect(0);
    let (one, two) = (cluster.open_session(0), cluster.open_session(0));
    let written = cluster.call(0, put(one, 1, "a", "1"));
    let three = cluster.open_session(0);
    assert_eq!(cluster.call(0, put(one, 1, "a", "1")), written);
    assert_eq!(cluster.call(0, put(two, 1, "a", "2")), Reply::Failed(Failure::Expired));
    assert!(matches!(cluster.call(0, put(three, 1, "b", "3")), Reply::Response { .. }));
}

#[test]
fn commands_that_arrive_together_share_one_batch() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    let sessions: Vec<SessionId> = (0..10).map(|_| cluster.open_session(0)).collect();
    let store = &cluster.servers[0].store;
    let (batches, entries) = (store.batches, store.entries);
    cluster.servers[0].outputs.clear();
    let requests: Vec<_> =
        sessions.iter().map(|session| cluster.request(put(*session, 1, "a", "v"))).collect();
    let ids: Vec<_> = requests.iter().map(|(id, _)| *id).collect();
    cluster.feed_all(0, requests.into_iter().map(|(_, input)| input).collect());
    let store = &cluster.servers[0].store;
    assert_eq!((store.batches - batches, store.entries - entries), (1, 10));
    let is_send = |output: &&Output<Kv>| matches!(output, Output::Send { .. });
    assert_eq!(cluster.servers[0].outputs.iter().filter(is_send).count(), 2, "one per follower");
    cluster.settle();
    let replies: Vec<_> = ids.into_iter().map(|id| cluster.reply(id).unwrap()).collect();
    let indices: Vec<Index> = replies.iter().map(index_of).collect();
    assert!(indices.windows(2).all(|pair| pair[0].next() == pair[1]), "{indices:?}");
}

#[test]
fn a_deposed_leader_tells_what_became_of_its_requests() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    let session = cluster.open_session(0);
    cluster.cut.insert(0);
    let write = cluster.ask(0, put(session, 1, "a", "lost"));
    let read = cluster.ask(0, get("a"));
    cluster.settle();
    assert_eq!((cluster.reply(write), cluster.reply(read)), (None, None));
    cluster.elect(1);
    let written = cluster.call(1, put(session, 1, "a", "kept"));
    cluster.cut.clear();
    cluster.pass(5);
    assert_eq!(cluster.reply(write), Some(Reply::Failed(Failure::Superseded)));
    let read = cluster.reply(read).expect("the read is answered");
    assert!(matches!(read, Reply::Failed(Failure::NotLeader { .. })), "{read:?}");
    assert_eq!(cluster.get(1, "a"), Some(("kept".to_owned(), index_of(&written))));
}

#[test]
fn nothing_is_answered_before_it_is_durable_on_a_quorum() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    let session = cluster.open_session(0);
    for server in [1, 2] {
        cluster.servers[server].hold = Some(Hold::Persists);
    }
    let write = cluster.ask(0, put(session, 1, "a", "1"));
    cluster.settle();
    assert_eq!(cluster.reply(write), None);
    cluster.release(1);
    assert!(matches!(cluster.reply(write), Some(Reply::Response { .. })));
}

#[test]
fn a_failed_disk_ends_every_request() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    let session = cluster.open_session(0);
    cluster.servers[0].hold = Some(Hold::Persists);
    let write = cluster.ask(0, put(session, 1, "a", "1"));
    let read = cluster.ask(0, get("a"));
    cluster.feed(0, Input::Done(Done::Failed));
    for request in [write, read] {
        assert_eq!(cluster.reply(request), Some(Reply::Failed(Failure::Halted)));
    }
    assert_eq!(cluster.call(0, get("a")), Reply::Failed(Failure::Halted));
    assert_eq!(cluster.servers[0].replica.requests_open(), 0);
    // What the core hands out late, because the disk was slow to fail, changes nothing.
    let before = cluster.states()[0];
    cluster.release(0);
    assert_eq!(cluster.states()[0], before);
}

#[test]
fn a_limit_on_requests_is_told_and_leaves_nothing_behind() {
    let mut cluster = Cluster::with(3, |options| options.config.requests_max = 2);
    cluster.elect(0);
    let session = cluster.open_session(0);
    cluster.cut.insert(0);
    let asked: Vec<_> =
        (0..3).map(|serial| cluster.ask(0, put(session, serial, "a", "1"))).collect();
    assert_eq!(cluster.reply(asked[0]), None);
    assert_eq!(cluster.reply(asked[2]), Some(Reply::Failed(Failure::Busy)));
    let asked: Vec<_> = (0..3).map(|_| cluster.ask(0, get("a"))).collect();
    assert_eq!(cluster.reply(asked[0]), None);
    assert_eq!(cluster.reply(asked[2]), Some(Reply::Failed(Failure::Busy)));
    assert_eq!(cluster.servers[0].replica.requests_open(), 4);
}

#[test]
fn a_command_that_is_too_large_is_refused() {
    let mut cluster = Cluster::with(3, |options| options.config.command_bytes_max = 64);
    cluster.elect(0);
    let session = cluster.open_session(0);
    let large = put(session, 1, "a", &"v".repeat(64));
    assert_eq!(cluster.call(0, large), Reply::Failed(Failure::TooLarge));
    assert!(matches!(cluster.call(0, put(session, 1, "a", "v")), Reply::Response { .. }));
}

#[test]
fn a_frame_that_is_no_message_changes_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.elect(0);
    let before = cluster.servers[0].replica.raft().digest();
    cluster.servers[0].outputs.clear();
    for frame in [&b""[..], b"\x01", b"not a message at all, however long it may be"] {
        cluster.feed(0, Input::Frame(Bytes::from_static(frame)));
    }
    let outputs = &cluster.servers[0].outputs;
    assert_eq!(outputs.len(), 3);
    assert!(outputs.iter().all(|output| matches!(output, Output::BadFrame(_))), "{outputs:?}");
    assert_eq!(cluster.servers[0].replica.raft().digest(), before);
}

/// What a sole member finds whose log says `commands`.
fn found(commands: &[&'static [u8]]) -> RecoveredState {
    let genesis = RecoveredState::genesis(founders(1));
    let before: EntryId = genesis.before;
    let payload = |command: &&'static [u8]| Payload::Command(Bytes::from_static(command));
    let items = commands.iter().map(|command| (Term(1), payload(command)));
    let slots: Vec<Slot> = Entries::after(before, items)
        .iter()
        .map(|entry| Slot::Resident { id: entry.id(), payload: entry.payload().clone() })
        .collect();
    let mut found = RecoveredState { slots, founding: false, ..genesis };
    found.hard_state.term = Term(1);
    found
}

/// Starts a sole member with that log, completes its disk work, lets it lead, and returns it.
fn lead_with<M: StateMachine>(machine: M, commands: &[&'static [u8]]) -> Replica<M> {
    let mut out = Vec::new();
    let mut replica = Replica::start(options(0), found(commands), machine, Time(0), &mut out)
        .expect("what is found makes sense");
    replica.handle(Time(1), Input::Campaign, &mut out);
    while !out.is_empty() {
        let inputs: Vec<Input<M>> = std::mem::take(&mut out)
            .into_iter()
            .filter_map(|output| match output {
                Output::Work(Work::Persist { batch, .. }) => {
                    Some(Input::Done(Done::Persisted { seq: batch.seq }))
                }
                Output::Work(_)
                | Output::Save { .. }
                | Output::Send { .. }
                | Output::Reply { .. }
                | Output::Applied { .. }
                | Output::Restored { .. }
                | Output::Observe(_)
                | Output::BadFrame(_)
                | Output::BadSnapshot { .. } => None,
            })
            .collect();
        replica.handle_batch(Time(2), inputs, &mut out);
    }
    replica
}

const OPEN: &[u8] = &[1, 0, 8];
const PUT: &[u8] = &[1, 1, 2, 1, 0, 1, b'k', 1, b'v'];

#[test]
fn an_entry_that_is_no_command_is_passed_over_by_all_alike() {
    let replica = lead_with(Kv::new(), &[b"garbage", OPEN, PUT]);
    assert_eq!(replica.applied(), Index(4));
    assert_eq!(replica.machine().get(b"k").map(|found| found.version), Some(Index(3)));
    assert_eq!(lead_with(Kv::new(), &[b"garbage", OPEN, PUT]).digest(), replica.digest());
    // Equal states after different histories are told apart.
    let other = lead_with(Kv::new(), &[b"", OPEN, PUT]);
    assert_eq!(other.machine(), replica.machine());
    assert_ne!(other.digest(), replica.digest());
}

/// Answers the opposite of what is true.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Liar(Kv);

impl StateMachine for Liar {
    type Command = KvCommand;
    type Response = KvResponse;
    type Query = KvQuery;
    type Answer = KvAnswer;
    type Snapshot = Kv;
    type Error = KvError;
    type Restore = Gathered;

    fn apply(&mut self, index: Index, command: KvCommand) -> KvResponse {
        self.0.apply(index, command);
        KvResponse::KeyTooLong
    }

    fn query(&self, query: &KvQuery) -> KvAnswer {
        self.0.query(query)
    }

    fn snapshot(&self) -> Kv {
        self.0.snapshot()
    }

    fn encode(snapshot: &Kv, bytes: &mut Vec<u8>) {
        Kv::encode(snapshot, bytes);
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), KvError> {
        self.0.restore(snapshot)
    }
}

#[test]
fn the_digest_tells_replicas_apart_that_answer_differently() {
    let honest = lead_with(Kv::new(), &[b"", OPEN, PUT]);
    // The response is what the session would answer to a retry: so it is
    // part of the state, although the map is the same.
    let liar = lead_with(Liar(Kv::new()), &[b"", OPEN, PUT]);
    assert_eq!((liar.applied(), &liar.machine().0), (honest.applied(), honest.machine()));
    assert_ne!(liar.digest(), honest.digest());
}
