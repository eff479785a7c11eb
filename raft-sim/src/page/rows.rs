//! The columns of a record, and how each of them grows.

use std::collections::BTreeMap;

use raft_core::{Index, Raft, RoleName, Status, Term};
use serde_json::{Value, json};

use super::table::{Column, NONE, Texts, signed};
use crate::check::{ClientId, OperationId};
use crate::event::NodeAt;

/// A message has arrived; any other number that is not [`NONE`] is the text that says how it was
/// lost.
pub(super) const DELIVERED: i64 = -2;

/// Flags of a state.
pub(super) const DOWN: i64 = 1;
pub(super) const PAUSED: i64 = 2;
pub(super) const HURT: i64 = 4;
/// Where the flags stand among the facts.
pub(super) const FLAGS: usize = 9;

#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) time: Column,
    pub(super) kind: Column,
    pub(super) node: Column,
    pub(super) text: Column,
    pub(super) message: Column,
    /// Whether it is a fault: injected, or in effect.
    pub(super) fault: Column,
    /// What is said about the last one.
    pub(super) said: String,
}

#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) kind: Column,
    pub(super) from: Column,
    pub(super) to: Column,
    pub(super) term: Column,
    pub(super) text: Column,
    pub(super) sent: Column,
    pub(super) end: Column,
    pub(super) fate: Column,
    /// Whether it is a second copy.
    pub(super) copy: Column,
    /// The rows of the messages, and of their second copies.
    pub(super) rows: Vec<usize>,
    pub(super) copies: BTreeMap<u64, usize>,
}

#[derive(Debug, Default)]
pub(super) struct States {
    pub(super) event: Column,
    pub(super) node: Column,
    /// Role, term, vote, commit, applied, last, durable, base, snapshot, flags.
    pub(super) facts: [Column; 10],
    /// By node: the newest.
    pub(super) now: BTreeMap<NodeAt, [i64; 10]>,
}

#[derive(Debug, Default)]
pub(super) struct Logs {
    pub(super) event: Column,
    pub(super) node: Column,
    /// What was there before this index stays; if it is negative, nothing stays, and what follows
    /// begins at its absolute value.
    pub(super) from: Column,
    /// How many runs of entries of one term follow, and each of them: term, count.
    pub(super) runs: Column,
    pub(super) terms: Column,
    pub(super) counts: Column,
    /// By node: from where on the log has changed in the steps that are not told yet.
    pub(super) changed: BTreeMap<NodeAt, Index>,
    /// What is known about the entries.
    pub(super) entries: BTreeMap<(Index, Term), i64>,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) client: Column,
    pub(super) text: Column,
    pub(super) begin: Column,
    pub(super) end: Column,
    pub(super) outcome: Column,
    pub(super) open: BTreeMap<(ClientId, OperationId), usize>,
}

#[derive(Debug, Default)]
pub(super) struct Spans {
    pub(super) kind: Column,
    pub(super) begin: Column,
    pub(super) end: Column,
    pub(super) text: Column,
    /// The links of each partition, and of nothing else: from, to.
    pub(super) links: Vec<Vec<(NodeAt, NodeAt)>>,
    pub(super) partitions: BTreeMap<usize, usize>,
    pub(super) pauses: BTreeMap<NodeAt, usize>,
}

/// What a state is, in the order of the columns.
pub(super) fn facts(status: &Status, paused: i64) -> [i64; 10] {
    let role = match status.role {
        RoleName::Follower => 0,
        RoleName::PreCandidate => 1,
        RoleName::Candidate => 2,
        RoleName::Leader => 3,
        RoleName::Halted => 4,
    };
    let is_hurt = status.damaged > 0 || status.is_snapshot_damaged || status.is_tail_unknown;
    let numbers = [
        status.term.0,
        status.vote.map_or(0, |vote| vote.id.0),
        status.commit.0,
        status.applied.0,
        status.last.index.0,
        status.durable.0,
        status.base.index.0,
        status.snapshot.index.0,
    ];
    let mut facts = [0; 10];
    facts[0] = role;
    for (fact, number) in facts[1..].iter_mut().zip(numbers) {
        *fact = signed(number);
    }
    facts[FLAGS] = paused | if is_hurt { HURT } else { 0 };
    facts
}

