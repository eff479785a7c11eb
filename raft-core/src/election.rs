//! Leader election: §5.2, §5.4.1; pre-vote, thesis §9.6; check-quorum, thesis §6.2; sticky
//! leaders, thesis §4.2.3; promises to a leader that reads by lease, thesis §6.4.1.
//!
//! Deliberately absent: how messages wait for the vote to be durable (the gate sees to it), and
//! the candidate's own vote at the moment it is staged: it counts once it is durable, so that even
//! a sole voter leads only then.

use alloc::vec::Vec;

use crate::durable::HardState;
use crate::effect::Refused;
use crate::message::{Rpc, RpcKind};
use crate::node::Node;
use crate::quorum::{VoteResult, is_quorum, vote_result};
use crate::role::{Campaign, Cause, Follower, Leader, Role, Transition};
use crate::timers::Timer;
use crate::types::{EntryId, Member, Span};

/// A follower of `leader`, whose contact counts as fresh if there is one.
pub(crate) fn follower(node: &Node, leader: Option<Member>) -> Follower {
    let contact = match leader {
        Some(_) => Timer::armed(node.config.election_timeout()),
        None => Timer::default(),
    };
    let is_contested = leader.is_none() && node.hard_state().vote.is_some();
    let election = if is_contested { node.contest_timer() } else { node.election_timer() };
    let (reads, patience, unanswered) = (Vec::new(), Timer::default(), 0);
    Follower { leader, election, contact, reads, patience, unanswered }
}

/// The leader of the term has spoken: no election while it does (§5.2).
pub(crate) fn on_leader_contact(node: &Node, follower: &mut Follower) {
    follower.election = node.election_timer();
    follower.contact = Timer::armed(node.config.election_timeout());
}

/// A follower that has become a voter has an election timer at once, though its leader may never
/// speak again; one that votes no more has none.
pub(crate) fn reconcile_timer(node: &Node, follower: &mut Follower) {
    if node.is_electable() != follower.election.left().is_some() {
        follower.election = node.election_timer();
    }
}

/// Whether this node may campaign, by an operator's wish or its leader's.
///
/// Nobody may once the terms are exhausted: no leader is better than a term that is led twice.
pub(crate) fn may_campaign(node: &Node) -> Result<(), Refused> {
    if !node.is_electable() {
        return Err(Refused::NotAVoter);
    }
    if node.is_disk_full {
        return Err(Refused::DiskFull); // It could not append the first entry of its term.
    }
    if node.term().next().is_valid() { Ok(()) } else { Err(Refused::OutOfBounds) }
}

/// Whether this node may campaign of its own accord: a promise to elect nobody includes itself.
pub(crate) fn may_stand(node: &Node) -> Result<(), Refused> {
    may_campaign(node)?;
    node.promised().map_or(Ok(()), |left| Err(Refused::Promised { left }))
}

/// The election timer has fired (§5.2), or an operator wants an election.
pub(crate) fn on_election_timeout(node: &mut Node, role: &mut Role) -> Transition {
    if may_stand(node).is_ok() {
        return if node.config.pre_vote {
            Transition::PreCampaign
        } else {
            Transition::Campaign(Cause::Timeout)
        };
    }
    // This node cannot stand now, so its timer starts again. If only a promise forbids it, it fires no
    // earlier than the promise ends.
    let mut timer = node.election_timer();
    if let Some(left) = node.promised() {
        timer.extend(left);
    }
    match role {
        Role::Follower(follower) => follower.election = timer,
        Role::PreCandidate(campaign) | Role::Candidate(campaign) => campaign.election = timer,
        Role::Leader(_) | Role::Halted => {}
    }
    Transition::Stay
}

/// Asks all voters whether they would vote for this node in the next term (thesis §9.6).
pub(crate) fn pre_campaign(node: &mut Node) -> (Campaign, Transition) {
    node.begin_attempt();
    let me = node.member();
    let (votes, election) = (alloc::vec![(me, true)], node.contest_timer());
    let campaign = Campaign { votes, awaits_own_vote: false, election };
    let (last, attempt) = (node.log().last(), node.attempt());
    ask_voters(node, &Rpc::RequestPreVote { last, attempt });
    let transition = decide(node, &campaign, Transition::Campaign(Cause::Timeout));
    (campaign, transition)
}

