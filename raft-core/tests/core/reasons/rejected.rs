//! Requests of clients and operators that are refused.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Body, Effect, Epoch, Index, LIMIT, Member, MemberStep, MembershipChange, MembershipError,
    NodeId, Outcome, Raft, RecoveredState, Rejection, RpcKind, Ticket, Time,
};

use super::{led, raft, step};
use crate::support::{Cluster, config, member, membership};

const TICKET: Ticket = Ticket(77);

/// A request, or what ends it later, and the reason that is given.
pub(super) struct Case {
    raft: Raft,
    now: Time,
    body: Body,
    pub(super) reason: Rejection,
    /// Nothing else comes of it, and the node is left as it was.
    is_all: bool,
}

impl Case {
    pub(super) fn check(self) {
        let Self { mut raft, now, body, reason, is_all } = self;
        let before = raft.clone();
        let effects = step(&mut raft, now, body.clone());
        let refused = Effect::Outcome { ticket: TICKET, outcome: Outcome::Refused(reason) };
        if is_all {
            assert_eq!(effects, [refused], "{body:?}");
            assert_eq!(raft, before, "{reason:?}");
            assert_eq!(raft.digest(), before.digest(), "{reason:?}");
        } else {
            assert!(effects.contains(&refused), "{body:?}: {effects:?}");
        }
    }
}

pub(super) fn cases() -> Vec<Case> {
    [of_commands(), of_changes(), of_operators()].into_iter().flatten().collect()
}

fn propose(command: &'static [u8]) -> Body {
    Body::Propose { ticket: TICKET, command: Bytes::from_static(command) }
}

fn change(change: MembershipChange) -> Body {
    Body::ProposeMembership { ticket: TICKET, change, expect: None }
}

fn steps(step: MemberStep) -> Body {
    change(MembershipChange::Steps(vec![step]))
}

fn at(cluster: &Cluster, id: u64, body: Body, reason: Rejection) -> Case {
    Case { raft: raft(cluster, id), now: cluster.now, body, reason, is_all: true }
}

fn of_commands() -> Vec<Case> {
    let cluster = led();
    let mut full = Cluster::with(&[1, 2, 3], &[], |config| config.requests_max = 1);
    full.elect(1);
    full.propose(1, 1, "x");
    let small = {
        let mut small = Cluster::with(&[1, 2, 3], &[], |config| config.command_bytes_max = 4);
        small.elect(1);
        small
    };
    let mut handing_over = led();
    handing_over.step(1, Body::TransferLeadership { ticket: Ticket(1), to: None });
    let mut halted = led();
    halted.step(1, Body::PersistFailed);
    let mut no_room = Cluster::new(&[1], &[]);
    no_room.elect(1);
    no_room.step(1, Body::DiskFull { is_full: true });
    vec![
        at(&cluster, 2, propose(b"x"), Rejection::NotLeader { hint: Some(member(1)) }),
        at(&full, 1, propose(b"y"), Rejection::Busy),
        at(&small, 1, propose(b"abcde"), Rejection::TooLarge),
        at(&handing_over, 1, propose(b"x"), Rejection::Transferring),
        at(&halted, 1, propose(b"x"), Rejection::Halted),
        at(&no_room, 1, propose(b"x"), Rejection::DiskFull),
    ]
}

fn of_changes() -> Vec<Case> {
    let cluster = led();
    let mut new = Cluster::new(&[1, 2, 3], &[]);
    new.step(1, Body::Campaign);
    new.deliver_if(|sent| sent.rpc.kind() != RpcKind::AppendEntries);
    let mut pending = led();
    let add = MembershipChange::Steps(vec![MemberStep::AddLearner(member(5))]);
    let ticket = Ticket(1);
    pending.step(1, Body::ProposeMembership { ticket, change: add, expect: None });
    let without_n4 = |lag: u64| {
        let mut cluster =
            Cluster::with(&[1, 2, 3], &[4], |config| config.promotion_lag_entries_max = lag);
        cluster.step(1, Body::Campaign);
        cluster.deliver_if(|sent| sent.to != member(4));
        cluster
    };
    let (silent, behind) = (without_n4(1), without_n4(0));
    let lags = Rejection::NotCaughtUp { member: member(4), matched: Index(0), needed: Index(1) };
    let mut lost = led();
    lost.step(1, Body::PeerUnreachable { peer: member(4) });
    let promote = || steps(MemberStep::Promote(NodeId(4)));
    let other = Some(Arc::new(membership(&[1, 2], &[])));
    let expecting = Body::ProposeMembership {
        ticket: TICKET,
        change: MembershipChange::Steps(vec![MemberStep::AddLearner(member(5))]),
        expect: other,
    };
    let twice = MemberStep::AddLearner(Member::new(2, 99));
    let repeated = Rejection::InvalidMembership(MembershipError::NotSortedOrRepeated);
    vec![
        at(&new, 1, steps(MemberStep::AddLearner(member(5))), Rejection::NoOwnCommit),
        at(&pending, 1, steps(MemberStep::AddLearner(member(6))), Rejection::MembershipPending),
        at(&behind, 1, promote(), lags),
        at(&silent, 1, promote(), Rejection::NotHeard { member: member(4) }),
        at(&lost, 1, promote(), Rejection::NotReplicating { member: member(4) }),
        at(&cluster, 1, expecting, Rejection::MembershipDiffers),
        at(&cluster, 1, steps(twice), repeated),
        at(&cluster, 1, steps(MemberStep::AddLearner(member(4))), Rejection::NoChange),
        at(&cluster, 1, change(MembershipChange::LeaveJoint), Rejection::NotJoint),
        at(&cluster, 1, steps(MemberStep::Remove(NodeId(9))), Rejection::UnknownMember),
    ]
}

/// What only an operator asks for.
fn of_operators() -> Vec<Case> {
    let mut cluster = led();
    let force = Body::ForceMembership { ticket: TICKET };
    let mut last = RecoveredState::genesis(membership(&[1, 2, 3], &[]));
    last.hard_state.epoch = Epoch(LIMIT - 1);
    let (last, _) = Raft::recover(config(1), last, Time(0)).expect("below the limit");
    let server = cluster.servers.get_mut(&2).expect("n2 is there");
    server.disk.damaged.insert(Index(1));
    cluster.crash(2);
    let mut handing_over = led();
    handing_over.step(1, Body::TransferLeadership { ticket: TICKET, to: None });
    let to = Some(NodeId(9));
    let transfer = Body::TransferLeadership { ticket: TICKET, to };
    vec![
        at(&cluster, 1, transfer, Rejection::UnknownMember),
        at(&cluster, 2, force.clone(), Rejection::Damaged { index: Index(1) }),
        Case { raft: last, now: Time(0), body: force, reason: Rejection::Exhausted, is_all: true },
        Case { is_all: false, ..at(&handing_over, 1, Body::StepDown, Rejection::TransferAborted) },
    ]
}
