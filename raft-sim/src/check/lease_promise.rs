//! PS: who answers a heartbeat that asks for a lease has promised to elect nobody else meanwhile, and
//! a restart must not make it forget that (thesis §6.4.1).
//!
//! A response names the heartbeat that it answers, and not what that one has asked for: the ghost
//! notes it. The promise lasts longer than the lease by as much as clocks may differ.
//!
//! Deliberately absent: whether the promise is kept. That no lease is broken is judged as LZ.

use std::collections::BTreeMap;

use raft_core::{Envelope, Round, Rpc, Session, Span};

use super::ghost::Ghost;
use super::violation::{Invariant, Violation};

/// A leader remembers no more heartbeats than this by which a peer may promise something.
const REMEMBERED_MAX: usize = 64;

/// The leases that a leader has asked of a node, by heartbeat.
pub(super) type Leases = BTreeMap<(Session, Round), Span>;

/// A node sends a message.
pub(super) fn sent(ghost: &mut Ghost, slot: usize, envelope: &Envelope) -> Result<(), Violation> {
    if let Rpc::Heartbeat { session, round, lease, .. } = envelope.rpc {
        if lease > Span(0) {
            asked(ghost, envelope, (session, round), lease);
        }
    } else if let Rpc::HeartbeatResponse { session, round } = envelope.rpc {
        let reign = ghost.reigns.get(envelope.term);
        let reign = reign.filter(|reign| reign.leader == envelope.to.id);
        let lease = reign.and_then(|reign| reign.leases(slot)?.get(&(session, round)).copied());
        return lease.map_or(Ok(()), |lease| promised(ghost, slot, envelope, lease));
    }
    Ok(())
}

fn asked(ghost: &mut Ghost, envelope: &Envelope, heartbeat: (Session, Round), lease: Span) {
    let Some(receiver) = ghost.find(envelope.to) else { return };
    let Some(reign) = ghost.reigns.get_mut(envelope.term) else { return };
    let leases = reign.leases_mut(receiver);
    leases.insert(heartbeat, lease);
    if leases.len() > REMEMBERED_MAX {
        leases.pop_first();
    }
}

fn promised(ghost: &Ghost, slot: usize, envelope: &Envelope, lease: Span) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    let least = lease.0 + lease.0 * ghost.clock_drift_percent / 100;
    if node.durable.hard_state.promise.0 >= least {
        return Ok(());
    }
    let predicted = format!(
        "{} is asked to elect nobody else for {lease}, and who agrees has a promise of {}us on disk",
        node.member, least
    );
    let actual = format!("it agrees by {envelope}, and its disk has [{}]", node.durable.hard_state);
    Err(Violation::new(Invariant::PromiseDurability, predicted, actual).on(node.member.id))
}
