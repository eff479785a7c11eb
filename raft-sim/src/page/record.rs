//! What a page needs of a run, taken down while it lasts: events, messages, the states and logs of
//! the nodes where they change, the requests of clients, and when what was wrong.

use raft_core::{Entry, Envelope, Index, Member, Membership, RoleName};
use serde_json::{Value, json};

use super::rows::{
    DELIVERED, DOWN, Events, FLAGS, Logs, Messages, PAUSED, Requests, Spans, States, facts,
};
use super::table::{NONE, Texts, signed};
use super::words;
use crate::event::{Event, NodeAt};
use crate::fault::Fault;
use crate::observe::{Given, Happening, Loss, Observer, Step};
use crate::options::Options;
use crate::workload::Workload;
use crate::workload::words::entry;

/// Everything about a run that its page shows.
#[derive(Debug)]
pub struct Record {
    /// What an entry says, in words.
    entry: fn(&Entry) -> String,
    pub(super) texts: Texts,
    pub(super) founders: Vec<(NodeAt, &'static str)>,
    pub(super) nodes: usize,
    pub(super) options: Vec<String>,
    events: Events,
    messages: Messages,
    states: States,
    logs: Logs,
    requests: Requests,
    /// What lasts: its kind, the node or the partition, when it begins and ends.
    spans: Spans,
    /// The event at which the faults end.
    healed: Option<usize>,
    /// The class that has struck in the last event.
    struck: Option<Fault>,
}

impl Observer for Record {
    fn happens(&mut self, happening: &Happening<'_>) {
        let now = signed(self.events.time.len().saturating_sub(1) as u64);
        match happening {
            Happening::Began { options, founders } => self.began(options, founders),
            Happening::Event { now: time, event, ends, .. } => {
                let (kind, node) = words::event(event, *ends);
                self.new_event((*time, kind, node), words::comes_up(event, *ends));
                self.ends(event, now + 1);
            }
            Happening::Step(step) => self.step(step, now),
            Happening::Sent { message, envelope } => {
                let end = |member: Member| signed(member.id.0 - 1);
                let ends = (end(envelope.from), end(envelope.to));
                let texts = self.message_texts(envelope);
                self.messages.sent(*message, ends, signed(envelope.term.0), texts, now);
            }
            Happening::Forged { message, from, to } => {
                let kind = self.texts.number(words::FORGED.to_owned());
                let text = self.texts.number(String::new());
                let ends = (signed(*from as u64), signed(*to as u64));
                self.messages.sent(*message, ends, NONE, (kind, text), now);
            }
            Happening::Doubled { message } => self.messages.doubled(*message, now),
            Happening::Arrived { message, is_copy } => {
                self.ended((*message, *is_copy), DELIVERED, now);
            }
            Happening::Lost { message, is_copy, loss } => {
                self.lost((*message, *is_copy), *loss, now);
            }
            Happening::Struck { fault, node, lasts_us } => {
                self.events.node.set(self.events.node.len() - 1, signed(*node as u64));
                self.say(&words::strikes(*fault, *lasts_us));
                self.struck = Some(*fault);
            }
            Happening::Cut { partition, links } => {
                self.spans.cut(*partition, links.to_vec(), now, &mut self.texts);
            }
            Happening::Paused { node, lasts_us } => self.paused(*node, *lasts_us, now),
            Happening::Ended { node } => {
                self.spans.resume(*node, now);
                self.mark(*node, now, |_| DOWN);
                self.logs.changed.remove(node);
                self.say(&format!("n{}'s process ends", node + 1));
                self.is_fault();
            }
            Happening::Asked { client, id, what } => {
                let text = self.texts.number((*what).to_owned());
                self.requests.asked((*client, *id), text, now);
                self.say(&format!("asks: {what}"));
            }
            Happening::Answered { client, id, what } => {
                self.say(&format!("client {} is told: {what}", client.0));
                let text = self.texts.number((*what).to_owned());
                self.requests.answered((*client, *id), text, now);
            }
            Happening::Counted { fault, injected, effective } => {
                self.counted(*fault, *injected, *effective);
            }
            Happening::Healed => {
                self.healed = Some(self.events.time.len() - 1);
                self.spans.heal(now);
                self.say("the faults end: from now on the cluster must recover");
            }
            Happening::Closed { .. } => {}
        }
    }
}

impl Record {
    /// Nothing yet, of a run with this workload.
    #[must_use]
    pub fn new<W: Workload>() -> Self {
        Self {
            entry: entry::<W>,
            texts: Texts::default(),
            founders: Vec::new(),
            nodes: 0,
            options: Vec::new(),
            events: Events::default(),
            messages: Messages::default(),
            states: States::default(),
            logs: Logs::default(),
            requests: Requests::default(),
            spans: Spans::default(),
            healed: None,
            struck: None,
        }
    }

    /// All columns.
    pub(super) fn json(&mut self) -> Value {
        self.close_event();
        json!({
            "healed": self.healed.map_or(NONE, |event| signed(event as u64)),
            "events": self.events.json(), "messages": self.messages.json(),
            "states": self.states.json(), "logs": self.logs.json(),
            "entries": self.logs.entries(), "requests": self.requests.json(),
            "spans": self.spans.json(),
        })
    }

