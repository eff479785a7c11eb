//! Durable records: what a storage keeps of a hard state, an entry and a snapshot.
//!
//! Each begins with its version byte, a command excepted: its record is the command. They have no
//! checksum of their own, because whoever writes them frames and checks them.

use alloc::borrow::Cow;
use alloc::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::durable::{HardState, SnapshotMeta};
use crate::entry::Payload;
use crate::membership::Membership;
use crate::types::{EntryId, Epoch, Incarnation, Member, Span, Term};
use crate::wire::{VERSION, WireError, bounded, put};

/// The kinds of payloads, as the chain numbers them too.
const PAYLOAD_NOOP: u8 = 0;
const PAYLOAD_COMMAND: u8 = 1;
const PAYLOAD_MEMBERSHIP: u8 = 2;

/// The durable record of a hard state.
#[must_use]
pub fn encode_hard_state(state: &HardState) -> Bytes {
    let HardState { epoch, incarnation, term, vote, promise, is_tail_unknown } = *state;
    record(&V1HardState { epoch, incarnation, term, vote, promise, is_tail_unknown })
}

/// The hard state in a durable record.
///
/// # Errors
/// [`WireError`] if it is not one.
pub fn decode_hard_state(bytes: &[u8]) -> Result<HardState, WireError> {
    let V1HardState { epoch, incarnation, term, vote, promise, is_tail_unknown } =
        take_record(bytes)?;
    bounded([epoch.0, incarnation.0, term.0, promise.0])?;
    Ok(HardState { epoch, incarnation, term, vote, promise, is_tail_unknown })
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

/// The same, but a command is only borrowed: to share its memory may cost an allocation.
pub(super) fn borrow_payload(payload: &Payload) -> (u8, Cow<'_, [u8]>) {
    match payload {
        Payload::Noop => (PAYLOAD_NOOP, Cow::Borrowed(&[])),
        Payload::Command(command) => (PAYLOAD_COMMAND, Cow::Borrowed(command)),
        Payload::Membership(membership) => {
            (PAYLOAD_MEMBERSHIP, Cow::Owned(record(&**membership).to_vec()))
        }
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
    record(&(meta.last, &meta.membership))
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

#[derive(Serialize, Deserialize)]
struct V1HardState {
    epoch: Epoch,
    incarnation: Incarnation,
    term: Term,
    vote: Option<Member>,
    promise: Span,
    is_tail_unknown: bool,
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

pub(super) fn valid(membership: Membership) -> Result<Membership, WireError> {
    membership.validate().map_err(WireError::InvalidMembership)?;
    Ok(membership)
}
