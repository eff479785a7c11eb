//! Scripts of storage work, and what a crash in the middle of one may leave.
//!
//! [`Script`] plays the core: it issues batches that follow each other and notes every state that
//! the durable state passes through: after the hard state, the installation, the truncation and
//! each entry of every batch. A crash may leave any of the states from the last one that was
//! confirmed to the last one of the work under way, and nothing else.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    ChunkId, Entries, EntryId, HardState, Incarnation, Index, LoadPurpose, LoadRequest, Member,
    Membership, Payload, PersistBatch, PersistSeq, Slot, SnapshotMeta, Term,
};
use raft_replica::disk::Disk;
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Found, Identity, Storage, StorageError};
use twox_hash::XxHash3_64;

/// The durable state, as far as a node can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Durable {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<EntryId>,
    /// The entries after the snapshot; without a payload where it is damaged.
    pub(crate) log: Vec<(EntryId, Option<Payload>)>,
}

impl Durable {
    /// What was found on a disk; what is cold is loaded, and must be there.
    pub(crate) fn found<D: Disk>(storage: &mut Storage<D>, found: &Found) -> Self {
        let snapshot = found.snapshot.as_ref().map(|snapshot| snapshot.last);
        let end = snapshot.map_or(Index::ZERO, |snapshot| snapshot.index);
        let (mut log, mut before) = (Vec::with_capacity(found.slots.len()), found.before);
        for slot in &found.slots {
            let id = slot.id();
            let payload = match slot {
                Slot::Resident { payload, .. } => Some(payload.clone()),
                Slot::Damaged { .. } => None,
                Slot::Cold { .. } => Some(load_one(storage, before, id)),
            };
            if id.index > end {
                log.push((id, payload));
            }
            before = id;
        }
        Self { hard_state: found.hard_state, snapshot, log }
    }

    /// How many payloads are not there.
    pub(crate) fn damaged(&self) -> usize {
        self.log.iter().filter(|(_, payload)| payload.is_none()).count()
    }

    /// Whether this may be found where `state` was reached and `certain` is confirmed: the same, but
    /// that payloads which were never confirmed may be damaged.
    pub(crate) fn is_like(&self, state: &Self, certain: &Self) -> bool {
        let may_be_damaged = |id: &EntryId| {
            !certain.log.iter().any(|(other, payload)| other == id && payload.is_some())
        };
        (self.hard_state, self.snapshot, self.log.len())
            == (state.hard_state, state.snapshot, state.log.len())
            && self.log.iter().zip(&state.log).all(|((id, payload), (other, expected))| {
                id == other && (payload == expected || (payload.is_none() && may_be_damaged(id)))
            })
    }

    pub(crate) fn last(&self) -> EntryId {
        let snapshot = self.snapshot.unwrap_or_default();
        self.log.last().map_or(snapshot, |(id, _)| *id)
    }

    fn install(&mut self, snapshot: EntryId) {
        let keeps = self.log.iter().any(|(id, _)| *id == snapshot);
        self.log.retain(|(id, _)| keeps && id.index > snapshot.index);
        self.snapshot = Some(snapshot);
    }
}

/// One call of storage.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write(Work),
    Sync,
    Rest,
    /// A round, and a part of the next.
    Scrub,
}

impl Step {
    /// Does it.
    pub(crate) fn take<D: Disk>(
        self,
        storage: &mut Storage<D>,
    ) -> Result<Option<Done>, StorageError> {
        match self {
            Self::Write(work) => storage.write(work),
            Self::Sync => storage.sync(),
            Self::Rest => storage.rest().map(|()| None),
            Self::Scrub => storage.scrub(1 << 20).map(|_| None),
        }
    }
}

/// A sequence of calls, and the states that it passes through.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    /// For each step, how many states there are once it has begun and may have done anything.
    reached: Vec<usize>,
    states: Vec<Durable>,
    /// For each step, the number of the state that is certain once it has returned.
    certain: Vec<usize>,
    confirmed: usize,
    seq: PersistSeq,
    commit: Index,
}

pub(crate) fn founders() -> Membership {
    Membership::new((1..=3).map(|id| Member::new(id, 100 + id)).collect(), Vec::new()).unwrap()
}

pub(crate) fn identity() -> Identity {
    Identity {
        cluster: raft_core::ClusterId(0xc1),
        group: raft_core::GroupId(7),
        member: Member::new(1, 101),
    }
}

/// What the checksums are seeded with in the files of this node; its identity alone can be read by all.
pub(crate) fn seed(of: Identity) -> u64 {
    let words = [of.cluster.0, of.group.0, of.member.id.0];
    XxHash3_64::oneshot(&words.map(u64::to_le_bytes).concat())
}

/// The checksum of a framed record in this file of the node.
pub(crate) fn checksum(file: &str, record: &[u8]) -> [u8; 8] {
    let seed = if file.ends_with(Identity::FILE) { 0 } else { seed(identity()) };
    XxHash3_64::oneshot_with_seed(seed, record).to_le_bytes()
}

