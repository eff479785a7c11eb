//! Finds the log again after a restart.
//!
//! Segments are read from the newest to the oldest. Each holds the entries from its first one to
//! the one before the first of the next newer segment; whatever else is in it was truncated. Then
//! the last batch is copied into a segment of a new epoch, synced before the node speaks:
//! * what was read may be in the page cache only, if a sync failed before the restart;
//! * a batch that was torn, and its leftovers, stay in the old epoch, where nothing looks again;
//! * no sector that was ever acknowledged is written a second time, except slots.

use std::collections::VecDeque;

use raft_core::{EntryId, Index, Slot, SnapshotMeta};

use super::StorageOptions;
use super::batch::{BATCH_HEADER, BatchHeader, FoundEntry, entry_bytes};
use super::error::{InFile, StorageError};
use super::log::{Log, remove};
use super::scan::Scan;
use super::segment::{BatchSize, DIR, SCRATCH, Segment, SegmentName};
use crate::disk::Disk;

/// The log as it was found; nothing has been changed yet.
#[derive(Debug)]
pub(super) struct FoundLog<F> {
    /// Oldest first; the first follows `before`, each follows the one before it.
    scans: Vec<Scan<F>>,
    /// Segments that hold nothing any more.
    dead: Vec<SegmentName>,
    before: EntryId,
    /// Whether a segment was being made.
    scratch: bool,
    /// The highest epoch of any segment.
    pub(super) epoch: u64,
}

impl<F> FoundLog<F> {
    /// Reads the log of a node whose newest snapshot is `snapshot`.
    ///
    /// # Errors
    /// Damage, or a disk error.
    pub(super) fn read<D: Disk<File = F>>(
        disk: &mut D,
        snapshot: EntryId,
        ring: &[F; 2],
    ) -> Result<Self, StorageError> {
        let listed = disk.list(DIR).in_file(DIR)?;
        let mut names: Vec<_> = listed.iter().filter_map(|name| SegmentName::parse(name)).collect();
        let scratch = listed.iter().any(|name| SCRATCH.strip_prefix("wal/") == Some(name));
        names.sort_unstable();
        let epoch = names.last().map_or(0, |name| name.epoch);
        let (mut scans, mut dead): (Vec<Scan<F>>, Vec<_>) = (Vec::new(), Vec::new());
        while let Some(name) = names.pop() {
            let Some(newer) = scans.last().map(|scan| scan.head.before) else {
                scans.push(Scan::read(disk, name, None, ring)?);
                continue;
            };
            if name.first > newer.index {
                dead.push(name);
                continue;
            }
            match older(disk, name, newer, ring) {
                Ok(scan) => scans.push(scan),
                // What a snapshot covers may have been removed, in any order.
                Err(StorageError::Damaged { .. }) if newer.index <= snapshot.index => {
                    dead.push(name);
                    dead.append(&mut names);
                }
                Err(error) => return Err(error),
            }
        }
        scans.reverse();
        let before = scans.first().map_or(snapshot, |scan| scan.head.before);
        if before.index > snapshot.index {
            let what = format!("the log begins after {before}, its snapshot ends at {snapshot}");
            return Err(StorageError::damaged(&scans[0].path, what));
        }
        Ok(Self { scans, dead, before, epoch, scratch })
    }

    /// The last intact entry.
    pub(super) fn last(&self) -> EntryId {
        self.scans.last().map_or(self.before, Scan::last)
    }

    /// Whether there is no segment at all.
    pub(super) fn is_absent(&self) -> bool {
        self.scans.is_empty()
    }

    /// The highest generation of the hard state that was durable before some batch.
    pub(super) fn generation(&self) -> u64 {
        self.batches(|batch| batch.generation).unwrap_or(0)
    }

    /// The highest index that is known to be committed.
    pub(super) fn commit(&self) -> Index {
        self.batches(|batch| batch.commit).unwrap_or(Index::ZERO)
    }

    fn batches<T: Ord>(&self, of: impl Fn(&BatchHeader) -> T) -> Option<T> {
        self.scans.iter().flat_map(|scan| &scan.batches).map(of).max()
    }

    /// Whether something is missing after the last intact entry, and where.
    pub(super) fn cut(&self) -> Option<StorageError> {
        let newest = self.scans.last().filter(|scan| scan.cut)?;
        let what = format!("what follows {} was durable", newest.last());
        Some(StorageError::damaged(&newest.path, what))
    }

