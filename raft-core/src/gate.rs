//! The durability gate: it numbers the persist stream and keeps back what waits for it.
//!
//! Data is lost where a message leaves before the state that it speaks of is durable: a candidate
//! asks for votes before its own vote is on disk, crashes, and leads the same term twice. Here no rule
//! can do that, because no rule can send: it hands messages to the gate.
//!
//! What waits is bounded: per peer at most one message of each kind (the newest), and at most one
//! append acknowledgement, which claims at every completion the durable part of what it verified.
//! What a disk has lost again is not durable: a claim ends before the first damaged entry.

mod equality;
mod holes;
mod staged;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use self::holes::Holes;
use self::staged::{BATCHES_MAX, Staged};
use crate::durable::{HardState, PersistBatch, SnapshotMeta};
use crate::effect::{Effect, emit};
use crate::entry::Entries;
use crate::membership::MEMBERS_MAX;
use crate::message::{AppendResult, Envelope, Rpc, RpcKind};
use crate::types::{Incarnation, Index, Member, PersistSeq, Round, Session};

/// The most messages that wait at once: room for one of every kind to each server of a group that is not
/// joint. More than that, nearly always provoked by strangers, is dropped, as a network might drop it.
const WAITING_MAX: usize = 24 * MEMBERS_MAX;

/// The persist stream and what waits for it.
///
/// Invariants: `durable <= issued`; marks ascend by batch; nothing waits for a durable batch.
///
/// Two of them are equal when the same batches are on their way. How many came before them does not
/// count, as the moment does not count for the node.
#[derive(Clone, Debug)]
#[repr(C)] // For cache locality alone: the fields that every step reads are adjacent.
pub(crate) struct Gate {
    incarnation: Incarnation,
    /// The number of the last batch handed to the host.
    issued: u64,
    /// The newest batch that installs a snapshot.
    install: u64,
    /// What each batch on its way will make durable, as the log stands now.
    marks: VecDeque<(u64, Index)>,
    /// The batch that this step is filling.
    staged: Staged,
    waiting: Vec<Envelope>,
    acks: Vec<PendingAck>,
    /// The log equals what was made durable through here.
    written_index: Index,
    /// Entries of the log that are damaged.
    holes: Holes,
    /// All batches through this number are durable.
    durable: u64,
    /// The batch that carries the present term, vote and incarnation.
    hard_state: u64,
    /// Whether anything is staged; most steps stage nothing.
    has_staged: bool,
}

/// An append acknowledgement that may claim more as more becomes durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PendingAck {
    /// Everything but the claim.
    reply: Reply,
    /// The log equals the leader's through here.
    verified: Index,
    /// What was claimed already.
    claimed: Option<Index>,
}

/// Where an acknowledgement goes and what it echoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reply {
    pub(crate) to: Member,
    pub(crate) session: Session,
    pub(crate) round: Round,
}

impl Gate {
    /// A gate for a node that starts with a log on its disk through `written_index`, of which the
    /// entries at `holes` are damaged.
    pub(crate) fn new(incarnation: Incarnation, written_index: Index, holes: Vec<Index>) -> Self {
        Self {
            incarnation,
            issued: 0,
            durable: 0,
            hard_state: 0,
            install: 0,
            written_index,
            holes: Holes::new(holes),
            marks: VecDeque::new(),
            staged: Staged::default(),
            has_staged: false,
            waiting: Vec::new(),
            acks: Vec::new(),
        }
    }

    /// The log equals what is durable and intact here through this index.
    #[inline]
    pub(crate) fn durable_index(&self) -> Index {
        match self.holes.first() {
            None => self.written_index,
            Some(hole) => self.written_index.min(hole.prev()),
        }
    }

    /// Whether as many batches with entries as there may be are not durable yet.
    pub(crate) fn is_full(&self) -> bool {
        self.marks.len() as u64 >= BATCHES_MAX
    }

    /// The number that the batch being filled will have.
    pub(crate) fn staged_seq(&self) -> PersistSeq {
        PersistSeq { incarnation: self.incarnation, n: self.issued + 1 }
    }

