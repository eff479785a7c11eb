//! Which messages can still be reacted to.
//!
//! A message that was sent stays for ever: it may arrive at any time, again and again, or never. So
//! loss, delay, reordering and duplication need no steps of their own. But most of them soon mean
//! nothing any more, and states that differ in such messages alone would be explored one by one.
//! [`is_dead`] tells them, by kind. Every rule holds in each state that the receiver can still get
//! into, by crashes too: it speaks of the *floor*, the term that is durable there, which never falls.

use std::sync::Arc;

use raft_core::{
    AppendResult, Envelope, Epoch, Incarnation, Index, Member, RoleName, Round, Rpc, Session, Span,
    Status, Term,
};

use super::bounds::{Bounds, CLUSTER, GROUP};
use super::store::{IDLE, Store};
use super::symmetry::Origin;

/// The name of an inbox without the messages that mean nothing to its server any more.
pub(crate) fn collect(
    store: &mut Store,
    bounds: &Bounds,
    host: u32,
    inbox: u32,
    may_crash: bool,
) -> u32 {
    let value = Arc::clone(store.hosts.get(host));
    let status = value.raft.status();
    let receiver = Receiver::new(&status, value.disk.hard_state().term, may_crash);
    let mut kept: Vec<u32> = Vec::new();
    let mut stale: Vec<Member> = Vec::new();
    let letters = Arc::clone(store.inboxes.get(inbox));
    for name in letters.iter() {
        let letter = Arc::clone(store.letters.get(*name));
        if is_dead(&letter, receiver, bounds) {
            continue;
        }
        let settles = settles(&letter, receiver, may_crash, bounds);
        if settles && store.deliver(bounds, host, *name) == IDLE {
            continue;
        }
        if is_stale(&letter, receiver) {
            stale.push(letter.from);
        } else if is_over(&letter, receiver, may_crash, bounds)
            && is_said_again(store, bounds, host, *name)
        {
            if letter.term.0 < u64::from(bounds.terms) {
                stale.push(letter.from);
            }
        } else {
            kept.push(*name);
        }
    }
    stale.sort_unstable();
    stale.dedup();
    kept.extend(stale.into_iter().map(|from| store.stale(from, status.member)));
    store.inbox(kept)
}

