//! A cluster in this process, on temporary directories, and how tests wait: for what shall happen,
//! with a deadline, never for time.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderName;
use raft_core::NodeId;
use raft_kv::client::{Answer, Ask, Client};
use raft_kv::config::ServerConfig;
use raft_kv::server::Server;
use raft_kv::transport::Transport;
use raft_kv::transport::memory::Network;
use raft_kv::transport::tcp::Tcp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

/// The longest that anything here may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Servers of one process; those that run.
pub(crate) struct Cluster {
    pub(crate) network: Network,
    pub(crate) servers: Vec<Option<Server>>,
    pub(crate) directory: TempDir,
    founders: u64,
    /// Where each one listens, if they reach each other by TCP.
    names: BTreeMap<u64, String>,
    /// Applies to whoever starts from now on.
    pub(crate) adjust: fn(&mut ServerConfig),
}

pub(crate) fn address(id: u64) -> String {
    format!("server-{id}")
}

/// A port that is free, and that the system does not give to connections the next moment.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 250).unwrap() * 10;
    let candidate = || 29_500 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 2500;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(candidate).take(2500).find(is_free).expect("a free port")
}

pub(crate) fn read(path: &str) -> Ask {
    Ask::new(Method::GET, path)
}

pub(crate) fn write(path: &str, body: &'static str) -> Ask {
    Ask::new(Method::PUT, path).body(body)
}

impl Cluster {
    /// Founders of a cluster that is about to form.
    pub(crate) async fn start(founders: u64) -> Self {
        Self::with(founders, |_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn with(founders: u64, adjust: fn(&mut ServerConfig)) -> Self {
        let mut cluster = Self::of(founders, adjust);
        for id in 1..=founders {
            cluster.run(id).await;
        }
        cluster
    }

    /// The same, and none of them runs yet.
    pub(crate) fn of(founders: u64, adjust: fn(&mut ServerConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (network, servers, names) = (Network::default(), Vec::new(), BTreeMap::new());
        Self { network, servers, directory, founders, names, adjust }
    }

    /// The same, by TCP: servers `1..=all` listen at ports of this host, to peers and to clients.
    pub(crate) fn over_tcp(founders: u64, all: u64, host: &str) -> Self {
        let mut cluster = Self::of(founders, |_| {});
        cluster.names = (1..=all).map(|id| (id, format!("{host}:{}", free_port()))).collect();
        cluster
    }

    /// Where a server listens to the others.
    pub(crate) fn address(&self, id: u64) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| address(id))
    }

    /// A cluster that answers.
    pub(crate) async fn ready(founders: u64) -> Self {
        let cluster = Self::start(founders).await;
        for id in 1..=founders {
            cluster.is_ready(id).await;
        }
        cluster
    }

    pub(crate) fn config(&self, id: u64) -> ServerConfig {
        let path = self.directory.path().join(id.to_string());
        let address = |id| self.address(id);
        let host = self.names.get(&id).and_then(|name| name.split(':').next());
        let clients = format!("{}:0", host.unwrap_or("127.0.0.1"));
        let mut config = ServerConfig::new(id, &address(id), &clients, path);
        let others = (1..=self.founders).filter(|other| *other != id);
        config.peers = others.map(|other| (NodeId(other), address(other))).collect();
        config.disk_reserve_bytes = 0;
        (self.adjust)(&mut config);
        config
    }

    /// Starts a server, for the first time or again.
    pub(crate) async fn run(&mut self, id: u64) {
        let transport: Arc<dyn Transport> = if self.names.contains_key(&id) {
            Arc::new(Tcp)
        } else {
            Arc::new(self.network.end(&address(id)))
        };
        let server = Server::start(self.config(id), transport).await.unwrap();
        let at = usize::try_from(id).unwrap() - 1;
        self.servers.resize_with(self.servers.len().max(at + 1), || None);
        self.servers[at] = Some(server);
    }

    pub(crate) fn take(&mut self, id: u64) -> Server {
        self.servers[usize::try_from(id).unwrap() - 1].take().expect("it runs")
    }

    /// Ends a server at once.
    pub(crate) async fn halt(&mut self, id: u64) {
        self.take(id).halt().await;
    }

    pub(crate) fn wipe(&self, id: u64) {
        std::fs::remove_dir_all(self.path(id)).unwrap();
    }

    pub(crate) fn path(&self, id: u64) -> std::path::PathBuf {
        Path::new(self.directory.path()).join(id.to_string())
    }

    pub(crate) fn url(&self, id: u64) -> String {
        let server = self.servers[usize::try_from(id).unwrap() - 1].as_ref().expect("it runs");
        server.client_address().to_string()
    }

    /// A client of one server.
    pub(crate) fn client(&self, id: u64) -> Client {
        Client::new(&[self.url(id)])
    }

    /// One request to one server, and whatever it answers.
    pub(crate) async fn once(&self, id: u64, ask: &Ask) -> Answer {
        self.client(id).once(ask).await.unwrap()
    }

    /// The same, again for as long as certainly nothing was done (503): on a busy machine the leader may
    /// change at any moment.
    pub(crate) async fn asked(&self, id: u64, ask: &Ask) -> Answer {
        let mut answer = self.once(id, ask).await;
        self.until("somebody can do it", async || {
            if answer.status == 503 {
                answer = self.once(id, ask).await;
            }
            answer.status != 503
        })
        .await;
        answer
    }

    pub(crate) async fn get(&self, id: u64, path: &str) -> Answer {
        self.asked(id, &read(path)).await
    }

    pub(crate) async fn put(&self, id: u64, path: &str, body: &'static str) -> Answer {
        self.asked(id, &write(path, body)).await
    }

    pub(crate) async fn put_if(
        &self,
        id: u64,
        path: &str,
        (name, value): (HeaderName, &str),
        body: &'static str,
    ) -> Answer {
        self.asked(id, &write(path, body).header(name, value)).await
    }

    pub(crate) async fn json(&self, id: u64, path: &str) -> Value {
        let answer = self.get(id, path).await;
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()))
    }

    pub(crate) async fn is_ready(&self, id: u64) {
        self.until(&format!("server {id} is ready"), async || {
            self.once(id, &read("/readyz")).await.status == 200
        })
        .await;
    }

    /// The leader, as soon as this server knows one that is not `not`.
    pub(crate) async fn leader(&self, seen_by: u64, not: Option<u64>) -> u64 {
        let mut found = None;
        self.until("there is a leader", async || {
            let answer = self.get(seen_by, "/client/leader").await;
            let json: Value = serde_json::from_slice(&answer.body).unwrap();
            found = json["leader"].as_u64().filter(|leader| Some(*leader) != not);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Looks again and again until something is so.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let started = Instant::now();
        while !is_so().await {
            assert!(started.elapsed() < DEADLINE, "not in time: {what}");
            tokio::task::yield_now().await;
        }
    }

    /// Ends all of it.
    pub(crate) async fn end(mut self) {
        for server in self.servers.iter_mut().filter_map(Option::take) {
            timeout(DEADLINE, server.halt()).await.expect("a server ends");
        }
    }
}

/// Somebody else than `id` in a cluster of three.
pub(crate) fn other(id: u64) -> u64 {
    id % 3 + 1
}
