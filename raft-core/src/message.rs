//! What comes in: peer messages (Figures 2 and 13, thesis §9.6), client requests, completions.

mod display;
mod kind;
mod repair;

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

pub use self::kind::RpcKind;
pub use self::repair::{EntryResult, RepairRpc};

use crate::durable::SnapshotMeta;
use crate::entry::Entries;
use crate::membership::{Membership, MembershipChange};
use crate::types::{
    ChunkId, ClusterId, EntryId, Epoch, GroupId, Incarnation, Index, Member, NodeId, PersistSeq,
    ReadId, RepairId, Round, Session, Span, Term, Ticket, Time,
};

/// One input of [`crate::Raft::step`], with the host's clock read after the input arrived.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The host's monotonic clock; the core takes the later of this and the last one.
    pub now: Time,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)] // A tag of its own: to find one in the tags of what is inside costs more than its byte.
pub enum Body {
    /// A deadline has passed. Deadlines fire on this alone; other inputs only move the clock, and may find
    /// that a window (a promise, say) is over.
    Tick,
    /// A peer's message arrived.
    Peer(Envelope),
    /// The transport lost its connection to a peer: what was in flight may be gone.
    PeerUnreachable {
        /// The peer.
        peer: Member,
    },
    /// A client asks for a command to be appended.
    Propose {
        /// Named by the one `Outcome` that answers.
        ticket: Ticket,
        /// Opaque bytes for the state machine.
        command: Bytes,
    },
    /// Several commands at once, in order; each is answered by itself.
    ProposeBatch {
        /// Tickets and commands.
        proposals: Vec<(Ticket, Bytes)>,
    },
    /// A client asks for an index at which a read is linearizable.
    Read {
        /// Named by the one `ReadReady` or `Outcome` that answers.
        ticket: Ticket,
        /// How the leader proves that it still leads.
        mode: ReadMode,
    },
    /// An operator asks for another membership (§6).
    ProposeMembership {
        /// Named by the one `Outcome` that answers: `Committed` once the first entry of the change
        /// is; from then on every leader completes it.
        ticket: Ticket,
        /// What to change.
        change: MembershipChange,
        /// Compare-and-set: the change is refused unless this is the membership in force. What
        /// counts is the content, because a change means the same wherever it starts from the same
        /// membership, and an index would not survive a snapshot.
        expect: Option<Arc<Membership>>,
    },
    /// An operator asks the leader to hand over (thesis §3.10).
    TransferLeadership {
        /// Named by the one `Outcome` that answers.
        ticket: Ticket,
        /// The voter that shall lead; `None`: the one with the longest log, of those that were heard
        /// of late.
        to: Option<NodeId>,
    },
    /// An operator asks this node to campaign now, as if its election timer had fired.
    Campaign,
    /// An operator asks the leader to become a follower, without a successor in mind.
    StepDown,
    /// The host knows better: the leader is gone. A follower forgets it and may vote for another
    /// one at once; what it has promised to the old one (a lease) stays promised.
    ForgetLeader,
    /// An operator declares the quorum lost for good: this node becomes the only voter, in a new
    /// cluster epoch. What other nodes have and this one lacks is lost, and they halt when they
    /// hear of the epoch. Never needed while a quorum can come back.
    ForceMembership {
        /// Named by the one `Outcome` that answers.
        ticket: Ticket,
    },
    /// All batches through `seq` are durable (cumulative).
    Persisted {
        /// The last durable batch.
        seq: PersistSeq,
    },
    /// A write or a sync failed: what the disk holds is unknown until the node is recovered.
    PersistFailed,
    /// The disk has no room for entries, or has some again: what a host finds out by writing, or before
    /// that by looking. While it is full the node takes no commands and no entries and does not
    /// campaign; a leader hands over, to one voter after the other until somebody leads. Terms, votes and
    /// what was given to the disk before are not in question: a host keeps room for the former and tries
    /// again with the latter. After a start the disk counts as having room until the host says otherwise.
    DiskFull {
        /// Whether it is.
        is_full: bool,
    },
    /// The state machine has applied all entries through this index.
    Applied {
        /// The last applied index.
        through: Index,
    },
    /// The answer to `Load`.
    Loaded {
        /// What was asked for.
        request: LoadRequest,
        /// Entries that follow `request.after`, at least one; `None` if they cannot be read now.
        entries: Option<Entries>,
    },
    /// The host has found that durable entries cannot be read any more: when it loaded them, or
    /// when it looked through its files. They are asked for from peers.
    Damaged {
        /// Their identities.
        entries: Vec<EntryId>,
    },
    /// The host has made a snapshot of its state machine, wholly durable, that
    /// [`crate::Raft::snapshot_at`] described.
    SnapshotTaken {
        /// What that described.
        snapshot: Arc<SnapshotMeta>,
    },
    /// The answer to `ReadChunk`.
    ChunkRead {
        /// What was asked for.
        request: ChunkRequest,
        /// The bytes, or `None` if the snapshot is not there any more.
        chunk: Option<Chunk>,
    },
    /// The answer to `StageChunk`.
    ChunkStaged {
        /// The chunk, as `StageChunk` named it.
        id: ChunkId,
        /// How many of its snapshot's bytes are staged now, from its beginning. Less than the chunk's end if
        /// it could not be kept; it is sent again then.
        staged: u64,
    },
}

