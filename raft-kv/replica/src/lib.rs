//! The thin adapter on `raft-core`: storage, sessions, the sans-IO replica, the KV machine.
#![forbid(unsafe_code)]

mod applier;
pub mod disk;
pub mod kv;
pub mod machine;
mod pending;
pub mod replica;
pub mod request;
pub mod session;
pub mod storage;

pub use applier::{Image, ImageError, RestoreError};
