//! The roles (§5.1), each with the state that only it has.
//!
//! Holding `&mut Leader` is the proof of leadership: what only a leader may do takes one. Only
//! `raft.rs` changes the role; a rule returns the [`Transition`] it wants.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::effect::{HaltReason, Rejection, RoleName};
use crate::membership::Membership;
use crate::progress::Progress;
use crate::timers::Timer;
use crate::types::{Index, Member, ReadId, Round, Session, Span, Ticket};

/// What a node is in its term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)] // Every step reads the tag several times; one of its own is quicker to find.
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Box<Leader>),
    Halted,
}

/// Passive: answers candidates and leaders.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Follower {
    /// The leader of the term, once it has spoken.
    pub(crate) leader: Option<Member>,
    /// Fires an election.
    pub(crate) election: Timer,
    /// Until it is over the leader counts as alive, and candidates are ignored.
    pub(crate) contact: Timer,
    /// Reads that wait for the leader's answer, by question.
    pub(crate) reads: Vec<ForwardedRead>,
    /// Until it is over, the leader is not asked again.
    pub(crate) patience: Timer,
    /// How many heartbeats of the leader have come since it answered last, or since no question was open.
    pub(crate) unanswered: u64,
}

/// A read for which the leader is asked (thesis §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ForwardedRead {
    pub(crate) ticket: Ticket,
    /// The first question that was asked after the read came in.
    pub(crate) question: u64,
}

/// An election, or the question whether one could be won.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Campaign {
    /// The answers so far, one per voter, sorted by member.
    pub(crate) votes: Vec<(Member, bool)>,
    /// The candidate's own vote counts once it is durable.
    pub(crate) awaits_own_vote: bool,
    /// Starts the next attempt.
    pub(crate) election: Timer,
}

/// Leads its term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(C)] // For cache locality alone: the fields that every heartbeat reads are adjacent.
pub(crate) struct Leader {
    /// The index of its no-op: from here on entries are of its own term.
    pub(crate) noop_index: Index,
    /// The last session given to a peer in this term.
    pub(crate) session: Session,
    /// The membership entry up to which `peers` follows the membership in force.
    pub(crate) peers_as_of: Index,
    /// Payload bytes of its uncommitted entries.
    pub(crate) uncommitted_bytes: usize,
    /// The peer that was asked last to take over because this leader's disk is full.
    pub(crate) relieved: Option<Member>,
    /// All other members, and removed ones that have still to be told; sorted by member.
    pub(crate) peers: Vec<Progress>,
    /// Accepted since the step began; appended at its end.
    pub(crate) proposals: Vec<(Ticket, Bytes)>,
    /// Reads that belong to no round yet.
    pub(crate) reads: Vec<Ticket>,
    /// Questions of peers that belong to no round yet, at most one of each.
    pub(crate) questions: Vec<Question>,
    /// Rounds that are not confirmed yet, oldest first.
    pub(crate) rounds: Vec<ReadRound>,
    /// Rounds of heartbeats that asked for a lease which is not over, oldest first.
    pub(crate) leases: Vec<LeaseRound>,
    /// Fires heartbeats.
    pub(crate) heartbeat: Timer,
    /// Fires the check of the quorum.
    pub(crate) quorum: Timer,
    /// The last read round that was opened.
    pub(crate) round: Round,
    /// Its log is damaged: it appends nothing and serves nothing until the log is whole.
    pub(crate) is_damaged: bool,
    /// It has sent a TimeoutNow in this term, which may arrive at any later time.
    pub(crate) has_handed_over: bool,
    /// Until it is over, a host may answer reads by a lease that this leader gave out.
    pub(crate) lent: Timer,
    /// A successor is about to lead.
    pub(crate) transfer: Option<Transfer>,
}

/// A round of heartbeats that asked for a lease (thesis §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LeaseRound {
    pub(crate) round: Round,
    /// What is left of the lease since the round was sent; never zero.
    pub(crate) left: Span,
}

/// Reads that one round of acknowledgements confirms together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReadRound {
    pub(crate) round: Round,
    /// The commit index when the round was opened.
    pub(crate) index: Index,
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) questions: Vec<Question>,
}

/// A peer wants to know the read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) from: Member,
    pub(crate) id: ReadId,
}

/// A leadership that is to be handed over (thesis §3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    /// Of the request; `None`: the leader hands over of its own accord.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) to: Member,
    /// Ends the attempt.
    pub(crate) timeout: Timer,
    /// The successor was asked to campaign.
    pub(crate) is_sent: bool,
}

/// Why a node campaigns: what its requests for votes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No leader was heard for an election timeout, or an operator asked.
    Timeout,
    /// The leader asked for it (thesis §3.10).
    TimeoutNow,
}

/// The role that a rule wants; `raft.rs` carries it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Transition {
    Stay,
    /// Follow in the present term, with this leader if it is known.
    Follow(Option<Member>),
    /// Ask whether an election could be won.
    PreCampaign,
    /// Raise the term and ask for votes.
    Campaign(Cause),
    /// Become the only voter of a new cluster epoch, for an operator's ticket.
    Force(Ticket),
    Lead,
    Halt(HaltReason),
}

