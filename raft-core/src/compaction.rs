//! Log compaction (§7): snapshots taken, sent in chunks, staged, installed.
//!
//! The host decides when to take one. The leader sends chunks one at a time, each answered with
//! how much the peer has staged; what is lost is asked for again two heartbeats later. A peer that
//! has part of the same snapshot says so, whoever sent it, and the transfer goes on from there.
//! Deliberately absent: the bytes themselves, which the host reads and stages.

use alloc::sync::Arc;

use bytes::Bytes;

use crate::durable::SnapshotMeta;
use crate::effect::{Effect, Refused, Violation};
use crate::gate::Reply;
use crate::message::{AppendResult, Chunk, ChunkRequest, Rpc};
use crate::node::{Incoming, Node};
use crate::progress::{ChunkState, Progress, ProgressState};
use crate::role::Leader;
use crate::types::{EntryId, Index, Member};

/// A chunk as a leader sends it.
pub(crate) struct Part {
    pub(crate) snapshot: Arc<SnapshotMeta>,
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    pub(crate) done: bool,
}

/// The host has made a durable snapshot: the log before it may go.
pub(crate) fn on_snapshot_taken(node: &mut Node, snapshot: Arc<SnapshotMeta>) {
    let last = snapshot.last;
    let is_described = last.index <= node.applied
        && node.log().id(last.index) == Some(last)
        && node.membership_at(last.index).is_some_and(|found| **found == snapshot.membership);
    if !is_described || last.index <= node.snapshot().last.index {
        node.refuse(Refused::UnknownSnapshot { snapshot: last });
        return;
    }
    let through = Index(last.index.0.saturating_sub(node.config.kept_behind_snapshot));
    node.compact(snapshot, through);
}

/// Asks the host for the next chunk for every peer that waits for one.
pub(crate) fn want_chunks(node: &mut Node, leader: &mut Leader) {
    let bytes_max = node.config.snapshot_chunk_bytes;
    for peer in &mut leader.peers {
        let ProgressState::Snapshot { snapshot, staged, chunk } = &mut peer.state else { continue };
        if *chunk == ChunkState::Wanted {
            *chunk = ChunkState::Reading;
            node.effects.push(Effect::ReadChunk(ChunkRequest {
                to: peer.member,
                session: peer.session,
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
    let Some(peer) = leader.peer(request.to) else { return };
    if peer.session != request.session {
        return;
    }
    let ProgressState::Snapshot { snapshot, staged, chunk } = &mut peer.state else { return };
    let is_asked = *chunk == ChunkState::Reading && *staged == request.offset;
    if !is_asked || snapshot.last != request.snapshot {
        return;
    }
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
    if last.index <= node.commit() {
        on_snapshot_of_the_past(node, reply, last);
        return;
    }
    let term = node.term();
    let same = |incoming: &Incoming| incoming.snapshot.last == last;
    if !node.incoming.as_ref().is_some_and(same) {
        node.incoming = Some(Incoming {
            snapshot: Arc::clone(&part.snapshot),
            staged: 0,
            staging: None,
            from: reply.to,
            session: reply.session,
            round: reply.round,
            term,
        });
    }
    let incoming = node.incoming.as_mut().expect("the snapshot that arrives was just recorded");
    incoming.from = reply.to;
    incoming.session = reply.session;
    incoming.round =
        if incoming.term == term { incoming.round.max(reply.round) } else { reply.round };
    incoming.term = term;
    if incoming.staging.is_some() {
        return;
    }
    if part.offset != incoming.staged {
        let staged = incoming.staged;
        answer(node, reply, last, staged);
        return;
    }
    incoming.staging = Some((part.offset + part.data.len() as u64, part.done));
    let Part { snapshot, offset, data, done } = part;
    node.effects.push(Effect::StageChunk { snapshot, offset, data, done });
}

/// The host has staged a chunk; after the last one the snapshot is installed.
pub(crate) fn on_chunk_staged(node: &mut Node, leader: Option<Member>, id: EntryId, staged: u64) {
    let term = node.term();
    let Some(incoming) = &mut node.incoming else { return };
    let Some((end, is_last)) = incoming.staging else { return };
    // A completion that an abandoned transfer left behind ends elsewhere.
    if incoming.snapshot.last != id || staged != end {
        return;
    }
    incoming.staging = None;
    incoming.staged = staged;
    let reply = Reply { to: incoming.from, session: incoming.session, round: incoming.round };
    let is_current = incoming.term == term && leader == Some(incoming.from);
    if !is_last {
        if is_current {
            answer(node, reply, id, staged);
        }
        return;
    }
    let snapshot = Arc::clone(&incoming.snapshot);
    node.incoming = None;
    if id.index <= node.commit() {
        return;
    }
    node.install(&snapshot);
    if is_current {
        node.acknowledge(reply, id.index);
    }
}

/// A snapshot at or below the commit index is not needed (§7): what is committed here is in the
/// leader's log, so the acknowledgement claims that.
fn on_snapshot_of_the_past(node: &mut Node, reply: Reply, last: EntryId) {
    if let Some(mine) = node.log().id(last.index).filter(|mine| mine.chain != last.chain) {
        let (index, mine, theirs) = (last.index, mine.chain, last.chain);
        node.violation(Violation::ChainMismatch { index, mine, theirs });
        let result = AppendResult::Diverged { index };
        let Reply { to, session, round } = reply;
        node.send(to, Rpc::AppendEntriesResponse { session, round, result });
        return;
    }
    node.acknowledge(reply, node.commit());
}

fn answer(node: &mut Node, reply: Reply, snapshot: EntryId, staged: u64) {
    let Reply { to, session, round } = reply;
    node.send(to, Rpc::InstallSnapshotResponse { session, round, snapshot, staged });
}
