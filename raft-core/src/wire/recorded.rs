//! Recorded starts and batches: what a node was given, as bytes that play it again.
//!
//! ```text
//! | version 1B | kind 1B | content | digest of the node, 8B LE | XXH3-64 of all before, 8B LE |
//! ```
//!
//! A start is its options and what was found on the disk; a batch, a number of messages, each with
//! its moment. Their kinds are not those of peer messages, so neither is taken for the other. A
//! peer's message is in a batch as the frame in which it came.
//!
//! Numbers are taken as they are: what the core refuses, it refuses again. But what no frame can
//! carry (a peer's message with a number at or above [`crate::LIMIT`], or with entries that do not
//! follow its `prev`) is refused here too.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::config::Config;
use crate::durable::{RecoveredState, Slot};
use crate::message::Message;
use crate::replay::{Recorded, RecordedBatch, RecordedStart};
use crate::types::{ClusterId, EntryId, GroupId, Index, Lineage, NodeId, Time};
use crate::wire::body::{put_body, take_body};
use crate::wire::reader::Reader;
use crate::wire::record::{
    borrow_payload, decode_hard_state, decode_payload, decode_snapshot_meta, encode_hard_state,
    encode_snapshot_meta,
};
use crate::wire::v1::Borrowed;
use crate::wire::{CHECKSUM_BYTES, FRAME_BYTES_MIN, Limits, VERSION, WireError, put, size};

const START: u8 = 128;
const BATCH: u8 = 129;

/// The record of a start or of a batch. Whoever keeps several frames them.
#[must_use]
pub fn encode_recorded(recorded: &Recorded) -> Bytes {
    let mut out = Vec::new();
    let digest = match recorded {
        Recorded::Start(start) => {
            out.extend_from_slice(&[VERSION, START]);
            put_start(&mut out, start);
            start.digest
        }
        Recorded::Batch(batch) => {
            out.extend_from_slice(&[VERSION, BATCH]);
            put(&mut out, &(batch.messages.len() as u64));
            for message in &batch.messages {
                put(&mut out, &message.now);
                put_body(&mut out, &message.body);
            }
            batch.digest
        }
    };
    out.extend_from_slice(&digest.to_le_bytes());
    let checksum = XxHash3_64::oneshot(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    Bytes::from(out)
}

/// The start or batch in a record. Its commands and chunks share the record's memory. See
/// [`Limits::for_recorded`].
///
/// # Errors
/// [`WireError`] says what is wrong first, in the order of [`crate::wire::decode`].
#[expect(clippy::needless_pass_by_value, reason = "the payloads keep the record's memory")]
pub fn decode_recorded(record: Bytes, limits: &Limits) -> Result<Recorded, WireError> {
    if record.len() < FRAME_BYTES_MIN {
        return Err(WireError::TooShort);
    }
    if record.len() > limits.bytes_max {
        return Err(WireError::Oversized);
    }
    if record[0] != VERSION {
        return Err(WireError::UnknownVersion(record[0]));
    }
    let (content, checksum) = record.split_at(record.len() - CHECKSUM_BYTES);
    let mut reader = Reader { frame: &record, checksum, rest: &content[2..] };
    reader.check(content)?;
    let recorded = match record[1] {
        START => Recorded::Start(Box::new(take_start(&mut reader)?)),
        BATCH => Recorded::Batch(take_batch(&mut reader, limits)?),
        unknown => return Err(WireError::UnknownKind(unknown)),
    };
    reader.finish()?;
    Ok(recorded)
}

fn take_batch(reader: &mut Reader<'_>, limits: &Limits) -> Result<RecordedBatch, WireError> {
    let count: u64 = reader.take()?;
    if count > limits.entries_max as u64 {
        return Err(WireError::Oversized);
    }
    let message = |reader: &mut Reader<'_>| {
        Ok(Message { now: reader.take()?, body: take_body(reader, limits)? })
    };
    let messages = (0..count).map(|_| message(reader)).collect::<Result<_, _>>()?;
    Ok(RecordedBatch { messages, digest: take_digest(reader)? })
}

fn take_digest(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    Ok(u64::from_le_bytes(reader.take()?))
}

/// Followed by `slots` times [`V1Slot`].
#[derive(Serialize, Deserialize)]
struct V1Start<'a> {
    config: V1Config,
    now: Time,
    /// The durable records of both.
    #[serde(borrow)]
    hard_state: Borrowed<'a>,
    snapshot: Borrowed<'a>,
    before: EntryId,
    commit: Index,
    applied: Index,
    founding: bool,
    is_snapshot_damaged: bool,
    slots: u64,
}

#[derive(Serialize, Deserialize)]
enum V1Slot<'a> {
    Resident {
        id: EntryId,
        kind: u8,
        #[serde(borrow)]
        payload: Borrowed<'a>,
    },
    Cold {
        id: EntryId,
        bytes: u64,
    },
    Damaged {
        id: EntryId,
        bytes: u64,
        is_membership: bool,
    },
}

fn put_start(out: &mut Vec<u8>, start: &RecordedStart) {
    let RecordedStart { config, found, now, digest: _ } = start;
    let RecoveredState {
        hard_state,
        snapshot,
        slots,
        before,
        commit,
        applied,
        founding,
        is_snapshot_damaged,
    } = found;
    let head = V1Start {
        config: V1Config::from(config),
        now: *now,
        hard_state: Borrowed(&encode_hard_state(hard_state)),
        snapshot: Borrowed(&encode_snapshot_meta(snapshot)),
        before: *before,
        commit: *commit,
        applied: *applied,
        founding: *founding,
        is_snapshot_damaged: *is_snapshot_damaged,
        slots: slots.len() as u64,
    };
    put(out, &head);
    slots.iter().for_each(|slot| put_slot(out, slot));
}