impl Role {
    pub(crate) fn name(&self) -> RoleName {
        match self {
            Self::Follower(_) => RoleName::Follower,
            Self::PreCandidate(_) => RoleName::PreCandidate,
            Self::Candidate(_) => RoleName::Candidate,
            Self::Leader(_) => RoleName::Leader,
            Self::Halted => RoleName::Halted,
        }
    }

    /// The leader of the term as far as this node knows; `me` if it leads.
    pub(crate) fn leader(&self, me: Member) -> Option<Member> {
        match self {
            Self::Follower(follower) => follower.leader,
            Self::Leader(_) => Some(me),
            Self::PreCandidate(_) | Self::Candidate(_) | Self::Halted => None,
        }
    }

    /// Lets time pass for every timer that a `Tick` may fire or that bounds a promise.
    pub(crate) fn pass(&mut self, elapsed: Span) {
        match self {
            Self::Follower(Follower { election, contact, patience, .. }) => {
                election.pass(elapsed);
                contact.pass(elapsed);
                patience.pass(elapsed);
            }
            Self::PreCandidate(campaign) | Self::Candidate(campaign) => {
                campaign.election.pass(elapsed);
            }
            Self::Leader(leader) => leader.pass(elapsed),
            Self::Halted => {}
        }
    }
}

impl Leader {
    fn pass(&mut self, elapsed: Span) {
        self.heartbeat.pass(elapsed);
        self.quorum.pass(elapsed);
        self.lent.pass(elapsed);
        if let Some(transfer) = &mut self.transfer {
            transfer.timeout.pass(elapsed);
        }
        for asked in &mut self.leases {
            asked.left = asked.left.less(elapsed);
        }
        self.leases.retain(|asked| asked.left > Span(0));
    }

    /// Where a peer stands among the others.
    pub(crate) fn position(&self, member: Member) -> Option<usize> {
        // Nearly all groups are small, and every answer needs this: a linear search costs less.
        const FEW: usize = 8;
        if self.peers.len() <= FEW {
            self.peers.iter().position(|peer| peer.member == member)
        } else {
            self.peers.binary_search_by_key(&member, |peer| peer.member).ok()
        }
    }

    /// The progress of a peer.
    pub(crate) fn peer(&mut self, member: Member) -> Option<&mut Progress> {
        let position = self.position(member)?;
        self.peers.get_mut(position)
    }

    /// The progress of a peer, to look at.
    pub(crate) fn peer_ref(&self, member: Member) -> Option<&Progress> {
        self.peers.get(self.position(member)?)
    }

    /// Why nothing is appended while this leader hands over: `DiskFull` rather than `Transferring` if it
    /// does so because its disk is full and somebody has failed to take over, so that the client sees the
    /// cause.
    pub(crate) fn refusal(&self, is_disk_full: bool) -> Rejection {
        if is_disk_full && self.relieved.is_some() {
            Rejection::DiskFull
        } else {
            Rejection::Transferring
        }
    }

    /// The voter among the peers that lacks least of the log, of those that were heard of late if there are
    /// any; the smallest member among equals.
    pub(crate) fn best_voter(&self, membership: &Membership) -> Option<Member> {
        let best =
            self.able(membership).rev().max_by_key(|peer| (peer.is_heard(), peer.match_index));
        best.map(|peer| peer.member)
    }

    /// The next voter after this one that was heard of late, in turn; the best one at first.
    pub(crate) fn voter_after(
        &self,
        membership: &Membership,
        after: Option<Member>,
    ) -> Option<Member> {
        let heard = || self.able(membership).filter(|peer| peer.is_heard());
        let next = after.and_then(|after| {
            let members = || heard().map(|peer| peer.member);
            members().find(|member| *member > after).or_else(|| members().next())
        });
        next.or_else(|| self.best_voter(membership))
    }

    /// Voters that can take over, by member.
    fn able(&self, membership: &Membership) -> impl DoubleEndedIterator<Item = &Progress> {
        let votes = |peer: &&Progress| membership.incoming().contains(&peer.member);
        self.peers.iter().filter(move |peer| votes(peer) && peer.is_able())
    }

    /// Begins a stream of appends to everyone else in a membership, of whom nothing is known.
    pub(crate) fn begin_streams(&mut self, me: Member, membership: &Membership, last: Index) {
        let members = membership.members();
        self.peers.clear();
        self.peers.reserve_exact(members.len().saturating_sub(1));
        for member in members {
            if member != me {
                let session = self.next_session();
                self.peers.push(Progress::new(member, session, last));
            }
        }
    }

    /// Whether the host may still answer a read by a lease that this leader gave out.
    pub(crate) fn has_lent(&self) -> bool {
        self.lent.left().is_some_and(|left| left > Span(0))
    }

    /// A session that no earlier stream of this term had.
    pub(crate) fn next_session(&mut self) -> Session {
        self.session = self.session.next();
        self.session
    }
}
