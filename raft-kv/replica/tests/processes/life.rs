//! What the process does that is going to be killed, and what must be left of it.
//!
//! It appends batches of entries whose bytes follow from their index, raises its term now and then,
//! makes snapshots and lets the log go; after every sync it prints what is durable. Everything that
//! it does follows from the last index, so a successor goes on where it was killed.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Chunk, Entries, EntryId, HardState, Incarnation, Index, LoadPurpose, LoadRequest, Member,
    Membership, Payload, PersistBatch, PersistSeq, RecoveredState, Slot, SnapshotMeta, Term,
};
use raft_replica::file_disk::FileDisk;
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Found, Identity, Storage, StorageOptions};

pub(crate) fn identity() -> Identity {
    Identity {
        cluster: raft_core::ClusterId(0xc1),
        group: raft_core::GroupId(7),
        member: Member::new(1, 101),
    }
}

pub(crate) fn founders() -> Membership {
    Membership::new(vec![identity().member], Vec::new()).unwrap()
}

/// A node's storage, and where it stands.
pub(crate) struct Life {
    pub(crate) storage: Storage<FileDisk>,
    pub(crate) hard_state: HardState,
    pub(crate) last: EntryId,
    seq: PersistSeq,
}

pub(crate) fn open(path: &Path) -> (Storage<FileDisk>, Found) {
    let disk = FileDisk::new(path).unwrap();
    let options = StorageOptions { resident_bytes: 4096, ..StorageOptions::small() };
    Storage::open(disk, options, Some(identity())).unwrap()
}

impl Life {
    /// Goes on where the directory stands, which is founded if it is new.
    pub(crate) fn begin(path: &Path) -> Self {
        let (storage, found) = open(path);
        let last = found.slots.last().map_or(found.before, Slot::id);
        let incarnation = Incarnation(found.hard_state.incarnation.0 + 1);
        let hard_state = HardState { incarnation, ..found.hard_state };
        let seq = PersistSeq { incarnation, n: 0 };
        let mut life = Self { storage, hard_state, last, seq };
        let genesis = RecoveredState::genesis(founders()).snapshot;
        let is_new = found.snapshot.is_none();
        life.persist(|batch| {
            batch.hard_state = Some(hard_state);
            batch.install = is_new.then(|| genesis.clone());
        });
        if is_new {
            life.last = genesis.last;
        }
        life.sync();
        life
    }

    pub(crate) fn persist(&mut self, fill: impl FnOnce(&mut PersistBatch)) {
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
        let done = self.storage.write(Work::Persist { batch, commit: Index::ZERO }).unwrap();
        assert_eq!(done, None, "a batch is durable once it is synced");
    }

    pub(crate) fn sync(&mut self) {
        let done = self.storage.sync().unwrap();
        assert!(matches!(done, Some(Done::Persisted { seq }) if seq == self.seq), "{done:?}");
    }

    /// Appends so many entries.
    pub(crate) fn append(&mut self, count: u64) {
        let first = self.last.index.0 + 1;
        let payloads = (first..first + count).map(|index| (self.hard_state.term, payload(index)));
        let entries = Entries::after(self.last, payloads);
        self.last = entries.last().unwrap().id();
        self.persist(|batch| batch.append = entries);
    }

    pub(crate) fn raise_term(&mut self) {
        self.hard_state.term = Term(self.hard_state.term.0 + 1);
        let hard_state = self.hard_state;
        self.persist(|batch| batch.hard_state = Some(hard_state));
    }

    /// Makes a snapshot of everything and lets the log go.
    pub(crate) fn snapshot(&mut self) {
        let snapshot = Arc::new(SnapshotMeta { last: self.last, membership: founders() });
        let data = image(self.last.index);
        let save = Work::SaveSnapshot { snapshot: snapshot.clone(), data };
        assert_eq!(self.storage.write(save).unwrap(), Some(Done::SnapshotSaved { snapshot }));
        let through = Index(self.last.index.0.saturating_sub(50));
        self.persist(|batch| batch.compact_to = Some(through));
        self.sync();
    }
}

/// The payload of the entry at this index.
pub(crate) fn payload(index: u64) -> Payload {
    let length = usize::try_from(index * 7919 % 700).unwrap();
    let byte = u8::try_from(index % 255).unwrap() + 1;
    if index.is_multiple_of(11) {
        Payload::Noop
    } else {
        Payload::Command(Bytes::from(vec![byte; length]))
    }
}

/// The bytes of a snapshot at this index.
pub(crate) fn image(index: Index) -> Bytes {
    let byte = u8::try_from(index.0 % 255).unwrap();
    Bytes::from(vec![byte; 9000])
}

/// Works until it is killed, and says what is durable.
pub(crate) fn live(path: &Path) {
    let mut life = Life::begin(path);
    let mut out = std::io::stdout();
    loop {
        let next = life.last.index.0 + 1;
        if next.is_multiple_of(5) {
            life.raise_term();
        }
        life.append(1 + next % 4);
        life.append(1 + next % 3);
        life.sync();
        let (index, term) = (life.last.index.0, life.hard_state.term.0);
        if writeln!(out, "{index} {term}").and_then(|()| out.flush()).is_err() {
            // Who listened is gone.
            return;
        }
        if next.is_multiple_of(9) {
            life.snapshot();
        }
    }
}

/// Reads every entry that is there, and the snapshot, and checks the bytes.
pub(crate) fn check(storage: &mut Storage<FileDisk>, found: &Found) -> u64 {
    assert_eq!(found.report.damaged().count(), 0, "{}", found.report);
    let last = found.slots.last().map_or(found.before, Slot::id);
    let mut before = found.before;
    let mut read = 0;
    while before.index < last.index {
        let (purpose, through) = (LoadPurpose::Apply, last.index);
        let request = LoadRequest { purpose, after: before, through, bytes_max: 64 << 10 };
        let done = storage.write(Work::Load(request)).unwrap();
        let Some(Done::Loaded { entries: Some(entries), .. }) = done else { panic!("{done:?}") };
        for entry in entries.iter() {
            assert_eq!(*entry.payload(), payload(entry.index().0), "{}", entry.id());
            read += 1;
        }
        before = entries.last().unwrap().id();
    }
    let snapshot = found.snapshot.clone().unwrap();
    if snapshot.last.index > Index::ZERO {
        let (offset, bytes_max) = (0, usize::MAX);
        let load = Work::LoadSnapshot { snapshot: snapshot.clone(), offset, bytes_max };
        let done = storage.write(load).unwrap();
        let chunk = Some(Chunk { data: image(snapshot.last.index), done: true });
        assert_eq!(done, Some(Done::SnapshotLoaded { snapshot, offset, chunk }));
    }
    read
}
