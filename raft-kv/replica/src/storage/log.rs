//! The log while it runs: append, truncate, compact.
//!
//! Accepted entries wait in memory and are written by [`Log::flush`]: all of them as one batch,
//! with one sync (group commit). Since nothing is written before the batch before it is durable, a
//! crash can tear the last batch of the log and no other.
//!
//! Nothing is ever overwritten. A truncation begins a segment of a higher epoch at the index from
//! which entries go; its name is the fence that keeps a crash from resurrecting them. (A fence in
//! the hard state and the same file used again would save the new file, at the price that every
//! record must be told from its predecessor in the same place. Truncations are rare.)

use std::collections::VecDeque;

use raft_core::{Chain, Entries, Entry, EntryId, Index, Payload, Term};

use super::StorageOptions;
use super::batch::{BATCH_HEADER, BatchWriter, entry_bytes};
use super::error::{InFile, StorageError};
use super::segment::{BatchSize, Segment, SegmentName};
use crate::disk::Disk;

/// The log of one node. Invariants:
/// 1. `ids` are the identities of the durable entries, consecutive, the first after `before`;
/// 2. the entries of `pending` follow them, and end at `end`;
/// 3. `sealed` and `active` cover the durable entries: each segment from its first entry to the
///    one before the first of the next segment;
/// 4. no epoch on the disk is above `epoch`, and a segment of `epoch` is durable unless there is
///    no segment at all.
#[derive(Debug)]
pub(super) struct Log<F> {
    pub(super) options: StorageOptions,
    pub(super) epoch: u64,
    pub(super) before: EntryId,
    pub(super) ids: VecDeque<(Term, Chain)>,
    /// Oldest first.
    pub(super) sealed: VecDeque<SegmentName>,
    pub(super) active: Option<Segment<F>>,
    pub(super) pending: Vec<Entries>,
    /// Those of `pending` that are memberships and not kept in the ring yet.
    pub(super) memberships: Vec<Entry>,
    pub(super) end: EntryId,
    pub(super) writer: BatchWriter,
}

impl<F> Log<F> {
    /// An empty log after `before`, with no segment yet.
    pub(super) fn empty(options: StorageOptions, epoch: u64, before: EntryId) -> Self {
        Self {
            options,
            epoch,
            before,
            ids: VecDeque::new(),
            sealed: VecDeque::new(),
            active: None,
            pending: Vec::new(),
            memberships: Vec::new(),
            end: before,
            writer: BatchWriter::default(),
        }
    }

    /// The last durable entry.
    pub(super) fn durable(&self) -> EntryId {
        let last = Index(self.before.index.0 + self.ids.len() as u64);
        self.id(last).expect("the end of the log is in the log")
    }

    /// The identity of a durable entry, or of the one before the first.
    pub(super) fn id(&self, index: Index) -> Option<EntryId> {
        let Some(steps) = index.0.checked_sub(self.before.index.0 + 1) else {
            return (index == self.before.index).then_some(self.before);
        };
        let (term, chain) = *self.ids.get(usize::try_from(steps).ok()?)?;
        Some(EntryId { index, term, chain })
    }

