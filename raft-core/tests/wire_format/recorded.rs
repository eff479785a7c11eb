//! What a node was given: golden vectors of a start and of every kind of message, what comes back,
//! and what is refused.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use raft_core::wire::{self, Limits, WireError};
use raft_core::{
    Body, Chain, Chunk, ChunkId, ChunkPurpose, ChunkRequest, ClusterId, Config, Entries, EntryId,
    GroupId, Incarnation, Index, LoadPurpose, LoadRequest, Member, MemberStep, MembershipChange,
    Message, NodeId, Payload, PersistSeq, ReadMode, Recorded, RecordedBatch, RecordedStart,
    RecoveredState, RepairId, Session, Slot, Term, Ticket, Time,
};

use crate::golden::golden;
use crate::recorded_strategies::{any_body, starts};
use crate::refusals::resealed;
use crate::round_trip::{config as cases, lies_in};
use crate::samples;

/// A start, and a batch of each kind of message.
pub(crate) fn recorded() -> Vec<(&'static str, Recorded)> {
    let batch =
        |messages| Recorded::Batch(RecordedBatch { messages, digest: 0xd1d2_d3d4_d5d6_d7d8 });
    let mut all = vec![
        ("recorded_start", Recorded::Start(Box::new(start()))),
        ("recorded_batch_empty", batch(Vec::new())),
    ];
    for (name, body) in bodies() {
        all.push((name, batch(vec![Message { now: Time(1_234_567), body }])));
    }
    let messages = [bodies()[0].1.clone(), bodies()[3].1.clone()].into_iter().zip([9, 8]);
    let messages = messages.map(|(body, now)| Message { now: Time(now), body });
    all.push(("recorded_batch_of_two", batch(messages.collect())));
    all
}

fn start() -> RecordedStart {
    let mut config = Config::new(ClusterId(0xc1c2), GroupId(7), Member::new(1, 0x1111));
    (config.seed, config.pre_vote, config.priority) = (u64::MAX, false, 3);
    (config.lease_us, config.kept_behind_snapshot) = (900_000, 77);
    let [first, second, third] = [42, 43, 44].map(|index| EntryId {
        index: Index(index),
        term: Term(7),
        chain: Chain(index << 40),
    });
    let slots = vec![
        Slot::Cold { id: first, bytes: 300 },
        Slot::Damaged { id: second, bytes: 64, is_membership: true },
        Slot::Resident { id: third, payload: Payload::Command(Bytes::from_static(b"put a 1")) },
        Slot::Resident { id: third, payload: Payload::Noop },
        Slot::Resident { id: third, payload: Payload::Membership(Arc::new(samples::joint())) },
    ];
    let found = RecoveredState {
        hard_state: samples::hard_state(),
        snapshot: Arc::new(samples::snapshot_meta()),
        slots,
        before: samples::prev(),
        commit: Index(43),
        applied: Index(0),
        founding: false,
        is_snapshot_damaged: true,
    };
    RecordedStart { config, found, now: Time(1_234_567), digest: u64::MAX }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let mut all = requests_of_all_kinds();
    all.extend(completions_of_all_kinds());
    all
}

/// Peers, clients, operators.
fn requests_of_all_kinds() -> Vec<(&'static str, Body)> {
    let (ticket, member) = (Ticket(300), Member::new(2, 0xabcd));
    let command = Bytes::from_static(b"put colour blue");
    let change = |change, expect| Body::ProposeMembership { ticket, change, expect };
    let steps = vec![
        MemberStep::AddLearner(member),
        MemberStep::Promote(NodeId(2)),
        MemberStep::Demote(NodeId(3)),
        MemberStep::Remove(NodeId(4)),
        MemberStep::Replace { old: NodeId(5), new: NodeId(300) },
    ];
    let heartbeat = samples::messages().into_iter().find(|(name, _)| *name == "heartbeat");
    vec![
        ("recorded_tick", Body::Tick),
        ("recorded_peer", Body::Peer(heartbeat.expect("it is a sample").1)),
        ("recorded_peer_unreachable", Body::PeerUnreachable { peer: member }),
        ("recorded_propose", Body::Propose { ticket, command: command.clone() }),
        (
            "recorded_propose_batch",
            Body::ProposeBatch { proposals: vec![(ticket, command), (Ticket(1), Bytes::new())] },
        ),
        ("recorded_read", Body::Read { ticket, mode: ReadMode::ReadIndex }),
        ("recorded_read_lease", Body::Read { ticket, mode: ReadMode::Lease }),
        (
            "recorded_membership",
            change(MembershipChange::Steps(steps.clone()), Some(Arc::new(samples::joint()))),
        ),
        ("recorded_membership_enter", change(MembershipChange::EnterJoint(steps), None)),
        ("recorded_membership_leave", change(MembershipChange::LeaveJoint, None)),
        ("recorded_transfer", Body::TransferLeadership { ticket, to: Some(NodeId(2)) }),
        ("recorded_transfer_any", Body::TransferLeadership { ticket, to: None }),
        ("recorded_campaign", Body::Campaign),
        ("recorded_step_down", Body::StepDown),
        ("recorded_forget_leader", Body::ForgetLeader),
        ("recorded_force_membership", Body::ForceMembership { ticket }),
    ]
}

