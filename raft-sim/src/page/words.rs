//! What events, entries and requests are called on a page: for people, and short.

use raft_core::{Entry, Payload};
use raft_replica::kv::{KvAnswer, KvCommand, KvQuery, KvResponse};
use raft_replica::session::LogCommand;

use crate::check::{Operation, Outcome};
use crate::event::{Event, NodeAt};
use crate::fault::Fault;
use crate::observe::Loss;

/// What a message is called that nobody sent.
pub(super) const FORGED: &str = "forged: nobody sent it";

/// What kind of event comes up, and the node that it comes up at, if it is about one. Who is struck,
/// the strike itself tells.
pub(super) fn event(
    event: &Event,
    ends: Option<(NodeAt, NodeAt)>,
) -> (&'static str, Option<NodeAt>) {
    let (from, to) = (ends.map(|(from, _)| from), ends.map(|(_, to)| to));
    match event {
        Event::Frame { .. } => ("message", to),
        Event::Deadline { node, .. } => ("deadline", Some(*node)),
        Event::Inbox { node, .. } => ("inbox", Some(*node)),
        Event::Disk { node, .. } => ("disk", Some(*node)),
        Event::Scrub { node, .. } => ("scrub", Some(*node)),
        Event::Start { node, .. } => ("start", Some(*node)),
        Event::Resume { node, .. } => ("resume", Some(*node)),
        Event::Client { .. } => ("client", None),
        Event::Strike { .. } => ("fault", None),
        Event::Mend { .. } => ("mend", None),
        Event::Clog { .. } => ("clog", from),
        Event::Release { .. } => ("release", from),
        Event::Flap { node, .. } => ("flap", Some(*node)),
        Event::Operator => ("operator", None),
        Event::Unreachable { .. } => ("unreachable", from),
    }
}

/// What comes up, in a few words; nothing for a message, which has its own.
pub(super) fn comes_up(event: &Event, ends: Option<(NodeAt, NodeAt)>) -> String {
    let link = || ends.map_or(String::new(), |(from, to)| format!("n{} → n{}", from + 1, to + 1));
    match event {
        Event::Frame { .. } | Event::Strike { .. } => String::new(),
        Event::Deadline { .. } => "its deadline passes".to_owned(),
        Event::Inbox { .. } => "reads its inbox".to_owned(),
        Event::Disk { .. } => "its disk is done with a piece of work".to_owned(),
        Event::Scrub { .. } => "looks through a part of its disk".to_owned(),
        Event::Start { .. } => "starts again".to_owned(),
        Event::Resume { .. } => "goes on after a pause".to_owned(),
        Event::Client { client, .. } => format!("client {client} acts"),
        Event::Mend { partition } => format!("partition {} ends", partition + 1),
        Event::Clog { .. } => format!("{}: the link holds what it is given", link()),
        Event::Release { .. } => format!("{}: the link lets go what it held", link()),
        Event::Flap { cut: true, .. } => "is cut off".to_owned(),
        Event::Flap { cut: false, .. } => "comes back".to_owned(),
        Event::Operator => "an operator looks after the membership".to_owned(),
        Event::Unreachable { .. } => format!("{}: the connection is broken", link()),
    }
}

/// A class of faults strikes, and for how long if that means anything.
pub(super) fn strikes(fault: Fault, lasts_us: u64) -> String {
    let name = fault.name();
    let lasts = [Fault::Partition, Fault::Clog, Fault::Overflow, Fault::Pause, Fault::Stall];
    if lasts.contains(&fault) {
        format!("{name} strikes, for {} or so", duration(lasts_us))
    } else {
        format!("{name} strikes")
    }
}

/// A time of the simulation, for people.
pub(super) fn duration(us: u64) -> String {
    let (ms, rest) = (us / 1_000, us % 1_000);
    if ms == 0 { format!("{us} µs") } else { format!("{ms}.{rest:03} ms") }
}

/// Why a message was lost.
pub(super) fn loss(loss: Loss) -> String {
    match loss {
        Loss::Network(fault) => format!("lost: {}", fault.name()),
        Loss::Down => "lost: its receiver is down".to_owned(),
        Loss::Unread => "lost: its receiver's process ended before it was read".to_owned(),
    }
}

