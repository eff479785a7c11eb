//! The search for an order, for one key.
//!
//! Nothing takes effect before it must (Lowe's just-in-time linearization): the search stands at the
//! end of an operation that has not taken effect yet, and tries every sequence of operations under
//! way that ends with it. Three things keep these sequences few, and leave out nothing:
//!
//! * What looks takes effect as soon as it finds what it found, since nobody can notice.
//! * A blind write hides what was under way, and which of it stays open (see `config`). So at most one
//!   blind write is made per sequence: whatever stood between two of them can be put into the gap
//!   when it must have happened.
//! * Of equal writes the one that ends first is made first, those that need not be done last.
//!
//! Best first, the search goes deep: most histories are linearizable, and the first try leads to the
//! end. In between it sweeps from the beginning, position by position, where each configuration meets
//! all that could cover it; that is what ends soon if there is no order. Both share all that was met.

use super::bits::Bits;
use super::config::{Config, Cursor, finds};
use super::program::{Kind, NOBODY, NONE, Op, Program};
use super::tree::{Move, SPARE, Tree};

/// What a search has found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is an order; the moves that lead to it, with the position of each group of them.
    Order(Vec<(u32, Vec<Move>)>),
    /// There is none.
    Nothing,
    /// It takes more memory than it may.
    Full,
}

/// The search of one key; `64 * W` operations can be under way at once.
#[derive(Debug)]
pub(super) struct Search<const W: usize> {
    pub(super) program: Program,
    pub(super) cursor: Cursor<W>,
    pub(super) tree: Tree<W>,
    /// Sequences that are being tried at one position.
    pub(super) trials: Vec<Trial<W>>,
    /// Buffers, of no meaning between calls: writes to choose from, the moves of a sequence.
    pub(super) choice: Vec<u32>,
    made: Vec<u32>,
    /// Steps until the other way of going on has its turn, and which way that is.
    turn: u64,
    sweeps: bool,
    bytes_max: usize,
}

/// A sequence that is being tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial<const W: usize> {
    pub(super) config: Config<W>,
    /// The state where the next operation takes effect: at the end, or in the gap.
    pub(super) state: u32,
    /// Its last operation, and the trial that it goes on from.
    pub(super) op: u32,
    pub(super) before: u32,
    /// Whether its blind write is made.
    pub(super) has_written: bool,
    /// Whether its last operation is of use even if its value is overwritten.
    pub(super) is_useful: bool,
}

impl<const W: usize> Trial<W> {
    pub(super) fn may_write(&self) -> bool {
        !self.has_written && self.is_useful
    }
}

/// How many steps the search goes deep at first, beyond one for each position.
const TURN: u64 = 2_000;

