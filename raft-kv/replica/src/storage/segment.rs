//! A segment of the log: one file of fixed size.
//!
//! ```text
//! | head | head again | table: one slot for each entry | guard gap | batches ... |
//! 0      4096         8192                                         data_offset
//! ```
//! It is made under another name, filled and synced, then renamed and its directory synced: a
//! segment is there whole or not at all, and is never extended, so a sync of it is a sync of data.
//! Slots and batches lie apart, so that one misplaced write does not take both of an entry.

use raft_core::{EntryId, Index, LIMIT};

use super::batch::{BatchWriter, PAGE, Place, SLOT_BYTES};
use super::error::{InFile, StorageError};
use super::frame::VERSION;
use super::record::{SegmentHead, decode_segment_head, encode_segment_head};
use super::{StorageOptions, frame::Flaw};
use crate::disk::Disk;

/// The directory of the log.
pub(super) const DIR: &str = "wal";
/// A segment that is being made.
pub(super) const SCRATCH: &str = "wal/new.tmp";
/// Where the table begins.
pub(super) const TABLE_OFFSET: u32 = 2 * PAGE;

/// A segment stays below 2 GiB, so that every offset in it, and the page after it, is a u32.
const FILE_BYTES_LIMIT: u32 = 1 << 31;

/// What a segment must have room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSize {
    pub(super) entries: u32,
    pub(super) bytes: u64,
}

/// The name of a segment. The order is that of their making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    pub(super) epoch: u64,
    pub(super) first: Index,
}

impl SegmentName {
    pub(super) fn path(self) -> String {
        format!("{DIR}/seg-{}-{}.wal", self.first.0, self.epoch)
    }

    /// The segment of this file name, if it is one.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (first, epoch) = name.strip_prefix("seg-")?.strip_suffix(".wal")?.split_once('-')?;
        let parsed = Self { epoch: epoch.parse().ok()?, first: Index(first.parse().ok()?) };
        // One file, one name: `seg-01-1.wal` is not ours. Numbers can be counted on from.
        let ours = parsed.path().strip_prefix("wal/") == Some(name);
        (ours && parsed.epoch < LIMIT && parsed.first.is_valid()).then_some(parsed)
    }
}

/// A segment that takes batches.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub(super) name: SegmentName,
    pub(super) path: String,
    pub(super) file: F,
    pub(super) head: SegmentHead,
    /// Where the next batch goes, and its number.
    pub(super) next_offset: u32,
    pub(super) next_batch: u32,
}

impl<F> Segment<F> {
    /// Begins a segment after `before`, with room for at least one batch of this size. Nobody sees
    /// it before [`Segment::publish`].
    pub(super) fn begin<D: Disk<File = F>>(
        disk: &mut D,
        options: &StorageOptions,
        epoch: u64,
        before: EntryId,
        batch: BatchSize,
    ) -> Result<Self, StorageError> {
        let head = layout(options, epoch, before, batch)?;
        let file = disk.create(SCRATCH, u64::from(head.file_bytes)).in_file(SCRATCH)?;
        for copy in 0..2 {
            let bytes = encode_segment_head(&head, copy);
            disk.write(&file, u64::from(copy * PAGE), &bytes).in_file(SCRATCH)?;
        }
        let name = SegmentName { epoch, first: before.index.next() };
        let path = name.path();
        Ok(Self { name, path, file, head, next_offset: head.data_offset, next_batch: 1 })
    }

