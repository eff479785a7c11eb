//! What a leader knows about one peer (Figure 2: `nextIndex`, `matchIndex`; thesis §10.2.2), and a
//! receiver about the snapshot that comes to it (§7).

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use crate::config::Config;
use crate::durable::SnapshotMeta;
use crate::message::LoadRequest;
use crate::types::{ChunkId, Incarnation, Index, Member, RepairId, Round, Session, Term};

/// One peer, as its leader sees it.
///
/// Invariants: `match_index < next_index`; `match_index` falls only with a new session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(C)] // For cache locality alone: the fields that every heartbeat reads are adjacent.
pub(crate) struct Progress {
    /// The entry that removes it from the membership, if one does: it is told, then forgotten.
    pub(crate) removed_by: Option<Index>,
    /// The peer does not know the end of its log, and will not before its match has come this far.
    pub(crate) barrier: Option<Index>,
    /// The cold entries that it needs next.
    pub(crate) loading: Loading,
    pub(crate) member: Member,
    /// The peer's log equals the leader's through here, durably.
    pub(crate) match_index: Index,
    /// The next entry to send.
    pub(crate) next_index: Index,
    /// The present stream; answers to another one are dropped.
    pub(crate) session: Session,
    /// The newest incarnation that has answered.
    pub(crate) incarnation: Incarnation,
    /// The highest read round that it has confirmed.
    pub(crate) round: Round,
    /// The newest round of heartbeats that it has answered, and so promised by.
    pub(crate) promised: Round,
    /// The highest read round that it was asked to confirm.
    pub(crate) round_sent: Round,
    /// The highest commit index that it was told, as far as the message that told it reached.
    pub(crate) commit_sent: Index,
    /// Whether it has answered since the last check of the quorum.
    pub(crate) is_active: bool,
    /// Whether it had answered between the last two checks.
    pub(crate) was_active: bool,
    pub(crate) state: ProgressState,
}

/// How entries flow to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)] // Every step of a leader reads the tag several times; one of its own is quicker to find.
pub(crate) enum ProgressState {
    /// Looking for the point where the logs match: one append at a time.
    Probe {
        /// One is on its way.
        is_paused: bool,
    },
    /// The logs match: appends are pipelined.
    Replicate {
        inflight: Inflights,
        /// Ask again even though there is nothing new: the peer may have missed the end.
        is_poked: bool,
    },
    /// The peer needs entries that are compacted: chunks of a snapshot, one at a time.
    Snapshot {
        snapshot: Arc<SnapshotMeta>,
        /// The bytes that the peer has staged.
        staged: u64,
        chunk: ChunkState,
    },
    /// The peer's history contradicts this one: nothing is sent but heartbeats.
    Diverged,
}

/// The appends on their way to a peer: at most so many, with at most so many payload bytes.
///
/// Invariants: last indices ascend; `bytes` is the sum over `sent`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Inflights {
    /// The last index and the payload bytes of each, oldest first.
    sent: VecDeque<(Index, usize)>,
    bytes: usize,
}

/// Whether the host reads cold entries for one purpose. It is asked for one range at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Loading {
    /// Nothing was asked for.
    #[default]
    Idle,
    /// The entries after one index through another.
    Asked { after: Index, through: Index },
    /// The host could not read them. It is asked again when something happens, not at once.
    Failed,
}

impl Loading {
    /// What is remembered of a request.
    pub(crate) fn asked(request: &LoadRequest) -> Self {
        Self::Asked { after: request.after.index, through: request.through }
    }

    /// What failed may be tried again.
    pub(crate) fn retry(&mut self) {
        if *self == Self::Failed {
            *self = Self::Idle;
        }
    }
}

/// Where the next chunk of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChunkState {
    /// To be read.
    Wanted,
    /// The host reads it.
    Reading,
    /// On its way to the peer; `heartbeats` have been sent since.
    Sent { heartbeats: u8 },
}

/// A snapshot that arrives in chunks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Incoming {
    pub(crate) snapshot: Arc<SnapshotMeta>,
    /// Bytes that the host has staged.
    pub(crate) staged: u64,
    pub(crate) from: Member,
    /// The life of the sender.
    pub(crate) incarnation: Incarnation,
    pub(crate) origin: Origin,
    /// Whether anything of it has come since somebody looked.
    pub(crate) is_moving: bool,
}

impl Incoming {
    /// Whose bytes these are.
    pub(crate) fn sender(&self) -> (Member, Incarnation) {
        (self.from, self.incarnation)
    }
}

/// Why a snapshot arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// A leader sends it, and is answered in this term.
    Leader { session: Session, round: Round, term: Term },
    /// A peer was asked for it, because something is damaged here.
    Repair { id: RepairId },
}

/// A chunk that is at the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Staging {
    pub(crate) id: ChunkId,
    /// Where it ends.
    pub(crate) end: u64,
    pub(crate) is_last: bool,
}

impl Progress {
    /// A peer of which nothing is known; the first probe is for `last`.
    pub(crate) fn new(member: Member, session: Session, last: Index) -> Self {
        Self {
            member,
            state: ProgressState::Probe { is_paused: false },
            match_index: Index::ZERO,
            next_index: last.next(),
            session,
            incarnation: Incarnation::ZERO,
            is_active: true,
            was_active: false,
            round: Round::ZERO,
            promised: Round::ZERO,
            round_sent: Round::ZERO,
            commit_sent: Index::ZERO,
            loading: Loading::Idle,
            barrier: None,
            removed_by: None,
        }
    }

