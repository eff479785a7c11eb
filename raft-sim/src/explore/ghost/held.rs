//! What one server holds for true of another one's disk.
//!
//! A leader counts by what it believes of its peers, so it must be so whether or not anything is
//! counted by it: what a peer has acknowledged in a term it keeps until the term is over or it starts
//! again, and may have lost something. And a server whose end was unknown votes again by what it
//! holds for equal to the log of its leader.

use std::collections::BTreeSet;

use raft_core::{Index, RoleName};

use super::super::facts::{Belief, Broken, broken};
use super::super::host::Host;

/// What a leader believes of a peer in its present life is durable there, and intact. (A later term
/// may have taken it back, and a later life may have lost it: of that the leader has still to hear. Of
/// what is found damaged while the peer runs it does not: the peer writes it again, and knows of it.)
pub(super) fn is_believed(
    leader: &Host,
    beliefs: &[Belief],
    hosts: &[&Host],
) -> Result<(), Broken> {
    let status = leader.raft.status();
    for Belief { peer, life, through } in beliefs {
        let is_present = |host: &&&Host| {
            let other = host.raft.status();
            (other.member, other.incarnation, other.term) == (*peer, *life, status.term)
        };
        let Some(host) = hosts.iter().find(is_present) else { continue };
        if !has_through(host, leader, *through, &host.found) {
            let what = format!("that {peer} has its log through {through}, which is not durable");
            return broken("CQ", format!("the leader of {} believes {what}", status.term));
        }
    }
    Ok(())
}

/// The same where what the disk of the peer had is gone.
pub(super) fn is_kept(at: usize, hosts: &[&Host]) -> Result<(), Broken> {
    let member = hosts[at].raft.status().member;
    for leader in hosts {
        is_believed(leader, &Belief::of(leader, |peer| peer == member), hosts)?;
    }
    Ok(())
}

/// A server whose doubt ends has the log of the leader of its term through an index, durably and
/// intact.
pub(super) fn is_equal(at: usize, through: Index, hosts: &[&Host]) -> Result<(), Broken> {
    let status = hosts[at].raft.status();
    let leads = |host: &&&Host| {
        let other = host.raft.status();
        other.role == RoleName::Leader && other.term == status.term
    };
    let other = hosts
        .iter()
        .filter(leads)
        .find(|leader| !has_through(hosts[at], leader, through, &BTreeSet::new()));
    match other.map(|leader| leader.raft.status().member) {
        Some(leader) => {
            let log = format!("its log is not that of {leader} through {through}");
            broken("PS", format!("the doubt of {} ends, and {log}", status.member))
        }
        None => Ok(()),
    }
}

/// Whether the disk of a server has the log of a leader through an index, and all of it intact but for
/// what is known of. One name in common says the same of all before it.
fn has_through(host: &Host, leader: &Host, through: Index, known: &BTreeSet<Index>) -> bool {
    let is_there = match leader.raft.entry_id(through) {
        Some(id) => host.disk.holds(id),
        None => through <= leader.raft.status().base.index && through <= host.disk.last().index,
    };
    is_there && host.disk.is_intact_but(known, through)
}
