//! Arbitrary messages and records, within the bounds that a correct node keeps.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use raft_core::{
    AppendResult, Chain, ClusterId, Entries, EntryId, EntryResult, Envelope, Epoch, GroupId,
    HardState, Incarnation, Index, LIMIT, Lineage, Member, Membership, NodeId, Payload, ReadId,
    RepairId, RepairRpc, Round, Rpc, Session, SnapshotMeta, Span, Term,
};

use crate::samples;

/// Any message.
pub(crate) fn envelopes() -> impl Strategy<Value = Envelope> {
    let identity = (any::<u64>(), any::<u64>(), members(), members());
    (identity, counters(), counters(), counters(), rpcs()).prop_map(
        |((cluster, group, from, to), epoch, incarnation, term, rpc)| Envelope {
            cluster: ClusterId(cluster),
            group: GroupId(group),
            from,
            to,
            epoch: Epoch(epoch),
            incarnation: Incarnation(incarnation),
            term: Term(term),
            rpc,
        },
    )
}

/// Any hard state.
pub(crate) fn hard_states() -> impl Strategy<Value = HardState> {
    (counters(), counters(), counters(), option::of(members()), counters(), any::<bool>()).prop_map(
        |(epoch, incarnation, term, vote, promise, is_tail_unknown)| HardState {
            epoch: Epoch(epoch),
            incarnation: Incarnation(incarnation),
            term: Term(term),
            vote,
            promise: Span(promise),
            is_tail_unknown,
        },
    )
}

/// Any payload.
pub(crate) fn payloads() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Noop),
        blobs().prop_map(Payload::Command),
        memberships().prop_map(|membership| Payload::Membership(Arc::new(membership))),
    ]
}

/// Any description of a snapshot.
pub(crate) fn snapshot_metas() -> impl Strategy<Value = SnapshotMeta> {
    (entry_ids(0..LIMIT), memberships())
        .prop_map(|(last, membership)| SnapshotMeta { last, membership })
}

fn rpcs() -> impl Strategy<Value = Rpc> {
    prop_oneof![
        (entry_ids(0..LIMIT), counters())
            .prop_map(|(last, attempt)| Rpc::RequestPreVote { last, attempt }),
        (counters(), any::<bool>())
            .prop_map(|(attempt, granted)| Rpc::RequestPreVoteResponse { attempt, granted }),
        (entry_ids(0..LIMIT), any::<bool>())
            .prop_map(|(last, is_forced)| Rpc::RequestVote { last, is_forced }),
        any::<bool>().prop_map(|granted| Rpc::RequestVoteResponse { granted }),
        append_entries(),
        (streams(), append_results()).prop_map(|((session, round), result)| {
            Rpc::AppendEntriesResponse { session, round, result }
        }),
        (streams(), counters())
            .prop_map(|((session, _), commit)| Rpc::Commit { session, commit: Index(commit) }),
        (streams(), counters(), counters()).prop_map(|((session, round), commit, lease)| {
            Rpc::Heartbeat { session, round, commit: Index(commit), lease: Span(lease) }
        }),
        streams().prop_map(|(session, round)| Rpc::HeartbeatResponse { session, round }),
        install_snapshots(),
        (streams(), entry_ids(0..LIMIT), counters()).prop_map(
            |((session, round), snapshot, staged)| Rpc::InstallSnapshotResponse {
                session,
                round,
                snapshot,
                staged
            }
        ),
        Just(Rpc::TimeoutNow),
        read_ids().prop_map(|id| Rpc::ReadIndex { id }),
        (read_ids(), counters())
            .prop_map(|(id, index)| Rpc::ReadIndexResponse { id, index: Index(index) }),
        about_damage().prop_map(Rpc::Repair),
    ]
}

/// What nodes say to each other about damage.
fn about_damage() -> impl Strategy<Value = RepairRpc> {
    let snapshots = || snapshot_metas().prop_map(Arc::new);
    prop_oneof![
        Just(RepairRpc::Barrier),
        (counters(), counters()).prop_map(|(incarnation, index)| RepairRpc::BarrierResponse {
            incarnation: Incarnation(incarnation),
            index: Index(index)
        }),
        (repair_ids(), entry_ids(0..LIMIT), any::<bool>()).prop_map(|(id, wanted, is_snapshot)| {
            RepairRpc::RequestEntry { id, wanted, is_snapshot }
        }),
        (repair_ids(), entry_results())
            .prop_map(|(id, result)| RepairRpc::RequestEntryResponse { id, result }),
        (repair_ids(), entry_ids(0..LIMIT), counters())
            .prop_map(|(id, snapshot, offset)| RepairRpc::RequestSnapshot { id, snapshot, offset }),
        (repair_ids(), snapshots(), counters(), blobs(), any::<bool>()).prop_map(
            |(id, snapshot, offset, data, done)| RepairRpc::RequestSnapshotResponse {
                id,
                snapshot,
                offset,
                data,
                done
            }
        ),
    ]
}