    /// Makes it, and whatever was written to it, durable under its name.
    pub(super) fn publish<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), StorageError> {
        disk.sync(&self.file).in_file(SCRATCH)?;
        disk.rename(SCRATCH, &self.path).in_file(&self.path)?;
        disk.sync_dir(DIR).in_file(DIR)
    }

    /// Where the next batch goes.
    pub(super) fn place(&self) -> Place {
        Place { epoch: self.name.epoch, batch: self.next_batch, offset: self.next_offset }
    }

    /// Writes a finished batch whose first entry is `first`; the caller syncs.
    pub(super) fn write<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        batch: &BatchWriter,
        first: Index,
    ) -> Result<(), StorageError> {
        let slot = first.0 - self.name.first.0;
        let table_at = u64::from(TABLE_OFFSET) + slot * u64::from(SLOT_BYTES);
        disk.write(&self.file, u64::from(self.next_offset), &batch.data).in_file(&self.path)?;
        disk.write(&self.file, table_at, &batch.table).in_file(&self.path)?;
        let length = u32::try_from(batch.data.len()).expect("a batch fits in its segment");
        self.next_offset = round_up(self.next_offset + length);
        self.next_batch += 1;
        Ok(())
    }

    /// The bytes that the next batch may take.
    pub(super) fn room(&self) -> u32 {
        self.head.file_bytes.saturating_sub(self.next_offset)
    }

    /// How many entries after `last` the table has room for.
    pub(super) fn free_slots(&self, last: Index) -> u64 {
        u64::from(self.head.slots) - (last.0 - self.head.before.index.0)
    }
}

/// Opens a segment and reads what it says about itself, and which copy of that cannot be read.
///
/// # Errors
/// Both copies are unreadable, or the file is another one than its name or its head says: a
/// segment is made durable before it gets its name, so no crash leaves this.
pub(super) fn open_head<D: Disk>(
    disk: &mut D,
    name: SegmentName,
) -> Result<(D::File, SegmentHead, Option<u32>), StorageError> {
    let path = name.path();
    let file = disk.open(&path).in_file(&path)?;
    let length = disk.len(&file).in_file(&path)?;
    let mut pages = vec![0; 2 * PAGE as usize];
    if length < pages.len() as u64 {
        return Err(StorageError::damaged(&path, "shorter than its head"));
    }
    disk.read(&file, 0, &mut pages).in_file(&path)?;
    let (mut head, mut bad) = (None, None);
    for (copy, page) in (0..).zip(pages.chunks_exact(PAGE as usize)) {
        match decode_segment_head(page, copy) {
            Ok(found) if head.is_none_or(|other| other == found) => head = Some(found),
            Ok(_) => return Err(StorageError::damaged(&path, "the copies of its head contradict")),
            Err(Flaw::Zero | Flaw::Bad) => bad = Some(copy),
            Err(Flaw::Newer(found)) => {
                return Err(StorageError::NewerFormat { file: path, found, supported: VERSION });
            }
        }
    }
    let Some(head) = head else {
        return Err(StorageError::damaged(&path, "no copy of its head can be read"));
    };
    let table_end = u64::from(TABLE_OFFSET) + u64::from(head.slots) * u64::from(SLOT_BYTES);
    let named = (head.epoch, head.before.index.next()) == (name.epoch, name.first);
    let fits = length == u64::from(head.file_bytes)
        && table_end <= u64::from(head.data_offset)
        && head.data_offset <= head.file_bytes
        && head.file_bytes < FILE_BYTES_LIMIT
        && [head.data_offset, head.file_bytes].iter().all(|offset| offset % PAGE == 0);
    if !(named && fits) {
        return Err(StorageError::damaged(&path, "its head describes another file"));
    }
    Ok((file, head, bad))
}

/// The next page boundary.
pub(super) fn round_up(offset: u32) -> u32 {
    offset.next_multiple_of(PAGE)
}

fn layout(
    options: &StorageOptions,
    epoch: u64,
    before: EntryId,
    batch: BatchSize,
) -> Result<SegmentHead, StorageError> {
    let page = u64::from(PAGE);
    let slots = options.segment_slots.max(batch.entries);
    let table = (u64::from(slots) * u64::from(SLOT_BYTES)).next_multiple_of(page);
    let guard = u64::from(options.guard_bytes).next_multiple_of(page);
    let data = u64::from(options.segment_bytes).max(batch.bytes).next_multiple_of(page);
    let data_offset = u64::from(TABLE_OFFSET) + table + guard;
    let file_bytes = Some(data_offset + data).filter(|bytes| *bytes < u64::from(FILE_BYTES_LIMIT));
    let offsets = file_bytes.map(|bytes| (u32::try_from(data_offset), u32::try_from(bytes)));
    let Some((Ok(data_offset), Ok(file_bytes))) = offsets else {
        return Err(StorageError::Options { what: "a segment must stay below 2 GiB" });
    };
    Ok(SegmentHead { epoch, before, slots, data_offset, file_bytes })
}