/// How a read proves that no other leader can have committed anything newer (thesis §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// A round of heartbeats confirms the leadership. At a follower: the leader is asked.
    ReadIndex,
    /// Followers have promised not to elect another leader for a while (thesis §6.4.1): no message
    /// is needed. The answer says how long it holds. Without a valid lease, and at a follower, as
    /// `ReadIndex`.
    Lease,
}

/// A range of the log whose payloads are not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoadRequest {
    /// What the entries are for.
    pub purpose: LoadPurpose,
    /// The entry before the first one wanted.
    pub after: EntryId,
    /// The last one wanted.
    pub through: Index,
    /// The most payload bytes; one entry is always admitted. Fewer entries are welcome too.
    pub bytes_max: usize,
}

/// What loaded entries are for. There is at most one open request for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoadPurpose {
    /// The state machine.
    Apply,
    /// A peer that lags.
    Peer {
        /// The peer.
        member: Member,
        /// The stream of appends that wants them.
        session: Session,
    },
    /// A peer whose copy is damaged.
    Repair {
        /// The peer.
        member: Member,
        /// Its question.
        id: RepairId,
    },
}

/// Part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// The bytes at the offset that was asked for.
    pub data: Bytes,
    /// Whether the snapshot ends with them.
    pub done: bool,
}

/// What a chunk of a snapshot is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkPurpose {
    /// A peer that lags behind its leader's log.
    Lag {
        /// The session in which it was asked for; an answer from an older one is dropped.
        session: Session,
    },
    /// A peer that has asked for it, because what it had is damaged.
    Repair {
        /// Its question.
        id: RepairId,
    },
}

/// Which part of which snapshot a node wants to send to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRequest {
    /// The peer that will receive it.
    pub to: Member,
    /// What it is for.
    pub purpose: ChunkPurpose,
    /// The snapshot.
    pub snapshot: EntryId,
    /// The first byte.
    pub offset: u64,
    /// The most bytes.
    pub bytes_max: usize,
}

/// A message between two members of a group. The type that leaves as `Effect::Send` is the one
/// that arrives as `Body::Peer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The sender, with its lineage.
    pub from: Member,
    /// The receiver, with the lineage that the sender's membership names.
    pub to: Member,
    /// The sender's cluster epoch.
    pub epoch: Epoch,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The sender's current term.
    pub term: Term,
    /// The message.
    pub rpc: Rpc,
}

