//! What a story asks of an implementation: the vocabulary of Figure 2 and one small trait.
//!
//! A subject is a whole cluster whose every step is chosen from outside: which message arrives, when
//! a disk has written, who crashes and how much of its unfinished writes survives, how far each
//! clock moves. Nothing happens by itself. Stories speak of servers by number, of entries by term
//! and index, of messages by what the paper calls them; how a library encodes any of it is its own.

use std::collections::BTreeMap;
use std::fmt;

use super::story::Untold;

/// The shortest election timeout of every server; the longest is less than twice of it.
pub const ELECTION_TIMEOUT_US: u64 = 1_000_000;

/// How often a leader speaks to a silent follower.
pub const HEARTBEAT_US: u64 = 100_000;

/// A cluster that can be driven step by step.
///
/// Servers are named by number, from 1. Whoever implements this for another library translates
/// each call into that library's own, executes at once whatever the library does not want to be
/// durable first, and keeps writes and messages until the story asks for them.
///
/// Naming a server or a message that is not there is a mistake in a story, and may panic.
pub trait Subject {
    /// Forgets everything and starts a new cluster: every server runs, and its first writes are
    /// under way.
    fn found(&mut self, setup: &Setup);

    /// Starts a server with an empty disk that knows of nobody and waits to be added. If the number
    /// is in use, its disk is lost first, and the new one has the same number: what an operator does
    /// who replaces a broken machine.
    ///
    /// # Errors
    /// [`Untold::Unsupported`] if servers cannot be added.
    fn add(&mut self, server: u64) -> Result<(), Untold>;

    /// The disk of a server is lost, and on an empty one a new cluster is founded that consists of
    /// this server alone: what an operator does who repeats the first step of an installation.
    ///
    /// # Errors
    /// [`Untold::Unsupported`] if that cannot be done.
    fn found_alone(&mut self, server: u64) -> Result<(), Untold>;

    /// Gives a running server one input; a server that is down takes none.
    ///
    /// # Errors
    /// [`Untold::Unsupported`] if the library lacks what the input asks for.
    fn input(&mut self, server: u64, input: &Input) -> Result<(), Untold>;

    /// The messages on their way, oldest first.
    fn in_flight(&self) -> Vec<Letter>;

    /// A message arrives; one to a server that is down is lost.
    fn deliver(&mut self, letter: u64);

    /// A message is lost.
    fn lose(&mut self, letter: u64);

    /// The network makes a copy of a message, which is in flight like any other; its name.
    fn duplicate(&mut self, letter: u64) -> u64;

    /// Puts a message in flight that the server might have sent: an append without entries, a
    /// request for a vote, or an answer to one.
    ///
    /// # Errors
    /// [`Untold::Unsupported`] if such a message cannot be made.
    fn post(&mut self, from: u64, to: u64, term: u64, kind: &Kind) -> Result<(), Untold>;

    /// The writes that a server has asked for and that are not durable yet, oldest first: how many
    /// pieces (hard state, snapshot, truncation, single entries) each consists of.
    fn writes(&self, server: u64) -> Vec<usize>;

    /// The oldest writes of a server become durable, and it is told so.
    fn complete(&mut self, server: u64, writes: usize);

    /// The power of a server fails. Of its unfinished writes, this many pieces survive, in the order
    /// in which they were asked for; the rest is gone.
    fn crash(&mut self, server: u64, pieces: usize);

    /// An entry on the disk of a server that is down cannot be read any more; what it was is known.
    ///
    /// # Errors
    /// [`Untold::Unsupported`] if the library cannot start without it.
    fn damage(&mut self, server: u64, index: u64) -> Result<(), Untold>;

    /// A server that is down starts from its disk.
    ///
    /// # Errors
    /// [`Untold::Broken`] with the library's own words if it refuses to start from what it found.
    fn restart(&mut self, server: u64, claim: Claim) -> Result<(), Untold>;

    /// What can be seen of a server.
    fn view(&self, server: u64) -> View;
}

