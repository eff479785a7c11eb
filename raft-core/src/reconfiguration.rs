//! Cluster membership changes: §6, thesis §4.
//!
//! A membership is in force from the moment it is appended (thesis §4.1), whether it comes from an
//! operator here, from a leader's append or from a snapshot; [`crate::node`] sees to that. This
//! chapter decides when a leader may append one:
//!
//! - not before an entry of its own term is committed. Otherwise two leaders could each change the
//!   membership of a common past by one, and commit with disjoint quorums (Ongaro's correction of
//!   2015 to thesis §4.1);
//! - not before the previous change is complete;
//! - a learner becomes a voter only once it has caught up and answers (thesis §4.2.1), or its vote
//!   would count before it can help to commit anything;
//! - a joint membership is left by whoever leads once it is committed, as the log tells: an operator
//!   or leader that crashed in between is not needed.
//!
//! Changes of voters are always joint (thesis §4.3), of learners alone never.

use alloc::sync::Arc;

use crate::durable::HardState;
use crate::effect::{Observation, Rejection};
use crate::entry::{Entries, Payload};
use crate::membership::{ChangeError, Membership, MembershipChange};
use crate::message::Rpc;
use crate::node::{Node, PendingTicket};
use crate::progress::{Progress, ProgressState};
use crate::role::{Campaign, Leader, Transition};
use crate::types::{Incarnation, Index, Member, Ticket};

/// An operator asks the leader for another membership.
pub(crate) fn on_propose_membership(
    node: &mut Node,
    leader: &Leader,
    ticket: Ticket,
    change: &MembershipChange,
    expect: Option<&Membership>,
) {
    match next_membership(node, leader, change, expect) {
        Ok(membership) => {
            let index = append(node, membership);
            node.insert_ticket(PendingTicket { ticket, index, term: node.term() });
        }
        Err(rejection) => node.reject(ticket, rejection),
    }
}

/// Leaves a joint membership once it is committed in a term of this leader (§6). Never refused for
/// want of quota: until it is left, two quorums must agree. A lease that was given out before must
/// be over: it rests on promises of the outgoing voters, who are not needed afterwards. And a
/// successor that was asked to campaign must find its log as long as the others': it will leave.
pub(crate) fn leave_joint(node: &mut Node, leader: &Leader) {
    if !node.is_joint() {
        return; // Nearly always, and known without a look at the membership.
    }
    let membership = node.membership();
    let is_due = membership.auto_leave()
        && node.membership_index() <= node.commit()
        && leader.noop_index <= node.commit()
        && !leader.has_lent()
        && !leader.transfer.is_some_and(|transfer| transfer.is_sent);
    if is_due {
        let left = membership.left();
        append(node, left);
    }
}

/// A leader that the committed membership has no vote for hands over and follows (thesis §4.2.2).
/// Until then it leads without counting itself.
pub(crate) fn retire(node: &mut Node, leader: &mut Leader) -> Transition {
    let is_over = node.membership_index() <= node.commit() && !node.is_voter();
    if !is_over {
        return Transition::Stay;
    }
    assert!(!leader.has_lent(), "a membership is not left while a lease rests on its voters");
    // Two successors would split the votes: one that was asked already is asked once more.
    let asked = leader.transfer.filter(|transfer| transfer.is_sent).map(|transfer| transfer.to);
    let successor = asked.or_else(|| leader.best_voter(node.membership()));
    if let Some(successor) = successor {
        leader.has_handed_over = true;
        node.send(successor, Rpc::TimeoutNow);
    }
    node.observe(Observation::Retired { successor });
    Transition::Follow(None)
}

/// An operator declares the quorum lost and this node the only voter of a new epoch.
#[inline(never)]
pub(crate) fn on_force_membership(node: &mut Node, ticket: Ticket) -> Transition {
    let me = node.member();
    let HardState { epoch, term, .. } = node.hard_state();
    let membership = Arc::clone(node.membership());
    let rejection = if !membership.is_member(me) {
        Some(Rejection::UnknownMember)
    } else if node.is_damaged() {
        // Nobody could help the only member of the new epoch.
        Some(Rejection::Damaged { index: node.damaged_at() })
    } else if !membership.is_joint() && membership.incoming() == [me] && node.doubt.is_none() {
        Some(Rejection::NoChange)
    } else if !(epoch.next().is_valid() && term.next().is_valid()) {
        Some(Rejection::Exhausted)
    } else {
        None
    };
    if let Some(rejection) = rejection {
        node.reject(ticket, rejection);
        return Transition::Stay;
    }
    Transition::Force(ticket)
}