/// The messages of the protocol, in the order of the paper.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rpc {
    /// Asks whether an election in the next term could be won (thesis §9.6). Changes nothing at
    /// the receiver but the term rule, for the envelope names the sender's present term.
    RequestPreVote {
        /// The last entry of the sender's log.
        last: EntryId,
        /// The sender's attempts to win an election in this term so far; the answer echoes it.
        attempt: u64,
    },
    /// The answer to `RequestPreVote`.
    RequestPreVoteResponse {
        /// The echoed attempt.
        attempt: u64,
        /// Whether the receiver would vote for the sender.
        granted: bool,
    },
    /// Asks for a vote in the envelope's term (§5.2).
    RequestVote {
        /// The last entry of the sender's log (§5.4.1).
        last: EntryId,
        /// The leader of the term before asked for this election (thesis §3.10): a follower that hears
        /// that leader votes all the same.
        is_forced: bool,
    },
    /// The answer to `RequestVote`.
    RequestVoteResponse {
        /// Whether the vote is given; it is durable by then.
        granted: bool,
    },
    /// Replicates entries (§5.3); without entries, it probes or carries the commit index.
    AppendEntries {
        /// The stream that it belongs to.
        session: Session,
        /// The newest read round; receiving this confirms it.
        round: Round,
        /// The entry before the first one.
        prev: EntryId,
        /// The entries.
        entries: Entries,
        /// The leader's commit index.
        commit: Index,
    },
    /// The answer to `AppendEntries`, and to a snapshot that is installed or not needed.
    AppendEntriesResponse {
        /// The echoed session.
        session: Session,
        /// The highest read round that the receiver has confirmed in this term.
        round: Round,
        /// What became of it.
        result: AppendResult,
    },
    /// The leader's commit index, for a peer that has all entries. It is not answered: what is
    /// lost comes again with the next append or heartbeat.
    Commit {
        /// The stream of appends to this peer, whose match bounds the commit index here.
        session: Session,
        /// The commit index, as far as the leader knows that the peer's log matches.
        commit: Index,
    },
    /// A leader's sign of life to a silent group.
    Heartbeat {
        /// The stream of appends to this peer, whose match bounds the commit index here.
        session: Session,
        /// The newest read round.
        round: Round,
        /// The commit index, as far as the leader knows that the peer's log matches.
        commit: Index,
        /// For how long the receiver is asked to elect no other leader (thesis §6.4.1); zero: it
        /// is not. Answering gives the promise.
        lease: Span,
    },
    /// The answer to `Heartbeat`. Without a session: the answer to any request of an earlier term,
    /// which tells its sender the present one.
    HeartbeatResponse {
        /// The echoed session.
        session: Session,
        /// The echoed round.
        round: Round,
    },
    /// A part of the leader's snapshot (§7).
    InstallSnapshot {
        /// The stream that it belongs to.
        session: Session,
        /// The newest read round.
        round: Round,
        /// What the snapshot covers.
        snapshot: Arc<SnapshotMeta>,
        /// Where in the snapshot the bytes belong.
        offset: u64,
        /// The bytes.
        data: Bytes,
        /// Whether the snapshot ends with them.
        done: bool,
    },
    /// How much of a snapshot the receiver has staged.
    InstallSnapshotResponse {
        /// The echoed session.
        session: Session,
        /// The echoed round.
        round: Round,
        /// The last entry of the snapshot.
        snapshot: EntryId,
        /// How many bytes are staged, from its beginning.
        staged: u64,
    },
    /// The leader asks the receiver to campaign at once (thesis §3.10).
    TimeoutNow,
    /// A follower asks its leader for a read index (thesis §6.4).
    ReadIndex {
        /// Names the question.
        id: ReadId,
    },
    /// The answer to `ReadIndex`, and to all earlier questions of the same incarnation.
    ReadIndexResponse {
        /// The echoed name.
        id: ReadId,
        /// The read index.
        index: Index,
    },
    /// What nodes say to each other about damage.
    Repair(RepairRpc),
}

/// What became of an AppendEntries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendResult {
    /// The receiver's log equals the leader's through this index, durably.
    Matched {
        /// The last durable index known to match.
        index: Index,
    },
    /// The entry before the first one is missing or differs.
    Conflict {
        /// The index of `prev` in the refused message.
        rejected: Index,
        /// The last index at which the receiver's log may match, and the term it has there.
        hint: Index,
        /// The term at `hint`.
        hint_term: Term,
    },
    /// The receiver was given nothing, not even the founders' membership: no entry can match. It
    /// needs a snapshot, if only the genesis.
    Blank,
    /// Two histories with one identity, or a conflict with what is committed: replication to this
    /// peer must stop, and a person must look.
    Diverged {
        /// Where the histories part.
        index: Index,
    },
}
