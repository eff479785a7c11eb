//! One message of each kind and one record of each sort, with telling numbers: the golden vectors
//! are made of them, and the refusals damage them.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    AppendResult, Chain, ClusterId, Entries, EntryId, EntryResult, Envelope, Epoch, GroupId,
    HardState, Incarnation, Index, LIMIT, Member, Membership, Payload, ReadId, RepairId, RepairRpc,
    Round, Rpc, Session, SnapshotMeta, Span, Term, wire,
};

/// Every kind of peer message, and the variants that are encoded in another way.
pub(crate) fn messages() -> Vec<(&'static str, Envelope)> {
    let (session, round) = (Session(9), Round(300));
    let response = |result| Rpc::AppendEntriesResponse { session, round, result };
    let conflict =
        AppendResult::Conflict { rejected: Index(77), hint: Index(41), hint_term: Term(6) };
    let rpcs = [
        ("request_pre_vote", Rpc::RequestPreVote { last: prev(), attempt: 2 }),
        ("request_pre_vote_response", Rpc::RequestPreVoteResponse { attempt: 2, granted: true }),
        ("request_vote", Rpc::RequestVote { last: prev(), is_forced: false }),
        ("request_vote_forced", Rpc::RequestVote { last: prev(), is_forced: true }),
        ("request_vote_response", Rpc::RequestVoteResponse { granted: false }),
        ("append_entries", append_entries(prev(), entries())),
        ("append_entries_empty", append_entries(prev(), Entries::empty())),
        ("append_entries_response_matched", response(AppendResult::Matched { index: Index(128) })),
        ("append_entries_response_conflict", response(conflict)),
        ("append_entries_response_blank", response(AppendResult::Blank)),
        ("append_entries_response_diverged", response(AppendResult::Diverged { index: Index(5) })),
        ("commit", Rpc::Commit { session, commit: Index(40) }),
        ("heartbeat", heartbeat(Span(0))),
        ("heartbeat_lease", heartbeat(Span(900_000))),
        ("heartbeat_response", Rpc::HeartbeatResponse { session, round }),
        ("install_snapshot", install_snapshot()),
        ("install_snapshot_response", staged()),
        ("timeout_now", Rpc::TimeoutNow),
        ("read_index", Rpc::ReadIndex { id: read_id() }),
        ("read_index_response", Rpc::ReadIndexResponse { id: read_id(), index: Index(128) }),
    ];
    let all = rpcs
        .into_iter()
        .chain(about_damage().into_iter().map(|(name, rpc)| (name, Rpc::Repair(rpc))));
    all.map(|(name, rpc)| (name, envelope(rpc))).collect()
}

/// What nodes say to each other about damage.
fn about_damage() -> Vec<(&'static str, RepairRpc)> {
    let id = RepairId { incarnation: Incarnation(130), n: 5 };
    let response = |result| RepairRpc::RequestEntryResponse { id, result };
    let entries = Entries::after(prev(), [(Term(300), Payload::Command(Bytes::from("put a 1")))]);
    let snapshot = Arc::new(snapshot_meta());
    let (offset, data, done) = (65_536, Bytes::from("chunk"), true);
    let part = RepairRpc::RequestSnapshotResponse {
        id,
        snapshot: Arc::clone(&snapshot),
        offset,
        data,
        done,
    };
    vec![
        ("barrier", RepairRpc::Barrier),
        (
            "barrier_response",
            RepairRpc::BarrierResponse { incarnation: Incarnation(130), index: Index(128) },
        ),
        ("request_entry", RepairRpc::RequestEntry { id, wanted: prev(), is_snapshot: false }),
        (
            "request_entry_snapshot",
            RepairRpc::RequestEntry { id, wanted: prev(), is_snapshot: true },
        ),
        ("request_entry_response_have", response(EntryResult::Have { entries })),
        (
            "request_entry_response_have_snapshot",
            response(EntryResult::HaveSnapshot { snapshot: Arc::clone(&snapshot) }),
        ),
        ("request_entry_response_dont_have", response(EntryResult::DontHave)),
        ("request_entry_response_have_damaged", response(EntryResult::HaveDamaged)),
        ("request_snapshot", RepairRpc::RequestSnapshot { id, snapshot: prev(), offset: 65_536 }),
        ("request_snapshot_response", part),
    ]
}

