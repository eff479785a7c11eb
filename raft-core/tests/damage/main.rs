//! Disks that give back less than was written: what a node then claims, asks for, and waits for.

mod barrier;
mod follower;
mod found;
mod found_snapshots;
mod leader;
mod removed;
mod snapshots;
#[expect(dead_code, reason = "shared with tests of the core that look at more")]
#[path = "../core/support.rs"]
mod support;

use raft_core::{Index, Time};

use crate::support::Cluster;

impl Cluster {
    /// Nobody has heard a leader for so long that all are free to elect another one.
    pub(crate) fn fall_silent(&mut self) {
        self.network.clear();
        self.now = Time(self.now.0 + 1_000);
    }

    /// A node stops, these entries of its log break, and it starts again.
    pub(crate) fn break_entries(&mut self, id: u64, indices: &[u64]) {
        let mut server = self.servers.remove(&id).expect("the test names a node of the cluster");
        server.disk.damaged.extend(indices.iter().map(|index| Index(*index)));
        self.start(server.config, server.disk);
    }

    /// A node stops, its log loses the entries from `from` on, and it starts again knowing that it
    /// may have lost some.
    pub(crate) fn lose_tail(&mut self, id: u64, from: u64) {
        let mut server = self.servers.remove(&id).expect("the test names a node of the cluster");
        server.disk.log.retain(|entry| entry.index() < Index(from));
        server.disk.hard_state.is_tail_unknown = true;
        self.start(server.config, server.disk);
    }
}
