//! This project's core, as [`Group`] hosts it.
//!
//! All is on that is on by default: pre-vote, check-quorum, sticky followers, the chain of checksums
//! over every entry, a durable incarnation at each start, tickets (every proposal is answered; the
//! others leave that to their hosts). Disks confirm one step later, never within the call. Over the
//! wire: this crate's own format, which `raft_core::wire` checks as it decodes.

use crate::contest::{Contestant, Cut, Shape};
use crate::group::{Buffers, Group};

impl Contestant for Group {
    type Buffers = Option<Box<Buffers>>;

    const NAME: &'static str = "ours";

    fn cold(shape: Shape) -> Self {
        Self::cold(shape)
    }

    fn elect(&mut self) {
        self.elect();
    }

    fn commit(&mut self, commands: u64, outstanding: u64) {
        self.commit(commands, outstanding);
    }

    fn commit_batches(&mut self, batches: u64, size: u64) {
        let goal = self.costs().commits + batches * size;
        for _ in 0..batches {
            self.commit_batch(size);
        }
        assert_eq!(self.costs().commits, goal, "a group without faults commits everything");
    }

    fn pile_up(&mut self, batches: u64, size: u64) {
        for _ in 0..batches {
            self.commit_batch(size);
        }
    }

    fn cut(&mut self, cut: Cut) {
        self.cut(cut);
    }

    fn catch_up(&mut self) {
        self.cut(Cut::Nobody);
        // Silence ends with the next heartbeat: its answer shows that the follower is back.
        self.pass_interval();
        assert!(self.is_level(), "one exchange wakes the follower, and the rest follows at once");
    }

    fn exchange(&mut self, buffers: &mut Self::Buffers) {
        self.exchange(buffers);
    }

    fn idle(&mut self) {
        self.pass_interval();
    }
}
