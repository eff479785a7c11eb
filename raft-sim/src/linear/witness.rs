//! An order of operations: made from the moves of a search, and checked without the search.

use std::fmt;

use super::history::{ABSENT, Action, History, Model, Operation};
use super::program::{Happens, Kind, NOBODY, Program};
use super::tree::{Move, SPARE};

/// A blind write, what follows it up to the next one, and what was done in the gap before it.
#[derive(Debug, Default)]
struct Stretch {
    /// The position at which the gap was made.
    made: u32,
    gap: Vec<u32>,
    body: Vec<u32>,
}

/// Does over again what a search has done, with the names of operations.
struct Replay<'a> {
    history: &'a History,
    program: &'a Program,
    stretches: Vec<Stretch>,
    state: u32,
    /// By operation.
    is_done: Vec<bool>,
    /// Operations under way that look for something.
    looking: Vec<u32>,
    /// Updates without a slot.
    spares: Vec<u32>,
}

/// The operations of a program, by their numbers in the history, in the order that the moves mean,
/// up to a position. At the end of the program that is all that must take effect: what ends before
/// `cut`, an event of the history.
pub(super) fn order(
    history: &History,
    program: &Program,
    path: &[(u32, Vec<Move>)],
    (until, cut): (u32, u32),
) -> Vec<u32> {
    let mut replay = Replay {
        history,
        program,
        stretches: vec![Stretch::default()],
        state: 0,
        is_done: vec![false; program.ops.len()],
        looking: Vec::new(),
        spares: Vec::new(),
    };
    let mut path = path.iter().peekable();
    for at in 0..until {
        while let Some((_, moves)) = path.next_if(|(position, _)| *position == at) {
            replay.make(at, moves);
        }
        replay.event(at);
    }
    replay.finish(until, cut)
}

impl Replay<'_> {
    fn event(&mut self, at: u32) {
        let event = &self.program.events[at as usize];
        match event.happens {
            Happens::Call if self.program.ops[event.op as usize].is_look() => {
                self.looking.push(event.op);
                self.look(at + 1, false);
            }
            Happens::Spare => self.spares.push(event.op),
            Happens::Return => self.looking.retain(|op| *op != event.op),
            Happens::Call | Happens::Nothing => {}
        }
        if event.retires {
            let writes = self.program.retiring(at);
            let unused = writes.filter(|op| {
                self.program.ops[*op as usize].kind == Kind::Write && !self.is_done[*op as usize]
            });
            self.spares.extend(unused);
        }
    }

    /// A group of moves, all at the end or all in the gap.
    fn make(&mut self, at: u32, moves: &[Move]) {
        let visible = self.state;
        for Move { op, in_gap } in moves.iter().copied() {
            let op = if op == SPARE { self.spares.pop().expect("it was counted") } else { op };
            let facts = self.program.ops[op as usize];
            self.is_done[op as usize] = true;
            if facts.kind == Kind::Write && !in_gap {
                self.stretches.push(Stretch { made: at, ..Stretch::default() });
            }
            self.state = match facts.kind {
                Kind::Write => facts.a,
                Kind::Swap => facts.b,
                Kind::Append => self.program.after(&facts, self.state).unwrap_or(NOBODY),
                Kind::Read | Kind::Differs => self.state,
            };
            self.place(op, in_gap);
            self.look(at, in_gap);
        }
        if moves.last().is_some_and(|last| last.in_gap) {
            self.state = visible;
        }
    }

    fn place(&mut self, op: u32, in_gap: bool) {
        let stretch = self.stretches.last_mut().expect("there is one from the beginning");
        if in_gap { stretch.gap.push(op) } else { stretch.body.push(op) }
    }

    /// Lets everything that looks find what it can find, in the gap only what was under way then.
    fn look(&mut self, at: u32, in_gap: bool) {
        let stretch = self.stretches.last().expect("there is one from the beginning");
        let before = if in_gap { stretch.made } else { at };
        let mut looking = std::mem::take(&mut self.looking);
        looking.retain(|op| {
            let facts = &self.program.ops[*op as usize];
            let finds = facts.call < before && super::config::finds(facts, self.state);
            if finds {
                self.is_done[*op as usize] = true;
                self.place(*op, in_gap);
            }
            !finds
        });
        self.looking = looking;
    }

    fn finish(self, until: u32, cut: u32) -> Vec<u32> {
        let Self { history, program, stretches, is_done, .. } = self;
        let source = |op: u32| program.ops[op as usize].source;
        let mut order = Vec::with_capacity(program.ops.len());
        for (number, stretch) in stretches.into_iter().enumerate() {
            assert!(number > 0 || stretch.gap.is_empty(), "no gap is before the first write");
            order.extend(stretch.gap.into_iter().chain(stretch.body).map(source));
        }
        if until as usize == program.events.len() {
            // What is left over looks at nothing.
            let left = program.ops.iter().zip(is_done);
            let must = |op: u32| history.operations[op as usize].ends_before(cut);
            let left = left.filter(|(op, is_done)| !is_done && must(op.source));
            order.extend(left.map(|(op, _)| op.source));
        }
        order
    }
}

/// Why an order is none for a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// An operation is there that the key does not have, or twice.
    Stranger(u32),
    /// An operation is missing that took effect.
    Missing(u32),
    /// An operation stands behind one that began after its end.
    Late(u32),
    /// An operation cannot have been told what it was told, where it stands.
    Wrong(u32),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger(operation) => write!(f, "operation {operation} does not belong there"),
            Self::Missing(operation) => write!(f, "operation {operation} is missing"),
            Self::Late(operation) => write!(f, "operation {operation} had ended before"),
            Self::Wrong(operation) => write!(f, "operation {operation} saw something else"),
        }
    }
}

impl std::error::Error for Flaw {}

/// Checks that an order of operations, by their places in [`History::operations`], explains all that
/// the clients of one key were told. It knows nothing of the search.
///
/// # Errors
/// The first [`Flaw`].
pub fn validate(history: &History, key: u32, order: &[u32]) -> Result<(), Flaw> {
    let mut is_there = vec![false; history.operations.len()];
    let mut latest_call = 0;
    let mut value = ABSENT;
    let mut text = String::new();
    for number in order {
        let operation = history.operations.get(*number as usize).ok_or(Flaw::Stranger(*number))?;
        let before = std::mem::replace(&mut is_there[*number as usize], true);
        if before || operation.key != key {
            return Err(Flaw::Stranger(*number));
        }
        if operation.end.is_some_and(|end| end < latest_call) {
            return Err(Flaw::Late(*number));
        }
        latest_call = latest_call.max(operation.call);
        let is_right = match operation.action {
            Action::Read(found) if history.model == Model::Append => {
                history.values.get(found.0) == text
            }
            Action::Read(found) => found == value,
            Action::Differs(expected) => expected != value,
            Action::Write(_) | Action::Append(_) => true,
            Action::Swap { from, .. } => from == value,
        };
        if !is_right {
            return Err(Flaw::Wrong(*number));
        }
        match operation.action {
            Action::Write(written) | Action::Swap { to: written, .. } => value = written,
            Action::Append(added) => text.push_str(history.values.get(added.0)),
            Action::Read(_) | Action::Differs(_) => {}
        }
    }
    let must = |operation: &Operation| operation.key == key && operation.end.is_some();
    let missing = |(number, operation): (u32, &Operation)| {
        (must(operation) && !is_there[number as usize]).then_some(number)
    };
    match (0..).zip(&history.operations).find_map(missing) {
        Some(number) => Err(Flaw::Missing(number)),
        None => Ok(()),
    }
}
