//! What a segment says about its end: torn by a crash, or shorter than it was.
//!
//! What looks like the header of a batch within another one, whose header says how long it is, is none: a
//! client may have sent it. Where the header is torn as well, that it is seeded with whose log it is must do.

use raft_core::{EntryId, Index};

use super::super::batch::{BATCH_HEADER, BatchHeader, Home, PAGE, SlotRecord};
use super::super::error::{StorageError, known};
use super::super::frame::Flaw;
use super::super::segment::round_up;
use super::Scan;
use crate::disk::Disk;

/// How the newest segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Ending {
    /// After a whole batch, with nothing behind it.
    Clean,
    /// In a batch that was being written; so many entries after the end have left a trace.
    Torn(u64),
    /// In a batch, and there is a trace of a later one.
    Cut(u64),
    /// Before sectors that cannot be read. No crash leaves that: a batch that was durable stood there, or
    /// may have.
    Unread(u64),
}

impl<F> Scan<F> {
    /// How the segment ends, after its last known entry `last`; nothing continues it.
    pub(in crate::storage) fn ending<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        last: EntryId,
    ) -> Result<Ending, StorageError> {
        let is_whole = self.is_batch_whole(last.index);
        // The batch in which the entry stood that cannot be read.
        let torn = if is_whole { self.batch + 1 } else { self.batch };
        let end = self.name.first.0 + u64::from(self.head.slots);
        let slots = (last.index.0 + 1..end).filter_map(|index| self.slot(Index(index)));
        let (mut traces, mut is_later) = (0, false);
        for slot in slots {
            traces += 1;
            is_later |= slot.batch >= torn;
        }
        // All of it is looked at, even where the next page is empty: what stood there may be lost
        // with its name, and then what comes after it is the only trace.
        let start = round_up(self.at);
        let (mut offset, mut batch_end) = (start, self.batch_end);
        let mut is_empty = is_whole && traces == 0;
        while offset < self.head.file_bytes {
            let home = self.head.home();
            let bytes = self.peek(disk, offset, BATCH_HEADER)?;
            is_empty &= bytes.iter().all(|byte| *byte == 0);
            let found = beyond(batch_end, bytes, home, offset);
            if let Some((_, header)) = known(found, &self.path)? {
                // A header is evidence of what was durable before it, whatever became of its batch. Of
                // entries that only their healed copies name, nobody knows any more which batch they
                // were in: the number of a batch would prove nothing.
                let reach = header.first.0.saturating_add(u64::from(header.entries));
                if offset == start && header.chain_before == last.chain {
                    batch_end = header.end(offset, self.head.file_bytes);
                }
                self.headers.push(header);
                is_later |= header.first > last.index.next();
                traces = traces.max(reach.saturating_sub(last.index.0 + 1));
            }
            offset += PAGE;
        }
        // Of a batch that was durable, more than its first sector is there, or it had no more.
        let start = if is_whole { round_up(self.at) } else { self.at };
        let end = if is_empty { start.saturating_add(1) } else { self.head.file_bytes };
        let is_unread = self.window.is_unread(u64::from(start)..u64::from(end));
        Ok(match (is_later, is_unread) {
            (true, _) => Ending::Cut(traces),
            (false, true) => Ending::Unread(traces),
            (false, false) if is_empty => Ending::Clean,
            (false, false) => Ending::Torn(traces),
        })
    }

    /// Whether anything says that the batch which was read last, with this entry in it that cannot be read,
    /// was durable: a slot of it or of a later one, or the header of a later one; or that it has been hurt:
    /// a sector that cannot be read.
    pub(in crate::storage) fn is_proven<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        entry: &SlotRecord,
    ) -> Result<bool, StorageError> {
        let index = entry.id.index;
        if self.window.is_unread(u64::from(entry.offset)..u64::from(self.head.file_bytes)) {
            return Ok(true);
        }
        let slots = self.name.first.0..self.name.first.0 + u64::from(self.head.slots);
        let proves = |index| self.slot(Index(index)).is_some_and(|slot| slot.batch >= self.batch);
        if slots.into_iter().any(proves) {
            return Ok(true);
        }
        let mut offset = round_up(self.at);
        while offset < self.head.file_bytes {
            let (home, batch_end) = (self.head.home(), self.batch_end);
            let bytes = self.peek(disk, offset, BATCH_HEADER)?;
            let found = beyond(batch_end, bytes, home, offset);
            let header = known(found, &self.path)?;
            if header.is_some_and(|(_, header)| header.first > index) {
                return Ok(true);
            }
            offset += PAGE;
        }
        Ok(false)
    }
}

/// The header of a batch that begins behind `end`, where the one before it ends: within a batch are the
/// bytes of clients, whatever they look like, and whatever version they say.
fn beyond(end: u32, bytes: &[u8], home: Home, offset: u32) -> Result<(u32, BatchHeader), Flaw> {
    if offset < end { Err(Flaw::Bad) } else { BatchHeader::decode_any(bytes, home, offset) }
}