    /// Whether the log goes on where the snapshot ends. If it does not, a crash came between the
    /// installation of the snapshot and the removal of the log.
    pub(super) fn continues(&self, snapshot: EntryId) -> bool {
        let ids = self.scans.iter().flat_map(|scan| &scan.entries).map(|entry| entry.slot.id);
        self.before == snapshot || ids.rev().any(|id| id == snapshot)
    }

    /// Makes what was found durable and writable, after everything that does not belong to it is
    /// gone; with the entries as the core wants them.
    pub(super) fn adopt<D: Disk<File = F>>(
        mut self,
        disk: &mut D,
        options: StorageOptions,
        snapshot: Option<&SnapshotMeta>,
    ) -> Result<(Log<F>, Vec<Slot>), StorageError> {
        let last = snapshot.map_or(EntryId::default(), |snapshot| snapshot.last);
        if self.scratch {
            disk.remove(SCRATCH).in_file(SCRATCH)?;
        }
        let mut log = Log::empty(options, self.epoch, self.before);
        if self.scans.is_empty() {
            log.before = last;
            log.end = last;
            return Ok((log, Vec::new()));
        }
        if !self.continues(last) {
            self.dead.extend(self.scans.drain(..).map(|scan| scan.name));
            log.before = last;
            log.end = last;
        }
        self.repair(disk)?;
        let slots = self.take_up(disk, &mut log)?;
        for name in self.dead {
            remove(disk, name)?;
        }
        disk.sync_dir(DIR).in_file(DIR)?;
        Ok((log, slots))
    }

    /// Writes again what could not be read and is known nevertheless.
    fn repair<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), StorageError> {
        for scan in &self.scans {
            let path = &scan.path;
            let repairs = scan.repairs();
            for (offset, bytes) in &repairs {
                disk.write(&scan.file, *offset, bytes).in_file(path)?;
            }
            if !repairs.is_empty() {
                disk.sync(&scan.file).in_file(path)?;
            }
        }
        Ok(())
    }

    /// Begins the segment of the new epoch with a copy of the last batch.
    fn take_up<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        log: &mut Log<F>,
    ) -> Result<Vec<Slot>, StorageError> {
        let commit = self.commit();
        let generation = self.generation();
        let tail = self.scans.iter().rev().find_map(Scan::tail);
        let mut found: Vec<FoundEntry> = Vec::new();
        for scan in &mut self.scans {
            log.sealed.push_back(scan.name);
            found.append(&mut scan.entries);
        }
        log.ids = found.iter().map(|entry| (entry.slot.id.term, entry.slot.id.chain)).collect();
        log.end = log.durable();
        let first = tail.unwrap_or(log.end.index.next());
        let kept = usize::try_from(first.prev().0 - log.before.index.0).expect("in memory");
        log.epoch += 1;
        let before = log.id(first.prev()).expect("the tail is in the log");
        let batch = &found[kept..];
        let bytes = batch.iter().map(|entry| entry_bytes(&entry.payload)).sum::<u64>();
        let entries = u32::try_from(batch.len()).expect("a batch has fewer than 2^16 entries");
        let size = BatchSize { entries: entries + 1, bytes: bytes + u64::from(BATCH_HEADER) };
        let mut segment = Segment::begin(disk, &log.options, log.epoch, before, size)?;
        if !batch.is_empty() {
            let place = segment.place();
            log.writer.begin();
            for entry in batch {
                let room = segment.room();
                let fits = log.writer.push(place, entry.slot.id, &entry.payload, room);
                assert!(fits, "the segment was made for this batch");
            }
            log.writer.finish(place, before, commit.min(before.index), generation);
            segment.write(disk, &log.writer, first)?;
        }
        segment.publish(disk)?;
        log.active = Some(segment);
        let dead: VecDeque<SegmentName> = core::mem::take(&mut log.sealed);
        for name in dead {
            if name.first < first { log.sealed.push_back(name) } else { self.dead.push(name) }
        }
        let resident =
            |entry: FoundEntry| Slot::Resident { id: entry.slot.id, payload: entry.payload };
        Ok(found.into_iter().map(resident).collect())
    }
}

/// Reads a segment that a newer one continues after `newer`.
fn older<D: Disk>(
    disk: &mut D,
    name: SegmentName,
    newer: EntryId,
    ring: &[D::File; 2],
) -> Result<Scan<D::File>, StorageError> {
    let scan = Scan::read(disk, name, Some(newer.index.next()), ring)?;
    if scan.last() == newer {
        return Ok(scan);
    }
    let what = format!("it ends at {}, the next segment begins after {newer}", scan.last());
    Err(StorageError::damaged(&scan.path, what))
}
