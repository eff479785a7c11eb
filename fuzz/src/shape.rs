//! Who founds a fuzzed cluster, and with which options.

use raft_core::config::PRIORITY_MAX;
use raft_core::{ClusterId, Config, GroupId, Member, Membership};

/// The option by which payloads leave the memory early.
const COLD: u8 = 6;

/// Sizes and options of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// From 1 to 5.
    pub voters: usize,
    /// Founders beside the voters.
    pub learners: usize,
    /// Servers that are given nothing and wait to be added.
    pub spares: usize,
    /// Each bit is a choice.
    pub options: u8,
    /// Whether every second server has another pre-vote than the options say.
    pub is_mixed: bool,
}

impl Shape {
    /// Two bytes, read as a shape.
    #[must_use]
    pub fn from_bytes(options: u8, size: u8) -> Self {
        let voters = [3, 3, 1, 2, 4, 5, 3, 2][usize::from(size % 8)];
        let learners = usize::from(size / 8 % 4 == 3);
        let (rest, is_mixed) = (size / 32, size / 32 >= 6);
        Self { voters, learners, spares: usize::from(rest % 3), options, is_mixed }
    }

    /// All servers.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.voters + self.learners + self.spares
    }

    /// The servers' first identities: founders, then spares.
    pub(crate) fn members(&self) -> Vec<Member> {
        (1..=self.servers() as u64).map(|id| Member::new(id, id * 7)).collect()
    }

    /// What the founders start from.
    pub(crate) fn founders(&self) -> Membership {
        let all = self.members();
        let (voters, others) = all.split_at(self.voters);
        let learners = others[..self.learners].to_vec();
        Membership::new(voters.to_vec(), learners).expect("each is named once")
    }

    /// The same, with enough memory for every entry.
    pub(crate) fn all_in_memory(self) -> Self {
        Self { options: self.options & !(1 << COLD), ..self }
    }

    /// Small limits, so that a few steps reach them.
    pub(crate) fn config(&self, member: Member) -> Config {
        let has = |bit: u8| self.options >> bit & 1 == 1;
        let mut config = Config {
            pre_vote: has(0) == (self.is_mixed && member.id.0.is_multiple_of(2)),
            check_quorum: !has(1),
            kept_behind_snapshot: u64::from(self.options >> 2 & 3),
            seed: u64::from(self.options >> 7),
            promotion_lag_entries_max: 3,
            command_bytes_max: 8,
            append_bytes_max: 12,
            append_entries_max: 3,
            inflight_appends_max: 2,
            inflight_bytes_max: 16,
            uncommitted_bytes_max: 40,
            unapplied_bytes_max: 10,
            requests_max: 6,
            snapshot_chunk_bytes: 4,
            ..Config::new(ClusterId(1), GroupId(1), member)
        };
        if has(4) {
            config.lease_us = config.election_timeout_us / 2;
        }
        if has(COLD) {
            config.resident_bytes_max = 6;
        }
        if has(5) {
            config.priority = PRIORITY_MAX - u8::from(member.id.0 == 2);
        }
        config
    }
}
