//! Requests, their ends, and entries, in a few words for people.

use raft_core::{Entry, Payload};
use raft_replica::session::LogCommand;

use super::{Command, Workload};
use crate::check::{Answered, Asked, Operation, Outcome};

/// What an entry says.
#[must_use]
pub fn entry<W: Workload>(entry: &Entry) -> String {
    match entry.payload() {
        Payload::Noop => "no-op of a new leader".to_owned(),
        Payload::Membership(membership) => membership.to_string(),
        Payload::Command(command) => match LogCommand::<Command<W>>::decode(command) {
            Ok(LogCommand::OpenSession { .. }) => "open a session".to_owned(),
            Ok(LogCommand::Apply { session, serial, command }) => {
                format!("{} ({session}, serial {serial})", W::show_command(&command))
            }
            Err(_) => format!("{} bytes that are no command", command.len()),
        },
    }
}

/// What a client asks for.
#[must_use]
pub fn operation<W: Workload>(operation: &Asked<W::Machine>) -> String {
    match operation {
        Operation::OpenSession => "open a session".to_owned(),
        Operation::Command { command, .. } => W::show_command(command),
        Operation::Query { query } => W::show_query(query),
    }
}

/// What it is told.
#[must_use]
pub fn outcome<W: Workload>(outcome: &Answered<W::Machine>) -> String {
    match outcome {
        Outcome::Opened { session } => format!("{session} is open"),
        Outcome::Response { response, index } => W::show_response(response, *index),
        Outcome::Answer { answer, index } => W::show_answer(answer, *index),
        Outcome::Expired => "its session is gone".to_owned(),
        Outcome::Stale => "its session has gone on".to_owned(),
        Outcome::Failed => "failed: it has certainly had no effect".to_owned(),
        Outcome::Unknown => "gives up without knowing".to_owned(),
    }
}
