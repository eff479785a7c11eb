//! When two gates are equal: when the same batches are on their way.
//!
//! Deliberately absent: how many batches came before, which counts as little as the moment does.

use core::hash::{Hash, Hasher};

use super::Gate;
use crate::types::Index;

impl Gate {
    /// What the batches on their way will bring, each counted from the last durable one: the last
    /// of them, the hard state, a snapshot, and the log.
    fn on_its_way(&self) -> impl Iterator<Item = (u64, Index)> {
        let Self { issued, durable, hard_state, install, .. } = *self;
        let ends = [issued, hard_state, install];
        let ends = ends.into_iter().map(move |n| (n.saturating_sub(durable), Index::ZERO));
        let marks = self.marks.iter().map(move |(n, index)| (n - durable, *index));
        ends.chain(marks)
    }
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        self.on_its_way().eq(other.on_its_way())
            && self.incarnation == other.incarnation
            && self.written_index == other.written_index
            && self.holes.relative_to(self.durable).eq(other.holes.relative_to(other.durable))
            && self.staged == other.staged
            && self.waiting == other.waiting
            && self.acks == other.acks
    }
}

impl Eq for Gate {}

impl Hash for Gate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for on_its_way in self.on_its_way() {
            on_its_way.hash(state);
        }
        for hole in self.holes.relative_to(self.durable) {
            hole.hash(state);
        }
        let Self { incarnation, written_index, staged, waiting, acks, .. } = self;
        (incarnation, written_index, staged, waiting, acks).hash(state);
    }
}
