//! The key-value machine: an ordered map with put, delete, compare-and-swap, get and prefix scan.
//!
//! Every value carries its *version*, the index of the log entry that wrote it. Versions of one key
//! only rise, and no two writes share one, so a client can tell which write it sees. Responses name
//! the version that they replaced instead of its value: they are kept for retries, and stay small.
//!
//! There is no expiry by time: time is no part of a deterministic machine.
//!
//! The map shares its nodes with its copies and copies those that change, so a copy of it, which is all
//! that a snapshot is, costs the same for one key and for a million.

mod restore;

use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem;
use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;
use raft_core::Index;
use serde::{Deserialize, Serialize};

use crate::machine::{StateMachine, restore_at_once};
pub use restore::KvRestore;

/// The longest key, in bytes. Values are bounded by the size of a command alone.
pub const KEY_BYTES_MAX: usize = 4096;

/// The most entries in the answer to one scan.
pub const SCAN_ENTRIES_MAX: u32 = 1024;

/// What an entry takes beside its key and its value, in bytes: its place in the map, and what the
/// allocations of both cost.
pub const ENTRY_BYTES: u64 = 128;

/// The answer to one scan ends with the entry that takes its keys and values to this many bytes.
pub const SCAN_BYTES_MAX: usize = 1 << 20;

/// The format of a snapshot, its first byte.
const SNAPSHOT_VERSION: u8 = 1;

/// A change of the map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KvCommand {
    /// Writes a value.
    Put {
        /// Where.
        key: Bytes,
        /// What.
        value: Bytes,
    },
    /// Removes a key and its value.
    Delete {
        /// Which.
        key: Bytes,
    },
    /// Writes or removes if the present value is the expected one.
    CompareAndSwap {
        /// Where.
        key: Bytes,
        /// The expected value; `None`: the key is absent.
        expect: Option<Bytes>,
        /// The value to write; `None`: remove the key.
        new: Option<Bytes>,
    },
}

impl KvCommand {
    /// The key that it concerns.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::CompareAndSwap { key, .. } => key,
        }
    }
}

/// The answer to a [`KvCommand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KvResponse {
    /// The change is made.
    Changed {
        /// The version that was there before; `None`: the key was absent.
        previous: Option<Index>,
    },
    /// The present value is not the expected one: nothing is changed.
    Differs {
        /// The version that is there; `None`: the key is absent.
        found: Option<Index>,
    },
    /// The key is longer than [`KEY_BYTES_MAX`]: nothing is changed.
    KeyTooLong,
}

/// A question to the map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KvQuery {
    /// The value of one key.
    Get {
        /// Which.
        key: Bytes,
    },
    /// The entries whose keys begin with a prefix, in the order of their keys.
    Scan {
        /// The prefix; empty for all keys.
        prefix: Bytes,
        /// Begin behind this key: the last one of the page before.
        after: Option<Bytes>,
        /// The most entries; at most [`SCAN_ENTRIES_MAX`] are given.
        limit: u32,
    },
}

/// The answer to a [`KvQuery`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KvAnswer {
    /// To [`KvQuery::Get`]; `None`: the key is absent.
    Value(Option<Versioned>),
    /// To [`KvQuery::Scan`].
    Page {
        /// Keys with their values, in order.
        entries: Vec<(Bytes, Versioned)>,
        /// Whether further entries match behind the last one.
        more: bool,
    },
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// The index of the log entry that wrote it.
    pub version: Index,
}

/// The map.
#[derive(Clone, Debug, Default)]
pub struct Kv {
    entries: OrdMap<Bytes, Versioned>,
    /// What [`Kv::bytes`] says; the entries decide it, so it takes no part in comparisons.
    bytes: u64,
}

impl PartialEq for Kv {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Kv {}

impl Hash for Kv {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entries.hash(state);
    }
}

impl Kv {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// About how much memory the entries take: their keys and values, and [`ENTRY_BYTES`] for each.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key, as of the last applied command.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Versioned> {
        self.entries.get(key)
    }

    /// All entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Versioned)> {
        self.entries.iter()
    }

    /// The bytes of a snapshot in parts, which have `part_bytes` and one more entry at most. `take` gets
    /// each of them; false: nobody wants the rest, and then this returns false as well.
    ///
    /// # Panics
    /// Never: byte strings and integers always serialize.
    pub fn encode_parts(&self, part_bytes: usize, mut take: impl FnMut(Vec<u8>) -> bool) -> bool {
        let encodes = "byte strings and integers always serialize";
        let mut part = vec![SNAPSHOT_VERSION];
        part = postcard::to_extend(&self.entries.len(), part).expect(encodes);
        for entry in &self.entries {
            part = postcard::to_extend(&entry, part).expect(encodes);
            if part.len() >= part_bytes && !take(mem::take(&mut part)) {
                return false;
            }
        }
        part.is_empty() || take(part)
    }

    fn change(&mut self, version: Index, key: Bytes, value: Option<Bytes>) -> KvResponse {
        let key_bytes = key.len();
        if let Some(value) = &value {
            self.bytes += entry_bytes(key_bytes, value);
        }
        let previous = match value {
            Some(value) => self.entries.insert(key, Versioned { value, version }),
            None => self.entries.remove(&key),
        };
        if let Some(previous) = &previous {
            self.bytes -= entry_bytes(key_bytes, &previous.value);
        }
        KvResponse::Changed { previous: previous.map(|previous| previous.version) }
    }

    fn scan(&self, prefix: &Bytes, after: Option<&Bytes>, limit: u32) -> KvAnswer {
        let limit = limit.min(SCAN_ENTRIES_MAX) as usize;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut matching = self
            .entries
            .range::<_, Bytes>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .peekable();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while entries.len() < limit && bytes < SCAN_BYTES_MAX {
            let Some((key, found)) = matching.next() else { break };
            bytes += key.len() + found.value.len();
            entries.push((key.clone(), found.clone()));
        }
        KvAnswer::Page { entries, more: matching.peek().is_some() }
    }
}