/// What an entry says.
pub(super) fn entry(entry: &Entry) -> String {
    match entry.payload() {
        Payload::Noop => "no-op of a new leader".to_owned(),
        Payload::Membership(membership) => membership.to_string(),
        Payload::Command(command) => match LogCommand::<KvCommand>::decode(command) {
            Ok(LogCommand::OpenSession { .. }) => "open a session".to_owned(),
            Ok(LogCommand::Apply { session, serial, command }) => {
                format!("{} ({session}, serial {serial})", change(&command))
            }
            Err(_) => format!("{} bytes that are no command", command.len()),
        },
    }
}

/// What a client asks for.
pub(super) fn operation(operation: &Operation) -> String {
    match operation {
        Operation::OpenSession => "open a session".to_owned(),
        Operation::Command { command, .. } => change(command),
        Operation::Query { query: KvQuery::Get { key } } => format!("get {}", bytes(key)),
        Operation::Query { query: KvQuery::Scan { prefix, limit, .. } } => {
            format!("list {limit} keys that begin with {}", bytes(prefix))
        }
    }
}

/// What it is told.
pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Opened { session } => format!("{session} is open"),
        Outcome::Response { response, index } => match response {
            KvResponse::Changed { .. } => format!("done at {index}"),
            KvResponse::Differs { .. } => format!("not done: another value is there, at {index}"),
            KvResponse::KeyTooLong => "not done: the key is too long".to_owned(),
        },
        Outcome::Answer { answer: KvAnswer::Value(found), index } => {
            let found = found.as_ref().map(|found| &found.value[..]);
            format!("{} at {index}", maybe(found))
        }
        Outcome::Answer { answer: KvAnswer::Page { entries, .. }, index } => {
            format!("{} keys at {index}", entries.len())
        }
        Outcome::Expired => "its session is gone".to_owned(),
        Outcome::Stale => "its session has gone on".to_owned(),
        Outcome::Failed => "failed: it has certainly had no effect".to_owned(),
        Outcome::Unknown => "gives up without knowing".to_owned(),
    }
}

fn change(command: &KvCommand) -> String {
    match command {
        KvCommand::Put { key, value: new } => format!("put {} = {}", bytes(key), value(new)),
        KvCommand::Delete { key } => format!("delete {}", bytes(key)),
        KvCommand::CompareAndSwap { key, expect, new } => format!(
            "if {} is {}, make it {}",
            bytes(key),
            maybe(expect.as_deref()),
            maybe(new.as_deref())
        ),
    }
}

/// Keys and values are bytes; most are not text.
fn bytes(bytes: &[u8]) -> String {
    const SHOWN: usize = 24;
    let shown = bytes[..bytes.len().min(SHOWN)].escape_ascii();
    let rest = bytes.len().saturating_sub(SHOWN);
    if rest == 0 { shown.to_string() } else { format!("{shown}… ({} bytes)", bytes.len()) }
}

/// A value that a simulated client has written begins with its number and that of its request.
fn value(value: &[u8]) -> String {
    match (value.first_chunk::<8>(), value.get(8..16).and_then(<[u8]>::first_chunk::<8>)) {
        (Some(client), Some(request)) => {
            let (client, request) = (u64::from_be_bytes(*client), u64::from_be_bytes(*request));
            if client < 1 << 16 && request < 1 << 32 {
                format!("‹client {client}, request {request}›")
            } else {
                bytes(value)
            }
        }
        (_, _) => bytes(value),
    }
}

fn maybe(found: Option<&[u8]>) -> String {
    found.map_or("nothing".to_owned(), value)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn values_name_who_wrote_them_and_other_bytes_are_escaped() {
        let written = [&3_u64.to_be_bytes()[..], &17_u64.to_be_bytes(), b"...."].concat();
        assert_eq!(value(&written), "‹client 3, request 17›");
        assert_eq!(value(b"plain"), "plain");
        assert_eq!(bytes(b"k\x01\""), "k\\x01\\\"");
        assert_eq!(bytes(&[b'x'; 30]), format!("{}… (30 bytes)", "x".repeat(24)));
    }

    #[test]
    fn changes_read_like_sentences() {
        let key = Bytes::from("k");
        let swap = KvCommand::CompareAndSwap { key, expect: None, new: Some(Bytes::from("v")) };
        assert_eq!(change(&swap), "if k is nothing, make it v");
    }
}
