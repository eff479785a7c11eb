//! Version 1 of what a node was given in a recorded batch: a kind, and what belongs to it.
//!
//! What a kind consists of is written field by field, in the order of [`Body`]; a peer's message is
//! the frame in which it came.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};

use crate::entry::Entries;
use crate::membership::{MemberStep, Membership, MembershipChange};
use crate::message::{Body, Chunk, ChunkPurpose, ChunkRequest, LoadPurpose, LoadRequest, ReadMode};
use crate::types::{Chain, EntryId, Index, Member, NodeId, RepairId, Session, Term, Ticket};
use crate::wire::reader::Reader;
use crate::wire::record::{borrow_payload, decode_snapshot_meta, encode_snapshot_meta, valid};
use crate::wire::v1::{Borrowed, ENTRY_BYTES_MIN, last_chain, take_entries};
use crate::wire::{Limits, WireError, bounded, decode, encode, put, size};

const TICK: u8 = 1;
const PEER: u8 = 2;
const PEER_UNREACHABLE: u8 = 3;
const PROPOSE: u8 = 4;
const PROPOSE_BATCH: u8 = 5;
const READ: u8 = 6;
const PROPOSE_MEMBERSHIP: u8 = 7;
const TRANSFER_LEADERSHIP: u8 = 8;
const CAMPAIGN: u8 = 9;
const STEP_DOWN: u8 = 10;
const FORGET_LEADER: u8 = 11;
const FORCE_MEMBERSHIP: u8 = 12;
const PERSISTED: u8 = 13;
const PERSIST_FAILED: u8 = 14;
const APPLIED: u8 = 15;
const LOADED: u8 = 16;
const DAMAGED: u8 = 17;
const SNAPSHOT_TAKEN: u8 = 18;
const CHUNK_READ: u8 = 19;
const CHUNK_STAGED: u8 = 20;
const DISK_FULL: u8 = 21;

fn kind_byte(body: &Body) -> u8 {
    match body {
        Body::Tick => TICK,
        Body::Peer(_) => PEER,
        Body::PeerUnreachable { .. } => PEER_UNREACHABLE,
        Body::Propose { .. } => PROPOSE,
        Body::ProposeBatch { .. } => PROPOSE_BATCH,
        Body::Read { .. } => READ,
        Body::ProposeMembership { .. } => PROPOSE_MEMBERSHIP,
        Body::TransferLeadership { .. } => TRANSFER_LEADERSHIP,
        Body::Campaign => CAMPAIGN,
        Body::StepDown => STEP_DOWN,
        Body::ForgetLeader => FORGET_LEADER,
        Body::ForceMembership { .. } => FORCE_MEMBERSHIP,
        Body::Persisted { .. } => PERSISTED,
        Body::PersistFailed => PERSIST_FAILED,
        Body::Applied { .. } => APPLIED,
        Body::Loaded { .. } => LOADED,
        Body::Damaged { .. } => DAMAGED,
        Body::SnapshotTaken { .. } => SNAPSHOT_TAKEN,
        Body::ChunkRead { .. } => CHUNK_READ,
        Body::ChunkStaged { .. } => CHUNK_STAGED,
        Body::DiskFull { .. } => DISK_FULL,
    }
}