    fn began(&mut self, options: &Options, founders: &Membership) {
        self.nodes = options.nodes();
        self.options = options.to_string().lines().map(str::to_owned).collect();
        let at = |member: &Member| usize::try_from(member.id.0 - 1).expect("there are few nodes");
        let voters = founders.incoming().iter().map(|one| (at(one), "voter"));
        let learners = founders.learners().iter().map(|one| (at(one), "learner"));
        self.founders = voters.chain(learners).collect();
        self.new_event((0, "start", None), "the cluster starts".to_owned());
    }

    /// The kind of a message, and the rest that it says.
    fn message_texts(&mut self, envelope: &Envelope) -> (i64, i64) {
        let (kind, text) = (envelope.rpc.kind().to_string(), envelope.rpc.to_string());
        let text = text.strip_prefix(&kind).unwrap_or(&text).trim_start().to_owned();
        (self.texts.number(kind), self.texts.number(text))
    }

    fn paused(&mut self, node: NodeAt, lasts_us: u64, now: i64) {
        let text = format!("n{} stands still for {}", node + 1, words::duration(lasts_us));
        let text = self.texts.number(text);
        self.spans.pause(node, now, text);
        self.mark(node, now, |flags| flags | PAUSED);
    }

    fn counted(&mut self, fault: Fault, injected: u64, effective: u64) {
        if injected > 0 && self.struck != Some(fault) {
            self.say(&format!("{} is injected", fault.name()));
        }
        if effective > 0 {
            self.say(&format!("{} takes effect", fault.name()));
        }
        self.is_fault();
    }

    fn new_event(&mut self, what: (u64, &str, Option<NodeAt>), said: String) {
        self.close_event();
        self.struck = None;
        let (time, kind, node) = what;
        let kind = self.texts.number(kind.to_owned());
        let events = &mut self.events;
        events.time.push(signed(time));
        events.kind.push(kind);
        events.node.push(node.map_or(NONE, |node| signed(node as u64)));
        events.message.push(NONE);
        events.fault.push(0);
        events.said = said;
    }

    /// Nothing more will be said about the last event.
    fn close_event(&mut self) {
        let events = &mut self.events;
        if events.text.len() < events.time.len() {
            events.text.push(self.texts.number(std::mem::take(&mut events.said)));
        }
    }

    fn say(&mut self, what: &str) {
        let said = &mut self.events.said;
        if !said.is_empty() {
            said.push_str("; ");
        }
        said.push_str(what);
    }

    fn is_fault(&mut self) {
        let fault = &mut self.events.fault;
        fault.set(fault.len() - 1, 1);
    }

    /// What an event ends.
    fn ends(&mut self, event: &Event, now: i64) {
        if let Event::Mend { partition } = event {
            self.spans.mend(*partition, now);
        } else if let Event::Resume { node, .. } = event {
            self.spans.resume(*node, now);
            self.mark(*node, now, |flags| flags & !PAUSED);
        }
    }

    fn ended(&mut self, message: (u64, bool), fate: i64, now: i64) {
        let Some(row) = self.messages.end(message, fate, now) else { return };
        let shown = &mut self.events.message;
        let last = shown.len() - 1;
        if shown.get(last) == NONE && self.messages.sent.get(row) < now {
            shown.set(last, signed(row as u64));
        }
    }

    fn lost(&mut self, message: (u64, bool), loss: Loss, now: i64) {
        let fate = self.texts.number(words::loss(loss));
        self.ended(message, fate, now);
        if matches!(loss, Loss::Network(_)) {
            self.is_fault();
        }
    }

    fn step(&mut self, step: &Step<'_>, now: i64) {
        if let Given::Unreadable { message, is_copy } = step.given {
            let fate = self.texts.number("lost: what arrives is no message any more".to_owned());
            self.ended((*message, *is_copy), fate, now);
        }
        if let Given::Message { message, envelope } = step.given {
            let arrives = self.message_texts(envelope);
            if self.messages.texts(*message).is_some_and(|sent| sent != arrives) {
                self.say(&format!("forged on the way: it arrives as {}", envelope.rpc));
                self.is_fault();
            }
        }
        for batch in step.written {
            for entry in batch.append.iter() {
                let at = (entry.index(), entry.term());
                if !self.logs.entries.contains_key(&at) {
                    let text = self.texts.number((self.entry)(entry));
                    self.logs.entries.insert(at, text);
                }
            }
            let first = batch.append.first().map(|entry| entry.index());
            let new = batch.install.as_ref().map(|_| Index::ZERO);
            for from in [batch.truncate_from, first, new].into_iter().flatten() {
                self.logs.change(step.node, from);
            }
        }
        // Who halts may know of entries that it will never ask its disk to write.
        let is_halted = step.after.role == RoleName::Halted;
        if is_halted || matches!(step.given, Given::Start { .. }) {
            self.logs.change(step.node, Index::ZERO);
        }
        if let Some(last) = &step.last {
            self.logs.tell(step.node, last.raft, step.after, now);
        }
        let paused = self.states.now.get(&step.node).map_or(0, |facts| facts[FLAGS] & PAUSED);
        self.states.push(step.node, facts(step.after, paused), now);
    }

    fn mark(&mut self, node: NodeAt, now: i64, flags: impl Fn(i64) -> i64) {
        let mut facts = self.states.now.get(&node).copied().unwrap_or_default();
        facts[FLAGS] = flags(facts[FLAGS]);
        self.states.push(node, facts, now);
    }
}