/// The host, about what it was asked to do.
fn completions_of_all_kinds() -> Vec<(&'static str, Body)> {
    let member = Member::new(2, 0xabcd);
    let id = RepairId { incarnation: Incarnation(130), n: 5 };
    let load = |purpose| LoadRequest {
        purpose,
        after: samples::prev(),
        through: Index(45),
        bytes_max: 4096,
    };
    let read = |purpose| ChunkRequest {
        to: member,
        purpose,
        snapshot: samples::prev(),
        offset: 65_536,
        bytes_max: 1 << 16,
    };
    let of_session = LoadPurpose::Peer { member, session: Session(9) };
    let for_repair = LoadPurpose::Repair { member, id };
    let entries = Some(samples::entries());
    let chunk = Some(Chunk { data: Bytes::from_static(b"part"), done: true });
    let lag = ChunkPurpose::Lag { session: Session(9) };
    vec![
        (
            "recorded_persisted",
            Body::Persisted { seq: PersistSeq { incarnation: Incarnation(130), n: 7 } },
        ),
        ("recorded_persist_failed", Body::PersistFailed),
        ("recorded_applied", Body::Applied { through: Index(128) }),
        ("recorded_loaded", Body::Loaded { request: load(LoadPurpose::Apply), entries }),
        ("recorded_loaded_none", Body::Loaded { request: load(of_session), entries: None }),
        (
            "recorded_loaded_empty",
            Body::Loaded { request: load(for_repair), entries: Some(Entries::empty()) },
        ),
        ("recorded_damaged", Body::Damaged { entries: vec![samples::prev()] }),
        (
            "recorded_snapshot_taken",
            Body::SnapshotTaken { snapshot: Arc::new(samples::snapshot_meta()) },
        ),
        ("recorded_chunk_read", Body::ChunkRead { request: read(lag), chunk }),
        (
            "recorded_chunk_read_none",
            Body::ChunkRead { request: read(ChunkPurpose::Repair { id }), chunk: None },
        ),
        (
            "recorded_chunk_staged",
            Body::ChunkStaged {
                id: ChunkId { incarnation: Incarnation(130), n: 7 },
                staged: 65_540,
            },
        ),
        ("recorded_disk_full", Body::DiskFull { is_full: true }),
        ("recorded_disk_has_room", Body::DiskFull { is_full: false }),
    ]
}

fn decode(record: impl Into<Bytes>) -> Result<Recorded, WireError> {
    wire::decode_recorded(record.into(), &Limits::for_recorded())
}