fn put_slot(out: &mut Vec<u8>, slot: &Slot) {
    match slot {
        Slot::Resident { id, payload } => {
            let (kind, payload) = borrow_payload(payload);
            put(out, &V1Slot::Resident { id: *id, kind, payload: Borrowed(&payload) });
        }
        Slot::Cold { id, bytes } => put(out, &V1Slot::Cold { id: *id, bytes: *bytes as u64 }),
        Slot::Damaged { id, bytes, is_membership } => {
            let (id, bytes, is_membership) = (*id, *bytes as u64, *is_membership);
            put(out, &V1Slot::Damaged { id, bytes, is_membership });
        }
    }
}

fn take_start(reader: &mut Reader<'_>) -> Result<RecordedStart, WireError> {
    let V1Start {
        config,
        now,
        hard_state,
        snapshot,
        before,
        commit,
        applied,
        founding,
        is_snapshot_damaged,
        slots,
    } = reader.take()?;
    let found = RecoveredState {
        hard_state: decode_hard_state(hard_state.0)?,
        snapshot: Arc::new(decode_snapshot_meta(snapshot.0)?),
        slots: (0..slots).map(|_| take_slot(reader)).collect::<Result<_, _>>()?,
        before,
        commit,
        applied,
        founding,
        is_snapshot_damaged,
    };
    Ok(RecordedStart { config: config.checked()?, found, now, digest: take_digest(reader)? })
}

fn take_slot(reader: &mut Reader<'_>) -> Result<Slot, WireError> {
    Ok(match reader.take()? {
        V1Slot::Resident { id, kind, payload } => {
            Slot::Resident { id, payload: decode_payload(kind, reader.share(payload.0))? }
        }
        V1Slot::Cold { id, bytes } => Slot::Cold { id, bytes: size(bytes)? },
        V1Slot::Damaged { id, bytes, is_membership } => {
            Slot::Damaged { id, bytes: size(bytes)?, is_membership }
        }
    })
}

#[derive(Serialize, Deserialize)]
struct V1Config {
    cluster: ClusterId,
    group: GroupId,
    id: NodeId,
    lineage: Lineage,
    seed: u64,
    election_timeout_us: u64,
    heartbeat_interval_us: u64,
    pre_vote: bool,
    check_quorum: bool,
    priority: u8,
    lease_us: u64,
    clock_drift_percent: u8,
    promotion_lag_entries_max: u64,
    command_bytes_max: u64,
    append_bytes_max: u64,
    append_entries_max: u64,
    inflight_appends_max: u64,
    inflight_bytes_max: u64,
    uncommitted_bytes_max: u64,
    unapplied_bytes_max: u64,
    resident_bytes_max: u64,
    requests_max: u64,
    snapshot_chunk_bytes: u64,
    kept_behind_snapshot: u64,
}

impl From<&Config> for V1Config {
    fn from(config: &Config) -> Self {
        Self {
            cluster: config.cluster,
            group: config.group,
            id: config.id,
            lineage: config.lineage,
            seed: config.seed,
            election_timeout_us: config.election_timeout_us,
            heartbeat_interval_us: config.heartbeat_interval_us,
            pre_vote: config.pre_vote,
            check_quorum: config.check_quorum,
            priority: config.priority,
            lease_us: config.lease_us,
            clock_drift_percent: config.clock_drift_percent,
            promotion_lag_entries_max: config.promotion_lag_entries_max,
            command_bytes_max: config.command_bytes_max as u64,
            append_bytes_max: config.append_bytes_max as u64,
            append_entries_max: config.append_entries_max as u64,
            inflight_appends_max: config.inflight_appends_max as u64,
            inflight_bytes_max: config.inflight_bytes_max as u64,
            uncommitted_bytes_max: config.uncommitted_bytes_max as u64,
            unapplied_bytes_max: config.unapplied_bytes_max as u64,
            resident_bytes_max: config.resident_bytes_max as u64,
            requests_max: config.requests_max as u64,
            snapshot_chunk_bytes: config.snapshot_chunk_bytes as u64,
            kept_behind_snapshot: config.kept_behind_snapshot,
        }
    }
}

impl V1Config {
    /// Every option of the core is named: what is added there must be added here.
    fn checked(self) -> Result<Config, WireError> {
        Ok(Config {
            cluster: self.cluster,
            group: self.group,
            id: self.id,
            lineage: self.lineage,
            seed: self.seed,
            election_timeout_us: self.election_timeout_us,
            heartbeat_interval_us: self.heartbeat_interval_us,
            pre_vote: self.pre_vote,
            check_quorum: self.check_quorum,
            priority: self.priority,
            lease_us: self.lease_us,
            clock_drift_percent: self.clock_drift_percent,
            promotion_lag_entries_max: self.promotion_lag_entries_max,
            command_bytes_max: size(self.command_bytes_max)?,
            append_bytes_max: size(self.append_bytes_max)?,
            append_entries_max: size(self.append_entries_max)?,
            inflight_appends_max: size(self.inflight_appends_max)?,
            inflight_bytes_max: size(self.inflight_bytes_max)?,
            uncommitted_bytes_max: size(self.uncommitted_bytes_max)?,
            unapplied_bytes_max: size(self.unapplied_bytes_max)?,
            resident_bytes_max: size(self.resident_bytes_max)?,
            requests_max: size(self.requests_max)?,
            snapshot_chunk_bytes: size(self.snapshot_chunk_bytes)?,
            kept_behind_snapshot: self.kept_behind_snapshot,
        })
    }
}
