//! Storage, through its public API: what is written is found again, whatever a crash does.
#![expect(clippy::unwrap_used, reason = "a test that fails names its line")]

mod crash;
mod damage;
mod failed_sync;
mod files;
mod golden;
mod memory_disk;
mod model;
mod random;
mod roundtrip;
