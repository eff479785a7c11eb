//! Arbitrary starts, and arbitrary messages of all kinds, as a node may be given them.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use raft_core::{
    Body, Chain, Chunk, ChunkId, ChunkPurpose, ChunkRequest, ClusterId, Config, Entries, EntryId,
    GroupId, Incarnation, Index, LoadPurpose, LoadRequest, Member, MemberStep, MembershipChange,
    NodeId, PersistSeq, ReadMode, RecordedStart, RecoveredState, RepairId, Session, Slot, Term,
    Ticket, Time,
};

use crate::strategies::{envelopes, hard_states, payloads, snapshot_metas};

/// Any number may stand in what the host itself says: the core refuses what it cannot use.
pub(crate) fn any_body() -> impl Strategy<Value = Body> {
    prop_oneof![requests(), completions(), envelopes().prop_map(Body::Peer)]
}

fn requests() -> impl Strategy<Value = Body> {
    let ticket = || any::<u64>().prop_map(Ticket);
    let command = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let steps = || vec(member_steps(), 0..4);
    let changes = prop_oneof![
        steps().prop_map(MembershipChange::Steps),
        steps().prop_map(MembershipChange::EnterJoint),
        Just(MembershipChange::LeaveJoint),
    ];
    let expect = option::of(snapshot_metas().prop_map(|meta| Arc::new(meta.membership)));
    let mode = prop_oneof![Just(ReadMode::ReadIndex), Just(ReadMode::Lease)];
    prop_oneof![
        Just(Body::Tick),
        Just(Body::Campaign),
        Just(Body::StepDown),
        Just(Body::ForgetLeader),
        (ticket(), command()).prop_map(|(ticket, command)| Body::Propose { ticket, command }),
        vec((ticket(), command()), 0..4).prop_map(|proposals| Body::ProposeBatch { proposals }),
        (ticket(), mode).prop_map(|(ticket, mode)| Body::Read { ticket, mode }),
        (ticket(), changes, expect).prop_map(|(ticket, change, expect)| {
            Body::ProposeMembership { ticket, change, expect }
        }),
        (ticket(), option::of(any::<u64>().prop_map(NodeId)))
            .prop_map(|(ticket, to)| Body::TransferLeadership { ticket, to }),
        ticket().prop_map(|ticket| Body::ForceMembership { ticket }),
        any_member().prop_map(|peer| Body::PeerUnreachable { peer }),
    ]
}

fn completions() -> impl Strategy<Value = Body> {
    let number = any::<u64>;
    let chunk = (vec(any::<u8>(), 0..40), any::<bool>())
        .prop_map(|(data, done)| Chunk { data: data.into(), done });
    prop_oneof![
        (number(), number()).prop_map(|(incarnation, n)| {
            Body::Persisted { seq: PersistSeq { incarnation: Incarnation(incarnation), n } }
        }),
        Just(Body::PersistFailed),
        any::<bool>().prop_map(|is_full| Body::DiskFull { is_full }),
        number().prop_map(|through| Body::Applied { through: Index(through) }),
        (load_requests(), option::of(loaded()))
            .prop_map(|(request, entries)| Body::Loaded { request, entries }),
        vec(any_id(), 0..4).prop_map(|entries| Body::Damaged { entries }),
        snapshot_metas().prop_map(|meta| Body::SnapshotTaken { snapshot: Arc::new(meta) }),
        (chunk_requests(), option::of(chunk))
            .prop_map(|(request, chunk)| Body::ChunkRead { request, chunk }),
        (number(), number(), number()).prop_map(|(incarnation, n, staged)| {
            Body::ChunkStaged { id: ChunkId { incarnation: Incarnation(incarnation), n }, staged }
        }),
    ]
}

/// Entries as a disk may give them, wherever they belong.
fn loaded() -> impl Strategy<Value = Entries> {
    let items = vec((0..1u64 << 62, payloads()), 0..4);
    (0..1u64 << 61, any::<u64>(), items).prop_map(|(index, chain, items)| {
        let before = EntryId { index: Index(index), term: Term(0), chain: Chain(chain) };
        Entries::after(before, items.into_iter().map(|(term, payload)| (Term(term), payload)))
    })
}

fn load_requests() -> impl Strategy<Value = LoadRequest> {
    let purposes = prop_oneof![
        Just(LoadPurpose::Apply),
        (any_member(), any::<u64>())
            .prop_map(|(member, it)| LoadPurpose::Peer { member, session: Session(it) }),
        (any_member(), repair_ids()).prop_map(|(member, id)| LoadPurpose::Repair { member, id }),
    ];
    (purposes, any_id(), any::<u64>(), any::<u32>()).prop_map(|(purpose, after, through, max)| {
        LoadRequest { purpose, after, through: Index(through), bytes_max: max as usize }
    })
}

