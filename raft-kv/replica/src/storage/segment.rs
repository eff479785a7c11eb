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

use super::batch::{BatchWriter, Home, PAGE, Place, SLOT_BYTES, SlotRecord};
use super::error::{InFile, StorageError, create_fresh};
use super::frame::{Owner, VERSION};
use super::read::read_framed;
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

impl BatchSize {
    /// Whatever fits.
    pub(super) const LEAST: Self = Self { entries: 1, bytes: 0 };
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

    /// What it is called once the log has been cut off before it: see `lost.rs`.
    pub(super) fn lost_path(self) -> String {
        format!("{DIR}/lost-{}-{}.wal", self.first.0, self.epoch)
    }

    /// The segment of this file name, if it is one.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::parse_as("seg-", name)
    }

    /// The segment that this was, if it is one that is kept.
    pub(super) fn parse_lost(name: &str) -> Option<Self> {
        Self::parse_as("lost-", name)
    }

    fn parse_as(kind: &str, name: &str) -> Option<Self> {
        let (first, epoch) = name.strip_prefix(kind)?.strip_suffix(".wal")?.split_once('-')?;
        let parsed = Self { epoch: number(epoch)?, first: Index(number(first)?) };
        // Numbers can be counted on from.
        (parsed.epoch < LIMIT && parsed.first.is_valid()).then_some(parsed)
    }
}

/// The number in the name of a file. One file, one name: `seg-01-1.wal` is not ours.
pub(super) fn number(digits: &str) -> Option<u64> {
    let is_as_written = digits == "0" || !digits.starts_with(['0', '+']);
    digits.parse().ok().filter(|_| is_as_written)
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
    /// The slots of the last batch, from this entry on, which are not written yet.
    unwritten: (Index, Vec<u8>),
}

impl<F> Segment<F> {
    /// Begins a segment after `before`, with room for at least one batch of this size. Nobody sees
    /// it before [`Segment::publish`].
    pub(super) fn begin<D: Disk<File = F>>(
        disk: &mut D,
        options: &StorageOptions,
        home: Home,
        before: EntryId,
        batch: BatchSize,
    ) -> Result<Self, StorageError> {
        let head = layout(options, home, before, batch)?;
        let file = create_fresh(disk, SCRATCH, u64::from(head.file_bytes))?;
        for copy in 0..2 {
            let bytes = encode_segment_head(&head, copy);
            disk.write(&file, u64::from(copy * PAGE), &bytes).in_file(SCRATCH)?;
        }
        let name = SegmentName { epoch: home.epoch, first: before.index.next() };
        let path = name.path();
        let (next_offset, unwritten) = (head.data_offset, (name.first, Vec::new()));
        Ok(Self { name, path, file, head, next_offset, next_batch: 1, unwritten })
    }

