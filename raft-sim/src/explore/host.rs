//! One server of an explored cluster: the shipping core with its disk, and what it can be given.
//!
//! A host applies, loads, reads and stages at once and whole. A real one may be late with each of these,
//! or fail; that is not explored. What it writes stays on its way until the exploration completes it,
//! or a crash decides how much of it was kept.
//!
//! Time is abstract, but for leases (`clock.rs`). A deadline is reached by moving the clock of that node
//! alone, whenever the exploration wants it. A server with a damaged entry, or a damaged snapshot, has
//! two timers at once: one to ask its peers for what it misses, one to campaign. The first may be reached alone
//! ([`Input::Patience`]); when the other one fires, both have passed, so that it does not matter how
//! often the first one has.

mod crash;

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Body, Chunk, Config, Effect, EntryId, Envelope, HardState, Incarnation, Index, Membership,
    MembershipChange, Message, NodeId, Observation, PersistBatch, Raft, ReadMode, RoleName, Rpc,
    Session, Span, Status, Term, Ticket, Time,
};

use super::clock;

use crate::ideal_disk::{Disk, Loss};

/// A server between two inputs.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    config: Arc<Config>,
    pub(crate) raft: Raft,
    pub(crate) disk: Disk,
    /// Batches on their way to the disk, oldest first.
    pub(crate) unsynced: Vec<PersistBatch>,
    /// The node's own clock.
    now: Time,
    /// Campaigns that timers have begun in the present term.
    pub(crate) campaigns: u8,
    /// Timers that have fired at a leader of the present term.
    pub(crate) heartbeats: u8,
    /// Forwarded questions that it has taken for new ones as the leader of the present term.
    pub(crate) questions: u8,
    /// How often it has lost its patience with its leader in the present term.
    pub(crate) patiences: u8,
    /// Until this is over it may answer by a lease that it was given as the leader of a term.
    pub(crate) lent: Option<(Term, Span)>,
    /// Entries that it has found damaged in this life, and that are not durable again.
    pub(crate) found: BTreeSet<Index>,
}

/// What a server can be given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// A message arrives.
    Deliver(Arc<Envelope>),
    /// The next deadline of the node passes.
    Fire,
    /// An election timeout passes without a word from the leader, but not the node's own deadline.
    Silence,
    /// Nobody has brought what is damaged here for so long that all peers are asked.
    Patience,
    /// So many of the oldest batches on their way become durable, and the node is told.
    Persist { batches: usize },
    /// The node crashes and starts again: so many of the batches on their way were written whole,
    /// and so many pieces of the next one. Then the disk may have lost something all the same. What it
    /// says of the commit index is at most what the node knew, and what the log reaches.
    Crash { whole: usize, pieces: usize, loss: Option<Loss>, commit: Index },
    /// A client proposes its so-manyth command.
    Propose { number: u8 },
    /// A client asks for a linearizable read.
    Read { number: u8 },
    /// An operator hands the leadership to a server.
    Transfer { number: u8, to: u64 },
    /// An operator changes the membership.
    Change { number: u8, change: MembershipChange },
    /// The host makes a snapshot of what is applied.
    Snapshot,
    /// The host finds that the entry at this index cannot be read any more.
    Damage { index: Index },
    /// An operator asks the node to campaign. Scripts do; without leases, an exploration fires timers
    /// instead.
    Campaign,
    /// An operator asks a leader to become a follower. Scripts do.
    StepDown,
    /// The clock of the node goes on by so many beats.
    Pass { beats: u8 },
}

impl Input {
    /// Whether it may happen only so often.
    pub(crate) fn is_bounded(&self) -> bool {
        match self {
            Self::Deliver(_)
            | Self::Fire
            | Self::Silence
            | Self::Patience
            | Self::Persist { .. }
            | Self::Campaign
            | Self::StepDown
            | Self::Pass { .. } => false,
            Self::Crash { .. }
            | Self::Propose { .. }
            | Self::Read { .. }
            | Self::Transfer { .. }
            | Self::Change { .. }
            | Self::Snapshot
            | Self::Damage { .. } => true,
        }
    }
}

impl Host {
    /// A server that starts for the first time, and its first effects.
    pub(crate) fn found(config: Config, genesis: Membership) -> (Self, Vec<Effect>) {
        Self::start(Arc::new(config), Disk::new(genesis), Index::ZERO, Time(0))
    }

