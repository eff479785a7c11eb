//! What an exploration may do: how large the cluster is, how often each thing may happen.

use raft_core::{
    ClusterId, Config, GroupId, Member, MemberStep, Membership, MembershipChange, NodeId, RoleName,
    Status, Term,
};

use super::clock;
use super::host::Input;
use super::spent::Spent;

pub(crate) const CLUSTER: ClusterId = ClusterId(1);
pub(crate) const GROUP: GroupId = GroupId(1);

/// The most servers.
pub(crate) const SERVERS_MAX: usize = 6;

/// More heartbeats than anybody counts: a leader's timers come back to where they were after a few, so
/// the states are finite without a bound. Not with leases, for each heartbeat asks for a new one.
pub const ANY_NUMBER: u8 = u8::MAX;

/// How often a leader takes a forwarded question for a new one in one term: once, and once more when it
/// comes again.
pub(crate) const QUESTIONS_MAX: u8 = 2;

/// The bounds of an exploration. Everything that they allow happens, in every order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Voters that found the cluster, from 1 to 5.
    pub nodes: u8,
    /// Learners that found it too, numbered after the voters; the first one takes the place of the
    /// last voter when the membership changes.
    pub learners: u8,
    /// No node goes beyond this term.
    pub terms: u8,
    /// Commands that clients propose.
    pub entries: u8,
    /// Crashes of single nodes, each with every possible loss of what was not durable.
    pub crashes: u8,
    /// Crashes, among those, after which one entry of the log, or the snapshot, is damaged although it
    /// was durable.
    pub damages: u8,
    /// Whether entries are damaged while servers run, too, among those damages, and found at once.
    pub rot: bool,
    /// Crashes, among those, after which the end of the log is gone although it was durable.
    pub lost_tails: u8,
    /// Whether disks may lose more than the group can bear. It may stand still then, and keeps its
    /// promises all the same.
    pub beyond: bool,
    /// Linearizable reads (ReadIndex) that clients ask for.
    pub reads: u8,
    /// Whether followers and learners are asked for reads too, which they forward to their leader. It
    /// forgets a question when it has answered it, and in a network that forgets nothing the question
    /// comes again and again: a leader takes two of them for new in one term.
    pub forward: bool,
    /// Leadership transfers that an operator asks for.
    pub transfers: u8,
    /// Joint membership changes that an operator asks for, the same one each time.
    pub changes: u8,
    /// Snapshots that hosts take.
    pub snapshots: u8,
    /// Whether nodes ask before they campaign (thesis §9.6).
    pub pre_vote: bool,
    /// Whether leaders step down without a quorum, and followers stick to a leader they hear.
    pub check_quorum: bool,
    /// Whether leaders answer reads by lease, and clocks go on: every time by as much as a clock can,
    /// the fast ones further than the slow ones (`clock.rs`).
    pub leases: bool,
    /// How often a node may campaign within one term; only pre-votes make more than one possible.
    pub attempts: u8,
    /// How often timers begin a campaign, of any server in any term; `None`: whenever they may. Who
    /// is handed the leadership campaigns all the same.
    pub campaigns: Option<u8>,
    /// How often the timers of a leader fire in one term. What it sends again is never lost anyway,
    /// so this is about what else they do: heartbeats, rounds, the check of the quorum. [`ANY_NUMBER`]:
    /// as often as they like.
    pub heartbeats: u8,
    /// Whether states that differ only in the names of servers count as one.
    pub symmetry: bool,
    /// Whether messages are forgotten that nothing can react to any more.
    pub collect: bool,
    /// Whether a state is left out if another one has the same servers, the same past and more
    /// messages.
    pub subsume: bool,
    /// Whether servers that do not lead make terms and votes durable at once when no crash is to come.
    pub hurry: bool,
    /// Whether candidates hear votes in one go, up to one that decides something. It pays where there
    /// are many candidates of many voters.
    pub gather: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            nodes: 3,
            learners: 0,
            terms: 2,
            entries: 1,
            crashes: 1,
            damages: 0,
            rot: false,
            lost_tails: 0,
            beyond: false,
            reads: 0,
            forward: false,
            transfers: 0,
            changes: 0,
            snapshots: 0,
            pre_vote: false,
            check_quorum: false,
            leases: false,
            attempts: 2,
            campaigns: None,
            heartbeats: 0,
            symmetry: true,
            collect: true,
            subsume: true,
            hurry: true,
            gather: false,
        }
    }
}

/// The election timeout of all nodes, in microseconds. Without leases nothing depends on it: a timer
/// may fire whenever it is armed.
const ELECTION_TIMEOUT_US: u64 = 1_000;

impl Bounds {
    /// Servers, voters and learners.
    #[must_use]
    pub fn servers(&self) -> usize {
        usize::from(self.nodes) + usize::from(self.learners)
    }

