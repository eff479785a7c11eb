//! The nemesis: which faults strike, when, and how they are bundled.
//!
//! Each class that is on strikes by its own stream and at its own pace, which is counted in events:
//! a cluster that lies still is left alone, and one that works hard is hit hard. One strike in four opens a
//! burst: more of the same in quick succession (crash loops, partitions that flap). Two in five are
//! aimed at the leader, whoever that is by then.
//!
//! A class without any effect tests nothing. What the group could not bear is tried again soon, some
//! other way. And from the middle of a run on, the others rest now and then while a class is left that
//! has had no effect: in a cluster that never gets to work there is nothing for it to disturb. If that
//! does not suffice the faults last for a quarter longer than planned, and the others rest for good.

use std::rc::Rc;

use crate::event::{Event, NodeAt};
use crate::fault::{Fault, Tally};
use crate::network::Network;
use crate::options::Options;
use crate::queue::Queue;
use crate::rng::{Draw, Purpose, Ratio, Stream};
use crate::tape::{Choices, Planned, When};

/// The classes that strike by themselves. The others happen to single frames.
pub const STRIKING: [Fault; 37] = [
    Fault::Partition,
    Fault::Clog,
    Fault::Overflow,
    Fault::Reset,
    Fault::Crash,
    Fault::PowerLoss,
    Fault::TornWork,
    Fault::Blackout,
    Fault::Pause,
    Fault::Jump,
    Fault::Stall,
    Fault::WriteError,
    Fault::SyncDrops,
    Fault::SyncKeeps,
    Fault::Membership,
    Fault::Transfer,
    Fault::StepDown,
    Fault::ForgetLeader,
    Fault::BitRot,
    Fault::ZeroedSector,
    Fault::Misdirected,
    Fault::LostWrite,
    Fault::Unreadable,
    Fault::LostTail,
    Fault::SnapshotRot,
    Fault::NoSpace,
    Fault::Wipe,
    Fault::Amnesia,
    Fault::ShortWrite,
    Fault::StrayWrite,
    Fault::LyingSync,
    Fault::Campaign,
    Fault::DirectoryError,
    Fault::GracefulStop,
    Fault::Malformed,
    Fault::Oversized,
    Fault::WireVersion,
];

/// How often a strike that was refused is tried again, before the next turn of its class.
const RETRIES_MAX: u32 = 8;

/// A run has so many parts. In the second half, the others rest for each second of them while a class
/// is left that has had no effect.
const PARTS: u64 = 8;

/// When what strikes.
#[derive(Debug)]
pub struct Nemesis {
    classes: Vec<Class>,
    /// What strikes instead, if a tape says so, and how much of it has come.
    plan: Option<(Rc<Vec<Planned>>, usize)>,
    choices: Choices,
    /// The event before which the first class strikes, or it is looked who has had no effect.
    soonest: u64,
    /// When it is looked next who has had no effect.
    review: u64,
    /// How long the others rest then, in events.
    rest: u64,
    /// When they rest for good.
    end: u64,
}

#[derive(Debug)]
struct Class {
    fault: Fault,
    stream: Stream,
    /// How many events pass between two strikes, in the mean.
    gap: u64,
    /// The event before which it strikes next.
    next: u64,
    /// How many strikes of a burst are left.
    burst: u64,
    /// How often in a row it was refused and tried again.
    retries: u32,
    /// It has had no effect when that was last looked at.
    is_silent: bool,
}

/// One strike.
#[derive(Clone, Debug)]
pub struct Strike {
    /// What.
    pub fault: Fault,
    /// Where, unless at the leader.
    pub at: Target,
    /// How long it lasts, in microseconds.
    pub lasts_us: u64,
    /// If it cuts the power in the midst of disk work: after how many operations.
    pub operations: u32,
    /// Randomness for what becomes of the clients of a leader that is struck.
    pub clients: u64,
    /// Randomness for whatever else there is to decide.
    pub draw: Draw,
}

/// Where a strike goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the leader of the highest term, if there is one, else to this node.
    Leader(NodeAt),
    /// To this node.
    Node(NodeAt),
}