impl StateMachine for Kv {
    type Command = KvCommand;
    type Response = KvResponse;
    type Query = KvQuery;
    type Answer = KvAnswer;
    type Snapshot = Self;
    type Error = KvError;
    type Restore = KvRestore;

    fn apply(&mut self, index: Index, command: KvCommand) -> KvResponse {
        if command.key().len() > KEY_BYTES_MAX {
            return KvResponse::KeyTooLong;
        }
        match command {
            KvCommand::Put { key, value } => self.change(index, key, Some(value)),
            KvCommand::Delete { key } => self.change(index, key, None),
            KvCommand::CompareAndSwap { key, expect, new } => {
                let found = self.entries.get(&key);
                if found.map(|found| &found.value) != expect.as_ref() {
                    return KvResponse::Differs { found: found.map(|found| found.version) };
                }
                self.change(index, key, new)
            }
        }
    }

    fn query(&self, query: &KvQuery) -> KvAnswer {
        match query {
            KvQuery::Get { key } => KvAnswer::Value(self.entries.get(key).cloned()),
            KvQuery::Scan { prefix, after, limit } => self.scan(prefix, after.as_ref(), *limit),
        }
    }

    fn snapshot(&self) -> Self {
        self.clone()
    }

    fn encode(snapshot: &Self, bytes: &mut Vec<u8>) {
        bytes.push(SNAPSHOT_VERSION);
        *bytes = postcard::to_extend(&snapshot.entries, mem::take(bytes))
            .expect("byte strings and integers always serialize");
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), KvError> {
        restore_at_once(self, snapshot)
    }
}

fn entry_bytes(key_bytes: usize, value: &Bytes) -> u64 {
    ENTRY_BYTES + (key_bytes + value.len()) as u64
}

/// Why bytes are not a snapshot of a [`Kv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KvError {
    /// They are of a version that is not known here.
    UnknownVersion(u8),
    /// They do not decode, or their keys do not rise.
    Malformed,
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion(version) => {
                write!(f, "the key-value snapshot has the unknown version {version}")
            }
            Self::Malformed => f.write_str("the key-value snapshot is malformed"),
        }
    }
}

impl Error for KvError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_entries_that_there_are() {
        let mut kv = Kv::new();
        let put = |key: &'static str, value: &'static str| {
            let (key, value) = (Bytes::from_static(key.as_bytes()), value.as_bytes());
            KvCommand::Put { key, value: Bytes::from_static(value) }
        };
        let delete =
            |key: &'static str| KvCommand::Delete { key: Bytes::from_static(key.as_bytes()) };
        let mut expect = |index, command, bytes| {
            kv.apply(Index(index), command);
            assert_eq!(kv.bytes(), bytes, "after {index}");
            let (mut copy, mut encoded) = (Kv::new(), Vec::new());
            Kv::encode(&kv, &mut encoded);
            copy.restore(&encoded).unwrap();
            assert_eq!(copy.bytes(), bytes, "restored after {index}");
        };
        expect(1, put("a", "123"), ENTRY_BYTES + 4);
        expect(2, put("bc", "4"), 2 * ENTRY_BYTES + 7);
        expect(3, put("a", "12345"), 2 * ENTRY_BYTES + 9);
        expect(4, delete("nothing"), 2 * ENTRY_BYTES + 9);
        expect(5, delete("a"), ENTRY_BYTES + 3);
        expect(6, delete("bc"), 0);
    }

    #[test]
    fn a_snapshot_is_the_map_itself_until_the_map_changes_and_stays_what_it_was() {
        let mut kv = Kv::new();
        let put = |n: u64| {
            let (key, value) = (Bytes::from(format!("{n:05}")), Bytes::from_static(b"v"));
            KvCommand::Put { key, value }
        };
        for n in 1..=2000 {
            kv.apply(Index(n), put(n));
        }
        let encoded = |kv: &Kv| {
            let mut bytes = Vec::new();
            Kv::encode(kv, &mut bytes);
            bytes
        };
        let bytes = encoded(&kv);
        let snapshot = kv.snapshot();
        assert!(snapshot.entries.ptr_eq(&kv.entries), "nothing was copied");
        for n in 2001..=4000 {
            kv.apply(Index(n), put(n - 1000));
            kv.apply(Index(n), KvCommand::Delete { key: Bytes::from(format!("{:05}", n - 2000)) });
        }
        assert_eq!(encoded(&snapshot), bytes);
        assert_ne!(encoded(&kv), bytes);
        for part_bytes in [1, 1000, 1 << 20] {
            let mut parts = Vec::new();
            let keep = |part| {
                parts.push(part);
                true
            };
            assert!(snapshot.encode_parts(part_bytes, keep));
            assert!(parts.iter().all(|part| part.len() < part_bytes + 32));
            assert_eq!(parts.concat(), bytes);
        }
        let mut told = 0;
        let stop = |_| {
            told += 1;
            told < 3
        };
        assert!(!snapshot.encode_parts(1, stop));
        assert_eq!(told, 3, "nobody wanted the fourth part");
    }
}