fn chunk_requests() -> impl Strategy<Value = ChunkRequest> {
    let purposes = prop_oneof![
        any::<u64>().prop_map(|it| ChunkPurpose::Lag { session: Session(it) }),
        repair_ids().prop_map(|id| ChunkPurpose::Repair { id }),
    ];
    (any_member(), purposes, any_id(), any::<u64>(), any::<u32>()).prop_map(
        |(to, purpose, snapshot, offset, max)| ChunkRequest {
            to,
            purpose,
            snapshot,
            offset,
            bytes_max: max as usize,
        },
    )
}

pub(crate) fn starts() -> impl Strategy<Value = RecordedStart> {
    let found = (hard_states(), snapshot_metas(), vec(slots(), 0..6), any_id());
    let flags = (any::<u64>(), any::<u64>(), any::<bool>(), any::<bool>());
    (configs(), found, flags, any::<u64>(), any::<u64>()).prop_map(
        |(config, (hard_state, snapshot, slots, before), flags, now, digest)| {
            let (commit, applied, founding, is_snapshot_damaged) = flags;
            let found = RecoveredState {
                hard_state,
                snapshot: Arc::new(snapshot),
                slots,
                before,
                commit: Index(commit),
                applied: Index(applied),
                founding,
                is_snapshot_damaged,
            };
            RecordedStart { config, found, now: Time(now), digest }
        },
    )
}

/// Options without sense: each number is one of its own, so that none is taken for another.
fn configs() -> impl Strategy<Value = Config> {
    let numbers = (any::<[u64; 9]>(), any::<[u32; 10]>());
    (numbers, any::<[u8; 2]>(), any::<[bool; 2]>()).prop_map(|((wide, sizes), small, flags)| {
        let member = Member::new(wide[2], wide[3]);
        let mut config = Config::new(ClusterId(wide[0]), GroupId(wide[1]), member);
        [config.seed, config.election_timeout_us, config.heartbeat_interval_us] =
            [wide[4], wide[5], wide[6]];
        [config.promotion_lag_entries_max, config.kept_behind_snapshot] = [wide[7], wide[8]];
        config.lease_us = wide[0] ^ wide[8];
        [config.priority, config.clock_drift_percent] = small;
        [config.pre_vote, config.check_quorum] = flags;
        [
            config.command_bytes_max,
            config.append_bytes_max,
            config.append_entries_max,
            config.inflight_appends_max,
            config.inflight_bytes_max,
            config.uncommitted_bytes_max,
            config.unapplied_bytes_max,
            config.resident_bytes_max,
            config.requests_max,
            config.snapshot_chunk_bytes,
        ] = sizes.map(|size| size as usize);
        config
    })
}

fn slots() -> impl Strategy<Value = Slot> {
    prop_oneof![
        (any_id(), payloads()).prop_map(|(id, payload)| Slot::Resident { id, payload }),
        (any_id(), any::<u32>()).prop_map(|(id, it)| Slot::Cold { id, bytes: it as usize }),
        (any_id(), any::<u32>(), any::<bool>()).prop_map(|(id, it, is_membership)| {
            Slot::Damaged { id, bytes: it as usize, is_membership }
        }),
    ]
}

fn member_steps() -> impl Strategy<Value = MemberStep> {
    let id = || any::<u64>().prop_map(NodeId);
    prop_oneof![
        any_member().prop_map(MemberStep::AddLearner),
        id().prop_map(MemberStep::Promote),
        id().prop_map(MemberStep::Demote),
        id().prop_map(MemberStep::Remove),
        (id(), id()).prop_map(|(old, new)| MemberStep::Replace { old, new }),
    ]
}

fn any_member() -> impl Strategy<Value = Member> {
    (any::<u64>(), any::<u64>()).prop_map(|(id, lineage)| Member::new(id, lineage))
}

fn any_id() -> impl Strategy<Value = EntryId> {
    (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(index, term, chain)| EntryId {
        index: Index(index),
        term: Term(term),
        chain: Chain(chain),
    })
}

fn repair_ids() -> impl Strategy<Value = RepairId> {
    (any::<u64>(), any::<u64>())
        .prop_map(|(incarnation, n)| RepairId { incarnation: Incarnation(incarnation), n })
}
