//! Every sequence of operations under way that ends with the one whose end has come.
//!
//! Two kinds there are. *At the end* of the order: a chain of swaps from the present state, then
//! perhaps one blind write, then a chain of swaps from its value. *In the gap*: a blind write and a
//! chain of swaps, all of which were under way when the gap was made. A chain in the gap may go on
//! behind the target, since what it writes is not there any more when its other operations end.

use super::bits::Bits;
use super::config::Config;
use super::program::{Kind, NOBODY, NONE, Op};
use super::search::{Search, Trial};
use super::tree::SPARE;

impl<const W: usize> Search<W> {
    /// Tries everything from a configuration at the position of the cursor.
    pub(super) fn expand(&mut self, parent: u32, config: Config<W>) {
        let target = self.target();
        let may_hide = config.hide.has(target.slot);
        // A write that somebody waits for is better seen than hidden.
        let hides_first = target.kind != Kind::Write || !self.is_awaited(&config, target.a);
        if may_hide && hides_first {
            self.in_gap(parent, config, &target);
        }
        self.at_end(parent, config, &target);
        if may_hide && !hides_first {
            self.in_gap(parent, config, &target);
        }
    }

    /// Whether an operation under way or to come must find a value.
    fn is_awaited(&self, config: &Config<W>, value: u32) -> bool {
        let is_needed = self.program.values[value as usize].last_need > self.cursor.at;
        let undone = self.cursor.under_way.minus(&config.done).and(&self.cursor.must);
        is_needed
            || undone.iter().any(|slot| {
                let op = self.cursor.op(&self.program, slot);
                matches!(op.kind, Kind::Read | Kind::Swap) && op.a == value
            })
    }

    fn at_end(&mut self, parent: u32, config: Config<W>, target: &Op) {
        self.trials.clear();
        let state = config.state;
        let (has_written, is_useful) = (self.program.is_append, true);
        self.trials.push(Trial { config, state, op: NONE, before: NONE, has_written, is_useful });
        let mut next = 0;
        while next < self.trials.len() {
            let number = u32::try_from(next).expect("trials are few");
            if self.trials[next].may_write() {
                self.write(parent, number, target);
            }
            self.swap(parent, number, target);
            next += 1;
        }
    }

    /// All blind writes after a trial.
    fn write(&mut self, parent: u32, from: u32, target: &Op) {
        let Trial { config, .. } = self.trials[from as usize];
        let undone = self.cursor.under_way.minus(&config.done);
        let edges = undone.and(&self.cursor.edges);
        if target.kind == Kind::Write {
            let op = self.cursor.ops[usize::from(target.slot)];
            self.sacrifice(from);
            self.write_one(parent, from, op, target, &edges);
            return;
        }
        let mut choice = std::mem::take(&mut self.choice);
        self.choose(&undone.and(&self.cursor.writes), &mut choice);
        for op in &choice {
            if self.leads(self.written(*op), target, &edges) {
                self.write_one(parent, from, *op, target, &edges);
            }
        }
        self.choice = choice;
        if self.spares_left(&config) && target.kind == Kind::Differs {
            self.write_one(parent, from, SPARE, target, &edges);
        }
        self.sacrifice(from);
    }

    /// Whether a value may lead to what the target needs: itself, or by a chain.
    fn leads(&self, value: u32, target: &Op, edges: &Bits<W>) -> bool {
        let is_it = match target.kind {
            Kind::Read | Kind::Swap => value == target.a,
            Kind::Differs => value != target.a,
            Kind::Write | Kind::Append => false,
        };
        let from = |slot| self.cursor.op(&self.program, slot).a == value;
        is_it || edges.iter().any(from)
    }

    /// Of blind writes, one for each value: the one that ends first.
    fn choose(&self, among: &Bits<W>, choice: &mut Vec<u32>) {
        choice.clear();
        for slot in among.iter() {
            let op = self.cursor.ops[usize::from(slot)];
            let value = self.written(op);
            let end = self.program.ops[op as usize].end;
            match choice.iter_mut().find(|other| self.written(**other) == value) {
                Some(other) if end < self.program.ops[*other as usize].end => *other = op,
                Some(_) => {}
                None => choice.push(op),
            }
        }
    }

