//! Storage, through its public API: what is written is found again, whatever a crash does.

mod crash;
mod damage;
mod files;
mod golden;
mod memory_disk;
mod model;
mod roundtrip;
