//! Commands, queries and their answers, for people.

use raft_core::Index;
use raft_replica::kv::{KvAnswer, KvCommand, KvQuery, KvResponse};

pub(super) fn command(command: &KvCommand) -> String {
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

pub(super) fn query(query: &KvQuery) -> String {
    match query {
        KvQuery::Get { key } => format!("get {}", bytes(key)),
        KvQuery::Scan { prefix, limit, .. } => {
            format!("list {limit} keys that begin with {}", bytes(prefix))
        }
    }
}

pub(super) fn response(response: KvResponse, index: Index) -> String {
    match response {
        KvResponse::Changed { .. } => format!("done at {index}"),
        KvResponse::Differs { .. } => format!("not done: another value is there, at {index}"),
        KvResponse::KeyTooLong => "not done: the key is too long".to_owned(),
    }
}

pub(super) fn answer(answer: &KvAnswer, index: Index) -> String {
    match answer {
        KvAnswer::Value(found) => {
            let found = found.as_ref().map(|found| &found.value[..]);
            format!("{} at {index}", maybe(found))
        }
        KvAnswer::Page { entries, .. } => format!("{} keys at {index}", entries.len()),
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
        assert_eq!(command(&swap), "if k is nothing, make it v");
    }
}
