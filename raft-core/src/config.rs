//! The options of a node. They never change during its life; `recover` checks them.

use core::fmt;

use crate::types::{ClusterId, GroupId, Lineage, Member, NodeId, Span};

/// The most entries in one message that any configuration may ask for. Every peer's
/// [`step`](crate::Raft::step) accepts as many; its transport may not, see [`crate::wire::Limits`].
pub const MESSAGE_ENTRIES_MAX: usize = 1 << 16;

/// The most payload bytes in one message that any configuration may ask for.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Election timeouts, and with them leases, are below this many microseconds (twelve days).
pub const ELECTION_TIMEOUT_LIMIT: u64 = 1 << 40;

/// The highest election priority.
pub const PRIORITY_MAX: u8 = 7;

/// What a host decides before a node starts.
///
/// Times are in microseconds, sizes in bytes of payload. The defaults suit a local network; only the
/// identity must be given. Unless a field says otherwise, a limit is 1 to 2^31. What has no range takes
/// any value; [`Config::validate`] checks the ranges, and `recover` calls it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(C)] // For cache locality alone; not part of the interface.
pub struct Config {
    /// The cluster; messages of another one are refused.
    pub cluster: ClusterId,
    /// The group; messages of another one are refused.
    pub group: GroupId,
    /// This server.
    pub id: NodeId,
    /// The lineage of this server's data directory.
    pub lineage: Lineage,
    /// The shortest time without a leader after which a node campaigns (§5.2). The longest is just
    /// under twice this. It is also how long a follower sticks to a leader that it has heard. It must
    /// be much longer than messages and their answers take, or elections follow each other (§5.6).
    /// Default one second; at least two heartbeat intervals, below [`ELECTION_TIMEOUT_LIMIT`].
    pub election_timeout_us: u64,
    /// How often a leader speaks to a silent group. Default 100 ms; at least 1, at most half of the
    /// election timeout.
    pub heartbeat_interval_us: u64,
    /// For how long followers are asked not to elect another leader, so that the leader may answer
    /// reads without asking (thesis §6.4.1). 0, the default: no leases; at most the election timeout.
    /// A node that has once promised so much waits that long at every later start, even if the option is
    /// lowered, before it votes or campaigns.
    pub lease_us: u64,
    /// By how many percent the fastest clock of the group may outrun the slowest. Followers keep
    /// a promise that much longer. Default 10, 0 to 100.
    pub clock_drift_percent: u8,
    /// How soon this node campaigns when there is no leader: 0 to [`PRIORITY_MAX`], the default.
    /// Each step below the highest makes it wait half an election timeout longer. Nobody is
    /// excluded: where only nodes of low priority are left, one of them leads; and after a vote that
    /// elected no leader, the priority no longer delays.
    pub priority: u8,
    /// Ask whether an election could be won before raising the term (thesis §9.6). Default true.
    /// Without it, a member that lags behind or comes back raises the term again and again, and
    /// leaders come and go until it has caught up.
    pub pre_vote: bool,
    /// A leader looks once in an election timeout whether a quorum has answered since the last look,
    /// and steps down if not (thesis §6.2): at the latest two timeouts after it lost them. And
    /// followers that hear a leader ignore candidates (thesis §4.2.3). Without it a leader that is
    /// alone stays one, and a read that waits for a quorum waits as long as that: its ticket has no
    /// end before a quorum answers or the leader steps down. Default true.
    pub check_quorum: bool,
    /// The most payload bytes of the log that stay in memory once they are applied and durable; while
    /// the state machine is slow, `unapplied_bytes_max` more. What is colder is asked for with `Load`.
    /// A disk that is slow may hold back `uncommitted_bytes_max` on top of both. Default 16 MiB.
    pub resident_bytes_max: usize,
    /// A learner may become a voter if it lacks at most this many of the committed entries. Default 256.
    pub promotion_lag_entries_max: u64,
    /// The largest command. A larger proposal is refused. Default 1 MiB; 1 to [`MESSAGE_BYTES_MAX`].
    pub command_bytes_max: usize,
    /// The most payload bytes in one AppendEntries; one entry is always admitted. Default 256 KiB;
    /// 1 to [`MESSAGE_BYTES_MAX`].
    pub append_bytes_max: usize,
    /// The most entries in one AppendEntries. Default 1024; 1 to [`MESSAGE_ENTRIES_MAX`].
    pub append_entries_max: usize,
    /// The most AppendEntries on the way to one peer (thesis §10.2.2). Default 64.
    pub inflight_appends_max: usize,
    /// The most payload bytes in AppendEntries on the way to one peer; one message is always
    /// admitted. Default 8 MiB.
    pub inflight_bytes_max: usize,
    /// The most payload bytes that a leader holds uncommitted; an empty quota always admits one
    /// proposal. Default 16 MiB.
    pub uncommitted_bytes_max: usize,
    /// The most payload bytes handed out by `Apply` and not yet confirmed; one entry is always
    /// admitted. Default 4 MiB.
    pub unapplied_bytes_max: usize,
    /// The most requests (proposals and reads, each) that wait for an outcome. Default 4096.
    pub requests_max: usize,
    /// The size of one snapshot chunk. Default 64 KiB; 1 to [`MESSAGE_BYTES_MAX`].
    pub snapshot_chunk_bytes: usize,
    /// How many entries stay in the log behind a snapshot, for followers that lag a little: a number
    /// of entries, not of bytes. Default 0, any number.
    pub kept_behind_snapshot: u64,
    /// The key of the election jitter. Nodes may share it: the draw is keyed by node as well.
    /// Default 0.
    pub seed: u64,
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
            priority: PRIORITY_MAX,
            lease_us: 0,
            clock_drift_percent: 10,
            promotion_lag_entries_max: 256,
            command_bytes_max: 1 << 20,
            append_bytes_max: 256 << 10,
            append_entries_max: 1024,
            inflight_appends_max: 64,
            inflight_bytes_max: 8 << 20,
            uncommitted_bytes_max: 16 << 20,
            unapplied_bytes_max: 4 << 20,
            resident_bytes_max: 16 << 20,
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

