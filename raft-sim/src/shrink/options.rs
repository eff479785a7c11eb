//! Plainer options, fewer nodes and clients.

use std::rc::Rc;

use super::{COUNTED, Shrinker};
use crate::event::NodeAt;
use crate::fault::Fault;
use crate::options::Options;
use crate::rng::{Purpose, Ratio};
use crate::tape::{Key, Planned, Tape};
use crate::workload::Workload;

/// Other seeds of the nodes' own timers, for a tape that has lost a node.
const TIMERS: u64 = 4;

impl<W: Workload> Shrinker<'_, W> {
    /// Fewer nodes and clients first, then fewer faults, then as many options as can be as they are in
    /// the plainest run.
    pub(super) fn look_for_plainer_options(&mut self) {
        let options = self.best.options.clone();
        if self.search(&options) {
            self.tell("shorter");
        }
        for change in smaller() {
            self.change(change.as_ref(), "fewer nodes, clients");
        }
        let fault = |&fault: &Fault| -> Change { Box::new(move |options| without(options, fault)) };
        self.change_many(Fault::ALL.iter().map(fault).collect(), "fewer faults");
        let is_counted = |name: &str| ["seed", "events"].contains(&name) || COUNTED.contains(&name);
        let plain = Options::default().knobs().into_iter().filter(|(name, _)| !is_counted(name));
        let plainer = |(name, value): (String, String)| -> Change {
            Box::new(move |options| options.set(&name, &value).is_ok())
        };
        self.change_many(plain.map(plainer).collect(), "plainer options");
    }

    /// Makes as many changes as can be made: one by one, or whole halves first.
    fn change_many(&mut self, mut changes: Vec<Change>, what: &str) {
        let mut chunk = if self.is_bold { changes.len() } else { 1 };
        while chunk > 0 && !self.is_stopped() {
            let mut from = 0;
            while from < changes.len() {
                let to = (from + chunk).min(changes.len());
                let some = &changes[from..to];
                let all = |options: &mut Options| {
                    some.iter().fold(false, |is_any, change| change(options) | is_any)
                };
                if self.change(&all, what) {
                    changes.drain(from..to);
                } else {
                    from = to;
                }
            }
            chunk /= 2;
        }
    }

    /// Changes the options, of this tape or of any run, if that makes a difference. Says whether it did,
    /// and the run fails all the same.
    fn change(&mut self, change: &dyn Fn(&mut Options) -> bool, what: &str) -> bool {
        let mut options = self.best.options.clone();
        if !change(&mut options) || options == self.best.options {
            return false;
        }
        let same_nodes = options.nodes() == self.best.options.nodes();
        let is_plainer = same_nodes && self.attempt(with_options(&self.best, options.clone()))
            || self.search(&options);
        if is_plainer {
            self.tell(what);
        }
        is_plainer
    }

    pub(super) fn take_away_nodes_and_clients(&mut self) {
        self.pin_strikes();
        for at in (0..self.best.options.nodes()).rev() {
            for timers in 0..=TIMERS {
                let mut tape = without_node(&self.best, at);
                tape.options.seed = timers.checked_sub(1).unwrap_or(tape.options.seed);
                if self.attempt(tape) {
                    self.tell("a node less");
                    break;
                }
            }
        }
        for client in (0..self.best.options.client.clients as u64).rev() {
            if self.attempt(without_client(&self.best, client)) {
                self.tell("a client less");
            }
        }
    }
}

type Change = Box<dyn Fn(&mut Options) -> bool>;

/// The smallest clusters first.
fn smaller() -> Vec<Change> {
    let less = |count: usize, field: fn(&mut Options) -> &mut usize| -> Change {
        Box::new(move |options| {
            let field = field(options);
            let is_less = count < *field;
            *field = count.min(*field);
            is_less
        })
    };
    let mut changes = vec![
        less(0, |options| &mut options.learners),
        less(0, |options| &mut options.spares),
        less(1, |options| &mut options.spares),
    ];
    changes.extend((1..7).map(|count| less(count, |options| &mut options.voters)));
    changes.extend([1, 2, 4].map(|count| less(count, |options| &mut options.client.clients)));
    changes
}

