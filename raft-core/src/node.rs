//! What every server has, whatever its role (Figure 2), and the only writer of log and membership.
//!
//! Log and membership change together: a membership is in force from the moment its entry is
//! appended, and rolls back with a truncated one (thesis §4.1).

mod damage;
mod loading;
mod standing;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub(crate) use self::damage::{Doubt, Lending, Lent, Nack, Repair};
use self::standing::Standing;
use crate::config::Config;
use crate::durable::{HardState, SnapshotMeta};
use crate::effect::{Effect, Observation, Outcome, Refused, Rejection, Violation, emit};
use crate::entry::{Entries, Payload};
use crate::gate::{Gate, Reply};
use crate::log::Log;
use crate::membership::Membership;
use crate::message::{Envelope, Rpc, RpcKind};
use crate::progress::{Incoming, Loading, Staging};
use crate::rng;
use crate::timers::Timer;
use crate::types::{Epoch, Index, Member, PersistSeq, Span, Term, Ticket};

/// The state of a server that outlives its roles.
///
/// Invariants: `applied <= handed_out <= commit <= log.last`; `log.base <= snapshot <= commit`;
/// the vote changes only from `None`, and back only when the term rises.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(C)] // For cache locality alone: the fields that every step reads are adjacent.
pub(crate) struct Node {
    /// The membership at the base of the log, as far as a start could tell it, then each that the log
    /// holds, by index.
    memberships: Vec<(Index, Arc<Membership>)>,
    /// Damaged entries of the log that are memberships: what they said is not known here.
    lost_memberships: Vec<Index>,
    snapshot: Arc<SnapshotMeta>,
    /// A snapshot that is being received.
    pub(crate) incoming: Option<Box<Incoming>>,
    /// The chunk that the host is asked to stage, even if its transfer is over. There hardly ever is one,
    /// so an idle group pays for no more than a pointer.
    pub(crate) staging: Option<Box<Staging>>,
    /// The number of the last chunk that this incarnation has asked the host to stage.
    pub(crate) last_chunk: u64,
    /// What the host reads for peers in repair: for each at most one cold entry and one chunk.
    pub(crate) lending: Vec<Lending>,
    /// The number of the last question about a damaged entry that this incarnation has asked.
    pub(crate) last_repair: u64,
    /// The number of the last question about a read index that this incarnation has asked.
    pub(crate) last_question: u64,
    /// Elections tried in this term: the key of the next jitter.
    attempt: u64,
    /// The last entry that the host has applied.
    pub(crate) applied: Index,
    /// Payload bytes after `applied` through `handed_out`.
    pub(crate) unapplied_bytes: usize,
    /// The term of the newest committed entry that open tickets were compared with.
    pub(crate) tickets_term: Term,
    log: Log,
    pub(crate) config: Config,
    pub(crate) gate: Gate,
    hard_state: HardState,
    /// Cold entries that the state machine needs next.
    pub(crate) loading: Loading,
    /// What is known about the end of the log, while that end is in doubt.
    pub(crate) doubt: Option<Doubt>,
    /// Until it is over this node elects no other leader, itself included (thesis §6.4.1).
    pub(crate) promise: Timer,
    commit: Index,
    /// The last entry given to the host to apply.
    pub(crate) handed_out: Index,
    /// The jitter drawn for this term and `attempt`.
    jitter: Span,
    /// Proposals that were appended and have no outcome yet, by index.
    pub(crate) tickets: Vec<PendingTicket>,
    /// Cached: what the memberships and the commit index mean for this server.
    standing: Standing,
    /// A snapshot that the state machine must take over once it is durable.
    pub(crate) restore: Option<Arc<SnapshotMeta>>,
    /// What this node asks its peers for, while an entry or its snapshot is damaged.
    pub(crate) repair: Option<Box<Repair>>,
    /// The host's buffer for the length of a step; empty between steps.
    pub(crate) effects: Vec<Effect>,
    /// Only the description of the snapshot is left.
    is_snapshot_damaged: bool,
    /// The disk has no room for entries.
    pub(crate) is_disk_full: bool,
}

/// A proposal in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PendingTicket {
    pub(crate) ticket: Ticket,
    pub(crate) index: Index,
    pub(crate) term: Term,
}

/// What a node starts from, checked by the recovery chapter.
pub(crate) struct Parts {
    pub(crate) hard_state: HardState,
    pub(crate) log: Log,
    pub(crate) memberships: Vec<(Index, Arc<Membership>)>,
    pub(crate) snapshot: Arc<SnapshotMeta>,
    pub(crate) is_snapshot_damaged: bool,
    pub(crate) commit: Index,
    pub(crate) applied: Index,
    /// Damaged entries, and those of them that are memberships.
    pub(crate) holes: Vec<Index>,
    pub(crate) lost_memberships: Vec<Index>,
}

