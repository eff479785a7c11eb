//! What a server is told: identity, addresses, limits. Parsed once; what is inside is valid.
//!
//! The same settings come from three places: a file for all nodes, the environment (`RAFT_KV_*`) and
//! the command line; the later one wins. While the server runs, what secret files hold may change,
//! and nothing else.

mod advertised;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use raft_core::{ClusterId, Config, GroupId, Lineage, Member, NodeId};
use raft_replica::kv::KEY_BYTES_MAX;
use raft_replica::replica::ReplicaOptions;
use serde::{Deserialize, Serialize};

pub(crate) use advertised::{advertised, is_unspecified, is_unspecified_url};
pub(crate) use settings::token_in;
pub use settings::{PeerFlag, Settings};

use crate::tls::Files;

/// The longest value that any server may be told to take, in bytes.
const VALUE_BYTES_LIMIT: usize = 64 << 20;

/// The most bytes of request bodies that any server may be told to hold: more than a machine has, and
/// less than can be counted.
const INFLIGHT_BYTES_LIMIT: usize = if usize::BITS > 40 { 1 << 40 } else { usize::MAX >> 3 };

/// The most watchers that any server may be told to bear: it answers no more connections.
const WATCHERS_LIMIT: usize = 16_384;

/// The room that a command's key, condition and names take beside its value.
const COMMAND_EXTRA_BYTES: usize = 16 << 10;

/// What a follower does with a request that only the leader can answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFollower {
    /// Passes it on and brings the answer back.
    #[default]
    Forward,
    /// Answers 307 with the leader's URL.
    Redirect,
    /// Answers 503.
    Refuse,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// A bearer token. Where all else is printed, it is not.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl From<String> for Token {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A server's configuration.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// This server.
    pub id: NodeId,
    /// Where it listens to other servers.
    pub addr: String,
    /// Where other servers reach it, if that is not where it listens. Needed where it listens at every
    /// address of the machine.
    pub advertise_addr: Option<String>,
    /// Where it listens to clients.
    pub client_addr: String,
    /// The base of its URLs for clients, if that is not where it listens; needed as above.
    pub advertise_client_url: Option<String>,
    /// The other servers of the cluster, as far as the operator names them: the other founders.
    pub peers: BTreeMap<NodeId, String>,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// The shortest time without a leader after which it campaigns.
    pub election_timeout: Duration,
    /// How often a leader speaks.
    pub heartbeat: Duration,
    /// What a follower does with what only the leader can do.
    pub on_follower: OnFollower,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// The longest key, in bytes.
    pub key_bytes_max: usize,
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
    /// The most bytes of request bodies in the server.
    pub inflight_bytes_max: usize,
    /// The most clients that watch at a time.
    pub watchers_max: usize,
    /// The most memory that the process may use before growing writes are refused.
    pub memory_bytes_max: Option<u64>,
    /// The least free bytes on the disk before growing writes are refused.
    pub disk_reserve_bytes: u64,
    /// Make a snapshot after so many entries.
    pub snapshot_after_entries: u64,
    /// How much of the disk is looked through in a second for damage; zero: nothing.
    pub scrub_bytes_per_s: u64,
    /// The file in which all that the core is given is written down; `None`: it is not.
    pub flight_recorder: Option<PathBuf>,
    /// The most bytes of that file.
    pub flight_recorder_bytes: u64,
    /// What servers show each other; `None`: they speak plain TCP.
    pub peer_tls: Option<Files>,
    /// What it shows to clients; `None`: they speak plain HTTP.
    pub client_tls: Option<Files>,
    /// Whether clients must show a certificate.
    pub client_auth: bool,
    /// Clients must show this token.
    pub token: Option<Token>,
    /// The file that the token comes from, if it comes from one: it may be read again.
    pub token_file: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
}

impl ServerConfig {
    /// A server with the default limits.
    #[must_use]
    pub fn new(id: u64, addr: &str, client_addr: &str, data_dir: PathBuf) -> Self {
        Self {
            id: NodeId(id),
            addr: addr.to_owned(),
            advertise_addr: None,
            client_addr: client_addr.to_owned(),
            advertise_client_url: None,
            peers: BTreeMap::new(),
            data_dir,
            election_timeout: Duration::from_millis(300),
            heartbeat: Duration::from_millis(50),
            on_follower: OnFollower::default(),
            request_timeout: Duration::from_secs(5),
            key_bytes_max: 1 << 10,
            value_bytes_max: 1 << 20,
            inflight_bytes_max: 64 << 20,
            watchers_max: 1024,
            memory_bytes_max: None,
            disk_reserve_bytes: 128 << 20,
            snapshot_after_entries: 100_000,
            scrub_bytes_per_s: 1 << 20,
            flight_recorder: None,
            flight_recorder_bytes: 64 << 20,
            peer_tls: None,
            client_tls: None,
            client_auth: false,
            token: None,
            token_file: None,
            log_format: LogFormat::default(),
        }
    }

    /// The base of its URLs for clients.
    #[must_use]
    pub fn client_url(&self) -> String {
        let scheme = if self.client_tls.is_some() { "https" } else { "http" };
        let url = self.advertise_client_url.clone();
        url.unwrap_or_else(|| format!("{scheme}://{}", self.client_addr))
    }

