//! ES: a term has one leader (§5.2), a node one vote in it, and both survive restarts.
//!
//! A leader is known by its own word or by its first message. At that moment a majority of every
//! half of its membership must have a durable vote for it: a leader that counted a vote twice, or
//! one that was never given, is caught before it has done any harm.
//!
//! A step may do more than win: a leader that wins and is deposed in one step may have lost the very
//! membership entry by which it won when this looks. So the first entry of each term that a node
//! appends in a step leaves behind by which membership the node went until then.

use std::sync::Arc;

use raft_core::{Entry, Index, Member, PersistBatch, Term};

use super::ghost::Ghost;
use super::leader_completeness;
use super::violation::{Invariant, Violation};

/// A node appends entries to its log, which is as the rest of the batch has left it.
pub(super) fn appended(ghost: &mut Ghost, slot: usize, batch: &PersistBatch) {
    let node = &mut ghost.nodes[slot];
    let Some(term) = batch.append.iter().next().map(Entry::term) else { return };
    if term > node.issued.log.last().term {
        let membership = Arc::clone(node.issued.log.membership());
        node.entered.push((term, membership));
    }
}

/// A node acts as the leader of `term`.
pub(super) fn leads(ghost: &mut Ghost, slot: usize, term: Term) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    if node.led == Some(term) {
        return Ok(());
    }
    let member = node.member;
    if let Some(reign) = ghost.reigns.get(term) {
        // A message of an earlier reign may have waited; a restart ends all reigns.
        if reign.leader == member.id && node.led > Some(term) {
            return Ok(());
        }
        let again = if reign.leader == member.id { " again, after a restart" } else { "" };
        return Err(Violation::new(
            Invariant::ElectionSafety,
            format!("{term} has the leader {} since it won that election", reign.leader),
            format!("{member} leads {term}{again}"),
        )
        .on(member.id));
    }
    is_elected(ghost, slot, term)?;
    leader_completeness::check(ghost, slot, term)?;
    ghost.reigns.begin(term, member.id);
    ghost.nodes[slot].led = Some(term);
    Ok(())
}

/// A node gives its vote in `term`, be it to itself.
pub(super) fn votes(
    ghost: &Ghost,
    slot: usize,
    term: Term,
    candidate: Member,
) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    match node.votes.get(&term) {
        Some(&given) if given != candidate => Err(Violation::new(
            Invariant::ElectionSafety,
            format!("its vote in {term} is for {given}"),
            format!("it votes for {candidate} in {term}"),
        )
        .on(node.member.id)),
        Some(_) | None => Ok(()),
    }
}

fn is_elected(ghost: &Ghost, slot: usize, term: Term) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    let entered = node.entered.iter().find(|(entered, _)| *entered == term);
    let membership = entered.map_or(node.issued.log.membership(), |(_, membership)| membership);
    let has_voted =
        |slot: usize| Index(u64::from(ghost.nodes[slot].votes.get(&term) == Some(&node.member)));
    if ghost.quorum_index(membership, has_voted) > Index::ZERO {
        return Ok(());
    }
    let votes = (0..ghost.nodes.len()).filter(|&slot| has_voted(slot) > Index::ZERO);
    let voters: Vec<String> = votes.map(|slot| ghost.nodes[slot].member.to_string()).collect();
    Err(Violation::new(
        Invariant::ElectionSafety,
        format!("a leader of {term} has durable votes of a quorum of {membership}"),
        format!("{} leads {term} with the votes of [{}]", node.member, voters.join(" ")),
    )
    .on(node.member.id))
}