#[test]
fn records_have_their_golden_bytes_and_golden_bytes_are_the_records() {
    for (name, recorded) in recorded() {
        let title = match &recorded {
            Recorded::Start(_) => "a start".to_owned(),
            Recorded::Batch(batch) => {
                let told: Vec<String> = batch.messages.iter().map(Message::to_string).collect();
                told.join("; ")
            }
        };
        let golden = golden(name, &title, &wire::encode_recorded(&recorded));
        assert_eq!(decode(golden), Ok(recorded), "{name}");
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    for (name, recorded) in recorded() {
        let record = wire::encode_recorded(&recorded);
        for length in 0..record.len() {
            assert!(decode(record.slice(..length)).is_err(), "{name} cut to {length}");
        }
        for bit in 0..record.len() * 8 {
            let mut flipped = record.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 8 {
                WireError::UnknownVersion(record[0] ^ (1 << bit))
            } else {
                WireError::Checksum
            };
            assert_eq!(decode(flipped), Err(expected), "{name}, bit {bit}");
        }
    }
}

/// Who computes the checksum over nonsense gets another record at best, and never a panic.
#[test]
fn nonsense_under_a_right_checksum_is_refused_or_another_record() {
    let (mut refusals, mut others) = (0, 0);
    for (name, recorded) in recorded() {
        let record = wire::encode_recorded(&recorded);
        for bit in 0..(record.len() - 8) * 8 {
            match decode(resealed(&record, |bytes| bytes[bit / 8] ^= 1 << (bit % 8))) {
                Ok(other) => {
                    assert_ne!(other, recorded, "{name}, bit {bit}");
                    assert_eq!(decode(wire::encode_recorded(&other)), Ok(other));
                    others += 1;
                }
                Err(_) => refusals += 1,
            }
        }
        for length in 2..record.len() - 8 {
            let cut = resealed(&record, |bytes| bytes.truncate(length));
            assert!(decode(cut).is_err(), "{name} cut to {length}");
        }
    }
    assert!(refusals > 1000 && others > 1000, "{refusals} refusals, {others} others");
}

#[test]
fn records_and_frames_are_not_taken_for_each_other() {
    for (name, recorded) in recorded() {
        let record = wire::encode_recorded(&recorded);
        let kind = record[1];
        let as_frame = wire::decode(record, &Limits::default());
        assert_eq!(as_frame, Err(WireError::UnknownKind(kind)), "{name}");
    }
    for (name, envelope) in samples::messages() {
        let frame = wire::encode(&envelope);
        let is_append = frame[1] == 5; // Whose checksum leaves out its entries.
        let expected = WireError::UnknownKind(frame[1]);
        let refused = decode(frame).expect_err("it is a frame");
        assert!(refused == expected || is_append && refused == WireError::Checksum, "{name}");
    }
}

#[test]
fn unknown_versions_kinds_and_bytes_after_the_end_are_told() {
    let record = wire::encode_recorded(&batch(vec![Message { now: Time(0), body: Body::Tick }]));
    let forged = |change: fn(&mut Vec<u8>)| decode(resealed(&record, change));
    assert_eq!(forged(|bytes| bytes[0] = 2), Err(WireError::UnknownVersion(2)));
    for kind in [0, 127, 130, 255] {
        let unknown = resealed(&record, |bytes| bytes[1] = kind);
        assert_eq!(decode(unknown), Err(WireError::UnknownKind(kind)));
    }
    // Version, kind, how many, the moment, and then what it is.
    for kind in [0, 22, 255] {
        let unknown = resealed(&record, |bytes| bytes[4] = kind);
        assert_eq!(decode(unknown), Err(WireError::UnknownBody(kind)));
    }
    assert_eq!(forged(|bytes| bytes.push(0)), Err(WireError::TrailingBytes));
}

/// Counts and lengths that no memory could hold, in every place where one stands.
#[test]
fn absurd_counts_are_refused_without_allocating_for_them() {
    let huge = |kind: u8, before: &[u8]| {
        let mut content = vec![wire::VERSION, kind];
        content.extend_from_slice(before);
        content = postcard::to_extend(&u64::MAX, content).expect("a vector grows");
        let content = Bytes::from([&content[..], &[0; 32 + 8]].concat());
        decode(resealed(&content, |_| {})).expect_err("nobody holds that many")
    };
    assert_eq!(huge(129, &[]), WireError::Oversized, "messages");
    for kind in [2, 5, 7, 17, 18] {
        // One message, at moment 0, with ticket 0 where there is one.
        let before = [1, 0, kind, 0];
        let before = if matches!(kind, 5 | 17 | 18 | 2) { &before[..3] } else { &before[..] };
        assert_eq!(huge(129, before), WireError::Malformed, "kind {kind}");
    }
    let loaded = [1, 0, 16, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(huge(129, &loaded), WireError::Oversized, "entries");

    // The number of slots is the last thing before them.
    let empty =
        RecordedStart { found: RecoveredState { slots: Vec::new(), ..start().found }, ..start() };
    let record = wire::encode_recorded(&Recorded::Start(Box::new(empty)));
    let many = resealed(&record, |bytes| {
        let digest = bytes.split_off(bytes.len() - 8);
        assert_eq!(bytes.pop(), Some(0), "there are no slots");
        *bytes = postcard::to_extend(&u64::MAX, core::mem::take(bytes)).expect("a vector grows");
        bytes.extend(digest);
    });
    assert_eq!(decode(many), Err(WireError::Malformed));
}

#[test]
fn limits_are_checked_before_anything_is_decoded() {
    let two = recorded().pop().expect("there are samples").1;
    let record = wire::encode_recorded(&two);
    let with = |entries_max, bytes_max| {
        wire::decode_recorded(record.clone(), &Limits { entries_max, bytes_max })
    };
    assert_eq!(with(2, record.len()), Ok(two));
    assert_eq!(with(1, record.len()), Err(WireError::Oversized));
    assert_eq!(with(2, record.len() - 1), Err(WireError::Oversized));
}

#[test]
fn commands_and_chunks_lie_in_their_record() {
    let mut found = 0;
    for (name, recorded) in recorded() {
        let record = wire::encode_recorded(&recorded);
        for part in parts(&decode(record.clone()).expect("it was encoded")) {
            assert!(lies_in(&part, &record), "{name}: a part was copied");
            found += 1;
        }
    }
    assert_eq!(found, 1 + 2 + 1 + 1 + 1, "a start, proposals, several at once, loaded, a chunk");
}

/// The bytes for the state machine; empty ones have no address.
fn parts(recorded: &Recorded) -> Vec<Bytes> {
    let command = |payload: &Payload| match payload {
        Payload::Command(command) => Some(command.clone()),
        Payload::Noop | Payload::Membership(_) => None,
    };
    let mut parts = match recorded {
        Recorded::Start(start) => {
            let slots = start.found.slots.iter();
            slots
                .filter_map(|slot| match slot {
                    Slot::Resident { payload, .. } => command(payload),
                    Slot::Cold { .. } | Slot::Damaged { .. } => None,
                })
                .collect()
        }
        Recorded::Batch(batch) => {
            let mut all = Vec::new();
            for message in &batch.messages {
                if let Body::Propose { command, .. } = &message.body {
                    all.push(command.clone());
                } else if let Body::ProposeBatch { proposals } = &message.body {
                    all.extend(proposals.iter().map(|(_, command)| command.clone()));
                } else if let Body::Loaded { entries: Some(entries), .. } = &message.body {
                    all.extend(entries.iter().filter_map(|entry| command(entry.payload())));
                } else if let Body::ChunkRead { chunk: Some(chunk), .. } = &message.body {
                    all.push(chunk.data.clone());
                }
            }
            all
        }
    };
    parts.retain(|part: &Bytes| !part.is_empty());
    parts
}

fn batch(messages: Vec<Message>) -> Recorded {
    Recorded::Batch(RecordedBatch { messages, digest: 7 })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn batches_come_back(messages in vec((any::<u64>(), any_body()), 0..5), digest in any::<u64>()) {
        let messages = messages.into_iter().map(|(now, body)| Message { now: Time(now), body });
        let recorded = Recorded::Batch(RecordedBatch { messages: messages.collect(), digest });
        let record = wire::encode_recorded(&recorded);
        prop_assert_eq!(decode(record), Ok(recorded));
    }

    #[test]
    fn starts_come_back(start in starts()) {
        let recorded = Recorded::Start(Box::new(start));
        let record = wire::encode_recorded(&recorded);
        prop_assert_eq!(decode(record), Ok(recorded));
    }

    #[test]
    fn arbitrary_records_never_panic(kind in 128..130u8, bytes in vec(any::<u8>(), 0..300)) {
        let content = [&[wire::VERSION, kind][..], &bytes, &[0; 8]].concat();
        if let Ok(recorded) = decode(resealed(&Bytes::from(content), |_| {})) {
            let record = wire::encode_recorded(&recorded);
            prop_assert_eq!(decode(record), Ok(recorded));
        }
    }
}
