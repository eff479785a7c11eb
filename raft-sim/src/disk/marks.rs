//! What can be seen on a disk of a wound: which part it has hurt, and what is left beside it.

use std::ops::Range;

use bytes::Bytes;
use raft_core::EntryId;

use super::SimDisk;
use crate::fault::Part;
use crate::rot::{self, Wound};

impl SimDisk {
    /// The file of which a wound has hurt one sector and nothing else, if it is one of those that
    /// keep log and promises, or say what a snapshot covers.
    pub(crate) fn file_of(&self, wound: &Wound) -> Option<String> {
        rot::file_of(&self.0.borrow(), wound)
    }

    /// What part of the directory a wound has hurt first, unless it has taken a whole file.
    pub(crate) fn part_of(&self, wound: &Wound) -> Option<Part> {
        rot::part_of(&self.0.borrow(), wound)
    }

    /// Whether a wound has hurt one sector in which payloads stand, and nothing else.
    pub(crate) fn is_of_payloads(&self, wound: &Wound) -> bool {
        rot::is_of_payloads(&self.0.borrow(), wound)
    }

    /// Whether a wound is a sector that cannot be read, and nobody has written to.
    pub(crate) fn is_unwritten(&self, wound: &Wound) -> bool {
        rot::is_unwritten(&self.0.borrow(), wound)
    }

    /// Whether a wound is still there: nothing else has been written in its place.
    pub(crate) fn is_open(&self, wound: &Wound) -> bool {
        rot::is_open(&self.0.borrow(), wound)
    }

    /// What tells that the log went on to these entries, if a wound, and those before it, have left
    /// anything.
    pub(crate) fn trace_of(
        &self,
        wound: &Wound,
        earlier: &[Wound],
        lost: Range<u64>,
    ) -> Option<String> {
        rot::trace_of(&self.0.borrow(), wound, earlier, lost)
    }

    /// The last of these entries that has a slot which none of these wounds has met.
    pub(crate) fn slots_through(&self, wounds: &[Wound], entries: Range<u64>) -> Option<u64> {
        rot::slots_through(&self.0.borrow(), wounds, entries)
    }

    /// Whether one of these wounds has met the place of an entry's slot, or there is none.
    pub(crate) fn has_met_slot(&self, wounds: &[&Wound], index: u64) -> bool {
        rot::has_met_slot(&self.0.borrow(), wounds, index)
    }

    /// Of these entries, those of whose payloads a wound has met a copy.
    pub(crate) fn met<'a>(
        &self,
        wound: &Wound,
        entries: impl Iterator<Item = (EntryId, &'a Bytes)>,
    ) -> Vec<EntryId> {
        rot::met(&self.0.borrow(), wound, entries)
    }

    /// Whether these bytes can be read anywhere in the log.
    pub(crate) fn is_left(&self, bytes: &[u8]) -> bool {
        rot::is_left(&self.0.borrow(), bytes)
    }
}
