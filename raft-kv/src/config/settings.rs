//! The settings as they are written down: in a file, in the environment, on the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use raft_core::NodeId;
use serde::{Deserialize, Serialize};

use super::{ConfigError, LogFormat, OnFollower, ServerConfig, Token};
use crate::tls::Files;

/// `ID=ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFlag {
    /// The server.
    pub id: u64,
    /// Where other servers reach it.
    pub address: String,
}

impl FromStr for PeerFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, address) = text.split_once('=').ok_or("it is ID=HOST:PORT")?;
        let id = id.trim().parse().map_err(|_| format!("{id} is no number"))?;
        if !is_address(address.trim()) {
            return Err(format!("{address} is no HOST:PORT"));
        }
        Ok(Self { id, address: address.trim().to_owned() })
    }
}

/// Whether it is `HOST:PORT`. Names are looked up later, again and again.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Everything that may be set. What is not set here may be set elsewhere, or has a default.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The number of this server, from 1
    #[arg(long, env = "RAFT_KV_ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Where to listen to other servers
    #[arg(long, env = "RAFT_KV_ADDR", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addr: Option<String>,
    /// Where other servers reach this one, if that is not --addr
    #[arg(long, env = "RAFT_KV_ADVERTISE_ADDR", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise_addr: Option<String>,
    /// Where to listen to clients
    #[arg(long, env = "RAFT_KV_CLIENT_ADDR", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_addr: Option<String>,
    /// The base of this server's URLs for clients, if that is not --client-addr
    #[arg(long, env = "RAFT_KV_ADVERTISE_CLIENT_URL", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise_client_url: Option<String>,
    /// Another founder of the cluster; once for each
    #[arg(long = "peer", value_name = "ID=HOST:PORT")]
    #[serde(skip)]
    pub peer: Vec<PeerFlag>,
    /// The other founders of the cluster, all in one
    #[arg(long, env = "RAFT_KV_PEERS", value_delimiter = ',', value_name = "ID=HOST:PORT,..")]
    #[serde(skip)]
    pub peers: Vec<PeerFlag>,
    /// Where the data is
    #[arg(long, env = "RAFT_KV_DATA_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// The shortest time without a leader after which to campaign [default: 300]
    #[arg(long, env = "RAFT_KV_ELECTION_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub election_timeout_ms: Option<u64>,
    /// How often a leader speaks [default: 50]
    #[arg(long, env = "RAFT_KV_HEARTBEAT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// What a follower does with what only the leader can do [default: forward]
    #[arg(long, env = "RAFT_KV_ON_FOLLOWER", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_follower: Option<OnFollower>,
    /// How long a request may take [default: 5000]
    #[arg(long, env = "RAFT_KV_REQUEST_TIMEOUT_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout_ms: Option<u64>,
    /// The longest key [default: 1024]
    #[arg(long, env = "RAFT_KV_MAX_KEY_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_key_bytes: Option<usize>,
    /// The longest value [default: 1048576]
    #[arg(long, env = "RAFT_KV_MAX_VALUE_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_value_bytes: Option<usize>,
    /// The most bytes of request bodies under way [default: 67108864]
    #[arg(long, env = "RAFT_KV_MAX_INFLIGHT_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_inflight_bytes: Option<usize>,
    /// The most clients that watch at a time [default: 1024]
    #[arg(long, env = "RAFT_KV_MAX_WATCHERS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_watchers: Option<usize>,
    /// Refuse writes that let the state grow while keys and values take more than this, or half of it and the
    /// process more than it [default: no limit]
    #[arg(long, env = "RAFT_KV_MAX_MEMORY_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory_bytes: Option<u64>,
    /// Refuse them while less than this is free on the disk [default: 134217728]
    #[arg(long, env = "RAFT_KV_DISK_RESERVE_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_reserve_bytes: Option<u64>,
    /// Make a snapshot after so many entries [default: 100000]
    #[arg(long, env = "RAFT_KV_SNAPSHOT_AFTER_ENTRIES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_after_entries: Option<u64>,
    /// Look through so much of the disk in a second, for damage; 0: nothing [default: 1048576]
    #[arg(long, env = "RAFT_KV_SCRUB_BYTES_PER_S", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub_bytes_per_s: Option<u64>,
    /// Write down all that the core is given, for `raft-sim replay`
    #[arg(long, env = "RAFT_KV_FLIGHT_RECORDER", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flight_recorder: Option<PathBuf>,
    /// The most bytes of that file [default: 67108864]
    #[arg(long, env = "RAFT_KV_FLIGHT_RECORDER_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flight_recorder_bytes: Option<u64>,
    /// Clients must show this bearer token
    #[arg(long, env = "RAFT_KV_TOKEN", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// The certificate that this server shows to other servers
    #[arg(long, env = "RAFT_KV_PEER_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, env = "RAFT_KV_PEER_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_key: Option<PathBuf>,
    /// Who signs the servers' certificates; other servers must show one
    #[arg(long, env = "RAFT_KV_PEER_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_ca: Option<PathBuf>,
    /// The certificate that this server shows to clients: they speak HTTPS
    #[arg(long, env = "RAFT_KV_CLIENT_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, env = "RAFT_KV_CLIENT_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// Who signs the certificates that servers and clients show each other
    #[arg(long, env = "RAFT_KV_CLIENT_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Clients must show a certificate [default: false]
    #[arg(long, env = "RAFT_KV_CLIENT_AUTH", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<bool>,
    /// The same, in a file
    #[arg(long, env = "RAFT_KV_CLIENT_TOKEN_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_token_file: Option<PathBuf>,
    /// How log lines look [default: text]
    #[arg(long, env = "RAFT_KV_LOG_FORMAT", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

