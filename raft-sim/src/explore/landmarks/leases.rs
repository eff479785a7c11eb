//! What must have been seen where leaders answer reads by lease.

use raft_core::{Incarnation, Refused, RoleName, RpcKind, Span};

use super::{Bounds, Landmark, is_waiting, leads, refuses, step};
use crate::explore::facts::Fact;
use crate::explore::host::Input;

/// Leases, and the promises that they rest on (thesis §6.4.1).
pub(super) const ALL: &[Landmark] = &[
    step("a read is answered by a lease", is_read, |taken| {
        taken.is_fact(|fact| *fact == Fact::Lends)
    }),
    step("a read finds no lease that lasts, and waits for a round", is_read, |taken| {
        let is_asked = matches!(taken.input, Input::Read { .. });
        let is_old = taken.is.commit < taken.is.last.index;
        is_asked && is_waiting(taken) && !is_old && taken.before.heartbeats > 0
    }),
    step("a lease is over while the leader leads on", is_read, |taken| {
        let is_over = taken.before.lent.is_some() && taken.after.lent.is_none();
        is_over && !taken.is_crash() && taken.is.role == RoleName::Leader
    }),
    step("a candidate is refused because of a promise", is_outvoted, |taken| {
        refuses(taken, RpcKind::RequestVote, is_promised)
    }),
    step(
        "a server whose timer fires does not campaign, because it has promised",
        |bounds| is_rival(bounds) && bounds.crashes >= 1,
        |taken| {
            let is_due = *taken.input == Input::Fire && taken.was.role == RoleName::Follower;
            is_due && taken.is.role == RoleName::Follower
        },
    ),
    step("a server votes again when its promise is over", is_rival, |taken| {
        let has_promised = taken.before.disk.hard_state().promise > Span(0);
        has_promised && taken.is.vote.is_some() && taken.is.vote != taken.was.vote
    }),
    step("a server that had promised leads a later term", is_rival, |taken| {
        leads(taken) && taken.before.disk.hard_state().promise > Span(0)
    }),
    step(
        "a restart finds a promise on the disk",
        |bounds| is_rival(bounds) && bounds.crashes >= 1,
        |taken| taken.is_crash() && taken.after.disk.hard_state().promise > Span(0),
    ),
    step(
        "a server refuses a candidate in its second life, because of a promise",
        |bounds| is_outvoted(bounds) && bounds.crashes >= 1,
        |taken| {
            let is_later = taken.is.incarnation > Incarnation(1) && taken.was.leader.is_none();
            is_later && refuses(taken, RpcKind::RequestVote, is_promised)
        },
    ),
];

/// Whether a leader asks for promises, and somebody else has to give them who may want to lead. (In
/// the last term time stands still.)
fn is_rival(bounds: &Bounds) -> bool {
    bounds.leases && bounds.heartbeats >= 1 && bounds.nodes >= 2 && bounds.terms >= 2
}

fn is_read(bounds: &Bounds) -> bool {
    is_rival(bounds) && bounds.reads >= 1
}

/// Whether one server may still be bound by a promise when another one is not, nor the leader.
fn is_outvoted(bounds: &Bounds) -> bool {
    is_rival(bounds) && bounds.nodes >= 3
}

fn is_promised(reason: &Refused) -> bool {
    matches!(reason, Refused::Promised { .. })
}
