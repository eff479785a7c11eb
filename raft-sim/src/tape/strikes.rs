//! The strikes of the nemesis as a tape has them: one line each.

use crate::event::NodeAt;
use crate::fault::Fault;
use crate::rng::Words;

/// When something strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After so many events.
    Event(u64),
    /// At this time, in microseconds, after everything that happens until then.
    Time(u64),
}

/// One strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When, unless an earlier one of the tape comes later.
    pub when: When,
    /// What.
    pub fault: Fault,
    /// Whether it goes to the leader, if there is one.
    pub is_aimed: bool,
    /// Where it goes otherwise.
    pub node: NodeAt,
    /// How long it lasts, in microseconds.
    pub lasts_us: u64,
    /// See [`Strike::operations`](crate::nemesis::Strike::operations).
    pub operations: u32,
    /// See [`Strike::clients`](crate::nemesis::Strike::clients).
    pub clients: u64,
    /// What decides everything else about it.
    pub words: Words,
}
