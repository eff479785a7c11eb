//! Version 1 of the peer messages' bodies, in the order of the paper.

use alloc::sync::Arc;

use bytes::BufMut;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::entry::{Entries, Payload};
use crate::message::{AppendResult, Rpc, RpcKind};
use crate::types::{Chain, EntryId, Index, ReadId, Round, Session, Span, Term};
use crate::wire::record::{
    borrow_payload, decode_payload, decode_snapshot_meta, encode_snapshot_meta,
};
use crate::wire::sink::put_numbers;
use crate::wire::{Limits, Reader, WireError, bounded, put, repair};

/// An entry's term, kind and length, one byte each.
const ENTRY_BYTES_MIN: usize = 3;

#[derive(Serialize, Deserialize)]
struct V1PreVoteRequest {
    last: EntryId,
    attempt: u64,
}

#[derive(Serialize, Deserialize)]
struct V1PreVoteResponse {
    attempt: u64,
    granted: bool,
}

#[derive(Serialize, Deserialize)]
struct V1VoteRequest {
    last: EntryId,
    is_forced: bool,
}

#[derive(Serialize, Deserialize)]
struct V1VoteResponse {
    granted: bool,
}

/// Followed by `count` times [`V1Entry`], which are taken one by one: the count is checked before
/// anything is allocated for them. Written as a row of numbers.
#[derive(Deserialize)]
struct V1AppendEntries {
    session: Session,
    round: Round,
    prev: EntryId,
    last_chain: Chain,
    commit: Index,
    count: u64,
}

/// Written as three numbers, the last of which is the payload's length, and the payload.
#[derive(Deserialize)]
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
    Blank,
    Diverged { index: Index },
}

#[derive(Serialize, Deserialize)]
struct V1Commit {
    session: Session,
    commit: Index,
}

#[derive(Serialize, Deserialize)]
struct V1Heartbeat {
    session: Session,
    round: Round,
    commit: Index,
    lease: Span,
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
struct V1ReadIndex {
    id: ReadId,
}

#[derive(Serialize, Deserialize)]
struct V1ReadIndexResponse {
    id: ReadId,
    index: Index,
}

/// Bytes of the frame. Serde would take `&[u8]` for a sequence and write it byte by byte.
pub(super) struct Borrowed<'a>(pub(super) &'a [u8]);

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

