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

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft_core::{Chain, Entries, Entry, EntryId, Index, Payload, Term};

use super::StorageOptions;
use super::batch::{BATCH_HEADER, BatchWriter, Home, entry_bytes};
use super::error::{InFile, StorageError};
use super::frame::Owner;
use super::heal::HealLog;
use super::lost::Lost;
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
    pub(super) owner: Owner,
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
    pub(super) heals: HealLog<F>,
    pub(super) lost: Lost,
    pub(super) writer: BatchWriter,
}

impl<F> Log<F> {
    /// An empty log after `before`, with no segment yet.
    pub(super) fn empty(owner: Owner, options: StorageOptions, before: EntryId) -> Self {
        Self {
            owner,
            options,
            epoch: 0,
            before,
            ids: VecDeque::new(),
            sealed: VecDeque::new(),
            active: None,
            pending: Vec::new(),
            memberships: Vec::new(),
            end: before,
            heals: HealLog::new(owner, BTreeSet::new(), BTreeMap::new()),
            lost: Lost::default(),
            writer: BatchWriter::default(),
        }
    }

    /// Where the records of a segment of this epoch stand.
    pub(super) fn home(&self, epoch: u64) -> Home {
        Home { owner: self.owner, epoch }
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
    /// recovery: both were durable before. Without space for a segment, what has no place waits on.
    pub(super) fn flush<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        commit: Index,
        generation: u64,
    ) -> Result<(), StorageError> {
        while let Some(next) = self.pending.first().and_then(|run| run.first()) {
            let durable = self.durable();
            let size = u64::from(BATCH_HEADER) + entry_bytes(next.payload());
            let segment = self.writable(disk, size)?;
            let (place, slots) = (segment.place(), segment.free_slots(durable.index));
            let room = segment.room();
            self.writer.begin();
            for entry in self.pending.iter().flat_map(|run| run.iter()) {
                let full = self.writer.len() as u64 == slots;
                if full || !self.writer.push(place, entry.id(), entry.payload(), room) {
                    break;
                }
                self.ids.push_back((entry.term(), entry.chain()));
            }
            self.writer.finish(place, durable, commit.min(durable.index), generation);
            let segment = self.active.as_mut().expect("writable made it");
            segment.write(disk, &mut self.writer, durable.index.next())?;
            disk.sync(&segment.file).in_file(&segment.path)?;
            self.written(self.durable().index);
        }
        Ok(())
    }

    /// Makes the slots durable that are not yet: those of the last batch. From then on, what of it
    /// cannot be read any more is known to be damaged, and not torn.
    pub(super) fn settle<D: Disk<File = F>>(&mut self, disk: &mut D) -> Result<(), StorageError> {
        self.active.as_mut().map_or(Ok(()), |segment| segment.settle(disk))
    }

    /// Drops what is durable from what waits.
    fn written(&mut self, through: Index) {
        let is_written = |run: &Entries| run.last().is_none_or(|entry| entry.index() <= through);
        let whole = self.pending.iter().take_while(|run| is_written(run)).count();
        self.pending.drain(..whole);
        if let Some(run) = self.pending.first_mut() {
            *run = run.slice(through.next(), Index(u64::MAX));
        }
    }

    /// Writes payloads again, durably; who the entries are stays as it is.
    pub(super) fn heal<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        runs: &[Entries],
    ) -> Result<(), StorageError> {
        let mut all: BTreeMap<Index, &Entry> = BTreeMap::new();
        for entry in runs.iter().flat_map(|run| run.iter()) {
            // What a snapshot covers by now needs no healing.
            if entry.index() <= self.before.index {
                continue;
            }
            if self.id(entry.index()) != Some(entry.id()) {
                return Err(StorageError::OutOfOrder { what: "a heal is of an entry of the log" });
            }
            all.insert(entry.index(), entry);
        }
        let apart = all.values().map(|entry| {
            let (segment, _) = self.segment_of(entry.index());
            (entry.id(), segment, entry.payload())
        });
        let all: Vec<_> = apart.collect();
        self.heals.write(disk, &all)
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
            self.settle(disk)?;
            self.epoch = self.epoch.max(1);
            let size = BatchSize { entries: 1, bytes };
            let segment =
                Segment::begin(disk, &self.options, self.home(self.epoch), durable, size)?;
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
        self.fence(disk, last)?;
        self.ids.truncate(usize::try_from(last.index.0 - self.before.index.0).expect("in memory"));
        self.end = last;
        self.heals.keep(Index::ZERO, from);
        self.heals.sweep(disk)?;
        Ok(())
    }

    /// Drops the whole log, durably; it goes on after `before`.
    pub(super) fn reset<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        before: EntryId,
    ) -> Result<(), StorageError> {
        let has_segments = self.active.is_some();
        if has_segments {
            self.fence(disk, before)?;
        }
        self.ids.clear();
        self.before = before;
        self.end = before;
        if has_segments {
            while let Some(name) = self.sealed.pop_front() {
                remove(disk, name)?;
            }
        }
        self.heals.keep(Index::ZERO, Index::ZERO);
        self.heals.sweep(disk)?;
        Ok(())
    }

    /// Begins a segment of a new epoch after `last`. Segments that begin after it are dead from
    /// then on, whether or not their removal survives a crash.
    fn fence<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        last: EntryId,
    ) -> Result<(), StorageError> {
        self.settle(disk)?;
        let epoch = self.epoch + 1;
        let size = BatchSize::LEAST;
        let segment = Segment::begin(disk, &self.options, self.home(epoch), last, size)?;
        segment.publish(disk)?;
        self.epoch = epoch;
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

    /// Removes the segments that hold nothing after `through`, the oldest first, and what was healed of
    /// them; how many files went.
    pub(super) fn compact<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        through: Index,
    ) -> Result<usize, StorageError> {
        let mut gone_files = 0;
        while let Some(oldest) = self.sealed.front().copied() {
            let next = match (self.sealed.get(1), &self.active) {
                (Some(next), _) => next.first,
                (None, Some(active)) => active.name.first,
                (None, None) => break,
            };
            if next.prev() > through {
                break;
            }
            let gone = usize::try_from(next.prev().0 - self.before.index.0).expect("in memory");
            self.before = self.id(next.prev()).expect("a segment's entries are in the log");
            self.ids.drain(..gone);
            self.sealed.pop_front();
            remove(disk, oldest)?;
            gone_files += 1;
        }
        self.heals.keep(self.before.index.next(), Index(u64::MAX));
        gone_files += self.lost.sweep(disk, &self.options, through)?;
        Ok(gone_files + self.heals.sweep(disk)?)
    }
}

/// Removes a segment that nothing depends on; a crash may bring it back, and recovery sees by its
/// name that it is dead.
pub(super) fn remove<D: Disk>(disk: &mut D, name: SegmentName) -> Result<(), StorageError> {
    let path = name.path();
    disk.remove(&path).in_file(&path)
}
