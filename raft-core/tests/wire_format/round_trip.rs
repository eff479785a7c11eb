//! What is encoded comes back, and its bytes are not copied on the way.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use raft_core::wire::{self, Limits};
use raft_core::{
    Config, Entries, EntryId, EntryResult, Member, Membership, Payload, RepairRpc, Rpc, Term,
};

use crate::samples;
use crate::strategies::{envelopes, hard_states, payloads, snapshot_metas};

/// The same cases on every machine.
pub(crate) fn config() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(1);
    ProptestConfig { cases: 1000, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn messages_come_back(envelope in envelopes()) {
        let frame = wire::encode(&envelope);
        prop_assert_eq!(wire::decode(frame, &Limits::default()), Ok(envelope));
    }

    #[test]
    fn a_frame_is_the_same_wherever_it_is_written(envelopes in vec(envelopes(), 1..4)) {
        let (mut kept, mut buffer) = (Vec::new(), BytesMut::new());
        for envelope in &envelopes {
            let frame = wire::encode(envelope);
            prop_assert_eq!(&wire::encode_split(envelope, &mut buffer), &frame);
            let start = kept.len();
            wire::encode_into(envelope, &mut kept);
            prop_assert_eq!(&kept[start..], &frame[..]);
        }
    }

    #[test]
    fn hard_states_come_back(state in hard_states()) {
        prop_assert_eq!(wire::decode_hard_state(&wire::encode_hard_state(&state)), Ok(state));
    }

    #[test]
    fn payloads_come_back(payload in payloads()) {
        let (kind, record) = wire::encode_payload(&payload);
        prop_assert_eq!(wire::decode_payload(kind, record), Ok(payload));
    }

    #[test]
    fn snapshot_descriptions_come_back(meta in snapshot_metas()) {
        prop_assert_eq!(wire::decode_snapshot_meta(&wire::encode_snapshot_meta(&meta)), Ok(meta));
    }

    #[test]
    fn bytes_of_a_message_lie_in_its_frame(envelope in envelopes()) {
        let frame = wire::encode(&envelope);
        let decoded = wire::decode(frame.clone(), &Limits::default()).expect("it was encoded");
        for part in parts(&decoded.rpc) {
            prop_assert!(lies_in(&part, &frame), "a part was copied out of its frame");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        // Nobody makes eight checksum bytes by chance.
        prop_assert!(wire::decode(bytes.clone(), &Limits::default()).is_err());
        if let Ok(state) = wire::decode_hard_state(&bytes) {
            prop_assert_eq!(wire::decode_hard_state(&wire::encode_hard_state(&state)), Ok(state));
        }
        if let Ok(meta) = wire::decode_snapshot_meta(&bytes) {
            let again = wire::decode_snapshot_meta(&wire::encode_snapshot_meta(&meta));
            prop_assert_eq!(again, Ok(meta));
        }
        if let Ok(payload) = wire::decode_payload(2, bytes) {
            let (kind, record) = wire::encode_payload(&payload);
            prop_assert_eq!(wire::decode_payload(kind, record), Ok(payload));
        }
    }
}

#[test]
fn the_sample_append_has_parts_and_they_lie_in_its_frame() {
    let envelope = samples::envelope(samples::append_entries(samples::prev(), samples::entries()));
    let frame = wire::encode(&envelope);
    let decoded = wire::decode(frame.clone(), &Limits::default()).expect("it was encoded");
    let parts = parts(&decoded.rpc);
    assert_eq!(parts, [Bytes::from_static(b"put colour blue")]);
    assert!(lies_in(&parts[0], &frame), "the command shares the frame's memory");
}

#[test]
fn a_command_record_is_the_command() {
    let command = Bytes::from(b"a command of some length".to_vec());
    let (kind, record) = wire::encode_payload(&Payload::Command(command.clone()));
    assert_eq!(record.as_ptr(), command.as_ptr(), "the record shares the command's memory");
    match wire::decode_payload(kind, record) {
        Ok(Payload::Command(decoded)) => assert_eq!(decoded.as_ptr(), command.as_ptr()),
        other => panic!("it was a command: {other:?}"),
    }
}

#[test]
fn limits_for_a_configuration_admit_its_largest_messages() {
    let Rpc::InstallSnapshot { session, round, snapshot, offset, done, .. } = largest_chunk()
    else {
        panic!("the sample is a chunk");
    };
    let member = samples::envelope(samples::append_entries(samples::prev(), samples::entries())).to;
    let mut config = Config::new(Default::default(), Default::default(), member);
    config.command_bytes_max = 10;
    config.append_bytes_max = 10;
    config.snapshot_chunk_bytes = 3000;
    config.append_entries_max = 1;
    let data = Bytes::from(vec![7; config.snapshot_chunk_bytes]);
    let rpc = Rpc::InstallSnapshot { session, round, snapshot, offset, data, done };
    let frame = wire::encode(&samples::envelope(rpc));
    assert!(wire::decode(frame, &Limits::for_config(&config)).is_ok());
}

/// In a log a member counts for 16 bytes; with large numbers its varints take up to 20.
#[test]
fn limits_for_a_configuration_admit_memberships_of_large_numbers() {
    let mut config = Config::new(Default::default(), Default::default(), Member::new(1, 1));
    config.append_bytes_max = 64 << 10;
    config.append_entries_max = 1 << 6;
    (config.command_bytes_max, config.snapshot_chunk_bytes) = (10, 10);
    let voters = (0..64).map(|id| Member::new(u64::MAX / 2 - id, u64::MAX - id)).collect();
    let membership = Arc::new(Membership::new(voters, Vec::new()).expect("a legal size"));
    let payload = Payload::Membership(membership);
    let prev = EntryId::default();
    let count = config.append_bytes_max / payload.len();
    let entries = Entries::after(prev, vec![(Term(7), payload); count]);
    assert!(entries.bytes() <= config.append_bytes_max);
    let frame = wire::encode(&samples::envelope(samples::append_entries(prev, entries)));
    let decoded = wire::decode(frame, &Limits::for_config(&config));
    assert!(decoded.is_ok(), "{decoded:?}");
}

fn largest_chunk() -> Rpc {
    let mut messages = samples::messages();
    let position = messages.iter().position(|(name, _)| *name == "install_snapshot");
    messages.swap_remove(position.expect("there is such a sample")).1.rpc
}

/// The bytes that a message carries for the state machine; empty ones have no address.
fn parts(rpc: &Rpc) -> Vec<Bytes> {
    let mut parts = match rpc {
        Rpc::AppendEntries { entries, .. } => {
            entries.iter().filter_map(|entry| command(entry.payload())).collect()
        }
        Rpc::Repair(RepairRpc::RequestEntryResponse {
            result: EntryResult::Have { entries },
            ..
        }) => entries.iter().filter_map(|entry| command(entry.payload())).collect(),
        Rpc::InstallSnapshot { data, .. }
        | Rpc::Repair(RepairRpc::RequestSnapshotResponse { data, .. }) => vec![data.clone()],
        Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVote { .. }
        | Rpc::RequestVoteResponse { .. }
        | Rpc::AppendEntriesResponse { .. }
        | Rpc::Commit { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => Vec::new(),
    };
    parts.retain(|part| !part.is_empty());
    parts
}

fn command(payload: &Payload) -> Option<Bytes> {
    match payload {
        Payload::Command(command) => Some(command.clone()),
        Payload::Noop | Payload::Membership(_) => None,
    }
}

pub(crate) fn lies_in(part: &Bytes, frame: &Bytes) -> bool {
    let (part, frame) = (part.as_ptr_range(), frame.as_ptr_range());
    frame.start <= part.start && part.end <= frame.end
}
