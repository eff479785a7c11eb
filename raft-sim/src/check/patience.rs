//! ET: who has just given its vote does not campaign (§5.2, Figure 2, rules for followers).
//!
//! A follower stands for election when an election timeout has passed in which it neither heard
//! from a leader nor gave its vote. The second half can be seen from outside: the vote goes to its
//! disk, and requests for votes to its network. A node that breaks it campaigns against the
//! candidate that it has helped, which costs availability now and then, but never safety, so
//! nothing else notices.
//!
//! Deliberately absent: the first half. A disk may hold back the answer to a leader, so nobody but
//! the node knows when it heard from it.

use raft_core::{HardState, Span, Term};

use super::ghost::Node;
use super::violation::{Invariant, Violation};

/// A node asks for another hard state; the ghost still has the one before.
pub(super) fn staged(node: &mut Node, new: &HardState) {
    let old = &node.issued.hard_state;
    let is_given = new.vote.is_some_and(|candidate| candidate != node.member);
    if is_given && (old.term, old.vote) != (new.term, new.vote) {
        node.granted = Some((new.term, node.clock));
        // The campaign that it was asked for is over.
        node.is_urged &= !node.has_stood;
    }
}

/// A node asks for votes, or whether it would get them, of its own accord.
pub(super) fn stands(node: &mut Node, timeout: Span, term: Term) -> Result<(), Violation> {
    node.has_stood = node.is_urged;
    let Some((granted, since)) = node.granted.filter(|_| !node.is_urged) else { return Ok(()) };
    // What it had asked before it gave its vote may leave after that, and in the same step.
    let is_later = term >= granted && node.clock > since;
    let waited = node.clock.0.saturating_sub(since.0);
    if !is_later || waited >= timeout.0 {
        return Ok(());
    }
    Err(Violation::new(
        Invariant::ElectionTimeout,
        format!("it waits for {timeout} from {since}, when it gave its vote in {granted}"),
        format!("it asks for votes at {}", node.clock),
    )
    .on(node.member.id))
}
