//! How inputs and peer messages read, in transcripts, traces and logs alike: one line each.
//!
//! Deliberately absent: what only the machinery needs (sessions, incarnations, lineages). Read
//! rounds are shown from the first one on.

use core::fmt;

use super::{
    AppendResult, Body, Chunk, ChunkRequest, EntryResult, Envelope, LoadPurpose, LoadRequest,
    Message, ReadMode, RepairRpc, Rpc, RpcKind,
};
use crate::entry::Payload;
use crate::types::{Round, Span};

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.now, self.body)
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => f.write_str("tick"),
            Self::Peer(envelope) => write!(f, "receive {envelope}"),
            Self::PeerUnreachable { peer } => write!(f, "unreachable {peer}"),
            Self::Propose { ticket, command } => {
                write!(f, "propose {ticket} {}", Payload::Command(command.clone()))
            }
            Self::ProposeBatch { proposals } => write!(f, "propose {} commands", proposals.len()),
            Self::Read { ticket, mode } => write!(f, "read {ticket} {mode}"),
            Self::ProposeMembership { ticket, change, expect } => {
                write!(f, "change {ticket} {change}")?;
                expect.as_ref().map_or(Ok(()), |expect| write!(f, " expecting {expect}"))
            }
            Self::TransferLeadership { ticket, to: Some(to) } => {
                write!(f, "transfer {ticket} to {to}")
            }
            Self::TransferLeadership { ticket, to: None } => write!(f, "transfer {ticket}"),
            Self::Campaign => f.write_str("campaign"),
            Self::StepDown => f.write_str("step down"),
            Self::ForgetLeader => f.write_str("forget the leader"),
            Self::ForceMembership { ticket } => write!(f, "force {ticket}"),
            Self::Loaded { request, entries: Some(entries) } => {
                write!(f, "loaded {request}: {entries}")
            }
            Self::Loaded { request, entries: None } => write!(f, "cannot load {request}"),
            Self::Persisted { seq } => write!(f, "persisted {seq}"),
            Self::PersistFailed => f.write_str("persist failed"),
            Self::DiskFull { is_full: true } => f.write_str("the disk is full"),
            Self::DiskFull { is_full: false } => f.write_str("the disk has room"),
            Self::Applied { through } => write!(f, "applied through {through}"),
            Self::Damaged { entries } => {
                f.write_str("damaged")?;
                entries.iter().try_for_each(|id| write!(f, " {id}"))
            }
            Self::SnapshotTaken { snapshot } => write!(f, "taken {snapshot}"),
            Self::ChunkRead { request, chunk } => match chunk {
                Some(Chunk { data, done }) => {
                    let end = if *done { " done" } else { "" };
                    write!(f, "have read {request} {}B{end}", data.len())
                }
                None => write!(f, "cannot read {request}"),
            },
            Self::ChunkStaged { id, staged } => write!(f, "staged chunk {id}, {staged}B in all"),
        }
    }
}

impl fmt::Display for ReadMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadIndex => "ReadIndex",
            Self::Lease => "lease",
        })
    }
}

impl fmt::Display for LoadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={} ", self.after.index.next(), self.through)?;
        match self.purpose {
            LoadPurpose::Apply => f.write_str("to apply"),
            LoadPurpose::Peer { member, .. } | LoadPurpose::Repair { member, .. } => {
                write!(f, "for {member}")
            }
        }
    }
}

impl fmt::Display for ChunkRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot{} from byte {} for {}", self.snapshot, self.offset, self.to)
    }
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{} {} {}", self.from, self.to, self.term, self.rpc)
    }
}