impl Settings {
    /// What a file says of a node: what stands under `[nodes.NAME]`, then what holds for all. The
    /// other nodes are its peers.
    ///
    /// # Errors
    /// The file cannot be read, makes no sense, or does not know the node.
    pub fn from_file(path: &Path, node: &str) -> Result<Self, ConfigError> {
        let fail = |what: String| ConfigError(format!("{}: {}", path.display(), what.trim_end()));
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        let parse = |error: toml::de::Error| fail(error.to_string());
        let mut all: toml::Table = toml::from_str(&text).map_err(parse)?;
        let nodes = all.remove("nodes").unwrap_or_else(|| toml::Table::new().into());
        let nodes: BTreeMap<String, Self> = nodes.try_into().map_err(parse)?;
        let all: Self = all.try_into().map_err(parse)?;
        let mine = nodes.get(node).ok_or_else(|| {
            let known: Vec<&str> = nodes.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            fail(format!("there is no node {node}; there are: {known}"))
        })?;
        let mut mine = mine.clone().or(all);
        for (name, other) in nodes.iter().filter(|(name, _)| *name != node) {
            let (Some(id), Some(address)) = (other.id, other.peer_address()) else {
                return Err(fail(format!("node {name} needs id and addr")));
            };
            mine.peers.push(PeerFlag { id, address });
        }
        Ok(mine)
    }

    fn peer_address(&self) -> Option<String> {
        self.advertise_addr.clone().or_else(|| self.addr.clone())
    }

