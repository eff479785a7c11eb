//! Leadership transfer (thesis §3.10).
//!
//! The leader stops taking proposals, brings its successor's log up to date, and asks it to campaign
//! at once ([`crate::Rpc::TimeoutNow`]). What is easily overlooked: that message may arrive at any
//! later time, so a leader that has sent one serves no read by lease in that term any more, though
//! the transfer may have been given up long ago.

use crate::effect::{Outcome, Rejection};
use crate::message::Rpc;
use crate::node::Node;
use crate::role::{Leader, Transfer};
use crate::timers::Timer;
use crate::types::{Member, NodeId, Span, Term, Ticket};

/// An operator asks the leader to hand over. A second wish replaces the first.
pub(crate) fn on_transfer(
    node: &mut Node,
    leader: &mut Leader,
    ticket: Ticket,
    to: Option<NodeId>,
) {
    let me = node.member();
    if to == Some(me.id) {
        node.reject(ticket, Rejection::NoChange);
        return;
    }
    if leader.is_damaged {
        // No successor's log can be brought up to date.
        node.reject(ticket, Rejection::Damaged { index: node.damaged_at() });
        return;
    }
    let successor = match to {
        None => leader.best_voter(node.membership()),
        Some(id) => leader
            .peers
            .iter()
            .filter(|peer| peer.is_able())
            .map(|peer| peer.member)
            .find(|member| member.id == id && node.membership().is_voter(*member)),
    };
    let Some(to) = successor else {
        node.reject(ticket, Rejection::UnknownMember);
        return;
    };
    begin(node, leader, Some(ticket), to);
}

/// A leader whose disk is full lets somebody else lead, if there is anybody. Disks fill together, and
/// messages are lost: it goes on until somebody has taken over or there is room, one voter after the other.
pub(crate) fn relieve(node: &mut Node, leader: &mut Leader) {
    if !node.is_disk_full {
        leader.relieved = None;
        return;
    }
    if leader.transfer.is_some() || leader.is_damaged {
        return;
    }
    if let Some(to) = leader.voter_after(node.membership(), leader.relieved) {
        begin(node, leader, None, to);
    }
}

/// Begins a transfer, which takes the place of one that has begun before.
fn begin(node: &mut Node, leader: &mut Leader, ticket: Option<Ticket>, to: Member) {
    end(node, leader, None);
    let lent = leader.lent.left().unwrap_or_default();
    let timeout = Timer::armed(Span(node.config.election_timeout_us + lent.0));
    leader.transfer = Some(Transfer { ticket, to, timeout, is_sent: false });
}

/// Asks the successor to campaign once its log equals this one, and no read by a lease that was
/// given out can be answered any more: the election that follows passes every promise.
pub(crate) fn hand_over(node: &mut Node, leader: &mut Leader) {
    let Some(Transfer { to, is_sent, .. }) = leader.transfer else { return };
    if !node.membership().is_voter(to) {
        end(node, leader, None);
        return;
    }
    let last = node.log().last().index;
    let is_ready = leader.peer_ref(to).is_some_and(|peer| peer.match_index == last);
    if is_sent || !is_ready || leader.has_lent() {
        return;
    }
    leader.has_handed_over = true;
    if let Some(transfer) = &mut leader.transfer {
        transfer.is_sent = true;
    }
    node.send(to, Rpc::TimeoutNow);
}

/// Ends the transfer. It has come about if a `later` term has begun; otherwise this node leads on, or
/// ceases to lead for another reason.
pub(crate) fn end(node: &mut Node, leader: &mut Leader, later: Option<Term>) {
    let Some(Transfer { ticket, to, .. }) = leader.transfer.take() else { return };
    match (ticket, later) {
        (Some(ticket), Some(term)) => node.end(ticket, Outcome::Transferred { term }),
        (Some(ticket), None) => node.reject(ticket, Rejection::TransferAborted),
        (None, _) => leader.relieved = Some(to),
    }
}