/// A message between two members, with identities of all lengths.
pub(crate) fn envelope(rpc: Rpc) -> Envelope {
    Envelope {
        cluster: ClusterId(0xc1c2_c3c4_c5c6_c7c8),
        group: GroupId(7),
        from: Member::new(1, 0x1111_2222_3333_4444),
        to: Member::new(200, u64::MAX),
        epoch: Epoch(2),
        incarnation: Incarnation(130),
        term: Term(LIMIT - 1),
        rpc,
    }
}

/// An AppendEntries with these entries after `prev`.
pub(crate) fn append_entries(prev: EntryId, entries: Entries) -> Rpc {
    Rpc::AppendEntries { session: Session(9), round: Round(300), prev, entries, commit: Index(41) }
}

/// The entry before the entries.
pub(crate) fn prev() -> EntryId {
    EntryId { index: Index(41), term: Term(6), chain: Chain(0xfeed_beef_0123_4567) }
}

/// One entry of each kind after [`prev`], and an empty command.
pub(crate) fn entries() -> Entries {
    let items = [
        (Term(7), Payload::Noop),
        (Term(7), Payload::Command(Bytes::from_static(b"put colour blue"))),
        (Term(8), Payload::Membership(Arc::new(joint()))),
        (Term(300), Payload::Command(Bytes::new())),
    ];
    Entries::after(prev(), items)
}

/// A joint membership with something in every list.
pub(crate) fn joint() -> Membership {
    let incoming = [Member::new(1, 10), Member::new(2, 20), Member::new(4, 40)];
    let outgoing = [Member::new(1, 10), Member::new(2, 20), Member::new(3, 30)];
    membership(&incoming, &outgoing, &[Member::new(5, 50)], &[Member::new(3, 30)], true)
}

/// The membership with these lists, by way of its record.
pub(crate) fn membership(
    incoming: &[Member],
    outgoing: &[Member],
    learners: &[Member],
    learners_next: &[Member],
    auto_leave: bool,
) -> Membership {
    let record = membership_record(&(incoming, outgoing, learners, learners_next, auto_leave));
    match wire::decode_payload(2, record) {
        Ok(Payload::Membership(membership)) => (*membership).clone(),
        other => panic!("the lists make a membership: {other:?}"),
    }
}

/// The record that names these lists, whether or not they make a membership.
pub(crate) fn membership_record(
    lists: &(&[Member], &[Member], &[Member], &[Member], bool),
) -> Bytes {
    let record = postcard::to_extend(lists, vec![wire::VERSION]).expect("a vector grows");
    Bytes::from(record)
}

/// The description of a snapshot.
pub(crate) fn snapshot_meta() -> SnapshotMeta {
    let voters = vec![Member::new(1, 10), Member::new(2, 20), Member::new(3, 30)];
    let membership = Membership::new(voters, vec![Member::new(4, 40)]).expect("distinct members");
    SnapshotMeta { last: prev(), membership }
}

/// A hard state with a vote.
pub(crate) fn hard_state() -> HardState {
    HardState {
        epoch: Epoch(1),
        incarnation: Incarnation(12),
        term: Term(345),
        vote: Some(Member::new(2, 0xabcd_ef01)),
        promise: Span(990_000),
        is_tail_unknown: false,
    }
}

/// The hard states of the golden vectors.
pub(crate) fn hard_states() -> [(&'static str, HardState); 3] {
    let state = hard_state();
    [
        ("hard_state", state),
        ("hard_state_no_vote", HardState { vote: None, ..state }),
        ("hard_state_tail_unknown", HardState { is_tail_unknown: true, ..state }),
    ]
}

fn heartbeat(lease: Span) -> Rpc {
    Rpc::Heartbeat { session: Session(9), round: Round(300), commit: Index(40), lease }
}

fn read_id() -> ReadId {
    ReadId { incarnation: Incarnation(130), n: 77 }
}

fn install_snapshot() -> Rpc {
    Rpc::InstallSnapshot {
        session: Session(9),
        round: Round(300),
        snapshot: Arc::new(snapshot_meta()),
        offset: 65_536,
        data: Bytes::from_static(b"part of a state machine"),
        done: true,
    }
}

fn staged() -> Rpc {
    Rpc::InstallSnapshotResponse {
        session: Session(9),
        round: Round(300),
        snapshot: prev(),
        staged: 65_559,
    }
}
