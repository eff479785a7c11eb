//! The thin adapter on `raft-core`: storage, sessions, the sans-IO replica, the KV machine.
#![forbid(unsafe_code)]

pub mod disk;
pub mod storage;
