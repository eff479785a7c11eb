//! Linearizable reads without log entries: ReadIndex (thesis §6.4).
//!
//! A read is answered at the commit index of the moment at which its round opened, once a quorum
//! has acknowledged a message that was sent after that moment. Rounds are numbered by the leader,
//! so an acknowledgement of an earlier message never confirms a later read.

use alloc::vec::Vec;

use crate::effect::{Effect, Rejection};
use crate::node::Node;
use crate::quorum::is_quorum;
use crate::role::{Leader, ReadRound};
use crate::types::Ticket;

/// Accepts a read; it waits for a round.
pub(crate) fn on_read(node: &mut Node, leader: &mut Leader, ticket: Ticket) {
    let waiting: usize = leader.rounds.iter().map(|round| round.tickets.len()).sum();
    if waiting + leader.reads.len() >= node.config.requests_max {
        node.reject(ticket, Rejection::Busy);
    } else {
        leader.reads.push(ticket);
    }
}

/// Opens one round for all reads that came in this step.
///
/// A new leader opens none before the first commit of its own term: until then its commit index
/// may lie behind what an earlier leader has acknowledged (§8).
pub(crate) fn open_round(node: &Node, leader: &mut Leader) {
    if leader.reads.is_empty() || node.commit() < leader.first {
        return;
    }
    leader.round = leader.round.next();
    let tickets = core::mem::take(&mut leader.reads);
    leader.rounds.push(ReadRound { round: leader.round, index: node.commit(), tickets });
}

/// Answers the reads of every round that a quorum has confirmed.
pub(crate) fn close_rounds(node: &mut Node, leader: &mut Leader) {
    let me = node.member();
    let confirmed = leader
        .rounds
        .iter()
        .take_while(|open| {
            is_quorum(node.membership(), |member| {
                let has = |peer: &crate::progress::Progress| peer.round >= open.round;
                member == me || leader.peer_ref(member).is_some_and(has)
            })
        })
        .count();
    for round in leader.rounds.drain(..confirmed) {
        for ticket in round.tickets {
            node.effects.push(Effect::ReadReady { ticket, index: round.index, valid_until: None });
        }
    }
}

/// All reads that wait at a leader which ceases to be one.
pub(crate) fn abandoned(leader: &mut Leader) -> Vec<Ticket> {
    let rounds = leader.rounds.drain(..).flat_map(|round| round.tickets);
    let mut tickets: Vec<Ticket> = rounds.collect();
    tickets.append(&mut leader.reads);
    tickets
}
