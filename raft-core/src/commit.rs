//! The commit rule (§5.3, §5.4.2), what becomes of proposals, and what the host may apply.

use core::cmp::Ordering;

use crate::effect::{Effect, Outcome, Refused};
use crate::entry::{Entries, Payload};
use crate::message::{LoadPurpose, LoadRequest};
use crate::node::Node;
use crate::progress::Loading;
use crate::quorum::{committed, is_quorum};
use crate::role::Leader;
use crate::types::Index;

/// The most entries with the host at once, whatever they weigh: empty ones weigh nothing.
const UNAPPLIED_ENTRIES_MAX: u64 = 1 << 16;

/// The most entries in one `Apply`.
const APPLY_ENTRIES_MAX: usize = 1 << 12;

/// Advances a leader's commit index to what a quorum holds durably, itself included.
///
/// Only an entry of its own term is committed by counting (§5.4.2, Figure 8); what precedes that
/// entry is committed with it, by the Log Matching Property.
pub(crate) fn advance(node: &mut Node, leader: &mut Leader) {
    let (before, last) = (node.commit(), node.log().last().index);
    if before == last {
        return;
    }
    let own = node.gate.durable_index();
    if own <= before && leader.peers.iter().all(|peer| peer.match_index <= before) {
        return; // No news: proposals alone commit nothing.
    }
    let me = node.member();
    let matched = |member| {
        if member == me {
            own
        } else {
            leader.peer_ref(member).map_or(Index::ZERO, |peer| peer.match_index)
        }
    };
    // Nearly always all peers, or a quorum, have the whole log: then the matches need not be sorted.
    // `peers` are all other members, unless a membership has just come into force.
    let is_tracked = leader.peers_as_of == node.membership_index();
    let has_all =
        is_tracked && own == last && leader.peers.iter().all(|peer| peer.match_index == last);
    let index = if has_all || is_quorum(node.membership(), |member| matched(member) >= last) {
        last
    } else {
        committed(node.membership(), matched)
    };
    if index <= before || node.log().term(index) != Some(node.term()) {
        return;
    }
    node.commit_to(index);
    if index == last {
        leader.uncommitted_bytes = 0; // Nearly always: what was proposed since is appended.
        return;
    }
    let bytes = command_bytes(node, before.max(leader.noop_index.prev()), index);
    leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_sub(bytes);
}

/// The bytes of the commands after `after` through `through`, in memory or not: all payload bytes there
/// less those of the memberships, which are always known.
fn command_bytes(node: &Node, after: Index, through: Index) -> usize {
    let memberships = node.memberships_within(after, through).map(Payload::Membership);
    let others: usize = memberships.map(|membership| membership.len()).sum();
    node.log().bytes_between(after, through).saturating_sub(others)
}

/// Ends the tickets whose fate is decided.
///
/// A truncated proposal is not known to be lost: another leader may still commit it (Figure 8).
/// Two facts prove that it is superseded: another entry is committed at its index, or an entry of
/// a later term is committed before it. Every later leader has that entry, and terms never fall
/// along a log, so nothing of the earlier term can follow it. Without the second fact a ticket
/// could wait for as long as nobody writes, and tickets that wait count against the limit on
/// requests.
pub(crate) fn end_tickets(node: &mut Node) {
    if node.tickets.is_empty() {
        return; // Followers, nearly always: they are spared the search in the log.
    }
    let commit = node.commit();
    // No entry is of a later term than this node.
    let may_be_behind = node.tickets_term < node.term();
    if node.tickets[0].index > commit && !may_be_behind {
        return; // Nearly always, while nothing new is committed.
    }
    let decided = node.tickets.partition_point(|pending| pending.index <= commit);
    for position in 0..decided {
        let pending = node.tickets[position];
        let outcome = match node.log().term(pending.index) {
            Some(term) if term == pending.term => Outcome::Committed { term, index: pending.index },
            Some(_) => Outcome::Superseded,
            None => Outcome::Unknown,
        };
        node.end(pending.ticket, outcome);
    }
    node.tickets.drain(..decided);
    let commit_term = if may_be_behind { node.log().term(commit) } else { None };
    if let Some(commit_term) = commit_term
        && commit_term > node.tickets_term
    {
        node.tickets_term = commit_term;
        let mut tickets = core::mem::take(&mut node.tickets);
        for pending in tickets.extract_if(.., |pending| pending.term < commit_term) {
            node.end(pending.ticket, Outcome::Superseded);
        }
        node.tickets = tickets;
    }
}

