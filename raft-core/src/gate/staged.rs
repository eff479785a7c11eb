//! The batch that a step is filling.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::durable::{HardState, PersistBatch, SnapshotMeta};
use crate::entry::Entries;
use crate::types::{Index, PersistSeq};

/// The most batches that may be on their way to the disk before more is taken.
pub(super) const BATCHES_MAX: u64 = 1 << 12;

/// What the next batch will say, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Staged {
    pub(super) hard_state: Option<HardState>,
    pub(super) install: Option<Arc<SnapshotMeta>>,
    pub(super) truncate_from: Option<Index>,
    pub(super) heal: Vec<Entries>,
    pub(super) append: Entries,
    pub(super) compact_to: Option<Index>,
}

impl Staged {
    /// Whether entries are staged, and nothing else.
    pub(super) fn is_append_alone(&self) -> bool {
        let Self { hard_state, install, truncate_from, heal, append: _, compact_to } = self;
        hard_state.is_none()
            && install.is_none()
            && truncate_from.is_none()
            && heal.is_empty()
            && compact_to.is_none()
    }

    /// Whether nothing is staged.
    pub(super) fn is_empty(&self) -> bool {
        self.is_append_alone() && self.append.is_empty()
    }

    /// Whether nothing is staged that an installation must not follow.
    pub(super) fn is_hard_state_alone(&self) -> bool {
        let Self { hard_state: _, install, truncate_from, heal, append, compact_to } = self;
        install.is_none()
            && truncate_from.is_none()
            && heal.is_empty()
            && append.is_empty()
            && compact_to.is_none()
    }

    /// Takes everything out, as the batch `seq`.
    pub(super) fn take(&mut self, seq: PersistSeq) -> PersistBatch {
        let Self { hard_state, install, truncate_from, heal, append, compact_to } = self;
        PersistBatch {
            seq,
            hard_state: hard_state.take(),
            install: install.take(),
            truncate_from: truncate_from.take(),
            heal: core::mem::take(heal),
            append: core::mem::take(append),
            compact_to: compact_to.take(),
        }
    }
}
