//! Reads what nobody asks for, a little at a time, and finds damage while there still is another copy.
//!
//! A scrub goes round: first the records that are kept twice, whose bad copies it writes again;
//! then the log, entry by entry; then the bytes of the snapshots. What it cannot repair it names: a
//! peer may still have it. An older snapshot that cannot be read is removed. A host calls it at the
//! rate that it can afford.

use raft_core::{EntryId, Index};

use super::Storage;
use super::batch::{PAGE, SLOT_BYTES, SlotRecord};
use super::error::{InFile, StorageError};
use super::heal::Heals;
use super::identity::{self, Identity, IdentityFile};
use super::load::OpenForRead;
use super::log::Log;
use super::record::encode_segment_head;
use super::ring::Ring;
use super::segment::{OpenSegment, SegmentName, open_head};
use crate::disk::Disk;

/// Slots that share a sector.
const SLOTS_PER_SECTOR: u64 = 512 / SLOT_BYTES as u64;

/// What a part of a scrub has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStep {
    /// The bytes that it has checked, about.
    pub bytes: u64,
    /// Copies and slots that could not be read, and were written again.
    pub repaired: u64,
    /// Entries whose payloads cannot be read.
    pub damaged: Vec<EntryId>,
    /// Snapshots of which some bytes cannot be read.
    pub snapshots: Vec<EntryId>,
    /// Whether everything has been checked once since the round began; the next step begins another.
    pub is_round_over: bool,
}

impl ScrubStep {
    /// Whether there is anything to tell beside how much was checked.
    fn has_found(&self) -> bool {
        self.repaired > 0 || !(self.damaged.is_empty() && self.snapshots.is_empty())
    }
}

/// Where a scrub goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scrub {
    /// At what is kept twice.
    #[default]
    Copies,
    /// At the entry after this one.
    Log(Index),
    /// The same, once more, because there was no room for a repair: what is damaged through the second
    /// one has been named.
    Retry(Index, Index),
    /// At this byte of the snapshot with this number.
    Snapshot(usize, u64),
}

impl<D: Disk> Storage<D> {
    /// Checks about `bytes_max` more bytes of what is durable.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]: nothing was found, and what was found before waits for room; call
    /// again later. A disk call failed: the storage refuses everything
    /// from then on. What cannot be read is no error.
    pub fn scrub(&mut self, bytes_max: u64) -> Result<ScrubStep, StorageError> {
        self.guarded(|storage| {
            let mut step = ScrubStep::default();
            while step.bytes < bytes_max && !step.is_round_over {
                match storage.scrub_on(bytes_max, &mut step) {
                    // Peers have what is damaged, whatever room there is here: it is told now.
                    Err(StorageError::NoSpace { .. }) if step.has_found() => break,
                    result => result?,
                }
            }
            Ok(step)
        })
    }

    fn scrub_on(&mut self, bytes_max: u64, step: &mut ScrubStep) -> Result<(), StorageError> {
        self.scrub = match self.scrub {
            Scrub::Copies => {
                self.scrub_copies(step)?;
                Scrub::Log(self.log.before.index)
            }
            Scrub::Log(after) => self.scrub_log((after, Index::ZERO), bytes_max, step)?,
            Scrub::Retry(after, named) => self.scrub_log((after, named), bytes_max, step)?,
            Scrub::Snapshot(number, offset) => self.scrub_snapshot(number, offset, step)?,
        };
        Ok(())
    }

    fn scrub_copies(&mut self, step: &mut ScrubStep) -> Result<(), StorageError> {
        step.repaired += repair_identity(&mut self.disk, &self.identity)?;
        for (number, _) in self.hard_state.bad_copies(&mut self.disk)? {
            self.hard_state.repair(&mut self.disk, number)?;
            step.repaired += 1;
        }
        let files = self.hard_state.files();
        let ring = Ring::read(&mut self.disk, files, self.identity.owner())?;
        step.repaired += ring.repair(&mut self.disk, files)?;
        step.repaired += u64::from(self.snapshots.repair(&mut self.disk)?);
        step.repaired += self.log.repair_heads(&mut self.disk)?;
        step.bytes += u64::from(PAGE) * 16;
        Ok(())
    }

    /// Checks entries after `after`, and names those that are damaged after `named`; where to go on.
    fn scrub_log(
        &mut self,
        (after, named): (Index, Index),
        bytes_max: u64,
        step: &mut ScrubStep,
    ) -> Result<Scrub, StorageError> {
        let Self { log, disk, .. } = self;
        let mut at = after.max(log.before.index);
        let last = log.durable().index;
        if at >= last {
            return Ok(Scrub::Snapshot(0, 0));
        }
        let segment = log.open_segment_of(disk, at.next())?;
        let is_begun = at.next() != segment.name.first && at != log.before.index;
        if !is_begun && log.is_sealed(segment.name) {
            disk.forget(&segment.file);
        }
        let (mut bad_slots, mut exposed, mut apart) = (Vec::new(), Vec::new(), None);
        while at < last.min(segment.end) && step.bytes < bytes_max {
            let before = log.id(at).expect("it is durable");
            let id = log.id(at.next()).expect("it is durable");
            let looked = log.look(disk, &segment, id, before)?;
            step.bytes += u64::from(SLOT_BYTES) * 2;
            step.bytes += looked.payload.as_ref().map_or(0, |payload| payload.len() as u64);
            bad_slots.extend(looked.slot_again);
            match looked.payload {
                Some(payload)
                    if looked.is_exposed || log.is_lost_apart(disk, id, before, &mut apart)? =>
                {
                    exposed.push((id, payload));
                }
                Some(_) => {}
                None if id.index > named => step.damaged.push(id),
                None => {}
            }
            at = id.index;
        }
        if !step.damaged.is_empty() {
            // If there is no room for what follows, this part is looked at again.
            self.scrub = Scrub::Retry(after, at);
        }
        // The slot alone names it, and slots are written together with others: it is kept apart before any
        // is written.
        let apart: Vec<_> =
            exposed.iter().map(|(id, payload)| (*id, segment.name, payload)).collect();
        let kept_apart = match log.heals.write(disk, &apart) {
            Err(error) if !matches!(error, StorageError::NoSpace { .. }) => return Err(error),
            result => result.map(|()| apart.len() as u64),
        };
        step.repaired += log.repair_slots(disk, &segment, &bad_slots)?;
        step.repaired += kept_apart?;
        if !apart.is_empty() {
            // The last batch has no slots yet, and what else of it rots would pass for torn. They
            // share sectors with the names that were kept apart just now.
            self.vouch()?;
        }
        Ok(Scrub::Log(at))
    }

