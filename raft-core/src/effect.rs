//! What comes out, and in which order a host may execute it: in almost any.
//!
//! Only [`Effect::Persist`] (by `seq`) and [`Effect::Apply`] / [`Effect::RestoreState`] (by index)
//! are ordered among themselves. Everything else may be executed at once, late, in any order; a
//! `Send` may also be lost or happen twice. No host can break safety by ordering, because the core
//! withholds every output that depends on durability until [`crate::Body::Persisted`] covers it.

mod display;

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::durable::{PersistBatch, SnapshotMeta};
use crate::entry::Entries;
use crate::membership::{Membership, MembershipError};
use crate::message::{ChunkRequest, Envelope, LoadRequest, RpcKind};
use crate::types::{
    Chain, ChunkId, EntryId, Epoch, Incarnation, Index, Member, PersistSeq, Session, Span, Term,
    Ticket, Time,
};

/// One thing that the host must do.
///
/// Exhaustive on purpose: a host that does not know an effect must not compile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)] // A tag of its own: to find one in the tags of what is inside costs more than its byte.
pub enum Effect {
    /// Write this batch, after the ones before it; answer `Persisted` once it is durable, or
    /// `PersistFailed`. Several may be written and synced together.
    Persist(PersistBatch),
    /// Send this message; it may be lost.
    Send(Envelope),
    /// Apply these committed entries, in order; answer `Applied`. They are durable here.
    Apply {
        /// Consecutive entries that follow the last ones handed out.
        entries: Entries,
    },
    /// Replace the state machine by this snapshot, which is durable here; answer `Applied` with
    /// its index.
    RestoreState {
        /// The snapshot.
        snapshot: Arc<SnapshotMeta>,
    },
    /// The one answer to a request: a proposal, a change of the membership, a transfer, or a read that is
    /// refused.
    Outcome {
        /// The request.
        ticket: Ticket,
        /// What became of it.
        outcome: Outcome,
    },
    /// The one answer to a read: once the state machine has applied through `index`, its state
    /// answers the read linearizably.
    ReadReady {
        /// The request.
        ticket: Ticket,
        /// The read index (thesis §6.4).
        index: Index,
        /// For a read by lease: the host must look at its clock again, after it has read the state
        /// and before it answers, and ask anew if this moment has come. `None`: no such limit. A host
        /// that recovers a node within the process must forget such reads: the new life knows
        /// nothing of what the old one lent.
        valid_until: Option<Time>,
    },
    /// Read entries that the core does not keep in memory; answer `Loaded`.
    Load(LoadRequest),
    /// Read a part of a snapshot; answer `ChunkRead`, with `None` if that cannot be done: the snapshot is
    /// gone, or the batch that installs it is not durable yet.
    ReadChunk(ChunkRequest),
    /// Keep a part of a snapshot that a leader sends; answer `ChunkStaged` with how much is staged
    /// then, also if the chunk could not be kept. A chunk at offset 0 discards whatever was staged
    /// before. One chunk at a time is asked for, and none before an `install` that needs the staged
    /// bytes is durable. Staged bytes need not be durable before `install`.
    StageChunk {
        /// What the answer must name.
        id: ChunkId,
        /// What the snapshot covers.
        snapshot: Arc<SnapshotMeta>,
        /// Where the bytes belong; what lies before is staged.
        offset: u64,
        /// The bytes.
        data: Bytes,
        /// Whether the snapshot ends with them.
        done: bool,
    },
    /// Something that a person may want to know. A host may ignore it.
    Observe(Observation),
}

/// Adds an effect that is made in the place where it stays. Pushing it would make it elsewhere first,
/// for the buffer might have to grow in between; effects are large, and most steps do little else.
#[inline]
pub(crate) fn emit(effects: &mut Vec<Effect>, make: impl FnOnce() -> Effect) {
    effects.extend(core::iter::once_with(make));
}

/// How a ticket ended. No ticket ends twice; each ends, unless the process dies or no leader ever brings
/// this node up to date again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The command is committed.
    Committed {
        /// The term of its entry.
        term: Term,
        /// The index of its entry.
        index: Index,
    },
    /// A later term has begun: the leadership that was to be handed over is over. Nearly always
    /// the chosen successor leads that term.
    Transferred {
        /// The later term.
        term: Term,
    },
    /// Nothing was appended for the request. Nearly always nothing else was done either; a transfer
    /// that ends as [`Rejection::TransferAborted`] may have asked its successor to campaign, and
    /// the successor may still win.
    Refused(Rejection),
    /// Certainly not committed: another entry is, at its index, or one of a later term before it, which
    /// nothing of an earlier term can follow.
    Superseded,
    /// The part of the log that would tell is gone; it may be committed or not.
    Unknown,
    /// The node has halted after it accepted the request; it may be committed or not.
    Halted,
}