impl Script {
    /// A script that goes on from `start`.
    pub(crate) fn new(start: Durable) -> Self {
        let incarnation = Incarnation(start.hard_state.incarnation.0);
        let seq = PersistSeq { incarnation, n: 0 };
        Self {
            steps: Vec::new(),
            reached: Vec::new(),
            states: vec![start],
            certain: Vec::new(),
            confirmed: 0,
            seq,
            commit: Index::ZERO,
        }
    }

    /// A script that founds a node: the first batch installs genesis.
    pub(crate) fn founding() -> Self {
        let empty = Durable { hard_state: HardState::default(), snapshot: None, log: Vec::new() };
        Self::founding_after(empty)
    }

    /// The same where an earlier attempt may have left its hard state.
    pub(crate) fn founding_after(start: Durable) -> Self {
        let mut script = Self::new(start);
        let hard_state = script.now().hard_state;
        let genesis = raft_core::RecoveredState::genesis(founders()).snapshot;
        script.persist(|batch| {
            batch.hard_state = Some(HardState { incarnation: Incarnation(1), ..hard_state });
            batch.install = Some(genesis);
        });
        script
    }

    pub(crate) fn now(&self) -> &Durable {
        self.states.last().unwrap()
    }

    /// Issues a batch.
    pub(crate) fn persist(&mut self, fill: impl FnOnce(&mut PersistBatch)) -> &mut Self {
        self.seq.n += 1;
        let mut batch = PersistBatch {
            seq: self.seq,
            hard_state: None,
            install: None,
            truncate_from: None,
            heal: Vec::new(),
            append: Entries::empty(),
            compact_to: None,
        };
        fill(&mut batch);
        let mut state = self.now().clone();
        if let Some(hard_state) = batch.hard_state {
            state.hard_state = hard_state;
            self.states.push(state.clone());
        }
        if let Some(install) = &batch.install {
            state.install(install.last);
            self.states.push(state.clone());
        }
        if let Some(from) = batch.truncate_from {
            state.log.retain(|(id, _)| id.index < from);
            self.states.push(state.clone());
        }
        if !batch.heal.is_empty() {
            for entry in batch.heal.iter().flat_map(|run| run.iter()) {
                let at = state.log.iter().position(|(id, _)| *id == entry.id()).unwrap();
                state.log[at].1 = Some(entry.payload().clone());
            }
            self.states.push(state.clone());
        }
        for entry in batch.append.iter() {
            state.log.push((entry.id(), Some(entry.payload().clone())));
            self.states.push(state.clone());
        }
        let commit = self.commit;
        self.step(Step::Write(Work::Persist { batch, commit }))
    }

    /// Appends commands of these sizes in the present term.
    pub(crate) fn append(&mut self, sizes: &[usize]) -> &mut Self {
        let (last, term) = (self.now().last(), self.now().hard_state.term);
        let entries = entries(last, term, sizes);
        self.persist(|batch| batch.append = entries)
    }

    /// Drops the log from an index on and appends commands of these sizes.
    pub(crate) fn rewrite(&mut self, from: u64, sizes: &[usize]) -> &mut Self {
        let state = self.now();
        let before = state.log.iter().map(|(id, _)| *id).rfind(|id| id.index.0 < from);
        let before = before.or(state.snapshot).unwrap();
        assert_eq!(before.index.0 + 1, from, "the script truncates what is there");
        let entries = entries(before, state.hard_state.term, sizes);
        self.persist(|batch| {
            batch.truncate_from = Some(Index(from));
            batch.append = entries;
        })
    }

    /// Appends a membership with one more learner.
    pub(crate) fn membership(&mut self, learner: u64) -> &mut Self {
        let (last, term) = (self.now().last(), self.now().hard_state.term);
        let learners = vec![Member::new(learner, 100 + learner)];
        let membership = Membership::new(founders().incoming().to_vec(), learners).unwrap();
        let payload = Payload::Membership(Arc::new(membership));
        let entries = Entries::after(last, [(term, payload)]);
        self.persist(|batch| batch.append = entries)
    }

    /// Raises the term and votes, or not.
    pub(crate) fn term(&mut self, term: u64, vote: Option<u64>) -> &mut Self {
        let vote = vote.map(|id| Member::new(id, 100 + id));
        let hard_state = HardState { term: Term(term), vote, ..self.now().hard_state };
        self.persist(|batch| batch.hard_state = Some(hard_state))
    }

    /// Heals these entries.
    pub(crate) fn heal(&mut self, runs: &[Entries]) -> &mut Self {
        let runs = runs.to_vec();
        self.persist(|batch| batch.heal = runs)
    }

    pub(crate) fn sync(&mut self) -> &mut Self {
        self.confirmed = self.states.len() - 1;
        self.step(Step::Sync)
    }

