//! EO: a client's command takes effect at most once, and once if it was acknowledged (thesis
//! §6.3).
//!
//! The log tells which entry of a session and serial is the first, and so which one counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use raft_core::{Entries, Index};
use raft_replica::session::SessionId;

use super::history::{Answered, Asked, ClientId, Operation, OperationId, Outcome};
use super::machine::Machine;
use super::violation::{Invariant, Violation};
use crate::workload::{Command, Response, Workload};

/// What clients were told about their sessions and commands.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Whose session it is.
    sessions: BTreeMap<SessionId, (ClientId, OperationId)>,
    /// Commands that certainly have no effect.
    failed: BTreeSet<(SessionId, u64)>,
}

/// Committed entries are applied, by the first node to do so.
pub(super) fn applied<W: Workload>(
    told: &Told,
    machine: &mut Machine<W>,
    entries: &Entries,
) -> Result<(), Violation> {
    for entry in entries.slice(machine.applied().next(), Index(u64::MAX)).iter() {
        let Some((session, serial)) = machine.apply(entry) else { continue };
        if told.failed.contains(&(session, serial)) {
            return Err(broken(
                format!("{session} serial {serial} has no effect: its client was told so"),
                "it takes effect".into(),
            )
            .at(entry.index()));
        }
    }
    Ok(())
}

/// A request has ended.
pub(super) fn ended<W: Workload>(
    told: &mut Told,
    machine: &Machine<W>,
    asker: (ClientId, OperationId),
    operation: &Asked<W::Machine>,
    outcome: &Answered<W::Machine>,
) -> Result<(), Violation> {
    match (operation, outcome) {
        (Operation::OpenSession, Outcome::Opened { session }) => {
            opened(told, machine, asker, *session)
        }
        (Operation::Command { session, serial, command }, outcome) => {
            let name = (*session, *serial);
            match outcome {
                Outcome::Response { response, index } => {
                    responded(machine, name, command, response, *index)
                }
                Outcome::Expired => expired(machine, name),
                Outcome::Stale => stale(machine, name),
                Outcome::Failed => failed(told, machine, name),
                Outcome::Opened { .. } | Outcome::Answer { .. } => {
                    Err(mistaken(operation, outcome))
                }
                Outcome::Unknown => Ok(()),
            }
        }
        (Operation::Query { .. }, Outcome::Answer { .. })
        | (Operation::OpenSession | Operation::Query { .. }, Outcome::Failed | Outcome::Unknown) => {
            Ok(())
        }
        (
            Operation::OpenSession | Operation::Query { .. },
            Outcome::Opened { .. }
            | Outcome::Response { .. }
            | Outcome::Answer { .. }
            | Outcome::Expired
            | Outcome::Stale,
        ) => Err(mistaken(operation, outcome)),
    }
}

fn opened<W: Workload>(
    told: &mut Told,
    machine: &Machine<W>,
    asker: (ClientId, OperationId),
    session: SessionId,
) -> Result<(), Violation> {
    if !machine.was_opened(session) {
        return Err(broken(
            format!("the entry at {} opens a session", session.0),
            "it does not, and a client was told so".into(),
        )
        .at(Index(session.0)));
    }
    match told.sessions.insert(session, asker) {
        Some(other) if other != asker => Err(broken(
            format!("{session} belongs to {other:?}"),
            format!("it is given to {asker:?} as well"),
        )
        .at(Index(session.0))),
        Some(_) | None => Ok(()),
    }
}

fn responded<W: Workload>(
    machine: &Machine<W>,
    (session, serial): (SessionId, u64),
    command: &Command<W>,
    response: &Response<W>,
    index: Index,
) -> Result<(), Violation> {
    let Some(effect) = machine.effect(session, serial) else {
        return Err(broken(
            format!("{session} serial {serial} has not taken effect"),
            format!("its client was told that it has, with {response:?}"),
        )
        .at(index));
    };
    if effect.index == index && effect.command == *command {
        return Ok(());
    }
    Err(broken(
        format!("{session} serial {serial} took effect at {}: {:?}", effect.index, effect.command),
        format!("its client was told that it did at {index}: {command:?}"),
    )
    .at(index))
}

fn expired<W: Workload>(
    machine: &Machine<W>,
    (session, serial): (SessionId, u64),
) -> Result<(), Violation> {
    if !machine.is_open(session) {
        return Ok(());
    }
    Err(broken(
        format!("{session} is open"),
        format!("serial {serial} of it was refused because it were not"),
    )
    .at(machine.applied()))
}

fn stale<W: Workload>(
    machine: &Machine<W>,
    (session, serial): (SessionId, u64),
) -> Result<(), Violation> {
    let newest = machine.serial(session);
    if newest > Some(serial) || !machine.is_open(session) {
        return Ok(());
    }
    Err(broken(
        format!("the newest serial of {session} is {newest:?}"),
        format!("serial {serial} was refused as older"),
    )
    .at(machine.applied()))
}

fn failed<W: Workload>(
    told: &mut Told,
    machine: &Machine<W>,
    name: (SessionId, u64),
) -> Result<(), Violation> {
    told.failed.insert(name);
    let Some(effect) = machine.effect(name.0, name.1) else { return Ok(()) };
    Err(broken(
        format!("{} serial {} took effect at {}", name.0, name.1, effect.index),
        "its client was told that it never will".into(),
    )
    .at(effect.index))
}

fn mistaken(operation: &impl Debug, outcome: &impl Debug) -> Violation {
    broken(format!("an answer to {operation:?}"), format!("{outcome:?}"))
}

fn broken(predicted: String, actual: String) -> Violation {
    Violation::new(Invariant::ExactlyOnce, predicted, actual)
}