/// The servers and options of a new cluster.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The first voters.
    pub voters: Vec<u64>,
    /// The first learners.
    pub learners: Vec<u64>,
    /// Logs that servers start with: the terms of their entries, from index 1. Two entries of one
    /// index and term are equal, and so is everything before them. The server's term is at least
    /// that of its last entry.
    pub logs: BTreeMap<u64, Vec<u64>>,
    /// Terms that servers start with, if higher than their logs'.
    pub terms: BTreeMap<u64, u64>,
    /// Ask before raising the term (thesis §9.6).
    pub pre_vote: bool,
    /// Whether single servers do, if not as the others.
    pub pre_votes: BTreeMap<u64, bool>,
    /// Leaders that hear no quorum step down, and followers stick to a leader that they hear
    /// (thesis §6.2, §4.2.3).
    pub check_quorum: bool,
    /// How long a lease lasts; zero for none.
    pub lease_us: u64,
    /// The most entries in one append.
    pub append_entries_max: usize,
    /// The most appends on their way to one follower.
    pub inflight_appends_max: usize,
    /// The most bytes that a leader accepts before they are committed.
    pub uncommitted_bytes_max: usize,
    /// The most bytes with the state machine at once.
    pub unapplied_bytes_max: usize,
    /// The most bytes of a snapshot in one message.
    pub snapshot_chunk_bytes: usize,
    /// The most bytes of entries that a server keeps in memory besides its disk; `None`: no limit.
    pub resident_bytes_max: Option<usize>,
    /// How much each server wants to lead, if not as much as the others: lower waits longer.
    pub priorities: BTreeMap<u64, u8>,
    /// Whether an empty disk under an old number is known for another one. If not, an operator has
    /// given it the identity of the lost one, which nobody should do. A subject that knows servers
    /// by their numbers alone ignores it.
    pub tells_disks_apart: bool,
}

impl Setup {
    /// Figure 2 and nothing else: no pre-vote, no check of the quorum, no limits that bind.
    #[must_use]
    pub fn figure_2(voters: &[u64]) -> Self {
        Self {
            voters: voters.to_vec(),
            learners: Vec::new(),
            logs: BTreeMap::new(),
            terms: BTreeMap::new(),
            pre_vote: false,
            pre_votes: BTreeMap::new(),
            check_quorum: false,
            lease_us: 0,
            append_entries_max: 64,
            inflight_appends_max: 64,
            uncommitted_bytes_max: 1 << 20,
            unapplied_bytes_max: 1 << 20,
            snapshot_chunk_bytes: 1 << 16,
            resident_bytes_max: None,
            priorities: BTreeMap::new(),
            tells_disks_apart: true,
        }
    }

    /// As a cluster would run: with pre-vote and the check of the quorum.
    #[must_use]
    pub fn complete(voters: &[u64]) -> Self {
        Self { pre_vote: true, check_quorum: true, ..Self::figure_2(voters) }
    }

    /// With these learners.
    #[must_use]
    pub fn learners(mut self, learners: &[u64]) -> Self {
        self.learners = learners.to_vec();
        self
    }

    /// A server starts with entries of these terms.
    #[must_use]
    pub fn log(mut self, server: u64, terms: &[u64]) -> Self {
        self.logs.insert(server, terms.to_vec());
        self
    }

    /// A server starts in this term.
    #[must_use]
    pub fn term(mut self, server: u64, term: u64) -> Self {
        self.terms.insert(server, term);
        self
    }
}

/// What a server can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Its clock moves on by so many microseconds; timers that are due on the way fire.
    Pass(u64),
    /// Its clock moves on while it does nothing at all: the process is paused.
    Pause(u64),
    /// Its clock is set back by so many microseconds, or to its beginning.
    SetBack(u64),
    /// From its next start on it asks before it raises its term, or does not.
    PreVote(bool),
    /// Campaign, as if the election timer had fired.
    Campaign,
    /// A client's command; `ticket` names its outcome.
    Propose {
        /// New for every request.
        ticket: u64,
        /// The command.
        command: Vec<u8>,
    },
    /// A client wants to read.
    Read {
        /// New for every request.
        ticket: u64,
        /// By a lease instead of a round of messages.
        by_lease: bool,
    },
    /// An operator changes who belongs to the cluster.
    Change {
        /// New for every request.
        ticket: u64,
        /// What to do, in order, in one change.
        steps: Vec<Step>,
        /// Stay in the joint membership until [`Input::LeaveJoint`].
        is_explicit: bool,
    },
    /// An operator ends a joint membership.
    LeaveJoint {
        /// New for every request.
        ticket: u64,
    },
    /// An operator hands the leadership to another server.
    Transfer {
        /// New for every request.
        ticket: u64,
        /// The server.
        to: u64,
    },
    /// An operator makes a follower forget its leader, so that it may vote for another.
    ForgetLeader,
    /// Make a snapshot of everything applied, durable at once, and drop the log through it.
    Snapshot,
    /// The transport has lost its connection to a peer.
    Unreachable(u64),
    /// A write has failed: what the disk has of the unfinished writes is unknown.
    DiskFailed,
    /// From now on the disk gives entries back (`true`) or fails to (`false`).
    DiskReads(bool),
}

/// A part of a membership change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A server begins to receive the log.
    AddLearner(u64),
    /// A learner becomes a voter.
    Promote(u64),
    /// A voter becomes a learner.
    Demote(u64),
    /// A server leaves.
    Remove(u64),
}

/// What the host claims at a restart, apart from what the library itself has on disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claim {
    /// The highest index that is known to be committed.
    pub commit: u64,
    /// The state machine is durable and as it was after this index; zero for an empty one.
    pub applied: u64,
}