    /// The log equals what was made durable through here, damaged since or not.
    pub(crate) fn written_index(&self) -> Index {
        self.written_index
    }

    /// Whether a snapshot is being installed: the host still needs its staged bytes.
    pub(crate) fn is_installing(&self) -> bool {
        self.install > self.durable
    }

    /// Whether the present term, vote and incarnation are durable: no message leaves before.
    pub(crate) fn is_hard_state_durable(&self) -> bool {
        self.hard_state <= self.durable
    }

    /// Stages a changed hard state. What waits was made under the old one and is dropped.
    pub(crate) fn stage_hard_state(&mut self, hard_state: HardState) {
        self.stage().hard_state = Some(hard_state);
        self.hard_state = self.issued + 1;
        self.waiting.clear();
        self.acks.clear();
    }

    /// Stages a hard state that contradicts nothing of what waits: it promises more, or the tail of
    /// the log is certain again. What waits, waits for it too.
    pub(crate) fn stage_amended(&mut self, hard_state: HardState) {
        self.stage().hard_state = Some(hard_state);
        self.hard_state = self.issued + 1;
    }

    /// Stages entries that follow the log.
    pub(crate) fn stage_append(&mut self, entries: Entries, effects: &mut Vec<Effect>) {
        let Some(last) = entries.last().map(|entry| entry.index()) else { return };
        if !self.staged.append.is_empty() || self.staged.compact_to.is_some() {
            self.flush(effects);
        }
        self.stage().append = entries;
        self.mark(last);
    }

    /// Stages runs of entries that take the place of damaged ones.
    pub(crate) fn stage_heal(&mut self, runs: impl IntoIterator<Item = Entries>) {
        let n = self.issued + 1;
        for run in runs {
            for entry in run.iter() {
                self.holes.fill(entry.index(), n);
            }
            self.stage().heal.push(run);
        }
    }

    /// Stages the removal of a suffix of the log.
    pub(crate) fn stage_truncate(&mut self, from: Index, effects: &mut Vec<Effect>) {
        let Staged { heal, append, compact_to, .. } = &self.staged;
        let is_later_field = !(heal.is_empty() && append.is_empty()) || compact_to.is_some();
        if is_later_field || self.staged.truncate_from.is_some() {
            self.flush(effects);
        }
        self.stage().truncate_from = Some(from);
        self.clamp(from.prev());
    }

    /// Stages a snapshot. If it replaces the whole log, `shared` says through which index the old
    /// log is known to agree with it: only that much counts as durable until the batch is.
    pub(crate) fn stage_install(
        &mut self,
        snapshot: Arc<SnapshotMeta>,
        shared: Option<Index>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.staged.is_hard_state_alone() {
            self.flush(effects);
        }
        if let Some(shared) = shared {
            self.clamp(shared);
        }
        if snapshot.last.index == Index::ZERO {
            // No index tells when the genesis is durable, so every message waits for it.
            self.hard_state = self.issued + 1;
        }
        self.mark(snapshot.last.index);
        if snapshot.last.index > Index::ZERO {
            // The genesis has no bytes.
            self.install = self.issued + 1;
        }
        // What it covers is not missed any more, once it is durable.
        self.holes.fill_through(snapshot.last.index, self.issued + 1);
        self.stage().install = Some(snapshot);
    }

    /// Stages the removal of a prefix of the log.
    pub(crate) fn stage_compact(&mut self, through: Index) {
        self.holes.compact_to(through);
        self.stage().compact_to = Some(through);
    }

    /// The batch that this step fills, to be filled further.
    fn stage(&mut self) -> &mut Staged {
        self.has_staged = true;
        &mut self.staged
    }

    /// Hands the staged batch to the host.
    #[inline(always)] // Asked in every step, and most steps write nothing.
    pub(crate) fn flush(&mut self, effects: &mut Vec<Effect>) {
        let is_empty = !core::mem::take(&mut self.has_staged);
        debug_assert_eq!(is_empty, self.staged.is_empty(), "what is staged is known to be");
        if is_empty {
            return;
        }
        if self.staged.is_append_alone() {
            self.issue_append(effects);
        } else {
            self.issue(effects);
        }
    }

