//! The states that were visited, in the order of their discovery: names, and how each was reached.
//!
//! A state of three servers takes 36 bytes and its place in the index. Because breadth comes first,
//! the part that was found last is the frontier.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

/// The states of one segment: memory grows by these and is never copied.
const SEGMENT: usize = 1 << 16;

/// Visited states.
#[derive(Debug)]
pub(crate) struct Visited {
    /// Names in one state.
    width: usize,
    /// Names, then the state it was reached from and the step that led to it.
    segments: Vec<Vec<u32>>,
    index: HashTable<u32>,
    len: usize,
}

impl Visited {
    pub(crate) fn new(width: usize) -> Self {
        Self { width, segments: Vec::new(), index: HashTable::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Names in a record: those of the state, its parent and the step.
    pub(crate) fn stride(&self) -> usize {
        self.width + 2
    }

    fn record(&self, at: usize) -> &[u32] {
        let start = at % SEGMENT * self.stride();
        &self.segments[at / SEGMENT][start..start + self.stride()]
    }

    /// The names of a state.
    pub(crate) fn state(&self, at: usize) -> &[u32] {
        &self.record(at)[..self.width]
    }

    /// The state from which one was reached, and by which step.
    pub(crate) fn parent(&self, at: usize) -> (usize, u32) {
        let record = self.record(at);
        (record[self.width] as usize, record[self.width + 1])
    }

    /// Whether a state was visited.
    pub(crate) fn contains(&self, state: &[u32]) -> bool {
        self.index.find(hash(state), |at| self.state(*at as usize) == state).is_some()
    }

    /// Adds a state with its parent and step, unless it was visited; whether it is new.
    pub(crate) fn insert(&mut self, record: &[u32]) -> bool {
        let state = &record[..self.width];
        if self.contains(state) {
            return false;
        }
        let at = u32::try_from(self.len).expect("fewer than 2^32 states fit memory");
        if self.len.is_multiple_of(SEGMENT) {
            self.segments.push(Vec::with_capacity(SEGMENT * self.stride()));
        }
        let segment = self.segments.last_mut().expect("one was pushed");
        segment.extend_from_slice(record);
        self.len += 1;
        let Self { width, segments, index, .. } = self;
        let stride = *width + 2;
        index.insert_unique(hash(state), at, |at| {
            let at = *at as usize;
            let start = at % SEGMENT * stride;
            hash(&segments[at / SEGMENT][start..start + *width])
        });
        true
    }

    /// Bytes of memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.segments.len() * SEGMENT * self.stride() * 4 + self.index.allocation_size()
    }
}

fn hash(state: &[u32]) -> u64 {
    FxBuildHasher.hash_one(state)
}
