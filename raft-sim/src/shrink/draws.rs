//! Fewer words: whole purposes, then whole streams, then what is left of single draws.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use super::Shrinker;
use crate::rng::CALM;
use crate::tape::{Key, Tape};
use crate::workload::Workload;

impl<W: Workload> Shrinker<'_, W> {
    pub(super) fn take_away_draws(&mut self) {
        let purposes: BTreeSet<_> = self.best.draws.keys().map(|(purpose, _)| *purpose).collect();
        for purpose in purposes {
            let mut tape = self.best.clone();
            tape.draws.retain(|key, _| key.0 != purpose);
            self.attempt(tape);
        }
        self.sweep(
            |tape| tape.draws.len(),
            |tape, range| {
                let mut tape = tape.clone();
                let keys: Vec<Key> = tape.draws.keys().copied().collect();
                keys[range].iter().for_each(|key| drop(tape.draws.remove(key)));
                tape
            },
        );
        self.sweep(|tape| words(tape).count(), calmed);
        self.tell("fewer draws");
    }
}

/// The words that are not calm.
fn words(tape: &Tape) -> impl Iterator<Item = (Key, u64, usize)> {
    let draws = tape
        .draws
        .iter()
        .flat_map(|(&key, draws)| draws.iter().map(move |(&number, words)| (key, number, words)));
    draws.flat_map(|(key, number, words)| {
        let used = words.iter().enumerate().filter(|&(_, &word)| word != CALM);
        used.map(move |(at, _)| (key, number, at))
    })
}

fn calmed(tape: &Tape, range: Range<usize>) -> Tape {
    let mut calmed = tape.clone();
    for (key, number, at) in words(tape).skip(range.start).take(range.len()) {
        let Some(draws) = calmed.draws.get_mut(&key) else { continue };
        if let Some(words) = Rc::make_mut(draws).get_mut(&number) {
            words[at] = CALM;
        }
    }
    calmed
}
