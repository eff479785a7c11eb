//! Fewer strikes, and plainer ones.

use std::rc::Rc;

use super::Shrinker;
use crate::rng::CALM;
use crate::tape::{Planned, Tape, When};
use crate::workload::Workload;

/// A strike that leaves clients where they are, and happens to one node only.
const PLAIN_CLIENTS: u64 = 0xe;

impl<W: Workload> Shrinker<'_, W> {
    /// As many strikes as can be missed, whole halves first.
    pub(super) fn take_away_most_strikes(&mut self) {
        self.pin_strikes();
        let len = |tape: &Tape| tape.strikes.len();
        self.sweep(len, |tape, range| {
            let mut strikes = tape.strikes.as_ref().clone();
            strikes.drain(range);
            Tape { strikes: Rc::new(strikes), ..tape.clone() }
        });
    }

    pub(super) fn take_away_strikes(&mut self) {
        self.take_away_most_strikes();
        for at in 0..self.best.strikes.len() {
            for plainer in [calm, unbound, early, short, anywhere] {
                // What is left of a run may have fewer strikes than it had.
                let Some(&strike) = self.best.strikes.get(at) else { return };
                let plainer = plainer(strike);
                if plainer == strike {
                    continue;
                }
                self.attempt_strike(at, plainer);
            }
            self.bring_forward(at);
        }
        self.tell("fewer and plainer strikes");
    }

    fn attempt_strike(&mut self, at: usize, strike: Planned) -> bool {
        let mut strikes = self.best.strikes.as_ref().clone();
        strikes[at] = strike;
        self.attempt(Tape { strikes: Rc::new(strikes), ..self.best.clone() })
    }

    /// A strike comes as early as it may and still do harm: what happens before it matters little.
    fn bring_forward(&mut self, at: usize) {
        for quarters in 0..4 {
            let Some(&strike) = self.best.strikes.get(at) else { return };
            let sooner = |when: u64| when / 4 * quarters;
            let when = match strike.when {
                When::Event(event) => When::Event(sooner(event)),
                When::Time(time) => When::Time(sooner(time)),
            };
            if when != strike.when && self.attempt_strike(at, Planned { when, ..strike }) {
                return;
            }
        }
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
