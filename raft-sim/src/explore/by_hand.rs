//! Servers and messages made by hand, for tests that must show what never happens.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    ClusterId, Effect, Envelope, Epoch, GroupId, Incarnation, Index, Membership, Payload, Rpc,
    Term, Time,
};

use super::bounds::{Bounds, member};
use super::host::{Host, Input};
use crate::ideal_disk::Disk;

/// A server that starts with this log (terms and payloads), all of it durable.
pub(crate) fn with_log(at: usize, term: u64, log: &[(u64, Payload)]) -> Host {
    let bounds = Bounds::default();
    let items = log.iter().map(|(term, payload)| (Term(*term), payload.clone()));
    let disk = Disk::new(bounds.genesis()).with_log(items, Term(term));
    let (mut host, _) = Host::start(Arc::new(bounds.config(at)), disk, Index::ZERO, Time(0));
    sync(&mut host);
    host
}

/// A server that leads this term with this log; its own first entry is not durable yet.
pub(crate) fn leader(at: usize, term: u64, log: &[(u64, Payload)]) -> Host {
    let mut host = with_log(at, term - 1, log);
    host.take(&Input::Fire);
    sync(&mut host);
    let voter = (at + 1) % 3;
    deliver(&mut host, letter(voter, at, term, Rpc::RequestVoteResponse { granted: true }));
    let status = host.raft.status();
    assert_eq!((status.role, status.term), (raft_core::RoleName::Leader, Term(term)));
    host
}

/// Completes all writes on their way.
pub(crate) fn sync(host: &mut Host) -> Vec<Effect> {
    let batches = host.unsynced.len();
    if batches == 0 { Vec::new() } else { host.take(&Input::Persist { batches }) }
}

pub(crate) fn deliver(host: &mut Host, letter: Envelope) -> Vec<Effect> {
    host.take(&Input::Deliver(Arc::new(letter)))
}

/// A message between two servers, by their positions.
pub(crate) fn letter(from: usize, to: usize, term: u64, rpc: Rpc) -> Envelope {
    Envelope {
        cluster: ClusterId(1),
        group: GroupId(1),
        from: member(from),
        to: member(to),
        epoch: Epoch::ZERO,
        incarnation: Incarnation(1),
        term: Term(term),
        rpc,
    }
}

pub(crate) fn noop(term: u64) -> (u64, Payload) {
    (term, Payload::Noop)
}

pub(crate) fn command(term: u64, text: &'static str) -> (u64, Payload) {
    (term, Payload::Command(Bytes::from_static(text.as_bytes())))
}

pub(crate) fn membership(term: u64, membership: Membership) -> (u64, Payload) {
    (term, Payload::Membership(Arc::new(membership)))
}

/// A simple membership of these servers, by their positions.
pub(crate) fn voters(positions: &[usize]) -> Membership {
    let voters = positions.iter().map(|at| member(*at)).collect();
    Membership::new(voters, Vec::new()).expect("different servers make a membership")
}
