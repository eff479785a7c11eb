//! The durable state of one node on a [`Disk`]: identity, hard state, log, snapshots.
//!
//! ```text
//! IDENTITY                             whose directory it is, twice; written by `format`
//! hs.a  hs.b                           the hard state (Figure 2), two copies of two generations, two
//!                                      spare pages for starts, the newest memberships a second time
//! wal/seg-<first index>-<epoch>.wal    the log, in segments of fixed size: names and payloads apart
//! wal/heal-<number>.wal                payloads that were damaged and have been given back
//! wal/lost-<first index>-<epoch>.wal   segments behind a gap, kept while the group may need them
//! snap/<index>-<term>.data             snapshots (§7): the bytes
//!                    .manifest(2)      what they are, twice
//! ```
//!
//! Every record has a checksum, and but for the identity's each is seeded with whose directory this is: what
//! another server, group or cluster has written, under whatever name, is damage of the place where it is
//! found, and so are bytes of a client that look like a record (`frame.rs`, `batch.rs`).
//!
//! Storage executes [`Work`] in the order in which the replica issued it and answers with
//! [`Done`]. Entries that are appended wait in memory until [`Storage::sync`], which writes them
//! as one batch with one sync (group commit); all else is durable when [`Storage::write`] returns.
//! A changed hard state is made durable after what was accepted before it and before what comes
//! after it, so what a crash leaves is always a beginning of the persist stream.
//!
//! # What a start makes of what it finds
//! What a crash can leave, [`Storage::open`] repairs: a torn batch is cut off, and what is there twice is
//! written again where one copy is bad. What a crash cannot leave is damage, and is never cut off
//! (protocol-aware recovery: Alagappan et al., FAST'18):
//!
//! | found | becomes |
//! |---|---|
//! | a payload that cannot be read, its name can | [`Slot::Damaged`](raft_core::Slot); healed later in its place |
//! | neither can be read, and something says that it was durable | the log ends there, `is_tail_unknown` is durable before anything else is written |
//! | the newest snapshot's bytes | an older one that the log reaches, or `is_snapshot_damaged` |
//! | hard state or identity, both copies; both heads of a segment | [`StorageError::Amnesia`], and nothing has been modified; [`Storage::readmit`] |
//!
//! The files `scan.rs`, `recover.rs` and `open.rs` say exactly what is evidence of what. Two limits are
//! known, and stated there: rot in the batch that was acknowledged last, before anything else is
//! written, may pass for a crash, unless the disk says that it cannot read ([`Storage::rest`] ends that);
//! and where an entry has lost its payload *and* both its names, what follows it is given up too, aloud
//! (whole files of it are kept aside: `lost.rs`). [`Found::report`] lists everything, [`inspect`] shows the
//! same of a directory without changing it, and [`Storage::scrub`] looks for damage while the storage runs.
//!
//! # What fails while it runs
//! After a failed write or sync, what is on the disk is unknown (the kernel may have dropped the pages
//! and call them clean; Rebello et al., ATC'20), so nothing is accepted until the storage is opened
//! again, and nothing is ever retried. No space for a *new* file is no such failure: nothing depends on
//! it yet ([`StorageError::NoSpace`]).
//!
//! Deliberately absent: threads, clocks, and asking anybody. Which peer has what is damaged here, the
//! core finds out; what it gets comes back in `PersistBatch::heal`.

mod batch;
mod error;
mod found;
mod frame;
mod gather;
mod hard_state;
mod heal;
mod identity;
mod inspect;
mod load;
mod log;
mod lost;
mod manifest;
mod open;
mod options;
mod read;
mod record;
mod recover;
mod report;
mod resident;
mod ring;
mod scan;
mod scrub;
mod segment;
mod snapshots;
mod spares;
pub mod work;

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{ChunkRequest, HardState, Index, PersistBatch, PersistSeq, SnapshotMeta};

pub use error::StorageError;
pub use found::Found;
pub use identity::Identity;
pub use inspect::{Inspection, SegmentSummary, SnapshotSummary, inspect};
pub use options::StorageOptions;
pub use report::{Finding, Report, What};
pub use scrub::ScrubStep;

use hard_state::{HardStateFiles, LogMark};
use load::LoadedEntries;
use log::Log;
use scrub::Scrub;
use segment::BatchSize;
use snapshots::Snapshots;
use work::{Done, Work};

use crate::disk::Disk;

/// The durable state of one node.
#[derive(Debug)]
pub struct Storage<D: Disk> {
    disk: D,
    identity: Identity,
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
    scrub: Scrub,
}

impl<D: Disk> Storage<D> {
    fn new(
        disk: D,
        identity: Identity,
        hard_state: HardStateFiles<D::File>,
        log: Log<D::File>,
        snapshots: Snapshots<D::File>,
        commit: Index,
    ) -> Self {
        Self {
            disk,
            identity,
            hard_state,
            log,
            snapshots,
            commit,
            commit_next: commit,
            compact_to: Index::ZERO,
            accepted: None,
            poisoned: false,
            scrub: Scrub::default(),
        }
    }