impl fmt::Display for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        match self {
            Self::RequestPreVote { last, .. } => write!(f, " last={last}"),
            Self::RequestVote { last, is_forced } => {
                write!(f, " last={last}{}", if *is_forced { " forced" } else { "" })
            }
            Self::RequestPreVoteResponse { granted, .. }
            | Self::RequestVoteResponse { granted } => {
                f.write_str(if *granted { " granted" } else { " refused" })
            }
            Self::AppendEntries { round, prev, entries, commit, .. } => {
                write!(f, " prev={prev} entries={entries} commit={commit}")?;
                show_round(f, *round)
            }
            Self::AppendEntriesResponse { round, result, .. } => {
                write!(f, " {result}")?;
                show_round(f, *round)
            }
            Self::Commit { commit, .. } => write!(f, " {commit}"),
            Self::Heartbeat { round, commit, lease, .. } => {
                write!(f, " commit={commit}")?;
                if *lease > Span(0) {
                    write!(f, " lease={lease}")?;
                }
                show_round(f, *round)
            }
            Self::HeartbeatResponse { round, .. } => show_round(f, *round),
            Self::InstallSnapshot { snapshot, offset, data, done, .. } => {
                let (last, end) = (snapshot.last, if *done { " done" } else { "" });
                write!(f, " {last} bytes={offset}+{}{end}", data.len())
            }
            Self::InstallSnapshotResponse { snapshot, staged, .. } => {
                write!(f, " {snapshot} staged={staged}B")
            }
            Self::TimeoutNow => Ok(()),
            Self::ReadIndex { id } => write!(f, " {id}"),
            Self::ReadIndexResponse { id, index } => write!(f, " {id} at {index}"),
            Self::Repair(rpc) => write!(f, "{rpc}"),
        }
    }
}

impl fmt::Display for AppendResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched { index } => write!(f, "matched {index}"),
            Self::Conflict { rejected, hint, hint_term } => {
                write!(f, "conflict {rejected} hint=({hint_term},{hint})")
            }
            Self::Blank => f.write_str("blank"),
            Self::Diverged { index } => write!(f, "diverged {index}"),
        }
    }
}

/// All but the kind.
impl fmt::Display for RepairRpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Barrier => Ok(()),
            Self::BarrierResponse { index, .. } => write!(f, " {index}"),
            Self::RequestEntry { wanted, is_snapshot: true, .. } => {
                write!(f, " snapshot{wanted}")
            }
            Self::RequestEntry { wanted, .. } => write!(f, " {wanted}"),
            Self::RequestEntryResponse { result, .. } => write!(f, " {result}"),
            Self::RequestSnapshot { snapshot, offset, .. } => {
                write!(f, " {snapshot} from byte {offset}")
            }
            Self::RequestSnapshotResponse { snapshot, offset, data, done, .. } => {
                let (last, end) = (snapshot.last, if *done { " done" } else { "" });
                write!(f, " {last} bytes={offset}+{}{end}", data.len())
            }
        }
    }
}

impl fmt::Display for EntryResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Have { entries } => write!(f, "have {entries}"),
            Self::HaveSnapshot { snapshot } => write!(f, "have {snapshot}"),
            Self::DontHave => f.write_str("never had it"),
            Self::HaveDamaged => f.write_str("may have had it"),
        }
    }
}

impl fmt::Display for RpcKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestPreVote => "RequestPreVote",
            Self::RequestPreVoteResponse => "PreVote",
            Self::RequestVote => "RequestVote",
            Self::RequestVoteResponse => "Vote",
            Self::AppendEntries => "AppendEntries",
            Self::AppendEntriesResponse => "AppendResponse",
            Self::Commit => "Commit",
            Self::Heartbeat => "Heartbeat",
            Self::HeartbeatResponse => "HeartbeatResponse",
            Self::InstallSnapshot => "InstallSnapshot",
            Self::InstallSnapshotResponse => "SnapshotResponse",
            Self::TimeoutNow => "TimeoutNow",
            Self::ReadIndex => "ReadIndex",
            Self::ReadIndexResponse => "ReadIndexResponse",
            Self::Barrier => "Barrier",
            Self::BarrierResponse => "BarrierResponse",
            Self::RequestEntry => "RequestEntry",
            Self::RequestEntryResponse => "EntryResponse",
            Self::RequestSnapshot => "RequestSnapshot",
            Self::RequestSnapshotResponse => "SnapshotPart",
        })
    }
}

/// Rounds count reads: most messages belong to none.
fn show_round(f: &mut fmt::Formatter<'_>, round: Round) -> fmt::Result {
    if round > Round::ZERO { write!(f, " {round}") } else { Ok(()) }
}
