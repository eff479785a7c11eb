//! The durable state of one node on a [`Disk`]: identity, hard state, log, snapshots.
//!
//! ```text
//! IDENTITY                             whose directory it is, twice; written once, by `format`
//! hs.a  hs.b                           the hard state (Figure 2), two copies of two generations
//! wal/seg-<first index>-<epoch>.wal    the log, in segments of fixed size
//! snap/<index>-<term>.manifest .data   snapshots (§7)
//! ```
//!
//! Storage executes [`Work`] in the order in which the replica issued it and answers with
//! [`Done`]. Entries that are appended wait in memory until [`Storage::sync`], which writes them
//! as one batch with one sync (group commit); all else is durable when [`Storage::write`] returns.
//! A changed hard state is made durable after what was accepted before it and before what comes
//! after it, so what a crash leaves is always a beginning of the persist stream.
//!
//! What a crash can leave, [`Storage::open`] repairs. What it cannot leave is damage: an error that
//! names the file, before anything has been changed. (One limit: rot in the batch that was written
//! last may pass for a crash; `scan.rs` says exactly when.) What is deliberately absent: healing of
//! damaged entries from peers, and any retry. After a failed write or sync, what is on the disk is
//! unknown (the kernel may have dropped the pages and call them clean), so nothing is accepted
//! until the storage is opened again.

mod batch;
mod error;
mod frame;
mod hard_state;
mod identity;
mod load;
mod log;
mod options;
mod record;
mod recover;
mod ring;
mod scan;
mod segment;
mod snapshots;
pub mod work;

use std::sync::Arc;

use raft_core::{
    EntryId, HardState, Index, Membership, PersistBatch, PersistSeq, RecoveredState, Slot,
    SnapshotMeta,
};

pub use error::StorageError;
pub use identity::Identity;
pub use options::StorageOptions;

use error::InFile;
use hard_state::{HardStateFiles, LogMark};
use identity::IdentityFile;
use log::Log;
use recover::FoundLog;
use snapshots::Snapshots;
use work::{Done, Work};

use crate::disk::Disk;

/// The durable state of one node.
#[derive(Debug)]
pub struct Storage<D: Disk> {
    disk: D,
    hard_state: HardStateFiles<D::File>,
    log: Log<D::File>,
    snapshots: Snapshots<D::File>,
    /// Committed, by the log as it stands here: the commit index of an earlier step.
    commit: Index,
    /// The commit index of the step whose batches are arriving. It may count entries of a batch
    /// that has not come yet, where the log still has others.
    commit_next: Index,
    /// The prefix that may go, at the next sync.
    compact_to: Index,
    /// The last batch accepted, unless a sync has already confirmed it.
    accepted: Option<PersistSeq>,
    poisoned: bool,
}

/// What was found on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose directory it is.
    pub identity: Identity,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The newest snapshot; `None` before the first batch, not even genesis is durable.
    pub snapshot: Option<Arc<SnapshotMeta>>,
    /// The log after `before`, consecutive. It may begin before the end of the snapshot.
    pub slots: Vec<Slot>,
    /// The entry before the first slot.
    pub before: EntryId,
    /// The highest index that is known to be committed; at most the last one found.
    pub commit: Index,
}

impl Found {
    /// What the core starts from: what was found, or genesis with these founders if nothing is
    /// durable yet. The state machine is in memory, so nothing has been applied.
    #[must_use]
    pub fn into_state(self, founders: &Membership) -> RecoveredState {
        let genesis = RecoveredState::genesis(founders.clone());
        let Some(snapshot) = self.snapshot else {
            return RecoveredState { hard_state: self.hard_state, ..genesis };
        };
        RecoveredState {
            hard_state: self.hard_state,
            snapshot,
            slots: self.slots,
            before: self.before,
            commit: self.commit,
            founding: false,
            ..genesis
        }
    }
}

impl<D: Disk> Storage<D> {
    /// Makes an empty directory the data directory of `identity`. An explicit act: a node that
    /// lost its directory must not start as if it were new.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`], or whatever the disk reports. A directory whose formatting was
    /// interrupted is not empty and no data directory; remove what is in it.
    pub fn format(disk: &mut D, identity: Identity) -> Result<(), StorageError> {
        if let Some(file) = disk.list("").in_file("")?.into_iter().next() {
            return Err(StorageError::NotEmpty { file });
        }
        for dir in [segment::DIR, snapshots::DIR] {
            disk.create_dir(dir).in_file(dir)?;
        }
        HardStateFiles::format(disk)?;
        disk.sync_dir("").in_file("")?;
        // Its name is what makes the directory a data directory, so it comes last.
        identity::create(disk, &identity)
    }

