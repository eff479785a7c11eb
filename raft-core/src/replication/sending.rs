//! What a leader sends to one peer (§5.3, thesis §10.2.2): entries within the window, the commit
//! index, and what it asks the host to read because the payloads are not in memory.
//!
//! A probe looks for the place where two logs match, which takes identities alone: while entries
//! are cold nothing is read for it.

use crate::config::Config;
use crate::effect::{Effect, Refused};
use crate::entry::Entries;
use crate::message::{LoadPurpose, LoadRequest, Rpc};
use crate::node::Node;
use crate::progress::{Loading, Progress, ProgressState};
use crate::role::Leader;
use crate::types::{EntryId, Index, Member, Round, Session};

/// Whether a peer may be sent what was just appended after `prev` as it came: it was sent all that is
/// before, and its window has room.
#[inline]
pub(super) fn keeps_up(node: &Node, peer: &Progress, prev: EntryId) -> bool {
    peer.next_index == prev.index.next()
        && matches!(peer.state, ProgressState::Replicate { .. })
        && has_room(node, peer)
}

/// Sends the entries that a peer may have now. Peers are often at the same place: what was `read` for
/// one of them, after which entry, serves the next.
#[inline(never)] // What asks whether there is anything to send shall stay small.
pub(super) fn send_to(
    node: &mut Node,
    peer: &mut Progress,
    round: Round,
    read: &mut Option<(EntryId, Entries)>,
) {
    let last = node.log().last().index;
    while !peer.is_level(last) {
        let has_room = has_room(node, peer);
        if !is_append_due(node, peer, has_room) {
            want_load(node, peer);
            return;
        }
        let is_next = |(after, entries): &(EntryId, Entries)| {
            has_room && after.index.next() == peer.next_index && !entries.is_empty()
        };
        if !read.as_ref().is_some_and(is_next) {
            let Some(prev) = node.log().id(peer.next_index.prev()) else {
                peer.state = ProgressState::needs(node.snapshot().clone());
                return;
            };
            *read = Some((prev, next_entries(node, peer, has_room)));
        }
        let (prev, entries) = read.as_ref().expect("read just now");
        send_append(node, peer, *prev, entries, round);
    }
}

#[inline]
fn is_append_due(node: &Node, peer: &Progress, has_room: bool) -> bool {
    match &peer.state {
        ProgressState::Probe { is_paused } => !is_paused,
        ProgressState::Replicate { is_poked, .. } => {
            *is_poked || (has_room && !node.log().is_cold(peer.next_index))
        }
        ProgressState::Snapshot { .. } | ProgressState::Diverged => false,
    }
}

/// Whether there is an entry that the peer was not sent and may be sent now.
#[inline(always)] // Asked for every append.
fn has_room(node: &Node, peer: &Progress) -> bool {
    let next = peer.next_index;
    if next > node.log().last().index {
        return false;
    }
    match &peer.state {
        ProgressState::Probe { .. } => true,
        ProgressState::Replicate { inflight, .. } => {
            // An empty window admits anything: no need to look into the log.
            inflight.is_empty() || inflight.has_room(&node.config, node.log().bytes_at(next))
        }
        ProgressState::Snapshot { .. } | ProgressState::Diverged => false,
    }
}

/// What the next append carries: nothing if there is no room or nothing, or if it must be loaded.
fn next_entries(node: &Node, peer: &Progress, has_room: bool) -> Entries {
    let log = node.log();
    if !has_room || log.is_cold(peer.next_index) {
        return Entries::empty();
    }
    let Config { append_bytes_max, append_entries_max, .. } = node.config;
    log.read(peer.next_index.prev(), log.last().index, append_bytes_max, append_entries_max)
}

pub(super) fn send_append(
    node: &mut Node,
    peer: &mut Progress,
    prev: EntryId,
    entries: &Entries,
    round: Round,
) {
    let last = entries.end_after(prev.index);
    match &mut peer.state {
        ProgressState::Probe { is_paused } => *is_paused = true,
        ProgressState::Replicate { inflight, is_poked } => {
            *is_poked = false;
            if !entries.is_empty() {
                // Pipelining: the next append starts where this one ends, unacknowledged.
                peer.next_index = last.next();
                inflight.push(last, entries.bytes());
            }
        }
        ProgressState::Snapshot { .. } | ProgressState::Diverged => {}
    }
    let (session, commit) = (peer.session, node.commit());
    peer.commit_sent = peer.commit_sent.max(commit.min(last));
    peer.round_sent = round;
    node.send_made(peer.member, || Rpc::AppendEntries {
        session,
        round,
        prev,
        entries: entries.clone(),
        commit,
    });
}

/// Asks the host for the entries that a peer needs next, if they are cold: one range at a time.
fn want_load(node: &mut Node, peer: &mut Progress) {
    let is_replicating = matches!(peer.state, ProgressState::Replicate { .. });
    let is_readable = node.log().is_cold(peer.next_index) && !node.gate.is_hole(peer.next_index);
    let is_wanted = peer.loading == Loading::Idle && is_readable;
    if !(is_replicating && is_wanted && has_room(node, peer)) {
        return;
    }
    let log = node.log();
    let Config { append_bytes_max: bytes_max, append_entries_max, .. } = node.config;
    let after =
        log.id(peer.next_index.prev()).expect("what is before a cold entry has an identity");
    let hole = node.gate.hole_after(peer.next_index);
    let end = hole.map_or(log.last().index, Index::prev);
    let through = log.cold_range(after.index, end, bytes_max, append_entries_max);
    let purpose = LoadPurpose::Peer { member: peer.member, session: peer.session };
    let request = LoadRequest { purpose, after, through, bytes_max };
    peer.loading = Loading::asked(&request);
    node.effects.push(Effect::Load(request));
}

/// The host has read what a peer needs, or could not: then it is asked again once the peer has
/// answered a heartbeat.
pub(crate) fn on_loaded(
    node: &mut Node,
    leader: &mut Leader,
    (member, session): (Member, Session),
    request: &LoadRequest,
    entries: Option<Entries>,
) {
    let round = leader.round;
    let is_asked =
        |peer: &&mut Progress| peer.session == session && peer.loading == Loading::asked(request);
    let Some(peer) = leader.peer(member).filter(is_asked) else {
        node.refuse(Refused::UnknownLoad);
        return;
    };
    peer.loading = Loading::Failed;
    let Some(entries) = entries else { return };
    let is_next = peer.next_index.prev() == request.after.index
        && matches!(peer.state, ProgressState::Replicate { .. });
    if !is_next || node.log().base().index > request.after.index {
        // The peer is elsewhere by now, or the entries are in a snapshot.
        peer.loading = Loading::Idle;
        return;
    }
    match node.check_loaded(request, &entries) {
        Ok(()) => {
            peer.loading = Loading::Idle;
            send_append(node, peer, request.after, &entries, round);
        }
        Err(reason) => node.refuse(reason),
    }
}

/// Tells a peer the commit index without entries and without asking for an answer.
///
/// Its match bounds what it is told, so the message needs no look at a previous entry, and a peer
/// that has not acknowledged an entry yet could not apply it anyway: it is not durable there. A
/// lost notice is made good by the next append or heartbeat.
pub(super) fn send_commit(node: &mut Node, peer: &mut Progress) {
    let commit = peer.match_index.min(node.commit());
    let is_replicating = matches!(peer.state, ProgressState::Replicate { .. });
    if is_replicating && peer.commit_sent < commit {
        peer.commit_sent = commit;
        node.send_made(peer.member, || Rpc::Commit { session: peer.session, commit });
    }
}
