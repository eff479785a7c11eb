//! How messages look between nodes and how records look on disk: versioned encodings.
//!
//! The only file of the core that knows encoded bytes; nothing below imports it, and no rule of the
//! protocol depends on it. A peer message travels as one frame:
//!
//! ```text
//! | version 1B | kind 1B | header: postcard | body: postcard | XXH3-64 of all before, 8B LE |
//! ```
//!
//! The structs named `V1..` are version 1. They stand apart from the types that the rules use, so
//! that a refactoring cannot change the format; the golden vectors in `tests/golden` notice if one
//! does. They borrow: a command or a snapshot chunk is a slice of the received frame, never a copy.
//!
//! An AppendEntries names the chain before its first entry and the one after its last; what is
//! between is computed again by [`Entries::after`], and the frame is refused whole if the ends
//! differ. So one checksum follows an entry from its proposal to every log. The frame's own
//! checksum guards what the chain does not cover: a flipped bit in a vote is noticed too.
//!
//! A durable record (hard state, membership, snapshot description) begins with a version byte as
//! well, and has no checksum here: whoever writes it frames and checks it. A command's record is the
//! command itself.
//!
//! Deliberately absent: authentication, compression, the framing of a byte stream into frames, and
//! all checks that need a node's state (who sent it, which term, whether terms fall).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::Config;
use crate::durable::{HardState, SnapshotMeta};
use crate::entry::{Entries, Payload};
use crate::membership::{MEMBERS_MAX, Membership, MembershipError};
use crate::message::{AppendResult, Envelope, Rpc, RpcKind};
use crate::types::{
    Chain, ClusterId, EntryId, Epoch, GroupId, Incarnation, Index, LIMIT, Member, Round, Session,
    Term,
};

/// The version that this crate writes, and the only one that it reads.
pub const VERSION: u8 = 1;

const CHECKSUM_BYTES: usize = 8;
/// Version, kind and checksum: nothing shorter is a frame.
const FRAME_BYTES_MIN: usize = 2 + CHECKSUM_BYTES;
/// More than version, kind, header, checksum and the numbers of any body take.
const OVERHEAD_BYTES: usize = 256;
/// More than an entry's term, kind and length take.
const ENTRY_OVERHEAD_BYTES: usize = 20;
/// An entry's term, kind and length, one byte each.
const ENTRY_BYTES_MIN: usize = 3;

/// What a receiver admits before it decodes or allocates anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// The most entries in one AppendEntries.
    pub entries_max: usize,
    /// The longest frame, in bytes.
    pub bytes_max: usize,
}

impl Limits {
    /// What peers with these options send at most.
    #[must_use]
    pub fn for_config(config: &Config) -> Self {
        // A membership list takes at most 20 bytes per member, and there are four.
        let membership = 4 * 20 * MEMBERS_MAX;
        let data =
            config.append_bytes_max.max(config.command_bytes_max).max(config.snapshot_chunk_bytes);
        let bytes_max = data
            .saturating_add(config.append_entries_max.saturating_mul(ENTRY_OVERHEAD_BYTES))
            .saturating_add(membership + OVERHEAD_BYTES);
        Self { entries_max: config.append_entries_max, bytes_max }
    }
}

