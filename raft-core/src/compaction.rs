//! Log compaction (§7): snapshots taken, sent in chunks, staged, installed.
//!
//! The host decides when to take one. The leader sends chunks one at a time, each answered with
//! how much the peer has staged; what is lost is asked for again two heartbeats later. A peer that
//! has part of the snapshot from the same sender says so, and the transfer goes on from there; what
//! another node sends starts anew.
//!
//! Deliberately absent: the bytes themselves, which the host reads and stages.

use alloc::boxed::Box;
use alloc::sync::Arc;

use bytes::Bytes;

use crate::durable::SnapshotMeta;
use crate::effect::{Effect, Observation, Refused};
use crate::gate::Reply;
use crate::membership::Membership;
use crate::message::{
    AppendResult, Chunk, ChunkPurpose, ChunkRequest, EntryResult, RepairRpc, Rpc, RpcKind,
};
use crate::node::Node;
use crate::progress::{ChunkState, Incoming, Origin, Progress, ProgressState, Staging};
use crate::role::Leader;
use crate::types::{ChunkId, EntryId, Incarnation, Index, Member, RepairId, Round};

/// A chunk as a leader sends it.
pub(crate) struct Part {
    /// The life of the sender.
    pub(crate) incarnation: Incarnation,
    pub(crate) snapshot: Arc<SnapshotMeta>,
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    pub(crate) done: bool,
}

/// The host has made a durable snapshot: the log before it may go.
#[inline(never)]
pub(crate) fn on_snapshot_taken(node: &mut Node, snapshot: Arc<SnapshotMeta>) {
    let last = snapshot.last;
    let is_described = last.index <= node.applied
        && node.log().id(last.index) == Some(last)
        && node.membership_at(last.index).is_some_and(|found| **found == snapshot.membership);
    let known = node.snapshot().last.index;
    let is_newer = last.index > known || (last.index == known && node.is_snapshot_damaged());
    // A pending install becomes the newest snapshot even if it is older than this one (it may cover a
    // damaged entry), so nothing is taken before it is durable.
    if !is_described || !is_newer || node.gate.is_installing() {
        node.refuse(Refused::UnknownSnapshot { snapshot: last });
        return;
    }
    let through = Index(last.index.0.saturating_sub(node.config.kept_behind_snapshot));
    node.compact(snapshot, through);
}

/// Asks the host for the next chunk for every peer that waits for one.
pub(crate) fn want_chunks(node: &mut Node, leader: &mut Leader) {
    for peer in &mut leader.peers {
        if let ProgressState::Snapshot { chunk: ChunkState::Wanted, .. } = &peer.state {
            want_chunk(node, peer, leader.round);
        }
    }
}

#[inline(never)] // Hardly ever does a peer need a snapshot.
fn want_chunk(node: &mut Node, peer: &mut Progress, round: Round) {
    let bytes_max = node.config.snapshot_chunk_bytes;
    if let ProgressState::Snapshot { snapshot, staged, chunk } = &mut peer.state {
        if snapshot.last.index == Index::ZERO {
            // The genesis is a membership alone: there is nothing to read.
            *chunk = ChunkState::Sent { heartbeats: 0 };
            let (session, snapshot) = (peer.session, Arc::clone(snapshot));
            peer.round_sent = round;
            let (offset, data, done) = (0, Bytes::new(), true);
            let rpc = Rpc::InstallSnapshot { session, round, snapshot, offset, data, done };
            node.send(peer.member, rpc);
        } else {
            *chunk = ChunkState::Reading;
            node.effects.push(Effect::ReadChunk(ChunkRequest {
                to: peer.member,
                purpose: ChunkPurpose::Lag { session: peer.session },
                snapshot: snapshot.last,
                offset: *staged,
                bytes_max,
            }));
        }
    }
}