    /// What is set here, else what is set there. What excludes each other counts as one setting: the
    /// token and its file, and the peers in either form.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let has_token = self.token.is_some() || self.client_token_file.is_some();
        let (token, client_token_file) = if has_token {
            (self.token, self.client_token_file)
        } else {
            (other.token, other.client_token_file)
        };
        let is_told = !(self.peer.is_empty() && self.peers.is_empty());
        let (peer, peers) =
            if is_told { (self.peer, self.peers) } else { (other.peer, other.peers) };
        Self {
            id: self.id.or(other.id),
            addr: self.addr.or(other.addr),
            advertise_addr: self.advertise_addr.or(other.advertise_addr),
            client_addr: self.client_addr.or(other.client_addr),
            advertise_client_url: self.advertise_client_url.or(other.advertise_client_url),
            peer,
            peers,
            data_dir: self.data_dir.or(other.data_dir),
            election_timeout_ms: self.election_timeout_ms.or(other.election_timeout_ms),
            heartbeat_ms: self.heartbeat_ms.or(other.heartbeat_ms),
            on_follower: self.on_follower.or(other.on_follower),
            request_timeout_ms: self.request_timeout_ms.or(other.request_timeout_ms),
            max_key_bytes: self.max_key_bytes.or(other.max_key_bytes),
            max_value_bytes: self.max_value_bytes.or(other.max_value_bytes),
            max_inflight_bytes: self.max_inflight_bytes.or(other.max_inflight_bytes),
            max_watchers: self.max_watchers.or(other.max_watchers),
            max_memory_bytes: self.max_memory_bytes.or(other.max_memory_bytes),
            disk_reserve_bytes: self.disk_reserve_bytes.or(other.disk_reserve_bytes),
            snapshot_after_entries: self.snapshot_after_entries.or(other.snapshot_after_entries),
            scrub_bytes_per_s: self.scrub_bytes_per_s.or(other.scrub_bytes_per_s),
            flight_recorder: self.flight_recorder.or(other.flight_recorder),
            flight_recorder_bytes: self.flight_recorder_bytes.or(other.flight_recorder_bytes),
            token,
            peer_cert: self.peer_cert.or(other.peer_cert),
            peer_key: self.peer_key.or(other.peer_key),
            peer_ca: self.peer_ca.or(other.peer_ca),
            client_cert: self.client_cert.or(other.client_cert),
            client_key: self.client_key.or(other.client_key),
            client_ca: self.client_ca.or(other.client_ca),
            client_auth: self.client_auth.or(other.client_auth),
            client_token_file,
            log_format: self.log_format.or(other.log_format),
        }
    }

    /// The settings that make a configuration: nothing is left to a default. A token is left out.
    #[must_use]
    pub fn of(config: &ServerConfig) -> Self {
        let millis = |span: Duration| u64::try_from(span.as_millis()).ok();
        let flag =
            |(id, address): (&NodeId, &String)| PeerFlag { id: id.0, address: address.clone() };
        Self {
            id: Some(config.id.0),
            addr: Some(config.addr.clone()),
            advertise_addr: config.advertise_addr.clone(),
            client_addr: Some(config.client_addr.clone()),
            advertise_client_url: config.advertise_client_url.clone(),
            peer: Vec::new(),
            peers: config.peers.iter().map(flag).collect(),
            data_dir: Some(config.data_dir.clone()),
            election_timeout_ms: millis(config.election_timeout),
            heartbeat_ms: millis(config.heartbeat),
            on_follower: Some(config.on_follower),
            request_timeout_ms: millis(config.request_timeout),
            max_key_bytes: Some(config.key_bytes_max),
            max_value_bytes: Some(config.value_bytes_max),
            max_inflight_bytes: Some(config.inflight_bytes_max),
            max_watchers: Some(config.watchers_max),
            max_memory_bytes: config.memory_bytes_max,
            disk_reserve_bytes: Some(config.disk_reserve_bytes),
            snapshot_after_entries: Some(config.snapshot_after_entries),
            scrub_bytes_per_s: Some(config.scrub_bytes_per_s),
            flight_recorder: config.flight_recorder.clone(),
            flight_recorder_bytes: Some(config.flight_recorder_bytes),
            // Who looks at the settings need not see it.
            token: None,
            peer_cert: config.peer_tls.as_ref().map(|files| files.cert.clone()),
            peer_key: config.peer_tls.as_ref().map(|files| files.key.clone()),
            peer_ca: config.peer_tls.as_ref().map(|files| files.ca.clone()),
            client_cert: config.client_tls.as_ref().map(|files| files.cert.clone()),
            client_key: config.client_tls.as_ref().map(|files| files.key.clone()),
            client_ca: config.client_tls.as_ref().map(|files| files.ca.clone()),
            client_auth: Some(config.client_auth),
            client_token_file: config.token_file.clone(),
            log_format: Some(config.log_format),
        }
    }

    /// A file for all nodes that says the same of the node `name` as this configuration, except that
    /// it does not tell a token; of the other nodes it says where they are.
    ///
    /// # Errors
    /// Something in it cannot be written as TOML.
    pub fn to_toml(config: &ServerConfig, name: &str) -> Result<String, ConfigError> {
        let peer = |(id, address): (&NodeId, &String)| {
            let plain = format!("node{}", id.0);
            let other = if plain == name { format!("peer{}", id.0) } else { plain };
            let (id, addr) = (Some(id.0), Some(address.clone()));
            (other, Self { id, addr, ..Self::default() })
        };
        let mut nodes: BTreeMap<String, Self> = config.peers.iter().map(peer).collect();
        nodes.insert(name.to_owned(), Self::of(config));
        let file = BTreeMap::from([("nodes", nodes)]);
        let text = toml::to_string(&file).map_err(|error| ConfigError(error.to_string()))?;
        Ok(if config.token.is_some() && config.token_file.is_none() {
            format!("# A token is set, and not shown here.\n{text}")
        } else {
            text
        })
    }

    /// The configuration that they make, with defaults for what is not set.
    ///
    /// # Errors
    /// Something that has no default is missing, or something makes no sense.
    pub fn resolve(self) -> Result<ServerConfig, ConfigError> {
        let missing = |flag: &str| ConfigError(format!("{flag} is missing"));
        let id = self.id.ok_or_else(|| missing("--id"))?;
        let addr = self.addr.ok_or_else(|| missing("--addr"))?;
        let client_addr = self.client_addr.ok_or_else(|| missing("--client-addr"))?;
        let data_dir = self.data_dir.ok_or_else(|| missing("--data-dir"))?;
        let advertised = self.advertise_addr.as_ref().map(|address| ("--advertise-addr", address));
        let listened = [("--addr", &addr), ("--client-addr", &client_addr)];
        for (flag, address) in listened.into_iter().chain(advertised) {
            if !is_address(address) {
                return Err(ConfigError(format!("{flag} is HOST:PORT, not {address}")));
            }
        }
        let plain = ServerConfig::new(id, &addr, &client_addr, data_dir);
        let mut peers = BTreeMap::new();
        for PeerFlag { id, address } in self.peer.into_iter().chain(self.peers) {
            if peers.insert(NodeId(id), address).is_some() {
                return Err(ConfigError(format!("server {id} is named twice")));
            }
        }
        let millis = |set: Option<u64>, plain| set.map_or(plain, Duration::from_millis);
        let config = ServerConfig {
            advertise_addr: self.advertise_addr,
            advertise_client_url: self.advertise_client_url,
            peers,
            election_timeout: millis(self.election_timeout_ms, plain.election_timeout),
            heartbeat: millis(self.heartbeat_ms, plain.heartbeat),
            on_follower: self.on_follower.unwrap_or(plain.on_follower),
            request_timeout: millis(self.request_timeout_ms, plain.request_timeout),
            key_bytes_max: self.max_key_bytes.unwrap_or(plain.key_bytes_max),
            value_bytes_max: self.max_value_bytes.unwrap_or(plain.value_bytes_max),
            inflight_bytes_max: self.max_inflight_bytes.unwrap_or(plain.inflight_bytes_max),
            watchers_max: self.max_watchers.unwrap_or(plain.watchers_max),
            memory_bytes_max: self.max_memory_bytes,
            disk_reserve_bytes: self.disk_reserve_bytes.unwrap_or(plain.disk_reserve_bytes),
            snapshot_after_entries: self
                .snapshot_after_entries
                .unwrap_or(plain.snapshot_after_entries),
            scrub_bytes_per_s: self.scrub_bytes_per_s.unwrap_or(plain.scrub_bytes_per_s),
            flight_recorder: self.flight_recorder,
            flight_recorder_bytes: self
                .flight_recorder_bytes
                .unwrap_or(plain.flight_recorder_bytes),
            peer_tls: files("peer", self.peer_cert, self.peer_key, self.peer_ca)?,
            client_tls: files("client", self.client_cert, self.client_key, self.client_ca)?,
            client_auth: self.client_auth.unwrap_or(false),
            token: token(self.token, self.client_token_file.as_deref())?,
            token_file: self.client_token_file,
            log_format: self.log_format.unwrap_or_default(),
            ..plain
        };
        config.validate()?;
        Ok(config)
    }
}

