//! What the checker must notice, and what it must let pass.
#![expect(clippy::unwrap_used, reason = "a step of a story that fails ends its test")]

mod bounds;
mod clients;
mod clocks;
mod elections;
mod group;
mod logs;
mod promises;
mod silence;
mod story;
