//! The gate against a naive one that writes every batch to a disk of its own and compares logs.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{Gate, Reply};
use crate::durable::{HardState, PersistBatch, SnapshotMeta};
use crate::effect::Effect;
use crate::entry::{Entries, Payload};
use crate::membership::Membership;
use crate::message::{AppendResult, Envelope, Rpc};
use crate::types::{
    ClusterId, EntryId, Epoch, GroupId, Incarnation, Index, Member, PersistSeq, Round, Session,
    Span, Term,
};

/// What a node does to its gate; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Act {
    /// A new term.
    HardState,
    /// The hard state promises more: what waits goes on waiting, for this too.
    Promise,
    Append(usize),
    /// Entries go that no peer was told about.
    Truncate(usize),
    /// A snapshot this far behind the end replaces the log.
    Install(usize),
    /// A step ends.
    Flush,
    /// This many batches become durable and are told of at once.
    Persisted(usize),
    /// A message for one of three peers: a heartbeat, or the answer to one.
    Send(u64, bool),
    /// An acknowledgement for one of three peers.
    Acknowledge(u64, usize),
}

/// A log whose entries are told apart by their terms, and the disk that it is written to.
struct Naive {
    gate: Gate,
    incarnation: Incarnation,
    hard_state: HardState,
    /// The log with all that a snapshot covers; each entry is one of a kind.
    log: Vec<EntryId>,
    /// What the batches that are durable have made of the disk.
    disk: Vec<EntryId>,
    /// Batches on their way, each with the log that a snapshot in it stands for.
    issued: Vec<(PersistBatch, Vec<EntryId>)>,
    /// The log that a staged snapshot stands for.
    installed: Vec<EntryId>,
    /// The batch that the present hard state is in, counted from 1; and how many are durable.
    hard_state_in: u64,
    durable: u64,
    count: u64,
    /// What waits for the hard state: one for each peer and kind, oldest first.
    waiting: Vec<Envelope>,
    /// What each peer may be told at most, and was told last.
    verified: [usize; 3],
    claimed: [usize; 3],
    /// Through here the log must not be cut.
    kept: usize,
    marks: u64,
}

fn member(id: u64) -> Member {
    Member::new(id, id)
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::HardState),
        1 => Just(Act::Promise),
        4 => (1usize..4).prop_map(Act::Append),
        2 => (0usize..6).prop_map(Act::Truncate),
        1 => (0usize..6).prop_map(Act::Install),
        4 => Just(Act::Flush),
        4 => (1usize..4).prop_map(Act::Persisted),
        2 => (0u64..3, any::<bool>()).prop_map(|(to, is_answer)| Act::Send(to, is_answer)),
        3 => (0u64..3, 0usize..6).prop_map(|(to, back)| Act::Acknowledge(to, back)),
    ]
}

impl Naive {
    fn new() -> Self {
        let incarnation = Incarnation(1);
        Self {
            gate: Gate::new(incarnation, Index::ZERO, vec![]),
            incarnation,
            hard_state: HardState { incarnation, ..HardState::default() },
            log: Vec::new(),
            disk: Vec::new(),
            issued: Vec::new(),
            installed: Vec::new(),
            hard_state_in: 0,
            durable: 0,
            count: 0,
            waiting: Vec::new(),
            verified: [0; 3],
            claimed: [0; 3],
            kept: 0,
            marks: 0,
        }
    }

    fn last(&self) -> EntryId {
        self.log.last().copied().unwrap_or_default()
    }

    /// How far the log and the disk agree.
    fn agreed(&self) -> usize {
        self.log.iter().zip(&self.disk).take_while(|(mine, durable)| mine == durable).count()
    }

    fn is_hard_state_durable(&self) -> bool {
        self.hard_state_in <= self.durable
    }

    fn envelope(&self, to: Member, rpc: Rpc) -> Envelope {
        let HardState { term, incarnation, .. } = self.hard_state;
        let (cluster, group, from) = (ClusterId(1), GroupId(1), member(9));
        Envelope { cluster, group, from, to, epoch: Epoch::ZERO, incarnation, term, rpc }
    }

    /// Entries that nobody has written before.
    fn fresh(&mut self, count: usize) -> Entries {
        let items = (0..count).map(|_| {
            self.marks += 1;
            (Term(self.marks), Payload::Noop)
        });
        let items: Vec<_> = items.collect();
        Entries::after(self.last(), items)
    }

    fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        let mut effects = Vec::new();
        match act {
            Act::HardState => self.enter_term(),
            Act::Promise => {
                self.gate.stage_amended(self.hard_state);
                self.hard_state_in = self.count + 1;
            }
            Act::Append(count) => {
                let entries = self.fresh(*count);
                self.log.extend(entries.iter().map(|entry| entry.id()));
                self.gate.stage_append(entries, &mut effects);
            }
            Act::Truncate(back) => {
                let to = self.log.len().saturating_sub(*back).max(self.kept);
                if to < self.log.len() {
                    self.log.truncate(to);
                    self.gate.stage_truncate(Index(to as u64 + 1), &mut effects);
                }
            }
            Act::Install(back) => self.install(*back, &mut effects),
            Act::Flush => self.gate.flush(&mut effects),
            Act::Persisted(count) => {
                self.take(&mut effects)?;
                return self.persisted(*count);
            }
            Act::Send(to, is_answer) => return self.send(*to, *is_answer),
            Act::Acknowledge(to, back) => return self.acknowledge(*to, *back),
        }
        self.take(&mut effects)
    }

    fn enter_term(&mut self) {
        self.hard_state.term = self.hard_state.term.next();
        self.gate.stage_hard_state(self.hard_state);
        self.hard_state_in = self.count + 1;
        self.waiting.clear();
        (self.verified, self.claimed) = ([0; 3], [0; 3]);
    }

    /// A snapshot of another leader's log, which agrees with the one here as far as it is kept.
    fn install(&mut self, back: usize, effects: &mut Vec<Effect>) {
        let shared = self.log.len().saturating_sub(back).max(self.kept);
        self.log.truncate(shared);
        let entries = self.fresh(2);
        self.log.extend(entries.iter().map(|entry| entry.id()));
        self.kept = self.log.len();
        let snapshot = SnapshotMeta { last: self.last(), membership: Membership::default() };
        let shared = Some(Index(shared as u64));
        self.gate.stage_install(snapshot.into(), shared, effects);
        self.installed.clone_from(&self.log);
    }

    fn send(&mut self, to: u64, is_answer: bool) -> Result<(), TestCaseError> {
        let (session, round, commit) = (Session(1), Round(self.marks), Index::ZERO);
        self.marks += 1;
        let rpc = if is_answer {
            Rpc::HeartbeatResponse { session, round }
        } else {
            Rpc::Heartbeat { session, round, commit, lease: Span(0) }
        };
        let envelope = self.envelope(member(to), rpc);
        let mut effects = Vec::new();
        self.gate.send(|| envelope.clone(), &mut effects);
        if self.is_hard_state_durable() {
            prop_assert_eq!(effects, vec![Effect::Send(envelope)]);
            return Ok(());
        }
        prop_assert_eq!(effects, Vec::new());
        let (to, kind) = (envelope.to, envelope.rpc.kind());
        self.waiting.retain(|other| other.to != to || other.rpc.kind() != kind);
        self.waiting.push(envelope);
        Ok(())
    }

    fn acknowledge(&mut self, to: u64, back: usize) -> Result<(), TestCaseError> {
        let verified = self.log.len().saturating_sub(back);
        let peer = usize::try_from(to).expect("one of three");
        self.verified[peer] = self.verified[peer].max(verified);
        self.kept = self.kept.max(verified);
        let reply = Reply { to: member(to), session: Session(1), round: Round(0) };
        let hard_state = self.hard_state;
        let wrap = wrap(hard_state);
        let mut effects = Vec::new();
        self.gate.acknowledge(reply, Index(verified as u64), wrap, &mut effects);
        self.hear(&effects)
    }

    fn persisted(&mut self, count: usize) -> Result<(), TestCaseError> {
        let count = count.min(self.issued.len());
        for (batch, installed) in self.issued.drain(..count) {
            write(&mut self.disk, &batch, installed);
            self.durable += 1;
        }
        let seq = PersistSeq { incarnation: self.incarnation, n: self.durable };
        let wrap = wrap(self.hard_state);
        let mut effects = Vec::new();
        prop_assert!(self.gate.on_persisted(seq, wrap, &mut effects), "it was issued");
        let mut expected = Vec::new();
        if self.is_hard_state_durable() {
            expected.append(&mut self.waiting);
        }
        let released: Vec<Effect> = effects.drain(..expected.len()).collect();
        let expected: Vec<Effect> = expected.into_iter().map(Effect::Send).collect();
        prop_assert_eq!(released, expected, "exactly what waited for the hard state");
        self.hear(&effects)
    }

    /// Acknowledgements claim no more than the disk has and was verified.
    fn hear(&mut self, effects: &[Effect]) -> Result<(), TestCaseError> {
        for effect in effects {
            let Effect::Send(Envelope { to, rpc, .. }) = effect else {
                return Err(TestCaseError::fail("a gate only sends here"));
            };
            let Rpc::AppendEntriesResponse { result: AppendResult::Matched { index }, .. } = rpc
            else {
                return Err(TestCaseError::fail("nothing else waits like this"));
            };
            let index = usize::try_from(index.0).expect("a small index");
            let peer = usize::try_from(to.id.0).expect("one of three");
            prop_assert!(self.is_hard_state_durable());
            prop_assert!(index <= self.agreed(), "the disk agrees through {}", self.agreed());
            prop_assert!(index <= self.verified[peer]);
            self.claimed[peer] = self.claimed[peer].max(index);
        }
        Ok(())
    }

    /// What was handed to the host, and whether the gate knows what is durable.
    fn take(&mut self, effects: &mut Vec<Effect>) -> Result<(), TestCaseError> {
        for effect in effects.drain(..) {
            let Effect::Persist(batch) = effect else {
                return Err(TestCaseError::fail("only batches leave here"));
            };
            self.count += 1;
            prop_assert_eq!(batch.seq.n, self.count, "batches are numbered");
            self.issued.push((batch, self.installed.clone()));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.gate.durable_index(), Index(self.agreed() as u64));
        prop_assert_eq!(self.gate.is_hard_state_durable(), self.is_hard_state_durable());
        prop_assert_eq!(self.gate.staged_seq().n, self.count + 1);
        // One that is only staged counts as well.
        let has_bytes = |install: &Option<Arc<SnapshotMeta>>| {
            install.as_ref().is_some_and(|snapshot| snapshot.last.index > Index::ZERO)
        };
        let is_issued = self.issued.iter().any(|(batch, _)| has_bytes(&batch.install));
        let is_staged = has_bytes(&self.gate.staged.install);
        prop_assert_eq!(self.gate.is_installing(), is_issued || is_staged);
        Ok(())
    }
}

