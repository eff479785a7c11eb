//! The kinds of peer messages.

use super::{RepairRpc, Rpc};

/// A peer message's kind; what the durability gate keeps at most one of, per peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RpcKind {
    /// [`Rpc::RequestPreVote`].
    RequestPreVote,
    /// [`Rpc::RequestPreVoteResponse`].
    RequestPreVoteResponse,
    /// [`Rpc::RequestVote`].
    RequestVote,
    /// [`Rpc::RequestVoteResponse`].
    RequestVoteResponse,
    /// [`Rpc::AppendEntries`].
    AppendEntries,
    /// [`Rpc::AppendEntriesResponse`].
    AppendEntriesResponse,
    /// [`Rpc::Commit`].
    Commit,
    /// [`Rpc::Heartbeat`].
    Heartbeat,
    /// [`Rpc::HeartbeatResponse`].
    HeartbeatResponse,
    /// [`Rpc::InstallSnapshot`].
    InstallSnapshot,
    /// [`Rpc::InstallSnapshotResponse`].
    InstallSnapshotResponse,
    /// [`Rpc::TimeoutNow`].
    TimeoutNow,
    /// [`Rpc::ReadIndex`].
    ReadIndex,
    /// [`Rpc::ReadIndexResponse`].
    ReadIndexResponse,
    /// [`RepairRpc::Barrier`].
    Barrier,
    /// [`RepairRpc::BarrierResponse`].
    BarrierResponse,
    /// [`RepairRpc::RequestEntry`].
    RequestEntry,
    /// [`RepairRpc::RequestEntryResponse`].
    RequestEntryResponse,
    /// [`RepairRpc::RequestSnapshot`].
    RequestSnapshot,
    /// [`RepairRpc::RequestSnapshotResponse`].
    RequestSnapshotResponse,
}

impl Rpc {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> RpcKind {
        match self {
            Self::RequestPreVote { .. } => RpcKind::RequestPreVote,
            Self::RequestPreVoteResponse { .. } => RpcKind::RequestPreVoteResponse,
            Self::RequestVote { .. } => RpcKind::RequestVote,
            Self::RequestVoteResponse { .. } => RpcKind::RequestVoteResponse,
            Self::AppendEntries { .. } => RpcKind::AppendEntries,
            Self::AppendEntriesResponse { .. } => RpcKind::AppendEntriesResponse,
            Self::Commit { .. } => RpcKind::Commit,
            Self::Heartbeat { .. } => RpcKind::Heartbeat,
            Self::HeartbeatResponse { .. } => RpcKind::HeartbeatResponse,
            Self::InstallSnapshot { .. } => RpcKind::InstallSnapshot,
            Self::InstallSnapshotResponse { .. } => RpcKind::InstallSnapshotResponse,
            Self::TimeoutNow => RpcKind::TimeoutNow,
            Self::ReadIndex { .. } => RpcKind::ReadIndex,
            Self::ReadIndexResponse { .. } => RpcKind::ReadIndexResponse,
            Self::Repair(rpc) => rpc.kind(),
        }
    }

    /// Whether a receiver in a later term answers it, to tell that term.
    #[must_use]
    pub fn is_request(&self) -> bool {
        match self {
            Self::RequestPreVote { .. }
            | Self::RequestVote { .. }
            | Self::AppendEntries { .. }
            | Self::Heartbeat { .. }
            | Self::InstallSnapshot { .. } => true,
            Self::RequestPreVoteResponse { .. }
            | Self::RequestVoteResponse { .. }
            | Self::AppendEntriesResponse { .. }
            | Self::Commit { .. }
            | Self::HeartbeatResponse { .. }
            | Self::InstallSnapshotResponse { .. }
            | Self::TimeoutNow
            | Self::ReadIndex { .. }
            | Self::ReadIndexResponse { .. } => false,
            Self::Repair(rpc) => rpc.is_request(),
        }
    }

    /// Whether only a leader of the envelope's term sends it.
    #[must_use]
    pub fn is_from_leader(&self) -> bool {
        matches!(
            self,
            Self::AppendEntries { .. }
                | Self::Commit { .. }
                | Self::Heartbeat { .. }
                | Self::InstallSnapshot { .. }
                | Self::TimeoutNow
                | Self::ReadIndexResponse { .. }
                | Self::Repair(RepairRpc::BarrierResponse { .. })
        )
    }
}

impl RepairRpc {
    /// Whether it asks for something, and is not an answer.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.kind(), RpcKind::Barrier | RpcKind::RequestEntry | RpcKind::RequestSnapshot)
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> RpcKind {
        match self {
            Self::Barrier => RpcKind::Barrier,
            Self::BarrierResponse { .. } => RpcKind::BarrierResponse,
            Self::RequestEntry { .. } => RpcKind::RequestEntry,
            Self::RequestEntryResponse { .. } => RpcKind::RequestEntryResponse,
            Self::RequestSnapshot { .. } => RpcKind::RequestSnapshot,
            Self::RequestSnapshotResponse { .. } => RpcKind::RequestSnapshotResponse,
        }
    }
}