pub(super) fn put_body(out: &mut Vec<u8>, body: &Body) {
    out.push(kind_byte(body));
    match body {
        Body::Tick | Body::Campaign | Body::StepDown | Body::ForgetLeader | Body::PersistFailed => {
        }
        Body::Peer(envelope) => put(out, &Borrowed(&encode(envelope))),
        Body::PeerUnreachable { peer } => put(out, peer),
        Body::Propose { ticket, command } => put(out, &(ticket, Borrowed(command))),
        Body::ProposeBatch { proposals } => {
            put(out, &(proposals.len() as u64));
            for (ticket, command) in proposals {
                put(out, &(ticket, Borrowed(command)));
            }
        }
        Body::Read { ticket, mode } => put(out, &(ticket, V1ReadMode::from(*mode))),
        Body::ProposeMembership { ticket, change, expect } => {
            put(out, &(ticket, V1Change::from(change), expect.as_deref()));
        }
        Body::TransferLeadership { ticket, to } => put(out, &(ticket, to)),
        Body::ForceMembership { ticket } => put(out, ticket),
        Body::Persisted { seq } => put(out, seq),
        Body::Applied { through } => put(out, through),
        Body::Loaded { request, entries } => {
            put(out, &V1LoadRequest::from(*request));
            put_loaded(out, entries.as_ref());
        }
        Body::Damaged { entries } => put(out, entries),
        Body::SnapshotTaken { snapshot } => put(out, &Borrowed(&encode_snapshot_meta(snapshot))),
        Body::ChunkRead { request, chunk } => {
            let chunk = chunk.as_ref().map(|Chunk { data, done }| (Borrowed(data), *done));
            put(out, &(V1ChunkRequest::from(*request), chunk));
        }
        Body::ChunkStaged { id, staged } => put(out, &(id, staged)),
        Body::DiskFull { is_full } => put(out, is_full),
    }
}