/// An entry of a log, by its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The term of its leader.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// The entry of this term at this index.
#[must_use]
pub fn id(term: u64, index: u64) -> Id {
    Id { term, index }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.term, self.index)
    }
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Names this copy; higher ones were sent later.
    pub name: u64,
    /// The sender.
    pub from: u64,
    /// The receiver.
    pub to: u64,
    /// The term that it carries.
    pub term: u64,
    /// What it says.
    pub kind: Kind,
}

impl Letter {
    /// Whether it is on its way from one server to the other.
    #[must_use]
    pub fn goes(&self, from: u64, to: u64) -> bool {
        self.from == from && self.to == to
    }
}

/// What a message says, as far as stories look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Would you vote for me (thesis §9.6)?
    RequestPreVote {
        /// The last entry of the asker.
        last: Id,
    },
    /// The answer.
    PreVote {
        /// Whether it would.
        granted: bool,
    },
    /// Vote for me (§5.2).
    RequestVote {
        /// The last entry of the candidate.
        last: Id,
    },
    /// The answer.
    Vote {
        /// Whether it does.
        granted: bool,
    },
    /// AppendEntries (§5.3), also without entries.
    Append {
        /// The entry before the first one.
        prev: Id,
        /// The entries.
        entries: Vec<Id>,
        /// The leader's commit index.
        commit: u64,
    },
    /// The leader's commit index, and nothing else.
    Commit {
        /// The index.
        index: u64,
    },
    /// The logs are equal through this index.
    Matched {
        /// The index.
        index: u64,
    },
    /// The entry before the first one is missing or differs.
    Conflict,
    /// A sign of life that is not an append.
    Heartbeat,
    /// Its answer.
    HeartbeatAnswer,
    /// A part of a snapshot (§7).
    Snapshot {
        /// The last entry that the snapshot covers.
        last: Id,
        /// Where in the snapshot this part begins.
        offset: u64,
    },
    /// How much of a snapshot the receiver has, if it does not have it all.
    SnapshotAnswer,
    /// Campaign at once (thesis §3.10).
    TimeoutNow,
    /// A follower asks its leader where to read.
    ReadIndex,
    /// The answer.
    ReadIndexAnswer,
    /// Anything else.
    Other,
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows.
    Follower,
    /// It asks whether it could win.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
    /// It runs, but has given up until it is started again.
    Halted,
    /// It is down.
    Down,
}

/// What can be seen of a server; of one that is down, what could be seen last, but its role.
#[derive(Clone, Debug)]
pub struct View {
    /// Its role.
    pub role: Role,
    /// Its term (`currentTerm`).
    pub term: u64,
    /// Its vote in that term (`votedFor`).
    pub vote: Option<u64>,
    /// The leader that it knows.
    pub leader: Option<u64>,
    /// Its commit index.
    pub commit: u64,
    /// The index before the first entry of its log.
    pub base: u64,
    /// Its log.
    pub log: Vec<Id>,
    /// The voters of the membership in force; of a joint one, the incoming half.
    pub voters: Vec<u64>,
    /// The outgoing half of a joint membership.
    pub outgoing: Vec<u64>,
    /// The learners.
    pub learners: Vec<u64>,
    /// Everything that its state machine contains, in order, snapshots included.
    pub applied: Vec<Applied>,
    /// How requests ended that were made at this server since it started.
    pub outcomes: BTreeMap<u64, Outcome>,
    /// Reads that may be answered.
    pub reads: BTreeMap<u64, ReadAnswer>,
    /// Its clock.
    pub clock_us: u64,
    /// What the server itself has found to be impossible in a correct cluster.
    pub complaints: Vec<String>,
    /// Why it has refused messages, in the library's own words, if it tells.
    pub refusals: Vec<String>,
}

impl View {
    /// The last entry of the log, if it has any.
    #[must_use]
    pub fn last(&self) -> Id {
        self.log.last().copied().unwrap_or_default()
    }

    /// The index at which the log ends.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.log.last().map_or(self.base, |last| last.index)
    }

    /// Whether a state machine has this command.
    #[must_use]
    pub fn has_applied(&self, command: &str) -> bool {
        self.applied.iter().any(|applied| applied.command == command.as_bytes())
    }
}

/// An entry as a state machine got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place.
    pub id: Id,
    /// The command; empty for what is not a client's.
    pub command: Vec<u8>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Committed(Id),
    /// It was not accepted, for this reason.
    Refused(String),
    /// It is certainly not committed, though it was accepted.
    Lost,
    /// Nobody can tell.
    Unknown,
    /// The leadership was handed over.
    Transferred,
}

/// A read that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    /// Once the state machine has applied through this index.
    pub index: u64,
    /// If given: only while the server's clock shows less than this.
    pub valid_until_us: Option<u64>,
}