impl Default for Limits {
    /// Room for four times what the default options of a node send: 4096 entries, 4 MiB and a bit.
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
    /// The frame does not have the checksum that it names.
    Checksum,
    /// The bytes do not follow the format.
    Malformed,
    /// Bytes are left after the end.
    TrailingBytes,
    /// A number is at or above [`LIMIT`].
    OutOfBounds,
    /// The entries do not lead from the first to the last chain that the message names.
    BrokenChain,
    /// A membership is not one.
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
    out.push(VERSION);
    out.push(kind_byte(envelope.rpc.kind()));
    put(
        &mut out,
        &V1Header {
            cluster: envelope.cluster,
            group: envelope.group,
            from: envelope.from,
            to: envelope.to,
            epoch: envelope.epoch,
            incarnation: envelope.incarnation,
            term: envelope.term,
        },
    );
    put_body(&mut out, &envelope.rpc);
    let checksum = xxh3_64(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    Bytes::from(out)
}

/// The peer message in a frame. Its commands and chunks share the frame's memory.
///
/// # Errors
/// [`WireError`] says what is wrong first, in this order: length, version, checksum, kind, format,
/// limits, bounds, memberships, chain.
pub fn decode(mut frame: Bytes, limits: &Limits) -> Result<Envelope, WireError> {
    if frame.len() < FRAME_BYTES_MIN {
        return Err(WireError::TooShort);
    }
    if frame.len() > limits.bytes_max {
        return Err(WireError::Oversized);
    }
    if frame[0] != VERSION {
        return Err(WireError::UnknownVersion(frame[0]));
    }
    let checksum = frame.split_off(frame.len() - CHECKSUM_BYTES);
    if checksum[..] != xxh3_64(&frame).to_le_bytes() {
        return Err(WireError::Checksum);
    }
    let kind = kind_of_byte(frame[1]).ok_or(WireError::UnknownKind(frame[1]))?;
    let mut reader = Reader { frame: &frame, rest: &frame[2..] };
    let header: V1Header = reader.take()?;
    bounded([header.epoch.0, header.incarnation.0, header.term.0])?;
    let rpc = take_body(&mut reader, kind, limits)?;
    reader.finish()?;
    Ok(Envelope {
        cluster: header.cluster,
        group: header.group,
        from: header.from,
        to: header.to,
        epoch: header.epoch,
        incarnation: header.incarnation,
        term: header.term,
        rpc,
    })
}

/// The durable record of a hard state.
#[must_use]
pub fn encode_hard_state(state: &HardState) -> Bytes {
    let HardState { epoch, incarnation, term, vote } = *state;
    record(&V1HardState { epoch, incarnation, term, vote })
}

/// The hard state in a durable record.
///
/// # Errors
/// [`WireError`] if it is not one.
pub fn decode_hard_state(bytes: &[u8]) -> Result<HardState, WireError> {
    let V1HardState { epoch, incarnation, term, vote } = take_record(bytes)?;
    bounded([epoch.0, incarnation.0, term.0])?;
    Ok(HardState { epoch, incarnation, term, vote })
}

/// The kind and the durable record of a payload; a command's record shares the command's memory.
#[must_use]
pub fn encode_payload(payload: &Payload) -> (u8, Bytes) {
    match payload {
        Payload::Noop => (PAYLOAD_NOOP, Bytes::new()),
        Payload::Command(command) => (PAYLOAD_COMMAND, command.clone()),
        Payload::Membership(membership) => (PAYLOAD_MEMBERSHIP, record(&**membership)),
    }
}

/// The payload with this kind and record; a command shares the record's memory.
///
/// # Errors
/// [`WireError`] if it is not one.
pub fn decode_payload(kind: u8, bytes: Bytes) -> Result<Payload, WireError> {
    match kind {
        PAYLOAD_NOOP if bytes.is_empty() => Ok(Payload::Noop),
        PAYLOAD_NOOP => Err(WireError::TrailingBytes),
        PAYLOAD_COMMAND => Ok(Payload::Command(bytes)),
        PAYLOAD_MEMBERSHIP => {
            let membership = valid(take_record(&bytes)?)?;
            Ok(Payload::Membership(Arc::new(membership)))
        }
        unknown => Err(WireError::UnknownPayload(unknown)),
    }
}

/// The durable record of a snapshot's description.
#[must_use]
pub fn encode_snapshot_meta(meta: &SnapshotMeta) -> Bytes {
    let mut out = Vec::with_capacity(OVERHEAD_BYTES);
    out.push(VERSION);
    put(&mut out, &meta.last);
    put(&mut out, &meta.membership);
    Bytes::from(out)
}

/// The snapshot's description in a durable record.
///
/// # Errors
/// [`WireError`] if it is not one.
pub fn decode_snapshot_meta(bytes: &[u8]) -> Result<SnapshotMeta, WireError> {
    let (last, membership): (EntryId, Membership) = take_record(bytes)?;
    bounded([last.index.0, last.term.0])?;
    Ok(SnapshotMeta { last, membership: valid(membership)? })
}

const PAYLOAD_NOOP: u8 = 0;
const PAYLOAD_COMMAND: u8 = 1;
const PAYLOAD_MEMBERSHIP: u8 = 2;

/// The kinds in the order of their bytes, which start at 1: a frame of zeros is none.
const KINDS: [RpcKind; 10] = [
    RpcKind::RequestPreVote,
    RpcKind::RequestPreVoteResponse,
    RpcKind::RequestVote,
    RpcKind::RequestVoteResponse,
    RpcKind::AppendEntries,
    RpcKind::AppendEntriesResponse,
    RpcKind::Heartbeat,
    RpcKind::HeartbeatResponse,
    RpcKind::InstallSnapshot,
    RpcKind::InstallSnapshotResponse,
];

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
    }
}