/// All three files of a kind, or none.
fn files(
    kind: &str,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
) -> Result<Option<Files>, ConfigError> {
    match (cert, key, ca) {
        (None, None, None) => Ok(None),
        (Some(cert), Some(key), Some(ca)) => Ok(Some(Files { cert, key, ca })),
        _ => {
            let what = format!("--{kind}-cert, --{kind}-key and --{kind}-ca go together");
            Err(ConfigError(what))
        }
    }
}

/// The token, wherever it is written.
fn token(token: Option<Token>, file: Option<&Path>) -> Result<Option<Token>, ConfigError> {
    if token.as_ref().is_some_and(|token| token.secret().trim().is_empty()) {
        return Err(ConfigError("the token is empty: nobody could show it".to_owned()));
    }
    match file {
        None => Ok(token),
        Some(_) if token.is_some() => {
            Err(ConfigError("--token and --client-token-file are one too many".to_owned()))
        }
        Some(file) => token_in(file).map(Some),
    }
}

/// The token in a file.
pub(crate) fn token_in(path: &Path) -> Result<Token, ConfigError> {
    let fail = |what: &dyn std::fmt::Display| ConfigError(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
    match text.trim() {
        "" => Err(fail(&"it holds no token")),
        token => Ok(Token::from(token.to_owned())),
    }
}
