//! Reads by lease (thesis §6.4.1): no message between the question and the answer.
//!
//! Every heartbeat of a leader that reads by lease opens a round and asks for a promise: whoever
//! answers elects no other leader, itself included, for the length of the lease times the drift
//! bound. The receiver cannot have promised before the round was sent, so the leader counts from
//! there: the newest round that a quorum has answered tells how long nobody else can lead.
//!
//! What was given out must hold, so three things wait until it is over ([`Leader::has_lent`]):
//!
//! - asking a successor to campaign, for that election passes all promises;
//! - leaving a joint membership, because the new voters alone may have promised nothing. While a
//!   membership is joint no lease is given out, or it could never be left;
//! - this node's own candidacy and its votes: the leader promises too. It may step down and give
//!   the vote that decides while its host still answers.
//!
//! All this rests on a clock that only goes forward. Where it is seen to go back, nobody can tell how
//! long ago a round was sent: every lease is over, until new rounds are answered.
//!
//! Deliberately absent: the promise itself (the heartbeat of the replication chapter), and how it
//! is kept (the election chapter).

use crate::effect::Effect;
use crate::node::Node;
use crate::progress::Progress;
use crate::quorum::is_quorum;
use crate::role::{Leader, LeaseRound};
use crate::types::{Round, Span, Ticket, Time};

/// The most rounds that are remembered. A peer whose answers take longer than this many heartbeats
/// contributes to no lease.
const ROUNDS_MAX: usize = 64;

/// The heartbeats that are about to leave ask for a lease: they get a round of their own.
pub(crate) fn ask(node: &Node, leader: &mut Leader) {
    let lease = node.config.lease();
    if lease == Span(0) || leader.has_handed_over {
        return;
    }
    if leader.leases.len() >= ROUNDS_MAX {
        leader.leases.remove(0);
    }
    leader.round = leader.round.next();
    leader.leases.push(LeaseRound { round: leader.round, left: lease });
}

/// Ends all leases, because the clock went back: no round that was sent before tells any more how long
/// nobody else can lead. `lent` stays, for answers that were given out hold as long as they said; by this
/// clock the wait for them can only get longer.
pub(crate) fn end(leader: &mut Leader) {
    leader.leases.clear();
}

/// A peer has answered the heartbeat of a round. Its answers to other messages promise nothing.
pub(crate) fn on_heartbeat_response(peer: &mut Progress, round: Round) {
    peer.promised = peer.promised.max(round);
}

/// Answers a read at once if a quorum has promised to elect nobody for a while. `false`: it must
/// wait for a round like any other read.
pub(crate) fn on_read(node: &mut Node, leader: &mut Leader, ticket: Ticket, now: Time) -> bool {
    let Some(left) = left(node, leader) else { return false };
    leader.lent.extend(left);
    // In memory alone: after a crash nobody is left who could answer by this lease.
    node.promise.extend(left);
    let (index, valid_until) = (node.commit(), Some(now.after(left)));
    node.effects.push(Effect::ReadReady { ticket, index, valid_until });
    true
}

/// For how long no other leader can be elected, as far as this one may rely on it.
fn left(node: &Node, leader: &Leader) -> Option<Span> {
    let is_sure_to_lead = !leader.has_handed_over && leader.transfer.is_none();
    let is_stable = node.is_voter() && !node.is_joint();
    // §8: before its first commit a leader does not know what is committed.
    if !is_sure_to_lead || !is_stable || node.commit() < leader.noop_index {
        return None;
    }
    let me = node.member();
    let has_promised = |asked: &&LeaseRound| {
        is_quorum(node.membership(), |member| {
            let has = |peer: &Progress| peer.promised >= asked.round;
            member == me || leader.peer_ref(member).is_some_and(has)
        })
    };
    leader.leases.iter().rev().find(has_promised).map(|asked| asked.left)
}
