//! A file on the simulated disk: what it shows, and what of that a power loss could take back.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{SECTOR_BYTES, SyncFailure};
use crate::rng::Draw;

#[derive(Clone, Debug, Default)]
pub(crate) struct Inode {
    pub(crate) data: Vec<u8>,
    /// How long the file is for certain after a power loss.
    pub(crate) durable_len: usize,
    /// The sectors written since the last sync, oldest first; a sector may occur again.
    pub(crate) dirty: Vec<DirtySector>,
    /// For each of `dirty`, the bytes before that write.
    pub(crate) before: Vec<u8>,
    pub(super) hard_state: bool,
    /// What durable sectors held before they were last written, if that is remembered.
    pub(crate) past: Option<BTreeMap<usize, Vec<u8>>>,
    /// Sectors that cannot be read, and how many reads more; none, if only a write helps.
    pub(crate) bad: BTreeMap<usize, Option<u32>>,
    /// What a sync has said to be durable and is not: the sectors, and what the disk has there.
    pub(crate) lied: BTreeMap<usize, Vec<u8>>,
    /// Whether any of `dirty` is forgotten.
    has_forgotten: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct DirtySector {
    pub(crate) sector: usize,
    /// A failed sync told the cache that it is clean: only a new write makes a sync write it.
    pub(crate) forgotten: bool,
    /// Written by an earlier process.
    pub(super) left_over: bool,
}

impl Inode {
    /// A file of so many zero bytes, none of them durable.
    pub(super) fn zeroed(len: usize, hard_state: bool) -> Self {
        Self { data: vec![0; len], hard_state, ..Self::default() }
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.dirty.iter().any(|dirty| !dirty.left_over) || self.durable_len < self.data.len()
    }

    pub(crate) fn before(&self, position: usize) -> &[u8] {
        &self.before[position * SECTOR_BYTES..(position + 1) * SECTOR_BYTES]
    }

    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            // It makes no file longer either.
            return;
        }
        let end = offset + data.len();
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        for sector in offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            self.remember(sector);
            self.bad.remove(&sector);
        }
        self.data[offset..end].copy_from_slice(data);
    }

    fn remember(&mut self, sector: usize) {
        if self.has_forgotten {
            for dirty in &mut self.dirty {
                dirty.forgotten &= dirty.sector != sector;
            }
        }
        self.dirty.push(DirtySector { sector, forgotten: false, left_over: false });
        let start = sector * SECTOR_BYTES;
        let end = self.data.len().min(start + SECTOR_BYTES);
        self.before.extend_from_slice(&self.data[start..end]);
        self.before.resize(self.dirty.len() * SECTOR_BYTES, 0);
    }

    /// Whether one of these bytes is in a sector that cannot be read; some of them can be after a while.
    pub(super) fn is_unreadable(&mut self, bytes: Range<usize>, is_peeking: bool) -> bool {
        if self.bad.is_empty() || bytes.is_empty() {
            return false;
        }
        let sectors = bytes.start / SECTOR_BYTES..=(bytes.end - 1) / SECTOR_BYTES;
        let Some((&sector, left)) = self.bad.range_mut(sectors).next() else { return false };
        if let Some(left) = left.as_mut().filter(|_| !is_peeking) {
            *left -= 1;
            if *left == 0 {
                self.bad.remove(&sector);
            }
        }
        true
    }

    /// Shows what it held before anything was written that no sync has made durable.
    pub(super) fn show_durable(&mut self) {
        for position in (0..self.dirty.len()).rev() {
            let start = self.dirty[position].sector * SECTOR_BYTES;
            let end = self.data.len().min(start + SECTOR_BYTES);
            let before = position * SECTOR_BYTES;
            self.data[start..end].copy_from_slice(&self.before[before..before + (end - start)]);
        }
    }

    /// The file is about to be synced: what an earlier one has lied about is durable from now on,
    /// what is unsynced is lied about if `is_lie` says so.
    pub(super) fn note_sync(&mut self, is_lie: bool) {
        self.lied.clear();
        // The first write since the last sync has replaced what was durable.
        for position in (0..self.dirty.len()).rev().filter(|_| is_lie) {
            self.lied.insert(self.dirty[position].sector, self.before(position).to_vec());
        }
    }

    /// What the file shows is what the disk holds.
    pub(crate) fn forget_writes(&mut self) {
        self.dirty.clear();
        self.before.clear();
        self.has_forgotten = false;
    }

    /// Everything is durable but what an earlier failed sync made the cache forget.
    pub(crate) fn flush(&mut self) {
        self.durable_len = self.data.len();
        if !self.has_forgotten {
            self.keep_past();
            self.forget_writes();
            return;
        }
        let mut kept = Vec::new();
        for position in (0..self.dirty.len()).filter(|&at| self.dirty[at].forgotten) {
            kept.extend_from_slice(self.before(position));
        }
        self.dirty.retain(|dirty| dirty.forgotten);
        self.has_forgotten = !self.dirty.is_empty();
        self.before = kept;
    }

    /// What the sectors held that are about to become durable.
    fn keep_past(&mut self) {
        let Some(mut past) = self.past.take() else { return };
        // The first write since the last sync has replaced what was durable.
        for position in (0..self.dirty.len()).rev() {
            past.insert(self.dirty[position].sector, self.before(position).to_vec());
        }
        self.past = Some(past);
    }

    /// Returns whether it did anything to the pages.
    pub(super) fn fail_sync(&mut self, how: SyncFailure, draw: &mut Draw) -> bool {
        let pick = draw.word();
        let mut took_hold = false;
        for position in (0..self.dirty.len()).rev() {
            match how {
                SyncFailure::KeepsPages => {
                    self.dirty[position].forgotten = true;
                    took_hold = true;
                }
                SyncFailure::DropsPages if pick >> (position % 64) & 1 == 1 => {
                    took_hold |= self.restore(position);
                }
                SyncFailure::DropsPages => {}
            }
        }
        match how {
            SyncFailure::KeepsPages => self.has_forgotten = true,
            SyncFailure::DropsPages => self.flush(),
        }
        took_hold
    }

    /// The sector shows what it did before the write at `position`. Returns whether that differs.
    pub(crate) fn restore(&mut self, position: usize) -> bool {
        let start = self.dirty[position].sector * SECTOR_BYTES;
        let end = self.data.len().min(start + SECTOR_BYTES);
        let from = position * SECTOR_BYTES;
        let before = &self.before[from..from + (end - start)];
        let differs = self.data[start..end] != *before;
        self.data[start..end].copy_from_slice(before);
        differs
    }
}
