//! Messages of `raft_core` in the words of the museum, and back.

use raft_core::{AppendResult, Entries, EntryId, Envelope, Index, Raft, Round, Rpc, Session, Term};

use crate::museum::story::Untold;
use crate::museum::subject::{Id, Kind, Letter, id};

/// What stories see of a message.
pub(super) fn letter(name: u64, envelope: &Envelope) -> Letter {
    Letter {
        name,
        from: envelope.from.id.0,
        to: envelope.to.id.0,
        term: envelope.term.0,
        kind: kind(&envelope.rpc),
    }
}

fn kind(rpc: &Rpc) -> Kind {
    match rpc {
        Rpc::RequestPreVote { last, .. } => Kind::RequestPreVote { last: place(*last) },
        Rpc::RequestPreVoteResponse { granted, .. } => Kind::PreVote { granted: *granted },
        Rpc::RequestVote { last, .. } => Kind::RequestVote { last: place(*last) },
        Rpc::RequestVoteResponse { granted } => Kind::Vote { granted: *granted },
        Rpc::AppendEntries { prev, entries, commit, .. } => Kind::Append {
            prev: place(*prev),
            entries: entries.iter().map(|entry| place(entry.id())).collect(),
            commit: commit.0,
        },
        Rpc::AppendEntriesResponse { result, .. } => match result {
            AppendResult::Matched { index } => Kind::Matched { index: index.0 },
            AppendResult::Conflict { .. } => Kind::Conflict,
            AppendResult::Blank | AppendResult::Diverged { .. } => Kind::Other,
        },
        Rpc::Commit { commit, .. } => Kind::Commit { index: commit.0 },
        Rpc::Heartbeat { .. } => Kind::Heartbeat,
        Rpc::HeartbeatResponse { .. } => Kind::HeartbeatAnswer,
        Rpc::InstallSnapshot { snapshot, offset, .. } => {
            Kind::Snapshot { last: place(snapshot.last), offset: *offset }
        }
        Rpc::InstallSnapshotResponse { .. } => Kind::SnapshotAnswer,
        Rpc::TimeoutNow => Kind::TimeoutNow,
        Rpc::ReadIndex { .. } => Kind::ReadIndex,
        Rpc::ReadIndexResponse { .. } => Kind::ReadIndexAnswer,
        Rpc::Repair(_) => Kind::Other,
    }
}

/// The stream that a leader's message belongs to.
pub(super) fn stream(rpc: &Rpc) -> Option<(Session, Round)> {
    match rpc {
        Rpc::AppendEntries { session, round, .. }
        | Rpc::Heartbeat { session, round, .. }
        | Rpc::InstallSnapshot { session, round, .. } => Some((*session, *round)),
        Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVote { .. }
        | Rpc::RequestVoteResponse { .. }
        | Rpc::AppendEntriesResponse { .. }
        | Rpc::Commit { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => None,
    }
}

/// A message that a story makes by hand, with what the sender knows of the entries it names.
pub(super) fn posted(kind: &Kind, raft: &Raft, stream: (Session, Round)) -> Result<Rpc, Untold> {
    let known = |at: Id| {
        let named = EntryId { term: Term(at.term), index: Index(at.index), ..EntryId::default() };
        let found = raft.entry_id(Index(at.index)).filter(|found| found.term.0 == at.term);
        found.unwrap_or(named)
    };
    let (session, round) = stream;
    match kind {
        Kind::RequestVote { last } => Ok(Rpc::RequestVote { last: known(*last), is_forced: false }),
        Kind::Vote { granted } => Ok(Rpc::RequestVoteResponse { granted: *granted }),
        Kind::Append { prev, entries, commit } if entries.is_empty() => {
            let (prev, commit) = (known(*prev), Index(*commit));
            Ok(Rpc::AppendEntries { session, round, prev, entries: Entries::empty(), commit })
        }
        Kind::RequestPreVote { .. }
        | Kind::PreVote { .. }
        | Kind::Append { .. }
        | Kind::Commit { .. }
        | Kind::Matched { .. }
        | Kind::Conflict
        | Kind::Heartbeat
        | Kind::HeartbeatAnswer
        | Kind::Snapshot { .. }
        | Kind::SnapshotAnswer
        | Kind::TimeoutNow
        | Kind::ReadIndex
        | Kind::ReadIndexAnswer
        | Kind::Other => Err(Untold::Unsupported("post such a message")),
    }
}

fn place(entry: EntryId) -> Id {
    id(entry.term.0, entry.index.0)
}
