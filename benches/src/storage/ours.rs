//! Our storage with nothing around it.

use std::path::Path;

use bytes::Bytes;
use raft_core::{
    ClusterId, Entries, EntryId, GroupId, HardState, Incarnation, Index, Member, Membership,
    Payload, PersistBatch, PersistSeq, RecoveredState, Term,
};
use raft_replica::file_disk::FileDisk;
use raft_replica::storage::work::Work;
use raft_replica::storage::{Identity, Storage, StorageOptions};

use super::counted::Counted;
use super::{Appender, Shape, noise};

/// A node's storage in a fresh directory.
pub(crate) struct Ours {
    storage: Storage<Counted>,
    payloads: Vec<Payload>,
    last: EntryId,
    seq: PersistSeq,
}

pub(crate) fn identity() -> Identity {
    Identity { cluster: ClusterId(1), group: GroupId(1), member: Member::new(1, 1) }
}

impl Ours {
    pub(crate) fn new(path: &Path, shape: Shape) -> Self {
        std::fs::create_dir(path).expect("a fresh directory");
        let mut disk = Counted { disk: FileDisk::new(path).expect("it is ours"), written: 0 };
        Storage::format(&mut disk, identity()).expect("the disk works");
        let options = StorageOptions::default();
        let (storage, _) = Storage::open(disk, options, None).expect("the disk works");
        let command = Bytes::from(noise(shape.payload_bytes));
        let payloads = vec![Payload::Command(command); shape.batch];
        let members = Membership::new(vec![identity().member], Vec::new());
        let genesis = RecoveredState::genesis(members.expect("one member is a group")).snapshot;
        let seq = PersistSeq { incarnation: Incarnation(1), n: 0 };
        let mut ours = Self { storage, payloads, last: genesis.last, seq };
        let incarnation = Incarnation(1);
        ours.persist(|batch| {
            let term = Term(1);
            batch.hard_state = Some(HardState { term, incarnation, ..HardState::default() });
            batch.install = Some(genesis);
        });
        ours
    }

    fn persist(&mut self, fill: impl FnOnce(&mut PersistBatch)) {
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
        self.storage.write(Work::Persist { batch, commit: Index::ZERO }).expect("the disk works");
        self.storage.sync().expect("the disk works");
    }

    /// How many entries there are.
    pub(crate) fn last_index(&self) -> u64 {
        self.last.index.0
    }
}

impl Appender for Ours {
    fn append(&mut self) {
        let items = self.payloads.iter().map(|payload| (Term(1), payload.clone()));
        let entries = Entries::after(self.last, items);
        self.last = entries.last().expect("a batch is not empty").id();
        self.persist(|batch| batch.append = entries);
    }

    fn take_bytes(&mut self) -> u64 {
        core::mem::take(&mut self.storage.disk_mut().written)
    }
}
