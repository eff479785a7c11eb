//! What the protocol costs, and what others cost.
//!
//! `cargo bench` measures time, which depends on the machine and on what else runs there. Counts do
//! not: the test `costs` compares messages, bytes, persist batches, steps and allocations per commit
//! with a golden table, so a change that makes every proposal dearer is noticed by `cargo test`.
//! Between the two stand instructions, which hardly depend on the machine:
//!
//! ```text
//! cargo bench -p benches --bench peers                          time, ours alone
//! cargo bench -p benches --bench peers -- --callgrind           instructions, ours alone
//! cargo bench -p benches --bench peers -- --callgrind w1        the cells with this in their name
//! cargo bench -p benches --bench peers --features peers         time, side by side
//! ```
//!
//! A cell of the table is one process, so that a profiler can look at it:
//! `target/release/deps/peers-* cell ours w1-one/3x256/direct`. All drive a [`contest::Contestant`]:
//! the nodes of one group in one thread, whose disks are memory. Two more benches: `events` times
//! whole simulated runs, [`storage`] appends and recovers on a real disk.
//!
//! Deliberately absent: sockets and threads, whose cost would hide the protocol's; so would disks,
//! which are measured apart.

pub mod cells;
pub mod contest;
mod counting;
mod frames;
mod group;
pub mod peers;
pub mod runner;
pub mod storage;
pub mod table;

pub use counting::{Counting, Memory, memory};
pub use group::{Buffers, Costs, Group};
