//! How messages look between nodes and how records look on disk: versioned encodings.
//!
//! The only module of the core that knows encoded bytes; nothing below imports it, and no rule of
//! the protocol depends on it. A peer message travels as one frame:
//!
//! ```text
//! | version 1B | kind 1B | header | body | entries of an append | XXH3-64, 8B LE |
//! ```
//!
//! in which header and body are rows of numbers as postcard writes them, or one of the structs
//! named `V1..`. In the rows, cluster, lineages and chains, which are random, take eight bytes
//! each. They stand apart from the types that the rules use, so that a refactoring cannot change
//! the format; only the smallest parts (members, entry ids, memberships) are written as they are.
//! The golden vectors in `tests/golden` notice any change. A command or a snapshot chunk is a slice
//! of the received frame, never a copy.
//!
//! An AppendEntries names the chain before its first entry and the one after its last; what is
//! between is computed again by [`crate::Entries::after`], and the frame is refused whole if the
//! ends differ. So one checksum follows an entry from its proposal to every log. The frame's own
//! checksum guards what the chain does not cover, which is all but the entries: a flipped bit in a
//! vote is noticed too, and no byte of a command is looked at twice.
//!
//! A durable record (hard state, membership, snapshot description) begins with a version byte as
//! well, and has no checksum here: whoever writes it frames and checks it. A command's record is
//! the command itself.
//!
//! What a node was given ([`crate::replay`]) is recorded like a message, with a checksum.
//!
//! Deliberately absent: authentication, compression, the framing of a byte stream into frames, and
//! all checks that need a node's state (who sent it, which term, whether terms fall).

mod body;
mod reader;
mod record;
mod recorded;
mod repair;
mod sink;
mod v1;

use alloc::vec::Vec;
use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use twox_hash::XxHash3_64;

use crate::config::Config;
use crate::membership::{MEMBERS_MAX, MembershipError};
use crate::message::{EntryResult, Envelope, RepairRpc, Rpc, RpcKind};
use crate::types::{ClusterId, Epoch, GroupId, Incarnation, LIMIT, Member, Term};

use reader::Reader;
use sink::{Row, Sink};

pub use record::{
    decode_hard_state, decode_payload, decode_snapshot_meta, encode_hard_state, encode_payload,
    encode_snapshot_meta,
};
pub use recorded::{decode_recorded, encode_recorded};

/// The version that this crate writes, and the only one that it reads.
pub const VERSION: u8 = 1;

const CHECKSUM_BYTES: usize = 8;
/// Version, kind and checksum: nothing shorter is a frame.
const FRAME_BYTES_MIN: usize = 2 + CHECKSUM_BYTES;
/// At least as much as version, kind, header, checksum and the numbers of any body take.
const OVERHEAD_BYTES: usize = 256;
/// At least as much as an entry's term, kind and length take.
const ENTRY_OVERHEAD_BYTES: usize = 20;

/// What a receiver admits before it decodes or allocates anything.
///
/// Admit what the largest options of the group allow a leader to send, not what this node's do:
/// a frame that a receiver refuses is sent again and again, and the follower gets nothing else.
/// To raise these options, raise the limits of every node first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// The most entries in one AppendEntries; in what was recorded, also the most entries that were
    /// loaded at once, and the most messages in one batch.
    pub entries_max: usize,
    /// The longest frame, in bytes.
    pub bytes_max: usize,
}

impl Limits {
    /// What peers with these options send at most: give it the largest of the group.
    #[must_use]
    pub fn for_config(config: &Config) -> Self {
        // A membership list takes at most 20 bytes per member, and there are four.
        let membership = 4 * 20 * MEMBERS_MAX;
        let data =
            config.append_bytes_max.max(config.command_bytes_max).max(config.snapshot_chunk_bytes);
        // In entries a member counts for 16 bytes, and its varints take four more at most.
        let longer = config.append_bytes_max / 4;
        let bytes_max = data
            .saturating_add(longer)
            .saturating_add(config.append_entries_max.saturating_mul(ENTRY_OVERHEAD_BYTES))
            .saturating_add(membership + OVERHEAD_BYTES);
        Self { entries_max: config.append_entries_max, bytes_max }
    }

    /// What a node with any options may have been given, for [`decode_recorded`]: records of any
    /// length, for a start names every entry of the log. Memory is taken for what a record holds, never
    /// for what it announces.
    #[must_use]
    pub const fn for_recorded() -> Self {
        Self { entries_max: 1 << 31, bytes_max: usize::MAX }
    }
}

impl Default for Limits {
    /// Room for four times what the default options of a node send: 4096 entries, 4 MiB and a bit.
    /// Not enough for a group in which any node has larger options than that.
    fn default() -> Self {
        Self { entries_max: 4096, bytes_max: (4 << 20) + (128 << 10) }
    }
}