/// Whether the receiver answers a message in the same words for ever, as long as its term lasts.
fn is_said_again(store: &mut Store, bounds: &Bounds, host: u32, letter: u32) -> bool {
    let name = store.deliver(bounds, host, letter);
    if name == IDLE {
        return false;
    }
    let step = Arc::clone(&store.steps[name as usize]);
    let is_final = |letter: u32| match store.letters.get(letter).rpc {
        Rpc::RequestVoteResponse { .. } => true,
        Rpc::AppendEntriesResponse { result, .. } => matches!(result, AppendResult::Matched { .. }),
        Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVote { .. }
        | Rpc::AppendEntries { .. }
        | Rpc::Commit { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => false,
    };
    step.is_echo() && step.sent.iter().all(|(_, letter)| is_final(*letter))
}

/// Whether a request of the receiver's present term has had all its effects, but for its answer,
/// which was sent at once: the vote of the term is given, or the entries are there and durable, and
/// the receiver cannot crash any more. It is of use only when it is stale. (A timer that must be put
/// off again and again, or a pre-candidate that must give up again, would need it.)
fn is_over(letter: &Envelope, receiver: Receiver, may_crash: bool, bounds: &Bounds) -> bool {
    if may_crash || bounds.check_quorum || bounds.pre_vote || letter.term != receiver.term {
        return false;
    }
    match letter.rpc {
        Rpc::RequestVote { .. } => receiver.has_voted,
        Rpc::AppendEntries { .. } => true,
        Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVoteResponse { .. }
        | Rpc::AppendEntriesResponse { .. }
        | Rpc::Commit { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => false,
    }
}

/// What of a receiver decides about its messages.
#[derive(Clone, Copy, Debug)]
struct Receiver {
    floor: Term,
    term: Term,
    role: RoleName,
    has_voted: bool,
}

impl Receiver {
    /// A node that may crash falls back to what its disk holds; one that cannot crash any more
    /// never falls.
    fn new(status: &Status, durable: Term, may_crash: bool) -> Self {
        let floor = if may_crash { durable } else { status.term };
        Self { floor, term: status.term, role: status.role, has_voted: status.vote.is_some() }
    }

    /// Whether the receiver holds this role in this term.
    fn is(self, term: Term, roles: &[RoleName]) -> bool {
        self.term == term && roles.contains(&self.role)
    }
}

/// Whether nothing can react to a message any more, whatever happens to its receiver.
fn is_dead(letter: &Envelope, receiver: Receiver, bounds: &Bounds) -> bool {
    let is_past = letter.term < receiver.floor;
    match letter.rpc {
        // An answer to a candidate. A node is a candidate of a term only from the moment at which it
        // enters the term, with its own vote; once the term is durable it cannot enter it again.
        Rpc::RequestVoteResponse { .. } => {
            letter.term <= receiver.floor && !receiver.is(letter.term, &[RoleName::Candidate])
        }
        // An answer to a leader, which was a candidate of the term before.
        Rpc::AppendEntriesResponse { .. } | Rpc::InstallSnapshotResponse { .. } => {
            let roles = [RoleName::Candidate, RoleName::Leader];
            letter.term <= receiver.floor && !receiver.is(letter.term, &roles)
        }
        // The same. Without a session it only tells a term (and a leader that checks its quorum, that
        // the sender is alive).
        Rpc::HeartbeatResponse { session, .. } => {
            let roles = [RoleName::Candidate, RoleName::Leader];
            let is_for_nobody = session == Session::ZERO && !bounds.check_quorum;
            letter.term <= receiver.floor && (is_for_nobody || !receiver.is(letter.term, &roles))
        }
        // Pre-votes may be asked for again and again in one term.
        Rpc::RequestPreVoteResponse { .. } => is_past,
        // Of an earlier term these are refused without an answer. A node forwards a read within one
        // term; the answer to a read names that question.
        Rpc::Commit { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. } => is_past,
        // A stale request is answered with the present term, which may be news to its sender.
        Rpc::RequestPreVote { .. }
        | Rpc::RequestVote { .. }
        | Rpc::AppendEntries { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::InstallSnapshot { .. } => false,
        Rpc::Repair(ref rpc) => is_past && !rpc.is_request(),
    }
}

/// Whether a message that changes nothing now never will.
///
/// An answer to a candidate counts once. What an answer to a leader confirms only grows while it
/// leads; only a new incarnation of the peer takes it back, and that makes the answer stale. (With
/// the check of the quorum, an answer also tells again and again that the peer is alive.) A node that
/// cannot crash does not forget what it knows to be committed.
fn settles(letter: &Envelope, receiver: Receiver, may_crash: bool, bounds: &Bounds) -> bool {
    if letter.term != receiver.term {
        return false;
    }
    match letter.rpc {
        Rpc::RequestVoteResponse { .. } => receiver.role == RoleName::Candidate,
        Rpc::AppendEntriesResponse { .. } => {
            receiver.role == RoleName::Leader && !bounds.check_quorum
        }
        Rpc::Commit { .. } => receiver.role == RoleName::Follower && !may_crash,
        Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVote { .. }
        | Rpc::AppendEntries { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => false,
    }
}

/// Whether a request is stale for good. All of them are answered alike: with the present term and
/// nothing else. So one, of term 0, stands for all that a sender has sent.
fn is_stale(letter: &Envelope, receiver: Receiver) -> bool {
    letter.term < receiver.floor && is_request(&letter.rpc)
}

/// Whether a message is answered even if its term is over.
pub(crate) fn is_request(rpc: &Rpc) -> bool {
    match rpc {
        Rpc::RequestPreVote { .. }
        | Rpc::RequestVote { .. }
        | Rpc::AppendEntries { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::InstallSnapshot { .. } => true,
        Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVoteResponse { .. }
        | Rpc::AppendEntriesResponse { .. }
        | Rpc::Commit { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. } => false,
        Rpc::Repair(rpc) => rpc.is_request(),
    }
}

impl Store {
    /// The message that stands for all stale requests of a sender.
    pub(crate) fn stale(&mut self, from: Member, to: Member) -> u32 {
        let (session, round, commit) = (Session::ZERO, Round::ZERO, Index::ZERO);
        let letter = Envelope {
            cluster: CLUSTER,
            group: GROUP,
            from,
            to,
            epoch: Epoch::ZERO,
            incarnation: Incarnation(1),
            term: Term::ZERO,
            rpc: Rpc::Heartbeat { session, round, commit, lease: Span(0) },
        };
        self.letter(letter, &Origin::Stale(from, to))
    }
}