    /// An older snapshot that cannot be read goes; the newest is named.
    fn scrub_snapshot(
        &mut self,
        number: usize,
        offset: u64,
        step: &mut ScrubStep,
    ) -> Result<Scrub, StorageError> {
        if number >= self.snapshots.list().count() {
            step.is_round_over = true;
            return Ok(Scrub::Copies);
        }
        Ok(match self.snapshots.check(&mut self.disk, number, offset)? {
            None => Scrub::Snapshot(number + 1, 0),
            Some((_, bytes, true)) => {
                step.bytes += bytes;
                Scrub::Snapshot(number, offset + bytes)
            }
            Some((snapshot, bytes, false)) => {
                step.bytes += bytes;
                if self.snapshots.discard(&mut self.disk, number)? {
                    step.repaired += 1;
                    Scrub::Snapshot(number, 0)
                } else {
                    step.snapshots.push(snapshot);
                    Scrub::Snapshot(number + 1, 0)
                }
            }
        })
    }
}

impl<F> Log<F> {
    /// Whether nothing is written to a segment any more, but what is repaired. The pages of the last one are
    /// still written to, and would be read from the disk for that.
    fn is_sealed(&self, name: SegmentName) -> bool {
        self.active.as_ref().is_none_or(|active| active.name != name)
    }

    /// Whether an entry is kept apart, as far as this process knows, and a start would not find it there.
    /// `apart`: what a start would find there, once somebody has looked.
    fn is_lost_apart<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        id: EntryId,
        before: EntryId,
        apart: &mut Option<Heals>,
    ) -> Result<bool, StorageError> {
        if self.heals.place(id.index).is_none() {
            return Ok(false);
        }
        let found = match apart.take() {
            Some(found) => found,
            None => self.heals.read_again(disk)?,
        };
        let is_lost = found.find(disk, id, before)?.is_none();
        *apart = Some(found);
        Ok(is_lost)
    }

    /// Writes heads of segments again whose twins can be read; how many there were.
    fn repair_heads<D: Disk<File = F>>(&self, disk: &mut D) -> Result<u64, StorageError> {
        let active = self.active.as_ref().map(|segment| segment.name);
        let mut repaired = 0;
        let names: Vec<SegmentName> = self.sealed.iter().copied().chain(active).collect();
        for name in names {
            let Ok(OpenSegment { file, path, head, bad_copy: Some(copy) }) =
                open_head(disk, self.owner, name)?
            else {
                continue;
            };
            let bytes = encode_segment_head(&head, copy);
            disk.write(&file, u64::from(copy * PAGE), &bytes).in_file(&path)?;
            disk.sync(&file).in_file(&path)?;
            repaired += 1;
        }
        Ok(repaired)
    }

    /// Writes slots again whose entries can be read; how many there were. A sector that also names an
    /// entry whose payload or header is gone is left alone: its name may be nowhere else, and a power cut
    /// may take what is being written.
    fn repair_slots<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        segment: &OpenForRead<F>,
        slots: &[SlotRecord],
    ) -> Result<u64, StorageError> {
        let mut repaired = 0;
        for slot in slots {
            let number = slot.id.index.0 - segment.name.first.0;
            let first = segment.name.first.0 + number / SLOTS_PER_SECTOR * SLOTS_PER_SECTOR;
            let mut is_sound = true;
            for index in first.max(self.before.index.0 + 1)..first + SLOTS_PER_SECTOR {
                let ids = self.id(Index(index)).zip(self.id(Index(index - 1)));
                let Some((id, before)) = ids.filter(|_| Index(index) <= segment.end) else { break };
                let looked = self.look(disk, segment, id, before)?;
                is_sound &= looked.payload.is_some() && !looked.is_exposed;
            }
            if is_sound {
                let mut bytes = Vec::new();
                slot.encode(segment.home, &mut bytes);
                let offset = segment.slot_offset(slot.id.index);
                disk.write(&segment.file, offset, &bytes).in_file(&segment.path)?;
                repaired += 1;
            }
        }
        if repaired > 0 {
            disk.sync(&segment.file).in_file(&segment.path)?;
        }
        Ok(repaired)
    }
}

/// Both copies are written from memory if neither can be read: this process knows who it is.
fn repair_identity<D: Disk>(disk: &mut D, identity: &Identity) -> Result<u64, StorageError> {
    match IdentityFile::open(disk, Some(*identity)) {
        Ok((file, _)) => {
            file.repair(disk, identity)?;
            Ok(u64::from(file.bad().is_some()))
        }
        Err(StorageError::Amnesia { .. } | StorageError::Missing { .. }) => {
            identity::create(disk, identity)?;
            Ok(2)
        }
        Err(error) => Err(error),
    }
}
