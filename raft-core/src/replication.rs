//! Log replication, both sides (§5.3): AppendEntries, probing, pipelining (thesis §10.2.2),
//! conflict hints, heartbeats.
//!
//! A leader's appends leave while its own disk still writes (thesis §10.2.1); its own match is its
//! durable index. Nothing is sent proposal by proposal: [`send_appends`] runs once, at the end of
//! a step or batch.

mod receiving;
mod sending;

use alloc::vec::Vec;

use bytes::Bytes;

use crate::config::Config;
use crate::effect::{Refused, Rejection, Violation};
use crate::entry::{Entries, Payload};
use crate::message::{AppendResult, Rpc, RpcKind};
use crate::node::{Node, PendingTicket};
use crate::progress::{Progress, ProgressState};
use crate::role::Leader;
use crate::timers::Timer;
use crate::types::{EntryId, Incarnation, Member, Round, Session, Ticket};

pub(crate) use receiving::{on_append, on_commit, on_heartbeat};
pub(crate) use sending::on_loaded;

/// A new leader: it knows nothing about its peers, and appends a no-op of its term (§8).
pub(crate) fn lead(node: &mut Node) -> Leader {
    let me = node.member();
    let last = node.log().last();
    let mut leader = Leader {
        peers: Vec::new(),
        session: Session::ZERO,
        heartbeat: Timer::armed(node.config.heartbeat_interval()),
        quorum: Timer::armed(node.config.election_timeout()),
        noop_index: last.index.next(),
        is_damaged: node.gate.first_hole().is_some(),
        peers_as_of: node.membership_index(),
        transfer: None,
        relieved: None,
        has_handed_over: false,
        uncommitted_bytes: 0,
        proposals: Vec::new(),
        round: Round::ZERO,
        reads: Vec::new(),
        questions: Vec::new(),
        rounds: Vec::new(),
        leases: Vec::new(),
        lent: Timer::default(),
    };
    leader.begin_streams(me, node.membership(), last.index);
    if !leader.is_damaged {
        let noop = Entries::just(last, node.term(), Payload::Noop);
        node.append(noop);
    }
    leader
}

/// Follows a membership that has come into force: a new peer is probed, a removed one is kept until
/// it knows that it is removed, so that it stops campaigning by itself.
pub(crate) fn track_members(node: &Node, leader: &mut Leader) {
    let index = node.membership_index();
    if leader.peers_as_of < index {
        leader.peers_as_of = index;
        let membership = node.membership();
        for peer in &mut leader.peers {
            let is_removed = !membership.is_member(peer.member);
            peer.removed_by = peer.removed_by.or_else(|| is_removed.then_some(index));
        }
        let last = node.log().last().index;
        for member in membership.members() {
            if member == node.member() {
                continue;
            }
            // A member that comes back gets a new stream: answers to the old one do not count for it.
            match leader.peers.binary_search_by_key(&member, |peer| peer.member) {
                Ok(position) if leader.peers[position].removed_by.is_some() => {
                    let session = leader.next_session();
                    leader.peers[position] = Progress::new(member, session, last);
                }
                Ok(_) => {}
                Err(position) => {
                    let session = leader.next_session();
                    leader.peers.insert(position, Progress::new(member, session, last));
                }
            }
        }
    }
    if leader.peers.iter().any(Progress::is_gone) {
        leader.peers.retain(|peer| !peer.is_gone());
    }
}

/// Accepts a proposal for the end of the step, or refuses it.
pub(crate) fn on_propose(node: &mut Node, leader: &mut Leader, ticket: Ticket, command: Bytes) {
    if command.len() > node.config.command_bytes_max {
        node.reject(ticket, Rejection::TooLarge);
        return;
    }
    if leader.is_damaged {
        node.reject(ticket, Rejection::Damaged { index: node.damaged_at() });
        return;
    }
    // A removed leader learns what becomes of the entries before its removal, and of no later one.
    let is_member = node.is_voter() || node.membership().is_member(node.member());
    if leader.transfer.is_some() || !is_member {
        node.reject(ticket, leader.refusal(node.is_disk_full));
        return;
    }
    let waiting = node.tickets.len() + leader.proposals.len();
    // An empty quota admits one proposal of any legal size, so that none is refused for ever.
    let would_be = leader.uncommitted_bytes + command.len();
    let is_full = leader.uncommitted_bytes > 0 && would_be > node.config.uncommitted_bytes_max;
    if is_full || waiting >= node.config.requests_max || node.is_overfull() {
        node.reject(ticket, if node.is_disk_full { Rejection::DiskFull } else { Rejection::Busy });
        return;
    }
    leader.uncommitted_bytes = would_be;
    leader.proposals.push((ticket, command));
}

