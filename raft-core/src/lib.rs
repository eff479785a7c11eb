//! Raft as a deterministic state machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod admission;
mod commit;
mod compaction;
pub mod config;
mod digest;
pub mod durable;
pub mod effect;
mod election;
pub mod entry;
mod gate;
mod log;
pub mod membership;
pub mod message;
mod node;
mod progress;
pub mod quorum;
mod raft;
mod read;
pub mod recovery;
mod replication;
mod rng;
mod role;
mod timers;
pub mod types;
pub mod wire;

pub use config::{Config, ConfigError};
pub use durable::{HardState, PersistBatch, RecoveredState, Slot, SnapshotMeta};
pub use effect::{
    Effect, HaltReason, Observation, Outcome, Refused, Rejection, RoleName, Violation,
};
pub use entry::{Entries, Entry, Payload};
pub use membership::{Membership, MembershipError};
pub use message::{
    AppendResult, Body, Chunk, ChunkRequest, Envelope, Message, ReadMode, Rpc, RpcKind,
};
pub use raft::{Raft, Status};
pub use recovery::RecoverError;
pub use types::*;