    /// The lease that a leader asks for.
    #[must_use]
    pub fn lease(&self) -> Span {
        Span(self.lease_us)
    }

    /// For how long a node that promises `lease` must keep its promise by its own clock, which may be the
    /// fastest while the asker's is the slowest.
    #[must_use]
    pub fn promise(&self, lease: Span) -> Span {
        let drift = lease.0.div_ceil(100).saturating_mul(u64::from(self.clock_drift_percent));
        Span(lease.0.saturating_add(drift))
    }

    /// How much longer than others this node waits before it campaigns.
    #[must_use]
    pub fn priority_delay(&self) -> Span {
        if self.priority == PRIORITY_MAX {
            return Span(0); // Nearly always, and asked whenever a leader speaks.
        }
        let steps = u64::from(PRIORITY_MAX.saturating_sub(self.priority));
        Span(self.election_timeout_us / 2 * steps)
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
        if self.election_timeout_us >= ELECTION_TIMEOUT_LIMIT {
            return Err(ConfigError::ElectionTimeoutTooLong);
        }
        if self.lease_us > self.election_timeout_us {
            return Err(ConfigError::LeaseTooLong);
        }
        if self.clock_drift_percent > 100 {
            return Err(ConfigError::DriftTooLarge);
        }
        if self.priority > PRIORITY_MAX {
            return Err(ConfigError::PriorityTooHigh);
        }
        self.validate_limits()
    }

    /// Each limit admits something, and no more than a peer accepts.
    fn validate_limits(&self) -> Result<(), ConfigError> {
        const ANY: usize = 1 << 31;
        let limits = [
            ("command_bytes_max", self.command_bytes_max, MESSAGE_BYTES_MAX),
            ("append_bytes_max", self.append_bytes_max, MESSAGE_BYTES_MAX),
            ("append_entries_max", self.append_entries_max, MESSAGE_ENTRIES_MAX),
            ("inflight_appends_max", self.inflight_appends_max, ANY),
            ("inflight_bytes_max", self.inflight_bytes_max, ANY),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max, ANY),
            ("unapplied_bytes_max", self.unapplied_bytes_max, ANY),
            ("resident_bytes_max", self.resident_bytes_max, ANY),
            ("requests_max", self.requests_max, ANY),
            ("snapshot_chunk_bytes", self.snapshot_chunk_bytes, MESSAGE_BYTES_MAX),
        ];
        for (option, value, max) in limits {
            if value == 0 {
                return Err(ConfigError::ZeroLimit { option });
            }
            if value > max {
                return Err(ConfigError::LimitTooLarge { option, max });
            }
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
    /// The lease is longer than the election timeout.
    LeaseTooLong,
    /// The clock drift is above 100 percent.
    DriftTooLarge,
    /// The priority is above [`PRIORITY_MAX`].
    PriorityTooHigh,
    /// A limit is zero: nothing would ever be admitted.
    ZeroLimit {
        /// The field of [`Config`].
        option: &'static str,
    },
    /// A limit is above 2^31, or allows a message that no peer accepts.
    LimitTooLarge {
        /// The field of [`Config`].
        option: &'static str,
        /// The most that it may be.
        max: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroHeartbeat => "the heartbeat interval is zero",
            Self::ElectionTimeoutTooShort => {
                "the election timeout is less than two heartbeat intervals"
            }
            Self::ElectionTimeoutTooLong => "the election timeout is twelve days or more",
            Self::LeaseTooLong => "the lease is longer than the election timeout",
            Self::DriftTooLarge => "the clock drift is above 100 percent",
            Self::PriorityTooHigh => "the priority is above 7",
            Self::ZeroLimit { option } => return write!(f, "{option} is zero"),
            Self::LimitTooLarge { option, max } => {
                return write!(f, "{option} is above {max}");
            }
        })
    }
}

impl core::error::Error for ConfigError {}
