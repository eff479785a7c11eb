//! What a violation needs: few answers that no order can explain, none of which can be left out.
//!
//! To leave out an answer is to say that its client has heard nothing and tried again and again: of an
//! operation that looks nothing is left then, and an update may take effect at any time after its
//! call, as often as anybody likes, or never. So whatever has an order still has one when more is left
//! out, and a set of answers that has none, while it has one without any of its members, says why:
//! each is needed, and all others are not. Updates of unknown outcome stay what they are.
//!
//! First the end of the history is cut off where that keeps it from having an order, then the answers
//! at its beginning are left out; then each one that is left is tried, in several sequences, for a
//! small core is easier to understand than another one.

use std::collections::BTreeMap;

use super::history::{Action, History, Value};
use super::program::event;
use super::turns::{Judge, Limits};

/// Why one key of a history has no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// The key.
    pub key: u32,
    /// The operations whose answers these are, by their places in [`History::operations`], in the
    /// order of their calls.
    pub operations: Vec<u32>,
    /// Whether each was found to be needed; not if the search was given up in between.
    pub is_minimal: bool,
    /// The order of the key's operations that reaches furthest: of all that end before the stuck one
    /// does, and of those under way then that have to take effect for it. If not all was found to be
    /// needed, another may reach further.
    pub longest: Vec<u32>,
    /// The first operation to end that fits into no order with all that end before it.
    pub stuck: u32,
}

/// Finds the core of a violation of a key; `None` if there was no time for it.
#[must_use]
pub fn find(
    history: &History,
    key: u32,
    limits: Limits,
    mut stop: impl FnMut() -> bool,
) -> Option<Core> {
    let mut judge = Judge::new();
    let events = judge.events_of(history, key);
    let tried = judge.longest(history, &events, limits, &mut stop)?;
    let mut hunt = Hunt { history, judge, limits, stop: &mut stop, is_sure: true };
    let (mut all, bad) = hunt.cut_end(&events, tried.1);
    let (longest, stuck) = hunt.longest(&events[..bad]).unwrap_or(tried);
    hunt.cut_beginning(&mut all);
    let all = needed(history, all);
    let kept = hunt.smallest(&all);
    let mut operations: Vec<u32> =
        kept.iter().filter(|one| one.is_kept && one.end.is_some()).map(|one| one.number).collect();
    operations.sort_unstable();
    Some(Core { key, operations, is_minimal: hunt.is_sure, longest, stuck })
}

/// Whether these answers of a key have an order if all others are left out; `None` if the limits are
/// too tight to find out.
#[must_use]
pub fn is_explained(
    history: &History,
    key: u32,
    operations: &[u32],
    limits: Limits,
) -> Option<bool> {
    let mut judge = Judge::new();
    let mut all = operations_of(&judge.events_of(history, key));
    for one in &mut all {
        one.is_kept = one.end.is_none() || operations.contains(&one.number);
    }
    let (events, free) = remembered(history, &all);
    judge.is_fine(history, &events, &free, limits, &mut || false)
}

/// An operation of the key, in the part of the history that is looked at.
#[derive(Clone, Copy, Debug)]
struct One {
    number: u32,
    /// Where it begins, and where it ends if it must.
    call: usize,
    end: Option<usize>,
    is_kept: bool,
}

fn operations_of(events: &[u32]) -> Vec<One> {
    let mut all: Vec<One> = Vec::new();
    let mut places = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        let number = event >> 1;
        if event & 1 == 0 {
            places.insert(number, all.len());
            all.push(One { number, call: at, end: None, is_kept: true });
        } else if let Some(place) = places.remove(&number) {
            all[place].end = Some(at);
        }
    }
    all
}

/// What of the operations still has to be looked at: those that are kept, and of the others one for
/// each value; what a later one of these writes, the first may write as well.
fn needed(history: &History, all: Vec<One>) -> Vec<One> {
    let action = |one: &One| history.operations[one.number as usize].action;
    let mut looked = vec![false; history.values.len()];
    for one in all.iter().filter(|one| one.is_kept) {
        match action(one) {
            Action::Read(value) | Action::Differs(value) | Action::Swap { from: value, .. } => {
                looked[value.0 as usize] = true;
            }
            Action::Write(_) | Action::Append(_) => {}
        }
    }
    let mut first: BTreeMap<Option<Value>, usize> = BTreeMap::new();
    for one in all.iter().filter(|one| !one.is_kept) {
        let value = match action(one) {
            // Of values that nobody looks for, one is enough.
            Action::Write(value) | Action::Swap { to: value, .. } => {
                Some(value).filter(|value| looked[value.0 as usize])
            }
            Action::Append(value) => Some(value),
            Action::Read(_) | Action::Differs(_) => continue,
        };
        let call = first.entry(value).or_insert(one.call);
        *call = one.call.min(*call);
    }
    let mut calls: Vec<usize> = first.into_values().collect();
    calls.sort_unstable();
    let is_needed = |one: &One| one.is_kept || calls.binary_search(&one.call).is_ok();
    all.into_iter().filter(is_needed).collect()
}

/// The events of what is needed, and which operations may take effect as often as anybody likes.
fn remembered(history: &History, all: &[One]) -> (Vec<u32>, Vec<bool>) {
    let mut free = vec![false; history.operations.len()];
    let mut placed: Vec<(usize, u32)> = Vec::new();
    for one in needed(history, all.to_vec()) {
        placed.push((one.call, event(one.number as usize, false)));
        match one.end {
            Some(end) if one.is_kept => placed.push((end, event(one.number as usize, true))),
            Some(_) | None => {}
        }
        free[one.number as usize] = !one.is_kept;
    }
    placed.sort_unstable();
    (placed.into_iter().map(|(_, event)| event).collect(), free)
}