    /// The options of a server, by its position.
    pub(crate) fn config(&self, at: usize) -> Config {
        let mut config = Config::new(CLUSTER, GROUP, member(at));
        config.election_timeout_us = ELECTION_TIMEOUT_US;
        config.heartbeat_interval_us = ELECTION_TIMEOUT_US / 2;
        config.pre_vote = self.pre_vote;
        config.check_quorum = self.check_quorum;
        if self.leases {
            clock::set(&mut config, &self.genesis(), Term(u64::from(self.terms)));
        }
        config
    }

    /// Whether terms, votes and incarnations are durable at once where a server does not lead, after so
    /// much has happened.
    ///
    /// Before the last crash disks are as slow as can be: a crash may find any write on its way. After
    /// it, a write that holds nothing but the hard state may as well be completed as soon as it is
    /// made, if it is the next one. It decides only when the server speaks. So whatever the server
    /// takes first, it is the same server in the end; and the one that writes first has said all that
    /// the other one says, and maybe more. Nothing is ever lost on the way, so what may happen after
    /// less was said may happen after more.
    ///
    /// Entries are not hurried, since what is acknowledged, and what a leader counts, depends on
    /// how many of them are durable when the next ones come. Nor is anything where a server is the
    /// only voter, since it leads by its own write (`Host::hurried`); where a snapshot is taken of
    /// what is applied just then; and with reads, for an acknowledgement that waits also confirms
    /// the rounds of later ones. Where disks lose what was durable nothing is hurried: walks have
    /// met servers that differ then. Nor with leases: what is told now is told at another time than
    /// what is told later.
    pub(crate) fn is_hurried(&self, spent: Spent) -> bool {
        let may_hurry = self.crashes > 0 || self.campaigns.is_some();
        let is_calm = may_hurry && spent.crashes >= self.crashes;
        let commutes = self.snapshots == 0 && self.reads == 0 && !self.is_lossy();
        self.hurry && is_calm && commutes && !self.leases
    }

    /// Whether it matters to a leader that somebody is alive: it looks when its timers fire. How much
    /// of their time has passed where a script ends is not asked.
    pub(crate) fn is_watching(&self) -> bool {
        self.check_quorum || self.leases || self.heartbeats > 0
    }

    /// Whether disks lose what was durable.
    pub(crate) fn is_lossy(&self) -> bool {
        self.damages > 0 || self.lost_tails > 0
    }

    /// Whether it matters to followers that their leader is silent: they stick to one that is not, or
    /// forward reads to it.
    pub(crate) fn is_listening(&self) -> bool {
        self.check_quorum || self.pre_vote || self.forward
    }

    /// What clients and operators may ask of a server, after so much was asked for.
    pub(crate) fn requests(&self, status: &Status, spent: Spent) -> Vec<Input> {
        let mut inputs = Vec::new();
        if status.applied > status.snapshot.index && spent.snapshots < self.snapshots {
            inputs.push(Input::Snapshot);
        }
        let may_forward = self.forward && status.role == RoleName::Follower;
        if may_forward && status.leader.is_some() && spent.reads < self.reads {
            inputs.push(Input::Read { number: spent.reads + 1 });
        }
        if status.role != RoleName::Leader {
            return inputs;
        }
        if spent.entries < self.entries {
            inputs.push(Input::Propose { number: spent.entries + 1 });
        }
        if spent.reads < self.reads {
            inputs.push(Input::Read { number: spent.reads + 1 });
        }
        if spent.transfers < self.transfers {
            // Those that have left are asked for in vain.
            let may_lead = |member: Member| {
                member.id.0 <= u64::from(self.nodes) || status.membership.is_voter(member)
            };
            let others = (0..self.servers()).map(member).filter(|other| *other != status.member);
            let number = spent.transfers + 1;
            let others = others.filter(|other| may_lead(*other));
            inputs.extend(others.map(|to| Input::Transfer { number, to: to.id.0 }));
        }
        if spent.changes < self.changes {
            let number = spent.changes + 1;
            inputs.extend(self.change().map(|change| Input::Change { number, change }));
        }
        inputs
    }

    /// The membership change that an operator asks for: the last voter is replaced by a learner, or
    /// removed if there is none.
    pub(crate) fn change(&self) -> Option<MembershipChange> {
        let last = NodeId(u64::from(self.nodes));
        let step = if self.learners == 0 {
            MemberStep::Remove(last)
        } else {
            MemberStep::Replace { old: last, new: NodeId(last.0 + 1) }
        };
        Some(MembershipChange::Steps(vec![step]))
    }

    /// What every server is given when it starts for the first time.
    pub(crate) fn genesis(&self) -> Membership {
        let voters = (0..usize::from(self.nodes)).map(member).collect();
        let learners = (usize::from(self.nodes)..self.servers()).map(member).collect();
        Membership::new(voters, learners).expect("servers have different names")
    }
}

/// The identity of a server, by its position.
pub(crate) fn member(at: usize) -> Member {
    let id = at as u64 + 1;
    Member::new(id, id * 10)
}

/// The position of a server, by its identity.
pub(crate) fn position(member: Member) -> usize {
    usize::try_from(member.id.0).expect("servers have small numbers") - 1
}
