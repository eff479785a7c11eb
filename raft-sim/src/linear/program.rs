//! One key of a history, prepared for the search.
//!
//! Here everything is found out once that the search would otherwise ask again and again: a small
//! slot for every operation that is under way, when a value is looked for the last time, when it can
//! be written the last time. What happens after the last look cannot contradict anybody, and is cut
//! off. An update of unknown outcome is under way for ever, but it leaves its slot when nobody looks
//! for its value any more: from then on it is one of many that may be done for the sole reason that
//! the value is *another* one, and a count of those is enough.

use super::history::{ABSENT, Action, History, Model, Value};

/// A position or number that is none.
pub(super) const NONE: u32 = u32::MAX;

/// A state that no read will see again; any two such are the same.
pub(super) const NOBODY: u32 = u32::MAX - 1;

/// What an operation is, with numbers of this program's own for values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It finds `a`.
    Read,
    /// It finds something else than `a`.
    Differs,
    /// It writes `a`, over anything.
    Write,
    /// It finds `a` and writes `b`.
    Swap,
    /// It adds text number `a`.
    Append,
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    /// Its number in the history.
    pub(super) source: u32,
    pub(super) kind: Kind,
    pub(super) a: u32,
    pub(super) b: u32,
    pub(super) call: u32,
    /// [`NONE`]: it need not take effect.
    pub(super) end: u32,
    /// When it leaves its slot without an end; [`NONE`]: never.
    pub(super) retires: u32,
    /// It can take effect at any time after its call, as often as anybody likes.
    pub(super) is_free: bool,
    pub(super) slot: u16,
    /// The operation that had the slot before.
    pub(super) before: u32,
}

impl Op {
    pub(super) fn is_look(&self) -> bool {
        matches!(self.kind, Kind::Read | Kind::Differs)
    }

    pub(super) fn must(&self) -> bool {
        self.end != NONE
    }
}

/// What happens at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happens {
    /// An operation takes its slot.
    Call,
    /// An operation must have taken effect, and leaves its slot.
    Return,
    /// An update begins that has no end and whose value nobody looks for.
    Spare,
    /// Nothing that matters.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) happens: Happens,
    pub(super) kind: Kind,
    /// Whether operations leave their slots after it.
    pub(super) retires: bool,
    pub(super) slot: u16,
    /// What the operation looks for, if it looks.
    pub(super) a: u32,
    pub(super) op: u32,
}

/// What is known of a value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// When an operation ends for the last time that tells it from others.
    pub(super) last_look: u32,
    /// When an operation begins for the last time that certainly finds it. One more than the
    /// position, zero: never.
    pub(super) last_need: u32,
    /// When an operation begins for the last time that may write it. One more than the position.
    pub(super) last_write: u32,
}

/// One key, prepared.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) events: Vec<Event>,
    pub(super) ops: Vec<Op>,
    pub(super) values: Vec<Facts>,
    /// Positions at which operations leave their slots without an end, and which, in order.
    pub(super) retires: Vec<(u32, u32)>,
    /// How many slots there are.
    pub(super) slots: usize,
    /// When the last [`Kind::Differs`] ends; one more than the position.
    pub(super) last_differs: u32,
    pub(super) is_append: bool,
    /// The longest text that anybody has read; states are positions in it.
    longest: String,
    /// What must take effect and began after that: operations of the history, in order.
    beyond: Vec<u32>,
    /// What is appended, by number.
    texts: Vec<String>,
}

/// Tables for making programs, so that each key does not need its own.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// By value of the history: for which program its number is, and the number.
    values: Vec<(u32, u32)>,
    /// By operation of the history: its number in the program.
    ops: Vec<u32>,
    free: Vec<u16>,
    program: u32,
}

/// An event of a history: an operation of it, and whether that ends.
pub(super) fn event(operation: usize, is_end: bool) -> u32 {
    u32::try_from(operation << 1).expect("a history counts its events") | u32::from(is_end)
}

impl Program {
    /// Prepares events of one key of a history. Operations whose end is not among them may take
    /// effect at any time after their beginning, or never; those that are `free`, by their numbers
    /// in the history, as often as anybody likes.
    pub(super) fn load(
        &mut self,
        history: &History,
        events: &[u32],
        free: &[bool],
        tables: &mut Tables,
    ) {
        self.is_append = history.model == Model::Append;
        self.events.clear();
        self.ops.clear();
        self.values.clear();
        self.retires.clear();
        self.texts.clear();
        self.last_differs = 0;
        tables.program += 1;
        tables.values.resize(history.values.len(), (0, 0));
        tables.ops.resize(history.operations.len(), NONE);
        let (events, later) = events.split_at(self.end_of_looks(history, events));
        if self.is_append {
            self.find_longest(history, events);
        }
        // What the key holds at first has the first number.
        self.number(ABSENT, tables);
        self.meet(history, events, free, tables);
        self.find_retirements();
        self.place(events, tables);
        self.find_beyond(history, later);
    }