/// Enters the next term and asks all voters for their votes (§5.2).
///
/// The requests wait in the gate until the own vote is durable, and with it, since the stream is
/// ordered, the log suffix that they advertise.
pub(crate) fn campaign(node: &mut Node, cause: Cause) -> Campaign {
    let next = node.term().next();
    node.enter_term_to_campaign(next);
    node.vote_for(node.member());
    let last = node.log().last();
    let is_forced = cause == Cause::TimeoutNow;
    ask_voters(node, &Rpc::RequestVote { last, is_forced });
    Campaign { votes: Vec::new(), awaits_own_vote: true, election: node.contest_timer() }
}

/// Something became durable: the candidate's own vote may count now.
pub(crate) fn on_durable(node: &Node, campaign: &mut Campaign) -> Transition {
    if !campaign.awaits_own_vote || !node.gate.is_hard_state_durable() {
        return Transition::Stay;
    }
    campaign.awaits_own_vote = false;
    record(campaign, node.member(), true);
    decide(node, campaign, Transition::Lead)
}

/// Whether a candidate of a later term is ignored, term and all: because this node has promised
/// to (thesis §6.4.1), or because a leader is alive (thesis §4.2.3): neither a removed nor a
/// returning node disrupts a working group.
pub(crate) fn stickiness(node: &Node, role: &Role) -> Option<Refused> {
    if let Some(left) = node.promised() {
        return Some(Refused::Promised { left });
    }
    if node.config.check_quorum { leader_alive(role) } else { None }
}

/// Answers a pre-vote. It changes nothing here; a refusal carries this node's term, which the
/// asker adopts if it is higher (otherwise long logs and high terms could block each other).
pub(crate) fn on_request_pre_vote(
    node: &mut Node,
    role: &Role,
    from: Member,
    last: EntryId,
    attempt: u64,
) {
    let refused = match role {
        Role::Leader(leader) => {
            Some(Refused::StickyLeader { left: leader.quorum.left().unwrap_or_default() })
        }
        Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) | Role::Halted => {
            // With or without check-quorum: a server that hears its leader wants no other.
            let in_doubt = node.doubt.map(|_| Refused::TailUnknown);
            let promised = || node.promised().map(|left| Refused::Promised { left });
            let refused = in_doubt.or_else(promised).or_else(|| leader_alive(role));
            refused.or_else(|| log_behind(node, last))
        }
    };
    if let Some(reason) = refused {
        node.refuse_peer(from, RpcKind::RequestPreVote, reason);
    }
    node.send(from, Rpc::RequestPreVoteResponse { attempt, granted: refused.is_none() });
}

/// Answers a candidate of this term (§5.2, §5.4.1): at most one vote in a term, first come first
/// served, and only for a log that is at least as up to date.
///
/// A node that knows the leader of the term does not vote in it any more: the vote could decide
/// nothing, but would put off the node's own election. A promise is kept in every term; only the
/// election that the leader itself asked for, in the very next term, passes it (`is_released`).
pub(crate) fn on_request_vote(
    node: &mut Node,
    leader: Option<Member>,
    from: Member,
    last: EntryId,
    is_released: bool,
) -> Transition {
    let HardState { vote, .. } = node.hard_state();
    let promised = node.promised().filter(|_| !is_released);
    let refused = match (vote, leader, promised) {
        (Some(candidate), _, _) if candidate == from => None,
        _ if node.doubt.is_some() => Some(Refused::TailUnknown),
        (Some(candidate), _, _) => Some(Refused::AlreadyVoted { candidate }),
        (None, Some(leader), _) => Some(Refused::LeaderKnown { leader }),
        (None, None, Some(left)) => Some(Refused::Promised { left }),
        (None, None, None) => log_behind(node, last),
    };
    if let Some(reason) = refused {
        node.refuse_peer(from, RpcKind::RequestVote, reason);
        node.send(from, Rpc::RequestVoteResponse { granted: false });
        return Transition::Stay;
    }
    if vote.is_none() {
        node.vote_for(from);
    }
    node.send(from, Rpc::RequestVoteResponse { granted: true });
    // Granting counts as hearing from a candidate that may win: the own election waits (§5.2).
    if vote.is_none() { Transition::Follow(None) } else { Transition::Stay }
}

