//! Where a search stands at one position of a history: which of the operations under way have taken
//! effect, and the state.
//!
//! A *gap* is the moment right before the last blind write. Whatever was under way then and has not
//! taken effect may be said, later, to have done so in the gap, as long as the first of a sequence is
//! itself a blind write: nobody depends on the state in a gap, since it is overwritten. So it need
//! not be decided at the write which others it hides; `hide` marks those that still have the choice.

use super::bits::Bits;
use super::program::{Event, Happens, Kind, NONE, Op, Program};

/// A configuration. Bits are slots of operations that are under way; all others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Config<const W: usize> {
    /// Those that have taken effect.
    pub(super) done: Bits<W>,
    /// Those that have not, and may do so in the gap.
    pub(super) hide: Bits<W>,
    pub(super) state: u32,
    /// How many updates without a slot have taken effect.
    pub(super) spares: u32,
}

impl<const W: usize> Config<W> {
    /// Nothing has happened: the key holds what has the first number.
    pub(super) const START: Self =
        Self { done: Bits::EMPTY, hide: Bits::EMPTY, state: 0, spares: 0 };

    /// Goes on from a position to the next one at which something must be done, and returns that; or
    /// the end.
    pub(super) fn advance(&mut self, program: &Program, from: u32) -> u32 {
        let mut at = from;
        for event in &program.events[from as usize..] {
            match event.happens {
                Happens::Call => {
                    let found = match event.kind {
                        Kind::Read => event.a == self.state,
                        Kind::Differs => event.a != self.state,
                        Kind::Write | Kind::Swap | Kind::Append => false,
                    };
                    if found {
                        self.done.insert(event.slot);
                    }
                }
                Happens::Return if self.done.has(event.slot) => self.leave(program, event, at),
                Happens::Return => break,
                Happens::Spare | Happens::Nothing => {}
            }
            at += 1;
        }
        self.state = program.seen(self.state, at);
        if program.last_differs <= at {
            self.spares = 0;
        }
        at
    }

    /// The operation of an event has taken effect and ends.
    pub(super) fn leave(&mut self, program: &Program, event: &Event, at: u32) {
        self.done.remove(event.slot);
        self.hide.remove(event.slot);
        if event.retires {
            for op in program.retiring(at) {
                let op = &program.ops[op as usize];
                if self.done.has(op.slot) && op.kind == Kind::Write {
                    self.spares += 1;
                }
                self.done.remove(op.slot);
                self.hide.remove(op.slot);
            }
        }
    }

    /// Whether all that can follow the other one can follow this one, at the same position.
    #[inline]
    pub(super) fn covers(&self, other: &Self, cursor: &Cursor<W>) -> bool {
        if self.state != other.state || self.spares > other.spares {
            return false;
        }
        if self == other {
            return true;
        }
        let Self { done, hide, .. } = self;
        // What need not be done is better left for later.
        let spent = done.minus(&other.done).minus(&cursor.must);
        // An answer that is given cannot be missed.
        let missed = other.done.minus(done).and(&cursor.looks);
        // Other duties: both have done them, or this one can do them in its gap whenever it likes.
        let undone = done.minus(&other.done).and(&cursor.must).minus(&cursor.looks);
        let owed = other.done.minus(done).and(&cursor.must).minus(&cursor.looks);
        let owed = owed.minus(&hide.and(&cursor.writes));
        // And the choices of the other one are its own.
        let choices = other.hide.minus(hide).minus(done);
        spent.or(&missed).or(&undone).or(&owed).or(&choices).is_empty()
    }
}

/// Who is under way at a position; it moves along the positions in both directions.
#[derive(Clone, Debug)]
pub(super) struct Cursor<const W: usize> {
    pub(super) at: u32,
    /// The operation in each slot: of those under way, and the last one of the others.
    pub(super) ops: Vec<u32>,
    pub(super) under_way: Bits<W>,
    /// Those of them that must take effect.
    pub(super) must: Bits<W>,
    pub(super) looks: Bits<W>,
    /// Blind writes.
    pub(super) writes: Bits<W>,
    /// Swaps, or what appends.
    pub(super) edges: Bits<W>,
    /// How many updates without a slot have begun.
    pub(super) spares: u32,
}

impl<const W: usize> Cursor<W> {
    pub(super) fn new() -> Self {
        Self {
            at: 0,
            ops: Vec::new(),
            under_way: Bits::EMPTY,
            must: Bits::EMPTY,
            looks: Bits::EMPTY,
            writes: Bits::EMPTY,
            edges: Bits::EMPTY,
            spares: 0,
        }
    }

    /// Back to the beginning of a program.
    pub(super) fn reset(&mut self, slots: usize) {
        let mut ops = std::mem::take(&mut self.ops);
        ops.clear();
        ops.resize(slots, NONE);
        *self = Self { ops, ..Self::new() };
    }

    /// The operation in a slot.
    #[inline]
    pub(super) fn op<'a>(&self, program: &'a Program, slot: u16) -> &'a Op {
        &program.ops[self.ops[usize::from(slot)] as usize]
    }

    /// Moves to a position: right before its event.
    pub(super) fn seek(&mut self, program: &Program, at: u32) {
        while self.at < at {
            let event = &program.events[self.at as usize];
            match event.happens {
                Happens::Call => {
                    self.ops[usize::from(event.slot)] = event.op;
                    self.enter(&program.ops[event.op as usize]);
                }
                Happens::Return => self.remove(&program.ops[event.op as usize]),
                Happens::Spare => self.spares += 1,
                Happens::Nothing => {}
            }
            if event.retires {
                for op in program.retiring(self.at) {
                    let op = &program.ops[op as usize];
                    self.remove(op);
                    self.spares += u32::from(op.kind == Kind::Write);
                }
            }
            self.at += 1;
        }
        while self.at > at {
            self.at -= 1;
            let event = &program.events[self.at as usize];
            if event.retires {
                for op in program.retiring(self.at) {
                    let op = &program.ops[op as usize];
                    self.enter(op);
                    self.spares -= u32::from(op.kind == Kind::Write);
                }
            }
            let op = &program.ops[event.op as usize];
            match event.happens {
                Happens::Call => {
                    self.remove(op);
                    self.ops[usize::from(event.slot)] = op.before;
                }
                Happens::Return => self.enter(op),
                Happens::Spare => self.spares -= 1,
                Happens::Nothing => {}
            }
        }
    }

    fn enter(&mut self, op: &Op) {
        self.under_way.insert(op.slot);
        if op.must() {
            self.must.insert(op.slot);
        }
        match op.kind {
            Kind::Read | Kind::Differs => self.looks.insert(op.slot),
            Kind::Write => self.writes.insert(op.slot),
            Kind::Swap | Kind::Append => self.edges.insert(op.slot),
        }
    }

    fn remove(&mut self, op: &Op) {
        for bits in [
            &mut self.under_way,
            &mut self.must,
            &mut self.looks,
            &mut self.writes,
            &mut self.edges,
        ] {
            bits.remove(op.slot);
        }
    }
}

/// Whether an operation that looks finds what it has found.
#[inline]
pub(super) fn finds(op: &Op, state: u32) -> bool {
    match op.kind {
        Kind::Read => op.a == state,
        Kind::Differs => op.a != state,
        Kind::Write | Kind::Swap | Kind::Append => false,
    }
}