fn kind_of_byte(byte: u8) -> Option<RpcKind> {
    KINDS.into_iter().find(|&kind| kind_byte(kind) == byte)
}

#[derive(Serialize, Deserialize)]
struct V1Header {
    cluster: ClusterId,
    group: GroupId,
    from: Member,
    to: Member,
    epoch: Epoch,
    incarnation: Incarnation,
    term: Term,
}

#[derive(Serialize, Deserialize)]
struct V1VoteRequest {
    last: EntryId,
}

#[derive(Serialize, Deserialize)]
struct V1VoteResponse {
    granted: bool,
}

/// Followed by `count` times [`V1Entry`], which are taken one by one: the count is checked before
/// anything is allocated for them.
#[derive(Serialize, Deserialize)]
struct V1AppendEntries {
    session: Session,
    round: Round,
    prev: EntryId,
    last_chain: Chain,
    commit: Index,
    count: u64,
}

#[derive(Serialize, Deserialize)]
struct V1Entry<'a> {
    term: Term,
    kind: u8,
    #[serde(borrow)]
    payload: Borrowed<'a>,
}

#[derive(Serialize, Deserialize)]
struct V1AppendEntriesResponse {
    session: Session,
    round: Round,
    result: V1AppendResult,
}

#[derive(Serialize, Deserialize)]
enum V1AppendResult {
    Matched { index: Index },
    Conflict { rejected: Index, hint: Index, hint_term: Term },
    Diverged { index: Index },
}

#[derive(Serialize, Deserialize)]
struct V1Heartbeat {
    session: Session,
    round: Round,
    commit: Index,
}

#[derive(Serialize, Deserialize)]
struct V1HeartbeatResponse {
    session: Session,
    round: Round,
}

#[derive(Serialize, Deserialize)]
struct V1InstallSnapshot<'a> {
    session: Session,
    round: Round,
    /// The durable record of the description.
    #[serde(borrow)]
    meta: Borrowed<'a>,
    offset: u64,
    data: Borrowed<'a>,
    done: bool,
}

#[derive(Serialize, Deserialize)]
struct V1InstallSnapshotResponse {
    session: Session,
    round: Round,
    snapshot: EntryId,
    staged: u64,
}

#[derive(Serialize, Deserialize)]
struct V1HardState {
    epoch: Epoch,
    incarnation: Incarnation,
    term: Term,
    vote: Option<Member>,
}

/// Bytes of the frame. Serde would take `&[u8]` for a sequence and write it byte by byte.
struct Borrowed<'a>(&'a [u8]);

impl Serialize for Borrowed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Borrowed<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'a [u8]>::deserialize(deserializer).map(Self)
    }
}