    /// What must take effect and is not among the operations of the program: blind updates that end
    /// when nobody looks any more.
    pub(super) fn beyond(&self) -> impl Iterator<Item = u32> + '_ {
        self.beyond.iter().copied()
    }

    fn find_beyond(&mut self, history: &History, later: &[u32]) {
        let must = |event: &&u32| {
            *event & 1 == 0 && history.operations[(*event >> 1) as usize].end.is_some()
        };
        self.beyond.clear();
        self.beyond.extend(later.iter().filter(must).map(|event| event >> 1));
    }

    /// The state after an operation that is not blind, if it can take effect now.
    pub(super) fn after(&self, op: &Op, state: u32) -> Option<u32> {
        if op.kind == Kind::Swap {
            return (op.a == state).then_some(op.b);
        }
        let (text, at) = (&self.texts[op.a as usize], state as usize);
        let is_next = state != NOBODY && self.longest[at..].starts_with(text);
        Some(if is_next { length(&self.longest[..at + text.len()]) } else { NOBODY })
    }

    /// A value, or [`NOBODY`] if nothing that ends later tells it from others.
    #[inline]
    pub(super) fn seen(&self, value: u32, at: u32) -> u32 {
        match self.values.get(value as usize) {
            Some(facts) if !self.is_append && facts.last_look < at => NOBODY,
            Some(_) | None => value,
        }
    }

    /// The operations that leave their slots after a position.
    pub(super) fn retiring(&self, at: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.retires.partition_point(|(position, _)| *position < at);
        let here = self.retires[first..].iter().take_while(move |(position, _)| *position == at);
        here.map(|(_, op)| *op)
    }

    /// How many events there are until the last operation ends that looks at something.
    fn end_of_looks(&self, history: &History, events: &[u32]) -> usize {
        let looks = |event: &u32| {
            let action = history.operations[(event >> 1) as usize].action;
            event & 1 != 0
                && match action {
                    Action::Read(_) | Action::Differs(_) | Action::Swap { .. } => true,
                    Action::Write(_) | Action::Append(_) => false,
                }
        };
        events.iter().rposition(looks).map_or(0, |last| last + 1)
    }

    fn find_longest(&mut self, history: &History, events: &[u32]) {
        let mut longest = "";
        for event in events.iter().filter(|event| *event & 1 != 0) {
            if let Action::Read(value) = history.operations[(event >> 1) as usize].action {
                let read = history.values.get(value.0);
                longest = if read.len() > longest.len() { read } else { longest };
            }
        }
        longest.clone_into(&mut self.longest);
    }

    /// This program's number for a value.
    fn number(&mut self, value: Value, tables: &mut Tables) -> u32 {
        let slot = &mut tables.values[value.0 as usize];
        if slot.0 != tables.program {
            let number = u32::try_from(self.values.len()).expect("fewer values than events");
            *slot = (tables.program, number);
            self.values.push(Facts::default());
        }
        slot.1
    }

    /// The position in the longest text that a read stands for.
    fn position(&self, history: &History, read: Value) -> u32 {
        let read = history.values.get(read.0);
        if self.longest.starts_with(read) { length(read) } else { NONE }
    }

    /// First walk: the operations, and the facts about their values.
    fn meet(&mut self, history: &History, events: &[u32], free: &[bool], tables: &mut Tables) {
        for (at, event) in (0_u32..).zip(events) {
            let source = event >> 1;
            let is_free = free.get(source as usize).copied().unwrap_or_default();
            if event & 1 != 0 {
                self.meet_end(tables.ops[source as usize], at);
                continue;
            }
            let (kind, a, b) = match history.operations[source as usize].action {
                Action::Read(value) if self.is_append => {
                    (Kind::Read, self.position(history, value), 0)
                }
                Action::Append(value) => {
                    self.texts.push(history.values.get(value.0).to_owned());
                    (Kind::Append, length_of(&self.texts) - 1, value.0)
                }
                Action::Read(value) => (Kind::Read, self.number(value, tables), 0),
                Action::Differs(value) => (Kind::Differs, self.number(value, tables), 0),
                Action::Write(value) => (Kind::Write, self.number(value, tables), 0),
                // What changes nothing only looks.
                Action::Swap { from, to } if from == to && !is_free => {
                    (Kind::Read, self.number(from, tables), 0)
                }
                Action::Swap { to, .. } if is_free => (Kind::Write, self.number(to, tables), 0),
                Action::Swap { from, to } => {
                    (Kind::Swap, self.number(from, tables), self.number(to, tables))
                }
            };
            match kind {
                Kind::Write => self.values[a as usize].last_write = at + 1,
                Kind::Swap => self.values[b as usize].last_write = at + 1,
                Kind::Read | Kind::Differs | Kind::Append => {}
            }
            tables.ops[source as usize] = length_of(&self.ops);
            let (call, end, retires, slot, before) = (at, NONE, NONE, 0, NONE);
            self.ops.push(Op { source, kind, a, b, call, end, retires, is_free, slot, before });
        }
    }

    fn meet_end(&mut self, op: u32, at: u32) {
        let op = &mut self.ops[op as usize];
        op.end = at;
        let is_value = !self.is_append;
        match op.kind {
            Kind::Read | Kind::Swap if is_value => {
                let facts = &mut self.values[op.a as usize];
                facts.last_look = at;
                facts.last_need = facts.last_need.max(op.call + 1);
            }
            Kind::Differs => {
                self.values[op.a as usize].last_look = at;
                self.last_differs = at + 1;
            }
            // Of a text that is appended to, all reads look at one thing.
            Kind::Read => self.values[0].last_need = self.values[0].last_need.max(op.call + 1),
            Kind::Swap | Kind::Write | Kind::Append => {}
        }
    }

    /// When updates without an end leave their slots: when their values are looked for last. A swap
    /// without an end looks for its first value as long as anybody looks for its second one.
    fn find_retirements(&mut self) {
        if self.is_append {
            return;
        }
        let Self { ops, values, retires, .. } = self;
        let open = |op: &&mut Op| !op.must() && !op.is_look();
        let mut changed = true;
        while changed {
            changed = false;
            for op in ops.iter_mut().filter(open).filter(|op| op.kind == Kind::Swap) {
                let (from, to) = (values[op.a as usize].last_look, values[op.b as usize].last_look);
                if to > from && to > op.call {
                    values[op.a as usize].last_look = to;
                    changed = true;
                }
            }
        }
        for (number, op) in (0_u32..).zip(ops.iter_mut()) {
            let last = values[op.a as usize].last_look;
            if !op.must() && !op.is_look() && !op.is_free && last > op.call {
                op.retires = last;
                retires.push((last, number));
            }
        }
        retires.sort_unstable();
    }

    /// Second walk: what happens at each position, and who has which slot.
    fn place(&mut self, events: &[u32], tables: &mut Tables) {
        tables.free.clear();
        let mut last_in: Vec<u32> = Vec::new();
        let mut retired = 0;
        self.events.reserve(events.len());
        for (at, event) in (0_u32..).zip(events) {
            let number = tables.ops[(event >> 1) as usize];
            let op = self.ops[number as usize];
            let mut happens = match (event & 1 != 0, op.must(), op.kind) {
                (true, _, _) => Happens::Return,
                (false, true, _) => Happens::Call,
                (false, false, Kind::Read | Kind::Differs) => Happens::Nothing,
                (false, false, Kind::Append) => {
                    let is_read = self.longest.contains(&self.texts[op.a as usize]);
                    if is_read { Happens::Call } else { Happens::Nothing }
                }
                (false, false, Kind::Write) if op.is_free => Happens::Call,
                (false, false, Kind::Write) if op.retires == NONE => Happens::Spare,
                (false, false, Kind::Swap) if op.retires == NONE => Happens::Nothing,
                (false, false, Kind::Write | Kind::Swap) => Happens::Call,
            };
            // To add nothing changes nothing, and looks at nothing.
            if op.kind == Kind::Append && self.texts[op.a as usize].is_empty() {
                happens = Happens::Nothing;
            }
            if happens == Happens::Call {
                let slot = tables.free.pop().unwrap_or_else(|| {
                    last_in.push(NONE);
                    u16::try_from(last_in.len() - 1).unwrap_or(u16::MAX)
                });
                let op = &mut self.ops[number as usize];
                op.slot = slot;
                op.before = std::mem::replace(&mut last_in[usize::from(slot)], number);
            }
            let Op { kind, a, slot, .. } = self.ops[number as usize];
            if happens == Happens::Return {
                tables.free.push(slot);
            }
            let first = retired;
            while let Some((_, op)) = self.retires.get(retired).filter(|(due, _)| *due == at) {
                tables.free.push(self.ops[*op as usize].slot);
                retired += 1;
            }
            let retires = retired > first;
            self.events.push(Event { happens, kind, retires, slot, a, op: number });
        }
        self.slots = last_in.len();
    }
}

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).expect("a text is shorter than the file it comes from")
}

fn length_of<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).expect("there are fewer than events")
}