impl Node {
    pub(crate) fn new(config: Config, parts: Parts) -> Self {
        let Parts { hard_state, holes, lost_memberships, .. } = parts;
        let gate = Gate::new(hard_state.incarnation, parts.log.last().index, holes);
        let promised = hard_state.promise;
        let is_whole = lost_memberships.is_empty() && !hard_state.is_tail_unknown;
        let standing = Standing::of(config.member(), &parts.memberships, parts.commit, is_whole);
        // What cannot be read cannot be restored; another snapshot must come.
        let must_restore = parts.applied < parts.snapshot.last.index && !parts.is_snapshot_damaged;
        let mut node = Self {
            config,
            hard_state,
            log: parts.log,
            memberships: parts.memberships,
            lost_memberships,
            standing,
            restore: must_restore.then(|| Arc::clone(&parts.snapshot)),
            snapshot: parts.snapshot,
            is_snapshot_damaged: parts.is_snapshot_damaged,
            commit: parts.commit,
            handed_out: parts.applied,
            applied: parts.applied,
            unapplied_bytes: 0,
            loading: Loading::Idle,
            incoming: None,
            staging: None,
            last_chunk: 0,
            tickets: Vec::new(),
            tickets_term: Term::ZERO,
            doubt: hard_state.is_tail_unknown.then(Doubt::default),
            is_disk_full: false,
            repair: None,
            last_repair: 0,
            lending: Vec::new(),
            // What was promised just before the crash may still be relied upon.
            promise: if promised > Span(0) { Timer::armed(promised) } else { Timer::default() },
            last_question: 0,
            attempt: 0,
            jitter: Span(0),
            gate,
            effects: Vec::new(),
        };
        node.draw_jitter();
        node
    }

