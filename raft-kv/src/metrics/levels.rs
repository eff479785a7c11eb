//! What stands at some height now: read off the server when somebody asks for the page.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What the gauges show, read off a server now and then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// The term.
    pub term: u64,
    /// The commit index.
    pub commit: u64,
    /// The last applied index.
    pub applied: u64,
    /// The last index of the log.
    pub last: u64,
    /// How many entries the log still has.
    pub log_entries: u64,
    /// The last index that the newest snapshot covers.
    pub snapshot: u64,
    /// Whether this server leads.
    pub is_leader: bool,
    /// Whether it knows a leader.
    pub has_leader: bool,
    /// How many voters there are, in both halves of a change that is under way.
    pub voters: u64,
    /// How many learners there are.
    pub learners: u64,
    /// How many commands, reads and operators' wishes have no answer yet.
    pub requests_open: u64,
    /// Bytes of request bodies in the server.
    pub inflight_bytes: u64,
    /// How many clients watch.
    pub watchers: u64,
    /// How many keys there are.
    pub keys: u64,
    /// About how much memory they and their values take, in bytes.
    pub state_bytes: u64,
    /// What the system says the process has in memory, in bytes.
    pub resident_bytes: u64,
    /// What is free where the data is, in bytes.
    pub disk_free_bytes: u64,
    /// Whether writes that grow are refused.
    pub is_full: bool,
    /// Entries whose payloads cannot be read.
    pub damaged_entries: u64,
    /// Whether the newest snapshot cannot be read.
    pub is_snapshot_damaged: bool,
    /// Whether the end of the log is in doubt.
    pub is_tail_unknown: bool,
    /// How many clients and single commands are remembered.
    pub names: u64,
    /// How many clients have been forgotten for others: a counter, kept in the replicated state.
    pub forgotten_clients: u64,
    /// The other servers.
    pub peers: Vec<PeerLevels>,
}

/// What is known of another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerLevels {
    /// Its number.
    pub id: u64,
    /// Whether a connection to it stands.
    pub is_connected: bool,
    /// How many entries of the log it is behind; only a leader knows.
    pub lag: Option<u64>,
    /// How long it has not been heard, in milliseconds, if it ever was.
    pub silence_ms: Option<u64>,
}

type Row = (&'static str, &'static str, fn(&Levels) -> u64);

/// All gauges that have one value.
const GAUGES: [Row; 22] = [
    ("term", "The term", |levels| levels.term),
    ("commit_index", "The highest index known to be committed", |levels| levels.commit),
    ("applied_index", "The last applied index", |levels| levels.applied),
    ("last_index", "The last index of the log", |levels| levels.last),
    ("log_entries", "Entries that the log still has", |levels| levels.log_entries),
    ("snapshot_index", "The last index that the newest snapshot covers", |levels| levels.snapshot),
    ("is_leader", "Whether this server leads", |levels| levels.is_leader.into()),
    ("has_leader", "Whether it knows a leader", |levels| levels.has_leader.into()),
    ("voters", "Members that vote", |levels| levels.voters),
    ("learners", "Members that do not vote", |levels| levels.learners),
    ("requests_open", "Requests to the node that have no answer yet", |levels| {
        levels.requests_open
    }),
    ("inflight_bytes", "Bytes of request bodies in the server", |levels| levels.inflight_bytes),
    ("watchers", "Clients that watch", |levels| levels.watchers),
    ("keys", "How many keys there are", |levels| levels.keys),
    ("state_bytes", "Memory for keys and values, about", |levels| levels.state_bytes),
    ("resident_bytes", "Memory of the process", |levels| levels.resident_bytes),
    ("disk_free_bytes", "Room where the data is", |levels| levels.disk_free_bytes),
    ("is_full", "Whether writes that grow are refused", |levels| levels.is_full.into()),
    ("damaged_entries", "Entries that cannot be read", |levels| levels.damaged_entries),
    ("is_snapshot_damaged", "Whether the newest snapshot cannot be read", |levels| {
        levels.is_snapshot_damaged.into()
    }),
    ("is_tail_unknown", "Whether the end of the log is in doubt", |levels| {
        levels.is_tail_unknown.into()
    }),
    ("names", "Clients and single commands remembered for their retries", |levels| levels.names),
];

type ByPeer = Family<[(&'static str, u64); 1], Gauge>;

/// The gauges.
pub(super) struct Gauges {
    single: [Gauge; GAUGES.len()],
    connected: ByPeer,
    lag: ByPeer,
    silence: ByPeer,
}

impl Gauges {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let single = GAUGES.map(|(name, help, _)| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        });
        let mut by_peer = |name: &str, help: &str| {
            let family = ByPeer::default();
            registry.register(name, help, family.clone());
            family
        };
        let connected = by_peer("peer_connected", "Whether a connection to it stands");
        let lag = by_peer("peer_lag_entries", "Entries that it is behind, as a leader knows");
        let silence = by_peer("peer_silence_milliseconds", "How long it has not been heard");
        Self { single, connected, lag, silence }
    }

    pub(super) fn set(&self, levels: &Levels) {
        for (gauge, (_, _, read)) in self.single.iter().zip(GAUGES) {
            gauge.set(level(read(levels)));
        }
        // A server that has left has no level any more.
        for family in [&self.connected, &self.lag, &self.silence] {
            family.clear();
        }
        for peer in &levels.peers {
            let is_connected = Some(u64::from(peer.is_connected));
            let rows = [
                (&self.connected, is_connected),
                (&self.lag, peer.lag),
                (&self.silence, peer.silence_ms),
            ];
            for (family, value) in rows {
                if let Some(value) = value {
                    family.get_or_create(&[("peer", peer.id)]).set(level(value));
                }
            }
        }
    }
}

fn level(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