/// Refuses a candidate without taking part in its election.
pub(crate) fn refuse_candidate(node: &mut Node, from: Member, request: &Rpc, reason: Refused) {
    node.refuse_peer(from, request.kind(), reason);
    let granted = false;
    if let Rpc::RequestPreVote { attempt, .. } = *request {
        node.send(from, Rpc::RequestPreVoteResponse { attempt, granted });
    } else {
        node.send(from, Rpc::RequestVoteResponse { granted });
    }
}

/// Counts an answer of this term; a second one from the same voter changes nothing.
pub(crate) fn on_vote(
    node: &mut Node,
    campaign: &mut Campaign,
    from: Member,
    kind: RpcKind,
    granted: bool,
) -> Transition {
    if !node.membership().is_voter(from) {
        node.refuse_peer(from, kind, Refused::Unasked);
        return Transition::Stay;
    }
    let is_pre_vote = kind == RpcKind::RequestPreVoteResponse;
    let win = if is_pre_vote { Transition::Campaign(Cause::Timeout) } else { Transition::Lead };
    record(campaign, from, granted);
    decide(node, campaign, win)
}

/// An election timeout has passed since the last check: a leader that a quorum has not answered
/// since then steps down (thesis §6.2). A removed peer that is silent is not waited for.
pub(crate) fn on_quorum_timeout(node: &Node, leader: &mut Leader) -> Transition {
    leader.quorum = Timer::armed(node.config.election_timeout());
    let me = node.member();
    let is_active =
        |member| member == me || leader.peer_ref(member).is_some_and(|peer| peer.is_active);
    if node.config.check_quorum && !is_quorum(node.membership(), is_active) {
        return Transition::Follow(None);
    }
    leader.peers.retain(|peer| peer.removed_by.is_none() || peer.is_active);
    for peer in &mut leader.peers {
        peer.was_active = core::mem::take(&mut peer.is_active);
    }
    Transition::Stay
}

/// Whether a leader has been heard within an election timeout, as far as the role knows.
fn leader_alive(role: &Role) -> Option<Refused> {
    let left = match role {
        Role::Follower(follower) => follower.contact.left()?,
        Role::Leader(leader) => leader.quorum.left()?,
        Role::PreCandidate(_) | Role::Candidate(_) | Role::Halted => return None,
    };
    (left > Span(0)).then_some(Refused::StickyLeader { left })
}

/// §5.4.1: the later last term wins; with equal terms, the longer log.
fn log_behind(node: &Node, theirs: EntryId) -> Option<Refused> {
    let mine = node.log().last();
    let is_up_to_date = (theirs.term, theirs.index) >= (mine.term, mine.index);
    (!is_up_to_date).then_some(Refused::LogBehind { mine, theirs })
}

fn ask_voters(node: &mut Node, rpc: &Rpc) {
    let me = node.member();
    let membership = node.membership().clone();
    for member in membership.members() {
        if member != me && membership.is_voter(member) {
            node.send(member, rpc.clone());
        }
    }
}

fn record(campaign: &mut Campaign, voter: Member, granted: bool) {
    if let Err(position) = campaign.votes.binary_search_by_key(&voter, |(member, _)| *member) {
        campaign.votes.insert(position, (voter, granted));
    }
}

fn decide(node: &Node, campaign: &Campaign, win: Transition) -> Transition {
    let vote = |member| {
        let found = campaign.votes.binary_search_by_key(&member, |(voter, _)| *voter);
        found.ok().map(|position| campaign.votes[position].1)
    };
    match vote_result(node.membership(), vote) {
        VoteResult::Won => win,
        VoteResult::Lost => Transition::Follow(None),
        VoteResult::Pending => Transition::Stay,
    }
}