    /// A server that starts from a disk, where this much is known to be committed, and its first
    /// effects. Its state machine is in memory: nothing has been applied.
    pub(crate) fn start(
        config: Arc<Config>,
        disk: Disk,
        commit: Index,
        now: Time,
    ) -> (Self, Vec<Effect>) {
        let found = disk.recovered(commit, Index::ZERO);
        let (raft, effects) = Raft::recover(Config::clone(&config), found, now)
            .unwrap_or_else(|error| panic!("an honest disk is accepted: {error}; {disk:?}"));
        let unsynced = Vec::new();
        let (campaigns, heartbeats, questions, patiences, lent) = (0, 0, 0, 0, None);
        let mut host = Self {
            config,
            raft,
            disk,
            unsynced,
            now,
            campaigns,
            heartbeats,
            questions,
            patiences,
            lent,
            found: BTreeSet::new(),
        };
        let mut seen = Vec::new();
        host.execute(effects, &mut seen);
        (host, seen)
    }

    /// Takes an input: what the node asks for, in order, with what the host gave it at once.
    pub(crate) fn take(&mut self, input: &Input) -> Vec<Effect> {
        let mut seen = Vec::new();
        let earlier = self.now;
        let body = match input {
            Input::Deliver(envelope) => Body::Peer(Envelope::clone(envelope)),
            Input::Fire => {
                self.now = self.deadline();
                Body::Tick
            }
            Input::Silence | Input::Patience => {
                self.now = Time(self.now.0 + self.config.election_timeout_us);
                Body::Tick
            }
            Input::Persist { batches } => {
                let batches: Vec<PersistBatch> = self.unsynced.drain(..*batches).collect();
                for batch in &batches {
                    self.disk.write(batch, usize::MAX);
                }
                self.found.retain(|index| self.disk.is_damaged(*index));
                let last = batches.last().expect("at least one batch is completed");
                Body::Persisted { seq: last.seq }
            }
            Input::Crash { whole, pieces, loss, commit } => {
                return self.crash(self.left(*whole, *pieces), *loss, *commit);
            }
            Input::Propose { number } => {
                Body::Propose { ticket: propose(*number), command: command(*number) }
            }
            Input::Read { number } => {
                let is_leased = self.config.lease_us > 0;
                let mode = if is_leased { ReadMode::Lease } else { ReadMode::ReadIndex };
                Body::Read { ticket: read(*number), mode }
            }
            Input::Transfer { number, to } => Body::TransferLeadership {
                ticket: Ticket(TRANSFERS + u64::from(*number)),
                to: Some(NodeId(*to)),
            },
            Input::Change { number, change } => Body::ProposeMembership {
                ticket: Ticket(CHANGES + u64::from(*number)),
                change: change.clone(),
                expect: None,
            },
            Input::Snapshot => {
                let applied = self.raft.status().applied;
                let snapshot = self.raft.snapshot_at(applied).expect("it is applied and known");
                let image = Self::image_of(snapshot.last);
                self.disk.save(Arc::clone(&snapshot), image);
                Body::SnapshotTaken { snapshot }
            }
            Input::Damage { index } => {
                let id = self.disk.id_at(*index).expect("what is lost was there");
                self.disk.lose(Loss::Entry(*index));
                self.found.insert(*index);
                Body::Damaged { entries: vec![id] }
            }
            Input::Campaign => Body::Campaign,
            Input::StepDown => Body::StepDown,
            Input::Pass { beats } => {
                self.now = self.now.after(clock::beats(*beats));
                self.in_time()
            }
        };
        self.shorten_lease(earlier);
        let asked = is_question(input).then(|| self.raft.clone());
        let Status { term, role, .. } = self.raft.status();
        self.step(body, &mut seen);
        let is_news = asked.is_some_and(|before| before != self.raft);
        self.count(input, (term, role), is_news);
        seen
    }

    /// Counts what the bounds speak of, after an input that a server of this term and role was given.
    fn count(&mut self, input: &Input, (term, role): (Term, RoleName), is_news: bool) {
        if self.raft.status().term > term {
            (self.campaigns, self.heartbeats, self.questions, self.patiences) = (0, 0, 0, 0);
        }
        if role == RoleName::Leader && is_news && self.raft.status().term == term {
            self.questions = self.questions.saturating_add(1);
        }
        if *input == Input::Patience {
            self.patiences = self.patiences.saturating_add(1);
        }
        if *input == Input::Fire && role == RoleName::Leader {
            self.heartbeats = self.heartbeats.saturating_add(1);
        }
        // A pre-candidate that asks once more keeps its role, so the role alone tells.
        let is_wish = *input == Input::Campaign && self.has_clock();
        let is_timer = is_wish || matches!(input, Input::Fire | Input::Patience);
        if is_timer && is_campaign(self.raft.status().role) {
            self.campaigns = self.campaigns.saturating_add(1);
        }
    }