/// The host has read a chunk, or found that the snapshot is gone.
pub(crate) fn on_chunk_read(
    node: &mut Node,
    leader: &mut Leader,
    request: ChunkRequest,
    read: Option<Chunk>,
) {
    let round = leader.round;
    let is_asked = |peer: &&mut Progress| {
        let ProgressState::Snapshot { snapshot, staged, chunk } = &peer.state else { return false };
        let is_next = *chunk == ChunkState::Reading && *staged == request.offset;
        let is_current = request.purpose == ChunkPurpose::Lag { session: peer.session };
        is_next && is_current && snapshot.last == request.snapshot
    };
    let Some(peer) = leader.peer(request.to).filter(is_asked) else {
        node.refuse(Refused::Unasked);
        return;
    };
    let ProgressState::Snapshot { snapshot, staged, chunk } = &mut peer.state else { return };
    let Some(Chunk { data, done }) = read else {
        if node.snapshot().last.index > snapshot.last.index {
            peer.state = ProgressState::needs(Arc::clone(node.snapshot()));
        } else {
            // Nothing newer to send: ask again with the next heartbeats.
            *chunk = ChunkState::Sent { heartbeats: 0 };
        }
        return;
    };
    *chunk = ChunkState::Sent { heartbeats: 0 };
    let (session, snapshot, offset) = (peer.session, Arc::clone(snapshot), *staged);
    peer.round_sent = round;
    node.send(request.to, Rpc::InstallSnapshot { session, round, snapshot, offset, data, done });
}

/// A peer says how much it has staged.
pub(crate) fn on_install_snapshot_response(peer: &mut Progress, id: EntryId, now_staged: u64) {
    let ProgressState::Snapshot { snapshot, staged, chunk } = &mut peer.state else { return };
    if snapshot.last != id || now_staged == *staged {
        return;
    }
    *staged = now_staged;
    *chunk = ChunkState::Wanted;
}

/// The leader of the term sends a chunk.
pub(crate) fn on_install_snapshot(node: &mut Node, reply: Reply, part: Part) {
    let last = part.snapshot.last;
    if last.index == Index::ZERO && node.is_blank() {
        node.install(&part.snapshot);
        node.acknowledge(reply, last.index);
        return;
    }
    if diverges(node, reply, &part.snapshot) {
        return;
    }
    if node.log().id(last.index) == Some(last) {
        // Everything that it covers is here already, and committed, or there would be no snapshot.
        node.commit_to(last.index);
    }
    // A snapshot of what is committed here is ignored, unless it covers what is damaged here.
    let is_missed = node.is_missed_by(last.index) && last.index >= node.log().base().index;
    if last.index <= node.commit() && !is_missed {
        // What is committed here is in the leader's log, so the acknowledgement claims that.
        node.acknowledge(reply, node.commit());
        return;
    }
    // One chunk at a time is with the host, and none while an installation needs the staged bytes:
    // so nothing that the host does late can meet the wrong transfer. The leader asks again.
    if node.staging.is_some() || node.gate.is_installing() {
        node.refuse_peer(reply.to, RpcKind::InstallSnapshot, Refused::Busy);
        return;
    }
    let term = node.term();
    let Reply { to: from, session, round } = reply;
    let Part { incarnation, snapshot, offset, data, done } = part;
    // Another node's snapshot of the same state may be other bytes, and so may that of another life
    // of one node: a transfer has one sender.
    let sender = (from, incarnation);
    let staged = match &node.incoming {
        Some(incoming) if incoming.snapshot.last == last && incoming.sender() == sender => {
            incoming.staged
        }
        Some(_) | None => 0,
    };
    let is_next = offset == staged;
    let kept = Arc::clone(&snapshot);
    let origin = Origin::Leader { session, round, term };
    node.incoming = Some(Box::new(Incoming {
        snapshot: kept,
        staged,
        from,
        incarnation,
        origin,
        is_moving: true,
    }));
    if !is_next {
        answer(node, reply, last, staged);
        return;
    }
    node.last_chunk += 1;
    let id = ChunkId { incarnation: node.hard_state().incarnation, n: node.last_chunk };
    let end = offset + data.len() as u64;
    node.staging = Some(Box::new(Staging { id, end, is_last: done }));
    node.effects.push(Effect::StageChunk { id, snapshot, offset, data, done });
}

