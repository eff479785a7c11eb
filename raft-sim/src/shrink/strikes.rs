//! Fewer strikes, and plainer ones.

use std::rc::Rc;

use super::Shrinker;
use crate::rng::CALM;
use crate::tape::{Planned, Tape};

/// A strike that leaves clients where they are, and happens to one node only.
const PLAIN_CLIENTS: u64 = 0xe;

impl Shrinker<'_> {
    pub(super) fn take_away_strikes(&mut self) {
        self.pin_strikes();
        let len = |tape: &Tape| tape.strikes.len();
        self.sweep(len, |tape, range| {
            let mut strikes = tape.strikes.as_ref().clone();
            strikes.drain(range);
            Tape { strikes: Rc::new(strikes), ..tape.clone() }
        });
        for at in 0..self.best.strikes.len() {
            for plainer in [calm, unbound, early, short, anywhere] {
                // What is left of a run may have fewer strikes than it had.
                let Some(&strike) = self.best.strikes.get(at) else { return };
                let plainer = plainer(strike);
                if plainer == strike {
                    continue;
                }
                let mut strikes = self.best.strikes.as_ref().clone();
                strikes[at] = plainer;
                let tape = Tape { strikes: Rc::new(strikes), ..self.best.clone() };
                self.attempt(tape);
            }
        }
        self.tell("fewer and plainer strikes");
    }
}

fn calm(strike: Planned) -> Planned {
    Planned { words: [CALM; 8], ..strike }
}

fn unbound(strike: Planned) -> Planned {
    Planned { clients: PLAIN_CLIENTS, ..strike }
}

fn early(strike: Planned) -> Planned {
    Planned { operations: 1, ..strike }
}

fn short(strike: Planned) -> Planned {
    Planned { lasts_us: strike.lasts_us / 8, ..strike }
}

fn anywhere(strike: Planned) -> Planned {
    Planned { is_aimed: false, ..strike }
}