    /// Whether the peer is removed and has been told so, as far as a leader can know.
    pub(crate) fn is_gone(&self) -> bool {
        let is_told = |index| self.match_index >= index && self.commit_sent >= index;
        self.removed_by.is_some_and(|index| is_told(index) || self.state == ProgressState::Diverged)
    }

    /// Starts over with a peer that has restarted: what it acknowledged before may be damaged.
    pub(crate) fn restart(&mut self, incarnation: Incarnation, session: Session) {
        self.next_index = self.match_index.next();
        self.match_index = Index::ZERO;
        self.incarnation = incarnation;
        self.session = session;
        self.commit_sent = Index::ZERO;
        self.loading = Loading::Idle;
        self.state = ProgressState::Probe { is_paused: false };
    }

    /// Whether it was sent all entries through `last`, and is asked for nothing again: no append is
    /// due, and none will be loaded.
    pub(crate) fn is_level(&self, last: Index) -> bool {
        self.next_index > last
            && matches!(self.state, ProgressState::Replicate { is_poked: false, .. })
    }

    /// Whether anything of it has come in this or the last election timeout.
    pub(crate) fn is_heard(&self) -> bool {
        self.is_active || self.was_active
    }

    /// Whether its log may become whole: then it could lead.
    pub(crate) fn is_able(&self) -> bool {
        !self.is_in_doubt() && self.state != ProgressState::Diverged
    }

    /// Whether it may have forgotten what it acknowledged, so that it votes for nobody.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.barrier.is_some_and(|barrier| self.match_index < barrier)
    }

    /// The peer has acknowledged through `index`.
    #[inline]
    pub(crate) fn matched(&mut self, index: Index) {
        self.match_index = self.match_index.max(index);
        self.next_index = self.next_index.max(self.match_index.next());
        match &mut self.state {
            ProgressState::Replicate { inflight, .. } => inflight.free_to(index),
            ProgressState::Probe { .. } => self.replicate(),
            ProgressState::Snapshot { snapshot, .. } if index >= snapshot.last.index => {
                self.replicate();
            }
            ProgressState::Snapshot { .. } | ProgressState::Diverged => {}
        }
    }

    /// The logs match now: what follows is pipelined.
    #[inline(never)]
    fn replicate(&mut self) {
        self.next_index = self.match_index.next();
        self.state = ProgressState::Replicate { inflight: Inflights::default(), is_poked: false };
    }

    /// Goes back to probing at `next`, but never below what is acknowledged.
    pub(crate) fn probe_from(&mut self, next: Index) {
        self.next_index = next.max(self.match_index.next());
        self.state = ProgressState::Probe { is_paused: false };
    }

    /// A heartbeat goes out: a chunk that two of them have overtaken is sent again.
    pub(crate) fn on_heartbeat_sent(&mut self) {
        let ProgressState::Snapshot { chunk, .. } = &mut self.state else { return };
        if let ChunkState::Sent { heartbeats } = chunk {
            *heartbeats += 1;
            if *heartbeats >= 2 {
                *chunk = ChunkState::Wanted;
            }
        }
    }

    /// Whether a conflict about `rejected` is news, and not the echo of an earlier probe.
    pub(crate) fn is_news(&self, rejected: Index) -> bool {
        match &self.state {
            ProgressState::Probe { .. } => rejected == self.next_index.prev(),
            ProgressState::Replicate { .. } => rejected > self.match_index,
            ProgressState::Snapshot { .. } | ProgressState::Diverged => false,
        }
    }
}

impl Inflights {
    /// Whether one more append fits whose first entry has `first_bytes`. One is always admitted.
    ///
    /// Room for a whole message is asked for, so that the end of a window is not filled with
    /// crumbs, each of which would cost an answer.
    pub(crate) fn has_room(&self, config: &Config, first_bytes: usize) -> bool {
        let message = config.append_bytes_max.max(first_bytes);
        let fits = self.bytes.saturating_add(message) <= config.inflight_bytes_max;
        self.sent.is_empty() || (fits && self.sent.len() < config.inflight_appends_max)
    }

    /// Whether no append is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// How many appends are on their way, and their payload bytes.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.sent.len(), self.bytes)
    }

    /// An append with entries through `last` has left.
    pub(crate) fn push(&mut self, last: Index, bytes: usize) {
        if self.sent.capacity() == 0 {
            self.sent.reserve_exact(1); // An idle group shall not pay for room that it never used.
        }
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Appends through `index` have arrived.
    pub(crate) fn free_to(&mut self, index: Index) {
        while let Some(&(last, bytes)) = self.sent.front()
            && last <= index
        {
            self.sent.pop_front();
            self.bytes -= bytes;
        }
    }
}

impl ProgressState {
    /// The state of a peer that needs this snapshot from its beginning.
    pub(crate) fn needs(snapshot: Arc<SnapshotMeta>) -> Self {
        Self::Snapshot { snapshot, staged: 0, chunk: ChunkState::Wanted }
    }
}
