//! How effects read, in transcripts, traces and logs alike: a verb in eight columns, then what it
//! is about, in one line.

use core::fmt;

use super::{Effect, HaltReason, Observation, Outcome, Refused, Rejection, RoleName, Violation};
use crate::types::Member;

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Persist(batch) => write!(f, "persist {batch}"),
            Self::Send(envelope) => write!(f, "send    {envelope}"),
            Self::Apply { entries } => write!(f, "apply   {entries}"),
            Self::RestoreState { snapshot } => write!(f, "restore {snapshot}"),
            Self::Outcome { ticket, outcome } => write!(f, "outcome {ticket} {outcome}"),
            Self::ReadReady { ticket, index, valid_until } => {
                write!(f, "ready   {ticket} at {index}")?;
                valid_until.map_or(Ok(()), |until| write!(f, " until {until}"))
            }
            Self::Load(request) => write!(f, "load    {request}"),
            Self::ReadChunk(request) => write!(f, "read    {request}"),
            Self::StageChunk { id: _, snapshot, offset, data, done } => {
                let (last, end) = (snapshot.last, if *done { " done" } else { "" });
                write!(f, "stage   {last} bytes={offset}+{}{end}", data.len())
            }
            Self::Observe(observation) => write!(f, "observe {observation}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed { term, index } => write!(f, "committed ({term},{index})"),
            Self::Transferred { term } => write!(f, "transferred, {term} has begun"),
            Self::Refused(rejection) => write!(f, "refused: {rejection}"),
            Self::Superseded => f.write_str("superseded: another entry is committed instead"),
            Self::Unknown => f.write_str("unknown: the log that would tell is gone"),
            Self::Halted => f.write_str("unknown: the node has halted"),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { hint: Some(leader) } => write!(f, "not the leader, {leader} is"),
            Self::NotLeader { hint: None } => f.write_str("not the leader"),
            Self::Busy => f.write_str("busy"),
            Self::DiskFull => f.write_str("the disk is full"),
            Self::TooLarge => f.write_str("too large"),
            Self::Transferring => f.write_str("handing over"),
            Self::TransferAborted => f.write_str("the transfer did not come about"),
            Self::UnknownMember => f.write_str("no such member in that place"),
            Self::NoOwnCommit => f.write_str("no entry of the own term is committed yet"),
            Self::MembershipPending => f.write_str("another change is not complete"),
            Self::MembershipDiffers => f.write_str("the membership is not the expected one"),
            Self::InvalidMembership(error) => write!(f, "{error}"),
            Self::NoChange => f.write_str("it changes nothing"),
            Self::NotJoint => f.write_str("the membership is not joint"),
            Self::Exhausted => f.write_str("epochs or terms are at their end"),
            Self::Damaged { index } => write!(f, "the log is damaged at {index}"),
            Self::NotCaughtUp { member, matched, needed } => {
                write!(f, "{member} has not caught up: {matched}, needed {needed}")
            }
            Self::NotHeard { member } => write!(f, "{member} has not answered lately"),
            Self::NotReplicating { member } => write!(f, "{member} gets no entries now"),
            Self::Halted => f.write_str("halted"),
        }
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoleChanged { role, term } => write!(f, "role {role} in {term}"),
            Self::LeaderChanged { leader: Some(leader), term } => {
                write!(f, "leader {leader} in {term}")
            }
            Self::LeaderChanged { leader: None, term } => write!(f, "leader none in {term}"),
            Self::MembershipChanged { membership } => write!(f, "membership {membership}"),
            Self::Refused { from, kind, reason } => {
                f.write_str("refused")?;
                show_sender(f, *from)?;
                if let Some(kind) = kind {
                    write!(f, " {kind}")?;
                }
                write!(f, ": {reason}")
            }
            Self::Retired { successor: Some(to) } => write!(f, "retired in favour of {to}"),
            Self::Retired { successor: None } => f.write_str("retired"),
            Self::Healed { first, count: 1 } => write!(f, "healed {first}"),
            Self::Healed { first, count } => write!(f, "healed {count} from {first}"),
            Self::EntryDamaged { id } => write!(f, "{id} is damaged"),
            Self::EntryMissed { id, never, damaged } => {
                write!(f, "{id} is missed")?;
                show_members(f, " never had by", never)?;
                show_members(f, " damaged at", damaged)
            }
            Self::EntryDiscarded { id } => write!(f, "{id} was never committed: discarded"),
            Self::SnapshotWanted { by, index } => {
                write!(f, "{by} wants a snapshot through {index}")
            }
            Self::TailUnknown => f.write_str("the tail of the log is unknown"),
            Self::TailCertain => f.write_str("the tail of the log is certain"),
            Self::Violation(violation) => write!(f, "VIOLATION {violation}"),
            Self::Halted { reason } => write!(f, "halted: {reason}"),
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Halted => "halted",
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherGroup => f.write_str("of another cluster or group"),
            Self::NotForMe => f.write_str("not addressed to this member"),
            Self::FromMyself => f.write_str("claims to come from this node"),
            Self::OutOfBounds => f.write_str("a number is out of bounds"),
            Self::Oversized => f.write_str("too many entries or bytes"),
            Self::NotConsecutive => f.write_str("its entries do not follow each other"),
            Self::BrokenChain => f.write_str("its chain is broken"),
            Self::InvalidMembership => f.write_str("its membership is not one"),
            Self::StaleEpoch { mine, theirs } => write!(f, "stale epoch {theirs}, here {mine}"),
            Self::StaleTerm { mine, theirs } => write!(f, "stale term {theirs}, here {mine}"),
            Self::StaleIncarnation { known, theirs } => {
                write!(f, "stale incarnation {theirs}, known {known}")
            }
            Self::StaleSession { mine, theirs } => write!(f, "stale session {theirs}, now {mine}"),
            Self::StickyLeader { left } => write!(f, "a leader is alive, for {left} at least"),
            Self::Promised { left } => write!(f, "promised to another leader for {left}"),
            Self::LogBehind { mine, theirs } => write!(f, "log behind: {theirs}, here {mine}"),
            Self::LeaderKnown { leader } => write!(f, "{leader} leads this term"),
            Self::AlreadyVoted { candidate } => write!(f, "already voted for {candidate}"),
            Self::StaleAttempt { mine, theirs } => {
                write!(f, "an answer to attempt {theirs}, now {mine}")
            }
            Self::NotAMember => f.write_str("the sender is no member"),
            Self::Busy => f.write_str("too much waits"),
            Self::DiskFull => f.write_str("the disk is full"),
            Self::Unasked => f.write_str("nobody asked"),
            Self::Impossible => f.write_str("it claims what cannot be"),
            Self::TailUnknown => f.write_str("the tail of the log is unknown here"),
            Self::UnknownPersist { seq } => write!(f, "batch {seq} was never issued"),
            Self::UnknownApplied { through } => write!(f, "{through} was never handed out"),
            Self::UnknownSnapshot { snapshot } => {
                write!(f, "snapshot{snapshot} was not described here, or is not newer")
            }
            Self::UnknownChunk { id } => write!(f, "chunk {id} is not being staged"),
            Self::UnknownLoad => f.write_str("entries that were not asked for"),
            Self::NotLeader => f.write_str("not a leader"),
            Self::NotFollower => f.write_str("not a follower"),
            Self::NotAVoter => f.write_str("not a voter"),
            Self::Halted => f.write_str("halted"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChainMismatch { index, mine, theirs } => {
                write!(f, "two histories at {index}: chain {mine} here, {theirs} there")
            }
            Self::CommittedConflict { index, commit } => {
                write!(f, "conflict at {index}, but {commit} is committed here")
            }
            Self::PeerDiverged { peer, index } => {
                write!(f, "the history of {peer} parts from this one at {index}")
            }
            Self::MembershipMismatch { index } => {
                write!(f, "a snapshot through {index} names another membership than the log")
            }
            Self::TwoLeaders { term, known, other } => {
                write!(f, "both {known} and {other} claim to lead {term}")
            }
        }
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PersistFailed => f.write_str("a write or a sync failed"),
            Self::LeftBehind { epoch } => write!(f, "left behind, the cluster is in {epoch}"),
            Self::CommittedLost { index } => {
                write!(f, "{index} was committed, and too many say that they never had it")
            }
        }
    }
}

fn show_sender(f: &mut fmt::Formatter<'_>, from: Option<Member>) -> fmt::Result {
    match from {
        Some(from) => write!(f, " {from}'s"),
        None => Ok(()),
    }
}

fn show_members(f: &mut fmt::Formatter<'_>, what: &str, members: &[Member]) -> fmt::Result {
    for (position, member) in members.iter().enumerate() {
        let before = if position == 0 { what } else { "," };
        write!(f, "{before} {member}")?;
    }
    Ok(())
}
