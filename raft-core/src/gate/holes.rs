//! Entries whose payloads are damaged here: what a disk has lost although it was durable.
//!
//! A hole is filled by a batch that heals it; until that batch is durable it stays a hole, so a node
//! that dies in between has promised nothing. The log knows the identity of every hole; this list
//! says only that nobody can read what was there.

use alloc::vec::Vec;

use super::Gate;
use crate::types::Index;

/// The damaged entries, by index.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes(Vec<Hole>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    index: Index,
    /// The batch that fills it, once one is on its way.
    filled_by: Option<u64>,
}

impl Holes {
    /// Holes at these indices, which ascend.
    pub(super) fn new(indices: Vec<Index>) -> Self {
        assert!(indices.is_sorted_by(|a, b| a < b), "holes ascend");
        Self(indices.into_iter().map(|index| Hole { index, filled_by: None }).collect())
    }

    /// Where the first one is.
    #[inline]
    pub(super) fn first(&self) -> Option<Index> {
        self.0.first().map(|hole| hole.index)
    }

    /// The first one that no batch fills yet.
    pub(super) fn first_open(&self) -> Option<Index> {
        self.0.iter().find(|hole| hole.filled_by.is_none()).map(|hole| hole.index)
    }

    /// The first one after `index`.
    pub(super) fn after(&self, index: Index) -> Option<Index> {
        let position = self.0.partition_point(|hole| hole.index <= index);
        self.0.get(position).map(|hole| hole.index)
    }

    /// The last one through `index`.
    pub(super) fn last_through(&self, index: Index) -> Option<Index> {
        let position = self.0.partition_point(|hole| hole.index <= index);
        self.0[..position].last().map(|hole| hole.index)
    }

    /// Whether there is one at `index` that no batch fills yet.
    pub(super) fn is_open(&self, index: Index) -> bool {
        self.position(index).is_ok_and(|position| self.0[position].filled_by.is_none())
    }

    /// Whether what is at `index` cannot be read.
    pub(super) fn contains(&self, index: Index) -> bool {
        self.position(index).is_ok()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// One more was found. A batch that was on its way to fill it has come too early or in vain.
    pub(super) fn open(&mut self, index: Index) {
        match self.position(index) {
            Ok(position) => self.0[position].filled_by = None,
            Err(position) => self.0.insert(position, Hole { index, filled_by: None }),
        }
    }

    /// The batch `n` fills the hole at `index`.
    pub(super) fn fill(&mut self, index: Index, n: u64) {
        if let Ok(position) = self.position(index) {
            self.0[position].filled_by = Some(n);
        }
    }

    /// The batch `n` makes all holes through `index` meaningless.
    pub(super) fn fill_through(&mut self, index: Index, n: u64) {
        for hole in self.0.iter_mut().take_while(|hole| hole.index <= index) {
            hole.filled_by = Some(n);
        }
    }

    /// All batches through `n` are durable.
    pub(super) fn settle(&mut self, n: u64) {
        self.0.retain(|hole| hole.filled_by.is_none_or(|batch| batch > n));
    }

    /// What is through `index` is gone from the log.
    pub(super) fn compact_to(&mut self, index: Index) {
        self.0.retain(|hole| hole.index > index);
    }

    /// What is after `index` is gone from the log.
    pub(super) fn truncate_after(&mut self, index: Index) {
        self.0.retain(|hole| hole.index <= index);
    }

    /// Each hole, and the batch that fills it counted from the last durable one.
    pub(super) fn relative_to(&self, durable: u64) -> impl Iterator<Item = (Index, Option<u64>)> {
        self.0.iter().map(move |hole| (hole.index, hole.filled_by.map(|batch| batch - durable)))
    }

    fn position(&self, index: Index) -> Result<usize, usize> {
        self.0.binary_search_by_key(&index, |hole| hole.index)
    }
}

impl Gate {
    /// Whether what is at `index` is damaged.
    pub(crate) fn is_hole(&self, index: Index) -> bool {
        self.holes.contains(index)
    }

    /// Whether what is at `index` is damaged, and nothing is on its way to heal it.
    pub(crate) fn is_open_hole(&self, index: Index) -> bool {
        self.holes.is_open(index)
    }

    /// The first damaged entry.
    pub(crate) fn first_hole(&self) -> Option<Index> {
        self.holes.first()
    }

    /// The first damaged entry that nothing is on its way to heal.
    pub(crate) fn first_open_hole(&self) -> Option<Index> {
        self.holes.first_open()
    }

    /// The first damaged entry after `index`.
    pub(crate) fn hole_after(&self, index: Index) -> Option<Index> {
        self.holes.after(index)
    }

    /// The last damaged entry through `index`.
    pub(crate) fn last_hole_through(&self, index: Index) -> Option<Index> {
        self.holes.last_through(index)
    }

    /// How many entries are damaged.
    #[inline]
    pub(crate) fn hole_count(&self) -> usize {
        self.holes.len()
    }

    /// An entry that was durable is damaged.
    pub(crate) fn open_hole(&mut self, index: Index) {
        self.holes.open(index);
    }
}