pub(super) fn take_body(reader: &mut Reader<'_>, limits: &Limits) -> Result<Body, WireError> {
    match reader.take()? {
        TICK => Ok(Body::Tick),
        PEER => {
            let frame: Borrowed<'_> = reader.take()?;
            Ok(Body::Peer(decode(reader.share(frame.0), limits)?))
        }
        PEER_UNREACHABLE => Ok(Body::PeerUnreachable { peer: reader.take()? }),
        CAMPAIGN => Ok(Body::Campaign),
        STEP_DOWN => Ok(Body::StepDown),
        FORGET_LEADER => Ok(Body::ForgetLeader),
        PERSISTED => Ok(Body::Persisted { seq: reader.take()? }),
        PERSIST_FAILED => Ok(Body::PersistFailed),
        APPLIED => Ok(Body::Applied { through: reader.take()? }),
        LOADED => {
            let request = reader.take::<V1LoadRequest>()?.checked()?;
            Ok(Body::Loaded { request, entries: take_loaded(reader, limits)? })
        }
        DAMAGED => Ok(Body::Damaged { entries: reader.take()? }),
        SNAPSHOT_TAKEN => {
            let meta: Borrowed<'_> = reader.take()?;
            Ok(Body::SnapshotTaken { snapshot: Arc::new(decode_snapshot_meta(meta.0)?) })
        }
        CHUNK_READ => {
            let (request, chunk): (V1ChunkRequest, Option<(Borrowed<'_>, bool)>) = reader.take()?;
            let chunk = chunk.map(|(data, done)| Chunk { data: reader.share(data.0), done });
            Ok(Body::ChunkRead { request: request.checked()?, chunk })
        }
        CHUNK_STAGED => {
            let (id, staged) = reader.take()?;
            Ok(Body::ChunkStaged { id, staged })
        }
        DISK_FULL => Ok(Body::DiskFull { is_full: reader.flag()? }),
        request => take_request(reader, request),
    }
}

/// Reads what clients and operators ask for.
fn take_request(reader: &mut Reader<'_>, kind: u8) -> Result<Body, WireError> {
    match kind {
        PROPOSE => {
            let (ticket, command) = take_proposal(reader)?;
            Ok(Body::Propose { ticket, command })
        }
        PROPOSE_BATCH => {
            let count: u64 = reader.take()?;
            let proposals = (0..count).map(|_| take_proposal(reader)).collect::<Result<_, _>>()?;
            Ok(Body::ProposeBatch { proposals })
        }
        READ => {
            let (ticket, mode): (Ticket, V1ReadMode) = reader.take()?;
            Ok(Body::Read { ticket, mode: mode.into() })
        }
        PROPOSE_MEMBERSHIP => {
            let (ticket, change, expect): (Ticket, V1Change, Option<Membership>) = reader.take()?;
            let expect = expect.map(valid).transpose()?.map(Arc::new);
            Ok(Body::ProposeMembership { ticket, change: change.into(), expect })
        }
        TRANSFER_LEADERSHIP => {
            let (ticket, to) = reader.take()?;
            Ok(Body::TransferLeadership { ticket, to })
        }
        FORCE_MEMBERSHIP => Ok(Body::ForceMembership { ticket: reader.take()? }),
        unknown => Err(WireError::UnknownBody(unknown)),
    }
}

fn take_proposal(reader: &mut Reader<'_>) -> Result<(Ticket, Bytes), WireError> {
    let (ticket, command): (Ticket, Borrowed<'_>) = reader.take()?;
    Ok((ticket, reader.share(command.0)))
}

/// Followed by `count` entries, as they stand in an AppendEntries.
#[derive(Serialize, Deserialize)]
struct V1Loaded {
    index_before: Index,
    chain_before: Chain,
    last_chain: Chain,
    count: u64,
}

fn put_loaded(out: &mut Vec<u8>, entries: Option<&Entries>) {
    let Some(entries) = entries else { return out.put_u8(0) };
    out.put_u8(1);
    let (index_before, chain_before, last_chain) = match (entries.first(), entries.last()) {
        (Some(first), Some(last)) => (first.index().prev(), entries.chain_before(), last.chain()),
        _ => Default::default(),
    };
    let count = entries.len() as u64;
    put(out, &V1Loaded { index_before, chain_before, last_chain, count });
    for entry in entries.iter() {
        let (kind, payload) = borrow_payload(entry.payload());
        put(out, &(entry.term(), kind, Borrowed(&payload)));
    }
}

fn take_loaded(reader: &mut Reader<'_>, limits: &Limits) -> Result<Option<Entries>, WireError> {
    if !reader.take::<bool>()? {
        return Ok(None);
    }
    let V1Loaded { index_before, chain_before, last_chain, count } = reader.take()?;
    if count == 0 && (index_before, chain_before, last_chain) != Default::default() {
        return Err(WireError::Malformed); // Where there are no entries, nothing tells where they are.
    }
    if count > limits.entries_max as u64 {
        return Err(WireError::Oversized);
    }
    let room = reader.rest.len() / ENTRY_BYTES_MIN;
    let count = usize::try_from(count).ok().filter(|count| *count <= room);
    let count = count.ok_or(WireError::Malformed)?;
    bounded([index_before.0.saturating_add(count as u64)])?;
    let before = EntryId { index: index_before, term: Term::ZERO, chain: chain_before };
    let entries = take_entries(reader, before, count)?;
    if self::last_chain(before, &entries) != last_chain {
        return Err(WireError::BrokenChain);
    }
    Ok(Some(entries))
}

#[derive(Serialize, Deserialize)]
enum V1ReadMode {
    ReadIndex,
    Lease,
}

impl From<ReadMode> for V1ReadMode {
    fn from(mode: ReadMode) -> Self {
        match mode {
            ReadMode::ReadIndex => Self::ReadIndex,
            ReadMode::Lease => Self::Lease,
        }
    }
}

impl From<V1ReadMode> for ReadMode {
    fn from(mode: V1ReadMode) -> Self {
        match mode {
            V1ReadMode::ReadIndex => Self::ReadIndex,
            V1ReadMode::Lease => Self::Lease,
        }
    }
}

#[derive(Serialize, Deserialize)]
enum V1Change {
    Steps(Vec<V1Step>),
    EnterJoint(Vec<V1Step>),
    LeaveJoint,
}

#[derive(Serialize, Deserialize)]
enum V1Step {
    AddLearner(Member),
    Promote(NodeId),
    Demote(NodeId),
    Remove(NodeId),
    Replace { old: NodeId, new: NodeId },
}

impl From<&MembershipChange> for V1Change {
    fn from(change: &MembershipChange) -> Self {
        let steps = |steps: &[MemberStep]| steps.iter().copied().map(V1Step::from).collect();
        match change {
            MembershipChange::Steps(all) => Self::Steps(steps(all)),
            MembershipChange::EnterJoint(all) => Self::EnterJoint(steps(all)),
            MembershipChange::LeaveJoint => Self::LeaveJoint,
        }
    }
}

impl From<V1Change> for MembershipChange {
    fn from(change: V1Change) -> Self {
        let steps = |steps: Vec<V1Step>| steps.into_iter().map(MemberStep::from).collect();
        match change {
            V1Change::Steps(all) => Self::Steps(steps(all)),
            V1Change::EnterJoint(all) => Self::EnterJoint(steps(all)),
            V1Change::LeaveJoint => Self::LeaveJoint,
        }
    }
}

impl From<MemberStep> for V1Step {
    fn from(step: MemberStep) -> Self {
        match step {
            MemberStep::AddLearner(member) => Self::AddLearner(member),
            MemberStep::Promote(id) => Self::Promote(id),
            MemberStep::Demote(id) => Self::Demote(id),
            MemberStep::Remove(id) => Self::Remove(id),
            MemberStep::Replace { old, new } => Self::Replace { old, new },
        }
    }
}

impl From<V1Step> for MemberStep {
    fn from(step: V1Step) -> Self {
        match step {
            V1Step::AddLearner(member) => Self::AddLearner(member),
            V1Step::Promote(id) => Self::Promote(id),
            V1Step::Demote(id) => Self::Demote(id),
            V1Step::Remove(id) => Self::Remove(id),
            V1Step::Replace { old, new } => Self::Replace { old, new },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct V1LoadRequest {
    purpose: V1LoadPurpose,
    after: EntryId,
    through: Index,
    bytes_max: u64,
}

#[derive(Serialize, Deserialize)]
enum V1LoadPurpose {
    Apply,
    Peer { member: Member, session: Session },
    Repair { member: Member, id: RepairId },
}

impl From<LoadRequest> for V1LoadRequest {
    fn from(request: LoadRequest) -> Self {
        let LoadRequest { purpose, after, through, bytes_max } = request;
        let purpose = match purpose {
            LoadPurpose::Apply => V1LoadPurpose::Apply,
            LoadPurpose::Peer { member, session } => V1LoadPurpose::Peer { member, session },
            LoadPurpose::Repair { member, id } => V1LoadPurpose::Repair { member, id },
        };
        Self { purpose, after, through, bytes_max: bytes_max as u64 }
    }
}

impl V1LoadRequest {
    fn checked(self) -> Result<LoadRequest, WireError> {
        let Self { purpose, after, through, bytes_max } = self;
        let purpose = match purpose {
            V1LoadPurpose::Apply => LoadPurpose::Apply,
            V1LoadPurpose::Peer { member, session } => LoadPurpose::Peer { member, session },
            V1LoadPurpose::Repair { member, id } => LoadPurpose::Repair { member, id },
        };
        Ok(LoadRequest { purpose, after, through, bytes_max: size(bytes_max)? })
    }
}

#[derive(Serialize, Deserialize)]
struct V1ChunkRequest {
    to: Member,
    purpose: V1ChunkPurpose,
    snapshot: EntryId,
    offset: u64,
    bytes_max: u64,
}

#[derive(Serialize, Deserialize)]
enum V1ChunkPurpose {
    Lag { session: Session },
    Repair { id: RepairId },
}

impl From<ChunkRequest> for V1ChunkRequest {
    fn from(request: ChunkRequest) -> Self {
        let ChunkRequest { to, purpose, snapshot, offset, bytes_max } = request;
        let purpose = match purpose {
            ChunkPurpose::Lag { session } => V1ChunkPurpose::Lag { session },
            ChunkPurpose::Repair { id } => V1ChunkPurpose::Repair { id },
        };
        Self { to, purpose, snapshot, offset, bytes_max: bytes_max as u64 }
    }
}

impl V1ChunkRequest {
    fn checked(self) -> Result<ChunkRequest, WireError> {
        let Self { to, purpose, snapshot, offset, bytes_max } = self;
        let purpose = match purpose {
            V1ChunkPurpose::Lag { session } => ChunkPurpose::Lag { session },
            V1ChunkPurpose::Repair { id } => ChunkPurpose::Repair { id },
        };
        Ok(ChunkRequest { to, purpose, snapshot, offset, bytes_max: size(bytes_max)? })
    }
}