/// Enters the next epoch and the next term, and appends the membership of this node alone.
///
/// The entry has the term in which the node will lead. That is safe although no vote is durable
/// yet: in the new epoch nobody else can lead any term, and the vote is durable no later than the entry.
pub(crate) fn force(node: &mut Node, ticket: Ticket) -> Campaign {
    let HardState { epoch, term, .. } = node.hard_state();
    // A snapshot that is still being staged would bring the old membership back.
    node.incoming = None;
    if node.doubt.is_some() {
        node.end_doubt(); // What it may have acknowledged and lost is given up as well.
    }
    node.enter_epoch(epoch.next());
    node.enter_term(term.next());
    node.vote_for(node.member());
    let voters = alloc::vec![node.member()];
    let alone = Membership::new(voters, alloc::vec![]).expect("one voter makes a membership");
    let index = append(node, alone);
    node.insert_ticket(PendingTicket { ticket, index, term: node.term() });
    Campaign { votes: alloc::vec![], awaits_own_vote: true, election: node.contest_timer() }
}

fn next_membership(
    node: &Node,
    leader: &Leader,
    change: &MembershipChange,
    expect: Option<&Membership>,
) -> Result<Membership, Rejection> {
    let membership = node.membership();
    if leader.transfer.is_some() {
        return Err(leader.refusal(node.is_disk_full));
    }
    if leader.is_damaged {
        return Err(Rejection::Damaged { index: node.damaged_at() });
    }
    if expect.is_some_and(|expected| *expected != **membership) {
        return Err(Rejection::MembershipDiffers);
    }
    if node.membership_index() > node.commit() {
        return Err(Rejection::MembershipPending);
    }
    if node.commit() < leader.noop_index {
        return Err(Rejection::NoOwnCommit);
    }
    if *change == MembershipChange::LeaveJoint && leader.has_lent() {
        return Err(Rejection::MembershipPending);
    }
    if node.tickets.len() + leader.proposals.len() >= node.config.requests_max {
        return Err(Rejection::Busy);
    }
    if node.is_disk_full {
        return Err(Rejection::DiskFull);
    }
    let next = membership.changed(change).map_err(|error| match error {
        ChangeError::Joint => Rejection::MembershipPending,
        ChangeError::NotJoint => Rejection::NotJoint,
        ChangeError::UnknownMember => Rejection::UnknownMember,
        ChangeError::NoChange => Rejection::NoChange,
        ChangeError::Invalid(error) => Rejection::InvalidMembership(error),
    })?;
    let promoted = next.incoming().iter().filter(|voter| !membership.is_voter(**voter));
    for voter in promoted {
        check_caught_up(node, leader, *voter)?;
    }
    Ok(next)
}

/// Checks that a learner would be of use as a voter at once; the error names the first thing it lacks.
fn check_caught_up(node: &Node, leader: &Leader, member: Member) -> Result<(), Rejection> {
    let lag_max = node.config.promotion_lag_entries_max;
    let needed = Index(node.commit().0.saturating_sub(lag_max));
    let peer = leader.peer_ref(member);
    let matched = peer.map_or(Index::ZERO, |peer| peer.match_index);
    if matched < needed {
        return Err(Rejection::NotCaughtUp { member, matched, needed });
    }
    // A peer counts as active from the start, so that a new leader keeps its quorum. That it has never
    // answered shows in its incarnation, which is not known yet.
    let has_answered = |peer: &&Progress| peer.incarnation > Incarnation::ZERO && peer.is_heard();
    let Some(peer) = peer.filter(has_answered) else {
        return Err(Rejection::NotHeard { member });
    };
    if matches!(peer.state, ProgressState::Replicate { .. }) {
        Ok(())
    } else {
        Err(Rejection::NotReplicating { member })
    }
}

fn append(node: &mut Node, membership: Membership) -> Index {
    let payload = Payload::Membership(Arc::new(membership));
    let entries = Entries::just(node.log().last(), node.term(), payload);
    node.append(entries);
    node.membership_index()
}
