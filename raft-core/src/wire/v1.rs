//! Version 1 of the peer messages' bodies, in the order of the paper. Nearly all are rows of numbers,
//! written and read in one order.

use alloc::sync::Arc;

use bytes::BufMut;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::entry::{Entries, Payload};
use crate::message::{AppendResult, Rpc, RpcKind};
use crate::types::{Chain, EntryId, Incarnation, Index, ReadId, Round, Session, Span, Term};
use crate::wire::reader::Reader;
use crate::wire::record::{
    borrow_payload, decode_payload, decode_snapshot_meta, encode_snapshot_meta,
};
use crate::wire::sink::Row;
use crate::wire::{Limits, WireError, bounded, put, repair};

/// The fewest bytes of an entry: its term, kind and length, one byte each.
pub(super) const ENTRY_BYTES_MIN: usize = 3;

/// The numbers of the [`AppendResult`]s.
const MATCHED: u64 = 0;
const CONFLICT: u64 = 1;
const BLANK: u64 = 2;
const DIVERGED: u64 = 3;

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

/// Writes a body, an append's entries excepted.
pub(super) fn put_body(row: &mut Row, out: &mut impl BufMut, rpc: &Rpc) {
    match rpc {
        Rpc::RequestPreVote { last, attempt } => {
            put_entry_id(row, *last);
            row.put([*attempt]);
        }
        Rpc::RequestPreVoteResponse { attempt, granted } => {
            row.put([*attempt, u64::from(*granted)]);
        }
        Rpc::RequestVote { last, is_forced } => {
            put_entry_id(row, *last);
            row.put([u64::from(*is_forced)]);
        }
        Rpc::RequestVoteResponse { granted } => row.put([u64::from(*granted)]),
        Rpc::AppendEntries { session, round, prev, entries, commit } => {
            let (last_chain, count) = (last_chain(*prev, entries), entries.len() as u64);
            row.put_random([prev.chain.0, last_chain.0]);
            row.put([session.0, round.0, prev.index.0, prev.term.0, commit.0, count]);
        }
        Rpc::AppendEntriesResponse { session, round, result } => {
            row.put([session.0, round.0]);
            put_append_result(row, *result);
        }
        Rpc::Commit { session, commit } => row.put([session.0, commit.0]),
        Rpc::Heartbeat { session, round, commit, lease } => {
            row.put([session.0, round.0, commit.0, lease.0]);
        }
        Rpc::HeartbeatResponse { session, round } => row.put([session.0, round.0]),
        Rpc::InstallSnapshot { session, round, snapshot, offset, data, done } => {
            let body = V1InstallSnapshot {
                session: *session,
                round: *round,
                meta: Borrowed(&encode_snapshot_meta(snapshot)),
                offset: *offset,
                data: Borrowed(data),
                done: *done,
            };
            row.flush(out);
            put(out, &body);
        }
        Rpc::InstallSnapshotResponse { session, round, snapshot, staged } => {
            put_entry_id(row, *snapshot);
            row.put([session.0, round.0, *staged]);
        }
        Rpc::TimeoutNow => {}
        Rpc::ReadIndex { id } => row.put([id.incarnation.0, id.n]),
        Rpc::ReadIndexResponse { id, index } => row.put([id.incarnation.0, id.n, index.0]),
        Rpc::Repair(rpc) => {
            row.flush(out);
            repair::put_body(out, rpc);
        }
    }
    row.flush(out);
}

/// Writes the entries of an append, which follow its body: for each the term, the kind, the length,
/// and the payload.
pub(super) fn put_entries(row: &mut Row, out: &mut impl BufMut, rpc: &Rpc) {
    let Rpc::AppendEntries { entries, .. } = rpc else { return };
    for entry in entries.iter() {
        let (kind, payload) = borrow_payload(entry.payload());
        row.put([entry.term().0, u64::from(kind), payload.len() as u64]);
        row.flush(out);
        out.put_slice(&payload);
    }
}

