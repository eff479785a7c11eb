//! A simulator of whole clusters: consensus, storage, network, disks, clocks and clients in one
//! process, from one seed, with a checker that looks at every promise when it is made.
//!
//! Read in this order: [`world`] (the loop and its two phases), `step` (what a node's outputs go
//! through), [`disk`] and [`network`] (what is simulated), [`nemesis`] (what strikes), [`check`]
//! (what must never happen), `liveness` (what must happen in the end).
//!
//! Another state machine than the key-value store is simulated in a few lines: see [`workload`].
//!
//! Deliberately absent: sockets, clocks, tokio, and any second copy of what the product does. The
//! nodes are `raft_replica::Replica` and `raft_replica::storage::Storage`, byte for byte as they
//! ship.
#![forbid(unsafe_code)]

mod ambush;
mod asking;
pub mod beyond;
pub mod check;
pub mod claims;
pub mod cli;
pub mod client;
pub mod clock;
mod cuts;
mod damage;
pub mod digest;
pub mod disk;
mod drift;
mod ending;
pub mod event;
#[cfg(test)]
mod every_sector;
mod exile;
pub mod explore;
pub mod explored;
pub mod failure;
pub mod fault;
mod foreign;
mod ideal_disk;
mod lacking;
mod last_start;
pub mod linear;
mod liveness;
mod look;
pub mod museum;
pub mod mutants;
pub mod nemesis;
pub mod network;
mod node;
pub mod observe;
mod operator;
pub mod options;
pub mod page;
pub mod power;
mod process;
mod processor;
pub mod queue;
mod quiet;
pub mod report;
pub mod rest;
pub mod results;
pub mod rng;
mod rot;
pub mod run;
pub mod sabotage;
pub mod said;
pub mod script;
mod scrub;
pub mod self_check;
pub mod setup;
pub mod shrink;
mod states;
mod step;
mod strike;
pub mod swarm;
pub mod tape;
pub mod trace;
mod unanswered;
mod underway;
mod work;
pub mod workload;
pub mod world;
