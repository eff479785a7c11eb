//! What a node finds on its disk when it starts, and what it asks to be written.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::entry::{Entries, Payload, genesis_id};
use crate::membership::Membership;
use crate::types::{EntryId, Epoch, Incarnation, Index, Member, PersistSeq, Span, Term};

/// The persistent state of Figure 2 that is not the log, and what guards its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The cluster epoch that the node belongs to.
    pub epoch: Epoch,
    /// How often the node has started in its lineage.
    pub incarnation: Incarnation,
    /// The latest term that the node has seen (`currentTerm`).
    pub term: Term,
    /// The candidate that received its vote in that term (`votedFor`). Changes only from `None`,
    /// and back only when the term increases.
    pub vote: Option<Member>,
    /// The longest promise to elect no other leader that the node has ever given (thesis §6.4.1).
    /// It only grows. A start waits it out, for what was promised just before may still be relied
    /// upon.
    pub promise: Span,
    /// The log may once have reached further than what is left of it: what the node has acknowledged
    /// is not known. It is set by whoever reads the disk, before anything there is changed, and
    /// cleared by the core once it has caught up with what a leader had (the barrier chapter).
    /// Until then the node neither votes nor campaigns.
    pub is_tail_unknown: bool,
}

impl fmt::Display for HardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.term, self.incarnation)?;
        if self.epoch > Epoch::ZERO {
            write!(f, " {}", self.epoch)?;
        }
        if let Some(vote) = self.vote {
            write!(f, " vote={vote}")?;
        }
        if self.promise.0 > 0 {
            write!(f, " promise={}us", self.promise.0)?;
        }
        if self.is_tail_unknown { f.write_str(" tail=unknown") } else { Ok(()) }
    }
}

/// What a snapshot replaces (§7): the log through `last`, and the membership in force there.
///
/// The bytes of the state machine are the host's; the core only names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The last entry that the snapshot covers.
    pub last: EntryId,
    /// The membership in force at that entry.
    pub membership: Membership,
}

impl fmt::Display for SnapshotMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot{} {}", self.last, self.membership)
    }
}

/// One position of the log as a disk gives it back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The entry is there. `recover` computes its chain again and compares.
    Resident {
        /// The identity stored apart from the payload.
        id: EntryId,
        /// The payload.
        payload: Payload,
    },
    /// The entry is there, and its payload is asked for with `Load` when it is needed. Never a
    /// membership: those are always resident.
    Cold {
        /// The identity stored apart from the payload.
        id: EntryId,
        /// The bytes of the payload.
        bytes: usize,
    },
    /// The entry was there, and its payload cannot be read any more. What stands before it may be
    /// [`Slot::Resident`] or [`Slot::Cold`].
    Damaged {
        /// The identity stored apart from the payload.
        id: EntryId,
        /// The bytes that the payload had.
        bytes: usize,
        /// Whether it was a membership: then this node cannot tell whose votes decide.
        is_membership: bool,
    },
}

impl Slot {
    /// The identity of the entry.
    #[must_use]
    pub fn id(&self) -> EntryId {
        match self {
            Self::Resident { id, .. } | Self::Cold { id, .. } | Self::Damaged { id, .. } => *id,
        }
    }
}

/// All that a node starts from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecoveredState {
    /// The newest durable hard state.
    pub hard_state: HardState,
    /// The newest durable snapshot; genesis is the one at index 0.
    pub snapshot: Arc<SnapshotMeta>,
    /// The log after the snapshot, or after an earlier entry that is still kept: consecutive.
    pub slots: Vec<Slot>,
    /// The identity of the entry before the first slot; the snapshot's unless more is kept.
    pub before: EntryId,
    /// The highest index that is known to be committed; at most the last one found. If the tail is unknown,
    /// nothing is taken for committed beyond the snapshot and what is applied, whatever this says: with the
    /// end of a log it may be lost that other entries took the place of those before it.
    pub commit: Index,
    /// The index through which the host's state machine has applied: zero if it starts empty.
    pub applied: Index,
    /// Whether the snapshot is genesis and not durable yet; the first batch installs it.
    pub founding: bool,
    /// Whether only the description of the snapshot is left: its bytes cannot be read any more.
    pub is_snapshot_damaged: bool,
}

impl RecoveredState {
    /// The start of a founder: a snapshot at index 0 that says who the members are, the same on
    /// all founders. The first batch makes it durable.
    #[must_use]
    pub fn genesis(membership: Membership) -> Self {
        let last = genesis_id(&membership);
        Self {
            hard_state: HardState::default(),
            snapshot: Arc::new(SnapshotMeta { last, membership }),
            slots: Vec::new(),
            before: last,
            commit: Index::ZERO,
            applied: Index::ZERO,
            founding: true,
            is_snapshot_damaged: false,
        }
    }
}

/// One unit of the ordered persist stream. The host executes its fields in the order in which they
/// stand here; batches in the order of `seq`.
///
/// What a crash may leave: all batches before some batch, then a beginning of that one: its
/// fields in order, its entries in order. `hard_state` and `install` are all or nothing, and a
/// changed hard state is durable before anything after it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PersistBatch {
    /// Its number; the next one's is one higher.
    pub seq: PersistSeq,
    /// The hard state, when it has changed.
    pub hard_state: Option<HardState>,
    /// A snapshot whose chunks are all staged (for index 0: genesis, which has none) becomes the
    /// newest one. The log through its index goes. What follows stays if the log's entry at that
    /// index has the snapshot's chain; otherwise the whole log goes.
    pub install: Option<Arc<SnapshotMeta>>,
    /// The entries at this index and after it go.
    pub truncate_from: Option<Index>,
    /// Runs of entries whose payloads take the place of damaged ones: same index, term and chain.
    /// The log does not get shorter, whenever the power fails.
    pub heal: Vec<Entries>,
    /// Entries that follow the end of the log.
    pub append: Entries,
    /// The prefix of the log through this index may go; its snapshot is durable.
    pub compact_to: Option<Index>,
}

impl PersistBatch {
    /// A batch that appends entries and does nothing else.
    #[inline]
    pub(crate) fn of_append(seq: PersistSeq, append: Entries) -> Self {
        let (hard_state, install, truncate_from, compact_to) = (None, None, None, None);
        Self { seq, hard_state, install, truncate_from, heal: Vec::new(), append, compact_to }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hard_state.is_none()
            && self.install.is_none()
            && self.truncate_from.is_none()
            && self.heal.is_empty()
            && self.append.is_empty()
            && self.compact_to.is_none()
    }
}

impl fmt::Display for PersistBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seq)?;
        if let Some(hard_state) = &self.hard_state {
            write!(f, " {hard_state}")?;
        }
        if let Some(install) = &self.install {
            write!(f, " install{}", install.last)?;
        }
        if let Some(index) = self.truncate_from {
            write!(f, " truncate {index}..")?;
        }
        for run in &self.heal {
            write!(f, " heal {run}")?;
        }
        if !self.append.is_empty() {
            write!(f, " append {}", self.append)?;
        }
        if let Some(index) = self.compact_to {
            write!(f, " compact ..{index}")?;
        }
        Ok(())
    }
}