/// Hands committed entries that are durable here to the host, within the byte limit; one entry is
/// always admitted.
pub(crate) fn hand_out(node: &mut Node) {
    if node.handed_out == node.commit() && node.restore.is_none() {
        return;
    }
    let durable = node.gate.durable_index();
    if node.restore.is_some() && node.gate.is_installing() {
        return; // The entries that it covers may be durable long before the snapshot itself is.
    }
    if let Some(snapshot) = node.restore.take() {
        node.handed_out = snapshot.last.index;
        node.unapplied_bytes = 0;
        node.effects.push(Effect::RestoreState { snapshot });
    }
    if node.handed_out < node.log().base().index {
        return; // The snapshot is damaged, and what it covered is nowhere else here.
    }
    let through = node.commit().min(durable);
    let limit = node.config.unapplied_bytes_max;
    while node.handed_out < through && has_room(node) {
        let room = limit.saturating_sub(node.unapplied_bytes);
        if node.log().is_cold(node.handed_out.next()) {
            want_load(node, through, room);
            return;
        }
        node.apply_read(through, room, APPLY_ENTRIES_MAX);
    }
}

/// Asks for the next cold entries that the state machine needs, one range at a time.
fn want_load(node: &mut Node, through: Index, bytes_max: usize) {
    if node.loading != Loading::Idle {
        return;
    }
    let log = node.log();
    let after = log.id(node.handed_out).expect("what was handed out is in the log or its base");
    let through = log.cold_range(after.index, through, bytes_max, APPLY_ENTRIES_MAX);
    let request = LoadRequest { purpose: LoadPurpose::Apply, after, through, bytes_max };
    node.loading = Loading::asked(&request);
    node.effects.push(Effect::Load(request));
}

/// The host has read what the state machine needs, or could not.
///
/// They are handed out if they are still the next ones; a snapshot may have overtaken them. What
/// could not be read is asked for again at the next tick, when the leader has spoken, or when
/// something else was applied: a host that fails at once must not make a storm of it.
pub(crate) fn on_loaded(node: &mut Node, request: &LoadRequest, entries: Option<Entries>) {
    if node.loading != Loading::asked(request) {
        node.refuse(Refused::UnknownLoad);
        return;
    }
    if request.after.index != node.handed_out || node.restore.is_some() {
        node.loading = Loading::Idle; // Nobody needs it any more, be it that it could not be read.
        return;
    }
    node.loading = Loading::Failed;
    let Some(entries) = entries else { return };
    match node.check_loaded(request, &entries) {
        Ok(()) => {
            node.loading = Loading::Idle;
            node.apply(entries);
        }
        Err(reason) => node.refuse(reason),
    }
}

/// The host has applied through an index.
pub(crate) fn on_applied(node: &mut Node, through: Index) {
    if through > node.handed_out {
        node.refuse(Refused::UnknownApplied { through });
        return;
    }
    if through.cmp(&node.applied) != Ordering::Greater {
        return;
    }
    node.unapplied_bytes = if through == node.handed_out {
        0
    } else {
        let bytes = node.log().bytes_between(node.applied, through);
        node.unapplied_bytes.saturating_sub(bytes)
    };
    node.applied = through;
    node.loading.retry();
}

fn has_room(node: &Node) -> bool {
    if node.handed_out.0 - node.applied.0 >= UNAPPLIED_ENTRIES_MAX {
        return false;
    }
    node.applied == node.handed_out || node.unapplied_bytes < node.config.unapplied_bytes_max
}