impl Events {
    pub(super) fn json(&self) -> Value {
        json!({
            "time": self.time.rising(), "kind": self.kind.plain(), "node": self.node.plain(),
            "text": self.text.plain(), "message": self.message.plain(),
            "fault": self.fault.plain(),
        })
    }
}

impl Messages {
    pub(super) fn json(&self) -> Value {
        json!({
            "kind": self.kind.plain(), "from": self.from.plain(), "to": self.to.plain(),
            "term": self.term.plain(), "text": self.text.plain(), "sent": self.sent.plain(),
            "end": self.end.after(&self.sent), "fate": self.fate.plain(),
            "copy": self.copy.plain(),
        })
    }

    pub(super) fn sent(
        &mut self,
        message: u64,
        ends: (i64, i64),
        term: i64,
        texts: (i64, i64),
        now: i64,
    ) {
        assert!(message == self.rows.len() as u64, "messages are numbered as they are sent");
        self.rows.push(self.kind.len());
        self.row([texts.0, ends.0, ends.1, term, texts.1, now, NONE, NONE, 0]);
    }

    /// The kind and the text of a message as it was sent, unless nobody sent it.
    pub(super) fn texts(&self, message: u64) -> Option<(i64, i64)> {
        let row = self.row_of((message, false))?;
        (self.term.get(row) != NONE).then(|| (self.kind.get(row), self.text.get(row)))
    }

    pub(super) fn doubled(&mut self, message: u64, now: i64) {
        let row = self.row_of((message, false)).expect("what is doubled was sent");
        self.copies.insert(message, self.kind.len());
        let [kind, from, to, term, text, ..] = self.columns().map(|column| column.get(row));
        // It leaves when the network makes it: later than the first, if that one was held.
        self.row([kind, from, to, term, text, now, NONE, NONE, 1]);
    }

    pub(super) fn end(&mut self, message: (u64, bool), fate: i64, now: i64) -> Option<usize> {
        let row = self.row_of(message)?;
        self.fate.set(row, fate);
        if self.end.get(row) == NONE {
            self.end.set(row, now);
        }
        Some(row)
    }

    fn row_of(&self, (message, is_copy): (u64, bool)) -> Option<usize> {
        if is_copy {
            return self.copies.get(&message).copied();
        }
        usize::try_from(message).ok().and_then(|at| self.rows.get(at).copied())
    }

    fn row(&mut self, values: [i64; 9]) {
        for (column, value) in self.columns().into_iter().zip(values) {
            column.push(value);
        }
    }

    fn columns(&mut self) -> [&mut Column; 9] {
        let Self { kind, from, to, term, text, sent, end, fate, copy, .. } = self;
        [kind, from, to, term, text, sent, end, fate, copy]
    }
}

impl States {
    pub(super) fn json(&self) -> Value {
        const NAMES: [&str; 10] = [
            "role", "term", "vote", "commit", "applied", "last", "durable", "base", "snapshot",
            "flags",
        ];
        let facts = NAMES.iter().zip(&self.facts);
        let facts: serde_json::Map<String, Value> =
            facts.map(|(name, column)| ((*name).to_owned(), column.plain())).collect();
        json!({ "event": self.event.rising(), "node": self.node.plain(), "facts": facts })
    }

    pub(super) fn push(&mut self, node: NodeAt, facts: [i64; 10], now: i64) {
        if self.now.insert(node, facts) == Some(facts) {
            return;
        }
        self.event.push(now);
        self.node.push(signed(node as u64));
        for (column, fact) in self.facts.iter_mut().zip(facts) {
            column.push(fact);
        }
    }
}

impl Logs {
    pub(super) fn json(&self) -> Value {
        json!({
            "event": self.event.rising(), "node": self.node.plain(), "from": self.from.plain(),
            "runs": self.runs.plain(), "terms": self.terms.plain(), "counts": self.counts.plain(),
        })
    }

