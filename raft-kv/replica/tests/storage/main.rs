//! Storage, through its public API: what is written is found again, whatever a crash does.
#![expect(clippy::unwrap_used, reason = "a test that fails names its line")]
#![expect(clippy::print_stdout, reason = "a test says how much it has visited")]

mod amnesia;
mod covered;
mod crash;
mod damage;
mod doubt;
mod evidence;
mod exhaustive;
mod failed_sync;
mod files;
mod foreign;
mod forgotten;
mod golden;
mod healed_end;
mod lost;
mod lost_table;
mod memory_disk;
mod model;
mod parts;
mod random;
mod refusals;
mod resident;
mod rest;
mod ring;
mod roundtrip;
mod scrub;
mod snapshot_errors;
mod space;
mod stray;
mod torn_after_damage;
mod unreadable;
mod verdict;