/// The host has staged a chunk, or says how far it got; after the last one the snapshot is
/// installed: `true`. An answer to another chunk says nothing about this one.
pub(crate) fn on_chunk_staged(
    node: &mut Node,
    leader: Option<Member>,
    id: ChunkId,
    staged: u64,
) -> bool {
    let term = node.term();
    let Some(asked) = node.staging.take_if(|asked| asked.id == id) else {
        node.refuse(Refused::UnknownChunk { id });
        return false;
    };
    let Staging { end, is_last, .. } = *asked;
    // A membership was forced meanwhile: what the leader of the old one sends is not wanted.
    let Some(incoming) = &mut node.incoming else { return false };
    let last = incoming.snapshot.last;
    // A host whose disk is full stages nothing: then the transfer stands still.
    incoming.is_moving |= staged.min(end) > incoming.staged;
    incoming.staged = staged.min(end);
    // The leader is answered only if it still leads the term in which it sent the chunk.
    let (from, staged_now) = (incoming.from, incoming.staged);
    let reply = match incoming.origin {
        Origin::Leader { session, round, term: then } if then == term && leader == Some(from) => {
            Some(Reply { to: from, session, round })
        }
        Origin::Leader { .. } | Origin::Repair { .. } => None,
    };
    if !is_last || staged < end {
        if let Some(reply) = reply {
            answer(node, reply, last, staged_now);
        }
        return false;
    }
    let snapshot = Arc::clone(&incoming.snapshot);
    node.incoming = None;
    let is_missed = node.is_missed_by(last.index) && last.index >= node.log().base().index;
    if last.index <= node.commit() && !is_missed {
        return false;
    }
    if let Some(violation) = node.contradiction(&snapshot) {
        node.violation(violation);
        return false;
    }
    node.install(&snapshot);
    if let Some(reply) = reply {
        node.note_match(last.index);
        node.acknowledge(reply, last.index);
    }
    true
}

/// Whether the log contradicts a snapshot; then the leader is told.
fn diverges(node: &mut Node, reply: Reply, snapshot: &SnapshotMeta) -> bool {
    let Some(violation) = node.contradiction(snapshot) else { return false };
    node.violation(violation);
    let Reply { to, session, round } = reply;
    let result = AppendResult::Diverged { index: snapshot.last.index };
    node.send(to, Rpc::AppendEntriesResponse { session, round, result });
    true
}

fn answer(node: &mut Node, reply: Reply, snapshot: EntryId, staged: u64) {
    let Reply { to, session, round } = reply;
    node.send(to, Rpc::InstallSnapshotResponse { session, round, snapshot, staged });
}

/// A peer asks for a snapshot in the place of one that is damaged there.
///
/// A snapshot covers only what is committed, so the request proves that `wanted` is. A node whose log
/// has that very entry may commit through it. There may be no other way to learn of it, since a leader
/// without its snapshot commits nothing; and what nobody knows to be committed is in no new snapshot.
///
/// Only members are believed. A leader never believes anybody about entries of its own term: those it
/// commits by counting.
pub(crate) fn on_request_state(
    node: &mut Node,
    leads: bool,
    from: Member,
    id: RepairId,
    wanted: EntryId,
) {
    let is_counted = leads && wanted.term == node.term();
    let is_in = |membership: &Arc<Membership>| membership.is_member(from);
    let is_member = is_in(node.membership()) || node.membership_at(wanted.index).is_some_and(is_in);
    if is_member && !is_counted && node.log().id(wanted.index) == Some(wanted) {
        node.commit_to(wanted.index);
    }
    let covers = wanted.index <= node.snapshot().last.index && !node.is_snapshot_damaged();
    let result = if covers {
        EntryResult::HaveSnapshot { snapshot: Arc::clone(node.snapshot()) }
    } else {
        node.observe(Observation::SnapshotWanted { by: from, index: wanted.index });
        EntryResult::HaveDamaged
    };
    node.send(from, Rpc::Repair(RepairRpc::RequestEntryResponse { id, result }));
}
