//! What goes into a replica and what comes out: peers' frames, clients' requests, disk work.
//!
//! A host owes every [`Output::Work`] to its storage in the order in which it came, every
//! [`Output::Send`] to its network, where it may be lost, and every [`Output::Save`] to its storage, in
//! its own time. All else is information.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::wire::WireError;
use raft_core::{
    Entries, Index, Member, Membership, MembershipChange, NodeId, Observation, ReadMode, Rejection,
    SnapshotMeta, Term,
};
use serde::{Deserialize, Serialize};

use crate::applier::{Frozen, RestoreError};
use crate::machine::StateMachine;
use crate::session::SessionId;
use crate::storage::work::{Done, Work};

/// The host's name for a request. No request is answered twice, and each is answered while the process
/// lives, but for what a leader that was cut off had begun and no later leader speaks to it about. A host
/// must not use one name for two requests that are open at the same time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// One thing that happened to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<M: StateMachine> {
    /// The deadline that [`crate::replica::Replica::next_deadline`] named has passed.
    Tick,
    /// A peer's frame arrived.
    Frame(Bytes),
    /// The transport lost its connection to a peer: what was in flight may be gone.
    Unreachable(Member),
    /// A client asks for something.
    Request {
        /// Named by the one [`Output::Reply`] that answers.
        id: RequestId,
        /// What it asks for.
        request: Request<M>,
    },
    /// The storage has completed a piece of work.
    Done(Done),
    /// An operator asks this replica to campaign now.
    Campaign,
    /// An operator asks the leader to become a follower. Elsewhere it does nothing.
    StepDown,
    /// The host knows better: the leader that this follower hears is gone (thesis §4.2.3).
    ForgetLeader,
    /// A piece of work has found no room on the disk, or has found some again:
    /// [`raft_core::Body::DiskFull`].
    DiskFull {
        /// Whether there is none.
        is_full: bool,
    },
}

/// What a client or an operator asks for. Any replica may be asked; who does not lead, and cannot answer
/// from what it has applied, says who does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<M: StateMachine> {
    /// A new session, without which no command is executed.
    OpenSession,
    /// A change of the state machine, executed at most once for each session and serial. A request that
    /// repeats one under way waits with it; what was executed is answered by whoever has applied it.
    Command {
        /// The client's session.
        session: SessionId,
        /// Rises from command to command of the session; equal for the retries of one.
        serial: u64,
        /// The command.
        command: M::Command,
    },
    /// A linearizable read: it sees every change that was answered before it was asked.
    Query {
        /// The question.
        query: M::Query,
        /// How the leader proves that it still leads (thesis §6.4).
        mode: ReadMode,
    },
    /// Another membership (§6). It is complete, or completes by itself, once it is answered.
    ChangeMembership {
        /// What to change.
        change: MembershipChange,
        /// Refused unless this is the membership in force.
        expect: Option<Arc<Membership>>,
    },
    /// Another leader (thesis §3.10).
    TransferLeadership {
        /// The voter that shall lead; `None`: the one with the longest log, of those
        /// that were heard of late.
        to: Option<NodeId>,
    },
    /// This replica alone goes on, in a new cluster epoch: the quorum is lost for good. See
    /// [`raft_core::Body::ForceMembership`].
    ForceMembership,
}

/// One thing that the host must do, or may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<M: StateMachine> {
    /// Send this frame; it may be lost.
    Send {
        /// The receiver.
        to: Member,
        /// One encoded message.
        frame: Bytes,
    },
    /// The one answer to a request.
    Reply {
        /// The request.
        id: RequestId,
        /// The answer.
        reply: Reply<M>,
    },
    /// Disk work, in order; its completion comes back as [`Input::Done`].
    Work(Work),
    /// Disk work that nothing waits for: encode the state and save it as [`Work::SaveSnapshot`]. It may
    /// come after work that was asked for later; no other one is asked for until it is done.
    Save {
        /// What it covers.
        snapshot: Arc<SnapshotMeta>,
        /// The state.
        state: Frozen<M>,
    },
    /// These entries have been applied. Comes before the replies to the requests among them.
    Applied {
        /// The entries.
        entries: Entries,
        /// The digest after the last one.
        digest: u64,
    },
    /// The state has been replaced by a snapshot's.
    Restored {
        /// What the snapshot covers.
        snapshot: Arc<SnapshotMeta>,
        /// The digest after it.
        digest: u64,
    },
    /// The core has something to tell.
    Observe(Observation),
    /// A frame is no message. Nothing was done because of it.
    BadFrame(WireError),
    /// The state cannot be replaced by a snapshot that is durable here: the replica halts.
    BadSnapshot {
        /// What the snapshot covers.
        snapshot: Arc<SnapshotMeta>,
        /// Why.
        error: RestoreError<M::Error>,
    },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<M: StateMachine> {
    /// A session is open.
    SessionOpened {
        /// Its name.
        session: SessionId,
    },
    /// The command has been executed, now or at an earlier try.
    Response {
        /// What the state machine answered.
        response: M::Response,
        /// Where in the log it took effect.
        index: Index,
    },
    /// The query has been answered.
    Answer {
        /// What the state machine answered.
        answer: M::Answer,
        /// The last entry that the answer takes into account.
        index: Index,
    },
    /// The first entry of a membership change is committed; every leader completes the change.
    MembershipChanged {
        /// Where that entry stands in the log.
        index: Index,
    },
    /// A later term has begun; nearly always the chosen successor leads it.
    Transferred {
        /// That term.
        term: Term,
    },
    /// The request failed.
    Failed(Failure),
}

/// Why a request is not answered as the client would like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// This replica does not lead, or ceased to before it could be sure. A refused command was not
    /// appended.
    NotLeader {
        /// The leader that it knows.
        hint: Option<Member>,
    },
    /// A limit on requests or bytes is reached; nothing was done. Try again later.
    Busy,
    /// The command is larger than the configuration admits; nothing was done.
    TooLarge,
    /// The leader is handing over; nothing was done. Ask its successor.
    Transferring,
    /// What an operator asked for does not fit the cluster as it is; nothing was done.
    Refused(Rejection),
    /// The session is not open; the command was not executed now. Whether an earlier try was, the
    /// session could have told.
    Expired,
    /// The session has executed a later serial. The command was not executed now.
    StaleSerial,
    /// The command may have been executed, or may yet be. A retry with the same session and serial
    /// finds out.
    Unknown,
    /// The command was certainly not executed, at this try.
    Superseded,
    /// The replica has halted. A command that it had taken may yet be executed.
    Halted,
    /// The entry in the log is no command of this version; every replica passed over it.
    Malformed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { hint: Some(leader) } => write!(f, "not the leader; {leader} may be"),
            Self::NotLeader { hint: None } => f.write_str("not the leader, and none is known"),
            Self::Busy => f.write_str("too many requests are open"),
            Self::TooLarge => f.write_str("the command is too large"),
            Self::Transferring => f.write_str("the leader is handing over"),
            Self::Refused(reason) => reason.fmt(f),
            Self::Expired => f.write_str("the session is not open"),
            Self::StaleSerial => f.write_str("the session has executed a later command"),
            Self::Unknown => f.write_str("the outcome is not known"),
            Self::Superseded => f.write_str("the command was not executed"),
            Self::Halted => f.write_str("the replica has halted"),
            Self::Malformed => f.write_str("the log entry is not a command of this version"),
        }
    }
}