    /// The bytes of a snapshot through this entry: two states of the machine have different ones.
    pub(crate) fn image_of(last: EntryId) -> Vec<u8> {
        last.chain.0.to_le_bytes().to_vec()
    }

    /// How long a promise lasts that is given for this lease.
    pub(crate) fn promise(&self, lease: Span) -> Span {
        self.config.promise(lease)
    }

    /// Whether leases make it matter how late it is.
    pub(crate) fn has_clock(&self) -> bool {
        self.config.lease_us > 0
    }

    /// Whether a timer may fire: if it is armed, and has to wait for its time where there are clocks.
    pub(crate) fn may_fire(&self) -> bool {
        self.raft.next_deadline().is_some_and(|at| !self.has_clock() || at <= self.now)
    }

    /// An input that is news for nothing but its time: nobody is its own peer. A follower hears of its
    /// leader once more, so that its timers are not told apart; it may campaign all the same.
    fn in_time(&self) -> Body {
        let Status { member, role, leader, term, epoch, .. } = self.raft.status();
        let Some(leader) = leader.filter(|_| role == RoleName::Follower) else {
            return Body::PeerUnreachable { peer: member };
        };
        let Config { cluster, group, .. } = *self.config;
        let (incarnation, session) = (Incarnation(1), Session(1));
        let rpc = Rpc::Commit { session, commit: Index::ZERO };
        let (from, to) = (leader, member);
        Body::Peer(Envelope { cluster, group, from, to, epoch, incarnation, term, rpc })
    }

    /// Whether anything hangs on time here: a leader's heartbeats, what may be answered by its lease, or
    /// a promise, which has been written if it was ever given.
    pub(crate) fn is_timed(&self) -> bool {
        let written = self.unsynced.iter().filter_map(|batch| batch.hard_state);
        let has_promised = |state: HardState| state.promise > Span(0);
        let leads = self.raft.status().role == RoleName::Leader;
        leads || self.lent.is_some() || written.chain([self.disk.hard_state()]).any(has_promised)
    }

    /// Takes from the lease what has passed since an earlier moment.
    fn shorten_lease(&mut self, earlier: Time) {
        let passed = self.now.0 - earlier.0;
        let left = |(term, left): (Term, Span)| {
            let left = left.0.saturating_sub(passed);
            (left > 0).then_some((term, Span(left)))
        };
        self.lent = self.lent.and_then(left);
    }

    /// Whether an election timeout may pass without the node's own deadline: at most once after it
    /// has heard its leader.
    pub(crate) fn may_be_silent(&self) -> bool {
        let end = self.now.0 + self.config.election_timeout_us;
        let is_later = self.raft.next_deadline().is_none_or(|deadline| deadline > Time(end));
        self.raft.status().role == RoleName::Follower && is_later
    }

    /// When its next timer fires; with a damaged entry, when all of them have.
    fn deadline(&self) -> Time {
        if self.raft.status().role != RoleName::Leader && self.is_asking() {
            return Time(self.now.0 + 8 * self.config.election_timeout_us);
        }
        self.raft.next_deadline().map_or(self.now, |at| at.max(self.now))
    }

    /// Whether a follower asks its peers when it loses its patience. Once in a term is enough, for a
    /// question is never lost, and is answered anew whenever the answer is another one.
    pub(crate) fn may_be_impatient(&self) -> bool {
        let is_follower = self.raft.status().role == RoleName::Follower;
        if !is_follower || !self.is_asking() || self.patiences > 0 {
            return false;
        }
        let missed =
            |effect: &Effect| matches!(effect, Effect::Observe(Observation::EntryMissed { .. }));
        self.clone().take(&Input::Patience).iter().any(missed)
    }

    /// Whether it misses something that its peers may have.
    pub(crate) fn is_asking(&self) -> bool {
        let Status { damaged, is_snapshot_damaged, .. } = self.raft.status();
        damaged > 0 || is_snapshot_damaged
    }

    /// The next write to be completed at once, where disks are fast (see [`Bounds::is_hurried`]).
    ///
    /// [`Bounds::is_hurried`]: super::bounds::Bounds::is_hurried
    pub(crate) fn hurried(&self) -> Option<Input> {
        let first = self.unsynced.first()?;
        let is_state = PersistBatch { hard_state: None, ..first.clone() }.is_empty();
        let Status { role, membership, .. } = self.raft.status();
        let halves = [membership.incoming(), membership.outgoing()];
        let is_alone = halves.into_iter().all(|half| half.len() <= 1);
        let is_hurried = is_state && role != RoleName::Leader && !is_alone;
        is_hurried.then_some(Input::Persist { batches: 1 })
    }

