//! The commit rule (§5.3, §5.4.2), what becomes of proposals, and what the host may apply.

use core::cmp::Ordering;

use crate::effect::{Effect, Outcome, Refused};
use crate::node::Node;
use crate::quorum::committed;
use crate::role::Leader;
use crate::types::Index;

/// Advances a leader's commit index to what a quorum holds durably, itself included.
///
/// Only an entry of its own term is committed by counting (§5.4.2, Figure 8); what precedes that
/// entry is committed with it, by the Log Matching Property.
pub(crate) fn advance(node: &mut Node, leader: &mut Leader) {
    let me = node.member();
    let own = node.gate.durable_index();
    let matched = |member| {
        if member == me {
            own
        } else {
            leader.peer_ref(member).map_or(Index::ZERO, |peer| peer.match_index)
        }
    };
    let index = committed(node.membership(), matched);
    let before = node.commit();
    if index <= before || node.log().term(index) != Some(node.term()) {
        return;
    }
    node.commit_to(index);
    let own_term = before.max(leader.first.prev());
    let bytes: usize = node
        .log()
        .iter_after(own_term)
        .take_while(|entry| entry.index() <= index)
        .map(|entry| entry.payload().len())
        .sum();
    leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_sub(bytes);
}

/// Ends the tickets whose index is committed now.
///
/// A truncated proposal is not known to be lost: another leader may still commit it (Figure 8).
/// Only a different committed entry at its index proves that it is superseded.
pub(crate) fn end_tickets(node: &mut Node) {
    let commit = node.commit();
    let decided = node.tickets.partition_point(|pending| pending.index <= commit);
    if decided == 0 {
        return;
    }
    let mut tickets = core::mem::take(&mut node.tickets);
    for pending in tickets.drain(..decided) {
        let outcome = match node.log().term(pending.index) {
            Some(term) if term == pending.term => Outcome::Committed { term, index: pending.index },
            Some(_) => Outcome::Superseded,
            None => Outcome::Unknown,
        };
        node.end(pending.ticket, outcome);
    }
    node.tickets = tickets;
}

/// Hands committed entries that are durable here to the host, within the byte limit; one entry is
/// always admitted.
pub(crate) fn hand_out(node: &mut Node) {
    let durable = node.gate.durable_index();
    if let Some(snapshot) = &node.restore {
        if durable < snapshot.last.index {
            return;
        }
        let snapshot = snapshot.clone();
        node.restore = None;
        node.handed_out = snapshot.last.index;
        node.unapplied_bytes = 0;
        node.effects.push(Effect::RestoreState { snapshot });
    }
    let through = node.commit().min(durable);
    let limit = node.config.unapplied_bytes_max;
    while node.handed_out < through && has_room(node) {
        let room = limit.saturating_sub(node.unapplied_bytes);
        let entries = node.log().read(node.handed_out, through, room, usize::MAX);
        let Some(last) = entries.last().map(|entry| entry.index()) else {
            unreachable!("entries between the last one handed out and the commit index exist");
        };
        node.handed_out = last;
        node.unapplied_bytes += entries.bytes();
        node.effects.push(Effect::Apply { entries });
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
    let bytes: usize = node
        .log()
        .iter_after(node.applied)
        .take_while(|entry| entry.index() <= through)
        .map(|entry| entry.payload().len())
        .sum();
    node.unapplied_bytes = node.unapplied_bytes.saturating_sub(bytes);
    node.applied = through;
    if node.applied == node.handed_out {
        node.unapplied_bytes = 0;
    }
}

fn has_room(node: &Node) -> bool {
    node.applied == node.handed_out || node.unapplied_bytes < node.config.unapplied_bytes_max
}