    fn write_one(&mut self, parent: u32, from: u32, op: u32, target: &Op, edges: &Bits<W>) {
        let Trial { mut config, .. } = self.trials[from as usize];
        let left = config.state;
        self.make_write(&mut config, op);
        if self.is_lost(&config, left) {
            return;
        }
        let state = config.state;
        let (has_written, is_useful) = (true, true);
        let trial = Trial { config, state, op, before: from, has_written, is_useful };
        if config.done.has(target.slot) {
            self.emit_trial(parent, trial);
        } else if edges.iter().any(|slot| self.cursor.op(&self.program, slot).a == state) {
            self.push(trial, 0);
        }
    }

    /// A blind write takes effect at the end.
    fn make_write(&self, config: &mut Config<W>, op: u32) {
        if op == SPARE {
            config.spares += 1;
        } else if !self.program.ops[op as usize].is_free {
            config.done.insert(self.program.ops[op as usize].slot);
        }
        config.state = self.written(op);
        config.hide = self.cursor.under_way.minus(&config.done);
        self.look(config, config.state, &self.cursor.under_way);
    }

    fn spares_left(&self, config: &Config<W>) -> bool {
        config.spares < self.cursor.spares
    }

    /// Operations that have found another value than some may need a moment in which the state is
    /// just that, and a write that leaves its slot before they end cannot be put into the gap later.
    /// So such a write can be made right before another one.
    fn sacrifice(&mut self, from: u32) {
        let Trial { config, op, .. } = self.trials[from as usize];
        let unmet = self.cursor.looks.minus(&config.done);
        let unmet = unmet.iter().map(|slot| self.cursor.op(&self.program, slot));
        let differs = unmet.filter(|op| op.kind == Kind::Differs);
        let Some(last) = differs.map(|op| op.end).max() else { return };
        if op != NONE && (op == SPARE || self.program.ops[op as usize].kind == Kind::Write) {
            return;
        }
        let spare = self.spares_left(&config).then_some(SPARE);
        let free = self.cursor.writes.minus(&config.done).minus(&self.cursor.must);
        let leaving = free.iter().map(|slot| self.cursor.ops[usize::from(slot)]);
        let leaving = leaving.filter(|op| self.program.ops[*op as usize].retires < last);
        let all: Vec<u32> = spare.into_iter().chain(leaving).collect();
        for op in all {
            let mut config = config;
            self.make_write(&mut config, op);
            let (has_written, is_useful, state) = (false, true, config.state);
            let trial = Trial { config, state, op, before: from, has_written, is_useful };
            self.push(trial, 0);
        }
    }

    /// All swaps after a trial, or all that can be appended.
    fn swap(&mut self, parent: u32, from: u32, target: &Op) {
        let Trial { config, state, has_written, .. } = self.trials[from as usize];
        if state == NOBODY && !self.program.is_append {
            return;
        }
        let edges = self.cursor.edges.minus(&config.done);
        for slot in edges.iter() {
            let op = self.cursor.ops[usize::from(slot)];
            let Some(to) = self.step(op, state, target) else { continue };
            if self.is_needless(op, &edges, &config) {
                continue;
            }
            let mut config = config;
            if !self.program.ops[op as usize].is_free {
                config.done.insert(slot);
                config.hide.remove(slot);
            }
            config.state = to;
            let met = self.look(&mut config, to, &self.cursor.under_way);
            if self.is_lost(&config, state) || self.is_torn(&config, to) {
                continue;
            }
            let is_useful = met || self.program.ops[op as usize].must();
            let trial = Trial { config, state: to, op, before: from, has_written, is_useful };
            if config.done.has(target.slot) {
                self.emit_trial(parent, trial);
            } else {
                self.push(trial, 0);
            }
        }
    }

    /// Where an operation that is not blind leads from a state, if it is to be tried at all.
    fn step(&self, op: u32, state: u32, target: &Op) -> Option<u32> {
        let op = &self.program.ops[op as usize];
        let to = self.program.after(op, state)?;
        // What nobody will read may wait; only the target may not.
        let may_wait = op.kind == Kind::Append && to == NOBODY && op.call != target.call;
        (!may_wait)
            .then(|| if op.kind == Kind::Swap { self.program.seen(to, self.cursor.at) } else { to })
    }

