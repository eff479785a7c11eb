//! LIN: answers are those of one machine, in an order that respects real time (thesis §6.3, §6.4).
//!
//! The order is that of the log. A write stands where it took effect, a read behind the last entry
//! that its answer takes into account. Two things are to be shown: that everything which was
//! complete when a request began stands before it, and that its answer is the one of the ghost's
//! machine at its place. A read that lies about its place is caught by the second.

use raft_core::{Index, Time};
use raft_replica::kv::{KvAnswer, KvQuery, Versioned};

use super::history::{History, Open, Operation, Outcome};
use super::machine::Machine;
use super::violation::{Invariant, Violation};

/// A request has ended, in accordance with what became of its command.
pub(super) fn ended(
    history: &mut History,
    machine: &Machine,
    open: &Open,
    outcome: &Outcome,
    now: Time,
) -> Result<(), Violation> {
    let index = match outcome {
        Outcome::Opened { session } => Index(session.0),
        Outcome::Response { index, .. } | Outcome::Answer { index, .. } => *index,
        Outcome::Expired | Outcome::Stale | Outcome::Failed | Outcome::Unknown => return Ok(()),
    };
    in_time(open, outcome, index, now)?;
    history.complete(index);
    match (&open.operation, outcome) {
        (Operation::Command { session, serial, .. }, Outcome::Response { response, .. }) => {
            let effect = machine.effect(*session, *serial);
            let expected = effect.expect("an acknowledged command took effect: judged").response;
            if expected == *response {
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
fn in_time(open: &Open, outcome: &Outcome, index: Index, now: Time) -> Result<(), Violation> {
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

fn answered(
    machine: &Machine,
    query: &KvQuery,
    answer: &KvAnswer,
    index: Index,
) -> Result<(), Violation> {
    if index > machine.applied() {
        return Err(broken(
            index,
            format!("nobody has applied more than {}", machine.applied()),
            format!("an answer to {query:?} as of {index}"),
        ));
    }
    match (query, answer) {
        (KvQuery::Get { key }, KvAnswer::Value(value)) => {
            same(machine, index, key, machine.get(key, index).as_ref(), value.as_ref())
        }
        (KvQuery::Scan { prefix, after, limit }, KvAnswer::Page { entries, more }) => {
            let mut expected = machine.scan(prefix, after.as_ref(), index);
            for (key, value) in entries {
                let Some((first, found)) = expected.next() else {
                    return same(machine, index, key, None, Some(value));
                };
                if first != key {
                    return Err(broken(
                        index,
                        format!("the next key is {first:?}"),
                        format!("the answer goes on with {key:?}"),
                    ));
                }
                same(machine, index, key, Some(&found), Some(value))?;
            }
            let left = expected.next().is_some();
            if left == *more && entries.len() as u64 <= u64::from(*limit) {
                return Ok(());
            }
            Err(broken(
                index,
                format!("at most {limit} keys, and then more: {left}"),
                format!("{} keys, and then more: {more}", entries.len()),
            ))
        }
        (KvQuery::Get { .. }, KvAnswer::Page { .. })
        | (KvQuery::Scan { .. }, KvAnswer::Value(_)) => {
            Err(broken(index, format!("an answer to {query:?}"), format!("{answer:?}")))
        }
    }
}

fn same(
    machine: &Machine,
    index: Index,
    key: &[u8],
    expected: Option<&Versioned>,
    actual: Option<&Versioned>,
) -> Result<(), Violation> {
    if expected == actual {
        return Ok(());
    }
    // A command that took effect a second time leaves its second index as the version.
    if let Some(repeat) = actual.filter(|actual| machine.is_repeat(actual.version)) {
        return Err(Violation::new(
            Invariant::ExactlyOnce,
            "the entry repeats a command and changes nothing".into(),
            format!("{repeat:?} is the value of {:?}", key.escape_ascii().to_string()),
        )
        .at(repeat.version));
    }
    let key = key.escape_ascii();
    Err(broken(index, format!("{key} has {expected:?}"), format!("{key} has {actual:?}")))
}

fn broken(index: Index, predicted: String, actual: String) -> Violation {
    Violation::new(Invariant::Linearizability, predicted, actual).at(index)
}