impl Nemesis {
    /// The nemesis of a run.
    #[must_use]
    pub fn new(options: &Options, choices: &Choices) -> Self {
        let plan = choices.plan().map(|strikes| (strikes, 0));
        let is_on = |fault: &&Fault| plan.is_none() && options.faults.contains(**fault);
        let striking = STRIKING.iter().filter(is_on);
        let classes = striking.map(|&fault| {
            let mut stream = Stream::new(options.seed, Purpose::Nemesis, fault as u64);
            let gap = options.strikes.of(fault);
            let gap = gap.unwrap_or_else(|| rarity(fault).saturating_mul(options.strike_events));
            // Often enough that a class which is on has an effect.
            let gap = gap.min(options.events / 8);
            let next = stream.draw().exponential(gap);
            Class { fault, stream, gap, next, burst: 0, retries: 0, is_silent: false }
        });
        let (review, rest) = (options.events / 2, options.events / PARTS);
        let (classes, choices) = (classes.collect(), choices.clone());
        let end = options.events;
        let mut nemesis = Self { classes, plan, choices, soonest: 0, review, rest, end };
        nemesis.look_ahead();
        nemesis
    }

    /// What strikes before this event, if anything does: a class, or a line of the tape. `tally` says
    /// what effects there were.
    pub fn due(&mut self, event: u64, queue: &mut Queue<Event>, tally: &Tally) -> Option<usize> {
        if let Some((strikes, next)) = &self.plan {
            return strikes.get(*next).filter(|one| is_due(one.when, event, queue)).map(|_| *next);
        }
        if event < self.soonest {
            return None;
        }
        if event >= self.review {
            self.review(event, tally);
        }
        self.classes.iter().position(|class| class.next <= event)
    }

    /// Whether it is looked before this event who has had no effect: all effects must be counted by then.
    #[must_use]
    pub fn looks_back(&self, event: u64) -> bool {
        self.plan.is_none() && event >= self.review && !self.classes.is_empty()
    }

    /// Whether faults go on for longer than the options say, at this event: for at most a quarter, while
    /// a class is left that has had no effect.
    #[must_use]
    pub fn goes_on(&self, event: u64, tally: &Tally) -> bool {
        let is_silent = |class: &Class| tally.of(class.fault).1 == 0;
        event < self.end + 2 * self.rest && self.classes.iter().any(is_silent)
    }

    /// Those that have had no effect strike for a while, one by one, and the others not at all.
    fn review(&mut self, event: u64, tally: &Tally) {
        let rest = self.rest.max(1);
        self.review = event + 2 * rest;
        if event < self.end {
            self.review = self.review.min(self.end);
        }
        for class in &mut self.classes {
            class.is_silent = tally.of(class.fault).1 == 0;
        }
        if self.classes.iter().any(|class| class.is_silent) {
            for class in &mut self.classes {
                if class.is_silent {
                    class.burst = 0;
                    class.gap = class.gap.min(1 + rest / 8);
                    // The cluster needs a while to recover: what struck before has yet to end.
                    class.next = event + rest / 3 + class.stream.draw().below(1 + rest / 4);
                } else {
                    let until = if event < self.end { event + rest } else { u64::MAX };
                    class.next = class.next.max(until);
                }
            }
        }
        self.look_ahead();
    }

    /// A class has struck, and what it did was taken back or impossible: it tries again soon.
    pub fn refused(&mut self, class: usize, event: u64) {
        if self.plan.is_some() {
            return;
        }
        let class = &mut self.classes[class];
        if class.retries == RETRIES_MAX {
            class.retries = 0;
            return;
        }
        class.retries += 1;
        let soon = 1 + class.stream.draw().exponential(1 + class.gap / 16);
        class.next = class.next.min(event + soon);
        self.look_ahead();
    }

    /// A class has struck, and it was not refused.
    pub fn accepted(&mut self, class: usize) {
        if self.plan.is_none() {
            self.classes[class].retries = 0;
        }
    }

    fn look_ahead(&mut self) {
        let first = self.classes.iter().map(|class| class.next).min();
        self.soonest = first.map_or(u64::MAX, |first| first.min(self.review));
    }