    pub(crate) fn rest(&mut self) -> &mut Self {
        self.step(Step::Rest)
    }

    pub(crate) fn scrub(&mut self) -> &mut Self {
        self.step(Step::Scrub)
    }

    /// From the next batch on, entries through here are known to be committed.
    pub(crate) fn commit(&mut self, index: u64) -> &mut Self {
        self.commit = self.commit.max(Index(index));
        self
    }

    /// Saves a snapshot at an entry that is durable, then lets the log before it go.
    pub(crate) fn snapshot(&mut self, index: u64, data: &[u8]) -> &mut Self {
        self.sync();
        let id = |(id, _): &(EntryId, Option<Payload>)| (id.index.0 == index).then_some(*id);
        let last = self.now().log.iter().find_map(id).unwrap();
        let mut state = self.now().clone();
        state.install(last);
        self.states.push(state);
        self.confirmed = self.states.len() - 1;
        let data = Bytes::copy_from_slice(data);
        self.step(Step::Write(Work::SaveSnapshot { snapshot: meta(last), data }));
        self.persist(|batch| batch.compact_to = Some(Index(index)))
    }

    /// Receives a snapshot in parts of this size and installs it.
    pub(crate) fn receive(&mut self, last: EntryId, data: &[u8], part: usize) -> &mut Self {
        let parts = data.chunks(part).count();
        for (number, bytes) in data.chunks(part).enumerate() {
            let offset = (number * part) as u64;
            let (data, done) = (Bytes::copy_from_slice(bytes), number + 1 == parts);
            let (id, snapshot) = (ChunkId::default(), meta(last));
            self.step(Step::Write(Work::StageChunk { id, snapshot, offset, data, done }));
        }
        self.persist(|batch| batch.install = Some(meta(last)))
    }

    fn step(&mut self, step: Step) -> &mut Self {
        self.steps.push(step);
        self.reached.push(self.states.len());
        self.certain.push(self.confirmed);
        self
    }

    /// Executes the script until the end or an error; gives the states that are allowed after it.
    pub(crate) fn run<D: Disk>(
        &self,
        storage: &mut Storage<D>,
    ) -> Result<(), (usize, StorageError)> {
        for (number, step) in self.steps.iter().enumerate() {
            let answer = step.clone().take(storage).map_err(|error| (number, error))?;
            if let Some(Done::Failed) = answer {
                panic!("storage answers with an error instead");
            }
        }
        Ok(())
    }

    /// If step `number` stages a part of a snapshot, the steps that staged the parts before it.
    pub(crate) fn restart_of_receive(&self, number: usize) -> Vec<usize> {
        let is_part = |step: &Step| matches!(step, Step::Write(Work::StageChunk { .. }));
        if !is_part(&self.steps[number]) {
            return Vec::new();
        }
        let parts = self.steps[..number].iter().rev().take_while(|step| is_part(step)).count();
        (number - parts..number).collect()
    }

    /// What may be found after a crash in step `number`.
    pub(crate) fn allowed(&self, number: usize) -> &[Durable] {
        let certain = if number == 0 { 0 } else { self.certain[number - 1] };
        &self.states[certain..self.reached[number]]
    }

    /// What may be found after a crash behind the last step.
    pub(crate) fn unconfirmed(&self) -> &[Durable] {
        &self.states[self.confirmed..]
    }

    /// The highest commit index that any batch mentions.
    pub(crate) fn committed(&self) -> Index {
        self.commit
    }
}

pub(crate) fn meta(last: EntryId) -> Arc<SnapshotMeta> {
    Arc::new(SnapshotMeta { last, membership: founders() })
}

/// The entry `id`, which follows `before` and is said to be on the disk.
fn load_one<D: Disk>(storage: &mut Storage<D>, before: EntryId, id: EntryId) -> Payload {
    let (purpose, through) = (LoadPurpose::Apply, id.index);
    let request = LoadRequest { purpose, after: before, through, bytes_max: 1 };
    match storage.write(Work::Load(request)).unwrap() {
        Some(Done::Loaded { entries: Some(entries), .. }) => {
            assert_eq!(entries[0].id(), id, "what is cold is what its identity says");
            entries[0].payload().clone()
        }
        other => panic!("{id} is cold, but {other:?}"),
    }
}

/// Commands of these sizes after `before`; a size of 0 is a no-op. Their bytes tell them apart.
pub(crate) fn entries(before: EntryId, term: Term, sizes: &[usize]) -> Entries {
    let payload = |(number, size): (usize, &usize)| {
        // Never zero: zeros are what stands where a payload is missing.
        let byte = u8::try_from((before.index.0 + number as u64) % 251).unwrap();
        let byte = if byte == 0 { 251 } else { byte };
        let payload = match size {
            0 => Payload::Noop,
            size => Payload::Command(Bytes::from(vec![byte; *size])),
        };
        (term, payload)
    };
    Entries::after(before, sizes.iter().enumerate().map(payload))
}
