//! A slot that is whole and is not of this log: a sector of an earlier directory of this very server,
//! where the same place has the same number. (What others have written does not pass its checksum.)

use raft_core::{EntryId, Index};

use super::super::batch::{BATCH_HEADER, BatchHeader, ENTRY_HEADER, Place, SlotRecord};
use super::super::error::{StorageError, known};
use super::super::segment::round_up;
use super::{Head, Scan};
use crate::disk::Disk;

/// All that a scan knows of the batch that it is in.
type Batch = (u32, Index, u16, u32);

impl<F> Scan<F> {
    /// Follows a slot to its entry, and says what stands there. Nothing if the slot is not of this log:
    /// where the entry after `before` must stand there is another one, it chains from `before`, and what
    /// comes next goes on from it. Of two that contradict each other the one that its neighbours on both
    /// sides know is right.
    pub(super) fn follow<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        slot: &SlotRecord,
        before: EntryId,
    ) -> Result<Option<Head>, StorageError> {
        let (was, headers) = (self.batch_now(), self.headers.len());
        self.come_to(disk, slot)?;
        let head = self.compare_head(disk, slot)?;
        if head == Head::Same {
            return Ok(Some(head));
        }
        let (there, read) = (self.batch_now(), self.headers.split_off(headers));
        self.be_in(was);
        let found = self.find(disk, before)?;
        let is_stray = match found {
            // They agree on who it is, and not on where.
            Some(found) if found.id == slot.id => self.payload(disk, &found, before)?.is_some(),
            Some(found) => self.is_continued(disk, &found, before)?,
            None => false,
        };
        self.headers.truncate(headers);
        self.be_in(was);
        if is_stray {
            return Ok(None);
        }
        self.be_in(there);
        self.headers.extend(read);
        Ok(Some(head))
    }

    fn batch_now(&self) -> Batch {
        (self.batch, self.batch_first, self.batch_entries, self.batch_end)
    }

    fn be_in(&mut self, batch: Batch) {
        (self.batch, self.batch_first, self.batch_entries, self.batch_end) = batch;
    }

    /// Whether an entry follows `before`, and the next one, or the next batch, follows it.
    fn is_continued<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        found: &SlotRecord,
        before: EntryId,
    ) -> Result<bool, StorageError> {
        if self.payload(disk, found, before)?.is_none() {
            return Ok(false);
        }
        let at = found.offset + ENTRY_HEADER + found.len;
        if !self.is_batch_whole(found.id.index) {
            let next = self.entry_head(disk, found.batch, at, found.id.index.next())?;
            let Some(next) = next else { return Ok(false) };
            let next =
                SlotRecord { id: next.id, len: next.len, offset: at, kind: next.kind, ..*found };
            return Ok(self.payload(disk, &next, found.id)?.is_some());
        }
        let offset = round_up(at);
        if offset >= self.head.file_bytes {
            return Ok(false);
        }
        let place = Place { home: self.head.home(), batch: found.batch + 1, offset };
        let header = BatchHeader::decode(self.peek(disk, offset, BATCH_HEADER)?, place);
        let header = known(header, &self.path)?;
        let follows = (found.id.index.next(), found.id.chain);
        Ok(header.is_some_and(|header| (header.first, header.chain_before) == follows))
    }
}