impl<const W: usize> Search<W> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            program: Program::default(),
            cursor: Cursor::new(),
            tree: Tree::new(),
            trials: Vec::new(),
            choice: Vec::new(),
            made: Vec::new(),
            turn: 0,
            sweeps: false,
            bytes_max,
        }
    }

    /// Whether so many slots are enough for the program.
    pub(super) fn fits(&self) -> bool {
        self.program.slots <= 64 * W
    }

    /// A search that begins with a program.
    pub(super) fn boxed(program: Program, bytes_max: usize) -> Box<Self> {
        let mut search = Box::new(Self { program, ..Self::new(bytes_max) });
        search.start();
        search
    }

    /// Begins with the program.
    pub(super) fn start(&mut self) {
        let positions = self.program.events.len();
        self.cursor.reset(self.program.slots);
        self.tree.reset(positions);
        self.turn = TURN + 4 * positions as u64;
        self.sweeps = false;
        let mut config = Config::START;
        let at = config.advance(&self.program, 0);
        self.tree.add(config, at, NONE, std::iter::empty());
    }

    /// Goes on for so many steps, at most; nothing is known after those.
    pub(super) fn run(&mut self, steps: u64) -> Option<Found> {
        let end = u32::try_from(self.program.events.len()).expect("a history counts its events");
        if self.tree.furthest == end {
            return Some(Found::Order(self.tree.path(self.tree.furthest_node())));
        }
        for _ in 0..steps {
            if self.turn == 0 {
                self.sweeps = !self.sweeps;
                self.turn = self.tree.mark() as u64 * 2 + TURN;
            }
            self.turn -= 1;
            let next = if self.sweeps { self.tree.first() } else { self.tree.best() };
            let Some(number) = next else { return Some(Found::Nothing) };
            let at = self.tree.node(number).at;
            self.cursor.seek(&self.program, at);
            let Some(config) = self.tree.take(number, &self.cursor) else { continue };
            let mark = self.tree.mark();
            self.expand(number, config);
            if self.tree.furthest == end {
                return Some(Found::Order(self.tree.path(self.tree.furthest_node())));
            }
            self.tree.prefer_first(mark);
            if self.tree.bytes() > self.bytes_max {
                return Some(Found::Full);
            }
        }
        None
    }

    /// The order that reaches furthest of those that were tried, as the moves to it, and the position
    /// where it ends.
    pub(super) fn longest(&self) -> (u32, Vec<(u32, Vec<Move>)>) {
        (self.tree.furthest, self.tree.path(self.tree.furthest_node()))
    }

    /// The operation that must take effect now.
    pub(super) fn target(&self) -> Op {
        let event = &self.program.events[self.cursor.at as usize];
        self.program.ops[event.op as usize]
    }

    /// Whether a value is gone that some operation must still find: nobody is left to write it.
    pub(super) fn is_lost(&self, config: &Config<W>, value: u32) -> bool {
        let Some(facts) = self.program.values.get(value as usize) else { return false };
        let at = self.cursor.at;
        if config.state == value || facts.last_write > at || self.program.is_append {
            return false;
        }
        let undone = self.cursor.under_way.minus(&config.done);
        let makers = undone.and(&self.cursor.writes.or(&self.cursor.edges));
        let op = |slot| self.cursor.op(&self.program, slot);
        let makes = |op: &Op| match op.kind {
            Kind::Write => op.a == value,
            Kind::Swap => op.b == value,
            Kind::Read | Kind::Differs | Kind::Append => false,
        };
        if makers.iter().any(|slot| makes(op(slot))) {
            return false;
        }
        let needs = |op: &Op| matches!(op.kind, Kind::Read | Kind::Swap) && op.a == value;
        facts.last_need > at || undone.and(&self.cursor.must).iter().any(|slot| needs(op(slot)))
    }

    /// Lets everything that looks, and is among these, find what it can find.
    pub(super) fn look(&self, config: &mut Config<W>, state: u32, among: &Bits<W>) -> bool {
        let mut any = false;
        for slot in self.cursor.looks.minus(&config.done).and(among).iter() {
            if finds(self.cursor.op(&self.program, slot), state) {
                config.done.insert(slot);
                config.hide.remove(slot);
                any = true;
            }
        }
        any
    }

    /// A sequence is complete: the target has taken effect.
    pub(super) fn emit(&mut self, parent: u32, trial: u32, in_gap: bool) {
        let at = self.cursor.at;
        let mut config = self.trials[trial as usize].config;
        if in_gap && self.loses(trial) {
            return;
        }
        let event = self.program.events[at as usize];
        config.leave(&self.program, &event, at);
        let at = config.advance(&self.program, at + 1);
        let mut ops = std::mem::take(&mut self.made);
        ops.clear();
        let mut next = trial;
        while self.trials[next as usize].before != NONE {
            ops.push(self.trials[next as usize].op);
            next = self.trials[next as usize].before;
        }
        let moves = ops.iter().rev().map(|op| Move { op: *op, in_gap });
        self.tree.add(config, at, parent, moves);
        self.made = ops;
    }

    /// Whether a sequence in the gap has used up a value that is needed elsewhere.
    fn loses(&self, trial: u32) -> bool {
        let config = &self.trials[trial as usize].config;
        let mut next = trial;
        while self.trials[next as usize].before != NONE {
            let Trial { op, before, .. } = self.trials[next as usize];
            let op = &self.program.ops[op as usize];
            let value = if op.kind == Kind::Swap { op.b } else { op.a };
            if self.is_lost(config, value) {
                return true;
            }
            next = before;
        }
        false
    }

    /// Whether a configuration is about as good as one that is tried already.
    pub(super) fn push(&mut self, trial: Trial<W>, since: usize) {
        let is_covered = |other: &Trial<W>| {
            other.state == trial.state
                && other.has_written <= trial.has_written
                && other.may_write() >= trial.may_write()
                && other.config.covers(&trial.config, &self.cursor)
        };
        if !self.trials[since..].iter().any(is_covered) {
            self.trials.push(trial);
        }
    }

    /// The value that a blind write leaves behind.
    pub(super) fn written(&self, op: u32) -> u32 {
        if op == SPARE {
            return NOBODY;
        }
        self.program.seen(self.program.ops[op as usize].a, self.cursor.at)
    }
}
