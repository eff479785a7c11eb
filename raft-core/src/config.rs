//! The options of a node. They never change during its life; `recover` checks them.

use core::fmt;

use crate::types::{ClusterId, GroupId, Lineage, Member, NodeId, Span};

/// The most entries in one message: what every peer accepts, whatever its configuration says.
pub const MESSAGE_ENTRIES_MAX: usize = 1 << 16;

/// The most payload bytes in one message: what every peer accepts.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// What a host decides before a node starts.
///
/// Times are in microseconds. The defaults suit a local network; only the identity must be given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The cluster; messages of another one are refused.
    pub cluster: ClusterId,
    /// The group; messages of another one are refused.
    pub group: GroupId,
    /// This server.
    pub id: NodeId,
    /// The lineage of this server's data directory.
    pub lineage: Lineage,
    /// The key of the election jitter. Nodes may share it: the draw is keyed by node as well.
    pub seed: u64,
    /// The shortest time without a leader after which a node campaigns (§5.2). The longest is just
    /// under twice this. It is also how long a follower sticks to a leader that it has heard.
    pub election_timeout_us: u64,
    /// How often a leader speaks to a silent group. At most half of the election timeout.
    pub heartbeat_interval_us: u64,
    /// Ask whether an election could be won before raising the term (thesis §9.6).
    pub pre_vote: bool,
    /// A leader looks once in an election timeout whether a quorum has answered since the last look,
    /// and steps down if not (thesis §6.2): at the latest two timeouts after it lost them. And
    /// followers that hear a leader ignore candidates (thesis §4.2.3).
    pub check_quorum: bool,
    /// The largest command, in bytes. A larger proposal is refused.
    pub command_bytes_max: usize,
    /// The most payload bytes in one AppendEntries; one entry is always admitted.
    pub append_bytes_max: usize,
    /// The most entries in one AppendEntries.
    pub append_entries_max: usize,
    /// The most AppendEntries on the way to one peer (thesis §10.2.1).
    pub inflight_appends_max: usize,
    /// The most payload bytes that a leader holds uncommitted; an empty quota always admits one
    /// proposal.
    pub uncommitted_bytes_max: usize,
    /// The most payload bytes handed out by `Apply` and not yet confirmed; one entry is always
    /// admitted.
    pub unapplied_bytes_max: usize,
    /// The most requests (proposals and reads, each) that wait for an outcome.
    pub requests_max: usize,
    /// The size of one snapshot chunk, in bytes.
    pub snapshot_chunk_bytes: usize,
    /// Entries kept in the log behind a snapshot, for followers that lag a little.
    pub kept_behind_snapshot: u64,
}

impl Config {
    /// The default options for one server with its data directory.
    #[must_use]
    pub fn new(cluster: ClusterId, group: GroupId, member: Member) -> Self {
        Self {
            cluster,
            group,
            id: member.id,
            lineage: member.lineage,
            seed: 0,
            election_timeout_us: 1_000_000,
            heartbeat_interval_us: 100_000,
            pre_vote: true,
            check_quorum: true,
            command_bytes_max: 1 << 20,
            append_bytes_max: 256 << 10,
            append_entries_max: 1024,
            inflight_appends_max: 64,
            uncommitted_bytes_max: 16 << 20,
            unapplied_bytes_max: 4 << 20,
            requests_max: 4096,
            snapshot_chunk_bytes: 64 << 10,
            kept_behind_snapshot: 0,
        }
    }

    /// This server together with its lineage: what a membership names.
    #[must_use]
    pub fn member(&self) -> Member {
        Member { id: self.id, lineage: self.lineage }
    }

    /// The election timeout as a span.
    #[must_use]
    pub fn election_timeout(&self) -> Span {
        Span(self.election_timeout_us)
    }

    /// The heartbeat interval as a span.
    #[must_use]
    pub fn heartbeat_interval(&self) -> Span {
        Span(self.heartbeat_interval_us)
    }

    /// Checks that the options make sense together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first option that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.heartbeat_interval_us == 0 {
            return Err(ConfigError::ZeroHeartbeat);
        }
        if self.election_timeout_us / 2 < self.heartbeat_interval_us {
            return Err(ConfigError::ElectionTimeoutTooShort);
        }
        if self.election_timeout_us >= 1 << 40 {
            return Err(ConfigError::ElectionTimeoutTooLong);
        }
        let limits = [
            self.command_bytes_max,
            self.append_bytes_max,
            self.append_entries_max,
            self.inflight_appends_max,
            self.uncommitted_bytes_max,
            self.unapplied_bytes_max,
            self.requests_max,
            self.snapshot_chunk_bytes,
        ];
        if limits.contains(&0) {
            return Err(ConfigError::ZeroLimit);
        }
        let in_a_message =
            [self.command_bytes_max, self.append_bytes_max, self.snapshot_chunk_bytes];
        let is_too_large = limits.iter().any(|&limit| limit > 1 << 31)
            || in_a_message.iter().any(|&limit| limit > MESSAGE_BYTES_MAX)
            || self.append_entries_max > MESSAGE_ENTRIES_MAX;
        if is_too_large {
            return Err(ConfigError::LimitTooLarge);
        }
        Ok(())
    }
}

/// Why a set of options is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigError {
    /// The heartbeat interval is zero.
    ZeroHeartbeat,
    /// The election timeout is less than two heartbeat intervals.
    ElectionTimeoutTooShort,
    /// The election timeout is 2^40 microseconds (twelve days) or more.
    ElectionTimeoutTooLong,
    /// A limit is zero: nothing would ever be admitted.
    ZeroLimit,
    /// A limit is above 2^31, or allows a message that no peer accepts.
    LimitTooLarge,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroHeartbeat => "the heartbeat interval is zero",
            Self::ElectionTimeoutTooShort => {
                "the election timeout is less than two heartbeat intervals"
            }
            Self::ElectionTimeoutTooLong => "the election timeout is twelve days or more",
            Self::ZeroLimit => "a limit is zero",
            Self::LimitTooLarge => "a limit is too large",
        })
    }
}

impl core::error::Error for ConfigError {}
