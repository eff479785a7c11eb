//! The ghost's own machine: what the committed commands must have done, at every index.
//!
//! It knows that a session executes each of its serials once, and shares no code with the product
//! in that. What a command does and what a query answers, the model of the workload knows.
//!
//! Beside that it keeps a machine like those of the servers that was never lost, written or restored:
//! what a server's state must be equal to, and not only answer like.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::{Entry, Index, Payload};
use raft_replica::machine::StateMachine;
use raft_replica::session::{LogCommand, SessionId, Sessions};

use crate::workload::{Command, Model, Response, Workload};

/// A change that took effect.
#[derive(Clone, Debug)]
pub(super) struct Effect<W: Workload> {
    pub(super) index: Index,
    pub(super) command: Command<W>,
    pub(super) response: Response<W>,
}

/// The committed commands, executed.
#[derive(Clone, Debug)]
pub(super) struct Machine<W: Workload> {
    pub(super) model: W::Model,
    /// The machine itself, as the same commands have left it.
    pristine: W::Machine,
    applied: Index,
    effects: BTreeMap<(SessionId, u64), Effect<W>>,
    /// Entries that repeat what took effect before, or come too late for it.
    repeats: BTreeSet<Index>,
    opened: BTreeSet<SessionId>,
    sessions: BTreeMap<SessionId, Session>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    used: Index,
    serial: Option<u64>,
}

impl<W: Workload> Machine<W> {
    pub(super) fn new(machine: W::Machine) -> Self {
        Self {
            model: W::Model::new(machine.clone()),
            pristine: machine,
            applied: Index::ZERO,
            effects: BTreeMap::new(),
            repeats: BTreeSet::new(),
            opened: BTreeSet::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// Through where it has executed the log.
    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    /// Executes a committed entry; names the session and serial whose change it made, if any.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<(SessionId, u64)> {
        assert!(entry.index() == self.applied.next(), "the ghost executes every entry once");
        self.applied = entry.index();
        let Payload::Command(bytes) = entry.payload() else { return None };
        // It is a command of this version only if this version would write it so.
        let command = LogCommand::<Command<W>>::decode(bytes).ok();
        match command.filter(|command| command.encode() == *bytes) {
            Some(LogCommand::OpenSession { sessions_max }) => {
                self.open(entry.index(), sessions_max);
                None
            }
            Some(LogCommand::Apply { session, serial, command }) => {
                self.execute(entry.index(), session, serial, command)
            }
            None => None,
        }
    }

    /// The change that a session has made with a serial.
    pub(super) fn effect(&self, session: SessionId, serial: u64) -> Option<&Effect<W>> {
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

    /// What a server's state is, which has executed the log as far as this machine, and should not be.
    pub(super) fn differs(&self, machine: &W::Machine, sessions: &Sessions) -> Option<String> {
        if machine.snapshot() != self.pristine.snapshot() {
            return Some(String::from("its state machine is another one"));
        }
        if sessions.len() != self.sessions.len() {
            return Some(format!("it has {} sessions", sessions.len()));
        }
        self.sessions.iter().find_map(|(id, session)| {
            let last = sessions.last(*id).map(|last| (last.serial, last.index));
            let expected = session.serial.and_then(|serial| {
                let effect = self.effect(*id, serial)?;
                Some((serial, effect.index))
            });
            if !sessions.is_open(*id) {
                return Some(format!("{id} is not open"));
            }
            (last != expected).then(|| format!("{id} has executed {last:?} last, not {expected:?}"))
        })
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
        command: Command<W>,
    ) -> Option<(SessionId, u64)> {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.used = index;
            if session.serial.is_none_or(|newest| newest < serial) {
                session.serial = Some(serial);
                let response = self.model.apply(index, &command);
                self.pristine.apply(index, command.clone());
                self.effects.insert((id, serial), Effect { index, command, response });
                return Some((id, serial));
            }
        }
        self.repeats.insert(index);
        None
    }
}
