//! Raft as a deterministic state machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod config;
pub mod durable;
pub mod effect;
pub mod entry;
pub mod membership;
pub mod message;
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
pub use types::*;