/// Without a class of faults, and what it has set.
fn without(options: &mut Options, fault: Fault) -> bool {
    if !options.faults.contains(fault) {
        return false;
    }
    options.faults.remove(fault);
    let plain = Options::default();
    let link = &mut options.link;
    if fault == Fault::Loss {
        link.loss = Ratio::NEVER;
    } else if fault == Fault::Duplication {
        link.duplication = Ratio::NEVER;
    } else if fault == Fault::Corruption {
        link.corruption = Ratio::NEVER;
    } else if fault == Fault::Reorder {
        link.reorder = false;
    } else if fault == Fault::Overflow {
        link.queue_max = plain.link.queue_max;
    } else if fault == Fault::Skew || fault == Fault::Drift {
        options.skew_ppm = 0;
    }
    if fault == Fault::Drift && options.lease_us > 0 {
        options.faults.remove(Fault::Jump);
    }
    true
}

/// The same choices under other options; strikes that are none of their faults are gone.
fn with_options(tape: &Tape, options: Options) -> Tape {
    let mut strikes = tape.strikes.as_ref().clone();
    strikes.retain(|strike| options.faults.contains(strike.fault));
    Tape { options, strikes: Rc::new(strikes), draws: tape.draws.clone() }
}

/// Without a node; those after it move up.
fn without_node(tape: &Tape, at: NodeAt) -> Tape {
    let mut options = tape.options.clone();
    let nodes = options.nodes() as u64;
    if at < options.voters {
        options.voters -= 1;
    } else if at < options.voters + options.learners {
        options.learners -= 1;
    } else {
        options.spares -= 1;
    }
    let moved = |strike: &Planned| {
        let is_gone = strike.node == at && !strike.is_aimed;
        let node = strike.node - usize::from(strike.node >= at && strike.node > 0);
        (!is_gone).then_some(Planned { node, ..*strike })
    };
    let strikes = tape.strikes.iter().filter_map(moved).collect();
    let draws = tape
        .draws
        .iter()
        .filter_map(|(&key, draws)| Some((key_without(key, at as u64, nodes)?, Rc::clone(draws))));
    Tape { options, strikes: Rc::new(strikes), draws: draws.collect() }
}

/// How a stream is called when there is no such node, and `None` if it was the node's.
fn key_without((purpose, entity): Key, at: u64, nodes: u64) -> Option<Key> {
    let (high, low) = (entity >> 32, entity & 0xffff_ffff);
    let moved = |node: u64| (node != at).then(|| node - u64::from(node > at));
    let entity = match purpose {
        Purpose::Link => moved(entity / nodes)? * (nodes - 1) + moved(entity % nodes)?,
        Purpose::DiskLatency => moved(entity)?,
        Purpose::Lineage => high << 32 | moved(low)?,
        Purpose::DiskCrash => moved(high)? << 32 | low,
        // Which of them is slow is nobody's own.
        Purpose::Node if low == 0 => entity,
        Purpose::Node => high << 32 | (moved(low - 1)? + 1),
        Purpose::Options
        | Purpose::Client
        | Purpose::Nemesis
        | Purpose::Schedule
        | Purpose::Operator
        | Purpose::History => entity,
    };
    Some((purpose, entity))
}

/// Without a client; those after it move up.
fn without_client(tape: &Tape, client: u64) -> Tape {
    let mut tape = tape.clone();
    tape.options.client.clients -= 1;
    let draws = std::mem::take(&mut tape.draws).into_iter().filter_map(|(key, draws)| {
        let (purpose, entity) = key;
        if purpose != Purpose::Client || entity < client {
            return Some((key, draws));
        }
        (entity > client).then(|| ((purpose, entity - 1), draws))
    });
    tape.draws = draws.collect();
    tape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_move_with_their_nodes() {
        let moved = |purpose, entity| key_without((purpose, entity), 1, 3).map(|key| key.1);
        // 1>3 of three is 1>2 of two.
        assert_eq!(moved(Purpose::Link, 2), Some(1));
        assert_eq!(moved(Purpose::Link, 8), Some(3));
        assert_eq!((moved(Purpose::Link, 1), moved(Purpose::Link, 3)), (None, None));
        assert_eq!(moved(Purpose::DiskCrash, 2 << 32 | 5), Some(1 << 32 | 5));
        assert_eq!(moved(Purpose::Lineage, 7 << 32 | 2), Some(7 << 32 | 1));
        assert_eq!((moved(Purpose::Node, 1), moved(Purpose::Node, 2)), (Some(1), None));
        assert_eq!(moved(Purpose::Client, 2), Some(2));
    }
}
