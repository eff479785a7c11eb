//! raft-kv: a replicated key-value store, one more host of the replica that the simulator drives.
//!
//! The server adds what a deterministic replica cannot have: a clock, sockets, a disk's thread,
//! clients. It decides nothing about consensus.
//!
//! ```text
//!   clients      http          links      peers
//!      |           |             |          |
//!      +-----> [ node: one thread, owns the replica ] <-----> frames
//!                  |             ^
//!                  v work        | done
//!              [ log thread: owns the storage, one sync for all that waits ]
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`server`] | starts all of it, in order, and ends it |
//! | [`node`] | the loop: events in; frames, work, replies out |
//! | [`log_thread`], [`spare`] | group commit, and a disk that has the next file ready |
//! | [`store`] | what is replicated: the map, named clients, the address book |
//! | [`links`], [`hello`] | connections to peers, and what they begin with |
//! | [`transport`], [`tls`] | what carries the bytes: TCP, TLS, or memory; certificates |
//! | [`bootstrap`] | how a directory becomes a member of a cluster |
//! | [`config`] | what the server is told |
//! | [`client`] | the other side: a client of the HTTP interface |
//! | [`metrics`], [`backup`], [`clock`] | what their names say |
//!
//! Reading order: `store`, `node/driver.rs`, `log_thread`, `links`, `bootstrap`, `server`, `http/`.
#![forbid(unsafe_code)]

pub mod backup;
pub mod bootstrap;
pub mod client;
pub mod clock;
pub mod config;
mod files;
mod findings;
pub mod hello;
mod http;
pub mod links;
pub mod log_thread;
pub mod metrics;
pub mod node;
mod patience;
mod room;
pub mod server;
pub mod spare;
mod steward;
pub mod store;
pub mod tls;
pub mod transport;