/// Why a client's request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// This node does not lead, or ceased to before the read was confirmed.
    NotLeader {
        /// The leader that it knows.
        hint: Option<Member>,
    },
    /// A limit on requests, on uncommitted bytes, or on what waits for the disk is reached; try again
    /// later.
    Busy,
    /// The leader's disk has no room for entries; it hands over.
    DiskFull,
    /// The command is larger than `command_bytes_max`.
    TooLarge,
    /// The leader hands over, or is not a member any more; ask its successor.
    Transferring,
    /// The transfer did not come about while this node led: its time is over, another transfer has
    /// replaced it, the chosen successor is no voter any more, or this node has ceased to lead in
    /// its term (step-down, a lost quorum, retirement, a forced membership).
    TransferAborted,
    /// The node is not in the membership, or not in the place that the request needs.
    UnknownMember,
    /// No entry of the leader's own term is committed yet; a change now could meet one that it
    /// does not know of (Ongaro 2015). Try again later.
    NoOwnCommit,
    /// Another change is not complete. Try again later.
    MembershipPending,
    /// The membership in force is not the one that was expected.
    MembershipDiffers,
    /// The resulting membership would be invalid.
    InvalidMembership(MembershipError),
    /// The change changes nothing.
    NoChange,
    /// The membership is not joint: there is nothing to leave.
    NotJoint,
    /// Epochs or terms are at their end: nothing can follow.
    Exhausted,
    /// The leader's log is damaged at this index; it serves nothing until it is whole again.
    Damaged {
        /// The first damaged entry.
        index: Index,
    },
    /// The learner lacks too much of the log to vote.
    NotCaughtUp {
        /// The learner.
        member: Member,
        /// What it has.
        matched: Index,
        /// What it must have; always more.
        needed: Index,
    },
    /// The learner has not answered lately, or never: nobody can tell whether it would vote.
    NotHeard {
        /// The learner.
        member: Member,
    },
    /// The learner answers, but gets no entries now: where its log meets the leader's is looked for,
    /// or a snapshot is on its way, or their histories contradict ([`Flow`](crate::Flow) says which).
    NotReplicating {
        /// The learner.
        member: Member,
    },
    /// The node has halted.
    Halted,
}

/// What a host may want to log, count or show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Observation {
    /// The role has changed.
    RoleChanged {
        /// The new role.
        role: RoleName,
        /// The term.
        term: Term,
    },
    /// The leader that this node knows has changed.
    LeaderChanged {
        /// The new one.
        leader: Option<Member>,
        /// The term.
        term: Term,
    },
    /// The membership in force has changed.
    MembershipChanged {
        /// The new one.
        membership: Membership,
    },
    /// An input was refused.
    Refused {
        /// The peer that sent it, if a peer did.
        from: Option<Member>,
        /// The kind of message, if a peer sent it.
        kind: Option<RpcKind>,
        /// Why.
        reason: Refused,
    },
    /// This node led, and the membership without it is committed: it has handed over.
    Retired {
        /// Whom it asked to lead.
        successor: Option<Member>,
    },
    /// Entries that were damaged here have been replaced by intact copies, which are on their way to
    /// the disk.
    Healed {
        /// The first of them.
        first: Index,
        /// How many.
        count: u64,
    },
    /// An entry is damaged here, and is asked for from peers until one has an intact copy.
    EntryDamaged {
        /// The entry.
        id: EntryId,
    },
    /// Peers were asked again for a damaged entry. It names those that have said that they cannot help;
    /// the others have not answered. Without an intact copy the entry cannot be replaced, and a leader
    /// that lacks it serves nothing.
    EntryMissed {
        /// The entry.
        id: EntryId,
        /// Peers that never had it.
        never: Vec<Member>,
        /// Peers that may have had it and cannot read it either.
        damaged: Vec<Member>,
    },
    /// A leader has dropped a damaged entry and all after it: so many voters never had it that it
    /// cannot have been committed.
    EntryDiscarded {
        /// The entry.
        id: EntryId,
    },
    /// A snapshot is damaged, a peer's or this node's own, and this node has none that reaches as far:
    /// the host may take one now instead of later.
    SnapshotWanted {
        /// Whose is damaged.
        by: Member,
        /// What the snapshot must cover.
        index: Index,
    },
    /// The end of the log is unknown: the node votes for nobody until its log has come as far as a
    /// leader's.
    TailUnknown,
    /// The log is known again to hold all that this node may ever have acknowledged: it votes.
    TailCertain,
    /// The protocol's assumptions are broken: somebody must look.
    Violation(Violation),
    /// The node has halted until it is recovered.
    Halted {
        /// Why.
        reason: HaltReason,
    },
}

/// The name of a role (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// Passive: answers candidates and leaders.
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads its term.
    Leader,
    /// Does nothing until it is recovered.
    Halted,
}

