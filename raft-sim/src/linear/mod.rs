//! Whether what clients saw is what one machine could have told them: a checker of linearizability
//! that looks at no log, no index, no server.
//!
//! A history is a list of operations: what a client asked for, when it asked, when it was told, and
//! what. It is linearizable (Herlihy and Wing 1990) if every operation can be given one moment between
//! its call and its end such that, one after the other at these moments, a single machine would have
//! given all these answers. An update whose outcome nobody knows has no end: its moment may be any
//! time after its call, or never.
//!
//! ```text
//! p1  |--write 3--|
//! p2                |--write 5--|
//! p3                               |--read 3--|      no moments explain this
//! ```
//!
//! The parts, in the order of the way that a history takes:
//!
//! * [`read`]: from files; [`Builder`]: from a program's own clients.
//! * `program`: each key by itself, since a history is linearizable if each of its keys is so; slots
//!   for what is under way, and when each value is looked for last.
//! * `config`, `expand`, `search`, `tree`: the search for an order. It descends from those of Wing and
//!   Gong (1993) and Lowe (2017): operations take effect as late as they can, configurations that were
//!   met are not tried again, and what is covered by another is not tried at all.
//! * `turns`: the keys share the time. [`Judge`] is the door to all this.
//! * `witness`: the order that was found, and [`validate`], which checks it without the search.
//! * [`mod@core`], [`explain`], [`page`]: if there is none, why: few operations, a sentence, a picture.
//! * [`generate`]: histories that are made up, to try it all.
//!
//! The question is hard in general (it is NP-complete even for one register), so a search has
//! [`Limits`]; within them every answer is exact. There is no clock in here and no chance: the same
//! history has the same verdict, order and core.

mod bits;
mod config;
pub mod core;
mod expand;
pub mod explain;
pub mod generate;
mod history;
mod names;
pub mod page;
mod program;
pub mod read;
mod search;
mod tree;
mod turns;
mod witness;

pub use history::{ABSENT, Action, Ask, Builder, History, Misfit, Model, Operation, Told, Value};
pub use turns::{Judge, Limits, Stopped, Verdict};
pub use witness::{Flaw, validate};