    /// Index, term and text of each.
    pub(super) fn entries(&self) -> Value {
        let entries = self.entries.iter();
        let rows = entries.map(|((index, term), text)| (index.0, term.0, *text));
        json!(rows.collect::<Vec<_>>())
    }

    pub(super) fn change(&mut self, node: NodeAt, from: Index) {
        let changed = self.changed.entry(node).or_insert(from);
        *changed = from.min(*changed);
    }

    /// Takes down what follows the first index that has changed, in runs of entries of one term.
    pub(super) fn tell(&mut self, node: NodeAt, raft: &Raft, status: &Status, now: i64) {
        let Some(from) = self.changed.remove(&node) else { return };
        let first = status.base.index.next();
        let is_whole = from <= first;
        let from = from.max(first);
        let mut runs: Vec<(Term, i64)> = Vec::new();
        for index in from.0..=status.last.index.0 {
            let Some(id) = raft.entry_id(Index(index)) else { continue };
            match runs.last_mut() {
                Some((term, count)) if *term == id.term => *count += 1,
                Some(_) | None => runs.push((id.term, 1)),
            }
        }
        self.event.push(now);
        self.node.push(signed(node as u64));
        self.from.push(if is_whole { -signed(from.0) } else { signed(from.0) });
        self.runs.push(signed(runs.len() as u64));
        for (term, count) in runs {
            self.terms.push(signed(term.0));
            self.counts.push(count);
        }
    }
}

impl Requests {
    pub(super) fn json(&self) -> Value {
        json!({
            "client": self.client.plain(), "text": self.text.plain(),
            "begin": self.begin.rising(), "end": self.end.plain(),
            "outcome": self.outcome.plain(),
        })
    }

    pub(super) fn asked(&mut self, request: (ClientId, OperationId), text: i64, now: i64) {
        self.open.insert(request, self.client.len());
        self.client.push(signed(request.0.0));
        self.text.push(text);
        self.begin.push(now);
        self.end.push(NONE);
        self.outcome.push(NONE);
    }

    pub(super) fn answered(&mut self, request: (ClientId, OperationId), text: i64, now: i64) {
        let row = self.open.remove(&request).expect("what is answered was asked");
        self.end.set(row, now);
        self.outcome.set(row, text);
    }
}

impl Spans {
    pub(super) fn json(&self) -> Value {
        json!({
            "kind": self.kind.plain(), "begin": self.begin.plain(), "end": self.end.plain(),
            "text": self.text.plain(), "links": self.links,
        })
    }

    /// A kind of span: a partition, or a node that stands still.
    fn begin(&mut self, kind: i64, now: i64, text: i64, links: Vec<(NodeAt, NodeAt)>) -> usize {
        self.kind.push(kind);
        self.begin.push(now);
        self.end.push(NONE);
        self.text.push(text);
        self.links.push(links);
        self.kind.len() - 1
    }

    pub(super) fn cut(
        &mut self,
        partition: usize,
        links: Vec<(NodeAt, NodeAt)>,
        now: i64,
        texts: &mut Texts,
    ) {
        let text = texts.number(format!("partition {}", partition + 1));
        let row = self.begin(NONE, now, text, links);
        self.partitions.insert(partition, row);
    }

    pub(super) fn mend(&mut self, partition: usize, now: i64) {
        if let Some(row) = self.partitions.remove(&partition) {
            self.end.set(row, now);
        }
    }

    pub(super) fn pause(&mut self, node: NodeAt, now: i64, text: i64) {
        let row = self.begin(signed(node as u64), now, text, Vec::new());
        self.pauses.insert(node, row);
    }

    pub(super) fn resume(&mut self, node: NodeAt, now: i64) {
        if let Some(row) = self.pauses.remove(&node) {
            self.end.set(row, now);
        }
    }

    pub(super) fn heal(&mut self, now: i64) {
        let partitions = std::mem::take(&mut self.partitions).into_values();
        let pauses = std::mem::take(&mut self.pauses).into_values();
        for row in partitions.chain(pauses) {
            self.end.set(row, now);
        }
    }
}
