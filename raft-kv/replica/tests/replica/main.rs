//! Replicas as their hosts see them: whole groups in one process, frames and disk work included.

mod cluster;
mod recorded;
mod requests;
mod snapshots;
mod space;
