//! The order of effects: no host can break safety by it.
//!
//! A property of a whole cluster, so it lives beside the fuzz targets, whose cluster and ghost it
//! shares, and not in raft-core, which depends on no other crate even for its tests.

mod commuting;
mod divided;
mod found;
mod histories;
mod leases;
