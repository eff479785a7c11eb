//! LZ: while one leader may answer by its lease, nobody else leads a later term (thesis §6.4.1).
//!
//! Judged when a core hands out a lease, to its last moment, whether or not its host answers so
//! late: what a slower host could have answered is as wrong as what this one has. The world tells the
//! true time of that moment from the rate of the node's clock.
//!
//! Deliberately absent: an exception for leaders that hand over. A successor campaigns in spite of
//! all promises, and that is why it must not be asked to before the last lease is over.

use raft_core::{NodeId, Term, Time};

use super::ghost::Ghost;
use super::violation::{Invariant, Violation};

/// A node answers by a lease.
pub(super) fn leased(
    ghost: &mut Ghost,
    slot: usize,
    until: Time,
    now: Time,
) -> Result<(), Violation> {
    would_lease(ghost, slot, until, now)?;
    let term = ghost.nodes[slot].led.unwrap_or_default();
    ghost.nodes[slot].lease = Some((term, until));
    Ok(())
}

/// A node would answer by a lease if it were asked now. It was not, so it may hand over at any time.
pub(super) fn would_lease(
    ghost: &Ghost,
    slot: usize,
    until: Time,
    now: Time,
) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    let (id, term) = (node.member.id, node.led.unwrap_or_default());
    let lasting = ghost.nodes.iter().enumerate().filter(|(other, _)| *other != slot);
    for (_, other) in lasting {
        if let Some((theirs, end)) = other.lease.filter(|(_, end)| *end > now) {
            let holder = other.member.id;
            return Err(broken(
                id,
                format!("the lease of {holder} in {theirs} is the only one until {end}"),
                format!("it answers at {now} by a lease in {term} until {until}"),
            ));
        }
    }
    let later = ghost.reigns.last().filter(|reign| reign.term > term && reign.leader != id);
    if let Some(reign) = later {
        return Err(broken(
            id,
            format!("{} leads {}, so that no earlier lease lasts", reign.leader, reign.term),
            format!("it answers at {now} by a lease in {term} until {until}"),
        ));
    }
    Ok(())
}

/// A node has become the leader of a term.
pub(super) fn elected(ghost: &Ghost, slot: usize, term: Term, now: Time) -> Result<(), Violation> {
    let others = ghost.nodes.iter().enumerate().filter(|(other, _)| *other != slot);
    let leases = others.filter_map(|(_, other)| Some((other.member.id, other.lease?)));
    // Who learns late that it had won an earlier term can do no harm any more.
    let mut lasting = leases.filter(|(_, (theirs, end))| *theirs < term && *end > now);
    let Some((holder, (theirs, end))) = lasting.next() else { return Ok(()) };
    Err(broken(
        ghost.nodes[slot].member.id,
        format!("nobody is elected before {end}: {holder} may answer by its lease in {theirs}"),
        format!("it has won {term} at {now}"),
    ))
}

fn broken(node: NodeId, predicted: String, actual: String) -> Violation {
    Violation::new(Invariant::LeaseOverlap, predicted, actual).on(node)
}
