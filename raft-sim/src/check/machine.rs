//! The ghost's own machine: what the committed commands must have done, at every index.
//!
//! It is written for looking back instead of for speed: each key keeps all its versions, so that
//! an answer can be judged as of the index that it names. It knows the commands, and that a
//! session executes each of its serials once; it shares no code with the machine that it judges.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft_core::{Entry, Index, Payload};
use raft_replica::kv::{KEY_BYTES_MAX, KvCommand, KvResponse, Versioned};
use raft_replica::session::{LogCommand, SessionId};

/// A change that took effect.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) index: Index,
    pub(super) command: KvCommand,
    pub(super) response: KvResponse,
}

/// The committed commands, executed.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    applied: Index,
    keys: BTreeMap<Bytes, Vec<Version>>,
    effects: BTreeMap<(SessionId, u64), Effect>,
    /// Entries that repeat what took effect before, or come too late for it.
    repeats: BTreeSet<Index>,
    opened: BTreeSet<SessionId>,
    sessions: BTreeMap<SessionId, Session>,
}

/// What a key has from `index` on.
#[derive(Clone, Debug)]
struct Version {
    index: Index,
    value: Option<Bytes>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    used: Index,
    serial: Option<u64>,
}

impl Machine {
    /// Through where it has executed the log.
    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    /// Executes a committed entry; names the session and serial whose change it made, if any.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<(SessionId, u64)> {
        assert!(entry.index() == self.applied.next(), "the ghost executes every entry once");
        self.applied = entry.index();
        let Payload::Command(bytes) = entry.payload() else { return None };
        match LogCommand::<KvCommand>::decode(bytes) {
            Ok(LogCommand::OpenSession { sessions_max }) => {
                self.open(entry.index(), sessions_max);
                None
            }
            Ok(LogCommand::Apply { session, serial, command }) => {
                self.execute(entry.index(), session, serial, command)
            }
            Err(_) => None,
        }
    }

    /// The change that a session has made with a serial.
    pub(super) fn effect(&self, session: SessionId, serial: u64) -> Option<&Effect> {
        self.effects.get(&(session, serial))
    }

    /// Whether the entry must have had no effect, although it carries a command.
    pub(super) fn is_repeat(&self, index: Index) -> bool {
        self.repeats.contains(&index)
    }

    /// Whether the entry at a session's index has opened it.
    pub(super) fn was_opened(&self, session: SessionId) -> bool {
        self.opened.contains(&session)
    }

    /// Whether a session is open.
    pub(super) fn is_open(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The newest serial of a session that is open.
    pub(super) fn serial(&self, session: SessionId) -> Option<u64> {
        self.sessions.get(&session)?.serial
    }

    /// What a key had when the log was executed through `index`.
    pub(super) fn get(&self, key: &[u8], index: Index) -> Option<Versioned> {
        as_of(self.keys.get(key)?, index)
    }

    /// The keys with a prefix, behind `after`, that had a value as of `index`, in order.
    pub(super) fn scan<'a>(
        &'a self,
        prefix: &'a Bytes,
        after: Option<&'a Bytes>,
        index: Index,
    ) -> impl Iterator<Item = (&'a Bytes, Versioned)> {
        self.keys
            .range::<Bytes, _>(prefix..)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter(move |(key, _)| after.is_none_or(|after| *key > after))
            .filter_map(move |(key, versions)| Some((key, as_of(versions, index)?)))
    }

    fn open(&mut self, index: Index, sessions_max: u32) {
        let most = usize::try_from(sessions_max.max(1)).unwrap_or(usize::MAX);
        while self.sessions.len() >= most {
            let longest_unused = self.sessions.iter().min_by_key(|(_, session)| session.used);
            let id = *longest_unused.expect("there are sessions, at least one").0;
            self.sessions.remove(&id);
        }
        let id = SessionId::opened_at(index);
        self.sessions.insert(id, Session { used: index, serial: None });
        self.opened.insert(id);
    }

    fn execute(
        &mut self,
        index: Index,
        id: SessionId,
        serial: u64,
        command: KvCommand,
    ) -> Option<(SessionId, u64)> {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.used = index;
            if session.serial.is_none_or(|newest| newest < serial) {
                session.serial = Some(serial);
                let response = self.change(index, &command);
                self.effects.insert((id, serial), Effect { index, command, response });
                return Some((id, serial));
            }
        }
        self.repeats.insert(index);
        None
    }

    fn change(&mut self, index: Index, command: &KvCommand) -> KvResponse {
        if command.key().len() > KEY_BYTES_MAX {
            return KvResponse::KeyTooLong;
        }
        let versions = self.keys.entry(command.key().clone()).or_default();
        let found = as_of(versions, index);
        let previous = found.as_ref().map(|found| found.version);
        let value = match command {
            KvCommand::Put { value, .. } => Some(value),
            KvCommand::Delete { .. } => None,
            KvCommand::CompareAndSwap { expect, new, .. } => {
                if found.map(|found| found.value) != *expect {
                    return KvResponse::Differs { found: previous };
                }
                new.as_ref()
            }
        };
        versions.push(Version { index, value: value.cloned() });
        KvResponse::Changed { previous }
    }
}

/// The newest of a key's versions at or below `index`.
fn as_of(versions: &[Version], index: Index) -> Option<Versioned> {
    let behind = versions.partition_point(|version| version.index <= index);
    let Version { index: version, value } = versions.get(behind.checked_sub(1)?)?;
    Some(Versioned { value: value.clone()?, version: *version })
}