/// Why an input was refused: what it asked for was not done.
///
/// A message that is malformed, misdirected or of another epoch changes nothing at all. One that is
/// refused by a rule may still have shown that a later term exists or that a peer is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// It belongs to another cluster or group.
    OtherGroup,
    /// It is addressed to another node, or to another lineage of this one.
    NotForMe,
    /// It claims to come from this node.
    FromMyself,
    /// A number in it is at or above [`crate::LIMIT`].
    OutOfBounds,
    /// It has too many entries or bytes.
    Oversized,
    /// Its entries do not follow `prev`, or their terms fall.
    NotConsecutive,
    /// The chain of its entries does not start at `prev`'s.
    BrokenChain,
    /// Its membership is invalid.
    InvalidMembership,
    /// It comes from a lower cluster epoch.
    StaleEpoch {
        /// The epoch here.
        mine: Epoch,
        /// The epoch there.
        theirs: Epoch,
    },
    /// It was sent in an earlier term.
    StaleTerm {
        /// The term here.
        mine: Term,
        /// The term there.
        theirs: Term,
    },
    /// It was sent by an earlier incarnation of the peer, or answers an earlier one of this node.
    StaleIncarnation {
        /// The newest incarnation known.
        known: Incarnation,
        /// The incarnation of the message.
        theirs: Incarnation,
    },
    /// It answers an earlier stream of appends.
    StaleSession {
        /// The present session.
        mine: Session,
        /// The echoed one.
        theirs: Session,
    },
    /// A candidate was ignored because a leader is known to be alive (thesis §4.2.3).
    StickyLeader {
        /// For how long it will be.
        left: Span,
    },
    /// This node has promised to elect no other leader, itself included (thesis §6.4.1).
    Promised {
        /// For how long still.
        left: Span,
    },
    /// A candidate's log is not as up to date as the one here (§5.4.1).
    LogBehind {
        /// The last entry here.
        mine: EntryId,
        /// The last entry there.
        theirs: EntryId,
    },
    /// The candidate's term has a leader already.
    LeaderKnown {
        /// The leader.
        leader: Member,
    },
    /// The vote of this term is given.
    AlreadyVoted {
        /// Who has it.
        candidate: Member,
    },
    /// The answer belongs to an earlier attempt to win an election.
    StaleAttempt {
        /// The present attempt.
        mine: u64,
        /// The echoed one.
        theirs: u64,
    },
    /// The sender is not in the membership in force.
    NotAMember,
    /// A limit on requests is reached, or on what waits for the disk, or a part of a snapshot comes
    /// while another one is with the host; the peer asks or sends again.
    Busy,
    /// The disk has no room for entries, so the node takes none and does not campaign.
    DiskFull,
    /// The answer, a peer's or the host's, does not belong to anything that is asked here now, in
    /// this role.
    Unasked,
    /// It claims what cannot be: a match beyond the leader's log, a commit beyond the sender's
    /// claims, two leaders of one term.
    Impossible,
    /// The node does not know what it has acknowledged, so it votes for nobody.
    TailUnknown,
    /// `Persisted` names a batch that was never issued.
    UnknownPersist {
        /// The batch.
        seq: PersistSeq,
    },
    /// `Applied` names an index that was not handed out.
    UnknownApplied {
        /// The index.
        through: Index,
    },
    /// The snapshot is not one that this node described, or is not newer than the one it has.
    UnknownSnapshot {
        /// Its last entry.
        snapshot: EntryId,
    },
    /// `ChunkStaged` names a chunk that is not with the host: it never was, or was answered before.
    UnknownChunk {
        /// The chunk.
        id: ChunkId,
    },
    /// `Loaded` answers nothing that was asked, or has entries other than those of the log.
    UnknownLoad,
    /// The node has no members, is no voter, or does not know what it has acknowledged or whose
    /// votes decide: it cannot campaign.
    NotAVoter,
    /// Only a leader can do this: step down, or tell the read index.
    NotLeader,
    /// Only a follower can forget its leader.
    NotFollower,
    /// The node has halted.
    Halted,
}

/// Evidence that an assumption of the protocol is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// Two entries have one index and term but different chains: a term had two leaders, or
    /// memory or a disk has lied.
    ChainMismatch {
        /// The position.
        index: Index,
        /// The chain here.
        mine: Chain,
        /// The chain there.
        theirs: Chain,
    },
    /// A snapshot through an entry that is here names another membership than the log does: its sender's
    /// memory or disk has lied.
    MembershipMismatch {
        /// The last entry that the snapshot covers.
        index: Index,
    },
    /// A leader wants to replace an entry that is committed here.
    CommittedConflict {
        /// The position.
        index: Index,
        /// The commit index here.
        commit: Index,
    },
    /// A peer reports one of the above about this leader's log.
    PeerDiverged {
        /// The peer; nothing is replicated to it any more.
        peer: Member,
        /// The position.
        index: Index,
    },
    /// Two nodes claim to lead one term.
    TwoLeaders {
        /// The term.
        term: Term,
        /// The leader known here.
        known: Member,
        /// The other one.
        other: Member,
    },
}

/// Why a node has halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HaltReason {
    /// The host reported that a write or a sync failed.
    PersistFailed,
    /// A message carried a higher cluster epoch: this node was left behind.
    LeftBehind {
        /// The higher epoch.
        epoch: Epoch,
    },
    /// So many voters never had an entry that it cannot have been committed, and yet it is known to
    /// be: some disk has lied.
    CommittedLost {
        /// The position.
        index: Index,
    },
}