pub(super) fn put_body(out: &mut impl BufMut, rpc: &Rpc) {
    match rpc {
        Rpc::RequestPreVote { last, attempt } => {
            put(out, &V1PreVoteRequest { last: *last, attempt: *attempt });
        }
        Rpc::RequestPreVoteResponse { attempt, granted } => {
            put(out, &V1PreVoteResponse { attempt: *attempt, granted: *granted });
        }
        Rpc::RequestVote { last, is_forced } => {
            put(out, &V1VoteRequest { last: *last, is_forced: *is_forced });
        }
        Rpc::RequestVoteResponse { granted } => put(out, &V1VoteResponse { granted: *granted }),
        Rpc::AppendEntries { session, round, prev, entries, commit } => {
            let head = V1AppendEntries {
                session: *session,
                round: *round,
                prev: *prev,
                last_chain: last_chain(*prev, entries),
                commit: *commit,
                count: entries.len() as u64,
            };
            put_numbers(out, head.numbers());
            for entry in entries.iter() {
                let (kind, payload) = borrow_payload(entry.payload());
                put_numbers(out, [entry.term().0, u64::from(kind), payload.len() as u64]);
                out.put_slice(&payload);
            }
        }
        Rpc::AppendEntriesResponse { session, round, result } => {
            let result = V1AppendResult::from(*result);
            put(out, &V1AppendEntriesResponse { session: *session, round: *round, result });
        }
        Rpc::Commit { session, commit } => {
            put(out, &V1Commit { session: *session, commit: *commit });
        }
        Rpc::Heartbeat { session, round, commit, lease } => {
            let (session, round, commit, lease) = (*session, *round, *commit, *lease);
            put(out, &V1Heartbeat { session, round, commit, lease });
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
        Rpc::TimeoutNow => {}
        Rpc::ReadIndex { id } => put(out, &V1ReadIndex { id: *id }),
        Rpc::ReadIndexResponse { id, index } => {
            put(out, &V1ReadIndexResponse { id: *id, index: *index });
        }
        Rpc::Repair(rpc) => repair::put_body(out, rpc),
    }
}

pub(super) fn take_body(
    reader: &mut Reader<'_>,
    kind: RpcKind,
    limits: &Limits,
) -> Result<Rpc, WireError> {
    match kind {
        RpcKind::RequestPreVote => {
            let V1PreVoteRequest { last, attempt } = reader.take()?;
            bounded([last.index.0, last.term.0, attempt])?;
            Ok(Rpc::RequestPreVote { last, attempt })
        }
        RpcKind::RequestPreVoteResponse => {
            let V1PreVoteResponse { attempt, granted } = reader.take()?;
            bounded([attempt])?;
            Ok(Rpc::RequestPreVoteResponse { attempt, granted })
        }
        RpcKind::RequestVote => {
            let V1VoteRequest { last, is_forced } = reader.take()?;
            bounded([last.index.0, last.term.0])?;
            Ok(Rpc::RequestVote { last, is_forced })
        }
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
        RpcKind::Commit => {
            let V1Commit { session, commit } = reader.take()?;
            bounded([session.0, commit.0])?;
            Ok(Rpc::Commit { session, commit })
        }
        RpcKind::Heartbeat => {
            let V1Heartbeat { session, round, commit, lease } = reader.take()?;
            bounded([session.0, round.0, commit.0, lease.0])?;
            Ok(Rpc::Heartbeat { session, round, commit, lease })
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
        RpcKind::TimeoutNow => Ok(Rpc::TimeoutNow),
        RpcKind::ReadIndex => {
            let V1ReadIndex { id } = reader.take()?;
            bounded([id.incarnation.0, id.n])?;
            Ok(Rpc::ReadIndex { id })
        }
        RpcKind::ReadIndexResponse => take_read_index_response(reader),
        RpcKind::Barrier
        | RpcKind::BarrierResponse
        | RpcKind::RequestEntry
        | RpcKind::RequestEntryResponse
        | RpcKind::RequestSnapshot
        | RpcKind::RequestSnapshotResponse => repair::take_body(reader, kind).map(Rpc::Repair),
    }
}

fn take_read_index_response(reader: &mut Reader<'_>) -> Result<Rpc, WireError> {
    let V1ReadIndexResponse { id, index } = reader.take()?;
    bounded([id.incarnation.0, id.n, index.0])?;
    Ok(Rpc::ReadIndexResponse { id, index })
}

impl V1AppendEntries {
    fn numbers(&self) -> [u64; 8] {
        let Self { session, round, prev, last_chain, commit, count } = *self;
        let EntryId { index, term, chain } = prev;
        [session.0, round.0, index.0, term.0, chain.0, last_chain.0, commit.0, count]
    }
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
    if count == 0 && claimed == prev.chain {
        return Ok(Rpc::AppendEntries { session, round, prev, entries: Entries::empty(), commit });
    }
    // The entries are built where they stay; after an error what is built does not matter.
    let mut error = None;
    let items = (0..count).map(|_| {
        let item =
            if error.is_none() { take_entry(reader) } else { Ok((prev.term, Payload::Noop)) };
        item.unwrap_or_else(|found| {
            error = Some(found);
            (prev.term, Payload::Noop)
        })
    });
    let entries = Entries::after(prev, items);
    if let Some(error) = error {
        return Err(error);
    }
    if last_chain(prev, &entries) != claimed {
        return Err(WireError::BrokenChain);
    }
    Ok(Rpc::AppendEntries { session, round, prev, entries, commit })
}

fn take_entry(reader: &mut Reader<'_>) -> Result<(Term, Payload), WireError> {
    let V1Entry { term, kind, payload } = reader.take()?;
    bounded([term.0])?;
    Ok((term, decode_payload(kind, reader.frame.slice_ref(payload.0))?))
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
            AppendResult::Blank => Self::Blank,
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
            Self::Blank => Ok(AppendResult::Blank),
            Self::Diverged { index } => {
                bounded([index.0])?;
                Ok(AppendResult::Diverged { index })
            }
        }
    }
}