    /// How long a request waits for a leader: most elections are over by then.
    #[must_use]
    pub fn leader_patience(&self) -> Duration {
        (self.election_timeout * 4).min(self.request_timeout)
    }

    /// The options of the replica of this member.
    #[must_use]
    pub fn replica_options(&self, cluster: ClusterId, lineage: Lineage) -> ReplicaOptions {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let member = Member { id: self.id, lineage };
        let config = Config {
            election_timeout_us: micros(self.election_timeout),
            heartbeat_interval_us: micros(self.heartbeat),
            lease_us: micros(self.election_timeout) / 2,
            seed: lineage.0,
            // What clients may write is limited where they are answered. What another member has taken
            // must be taken here too, even if that one was told to take more.
            command_bytes_max: VALUE_BYTES_LIMIT + COMMAND_EXTRA_BYTES,
            promotion_lag_entries_max: 1024,
            requests_max: 16 << 10,
            kept_behind_snapshot: 10_000,
            ..Config::new(cluster, GroupId(1), member)
        };
        ReplicaOptions {
            snapshot_after_entries: self.snapshot_after_entries,
            is_recorded: self.flight_recorder.is_some(),
            ..ReplicaOptions::new(config)
        }
    }

    /// Checks that the settings make sense together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first one that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |what: &str| Err(ConfigError(what.to_owned()));
        if self.id.0 == 0 {
            return wrong("--id is a number from 1");
        }
        if self.peers.contains_key(&self.id) {
            return wrong("--peer names this server itself");
        }
        self.validate_addresses()?;
        if self.key_bytes_max == 0 || self.key_bytes_max > KEY_BYTES_MAX {
            return wrong("--max-key-bytes is 1 to 4096");
        }
        if self.value_bytes_max == 0 || self.value_bytes_max > VALUE_BYTES_LIMIT {
            return wrong("--max-value-bytes is 1 to 67108864 (64 MiB)");
        }
        if self.request_timeout.is_zero() {
            return wrong("--request-timeout-ms is at least 1");
        }
        if self.client_auth && self.client_tls.is_none() {
            return wrong("--client-auth needs --client-cert, --client-key and --client-ca");
        }
        if self.snapshot_after_entries == 0 {
            return wrong("--snapshot-after-entries is at least 1");
        }
        if self.inflight_bytes_max < self.value_bytes_max.saturating_mul(6).saturating_add(64) {
            return wrong("--max-inflight-bytes has room for six of the longest values at least");
        }
        if self.watchers_max > WATCHERS_LIMIT {
            return wrong("--max-watchers is at most 16384");
        }
        if self.inflight_bytes_max > INFLIGHT_BYTES_LIMIT {
            return wrong("--max-inflight-bytes is at most 1099511627776 (1 TiB)");
        }
        let options = self.replica_options(ClusterId(1), Lineage(1));
        options.config.validate().map_err(|error| ConfigError(error.to_string()))
    }

    /// What others are told must lead them here, and not to themselves.
    fn validate_addresses(&self) -> Result<(), ConfigError> {
        let Self { addr, advertise_addr, client_addr, advertise_client_url, .. } = self;
        let everywhere = "is every address of a machine";
        let wrong = |what: String| Err(ConfigError(what));
        match advertise_addr {
            None if is_unspecified(addr) => {
                return wrong(format!(
                    "--addr {addr} {everywhere}: --advertise-addr must say where other servers reach it"
                ));
            }
            Some(address) if is_unspecified(address) => {
                return wrong(format!("--advertise-addr {address} {everywhere}: name one"));
            }
            Some(_) | None => {}
        }
        match advertise_client_url {
            None if is_unspecified(client_addr) => {
                return wrong(format!(
                    "--client-addr {client_addr} {everywhere}: --advertise-client-url must say where \
                     clients reach it"
                ));
            }
            Some(url) if is_unspecified_url(url) => {
                return wrong(format!("--advertise-client-url {url} {everywhere}: name one"));
            }
            Some(_) | None => {}
        }
        if addr == client_addr && !addr.ends_with(":0") {
            return wrong(format!("--addr and --client-addr are both {addr}"));
        }
        let own = advertise_addr.as_ref().unwrap_or(addr);
        for (NodeId(id), address) in &self.peers {
            if is_unspecified(address) {
                return wrong(format!(
                    "server {id} cannot be reached at {address}, which {everywhere}: name one"
                ));
            }
            if address == own {
                return wrong(format!("server {id} has the address of this one, {own}"));
            }
        }
        Ok(())
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_prints_settings_does_not_tell_the_token() {
        let token = Some(Token::from("sesame".to_owned()));
        let mut config = ServerConfig::new(1, "a:1", "b:2", "d".into());
        config.token = token.clone();
        let settings = Settings { token, ..Settings::default() };
        for printed in [format!("{config:?}"), format!("{settings:#?}")] {
            assert!(!printed.contains("sesame") && printed.contains("Token(..)"), "{printed}");
        }
    }
}
