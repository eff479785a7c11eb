//! The nemesis: which faults strike, when, and how they are bundled.
//!
//! Each class that is on strikes by its own stream and at its own pace, which is counted in events:
//! a cluster that lies still is left alone, and one that works hard is hit hard. One strike in four opens a
//! burst: more of the same in quick succession (crash loops, partitions that flap). Two in five are
//! aimed at the leader, whoever that is by then.

use std::rc::Rc;

use crate::event::{Event, NodeAt};
use crate::fault::Fault;
use crate::network::Network;
use crate::options::Options;
use crate::queue::Queue;
use crate::rng::{Draw, Purpose, Ratio, Stream};
use crate::tape::{Choices, Planned, When};

/// The classes that strike by themselves. The others happen to single frames.
pub const STRIKING: [Fault; 26] = [
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
];

/// When what strikes.
#[derive(Debug)]
pub struct Nemesis {
    classes: Vec<Class>,
    /// What strikes instead, if a tape says so, and how much of it has come.
    plan: Option<(Rc<Vec<Planned>>, usize)>,
    choices: Choices,
    /// The event before which the first class strikes.
    soonest: u64,
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
            let gap = rarity(fault) * options.strike_events * stream.draw().range(2, 8) / 4;
            // Often enough that a class which is on has an effect.
            let gap = gap.min(options.events / 8);
            let next = stream.draw().exponential(gap);
            Class { fault, stream, gap, next, burst: 0 }
        });
        let classes: Vec<Class> = classes.collect();
        Self { soonest: soonest(&classes), classes, plan, choices: choices.clone() }
    }

    /// What strikes before this event, if anything does: a class, or a line of the tape.
    pub fn due(&self, event: u64, queue: &mut Queue<Event>) -> Option<usize> {
        if let Some((strikes, next)) = &self.plan {
            return strikes.get(*next).filter(|one| is_due(one.when, event, queue)).map(|_| *next);
        }
        if event < self.soonest {
            return None;
        }
        self.classes.iter().position(|class| class.next <= event)
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
        } else if draw.chance(Ratio::new(1, 4)) {
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
        self.soonest = soonest(&self.classes);
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
fn rarity(fault: Fault) -> u64 {
    match fault {
        Fault::Blackout
        | Fault::StepDown
        | Fault::BitRot
        | Fault::ZeroedSector
        | Fault::Misdirected
        | Fault::LostWrite
        | Fault::Unreadable
        | Fault::LostTail
        | Fault::SnapshotRot => 4,
        Fault::WriteError | Fault::SyncDrops | Fault::SyncKeeps | Fault::NoSpace => 3,
        Fault::Overflow | Fault::Transfer | Fault::ForgetLeader => 2,
        Fault::Partition
        | Fault::Clog
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
        | Fault::Skew => 1,
    }
}

fn soonest(classes: &[Class]) -> u64 {
    classes.iter().map(|class| class.next).min().unwrap_or(u64::MAX)
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
