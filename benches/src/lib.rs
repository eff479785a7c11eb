//! What the protocol costs.
//!
//! Time is measured by `cargo bench`; it depends on the machine and on what else runs there.
//! Counts do not: the test `costs` compares messages, persist batches, steps and allocations per
//! commit with a golden table, so a change that makes every proposal dearer is noticed by
//! `cargo test`. Between the two stands `examples/commits.rs`, a bare loop in which a profiler
//! counts instructions:
//!
//! ```text
//! cargo build --release -p benches --example commits
//! valgrind --tool=callgrind target/release/examples/commits 3 1 256 direct 20000
//! ```
//!
//! All three drive a [`Group`]: the replicas of one group in one thread, whose disks confirm at
//! once. One more bench, `simulate`, times whole simulated runs.
//!
//! Deliberately absent: real disks, sockets and threads, whose cost would hide the core's.

mod group;

pub use group::{Costs, Group, Link, Load};
