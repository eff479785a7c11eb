//! What a host decides before a replica starts.

use raft_core::Config;

/// What a host decides before a replica starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplicaOptions {
    /// The options of the core.
    pub config: Config,
    /// The most client sessions that stay open; zero counts as one. A leader writes it into the
    /// log, so members may differ.
    pub sessions_max: u32,
    /// Make a snapshot once this many entries were applied since the last one.
    pub snapshot_after_entries: u64,
    /// Make a snapshot once entries of this many bytes were applied since the last one.
    pub snapshot_after_bytes: u64,
    /// The most bytes of a snapshot that are read at once when the state is replaced by it; zero counts
    /// as one. Between two parts the replica does everything else, and a part is all that is in memory
    /// beside what was made of those before it.
    pub restore_part_bytes: usize,
    /// Keep what the core is given for [`Replica::take_recorded`](crate::replica::Replica::take_recorded),
    /// which must be called then.
    pub is_recorded: bool,
}

impl ReplicaOptions {
    /// The default options around those of the core.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            sessions_max: 4096,
            snapshot_after_entries: 100_000,
            snapshot_after_bytes: 64 << 20,
            restore_part_bytes: 1 << 20,
            is_recorded: false,
        }
    }
}