    /// Whether a text is one that nobody can read, and somebody still has to read one.
    fn is_torn(&self, config: &Config<W>, state: u32) -> bool {
        self.program.is_append
            && state == NOBODY
            && (self.program.values[0].last_need > self.cursor.at
                || !self.cursor.looks.minus(&config.done).is_empty())
    }

    /// Whether an equal operation is under way that is better used first.
    fn is_needless(&self, op: u32, edges: &Bits<W>, config: &Config<W>) -> bool {
        let this = &self.program.ops[op as usize];
        edges.iter().any(|slot| {
            let other = self.cursor.op(&self.program, slot);
            let is_equal = match this.kind {
                Kind::Append => other.b == this.b,
                Kind::Swap => (other.a, other.b) == (this.a, this.b),
                Kind::Read | Kind::Differs | Kind::Write => false,
            };
            let hides = (config.hide.has(slot), config.hide.has(this.slot));
            // One that still fits into the gap is worth more, and is left.
            let leaves_more = hides.0 <= hides.1;
            is_equal && leaves_more && (other.end, hides.0, slot) < (this.end, hides.1, this.slot)
        })
    }

    /// All sequences in the gap.
    fn in_gap(&mut self, parent: u32, config: Config<W>, target: &Op) {
        self.trials.clear();
        let (has_written, is_useful) = (true, true);
        let (state, op, before) = (NOBODY, NONE, NONE);
        self.trials.push(Trial { config, state, op, before, has_written, is_useful });
        let edges = config.hide.and(&self.cursor.edges);
        let mut choice = std::mem::take(&mut self.choice);
        if target.kind == Kind::Write {
            choice.clear();
            choice.push(self.cursor.ops[usize::from(target.slot)]);
        } else {
            self.choose(&config.hide.and(&self.cursor.writes), &mut choice);
        }
        for op in &choice {
            let state = self.written(*op);
            if target.kind == Kind::Write || self.leads(state, target, &edges) {
                self.gap_one(parent, 0, *op, state, target);
            }
        }
        self.choice = choice;
        let mut next = 1;
        while next < self.trials.len() {
            let number = u32::try_from(next).expect("trials are few");
            let Trial { config, state, .. } = self.trials[next];
            let edges = config.hide.and(&self.cursor.edges);
            for slot in edges.iter() {
                let op = self.cursor.ops[usize::from(slot)];
                if self.is_needless(op, &edges, &config) {
                    continue;
                }
                let after = self.program.after(&self.program.ops[op as usize], state);
                if let Some(to) = after.filter(|_| state != NOBODY) {
                    self.gap_one(parent, number, op, to, target);
                }
            }
            next += 1;
        }
    }

    /// One operation takes effect in the gap.
    fn gap_one(&mut self, parent: u32, from: u32, op: u32, state: u32, target: &Op) {
        let mut config = self.trials[from as usize].config;
        let facts = self.program.ops[op as usize];
        if !facts.is_free {
            config.done.insert(facts.slot);
            config.hide.remove(facts.slot);
        }
        let hidden = config.hide;
        let met = self.look(&mut config, state, &hidden);
        let (has_written, is_useful) = (true, true);
        let trial = Trial { config, state, op, before: from, has_written, is_useful };
        let had = self.trials[from as usize].config.done.has(target.slot);
        let count = self.trials.len();
        self.push(trial, 1);
        let is_new = self.trials.len() > count;
        // Behind the target only what is of use to somebody.
        let is_useful = !had || met || facts.must();
        if is_new && config.done.has(target.slot) && is_useful {
            self.emit(parent, u32::try_from(count).expect("trials are few"), true);
        }
    }

    /// A trial that has reached the target and need not be gone on from.
    fn emit_trial(&mut self, parent: u32, trial: Trial<W>) {
        let number = u32::try_from(self.trials.len()).expect("trials are few");
        self.trials.push(trial);
        self.emit(parent, number, false);
        self.trials.pop();
    }
}
