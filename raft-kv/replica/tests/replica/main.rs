//! Replicas as their hosts see them: whole groups in one process, frames and disk work included.

mod cluster;
mod requests;
mod snapshots;
