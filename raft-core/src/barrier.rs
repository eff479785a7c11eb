//! A log whose end is unknown (after Alagappan et al., FAST'18, and Lamport's rule that a promise
//! outlives the process that gave it): the disk shows that it once held more than is found, so the
//! node may have acknowledged entries that it has not got.
//!
//! Its vote would count for a quorum that those entries are committed by; so it votes for nobody,
//! campaigns never, and says so durably: the mark is in the hard state and survives further starts.
//! It accepts and acknowledges appends like any other node, for what it acknowledges now is true.
//!
//! The way out is a barrier. Whoever leads a term has all that was ever committed before (§5.4), so
//! once this log equals a leader's through where that leader's log ended *after this start*, durably
//! and intact, nothing acknowledged is missing. Three weaker rules lose data: the commit index for a
//! barrier (the entry that it acknowledged may commit later), the length of the log instead of its
//! being equal, and an answer that an earlier start had asked for.

use crate::effect::Refused;
use crate::message::{RepairRpc, Rpc};
use crate::node::Node;
use crate::role::Leader;
use crate::types::{Incarnation, Index, Member};

/// The leader has sent a heartbeat: a node in doubt asks how far the leader's log goes, as long as it
/// is in doubt. Question and answer may be lost, and a leader may drop the end of its own log.
pub(crate) fn ask(node: &mut Node, leader: Member) {
    if node.doubt.is_some() {
        node.send(leader, Rpc::Repair(RepairRpc::Barrier));
    }
}

/// A peer is in doubt about the end of its log: until it has come as far as this leader's log goes now,
/// it is no successor. A leader whose own log is damaged answers too, for it knows the identities of
/// all its entries.
pub(crate) fn on_barrier(
    node: &mut Node,
    leader: &mut Leader,
    from: Member,
    incarnation: Incarnation,
) -> Result<(), Refused> {
    let index = node.log().last().index;
    let peer = leader.peer(from).ok_or(Refused::NotAMember)?;
    peer.barrier = Some(index);
    node.send(from, Rpc::Repair(RepairRpc::BarrierResponse { incarnation, index }));
    Ok(())
}

/// The leader of the term has answered. Each of its answers would do; the lowest is reached first.
pub(crate) fn on_barrier_response(
    node: &mut Node,
    incarnation: Incarnation,
    index: Index,
) -> Result<(), Refused> {
    let known = node.hard_state().incarnation;
    if incarnation != known {
        return Err(Refused::StaleIncarnation { known, theirs: incarnation });
    }
    let Some(doubt) = &mut node.doubt else { return Err(Refused::Unasked) };
    doubt.barrier = Some(doubt.barrier.map_or(index, |barrier| barrier.min(index)));
    Ok(())
}

/// Ends the doubt once the log has come through the barrier, durably and intact. The batch that says
/// so is a later one than that of the entries, and durable before the first vote.
pub(crate) fn pass(node: &mut Node) {
    let Some(doubt) = node.doubt else { return };
    let reached = doubt.matched.min(node.gate.durable_index());
    if doubt.barrier.is_some_and(|barrier| reached >= barrier) {
        node.end_doubt();
    }
}