    /// The memberships that the log names, oldest first, after that of the snapshot before it.
    pub(crate) fn memberships(&self) -> Vec<(Index, Arc<Membership>)> {
        let mut disk = self.disk.clone();
        for batch in &self.unsynced {
            disk.write(batch, usize::MAX);
        }
        disk.memberships()
    }

    /// Whether an entry is damaged, and nothing on its way takes its place.
    pub(crate) fn is_hurt(&self) -> bool {
        !self.disk.is_whole() && !self.left(self.unsynced.len(), 0).is_whole()
    }

    /// Whether all but the nodes of two hosts is the same.
    pub(crate) fn is_alike_outside(&self, other: &Self) -> bool {
        Self { raft: other.raft.clone(), ..self.clone() } == *other
    }

    fn step(&mut self, body: Body, seen: &mut Vec<Effect>) {
        let effects = self.raft.step(Message { now: self.now, body });
        self.execute(effects, seen);
    }

    fn execute(&mut self, effects: Vec<Effect>, seen: &mut Vec<Effect>) {
        let mut answers = Vec::new();
        for effect in effects {
            match &effect {
                Effect::Persist(batch) => self.unsynced.push(batch.clone()),
                Effect::Apply { entries } => {
                    let through = entries.last().expect("never empty").index();
                    answers.push(Body::Applied { through });
                }
                Effect::RestoreState { snapshot } => {
                    answers.push(Body::Applied { through: snapshot.last.index });
                }
                Effect::Load(request) => {
                    let entries = self.disk.entries(request);
                    answers.push(Body::Loaded { request: *request, entries });
                }
                Effect::ReadChunk(request) => {
                    let image = self.disk.image(request.snapshot);
                    let chunk =
                        image.map(|image| Chunk { data: image.to_vec().into(), done: true });
                    answers.push(Body::ChunkRead { request: *request, chunk });
                }
                Effect::StageChunk { id, offset, data, .. } => {
                    self.disk.staged.truncate(usize::try_from(*offset).expect("a short snapshot"));
                    self.disk.staged.extend_from_slice(data);
                    answers
                        .push(Body::ChunkStaged { id: *id, staged: self.disk.staged.len() as u64 });
                }
                Effect::ReadReady { valid_until: Some(until), .. } => {
                    let left = Span(until.0.saturating_sub(self.now.0));
                    let lent = (self.raft.status().term, left);
                    self.lent = Some(self.lent.map_or(lent, |known| known.max(lent)));
                }
                Effect::Send(_)
                | Effect::Outcome { .. }
                | Effect::ReadReady { valid_until: None, .. }
                | Effect::Observe(_) => {}
            }
            seen.push(effect);
        }
        for body in answers {
            self.step(body, seen);
        }
    }
}

/// Tickets of changes and transfers are numbered from here.
const CHANGES: u64 = 200;
const TRANSFERS: u64 = 300;

/// The ticket of a command.
pub(crate) fn propose(number: u8) -> Ticket {
    Ticket(u64::from(number))
}

/// The ticket of a read.
pub(crate) fn read(number: u8) -> Ticket {
    Ticket(100 + u64::from(number))
}

fn command(number: u8) -> Bytes {
    Bytes::from(format!("x{number}"))
}

/// Whether a follower forwards reads.
fn is_question(input: &Input) -> bool {
    matches!(input, Input::Deliver(letter) if matches!(letter.rpc, Rpc::ReadIndex { .. }))
}

fn is_campaign(role: RoleName) -> bool {
    matches!(role, RoleName::PreCandidate | RoleName::Candidate)
}

/// The clock and the numbers of batches do not count.
impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        self.raft == other.raft
            && self.disk == other.disk
            && self.campaigns == other.campaigns
            && self.heartbeats == other.heartbeats
            && self.questions == other.questions
            && self.patiences == other.patiences
            && self.lent == other.lent
            && self.found == other.found
            && self.unsynced.len() == other.unsynced.len()
            && self.unsynced.iter().map(what).eq(other.unsynced.iter().map(what))
    }
}

impl Eq for Host {}

impl Hash for Host {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raft.hash(state);
        self.disk.hash(state);
        (self.campaigns, self.heartbeats, self.questions, self.patiences).hash(state);
        self.lent.iter().for_each(|lent| lent.hash(state));
        self.found.iter().for_each(|index| index.hash(state));
        for batch in &self.unsynced {
            what(batch).hash(state);
        }
    }
}

/// All of a batch but its number.
fn what(batch: &PersistBatch) -> impl PartialEq + Hash + '_ {
    let PersistBatch { seq: _, hard_state, install, truncate_from, heal, append, compact_to } =
        batch;
    (hard_state, install, truncate_from, heal, append, compact_to)
}

#[cfg(test)]
mod tests;