    /// Opens a data directory, of `expect` if it is given, and makes durable what it found.
    ///
    /// # Errors
    /// The directory is missing something, belongs to somebody else, was written by a later
    /// version, or is damaged; each names the file. Or whatever the disk reports.
    pub fn open(
        mut disk: D,
        options: StorageOptions,
        expect: Option<Identity>,
    ) -> Result<(Self, Found), StorageError> {
        options.validate()?;
        let (identity_file, identity) = IdentityFile::open(&mut disk, expect)?;
        let mut hard_state = HardStateFiles::open(&mut disk)?;
        let snapshots = Snapshots::open(&mut disk, options.chunk_bytes)?;
        let snapshot = snapshots.newest().cloned();
        let end = snapshot.as_ref().map_or(EntryId::default(), |snapshot| snapshot.last);
        let log = FoundLog::read(&mut disk, end, hard_state.files())?;
        check(&hard_state, &log, snapshot.as_deref())?;
        let record = *hard_state.record();
        let commit = log.commit().max(record.commit);
        identity_file.repair(&mut disk, &identity)?;
        hard_state.settle(&mut disk)?;
        snapshots.adopt(&mut disk)?;
        if !log.continues(end) && record.log_through > end.index {
            // The log goes; from here on it is not missed.
            let log_through = end.index;
            let mark = LogMark { log_through, commit, log_epoch: record.log_epoch };
            hard_state.write(&mut disk, record.state, mark)?;
        }
        let (log, slots) = log.adopt(&mut disk, options, snapshot.as_deref())?;
        let last = log.durable().index;
        let (before, commit) = (log.before, commit.min(last));
        // From here on, all that was found is missed if it goes.
        let mark = LogMark { log_through: last, commit, log_epoch: log.epoch };
        hard_state.write(&mut disk, record.state, mark)?;
        let found = Found { identity, hard_state: record.state, snapshot, slots, before, commit };
        let storage = Self {
            disk,
            hard_state,
            log,
            snapshots,
            commit,
            commit_next: commit,
            compact_to: Index::ZERO,
            accepted: None,
            poisoned: false,
        };
        Ok((storage, found))
    }

    /// Executes a piece of work. What completes at once is answered; a batch of the persist stream
    /// is confirmed by [`Storage::sync`].
    ///
    /// # Errors
    /// A disk call failed or the work is out of order: the storage refuses everything from then
    /// on. A snapshot that cannot be read is no error, its answer says so.
    pub fn write(&mut self, work: Work) -> Result<Option<Done>, StorageError> {
        self.guarded(|storage| storage.execute(work))
    }

    /// Makes every accepted batch durable; `None` if there is none to confirm.
    ///
    /// # Errors
    /// A disk call failed: the storage refuses everything from then on. A sync is never retried.
    pub fn sync(&mut self) -> Result<Option<Done>, StorageError> {
        self.guarded(|storage| {
            storage.flush()?;
            let snapshot = storage.snapshots.newest().map_or(Index::ZERO, |meta| meta.last.index);
            storage.log.compact(&mut storage.disk, storage.compact_to.min(snapshot))?;
            Ok(storage.accepted.take().map(|seq| Done::Persisted { seq }))
        })
    }