    /// The usual batch has nothing but entries: to move all the empty fields would cost more than the rest.
    #[inline(never)]
    fn issue_append(&mut self, effects: &mut Vec<Effect>) {
        let seq = self.next_seq();
        let append = &mut self.staged.append;
        emit(effects, || Effect::Persist(PersistBatch::of_append(seq, core::mem::take(append))));
    }

    fn next_seq(&mut self) -> PersistSeq {
        let seq = self.staged_seq();
        self.issued += 1;
        seq
    }

    fn issue(&mut self, effects: &mut Vec<Effect>) {
        // With so many batches on their way, a hard state alone is held back. It delays nothing, for no
        // message leaves before it is durable, and a later hard state may replace it here.
        if self.issued - self.durable >= BATCHES_MAX && self.staged.is_hard_state_alone() {
            self.has_staged = true;
            return;
        }
        let seq = self.next_seq();
        emit(effects, || Effect::Persist(self.staged.take(seq)));
    }

    /// Takes a completion and releases what waited for it. `false`: no such batch was issued.
    pub(crate) fn on_persisted(
        &mut self,
        seq: PersistSeq,
        envelope: impl Fn(Member, Rpc) -> Envelope,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if seq.incarnation != self.incarnation || seq.n > self.issued {
            return false;
        }
        if seq.n <= self.durable {
            return true;
        }
        self.durable = seq.n;
        while let Some((n, index)) = self.marks.front().copied()
            && n <= seq.n
        {
            self.marks.pop_front();
            self.written_index = self.written_index.max(index);
        }
        if self.holes.len() > 0 {
            self.holes.settle(seq.n);
        }
        if self.is_hard_state_durable() {
            if !self.waiting.is_empty() {
                // Rare: an idle group should not keep the memory of its election.
                effects.extend(core::mem::take(&mut self.waiting).into_iter().map(Effect::Send));
            }
            self.release_acks(envelope, effects);
        }
        true
    }

    /// Sends a message once the hard state that it was made under is durable.
    ///
    /// That one condition is also what a vote and a request for votes wait for, since both are
    /// made under a hard state that names the vote; and because the stream is ordered, it covers
    /// the log suffix that the request advertises.
    #[inline(always)]
    pub(crate) fn send(&mut self, envelope: impl FnOnce() -> Envelope, effects: &mut Vec<Effect>) {
        if self.is_hard_state_durable() {
            emit(effects, || Effect::Send(envelope()));
        } else {
            self.keep(envelope());
        }
    }