pub(super) fn take_body(
    reader: &mut Reader<'_>,
    kind: RpcKind,
    limits: &Limits,
) -> Result<Rpc, WireError> {
    match kind {
        RpcKind::RequestPreVote => {
            let (last, [attempt]) = (take_entry_id(reader)?, reader.numbers()?);
            bounded([last.index.0, last.term.0, attempt])?;
            Ok(Rpc::RequestPreVote { last, attempt })
        }
        RpcKind::RequestPreVoteResponse => {
            let ([attempt], granted) = (reader.numbers()?, reader.flag()?);
            bounded([attempt])?;
            Ok(Rpc::RequestPreVoteResponse { attempt, granted })
        }
        RpcKind::RequestVote => {
            let (last, is_forced) = (take_entry_id(reader)?, reader.flag()?);
            bounded([last.index.0, last.term.0])?;
            Ok(Rpc::RequestVote { last, is_forced })
        }
        RpcKind::RequestVoteResponse => Ok(Rpc::RequestVoteResponse { granted: reader.flag()? }),
        RpcKind::AppendEntries => take_append_entries(reader, limits),
        RpcKind::AppendEntriesResponse => {
            let [session, round] = reader.numbers()?;
            let result = take_append_result(reader)?;
            bounded([session, round])?;
            let (session, round) = (Session(session), Round(round));
            Ok(Rpc::AppendEntriesResponse { session, round, result })
        }
        RpcKind::Commit => {
            let [session, commit] = reader.numbers()?;
            bounded([session, commit])?;
            Ok(Rpc::Commit { session: Session(session), commit: Index(commit) })
        }
        RpcKind::Heartbeat => {
            let numbers = reader.numbers()?;
            bounded(numbers)?;
            let [session, round, commit, lease] = numbers;
            let (session, round) = (Session(session), Round(round));
            Ok(Rpc::Heartbeat { session, round, commit: Index(commit), lease: Span(lease) })
        }
        RpcKind::HeartbeatResponse => {
            let [session, round] = reader.numbers()?;
            bounded([session, round])?;
            Ok(Rpc::HeartbeatResponse { session: Session(session), round: Round(round) })
        }
        RpcKind::InstallSnapshot => take_install_snapshot(reader),
        RpcKind::InstallSnapshotResponse => {
            let (snapshot, [session, round, staged]) = (take_entry_id(reader)?, reader.numbers()?);
            bounded([snapshot.index.0, snapshot.term.0, session, round, staged])?;
            let (session, round) = (Session(session), Round(round));
            Ok(Rpc::InstallSnapshotResponse { session, round, snapshot, staged })
        }
        RpcKind::TimeoutNow => Ok(Rpc::TimeoutNow),
        RpcKind::ReadIndex => {
            let [incarnation, n] = reader.numbers()?;
            bounded([incarnation, n])?;
            Ok(Rpc::ReadIndex { id: ReadId { incarnation: Incarnation(incarnation), n } })
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

fn take_install_snapshot(reader: &mut Reader<'_>) -> Result<Rpc, WireError> {
    let body: V1InstallSnapshot<'_> = reader.take()?;
    let V1InstallSnapshot { session, round, meta, offset, data, done } = body;
    bounded([session.0, round.0, offset])?;
    let snapshot = Arc::new(decode_snapshot_meta(meta.0)?);
    let data = reader.frame.slice_ref(data.0);
    Ok(Rpc::InstallSnapshot { session, round, snapshot, offset, data, done })
}

fn take_read_index_response(reader: &mut Reader<'_>) -> Result<Rpc, WireError> {
    let [incarnation, n, index] = reader.numbers()?;
    bounded([incarnation, n, index])?;
    let id = ReadId { incarnation: Incarnation(incarnation), n };
    Ok(Rpc::ReadIndexResponse { id, index: Index(index) })
}

/// Reads an append. How many entries follow is checked before anything is allocated for them, and the
/// checksum before any other error is told.
fn take_append_entries(reader: &mut Reader<'_>, limits: &Limits) -> Result<Rpc, WireError> {
    let (chains, numbers) = (reader.random(), reader.numbers());
    reader.check_read()?;
    let ([chain, claimed], [session, round, index, term, commit, count]) = (chains?, numbers?);
    bounded([session, round, index, term, commit])?;
    let entries_max = limits.entries_max.min(reader.rest.len() / ENTRY_BYTES_MIN);
    let count = usize::try_from(count).map_err(|_| WireError::Oversized)?;
    if count > limits.entries_max {
        return Err(WireError::Oversized);
    }
    if count > entries_max {
        return Err(WireError::Malformed);
    }
    bounded([index + count as u64])?;
    let prev = EntryId { index: Index(index), term: Term(term), chain: Chain(chain) };
    let entries = take_entries(reader, prev, count)?;
    if last_chain(prev, &entries) != Chain(claimed) {
        return Err(WireError::BrokenChain);
    }
    let (session, round, commit) = (Session(session), Round(round), Index(commit));
    Ok(Rpc::AppendEntries { session, round, prev, entries, commit })
}

/// Reads entries, and builds them where they stay. After an error it goes on with no-ops, to fill the
/// place; the error is what it returns.
pub(super) fn take_entries(
    reader: &mut Reader<'_>,
    prev: EntryId,
    count: usize,
) -> Result<Entries, WireError> {
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
    match error {
        Some(error) => Err(error),
        None => Ok(entries),
    }
}

fn take_entry(reader: &mut Reader<'_>) -> Result<(Term, Payload), WireError> {
    let ([term], kind, payload) = (reader.numbers()?, reader.byte()?, reader.bytes()?);
    bounded([term])?;
    Ok((Term(term), decode_payload(kind, reader.frame.slice_ref(payload))?))
}

pub(super) fn last_chain(prev: EntryId, entries: &Entries) -> Chain {
    entries.last().map_or(prev.chain, |entry| entry.chain())
}

fn put_append_result(row: &mut Row, result: AppendResult) {
    match result {
        AppendResult::Matched { index } => row.put([MATCHED, index.0]),
        AppendResult::Conflict { rejected, hint, hint_term } => {
            row.put([CONFLICT, rejected.0, hint.0, hint_term.0]);
        }
        AppendResult::Blank => row.put([BLANK]),
        AppendResult::Diverged { index } => row.put([DIVERGED, index.0]),
    }
}

fn take_append_result(reader: &mut Reader<'_>) -> Result<AppendResult, WireError> {
    match reader.numbers()? {
        [MATCHED] => {
            let [index] = reader.numbers()?;
            bounded([index])?;
            Ok(AppendResult::Matched { index: Index(index) })
        }
        [CONFLICT] => {
            let [rejected, hint, hint_term] = reader.numbers()?;
            bounded([rejected, hint, hint_term])?;
            let (rejected, hint, hint_term) = (Index(rejected), Index(hint), Term(hint_term));
            Ok(AppendResult::Conflict { rejected, hint, hint_term })
        }
        [BLANK] => Ok(AppendResult::Blank),
        [DIVERGED] => {
            let [index] = reader.numbers()?;
            bounded([index])?;
            Ok(AppendResult::Diverged { index: Index(index) })
        }
        [_] => Err(WireError::Malformed),
    }
}

fn put_entry_id(row: &mut Row, id: EntryId) {
    row.put_random([id.chain.0]);
    row.put([id.index.0, id.term.0]);
}

/// Reads the identity of an entry, whose bounds the caller checks.
fn take_entry_id(reader: &mut Reader<'_>) -> Result<EntryId, WireError> {
    let ([chain], [index, term]) = (reader.random()?, reader.numbers()?);
    Ok(EntryId { index: Index(index), term: Term(term), chain: Chain(chain) })
}
