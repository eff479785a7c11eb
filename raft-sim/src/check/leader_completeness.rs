//! LC: a new leader has all that was committed in earlier terms (§5.4).
//!
//! What a later term has committed meanwhile is no duty of a leader that learns late that it has
//! won: it cannot commit anything any more.

use raft_core::Term;

use super::ghost::Ghost;
use super::violation::{Invariant, Violation};

/// A node begins to lead `term`.
pub(super) fn check(ghost: &Ghost, slot: usize, term: Term) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    let owed = ghost.committed.before_term(term);
    if node.issued.log.holds(owed) {
        return Ok(());
    }
    Err(Violation::new(
        Invariant::LeaderCompleteness,
        format!("the leader of {term} has the committed entry {owed}"),
        format!("it has {}", node.issued.log.show(owed.index)),
    )
    .on(node.member.id)
    .at(owed.index))
}