    #[inline(never)]
    fn keep(&mut self, envelope: Envelope) {
        let kind = envelope.rpc.kind();
        self.waiting.retain(|other| other.to != envelope.to || other.rpc.kind() != kind);
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(envelope);
        }
    }

    /// Acknowledges the log through `verified`, as far and as soon as it is durable.
    pub(crate) fn acknowledge(
        &mut self,
        reply: Reply,
        verified: Index,
        envelope: impl Fn(Member, Rpc) -> Envelope,
        effects: &mut Vec<Effect>,
    ) {
        let waiting = self.acks.len();
        let pending = self.acks.iter_mut().find(|ack| ack.reply.to == reply.to);
        match pending {
            Some(ack) if ack.reply.session == reply.session => {
                ack.reply.round = ack.reply.round.max(reply.round);
                ack.verified = ack.verified.max(verified);
            }
            Some(ack) => *ack = PendingAck { reply, verified, claimed: None },
            None if waiting < WAITING_MAX => {
                self.acks.reserve_exact(1); // Nearly always there is one leader to answer.
                self.acks.push(PendingAck { reply, verified, claimed: None });
            }
            None => return,
        }
        if !self.is_hard_state_durable() {
            return;
        }
        if verified <= self.durable_index() {
            self.release_ack_at_once(reply, verified, envelope, effects);
        } else if self.holes.len() > 0 {
            self.claim_before_hole(reply, envelope, effects);
        }
    }

    /// All that an append brings may be durable here already, except for a damaged entry. Then no
    /// completion will release the answer, so the leader is told at once from where to send again.
    fn claim_before_hole(
        &mut self,
        reply: Reply,
        envelope: impl Fn(Member, Rpc) -> Envelope,
        effects: &mut Vec<Effect>,
    ) {
        let durable_index = self.durable_index();
        let Some(ack) = self.acks.iter_mut().find(|ack| ack.reply.to == reply.to) else { return };
        let claim = ack.verified.min(durable_index);
        ack.claimed = ack.claimed.max(Some(claim));
        emit(effects, || Effect::Send(envelope(reply.to, matched(ack.reply, claim))));
    }

    /// Forgets requests for votes that still wait: the candidacy is over, and the log that they
    /// advertise may be replaced by the winner's.
    pub(crate) fn withdraw_candidacy(&mut self) {
        self.waiting.retain(|envelope| {
            !matches!(envelope.rpc.kind(), RpcKind::RequestVote | RpcKind::RequestPreVote)
        });
    }

    /// Forgets everything that waits: the node has halted.
    pub(crate) fn close(&mut self) {
        self.waiting.clear();
        self.acks.clear();
        self.staged = Staged::default();
        self.has_staged = false;
    }

    /// An append whose entries are all durable is answered at once, whatever else waits.
    fn release_ack_at_once(
        &mut self,
        reply: Reply,
        verified: Index,
        envelope: impl Fn(Member, Rpc) -> Envelope,
        effects: &mut Vec<Effect>,
    ) {
        emit(effects, || Effect::Send(envelope(reply.to, matched(reply, verified))));
        let durable_index = self.durable_index();
        self.acks.retain(|ack| ack.reply.to != reply.to || ack.verified > durable_index);
    }

    fn release_acks(
        &mut self,
        envelope: impl Fn(Member, Rpc) -> Envelope,
        effects: &mut Vec<Effect>,
    ) {
        let durable_index = self.durable_index();
        let mut waits_on = |ack: &mut PendingAck| {
            let claim = ack.verified.min(durable_index);
            // While nothing of an append is durable, a match of 0 says nothing and is not sent. With
            // damaged entries it is: the leader must learn that the match is 0, or it never sends the
            // first entry again.
            let is_worth_it =
                claim > Index::ZERO || ack.verified == Index::ZERO || self.holes.len() > 0;
            if is_worth_it && ack.claimed.is_none_or(|claimed| claimed < claim) {
                ack.claimed = Some(claim);
                emit(effects, || Effect::Send(envelope(ack.reply.to, matched(ack.reply, claim))));
            }
            claim < ack.verified
        };
        match self.acks.as_mut_slice() {
            [] => {}
            [ack] => {
                if !waits_on(ack) {
                    self.acks.clear(); // Nearly always there is one leader to answer.
                }
            }
            [_, _, ..] => self.acks.retain_mut(waits_on),
        }
    }

    #[inline]
    fn mark(&mut self, index: Index) {
        let n = self.issued + 1;
        if let Some((last, marked)) = self.marks.back_mut()
            && *last == n
        {
            *marked = index;
            return;
        }
        if self.marks.len() == self.marks.capacity() {
            self.make_room_for_mark();
        }
        self.marks.push_back((n, index));
    }

    #[cold]
    fn make_room_for_mark(&mut self) {
        if self.marks.is_empty() {
            self.marks.reserve_exact(1); // Nearly always there is one batch on its way.
        } else {
            self.marks.reserve(1);
        }
    }

    /// Nothing above `index` counts as durable, nor will by a batch that is on its way already.
    fn clamp(&mut self, index: Index) {
        self.written_index = self.written_index.min(index);
        self.holes.truncate_after(index);
        for (_, marked) in &mut self.marks {
            *marked = (*marked).min(index);
        }
    }
}

fn matched(reply: Reply, index: Index) -> Rpc {
    let result = AppendResult::Matched { index };
    Rpc::AppendEntriesResponse { session: reply.session, round: reply.round, result }
}

#[cfg(test)]
mod tests;