    /// What is due strikes, before this event and at this time.
    pub fn strike(&mut self, due: usize, at: (u64, u64), options: &Options) -> Strike {
        let strike = match &mut self.plan {
            Some((strikes, next)) => {
                *next = due + 1;
                let planned = &strikes[due];
                Planned { node: planned.node % options.nodes(), ..*planned }.strike()
            }
            None => self.draw(due, at.0, options),
        };
        // The strike is an event itself, and is counted by now.
        self.choices.note_strike(strike, (at.0 - 1, at.1))
    }

    fn draw(&mut self, class: usize, event: u64, options: &Options) -> Strike {
        let class = &mut self.classes[class];
        let mut draw = class.stream.draw();
        let node = draw.position(options.nodes());
        let is_aimed = draw.chance(Ratio::new(2, 5));
        let lasts_us = 1 + draw.exponential(options.fault_us);
        let gap = 1 + draw.exponential(class.gap);
        if class.burst > 0 {
            class.burst -= 1;
        } else if draw.chance(Ratio::new(1, 4)) && !class.is_silent {
            class.burst = 1 + draw.below(8);
        }
        let (lasts_us, gap) =
            if class.burst > 0 { (1 + lasts_us / 4, 1 + gap / 16) } else { (lasts_us, gap) };
        class.next = event + gap;
        let operations = class.stream.draw().log_uniform(1, 24);
        let strike = Strike {
            operations: u32::try_from(operations).expect("at most 24"),
            fault: class.fault,
            at: if is_aimed { Target::Leader(node) } else { Target::Node(node) },
            lasts_us,
            clients: class.stream.draw().word(),
            draw: class.stream.draw(),
        };
        self.look_ahead();
        strike
    }

    /// The name of what is due.
    #[must_use]
    pub fn name(&self, due: usize) -> &'static str {
        match &self.plan {
            Some((strikes, _)) => strikes[due].fault.name(),
            None => self.classes[due].fault.name(),
        }
    }
}

/// Whether a planned strike comes now. The time moves on to that of one that comes by time.
fn is_due(when: When, event: u64, queue: &mut Queue<Event>) -> bool {
    match when {
        When::Event(at) => at <= event,
        When::Time(at_us) => {
            let is_due = queue.next_at().is_none_or(|next_us| at_us < next_us);
            if is_due {
                queue.advance(at_us);
            }
            is_due
        }
    }
}

/// What takes a whole cluster down comes less often, and so do what comes in three variants and what
/// is looked for in whole disks.
pub(crate) fn rarity(fault: Fault) -> u64 {
    match fault {
        Fault::Wipe | Fault::Amnesia => 8,
        Fault::Blackout
        | Fault::StepDown
        | Fault::BitRot
        | Fault::ZeroedSector
        | Fault::Misdirected
        | Fault::LostWrite
        | Fault::Unreadable
        | Fault::LostTail
        | Fault::StrayWrite
        | Fault::SnapshotRot => 4,
        Fault::WriteError
        | Fault::ShortWrite
        | Fault::DirectoryError
        | Fault::SyncDrops
        | Fault::SyncKeeps
        | Fault::NoSpace => 3,
        Fault::Overflow | Fault::Transfer | Fault::ForgetLeader | Fault::Campaign => 2,
        Fault::Partition
        | Fault::Clog
        | Fault::LyingSync
        | Fault::Reset
        | Fault::Crash
        | Fault::PowerLoss
        | Fault::TornWork
        | Fault::Pause
        | Fault::Jump
        | Fault::Stall
        | Fault::Membership
        | Fault::Loss
        | Fault::Duplication
        | Fault::Reorder
        | Fault::Corruption
        | Fault::SlowNode
        | Fault::GracefulStop
        | Fault::Malformed
        | Fault::Oversized
        | Fault::Drift
        | Fault::WireVersion
        | Fault::Skew => 1,
    }
}

/// The shape of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Two halves.
    Halves,
    /// Nothing leaves a node.
    Mute,
    /// Nothing reaches a node.
    Deaf,
    /// One node alone.
    Alone,
    /// Two halves and one node that reaches both.
    Bridge,
    /// Each node reaches those next to it in a ring, up to a majority.
    Ring,
    /// One directed link.
    Link,
}

