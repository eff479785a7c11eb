//! Version 1 of the bodies of what nodes say to each other about damage.

use alloc::sync::Arc;

use bytes::BufMut;
use serde::{Deserialize, Serialize};

use crate::entry::Entries;
use crate::message::{EntryResult, RepairRpc, RpcKind};
use crate::types::{Chain, EntryId, Incarnation, Index, RepairId, Term};
use crate::wire::reader::Reader;
use crate::wire::record::{
    borrow_payload, decode_payload, decode_snapshot_meta, encode_snapshot_meta,
};
use crate::wire::v1::Borrowed;
use crate::wire::{WireError, bounded, put};

#[derive(Serialize, Deserialize)]
struct V1BarrierResponse {
    incarnation: Incarnation,
    index: Index,
}

#[derive(Serialize, Deserialize)]
struct V1RequestEntry {
    id: RepairId,
    wanted: EntryId,
    is_snapshot: bool,
}

#[derive(Serialize, Deserialize)]
struct V1RequestEntryResponse<'a> {
    id: RepairId,
    #[serde(borrow)]
    result: V1EntryResult<'a>,
}

#[derive(Serialize, Deserialize)]
enum V1EntryResult<'a> {
    Have {
        chain_before: Chain,
        entry: EntryId,
        kind: u8,
        #[serde(borrow)]
        payload: Borrowed<'a>,
    },
    HaveSnapshot {
        /// The durable record of the description.
        #[serde(borrow)]
        meta: Borrowed<'a>,
    },
    DontHave,
    HaveDamaged,
}

#[derive(Serialize, Deserialize)]
struct V1RequestSnapshot {
    id: RepairId,
    snapshot: EntryId,
    offset: u64,
}

#[derive(Serialize, Deserialize)]
struct V1RequestSnapshotResponse<'a> {
    id: RepairId,
    /// The durable record of the description.
    #[serde(borrow)]
    meta: Borrowed<'a>,
    offset: u64,
    data: Borrowed<'a>,
    done: bool,
}

pub(super) fn put_body(out: &mut impl BufMut, rpc: &RepairRpc) {
    match rpc {
        RepairRpc::Barrier => {}
        RepairRpc::BarrierResponse { incarnation, index } => {
            put(out, &V1BarrierResponse { incarnation: *incarnation, index: *index });
        }
        RepairRpc::RequestEntry { id, wanted, is_snapshot } => {
            put(out, &V1RequestEntry { id: *id, wanted: *wanted, is_snapshot: *is_snapshot });
        }
        RepairRpc::RequestEntryResponse { id, result } => put_entry_response(out, *id, result),
        RepairRpc::RequestSnapshot { id, snapshot, offset } => {
            put(out, &V1RequestSnapshot { id: *id, snapshot: *snapshot, offset: *offset });
        }
        RepairRpc::RequestSnapshotResponse { id, snapshot, offset, data, done } => {
            let body = V1RequestSnapshotResponse {
                id: *id,
                meta: Borrowed(&encode_snapshot_meta(snapshot)),
                offset: *offset,
                data: Borrowed(data),
                done: *done,
            };
            put(out, &body);
        }
    }
}

fn put_entry_response(out: &mut impl BufMut, id: RepairId, result: &EntryResult) {
    let meta;
    let payload;
    let result = match result {
        EntryResult::Have { entries } => match entries.first() {
            Some(entry) => {
                let (kind, bytes) = borrow_payload(entry.payload());
                payload = bytes;
                let chain_before = entries.chain_before();
                let (entry, payload) = (entry.id(), Borrowed(&payload));
                V1EntryResult::Have { chain_before, entry, kind, payload }
            }
            // One entry, by the contract of the answer; of none there is nothing to say.
            None => V1EntryResult::HaveDamaged,
        },
        EntryResult::HaveSnapshot { snapshot } => {
            meta = encode_snapshot_meta(snapshot);
            V1EntryResult::HaveSnapshot { meta: Borrowed(&meta) }
        }
        EntryResult::DontHave => V1EntryResult::DontHave,
        EntryResult::HaveDamaged => V1EntryResult::HaveDamaged,
    };
    put(out, &V1RequestEntryResponse { id, result });
}

/// Reads the body of a message about damage.
pub(super) fn take_body(reader: &mut Reader<'_>, kind: RpcKind) -> Result<RepairRpc, WireError> {
    if kind == RpcKind::Barrier {
        Ok(RepairRpc::Barrier)
    } else if kind == RpcKind::BarrierResponse {
        let V1BarrierResponse { incarnation, index } = reader.take()?;
        bounded([incarnation.0, index.0])?;
        Ok(RepairRpc::BarrierResponse { incarnation, index })
    } else if kind == RpcKind::RequestEntry {
        let V1RequestEntry { id, wanted, is_snapshot } = reader.take()?;
        bounded([id.incarnation.0, id.n, wanted.index.0, wanted.term.0])?;
        Ok(RepairRpc::RequestEntry { id, wanted, is_snapshot })
    } else if kind == RpcKind::RequestEntryResponse {
        let V1RequestEntryResponse { id, result } = reader.take()?;
        bounded([id.incarnation.0, id.n])?;
        Ok(RepairRpc::RequestEntryResponse { id, result: take_result(reader, result)? })
    } else if kind == RpcKind::RequestSnapshot {
        let V1RequestSnapshot { id, snapshot, offset } = reader.take()?;
        bounded([id.incarnation.0, id.n, snapshot.index.0, snapshot.term.0, offset])?;
        Ok(RepairRpc::RequestSnapshot { id, snapshot, offset })
    } else {
        let body: V1RequestSnapshotResponse<'_> = reader.take()?;
        let V1RequestSnapshotResponse { id, meta, offset, data, done } = body;
        bounded([id.incarnation.0, id.n, offset])?;
        let snapshot = Arc::new(decode_snapshot_meta(meta.0)?);
        let data = reader.frame.slice_ref(data.0);
        Ok(RepairRpc::RequestSnapshotResponse { id, snapshot, offset, data, done })
    }
}

fn take_result(reader: &Reader<'_>, result: V1EntryResult<'_>) -> Result<EntryResult, WireError> {
    Ok(match result {
        V1EntryResult::Have { chain_before, entry, kind, payload } => {
            bounded([entry.index.0, entry.term.0])?;
            if entry.index == Index::ZERO {
                return Err(WireError::OutOfBounds);
            }
            let payload = decode_payload(kind, reader.frame.slice_ref(payload.0))?;
            let (index, term) = (entry.index.prev(), Term::ZERO);
            let before = EntryId { index, term, chain: chain_before };
            let entries = Entries::just(before, entry.term, payload);
            if entries[0].id() != entry {
                return Err(WireError::BrokenChain);
            }
            EntryResult::Have { entries }
        }
        V1EntryResult::HaveSnapshot { meta } => {
            EntryResult::HaveSnapshot { snapshot: Arc::new(decode_snapshot_meta(meta.0)?) }
        }
        V1EntryResult::DontHave => EntryResult::DontHave,
        V1EntryResult::HaveDamaged => EntryResult::HaveDamaged,
    })
}
