//! The binary as people run it: real processes, real disks, real sockets, `kill -9`.
#![expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]

mod backups;
mod command_line;
mod connections;
mod local_cluster;
mod readmission;
mod servers;
mod support;
mod suspended;
#[cfg(feature = "tls")]
mod tls;
mod tour;