fn entry_results() -> impl Strategy<Value = EntryResult> {
    let entry = (entry_ids(0..LIMIT - 8), counters(), payloads());
    prop_oneof![
        entry.prop_map(|(prev, term, payload)| {
            let before = EntryId { term: Term::ZERO, ..prev };
            EntryResult::Have { entries: Entries::after(before, [(Term(term), payload)]) }
        }),
        snapshot_metas().prop_map(|meta| EntryResult::HaveSnapshot { snapshot: Arc::new(meta) }),
        Just(EntryResult::DontHave),
        Just(EntryResult::HaveDamaged),
    ]
}

fn repair_ids() -> impl Strategy<Value = RepairId> {
    (counters(), counters())
        .prop_map(|(incarnation, n)| RepairId { incarnation: Incarnation(incarnation), n })
}

fn append_entries() -> impl Strategy<Value = Rpc> {
    let items = vec((counters().prop_map(Term), payloads()), 0..8);
    (streams(), entry_ids(0..LIMIT - 8), items, counters()).prop_map(
        |((session, round), prev, items, commit)| Rpc::AppendEntries {
            session,
            round,
            prev,
            entries: Entries::after(prev, items),
            commit: Index(commit),
        },
    )
}

fn append_results() -> impl Strategy<Value = AppendResult> {
    prop_oneof![
        counters().prop_map(|index| AppendResult::Matched { index: Index(index) }),
        (counters(), counters(), counters()).prop_map(|(rejected, hint, hint_term)| {
            AppendResult::Conflict {
                rejected: Index(rejected),
                hint: Index(hint),
                hint_term: Term(hint_term),
            }
        }),
        Just(AppendResult::Blank),
        counters().prop_map(|index| AppendResult::Diverged { index: Index(index) }),
    ]
}

fn install_snapshots() -> impl Strategy<Value = Rpc> {
    (streams(), snapshot_metas(), counters(), blobs(), any::<bool>()).prop_map(
        |((session, round), meta, offset, data, done)| Rpc::InstallSnapshot {
            session,
            round,
            snapshot: Arc::new(meta),
            offset,
            data,
            done,
        },
    )
}

fn read_ids() -> impl Strategy<Value = ReadId> {
    (counters(), counters())
        .prop_map(|(incarnation, n)| ReadId { incarnation: Incarnation(incarnation), n })
}

fn streams() -> impl Strategy<Value = (Session, Round)> {
    (counters(), counters()).prop_map(|(session, round)| (Session(session), Round(round)))
}

fn entry_ids(indices: Range<u64>) -> impl Strategy<Value = EntryId> {
    let small = indices.start..1000;
    (prop_oneof![small, indices], counters(), any::<u64>()).prop_map(|(index, term, chain)| {
        EntryId { index: Index(index), term: Term(term), chain: Chain(chain) }
    })
}

fn counters() -> impl Strategy<Value = u64> {
    prop_oneof![0..300u64, 0..LIMIT, Just(LIMIT - 1)]
}

fn members() -> impl Strategy<Value = Member> {
    (any::<u64>(), any::<u64>()).prop_map(|(id, lineage)| Member::new(id, lineage))
}

fn blobs() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

/// Memberships of all shapes: each server is given a role, which says what lists name it.
fn memberships() -> impl Strategy<Value = Membership> {
    let servers = btree_map(any::<u64>(), (any::<u64>(), 0..5u8), 0..12);
    (servers, any::<bool>()).prop_map(|(servers, auto_leave)| membership(&servers, auto_leave))
}

fn membership(servers: &BTreeMap<u64, (u64, u8)>, auto_leave: bool) -> Membership {
    let with_roles = |wanted: &[u8]| -> Vec<Member> {
        let chosen = servers.iter().filter(|(_, (_, role))| wanted.contains(role));
        chosen.map(|(&id, &(lineage, _))| member(id, lineage)).collect()
    };
    // 0: stays, 1: comes, 2: goes, 3: becomes a learner, 4: learns.
    let incoming = with_roles(&[0, 1]);
    if incoming.is_empty() {
        return Membership::default();
    }
    let outgoing = with_roles(&[0, 2, 3]);
    let auto_leave = auto_leave && !outgoing.is_empty();
    samples::membership(&incoming, &outgoing, &with_roles(&[4]), &with_roles(&[3]), auto_leave)
}

fn member(id: u64, lineage: u64) -> Member {
    Member { id: NodeId(id), lineage: Lineage(lineage) }
}