struct Hunt<'a, S: FnMut() -> bool> {
    history: &'a History,
    judge: Judge,
    limits: Limits,
    stop: &'a mut S,
    /// No question was left open.
    is_sure: bool,
}

impl<S: FnMut() -> bool> Hunt<'_, S> {
    /// Whether there is certainly no order.
    fn is_violated(&mut self, events: &[u32], free: &[bool]) -> bool {
        let fine = self.judge.is_fine(self.history, events, free, self.limits, self.stop);
        self.is_sure &= fine.is_some();
        fine == Some(false)
    }

    fn is_violated_by(&mut self, all: &[One]) -> bool {
        let (events, free) = remembered(self.history, all);
        self.is_violated(&events, &free)
    }

    /// All operations, without the answers to those that begin after the earliest end without which
    /// there would be an order; most often that is where the search got stuck. And how many events
    /// there are until that end.
    fn cut_end(&mut self, events: &[u32], stuck: u32) -> (Vec<One>, usize) {
        let (mut fine, mut bad) = (0, events.len());
        let stuck = event(stuck as usize, true);
        if let Some(at) = events.iter().position(|event| *event == stuck) {
            if self.is_violated(&events[..=at], &[]) {
                bad = at + 1;
                fine = if self.is_violated(&events[..at], &[]) { 0 } else { at };
            } else {
                fine = at + 1;
            }
        }
        while bad - fine > 1 {
            let middle = fine + (bad - fine) / 2;
            if self.is_violated(&events[..middle], &[]) { bad = middle } else { fine = middle }
        }
        let mut all = operations_of(events);
        for late in all.iter_mut().filter(|one| one.call >= bad && one.end.is_some()) {
            late.is_kept = false;
        }
        (all, bad)
    }

    /// An order for all but the last of these events, and the operation that this one ends.
    fn longest(&mut self, events: &[u32]) -> Option<(Vec<u32>, u32)> {
        let (last, before) = events.split_last()?;
        let stuck = last >> 1;
        let cut = self.history.operations[stuck as usize].end.filter(|_| last & 1 == 1)?;
        let Self { history, judge, limits, stop, .. } = self;
        Some((judge.order(history, (before, cut), *limits, stop)?, stuck))
    }

    /// Leaves out as many answers as possible that came first.
    fn cut_beginning(&mut self, all: &mut [One]) {
        let is_answer = |one: &One| one.is_kept && one.end.is_some();
        all.sort_unstable_by_key(|one| (!is_answer(one), one.end, one.call));
        let answers = all.partition_point(is_answer);
        // So many of the last are kept: too few, and enough.
        let (mut few, mut enough) = (0, 8);
        while enough < answers {
            keep_last(&mut all[..answers], enough);
            if self.is_violated_by(all) {
                break;
            }
            (few, enough) = (enough, enough * 2);
        }
        enough = enough.min(answers);
        while enough - few > 1 {
            let middle = few + (enough - few) / 2;
            keep_last(&mut all[..answers], middle);
            if self.is_violated_by(all) { enough = middle } else { few = middle }
        }
        keep_last(&mut all[..answers], enough);
    }

    /// The smallest core that is found by leaving out in several sequences.
    fn smallest(&mut self, all: &[One]) -> Vec<One> {
        let is_update = |one: &One| self.history.operations[one.number as usize].action.is_update();
        let is_answer = |at: &usize| all[*at].is_kept && all[*at].end.is_some();
        let kept: Vec<usize> = (0..all.len()).filter(is_answer).collect();
        let (updates, looks): (Vec<usize>, Vec<usize>) =
            kept.iter().partition(|at| is_update(&all[**at]));
        let sequences = [
            kept.clone(),
            kept.iter().rev().copied().collect(),
            updates.iter().chain(&looks).copied().collect(),
            looks.iter().chain(&updates).copied().collect(),
        ];
        let mut best: Option<(usize, Vec<One>)> = None;
        for sequence in sequences {
            let mut all = all.to_vec();
            self.leave_out(&mut all, &sequence);
            let count = all.iter().filter(|one| one.is_kept).count();
            if best.as_ref().is_none_or(|(least, _)| count < *least) {
                best = Some((count, all));
            }
        }
        best.expect("there are several sequences").1
    }

    /// Tries to leave out each, in this sequence: in pieces that become smaller.
    fn leave_out(&mut self, all: &mut [One], sequence: &[usize]) {
        let mut piece = sequence.len().div_ceil(4).max(1);
        loop {
            let kept: Vec<usize> = sequence.iter().copied().filter(|at| all[*at].is_kept).collect();
            for part in kept.chunks(piece) {
                part.iter().for_each(|at| all[*at].is_kept = false);
                if !self.is_violated_by(all) {
                    part.iter().for_each(|at| all[*at].is_kept = true);
                }
            }
            if piece == 1 {
                return;
            }
            piece = piece.div_ceil(4).min(piece - 1);
        }
    }
}

fn keep_last(all: &mut [One], count: usize) {
    let first = all.len().saturating_sub(count);
    for (at, one) in all.iter_mut().enumerate() {
        one.is_kept = at >= first;
    }
}
