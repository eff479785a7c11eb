//! What a client is told, by what became of its request.

use raft_core::{Index, Rejection};

use crate::applier::Applied;
use crate::machine::StateMachine;
use crate::pending::Asked;
use crate::request::{Failure, Output, Reply, RequestId};
use crate::session::{Executed, SessionId, Sessions};

pub(super) fn failed<M: StateMachine>(id: RequestId, failure: Failure) -> Output<M> {
    Output::Reply { id, reply: Reply::Failed(failure) }
}

pub(super) fn refusal(rejection: Rejection) -> Failure {
    match rejection {
        Rejection::NotLeader { hint } => Failure::NotLeader { hint },
        Rejection::TooLarge => Failure::TooLarge,
        Rejection::Halted => Failure::Halted,
        Rejection::Busy => Failure::Busy,
        Rejection::Transferring => Failure::Transferring,
        // What is refused was not appended, whatever reasons a later core may have.
        Rejection::TransferAborted
        | Rejection::UnknownMember
        | Rejection::NoOwnCommit
        | Rejection::MembershipPending
        | Rejection::MembershipDiffers
        | Rejection::InvalidMembership(_)
        | Rejection::NoChange
        | Rejection::NotJoint
        | Rejection::Exhausted
        | Rejection::NotCaughtUp { .. }
        | Rejection::NotHeard { .. }
        | Rejection::NotReplicating { .. }
        | Rejection::Damaged { .. }
        | Rejection::DiskFull
        | _ => Failure::Refused(rejection),
    }
}

pub(super) fn reply_to<M: StateMachine>(applied: Applied<M>, index: Index) -> Reply<M> {
    let failure = match applied {
        Applied::Nothing => unreachable!("the entry of a proposal is a command"),
        Applied::Opened(session) => return Reply::SessionOpened { session },
        Applied::Response { response, .. } => return Reply::Response { response, index },
        Applied::Duplicate(executed) => return repeat(&executed),
        Applied::Stale => Failure::StaleSerial,
        Applied::Expired => Failure::Expired,
        Applied::Malformed => Failure::Malformed,
    };
    Reply::Failed(failure)
}

/// The response to a command that was executed before. One that another version has written may
/// not decode here.
pub(super) fn repeat<M: StateMachine>(executed: &Executed) -> Reply<M> {
    match postcard::from_bytes(&executed.response) {
        Ok(response) => Reply::Response { response, index: executed.index },
        Err(_) => Reply::Failed(Failure::Unknown),
    }
}

/// What a proposal brought whose entry was not applied here one by one, but came as part of a
/// snapshot: the sessions may know.
pub(super) fn recall<M: StateMachine>(sessions: &Sessions, asked: Asked, index: Index) -> Reply<M> {
    match asked {
        Asked::Session => {
            let session = SessionId::opened_at(index);
            if sessions.is_open(session) {
                return Reply::SessionOpened { session };
            }
        }
        Asked::Command { session, serial } => {
            let last = sessions.last(session).filter(|last| last.serial == serial);
            if let Some(last) = last {
                return repeat(last);
            }
        }
    }
    Reply::Failed(Failure::Unknown)
}