    /// Takes entries that follow the end of the log.
    pub(super) fn append(&mut self, entries: Entries) -> Result<(), StorageError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        if (first.index(), entries.chain_before()) != (self.end.index.next(), self.end.chain) {
            return Err(StorageError::OutOfOrder { what: "an append follows the end of the log" });
        }
        self.end = last.id();
        let membership = |entry: &&Entry| matches!(entry.payload(), Payload::Membership(_));
        self.memberships.extend(entries.iter().filter(membership).cloned());
        self.pending.push(entries);
        Ok(())
    }

    /// Makes everything that was accepted durable. `commit` and `generation` are evidence for
    /// recovery: both were durable before.
    pub(super) fn flush<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        commit: Index,
        generation: u64,
    ) -> Result<(), StorageError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = core::mem::take(&mut self.pending);
        let mut entries = pending.iter().flat_map(|run| run.iter()).peekable();
        while let Some(next) = entries.peek() {
            let durable = self.durable();
            let size = u64::from(BATCH_HEADER) + entry_bytes(next.payload());
            let segment = self.writable(disk, size)?;
            let (place, slots) = (segment.place(), segment.free_slots(durable.index));
            let room = segment.room();
            self.writer.begin();
            while let Some(entry) = entries.peek() {
                let full = self.writer.len() as u64 == slots;
                if full || !self.writer.push(place, entry.id(), entry.payload(), room) {
                    break;
                }
                self.ids.push_back((entry.term(), entry.chain()));
                entries.next();
            }
            self.writer.finish(place, durable, commit.min(durable.index), generation);
            let segment = self.active.as_mut().expect("writable made it");
            segment.write(disk, &self.writer, durable.index.next())?;
            disk.sync(&segment.file).in_file(&segment.path)?;
        }
        drop(entries);
        // The allocation is used again; the entries are the core's.
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    /// The active segment, a fresh one if there is none with room for one entry of this size.
    fn writable<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        bytes: u64,
    ) -> Result<&Segment<F>, StorageError> {
        let durable = self.durable();
        let fits = self.active.as_ref().is_some_and(|segment| {
            u64::from(segment.room()) >= bytes && segment.free_slots(durable.index) > 0
        });
        if !fits {
            self.epoch = self.epoch.max(1);
            let size = BatchSize { entries: 1, bytes };
            let segment = Segment::begin(disk, &self.options, self.epoch, durable, size)?;
            segment.publish(disk)?;
            self.activate(segment);
        }
        Ok(self.active.as_ref().expect("just made"))
    }

    /// Drops the entries at `from` and after it, durably. Everything accepted is flushed, and the
    /// log reaches at least to the entry before `from`.
    pub(super) fn truncate<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        from: Index,
    ) -> Result<(), StorageError> {
        let Some(last) = self.id(from.prev()) else {
            return Err(StorageError::OutOfOrder { what: "a truncation keeps what is compacted" });
        };
        self.ids.truncate(usize::try_from(last.index.0 - self.before.index.0).expect("in memory"));
        self.end = last;
        self.fence(disk, last)
    }

    /// Drops the whole log, durably; it goes on after `before`.
    pub(super) fn reset<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        before: EntryId,
    ) -> Result<(), StorageError> {
        self.ids.clear();
        self.before = before;
        self.end = before;
        if self.active.is_none() {
            return Ok(());
        }
        self.fence(disk, before)?;
        while let Some(name) = self.sealed.pop_front() {
            remove(disk, name)?;
        }
        Ok(())
    }

    /// Begins a segment of a new epoch after `last`. Segments that begin after it are dead from
    /// then on, whether or not their removal survives a crash.
    fn fence<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        last: EntryId,
    ) -> Result<(), StorageError> {
        self.epoch += 1;
        let size = BatchSize { entries: 1, bytes: 0 };
        let segment = Segment::begin(disk, &self.options, self.epoch, last, size)?;
        segment.publish(disk)?;
        self.activate(segment);
        while let Some(dead) = self.sealed.back().copied().filter(|name| name.first > last.index) {
            self.sealed.pop_back();
            remove(disk, dead)?;
        }
        Ok(())
    }

    fn activate(&mut self, segment: Segment<F>) {
        let name = segment.name;
        let sealed = self.active.replace(segment).map(|sealed| sealed.name);
        // An empty segment that is too small has been replaced, name and all.
        self.sealed.extend(sealed.filter(|sealed| *sealed != name));
    }

    /// Removes the segments that hold nothing after `through`, the oldest first.
    pub(super) fn compact<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        through: Index,
    ) -> Result<(), StorageError> {
        while let Some(oldest) = self.sealed.front().copied() {
            let next = match (self.sealed.get(1), &self.active) {
                (Some(next), _) => next.first,
                (None, Some(active)) => active.name.first,
                (None, None) => break,
            };
            if next.prev() > through {
                break;
            }
            self.before = self.id(next.prev()).expect("a segment's entries are in the log");
            let gone = usize::try_from(next.0 - oldest.first.0).expect("in memory");
            self.ids.drain(..gone.min(self.ids.len()));
            self.sealed.pop_front();
            remove(disk, oldest)?;
        }
        Ok(())
    }
}

/// Removes a segment that nothing depends on; a crash may bring it back, and recovery sees by its
/// name that it is dead.
pub(super) fn remove<D: Disk>(disk: &mut D, name: SegmentName) -> Result<(), StorageError> {
    let path = name.path();
    disk.remove(&path).in_file(&path)
}