fn frame_bytes_estimate(rpc: &Rpc) -> usize {
    match rpc {
        Rpc::AppendEntries { entries, .. } => {
            OVERHEAD_BYTES + entries.bytes() + entries.len() * ENTRY_OVERHEAD_BYTES
        }
        Rpc::InstallSnapshot { data, .. } => OVERHEAD_BYTES * 2 + data.len(),
        Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVote { .. }
        | Rpc::RequestVoteResponse { .. }
        | Rpc::AppendEntriesResponse { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshotResponse { .. } => OVERHEAD_BYTES,
    }
}

fn put_body(out: &mut Vec<u8>, rpc: &Rpc) {
    match rpc {
        Rpc::RequestPreVote { last } | Rpc::RequestVote { last } => {
            put(out, &V1VoteRequest { last: *last });
        }
        Rpc::RequestPreVoteResponse { granted } | Rpc::RequestVoteResponse { granted } => {
            put(out, &V1VoteResponse { granted: *granted });
        }
        Rpc::AppendEntries { session, round, prev, entries, commit } => {
            let head = V1AppendEntries {
                session: *session,
                round: *round,
                prev: *prev,
                last_chain: last_chain(*prev, entries),
                commit: *commit,
                count: entries.len() as u64,
            };
            put(out, &head);
            for entry in entries.iter() {
                let (kind, payload) = encode_payload(entry.payload());
                put(out, &V1Entry { term: entry.term(), kind, payload: Borrowed(&payload) });
            }
        }
        Rpc::AppendEntriesResponse { session, round, result } => {
            let result = V1AppendResult::from(*result);
            put(out, &V1AppendEntriesResponse { session: *session, round: *round, result });
        }
        Rpc::Heartbeat { session, round, commit } => {
            put(out, &V1Heartbeat { session: *session, round: *round, commit: *commit });
        }
        Rpc::HeartbeatResponse { session, round } => {
            put(out, &V1HeartbeatResponse { session: *session, round: *round });
        }
        Rpc::InstallSnapshot { session, round, snapshot, offset, data, done } => {
            let body = V1InstallSnapshot {
                session: *session,
                round: *round,
                meta: Borrowed(&encode_snapshot_meta(snapshot)),
                offset: *offset,
                data: Borrowed(data),
                done: *done,
            };
            put(out, &body);
        }
        Rpc::InstallSnapshotResponse { session, round, snapshot, staged } => {
            let (session, round, snapshot, staged) = (*session, *round, *snapshot, *staged);
            put(out, &V1InstallSnapshotResponse { session, round, snapshot, staged });
        }
    }
}

fn take_body(reader: &mut Reader<'_>, kind: RpcKind, limits: &Limits) -> Result<Rpc, WireError> {
    match kind {
        RpcKind::RequestPreVote => Ok(Rpc::RequestPreVote { last: take_last(reader)? }),
        RpcKind::RequestPreVoteResponse => {
            let V1VoteResponse { granted } = reader.take()?;
            Ok(Rpc::RequestPreVoteResponse { granted })
        }
        RpcKind::RequestVote => Ok(Rpc::RequestVote { last: take_last(reader)? }),
        RpcKind::RequestVoteResponse => {
            let V1VoteResponse { granted } = reader.take()?;
            Ok(Rpc::RequestVoteResponse { granted })
        }
        RpcKind::AppendEntries => take_append_entries(reader, limits),
        RpcKind::AppendEntriesResponse => {
            let V1AppendEntriesResponse { session, round, result } = reader.take()?;
            bounded([session.0, round.0])?;
            Ok(Rpc::AppendEntriesResponse { session, round, result: result.checked()? })
        }
        RpcKind::Heartbeat => {
            let V1Heartbeat { session, round, commit } = reader.take()?;
            bounded([session.0, round.0, commit.0])?;
            Ok(Rpc::Heartbeat { session, round, commit })
        }
        RpcKind::HeartbeatResponse => {
            let V1HeartbeatResponse { session, round } = reader.take()?;
            bounded([session.0, round.0])?;
            Ok(Rpc::HeartbeatResponse { session, round })
        }
        RpcKind::InstallSnapshot => {
            let body: V1InstallSnapshot<'_> = reader.take()?;
            let V1InstallSnapshot { session, round, meta, offset, data, done } = body;
            bounded([session.0, round.0, offset])?;
            let snapshot = Arc::new(decode_snapshot_meta(meta.0)?);
            let data = reader.frame.slice_ref(data.0);
            Ok(Rpc::InstallSnapshot { session, round, snapshot, offset, data, done })
        }
        RpcKind::InstallSnapshotResponse => {
            let V1InstallSnapshotResponse { session, round, snapshot, staged } = reader.take()?;
            bounded([session.0, round.0, snapshot.index.0, snapshot.term.0, staged])?;
            Ok(Rpc::InstallSnapshotResponse { session, round, snapshot, staged })
        }
    }
}

fn take_last(reader: &mut Reader<'_>) -> Result<EntryId, WireError> {
    let V1VoteRequest { last } = reader.take()?;
    bounded([last.index.0, last.term.0])?;
    Ok(last)
}

fn take_append_entries(reader: &mut Reader<'_>, limits: &Limits) -> Result<Rpc, WireError> {
    let V1AppendEntries { session, round, prev, last_chain: claimed, commit, count } =
        reader.take()?;
    bounded([session.0, round.0, prev.index.0, prev.term.0, commit.0])?;
    let entries_max = limits.entries_max.min(reader.rest.len() / ENTRY_BYTES_MIN);
    let count = usize::try_from(count).map_err(|_| WireError::Oversized)?;
    if count > limits.entries_max {
        return Err(WireError::Oversized);
    }
    if count > entries_max {
        return Err(WireError::Malformed);
    }
    bounded([prev.index.0 + count as u64])?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        let V1Entry { term, kind, payload } = reader.take()?;
        bounded([term.0])?;
        items.push((term, decode_payload(kind, reader.frame.slice_ref(payload.0))?));
    }
    let entries = Entries::after(prev, items);
    if last_chain(prev, &entries) != claimed {
        return Err(WireError::BrokenChain);
    }
    Ok(Rpc::AppendEntries { session, round, prev, entries, commit })
}