/// Why bytes are not a message or a record. Nothing was done because of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WireError {
    /// Too short to be a frame or a record.
    TooShort,
    /// Longer than the limits, or with more entries.
    Oversized,
    /// A version that this crate does not know.
    UnknownVersion(u8),
    /// An intact frame of a kind that this crate does not know.
    UnknownKind(u8),
    /// A payload of a kind that this crate does not know.
    UnknownPayload(u8),
    /// A message in a recorded batch of a kind that this crate does not know.
    UnknownBody(u8),
    /// The frame does not have the checksum that it names.
    Checksum,
    /// The bytes do not follow the format.
    Malformed,
    /// Bytes are left after the end.
    TrailingBytes,
    /// A number is at or above [`LIMIT`], or a size is none on this machine.
    OutOfBounds,
    /// The entries do not lead from the first to the last chain that the message names.
    BrokenChain,
    /// A membership is invalid.
    InvalidMembership(MembershipError),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("too short to be a frame or a record"),
            Self::Oversized => f.write_str("the frame exceeds the limits"),
            Self::UnknownVersion(version) => write!(f, "unknown version {version}"),
            Self::UnknownKind(kind) => write!(f, "unknown kind of message {kind}"),
            Self::UnknownPayload(kind) => write!(f, "unknown kind of payload {kind}"),
            Self::UnknownBody(kind) => write!(f, "unknown kind of recorded message {kind}"),
            Self::Checksum => f.write_str("the frame's checksum is wrong"),
            Self::Malformed => f.write_str("the bytes do not follow the format"),
            Self::TrailingBytes => f.write_str("bytes are left after the end"),
            Self::OutOfBounds => f.write_str("a number is at or above 2^62"),
            Self::BrokenChain => f.write_str("the entries do not lead to the chain that is named"),
            Self::InvalidMembership(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for WireError {}

/// The frame of a peer message.
#[must_use]
pub fn encode(envelope: &Envelope) -> Bytes {
    let mut out = Vec::with_capacity(frame_bytes_estimate(&envelope.rpc));
    encode_into(envelope, &mut out);
    Bytes::from(out)
}

/// Appends the frame of a peer message to a buffer, which a host may use again: several messages
/// for one connection need no memory of their own.
pub fn encode_into(envelope: &Envelope, out: &mut Vec<u8>) {
    out.reserve(frame_bytes_estimate(&envelope.rpc));
    write(envelope, out);
}

/// The frame of a peer message, written at the end of a buffer and split off from it together with
/// whatever the buffer held before.
///
/// Frames that a host hands on one by one share its memory, and are free when all of them are: with
/// room for many in the buffer, nearly none of them needs an allocation.
#[must_use]
pub fn encode_split(envelope: &Envelope, buffer: &mut BytesMut) -> Bytes {
    buffer.reserve(frame_bytes_estimate(&envelope.rpc));
    write(envelope, buffer);
    buffer.split().freeze()
}

fn write<B: BufMut + AsRef<[u8]>>(envelope: &Envelope, out: &mut B) {
    let start = out.as_ref().len();
    let mut row = Row::new([VERSION, kind_byte(envelope.rpc.kind())]);
    put_header(&mut row, envelope);
    v1::put_body(&mut row, out, &envelope.rpc);
    let checksum = XxHash3_64::oneshot(&out.as_ref()[start..]);
    v1::put_entries(&mut row, out, &envelope.rpc);
    out.put_slice(&checksum.to_le_bytes());
}

/// The peer message in a frame. Its commands and chunks share the frame's memory.
///
/// # Errors
/// [`WireError`] says what is wrong first, in this order: length, version, checksum, kind, and
/// then, as they come: format, limits, bounds, memberships, chain.
#[expect(clippy::needless_pass_by_value, reason = "the payloads keep the frame's memory")]
pub fn decode(frame: Bytes, limits: &Limits) -> Result<Envelope, WireError> {
    if frame.len() < FRAME_BYTES_MIN {
        return Err(WireError::TooShort);
    }
    if frame.len() > limits.bytes_max {
        return Err(WireError::Oversized);
    }
    if frame[0] != VERSION {
        return Err(WireError::UnknownVersion(frame[0]));
    }
    let (content, checksum) = frame.split_at(frame.len() - CHECKSUM_BYTES);
    let mut reader = Reader { frame: &frame, checksum, rest: &content[2..] };
    let kind = kind_of_byte(frame[1]);
    if kind != Some(RpcKind::AppendEntries) {
        reader.check(content)?; // That of an append, when it is known where its entries begin.
    }
    let kind = kind.ok_or(WireError::UnknownKind(frame[1]))?;
    let header = take_header(&mut reader);
    let rpc = v1::take_body(&mut reader, kind, limits)?;
    reader.finish()?;
    let Header { cluster, group, from, to, epoch, incarnation, term } = header?;
    bounded([epoch.0, incarnation.0, term.0])?;
    Ok(Envelope { cluster, group, from, to, epoch, incarnation, term, rpc })
}

/// What stands before the body of every message.
struct Header {
    cluster: ClusterId,
    group: GroupId,
    from: Member,
    to: Member,
    epoch: Epoch,
    incarnation: Incarnation,
    term: Term,
}

fn put_header(row: &mut Row, envelope: &Envelope) {
    let Envelope { cluster, group, from, to, epoch, incarnation, term, rpc: _ } = *envelope;
    row.put_random([cluster.0, from.lineage.0, to.lineage.0]);
    row.put([group.0, from.id.0, to.id.0, epoch.0, incarnation.0, term.0]);
}

fn take_header(reader: &mut Reader<'_>) -> Result<Header, WireError> {
    let [cluster, from_lineage, to_lineage] = reader.random()?;
    let [group, from, to, epoch, incarnation, term] = reader.numbers()?;
    Ok(Header {
        cluster: ClusterId(cluster),
        group: GroupId(group),
        from: Member::new(from, from_lineage),
        to: Member::new(to, to_lineage),
        epoch: Epoch(epoch),
        incarnation: Incarnation(incarnation),
        term: Term(term),
    })
}

/// Kinds start at 1, so that a frame of zeros is no message.
fn kind_byte(kind: RpcKind) -> u8 {
    match kind {
        RpcKind::RequestPreVote => 1,
        RpcKind::RequestPreVoteResponse => 2,
        RpcKind::RequestVote => 3,
        RpcKind::RequestVoteResponse => 4,
        RpcKind::AppendEntries => 5,
        RpcKind::AppendEntriesResponse => 6,
        RpcKind::Heartbeat => 7,
        RpcKind::HeartbeatResponse => 8,
        RpcKind::InstallSnapshot => 9,
        RpcKind::InstallSnapshotResponse => 10,
        RpcKind::TimeoutNow => 11,
        RpcKind::ReadIndex => 12,
        RpcKind::ReadIndexResponse => 13,
        RpcKind::Commit => 14,
        RpcKind::Barrier => 15,
        RpcKind::BarrierResponse => 16,
        RpcKind::RequestEntry => 17,
        RpcKind::RequestEntryResponse => 18,
        RpcKind::RequestSnapshot => 19,
        RpcKind::RequestSnapshotResponse => 20,
    }
}

fn kind_of_byte(byte: u8) -> Option<RpcKind> {
    match byte {
        1 => Some(RpcKind::RequestPreVote),
        2 => Some(RpcKind::RequestPreVoteResponse),
        3 => Some(RpcKind::RequestVote),
        4 => Some(RpcKind::RequestVoteResponse),
        5 => Some(RpcKind::AppendEntries),
        6 => Some(RpcKind::AppendEntriesResponse),
        7 => Some(RpcKind::Heartbeat),
        8 => Some(RpcKind::HeartbeatResponse),
        9 => Some(RpcKind::InstallSnapshot),
        10 => Some(RpcKind::InstallSnapshotResponse),
        11 => Some(RpcKind::TimeoutNow),
        12 => Some(RpcKind::ReadIndex),
        13 => Some(RpcKind::ReadIndexResponse),
        14 => Some(RpcKind::Commit),
        15 => Some(RpcKind::Barrier),
        16 => Some(RpcKind::BarrierResponse),
        17 => Some(RpcKind::RequestEntry),
        18 => Some(RpcKind::RequestEntryResponse),
        19 => Some(RpcKind::RequestSnapshot),
        20 => Some(RpcKind::RequestSnapshotResponse),
        _ => None,
    }
}

fn put<T: Serialize>(out: &mut impl BufMut, value: &T) {
    postcard::serialize_with_flavor(value, Sink::new(out)).expect("it takes every value");
}

fn bounded<const N: usize>(values: [u64; N]) -> Result<(), WireError> {
    if values.iter().all(|&value| value < LIMIT) { Ok(()) } else { Err(WireError::OutOfBounds) }
}

fn size(value: u64) -> Result<usize, WireError> {
    usize::try_from(value).map_err(|_| WireError::OutOfBounds)
}

fn frame_bytes_estimate(rpc: &Rpc) -> usize {
    match rpc {
        Rpc::AppendEntries { entries, .. } => {
            OVERHEAD_BYTES + entries.bytes() + entries.len() * ENTRY_OVERHEAD_BYTES
        }
        Rpc::InstallSnapshot { data, .. }
        | Rpc::Repair(RepairRpc::RequestSnapshotResponse { data, .. }) => {
            OVERHEAD_BYTES * 2 + data.len()
        }
        Rpc::Repair(RepairRpc::RequestEntryResponse {
            result: EntryResult::Have { entries },
            ..
        }) => OVERHEAD_BYTES + entries.bytes(),
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
        | Rpc::Repair(_) => OVERHEAD_BYTES,
    }
}