fn wrap(hard_state: HardState) -> impl Fn(Member, Rpc) -> Envelope {
    let HardState { term, incarnation, .. } = hard_state;
    let (cluster, group, from, epoch) = (ClusterId(1), GroupId(1), member(9), Epoch::ZERO);
    move |to, rpc| Envelope { cluster, group, from, to, epoch, incarnation, term, rpc }
}

/// Executes a batch: its fields in their order.
fn write(disk: &mut Vec<EntryId>, batch: &PersistBatch, installed: Vec<EntryId>) {
    if let Some(snapshot) = &batch.install {
        *disk = installed;
        disk.truncate(usize::try_from(snapshot.last.index.0).expect("a small index"));
    }
    if let Some(from) = batch.truncate_from {
        disk.truncate(usize::try_from(from.0 - 1).expect("a small index"));
    }
    disk.extend(batch.append.iter().map(|entry| entry.id()));
}

proptest! {
    /// At any time the gate knows how far log and disk agree, lets out exactly what does not wait,
    /// and once all is durable has claimed all that was verified.
    #[test]
    fn it_knows_what_is_durable_and_claims_no_more(
        acts in prop::collection::vec(act(), 0..60)
    ) {
        let mut naive = Naive::new();
        for act in &acts {
            naive.act(act)?;
            naive.check()?;
        }
        naive.act(&Act::Flush)?;
        naive.act(&Act::Persisted(usize::MAX))?;
        naive.check()?;
        prop_assert_eq!(naive.agreed(), naive.log.len());
        prop_assert_eq!(naive.claimed, naive.verified, "nothing that was verified is forgotten");
    }

    /// A word about a batch that was never issued, or of another life, changes nothing.
    #[test]
    fn it_believes_no_word_about_what_it_did_not_issue(
        acts in prop::collection::vec(act(), 0..20),
        incarnation in 0u64..3,
        ahead in 1u64..9,
    ) {
        let mut naive = Naive::new();
        for act in &acts {
            naive.act(act)?;
        }
        let before = naive.gate.clone();
        let mut effects = Vec::new();
        let unissued = PersistSeq { incarnation: naive.incarnation, n: naive.count + ahead };
        let other = PersistSeq { incarnation: Incarnation(incarnation), n: 1 };
        let wrap = wrap(naive.hard_state);
        prop_assert!(!naive.gate.on_persisted(unissued, &wrap, &mut effects));
        if other.incarnation != naive.incarnation {
            prop_assert!(!naive.gate.on_persisted(other, &wrap, &mut effects));
        }
        prop_assert!(naive.gate == before && effects.is_empty());
    }
}
