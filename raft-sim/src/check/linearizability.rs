//! LIN: answers are those of one machine, in an order that respects real time (thesis §6.3, §6.4).
//!
//! The order is that of the log. A write stands where it took effect, a read behind the last entry
//! that its answer takes into account. Two things are to be shown: that everything which was
//! complete when a request began stands before it, and that its answer is the one of the ghost's
//! machine at its place. A read that lies about its place is caught by the second.

use raft_core::{Index, Time};
use raft_replica::machine::StateMachine;

use super::history::{Answered, History, Open, Operation, Outcome};
use super::machine::Machine;
use super::violation::{Invariant, Violation};
use crate::workload::{Answer, Model, Query, Workload};

/// A request has ended, in accordance with what became of its command.
pub(super) fn ended<W: Workload>(
    history: &mut History<W::Machine>,
    machine: &Machine<W>,
    open: &Open<W::Machine>,
    outcome: &Answered<W::Machine>,
    now: Time,
) -> Result<(), Violation> {
    let index = match outcome {
        Outcome::Opened { session } => Index(session.0),
        Outcome::Response { index, .. } | Outcome::Answer { index, .. } => *index,
        Outcome::Expired | Outcome::Stale | Outcome::Failed | Outcome::Unknown => return Ok(()),
    };
    in_time::<W::Machine>(open, outcome, index, now)?;
    history.complete(index);
    match (&open.operation, outcome) {
        (Operation::Command { session, serial, .. }, Outcome::Response { response, .. }) => {
            let effect = machine.effect(*session, *serial);
            let expected = &effect.expect("an acknowledged command took effect: judged").response;
            if expected == response {
                return Ok(());
            }
            Err(broken(index, format!("{expected:?}"), format!("{response:?}")))
        }
        (Operation::Query { query }, Outcome::Answer { answer, .. }) => {
            answered(machine, query, answer, index)
        }
        // A session has no content; mismatched pairs were judged with the other duties to clients.
        (
            Operation::OpenSession | Operation::Command { .. } | Operation::Query { .. },
            Outcome::Opened { .. }
            | Outcome::Response { .. }
            | Outcome::Answer { .. }
            | Outcome::Expired
            | Outcome::Stale
            | Outcome::Failed
            | Outcome::Unknown,
        ) => Ok(()),
    }
}

/// Its place lies behind all that was complete when it began.
fn in_time<M: StateMachine>(
    open: &Open<M>,
    outcome: &Answered<M>,
    index: Index,
    now: Time,
) -> Result<(), Violation> {
    // A read may share its place with a write; a write has its place for itself.
    let earliest = match outcome {
        Outcome::Answer { .. } => open.floor,
        Outcome::Opened { .. }
        | Outcome::Response { .. }
        | Outcome::Expired
        | Outcome::Stale
        | Outcome::Failed
        | Outcome::Unknown => open.floor.next(),
    };
    if index >= earliest {
        return Ok(());
    }
    Err(broken(
        index,
        format!("a request from {} on comes at {earliest} or later", open.since),
        format!("{:?} was answered at {now} as of {index}", open.operation),
    ))
}

fn answered<W: Workload>(
    machine: &Machine<W>,
    query: &Query<W>,
    answer: &Answer<W>,
    index: Index,
) -> Result<(), Violation> {
    if index > machine.applied() {
        return Err(broken(
            index,
            format!("nobody has applied more than {}", machine.applied()),
            format!("an answer to {query:?} as of {index}"),
        ));
    }
    let Err(mismatch) = machine.model.judge(index, query, answer) else { return Ok(()) };
    // A command that took effect a second time shows as the effect of its second entry.
    if let Some(repeat) = mismatch.effect.filter(|index| machine.is_repeat(*index)) {
        return Err(Violation::new(
            Invariant::ExactlyOnce,
            "the entry repeats a command and changes nothing".into(),
            mismatch.actual,
        )
        .at(repeat));
    }
    Err(broken(index, mismatch.predicted, mismatch.actual))
}

fn broken(index: Index, predicted: String, actual: String) -> Violation {
    Violation::new(Invariant::Linearizability, predicted, actual).at(index)
}