/// Appends what was proposed since the step began, as one run. Gives that run, and the entry before
/// it: peers that keep up are sent just this, so they need no look into the log.
#[inline]
pub(crate) fn append_proposals(node: &mut Node, leader: &mut Leader) -> Option<(EntryId, Entries)> {
    if leader.proposals.is_empty() { None } else { Some(append_run(node, leader)) }
}

#[inline(never)] // Most steps bring no proposal.
fn append_run(node: &mut Node, leader: &mut Leader) -> (EntryId, Entries) {
    let (term, last) = (node.term(), node.log().last());
    let mut index = last.index;
    for (ticket, _) in &leader.proposals {
        index = index.next();
        node.insert_ticket(PendingTicket { ticket: *ticket, index, term });
    }
    let entries = if leader.proposals.len() == 1
        && let Some((_, command)) = leader.proposals.pop()
    {
        Entries::just(last, term, Payload::Command(command)) // The host proposes one at a time.
    } else {
        let commands = leader.proposals.drain(..).map(|(_, command)| command);
        Entries::after(last, commands.map(|command| (term, Payload::Command(command))))
    };
    node.append(entries.clone());
    (last, entries)
}

/// Sends every peer what it may have now: entries, a new commit index, a read round. What this step
/// has `appended` need not be read, if it is what the log would give; nearly always a peer is sent
/// just that.
pub(crate) fn send_appends(
    node: &mut Node,
    leader: &mut Leader,
    appended: Option<&(EntryId, Entries)>,
) {
    let Config { append_bytes_max, append_entries_max, .. } = node.config;
    let end = node.log().last().index;
    let whole = appended.filter(|(after, run)| {
        run.is_whole_read(after.index, end, append_bytes_max, append_entries_max)
    });
    let mut read = None;
    let round = leader.round;
    let is_damaged = leader.is_damaged;
    for peer in &mut leader.peers {
        if !is_damaged && !peer.is_level(end) {
            match whole {
                Some((prev, run)) if sending::keeps_up(node, peer, *prev) => {
                    sending::send_append(node, peer, *prev, run, round);
                }
                Some(_) | None => sending::send_to(node, peer, round, &mut read),
            }
        }
        if peer.round_sent < round {
            send_heartbeat(node, peer, round);
        }
        sending::send_commit(node, peer);
    }
}

/// The heartbeat timer has fired.
pub(crate) fn on_heartbeat_timeout(node: &mut Node, leader: &mut Leader) {
    leader.heartbeat = Timer::armed(node.config.heartbeat_interval());
    let round = leader.round;
    for peer in &mut leader.peers {
        send_heartbeat(node, peer, round);
        peer.on_heartbeat_sent();
    }
}

/// A peer has answered in this term: takes note of its incarnation, session and read round.
///
/// `Err`: the answer belongs to an earlier life of the peer or to an earlier stream.
#[inline(always)] // Its only caller hands it every answer.
pub(crate) fn admit_response(
    leader: &mut Leader,
    from: Member,
    incarnation: Incarnation,
    session: Session,
    round: Round,
) -> Result<&mut Progress, Refused> {
    if round > leader.round {
        return Err(Refused::Impossible);
    }
    let position = leader.position(from).ok_or(Refused::Unasked)?;
    let peer = &mut leader.peers[position];
    if incarnation != peer.incarnation {
        meet_incarnation(peer, &mut leader.session, incarnation, session)?;
    }
    let mine = peer.session;
    if session != mine {
        return Err(Refused::StaleSession { mine, theirs: session });
    }
    peer.is_active = true;
    peer.round = peer.round.max(round);
    Ok(peer)
}

