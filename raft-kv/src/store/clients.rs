//! Commands that have a name: one that is tried again takes effect once (thesis §6.3).
//!
//! A *client* numbers its commands from 1 and waits for one before it sends the next; of each client
//! the last number and its answer are kept. Who has one command only may give that a name of its own
//! instead (a *single*). Both tables are part of every snapshot and bounded in number; when one is
//! full, what was not used for longest is forgotten:
//!
//! * a client that was forgotten shows itself by a number above 1 under a name that is not known. Its
//!   command is refused: it may be the second try of one that was executed;
//! * a first command, or a single, that was forgotten is executed again. That takes as many other names
//!   as there is room for, between two tries of one command; whoever leads bounds the pace at which new
//!   singles come, and so the time that this takes.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::Index;
use serde::{Deserialize, Serialize};

use super::StoreResponse;

/// How many clients are remembered. All members must agree on it, so it is no option.
const CLIENTS_MAX: usize = 10_000;

/// How many singles; as above.
const SINGLES_MAX: usize = 1 << 16;

/// What makes a second try of a command known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Once {
    /// One of the commands of a client.
    Next {
        /// The client's name, of its own choice.
        client: Bytes,
        /// Rises from command to command of the client, from 1; equal for the tries of one.
        serial: u64,
    },
    /// The only command of this name.
    Single {
        /// The name, of the client's choice.
        name: Bytes,
    },
}

/// What is known of a command.
#[derive(Debug)]
pub(super) enum Admitted {
    /// It is new: execute it, then record its response.
    Fresh,
    /// It was executed before, with this response.
    Before(StoreResponse),
    /// A later one was.
    Overtaken,
    /// It is not the client's first one, and nothing is known of those before it.
    Forgotten,
}

/// What is remembered of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clients {
    clients: Table,
    singles: Table,
}

impl Clients {
    /// Looks at a command that stands at `index`, which counts as a use of its name.
    pub(super) fn admit(&mut self, index: Index, once: &Once) -> Admitted {
        let (table, name, serial, _) = self.place(once);
        let Some(row) = table.used(name, index) else {
            return if serial > 1 { Admitted::Forgotten } else { Admitted::Fresh };
        };
        if serial < row.serial {
            return Admitted::Overtaken;
        }
        if serial == row.serial {
            return Admitted::Before(row.response.clone());
        }
        Admitted::Fresh
    }

    /// Remembers the response of a command that was found [`Admitted::Fresh`] at `index`.
    pub(super) fn record(&mut self, index: Index, once: &Once, response: &StoreResponse) {
        let (table, name, serial, rows_max) = self.place(once);
        table.keep(name, Row { used: index, serial, response: response.clone() }, rows_max);
    }

    /// How many names are known.
    pub(super) fn len(&self) -> usize {
        self.clients.rows.len() + self.singles.rows.len()
    }

    /// How many clients have been forgotten: a retry of theirs is refused.
    pub(super) fn forgotten(&self) -> u64 {
        self.clients.forgotten
    }

    /// Makes tables that were read usable; `None`: they cannot be, in a state through `last`.
    pub(super) fn indexed(self, last: Index) -> Option<Self> {
        let clients = self.clients.indexed(last, CLIENTS_MAX)?;
        let singles = self.singles.indexed(last, SINGLES_MAX)?;
        Some(Self { clients, singles })
    }

    /// Whether a single is known.
    pub(super) fn knows_single(&self, name: &Bytes) -> bool {
        self.singles.rows.contains_key(name)
    }

    /// The table, the name, the number, and how many rows the table may have.
    fn place<'a>(&mut self, once: &'a Once) -> (&mut Table, &'a Bytes, u64, usize) {
        match once {
            Once::Next { client, serial } => (&mut self.clients, client, *serial, CLIENTS_MAX),
            Once::Single { name } => (&mut self.singles, name, 1, SINGLES_MAX),
        }
    }
}

/// One table of names.
///
/// Invariant: `by_use` leads to every row, by its last use; an entry of the log concerns one name, so no
/// two rows were used last at one index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Table {
    rows: BTreeMap<Bytes, Row>,
    /// How many rows have made room for others.
    forgotten: u64,
    #[serde(skip)]
    by_use: BTreeMap<Index, Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    used: Index,
    /// The last command that was executed, and its response.
    serial: u64,
    response: StoreResponse,
}

impl Table {
    /// The row of a name, which is used at `index`.
    fn used(&mut self, name: &Bytes, index: Index) -> Option<&Row> {
        let row = self.rows.get_mut(name)?;
        let name = self.by_use.remove(&row.used)?;
        self.by_use.insert(index, name);
        row.used = index;
        Some(row)
    }

    fn keep(&mut self, name: &Bytes, row: Row, rows_max: usize) {
        self.by_use.insert(row.used, name.clone());
        self.rows.insert(name.clone(), row);
        while self.rows.len() > rows_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.rows.remove(&oldest);
            self.forgotten += 1;
        }
    }

    fn indexed(mut self, last: Index, rows_max: usize) -> Option<Self> {
        let uses = self.rows.iter().map(|(name, row)| (row.used, name.clone()));
        self.by_use = uses.collect();
        let newest = self.by_use.last_key_value().map(|(used, _)| *used);
        let is_whole = self.by_use.len() == self.rows.len() && self.rows.len() <= rows_max;
        (is_whole && newest.is_none_or(|newest| newest <= last)).then_some(self)
    }
}
