//! Leader election: §5.2, §5.4.1; pre-vote, thesis §9.6; check-quorum, thesis §6.2; sticky
//! leaders, thesis §4.2.3.
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
use crate::role::{Campaign, Follower, Leader, Role, Transition};
use crate::timers::Timer;
use crate::types::{EntryId, Member, Span};

/// A follower of `leader`, whose contact counts as fresh if there is one.
pub(crate) fn follower(node: &Node, leader: Option<Member>) -> Follower {
    let contact = match leader {
        Some(_) => Timer::armed(node.config.election_timeout()),
        None => Timer::default(),
    };
    Follower { leader, election: node.election_timer(), contact }
}

/// The leader of the term has spoken: no election while it does (§5.2).
pub(crate) fn on_leader_contact(node: &Node, follower: &mut Follower) {
    follower.election = node.election_timer();
    follower.contact = Timer::armed(node.config.election_timeout());
}

/// The election timer has fired (§5.2), or an operator wants an election.
pub(crate) fn on_election_timeout(node: &mut Node, role: &mut Role) -> Transition {
    // At the end of all terms nobody can campaign: better no leader than a term led twice.
    if node.is_voter() && node.term().next().is_valid() {
        return if node.config.pre_vote { Transition::PreCampaign } else { Transition::Campaign };
    }
    // A learner, or a node outside of its group, waits to be added.
    let timer = node.election_timer();
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
    let campaign = Campaign {
        votes: alloc::vec![(me, true)],
        own_vote: None,
        election: node.election_timer(),
    };
    let last = node.log().last();
    ask_voters(node, &Rpc::RequestPreVote { last });
    let transition = decide(node, &campaign, Transition::Campaign);
    (campaign, transition)
}

/// Enters the next term and asks all voters for their votes (§5.2).
///
/// The requests wait in the gate until the own vote is durable, and with it, since the stream is
/// ordered, the log suffix that they advertise.
pub(crate) fn campaign(node: &mut Node) -> Campaign {
    let next = node.term().next();
    node.enter_term(next);
    node.begin_attempt();
    node.vote_for(node.member());
    let own_vote = Some(node.gate.staged_seq());
    let last = node.log().last();
    ask_voters(node, &Rpc::RequestVote { last });
    Campaign { votes: Vec::new(), own_vote, election: node.election_timer() }
}

/// Something became durable: the candidate's own vote may count now.
pub(crate) fn on_durable(node: &Node, campaign: &mut Campaign) -> Transition {
    if !campaign.own_vote.is_some_and(|seq| node.gate.is_durable(seq)) {
        return Transition::Stay;
    }
    campaign.own_vote = None;
    record(campaign, node.member(), true);
    decide(node, campaign, Transition::Lead)
}

/// Whether a candidate of a later term is ignored, term and all, because a leader is alive
/// (thesis §4.2.3): neither a removed nor a returning node disrupts a working group.
pub(crate) fn stickiness(node: &Node, role: &Role) -> Option<Refused> {
    if !node.config.check_quorum {
        return None;
    }
    let left = match role {
        Role::Follower(follower) => follower.contact.left()?,
        Role::Leader(leader) => leader.quorum.left()?,
        Role::PreCandidate(_) | Role::Candidate(_) | Role::Halted => return None,
    };
    (left > Span(0)).then_some(Refused::StickyLeader { left })
}

/// Answers a pre-vote. It changes nothing here; a refusal carries this node's term, which the
/// asker adopts if it is higher (otherwise long logs and high terms could block each other).
pub(crate) fn on_request_pre_vote(node: &mut Node, role: &Role, from: Member, last: EntryId) {
    let refused = match role {
        Role::Leader(leader) => {
            Some(Refused::StickyLeader { left: leader.quorum.left().unwrap_or_default() })
        }
        Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) | Role::Halted => {
            stickiness(node, role).or_else(|| log_behind(node, last))
        }
    };
    if let Some(reason) = refused {
        node.refuse_peer(from, RpcKind::RequestPreVote, reason);
    }
    node.send(from, Rpc::RequestPreVoteResponse { granted: refused.is_none() });
}

/// Answers a candidate of this term (§5.2, §5.4.1): at most one vote in a term, first come first
/// served, and only for a log that is at least as up to date.
///
/// A node that knows the leader of the term does not vote in it any more: the vote could decide
/// nothing, but would put off the node's own election.
pub(crate) fn on_request_vote(
    node: &mut Node,
    leader: Option<Member>,
    from: Member,
    last: EntryId,
) -> Transition {
    let HardState { vote, .. } = node.hard_state();
    let refused = match (vote, leader) {
        (Some(candidate), _) if candidate == from => None,
        (Some(candidate), _) => Some(Refused::AlreadyVoted { candidate }),
        (None, Some(leader)) => Some(Refused::LeaderKnown { leader }),
        (None, None) => log_behind(node, last),
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
pub(crate) fn refuse_candidate(node: &mut Node, from: Member, kind: RpcKind, reason: Refused) {
    node.refuse_peer(from, kind, reason);
    let granted = false;
    if kind == RpcKind::RequestPreVote {
        node.send(from, Rpc::RequestPreVoteResponse { granted });
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
    let win = if is_pre_vote { Transition::Campaign } else { Transition::Lead };
    record(campaign, from, granted);
    decide(node, campaign, win)
}

/// An election timeout has passed since the last check: a leader that a quorum has not answered
/// since then steps down (thesis §6.2).
pub(crate) fn on_quorum_timeout(node: &Node, leader: &mut Leader) -> Transition {
    leader.quorum = Timer::armed(node.config.election_timeout());
    if !node.config.check_quorum {
        return Transition::Stay;
    }
    let me = node.member();
    let is_active =
        |member| member == me || leader.peer_ref(member).is_some_and(|peer| peer.is_active);
    if !is_quorum(node.membership(), is_active) {
        return Transition::Follow(None);
    }
    for peer in &mut leader.peers {
        peer.is_active = false;
    }
    Transition::Stay
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