/// The links that a partition around `node` stops.
#[must_use]
pub fn partition(
    node: NodeAt,
    nodes: usize,
    network: &Network,
    draw: &mut Draw,
) -> (Shape, Vec<u32>) {
    let shape = match draw.below(8) {
        0 | 1 => Shape::Halves,
        2 => Shape::Mute,
        3 => Shape::Deaf,
        4 => Shape::Alone,
        5 => Shape::Bridge,
        6 => Shape::Ring,
        7.. => Shape::Link,
    };
    let sides = draw.word();
    let side = |at: NodeAt| sides >> at & 1;
    let other = (node + 1 + draw.position(nodes.max(2) - 1)) % nodes;
    let reach = nodes / 4 + 1;
    let stops = |from: NodeAt, to: NodeAt| match shape {
        Shape::Halves => side(from) != side(to),
        Shape::Mute => from == node,
        Shape::Deaf => to == node,
        Shape::Alone => from == node || to == node,
        Shape::Bridge => from != node && to != node && side(from) != side(to),
        Shape::Ring => (from + nodes - to) % nodes > reach && (to + nodes - from) % nodes > reach,
        Shape::Link => from == node && to == other,
    };
    let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
    let stopped = pairs.filter(|&(from, to)| from != to && stops(from, to));
    (shape, stopped.map(|(from, to)| network.link(from, to)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultSet;

    /// Strikes until the end of a run; `is_effective` says which have an effect.
    fn strikes(is_effective: impl Fn(Fault) -> bool) -> Vec<(u64, Fault)> {
        let mut faults = FaultSet::default();
        faults.insert(Fault::Crash);
        faults.insert(Fault::Transfer);
        let options = Options { faults, events: 16_000, strike_events: 64, ..Options::default() };
        let mut nemesis = Nemesis::new(&options, &Choices::of_seed(3));
        let (mut queue, mut tally) = (Queue::new(), Tally::default());
        let mut struck = Vec::new();
        for event in 0..options.events {
            while let Some(due) = nemesis.due(event, &mut queue, &tally) {
                let fault = nemesis.strike(due, (event + 1, 0), &options).fault;
                if is_effective(fault) {
                    tally.both(fault);
                }
                struck.push((event, fault));
            }
        }
        struck
    }

    fn between(struck: &[(u64, Fault)], fault: Fault, events: std::ops::Range<u64>) -> usize {
        struck.iter().filter(|(event, one)| *one == fault && events.contains(event)).count()
    }

    #[test]
    fn the_others_rest_while_a_class_has_had_no_effect() {
        let struck = strikes(|fault| fault == Fault::Crash);
        for part in [8, 12] {
            let events = part * 1000 + 1..part * 1000 + 1999;
            assert_eq!(between(&struck, Fault::Crash, events.clone()), 0, "{part}");
            assert!(between(&struck, Fault::Transfer, events) > 1, "{part}");
            assert!(between(&struck, Fault::Crash, (part + 2) * 1000..(part + 4) * 1000) > 0);
        }
        let struck = strikes(|_| true);
        assert!(
            (8..16)
                .all(|part| { between(&struck, Fault::Crash, part * 1000..(part + 1) * 1000) > 0 })
        );
    }

    #[test]
    fn what_is_refused_comes_again_soon_and_not_for_ever() {
        let mut faults = FaultSet::default();
        faults.insert(Fault::SnapshotRot);
        let options =
            Options { faults, events: 1 << 40, strike_events: 4096, ..Options::default() };
        let mut nemesis = Nemesis::new(&options, &Choices::of_seed(1));
        let (mut queue, tally) = (Queue::new(), Tally::default());
        let (mut event, mut soon) = (0, 0);
        for _ in 0..64 {
            let was = event;
            event = nemesis.soonest.min(nemesis.review);
            let due = nemesis.due(event, &mut queue, &tally).expect("there is one class");
            soon += u32::from(event - was < nemesis.classes[0].gap / 4);
            nemesis.strike(due, (event, 0), &options);
            nemesis.refused(due, event);
        }
        assert!((40..63).contains(&soon), "{soon}");
    }
}