    pub(crate) fn member(&self) -> Member {
        self.config.member()
    }

    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(crate) fn term(&self) -> Term {
        self.hard_state.term
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    pub(crate) fn snapshot(&self) -> &Arc<SnapshotMeta> {
        &self.snapshot
    }

    /// The membership in force: the newest in the log, committed or not.
    pub(crate) fn membership(&self) -> &Arc<Membership> {
        let (_, membership) = self.memberships.last().expect("the base has a membership");
        membership
    }

    /// Whether the node was given nothing: it knows no history, not even the founders' membership,
    /// so nothing can match.
    #[inline]
    pub(crate) fn is_blank(&self) -> bool {
        self.log.last().index == Index::ZERO && self.membership().is_empty()
    }

    /// The membership in force at an index from the base on; `None` if the one that would tell is
    /// damaged.
    pub(crate) fn membership_at(&self, index: Index) -> Option<&Arc<Membership>> {
        let (from, found) = self.memberships.iter().rev().find(|(from, _)| *from <= index)?;
        let is_lost = self.lost_memberships.iter().any(|lost| *from < *lost && *lost <= index);
        (!is_lost).then_some(found)
    }

    /// Enters a later term, without a vote (§5.1).
    pub(crate) fn enter_term(&mut self, term: Term) {
        self.enter_term_at(term, 0);
    }

    /// Enters a later term to win an election in it, which is the first attempt there.
    pub(crate) fn enter_term_to_campaign(&mut self, term: Term) {
        self.enter_term_at(term, 1);
    }

    /// Draws once for term and attempt together: a draw for each would be a cipher block too many.
    fn enter_term_at(&mut self, term: Term, attempt: u64) {
        assert!(term > self.hard_state.term, "terms only rise");
        self.hard_state.term = term;
        self.hard_state.vote = None;
        if let Some(doubt) = &mut self.doubt {
            *doubt = Doubt::default(); // Another leader's log is another.
        }
        self.attempt = attempt;
        self.draw_jitter();
        self.gate.stage_hard_state(self.hard_state);
    }

    /// Gives the vote of this term (§5.2).
    pub(crate) fn vote_for(&mut self, candidate: Member) {
        assert!(self.hard_state.vote.is_none(), "a vote is given once in a term");
        self.hard_state.vote = Some(candidate);
        self.gate.stage_hard_state(self.hard_state);
    }

    /// Promises to elect no other leader for `span`. The longest promise ever given is durable
    /// before any answer leaves: a start waits it out.
    pub(crate) fn promise(&mut self, span: Span) {
        self.promise.extend(span);
        if span > self.hard_state.promise {
            self.hard_state.promise = span;
            self.gate.stage_amended(self.hard_state);
        }
    }

    /// For how long this node has still promised to elect no other leader.
    pub(crate) fn promised(&self) -> Option<Span> {
        self.promise.left().filter(|left| *left > Span(0))
    }

    /// Enters a later cluster epoch.
    pub(crate) fn enter_epoch(&mut self, epoch: Epoch) {
        assert!(epoch > self.hard_state.epoch, "epochs only rise");
        self.hard_state.epoch = epoch;
        self.gate.stage_hard_state(self.hard_state);
    }

    /// Stages the hard state as it is: a start makes its incarnation durable.
    pub(crate) fn stage_hard_state(&mut self) {
        self.gate.stage_hard_state(self.hard_state);
    }

    /// Appends entries that follow the log; memberships among them are in force at once.
    pub(crate) fn append(&mut self, entries: Entries) {
        self.log.append(entries.clone());
        for entry in entries.iter() {
            if let Payload::Membership(membership) = entry.payload() {
                self.enter_membership(entry.index(), membership);
            }
        }
        self.gate.stage_append(entries, &mut self.effects);
    }

    #[cold]
    fn enter_membership(&mut self, index: Index, membership: &Arc<Membership>) {
        self.memberships.push((index, Arc::clone(membership)));
        self.refresh_standing();
        let membership = Membership::clone(membership);
        self.observe(Observation::MembershipChanged { membership });
    }

    /// Drops a suffix that conflicts with the leader's log; memberships in it roll back.
    pub(crate) fn truncate_from(&mut self, from: Index) {
        assert!(from > self.commit, "what is committed is never truncated");
        self.log.truncate_from(from);
        self.cap_match(from.prev());
        let before = self.memberships.len() + self.lost_memberships.len();
        self.memberships.retain(|(index, _)| *index < from);
        self.lost_memberships.retain(|index| *index < from);
        if self.memberships.len() + self.lost_memberships.len() < before {
            self.refresh_standing();
            let membership = Membership::clone(self.membership());
            self.observe(Observation::MembershipChanged { membership });
        }
        self.gate.stage_truncate(from, &mut self.effects);
    }

    /// Takes over a snapshot that is wholly staged: the log through it goes, and all of the log
    /// unless it holds the snapshot's last entry (§7).
    pub(crate) fn install(&mut self, snapshot: &Arc<SnapshotMeta>) {
        let last = snapshot.last;
        assert!(
            last.index > self.commit || self.is_blank() || self.is_missed_by(last.index),
            "a snapshot at or below the commit index is ignored, unless it covers what is damaged"
        );
        let shared = if self.log.id(last.index) == Some(last) {
            self.log.compact_to(last.index);
            self.memberships.retain(|(index, _)| *index > last.index);
            None
        } else {
            self.log = Log::new(last);
            self.cap_match(last.index);
            self.memberships.clear();
            Some(self.commit)
        };
        self.lost_memberships.retain(|index| *index > last.index);
        self.memberships.insert(0, (last.index, Arc::new(snapshot.membership.clone())));
        self.gate.stage_install(Arc::clone(snapshot), shared, &mut self.effects);
        self.snapshot = Arc::clone(snapshot);
        self.is_snapshot_damaged = false;
        if last.index > self.handed_out {
            // The genesis has no state to take over; nor does a snapshot of what is applied here.
            self.restore = Some(Arc::clone(snapshot));
        }
        self.commit = self.commit.max(last.index);
        self.refresh_standing();
        let membership = Membership::clone(self.membership());
        self.observe(Observation::MembershipChanged { membership });
    }

    /// The host has a newer durable snapshot; the log through `through` is not needed any more.
    pub(crate) fn compact(&mut self, snapshot: Arc<SnapshotMeta>, through: Index) {
        assert!(snapshot.last.index <= self.applied, "a snapshot holds what was applied");
        self.snapshot = snapshot;
        self.is_snapshot_damaged = false;
        // A damaged entry could not be sent to a peer, so neither it nor what is before it is kept.
        let hole = self.gate.last_hole_through(self.snapshot.last.index);
        let through = hole.map_or(through, |hole| through.max(hole));
        if through <= self.log.base().index {
            return;
        }
        let at_base = self.memberships.partition_point(|(index, _)| *index <= through);
        self.memberships.drain(..at_base.saturating_sub(1));
        self.lost_memberships.retain(|index| *index > through);
        self.refresh_standing();
        self.log.compact_to(through);
        self.gate.stage_compact(through);
    }

    /// Founders make genesis durable with their first batch.
    pub(crate) fn stage_genesis(&mut self) {
        let snapshot = Arc::clone(&self.snapshot);
        self.gate.stage_install(snapshot, None, &mut self.effects);
    }

    /// Keeps a ticket until its index is committed; sorted by index.
    pub(crate) fn insert_ticket(&mut self, pending: PendingTicket) {
        // Nearly always it is the newest.
        if self.tickets.last().is_none_or(|last| last.index <= pending.index) {
            self.tickets.push(pending);
            return;
        }
        let position = self.tickets.partition_point(|other| other.index <= pending.index);
        self.tickets.insert(position, pending);
    }

    /// Raises the commit index; a lower one changes nothing.
    #[inline]
    pub(crate) fn commit_to(&mut self, index: Index) {
        assert!(index <= self.log.last().index, "only what is in the log can be committed");
        if index <= self.commit {
            return;
        }
        self.commit = index;
        if self.memberships.len() > 1 {
            self.refresh_standing();
        }
    }

    /// A fresh election timer: at least the election timeout, less than twice of it (§5.2), and
    /// longer for a node of low priority. Not armed if this node is not electable.
    #[inline(always)]
    pub(crate) fn election_timer(&self) -> Timer {
        let delay = self.config.priority_delay();
        if self.is_damaged() {
            // One timeout longer, so that an intact node wins first: it need not be repaired to serve.
            return self.timer_after(Span(delay.0 + self.config.election_timeout_us));
        }
        self.timer_after(delay)
    }

    /// The election timer while votes are being given: it has no delay for low priority. Otherwise a
    /// node of high priority that cannot hear or be heard would always be the first to collect votes, in
    /// vain, and so put off everybody else's election for ever.
    pub(crate) fn contest_timer(&self) -> Timer {
        self.timer_after(Span(0))
    }

    fn timer_after(&self, delay: Span) -> Timer {
        if !self.is_electable() {
            return Timer::default();
        }
        Timer::armed(Span(self.config.election_timeout_us + delay.0 + self.jitter.0))
    }

    /// Elections tried in this term.
    pub(crate) fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Counts an attempt to win an election, which gets a jitter of its own.
    pub(crate) fn begin_attempt(&mut self) {
        self.attempt += 1;
        self.draw_jitter();
    }

    /// Sends a message as soon as the gate lets it.
    pub(crate) fn send(&mut self, to: Member, rpc: Rpc) {
        self.send_made(to, || rpc);
    }

    /// The same, for what is sent most: the message is made in the place where it stays.
    #[inline(always)]
    pub(crate) fn send_made(&mut self, to: Member, rpc: impl FnOnce() -> Rpc) {
        let (config, hard_state) = (&self.config, &self.hard_state);
        self.gate.send(|| envelope(config, hard_state, to, rpc()), &mut self.effects);
    }

    /// Acknowledges the log through `verified`, as far and as soon as it is durable.
    pub(crate) fn acknowledge(&mut self, reply: Reply, verified: Index) {
        let (config, hard_state) = (&self.config, &self.hard_state);
        let wrap = |to, rpc| envelope(config, hard_state, to, rpc);
        self.gate.acknowledge(reply, verified, wrap, &mut self.effects);
    }

    /// Takes a completion of the persist stream.
    pub(crate) fn on_persisted(&mut self, seq: PersistSeq) {
        let (config, hard_state) = (&self.config, &self.hard_state);
        let wrap = |to, rpc| envelope(config, hard_state, to, rpc);
        if !self.gate.on_persisted(seq, wrap, &mut self.effects) {
            self.refuse(Refused::UnknownPersist { seq });
        }
    }

    pub(crate) fn observe(&mut self, observation: Observation) {
        self.effects.push(Effect::Observe(observation));
    }

    pub(crate) fn violation(&mut self, violation: Violation) {
        self.observe(Observation::Violation(violation));
    }

    /// Notes that an input of the host was refused.
    pub(crate) fn refuse(&mut self, reason: Refused) {
        self.observe(Observation::Refused { from: None, kind: None, reason });
    }

    /// Notes that a peer's message was refused.
    pub(crate) fn refuse_peer(&mut self, from: Member, kind: RpcKind, reason: Refused) {
        self.observe(Observation::Refused { from: Some(from), kind: Some(kind), reason });
    }

    pub(crate) fn end(&mut self, ticket: Ticket, outcome: Outcome) {
        emit(&mut self.effects, || Effect::Outcome { ticket, outcome });
    }

    pub(crate) fn reject(&mut self, ticket: Ticket, rejection: Rejection) {
        self.end(ticket, Outcome::Refused(rejection));
    }

    fn draw_jitter(&mut self) {
        let Config { seed, id, election_timeout_us, .. } = self.config;
        let drawn = rng::jitter(seed, id, self.hard_state.term, self.attempt, election_timeout_us);
        self.jitter = Span(drawn);
    }
}

#[inline]
fn envelope(config: &Config, hard_state: &HardState, to: Member, rpc: Rpc) -> Envelope {
    Envelope {
        cluster: config.cluster,
        group: config.group,
        from: config.member(),
        to,
        epoch: hard_state.epoch,
        incarnation: hard_state.incarnation,
        term: hard_state.term,
        rpc,
    }
}