fn last_chain(prev: EntryId, entries: &Entries) -> Chain {
    entries.last().map_or(prev.chain, |entry| entry.chain())
}

impl From<AppendResult> for V1AppendResult {
    fn from(result: AppendResult) -> Self {
        match result {
            AppendResult::Matched { index } => Self::Matched { index },
            AppendResult::Conflict { rejected, hint, hint_term } => {
                Self::Conflict { rejected, hint, hint_term }
            }
            AppendResult::Diverged { index } => Self::Diverged { index },
        }
    }
}

impl V1AppendResult {
    fn checked(self) -> Result<AppendResult, WireError> {
        match self {
            Self::Matched { index } => {
                bounded([index.0])?;
                Ok(AppendResult::Matched { index })
            }
            Self::Conflict { rejected, hint, hint_term } => {
                bounded([rejected.0, hint.0, hint_term.0])?;
                Ok(AppendResult::Conflict { rejected, hint, hint_term })
            }
            Self::Diverged { index } => {
                bounded([index.0])?;
                Ok(AppendResult::Diverged { index })
            }
        }
    }
}

/// A frame and the part of it that is not read yet.
struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<T: Deserialize<'a>>(&mut self) -> Result<T, WireError> {
        let (value, rest) =
            postcard::take_from_bytes(self.rest).map_err(|_| WireError::Malformed)?;
        self.rest = rest;
        Ok(value)
    }

    fn finish(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::TrailingBytes) }
    }
}

fn put<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    let buffer = core::mem::take(out);
    *out = postcard::to_extend(value, buffer).expect("a growing buffer takes every value");
}

fn record<T: Serialize>(value: &T) -> Bytes {
    let mut out = alloc::vec![VERSION];
    put(&mut out, value);
    Bytes::from(out)
}

fn take_record<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    let (&version, body) = bytes.split_first().ok_or(WireError::TooShort)?;
    if version != VERSION {
        return Err(WireError::UnknownVersion(version));
    }
    let (value, rest) = postcard::take_from_bytes(body).map_err(|_| WireError::Malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::TrailingBytes) }
}

fn bounded<const N: usize>(values: [u64; N]) -> Result<(), WireError> {
    if values.iter().all(|&value| value < LIMIT) { Ok(()) } else { Err(WireError::OutOfBounds) }
}

fn valid(membership: Membership) -> Result<Membership, WireError> {
    membership.validate().map_err(WireError::InvalidMembership)?;
    Ok(membership)
}