    /// Executes a piece of work. What completes at once is answered; a batch of the persist stream
    /// is confirmed by [`Storage::sync`].
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]: hand the same work in again, later; nothing is lost. (A part of a
    /// received snapshot is answered in any case: without space nothing of that snapshot is kept.)
    /// A disk call failed or the work is out of order: the storage refuses everything from then on.
    /// An entry or a snapshot that cannot be read is no error, its answer says so.
    #[expect(clippy::needless_pass_by_value, reason = "it is done: nobody needs it any more")]
    pub fn write(&mut self, work: Work) -> Result<Option<Done>, StorageError> {
        self.guarded(|storage| storage.execute(&work))
    }

    /// A batch that waits behind one without space says that the log through `to` may go
    /// ([`PersistBatch::compact_to`]). What a durable snapshot covers of it goes at the next sync, or as
    /// soon as something else finds no space: the batch that would free it need not come first.
    pub fn may_compact(&mut self, to: Index) {
        self.compact_to = self.compact_to.max(to);
    }

    /// Whether the log can go on for another segment when this one is full. If not, it is time to accept
    /// nothing more: what was accepted before still fits into what there is.
    pub fn has_room(&mut self) -> bool {
        let bytes = segment::file_bytes(&self.log.options, BatchSize::LEAST);
        bytes.is_ok_and(|bytes| self.disk.has_room(bytes))
    }

    /// Begins to write a snapshot of the state machine in parts, so that batches need not wait for all
    /// of it; [`Work::SaveSnapshot`] writes it at once. One is saved at a time: another one that is
    /// not whole is given up.
    ///
    /// # Errors
    /// A disk call failed: the storage refuses everything from then on.
    pub fn begin_snapshot(
        &mut self,
        snapshot: &Arc<SnapshotMeta>,
        data: &Bytes,
    ) -> Result<(), StorageError> {
        self.guarded(|storage| storage.snapshots.begin(&mut storage.disk, snapshot, data))
    }

    /// Writes about `bytes_max` more of the snapshot that was begun, durably: [`Done::SnapshotSaved`]
    /// once it is whole; `None` before, or if there is none.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]: call again later; it is written from its beginning. A disk call
    /// failed: the storage refuses everything from then on.
    pub fn save_part(&mut self, bytes_max: u64) -> Result<Option<Done>, StorageError> {
        self.guarded(|storage| {
            let saved = storage.snapshots.save_part(&mut storage.disk, bytes_max)?;
            Ok(saved.map(|snapshot| Done::SnapshotSaved { snapshot }))
        })
    }

    /// Makes every accepted batch durable; `None` if there is none to confirm.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]: what was accepted waits, call again later. A disk call failed: the
    /// storage refuses everything from then on. A sync that failed is never retried.
    pub fn sync(&mut self) -> Result<Option<Done>, StorageError> {
        self.guarded(|storage| {
            storage.flush()?;
            storage.compact()?;
            Ok(storage.accepted.take().map(|seq| Done::Persisted { seq }))
        })
    }

    /// Tells a disk that has nothing to do what it would learn with the next batch: that the last one
    /// was acknowledged. Until then, what of it cannot be read after a restart is taken for torn. And the
    /// hard state vouches for all of the log, in files of its own: names that go along with what they
    /// name would not be missed. A few writes and three syncs, or nothing if there is nothing to tell.
    ///
    /// # Errors
    /// A disk call failed: the storage refuses everything from then on.
    pub fn rest(&mut self) -> Result<(), StorageError> {
        self.guarded(Self::vouch)
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

    /// Does something that may be done again if it finds no space.
    fn guarded<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        let mut result = work(self);
        if is_no_space(&result) {
            // What a snapshot covers may be all that stands in the way.
            result = match self.compact() {
                Ok(0) => result,
                Ok(_) => work(self),
                Err(error) => Err(error),
            };
        }
        if is_no_space(&result) {
            // Or a part of one that is being received. Its sender begins again; what was accepted into
            // the log holds up the votes behind it.
            result = match self.snapshots.drop_stage(&mut self.disk) {
                Ok(false) => result,
                Ok(true) => work(self),
                Err(error) => Err(error),
            };
        }
        self.poisoned = result.is_err() && !is_no_space(&result);
        result
    }

    fn execute(&mut self, work: &Work) -> Result<Option<Done>, StorageError> {
        let disk = &mut self.disk;
        Ok(Some(match work {
            Work::Persist { batch, commit } => {
                self.persist(batch, *commit)?;
                return Ok(None);
            }
            Work::SaveSnapshot { snapshot, data } => {
                self.snapshots.save(disk, snapshot, data)?;
                Done::SnapshotSaved { snapshot: Arc::clone(snapshot) }
            }
            Work::LoadSnapshot { snapshot, offset, bytes_max } => {
                let chunk = self.snapshots.chunk(disk, snapshot.last, *offset, *bytes_max)?;
                Done::SnapshotLoaded { snapshot: Arc::clone(snapshot), offset: *offset, chunk }
            }
            Work::Load(request) => {
                let LoadedEntries { entries, damaged } = self.log.load(disk, request)?;
                Done::Loaded { request: *request, entries, damaged }
            }
            Work::ReadChunk(request) => {
                let ChunkRequest { snapshot, offset, bytes_max, .. } = *request;
                let chunk = self.snapshots.chunk(disk, snapshot, offset, bytes_max)?;
                Done::ChunkRead { request: *request, chunk }
            }
            Work::StageChunk { id, snapshot, offset, data, done } => {
                let staged = self.snapshots.stage(disk, snapshot.last, *offset, data, *done);
                // Without space nothing of it is kept, and its sender begins again: what comes behind it,
                // a vote perhaps, need not wait for that.
                let staged = if is_no_space(&staged) { 0 } else { staged? };
                Done::ChunkStaged { id: *id, staged }
            }
        }))
    }

    fn persist(&mut self, batch: &PersistBatch, commit: Index) -> Result<(), StorageError> {
        let PersistBatch { seq, hard_state, install, truncate_from, heal, append, compact_to } =
            batch;
        // It comes last, but if something before it has no space, this may be where some is.
        self.compact_to = self.compact_to.max(compact_to.unwrap_or(Index::ZERO));
        if commit > self.commit_next {
            self.commit = core::mem::replace(&mut self.commit_next, commit);
        }
        if let Some(hard_state) = hard_state
            && *hard_state != self.hard_state.record().state
        {
            let was_in_doubt = self.hard_state.record().state.is_tail_unknown;
            self.flush()?;
            self.write_hard_state(*hard_state, self.log.durable().index)?;
            if was_in_doubt && !hard_state.is_tail_unknown {
                self.log.lost.clear(&mut self.disk)?;
            }
        }
        if let Some(snapshot) = install {
            self.flush()?;
            self.install(snapshot)?;
        }
        if let Some(from) = truncate_from {
            self.truncate(*from)?;
        }
        if !heal.is_empty() {
            self.flush()?;
            self.vouch()?;
            self.log.heal(&mut self.disk, heal)?;
        }
        self.log.append(append.clone())?;
        self.accepted = Some(*seq);
        Ok(())
    }

    /// Lets go of the log that is not wanted any more and that a durable snapshot covers, one that can be
    /// read as far as anybody knows; how many files went.
    fn compact(&mut self) -> Result<usize, StorageError> {
        let covered = self.snapshots.covered();
        self.log.compact(&mut self.disk, self.compact_to.min(covered))
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if !self.log.memberships.is_empty() {
            let (files, owner) = (self.hard_state.files(), self.identity.owner());
            ring::keep(&mut self.disk, files, owner, &self.log.memberships)?;
            self.log.memberships.clear();
        }
        self.log.flush(&mut self.disk, self.commit, self.hard_state.record().generation)?;
        // A segment of which the hard state says nothing would not be missed.
        let through = self.log.durable().index;
        let first = self.log.active.as_ref().map_or(Index::ZERO, |active| active.name.first);
        if self.hard_state.record().log_through < first && first <= through {
            self.write_hard_state(self.hard_state.record().state, through)?;
        }
        Ok(())
    }

    fn write_hard_state(
        &mut self,
        state: HardState,
        log_through: Index,
    ) -> Result<(), StorageError> {
        // What the hard state vouches for has two names from here on.
        self.log.settle(&mut self.disk)?;
        let commit = self.commit.min(log_through);
        let mark = LogMark { log_through, commit, log_epoch: self.log.epoch };
        self.hard_state.write(&mut self.disk, state, mark)
    }

    fn install(&mut self, snapshot: &Arc<SnapshotMeta>) -> Result<(), StorageError> {
        let last = snapshot.last;
        self.snapshots.install(&mut self.disk, snapshot)?;
        if self.log.id(last.index) == Some(last) {
            self.log.compact(&mut self.disk, last.index)?;
            return Ok(());
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

    /// Before something is healed, once something is kept apart, and at rest: the hard state says how far
    /// the log has got, and in which epoch. What of it is lost without a trace would be taken for never
    /// written: once what proves the damage is healed, or where slots go along with their batch.
    fn vouch(&mut self) -> Result<(), StorageError> {
        let record = *self.hard_state.record();
        let through = self.log.durable().index;
        if record.log_through >= through && record.log_epoch >= self.log.epoch {
            return Ok(());
        }
        self.write_hard_state(record.state, through)
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

fn is_no_space<T>(result: &Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::NoSpace { .. }))
}