/// A peer answers in another life than before: an earlier one, the first that is known, or a new one,
/// whose stream begins anew.
#[cold]
fn meet_incarnation(
    peer: &mut Progress,
    last_session: &mut Session,
    incarnation: Incarnation,
    theirs: Session,
) -> Result<(), Refused> {
    let known = peer.incarnation;
    if incarnation < known {
        return Err(Refused::StaleIncarnation { known, theirs: incarnation });
    }
    if known > Incarnation::ZERO {
        // Only a new incarnation lowers the match: the disk may have lost what it acknowledged.
        peer.is_active = true;
        let mine = last_session.next();
        *last_session = mine;
        peer.restart(incarnation, mine);
        return Err(Refused::StaleSession { mine, theirs });
    }
    // An answer to an earlier stream may be of an earlier life, too: it does not tell the present one.
    if theirs == peer.session {
        peer.incarnation = incarnation;
    }
    Ok(())
}

/// The transport lost a peer: what was on its way may be gone. Nothing is sent before a heartbeat is
/// answered, or a transport that refuses at once would make a storm of it.
#[inline(never)]
pub(crate) fn on_unreachable(leader: &mut Leader, peer: Member) {
    let Some(peer) = leader.peer(peer) else { return };
    match &peer.state {
        ProgressState::Replicate { .. } => {
            peer.probe_from(peer.match_index.next());
            peer.state = ProgressState::Probe { is_paused: true };
        }
        ProgressState::Probe { .. } | ProgressState::Snapshot { .. } | ProgressState::Diverged => {}
    }
}

/// The answer to an append.
#[inline(always)] // Nearly always the peer has it all, and there is little to do.
pub(crate) fn on_append_response(node: &mut Node, peer: &mut Progress, result: AppendResult) {
    match result {
        AppendResult::Matched { index } if index <= node.log().last().index => peer.matched(index),
        AppendResult::Matched { .. }
        | AppendResult::Conflict { .. }
        | AppendResult::Blank
        | AppendResult::Diverged { .. } => on_mismatch(node, peer, result),
    }
}

/// The peer's log does not match as it should.
#[inline(never)]
fn on_mismatch(node: &mut Node, peer: &mut Progress, result: AppendResult) {
    let (from, kind) = (peer.member, RpcKind::AppendEntriesResponse);
    match result {
        AppendResult::Matched { .. } => node.refuse_peer(from, kind, Refused::Impossible),
        AppendResult::Conflict { rejected, hint, hint_term } => {
            if !peer.is_news(rejected) {
                return;
            }
            // Both sides skip whole terms (§5.3): the peer named the last place that may match by
            // what it knows, and this is the last one that may by what the leader knows.
            // If that lies below the base, only a snapshot can help: `next` at the base asks for it.
            let log = node.log();
            let next = match log.last_at_most(hint, hint_term) {
                Some(id) => id.index.next(),
                None => hint.next().min(log.base().index),
            };
            peer.probe_from(next);
        }
        // Only a probe is told so; what comes late is the echo of one, and the peer has more by now.
        AppendResult::Blank => {
            if let ProgressState::Probe { .. } = peer.state {
                peer.state = ProgressState::needs(node.snapshot().clone());
            }
        }
        AppendResult::Diverged { index } => {
            peer.state = ProgressState::Diverged;
            node.violation(Violation::PeerDiverged { peer: from, index });
        }
    }
}

/// The answer to a heartbeat: the peer is there, so what it may have missed is sent again.
pub(crate) fn on_heartbeat_response(node: &Node, peer: &mut Progress) {
    let is_behind = peer.match_index < node.log().last().index;
    peer.loading.retry();
    match &mut peer.state {
        ProgressState::Probe { is_paused } => *is_paused = false,
        // If the window is full and the acknowledgements were lost, this asks again: one answer opens it.
        // Appends are not taken for lost: to repeat them would fill the memory of a peer whose disk hangs.
        ProgressState::Replicate { is_poked, .. } => *is_poked = is_behind,
        ProgressState::Snapshot { .. } | ProgressState::Diverged => {}
    }
}

fn send_heartbeat(node: &mut Node, peer: &mut Progress, round: Round) {
    peer.round_sent = round;
    // Through its match the peer's log is known to be the leader's, so this much is safe to commit
    // without looking at a previous entry. It is said again with every heartbeat: what told it
    // before may be lost.
    let commit = peer.match_index.min(node.commit());
    peer.commit_sent = peer.commit_sent.max(commit);
    let lease = node.config.lease();
    node.send_made(peer.member, || Rpc::Heartbeat { session: peer.session, round, commit, lease });
}