    /// Makes it, and whatever was written to it, durable under its name.
    pub(super) fn publish<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), StorageError> {
        disk.sync(&self.file).in_file(SCRATCH)?;
        disk.rename(SCRATCH, &self.path).in_file(&self.path)?;
        disk.sync_dir(DIR).in_file(DIR)
    }

    /// Where the next batch goes.
    pub(super) fn place(&self) -> Place {
        Place { home: self.head.home(), batch: self.next_batch, offset: self.next_offset }
    }

    /// Writes a finished batch whose first entry is `first`, and with it the slots of the batch before,
    /// which is durable; the caller syncs. So a slot is never on the disk without its entry, unless
    /// the entry was durable and is no more.
    pub(super) fn write<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        batch: &mut BatchWriter,
        first: Index,
    ) -> Result<(), StorageError> {
        disk.write(&self.file, u64::from(self.next_offset), &batch.data).in_file(&self.path)?;
        self.write_slots(disk)?;
        self.unwritten.0 = first;
        core::mem::swap(&mut self.unwritten.1, &mut batch.table);
        let length = u32::try_from(batch.data.len()).expect("a batch fits in its segment");
        self.next_offset = round_up(self.next_offset + length);
        self.next_batch += 1;
        Ok(())
    }

    /// Writes the slots of the last batch; the caller syncs. Says whether there were any.
    pub(super) fn write_slots<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
    ) -> Result<bool, StorageError> {
        let (first, table) = &mut self.unwritten;
        if table.is_empty() {
            return Ok(false);
        }
        let slot = first.0 - self.name.first.0;
        let table_at = u64::from(TABLE_OFFSET) + slot * u64::from(SLOT_BYTES);
        disk.write(&self.file, table_at, table).in_file(&self.path)?;
        table.clear();
        Ok(true)
    }

    /// Makes the slots of the last batch durable, which is durable itself.
    pub(super) fn settle<D: Disk<File = F>>(&mut self, disk: &mut D) -> Result<(), StorageError> {
        if self.write_slots(disk)? {
            disk.sync(&self.file).in_file(&self.path)?;
        }
        Ok(())
    }

    /// The slot of an entry, if it is not written yet.
    pub(super) fn unwritten_slot(&self, index: Index) -> Option<SlotRecord> {
        let (first, table) = &self.unwritten;
        let number = usize::try_from(index.0.checked_sub(first.0)?).ok()?;
        let start = number.checked_mul(SLOT_BYTES as usize)?;
        let bytes = table.get(start..start + SLOT_BYTES as usize)?;
        SlotRecord::decode(bytes, self.head.home(), index)
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

/// A segment as it was opened.
#[derive(Debug)]
pub(super) struct OpenSegment<F> {
    pub(super) file: F,
    pub(super) path: String,
    pub(super) head: SegmentHead,
    /// The copy of its head that cannot be read.
    pub(super) bad_copy: Option<u32>,
}

/// Opens a segment and reads what it says about itself; or says why nothing can be learned from it.
///
/// # Errors
/// A later version, or a disk error.
pub(super) fn open_head<D: Disk>(
    disk: &mut D,
    owner: Owner,
    name: SegmentName,
) -> Result<Result<OpenSegment<D::File>, &'static str>, StorageError> {
    let path = name.path();
    let file = disk.open(&path).in_file(&path)?;
    let (mut head, mut bad_copy, mut record) = (None, None, Vec::new());
    for copy in 0..2 {
        read_framed(disk, &file, &path, u64::from(copy * PAGE), PAGE as usize, &mut record)?;
        match decode_segment_head(&record, owner, copy) {
            Ok(found) if !describes(&found, name) => bad_copy = Some(copy),
            Ok(found) if head.is_none_or(|other| other == found) => head = Some(found),
            Ok(_) => return Ok(Err("the copies of its head contradict")),
            Err(Flaw::Zero | Flaw::Bad) => bad_copy = Some(copy),
            Err(Flaw::Newer(found)) => {
                return Err(StorageError::NewerFormat { file: path, found, supported: VERSION });
            }
        }
    }
    let found = head.map(|head| OpenSegment { file, path, head, bad_copy });
    Ok(found.ok_or("no copy of its head can be read"))
}

/// Whether this can be the head of the segment of this name.
fn describes(head: &SegmentHead, name: SegmentName) -> bool {
    let table_end = u64::from(TABLE_OFFSET) + u64::from(head.slots) * u64::from(SLOT_BYTES);
    (head.epoch, head.before.index.next()) == (name.epoch, name.first)
        && table_end <= u64::from(head.data_offset)
        && head.data_offset <= head.file_bytes
        && head.file_bytes < FILE_BYTES_LIMIT
        && [head.data_offset, head.file_bytes].iter().all(|offset| offset % PAGE == 0)
}

/// The next page boundary.
pub(super) fn round_up(offset: u32) -> u32 {
    offset.next_multiple_of(PAGE)
}

/// How long the file of a segment is that has room for a batch of this size.
///
/// # Errors
/// It would be too long.
pub(super) fn file_bytes(options: &StorageOptions, batch: BatchSize) -> Result<u64, StorageError> {
    let head = layout(options, Home::default(), EntryId::default(), batch)?;
    Ok(u64::from(head.file_bytes))
}

fn layout(
    options: &StorageOptions,
    Home { owner, epoch }: Home,
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
    Ok(SegmentHead { owner, epoch, before, slots, data_offset, file_bytes })
}