    /// The disk that it works on.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk that it works on, to be looked at or armed; nothing may be written past storage.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Gives the disk back. What was not synced is not written.
    pub fn into_disk(self) -> D {
        self.disk
    }

    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let result = work(self);
        self.poisoned = result.is_err();
        result
    }

    fn execute(&mut self, work: Work) -> Result<Option<Done>, StorageError> {
        let disk = &mut self.disk;
        Ok(Some(match work {
            Work::Persist { batch, commit } => {
                self.persist(batch, commit)?;
                return Ok(None);
            }
            Work::SaveSnapshot { snapshot, data } => {
                self.snapshots.save(disk, &snapshot, &data)?;
                Done::SnapshotSaved { snapshot }
            }
            Work::LoadSnapshot { snapshot } => {
                let data = self.snapshots.load(disk, snapshot.last);
                Done::SnapshotLoaded { snapshot, data }
            }
            Work::Load(request) => {
                let entries = self.log.load(disk, &request);
                Done::Loaded { request, entries }
            }
            Work::ReadChunk(request) => {
                let chunk = self.snapshots.chunk(disk, &request);
                Done::ChunkRead { request, chunk }
            }
            Work::StageChunk { id, snapshot, offset, data, done } => {
                let staged = self.snapshots.stage(disk, snapshot.last, offset, &data, done)?;
                Done::ChunkStaged { id, staged }
            }
        }))
    }

    fn persist(&mut self, batch: PersistBatch, commit: Index) -> Result<(), StorageError> {
        let PersistBatch { seq, hard_state, install, truncate_from, heal, append, compact_to } =
            batch;
        if commit > self.commit_next {
            self.commit = core::mem::replace(&mut self.commit_next, commit);
        }
        if let Some(hard_state) = hard_state
            && hard_state != self.hard_state.record().state
        {
            self.flush()?;
            self.write_hard_state(hard_state, self.log.durable().index)?;
        }
        if let Some(snapshot) = install {
            self.flush()?;
            self.install(&snapshot)?;
        }
        if let Some(from) = truncate_from {
            self.truncate(from)?;
        }
        if !heal.is_empty() {
            return Err(StorageError::OutOfOrder { what: "nothing was found damaged" });
        }
        self.log.append(append)?;
        self.compact_to = self.compact_to.max(compact_to.unwrap_or(Index::ZERO));
        self.accepted = Some(seq);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if !self.log.memberships.is_empty() {
            ring::keep(&mut self.disk, self.hard_state.files(), &self.log.memberships)?;
            self.log.memberships.clear();
        }
        self.log.flush(&mut self.disk, self.commit, self.hard_state.record().generation)
    }

    fn write_hard_state(
        &mut self,
        state: HardState,
        log_through: Index,
    ) -> Result<(), StorageError> {
        let commit = self.commit.min(log_through);
        let mark = LogMark { log_through, commit, log_epoch: self.log.epoch };
        self.hard_state.write(&mut self.disk, state, mark)
    }

    fn install(&mut self, snapshot: &Arc<SnapshotMeta>) -> Result<(), StorageError> {
        let last = snapshot.last;
        self.snapshots.install(&mut self.disk, snapshot)?;
        if self.log.id(last.index) == Some(last) {
            return self.log.compact(&mut self.disk, last.index);
        }
        self.give_up(last.index)?;
        self.log.reset(&mut self.disk, last)
    }

    fn truncate(&mut self, from: Index) -> Result<(), StorageError> {
        if from > self.log.end.index {
            return Ok(());
        }
        self.flush()?;
        if from <= self.commit {
            return Err(StorageError::OutOfOrder { what: "a truncation keeps what is committed" });
        }
        self.give_up(from.prev())?;
        self.log.truncate(&mut self.disk, from)
    }

    /// Before entries after `through` go: the hard state stops vouching for them. Otherwise they
    /// would be missed after a restart.
    fn give_up(&mut self, through: Index) -> Result<(), StorageError> {
        let record = *self.hard_state.record();
        if record.log_through <= through {
            return Ok(());
        }
        self.write_hard_state(record.state, through)
    }
}

/// Compares what the files say about each other. A crash leaves no contradiction.
fn check<F>(
    hard_state: &HardStateFiles<F>,
    log: &FoundLog<F>,
    snapshot: Option<&SnapshotMeta>,
) -> Result<(), StorageError> {
    let record = hard_state.record();
    if snapshot.is_none() && !log.is_absent() {
        // Genesis is installed, as a snapshot, before the first entry is written.
        return Err(StorageError::damaged(snapshots::DIR, "the log has no snapshot to begin from"));
    }
    let end = snapshot.map_or(Index::ZERO, |snapshot| snapshot.last.index);
    let reach = log.last().index.max(end);
    if record.log_through.max(record.commit) > reach || log.epoch < record.log_epoch {
        let what = format!("it was durable through {}, and ends at {reach}", record.log_through);
        return Err(StorageError::damaged(segment::DIR, what));
    }
    if log.generation() > record.generation {
        let what = "the log was written under a later hard state than the one that is found";
        return Err(StorageError::damaged(hard_state::FILES[0], what));
    }
    log.cut().map_or(Ok(()), Err)
}
