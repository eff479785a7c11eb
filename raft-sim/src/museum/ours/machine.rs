//! A state machine that is the list of what it was given, and its snapshots.

use raft_core::{Entry, Payload};

use crate::museum::subject::{Applied, id};

/// The command that entries have which are there from the beginning.
pub(super) fn command_of(term: u64, index: u64) -> String {
    format!("given {term}.{index}")
}

/// An entry as stories see it.
pub(super) fn applied(entry: &Entry) -> Applied {
    let command = match entry.payload() {
        Payload::Command(command) => command.to_vec(),
        Payload::Noop | Payload::Membership(_) => Vec::new(),
    };
    Applied { id: id(entry.term().0, entry.index().0), command }
}

/// The bytes of a snapshot: for each entry its term, its length and its command. Indices count up.
pub(super) fn image(machine: &[Applied]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for applied in machine {
        bytes.extend(applied.id.term.to_le_bytes());
        bytes.extend((applied.command.len() as u64).to_le_bytes());
        bytes.extend(&applied.command);
    }
    bytes
}

/// What such bytes say.
pub(super) fn restore(bytes: &[u8]) -> Vec<Applied> {
    let mut rest = bytes;
    let mut machine = Vec::new();
    while !rest.is_empty() {
        let term = word(&mut rest);
        let length = usize::try_from(word(&mut rest)).expect("commands of stories are short");
        let (command, after) = rest.split_at(length);
        rest = after;
        machine.push(Applied { id: id(term, machine.len() as u64 + 1), command: command.to_vec() });
    }
    machine
}

fn word(bytes: &mut &[u8]) -> u64 {
    let (word, rest) = bytes.split_first_chunk().expect("an image is whole");
    *bytes = rest;
    u64::from_le_bytes(*word)
}
