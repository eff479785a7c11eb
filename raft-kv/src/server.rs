//! Starts a server, in order, and ends it.
//!
//! 1. take the data directory, which also says who this is;
//! 2. listen to clients and peers, so that whoever asks gets an answer, if only "not yet";
//! 3. found a cluster, or find one;
//! 4. open the storage and start the node.
//!
//! It ends the other way round: no new clients, what is open is finished, the leadership is handed
//! over, the node stops, the disk has everything.

mod error;
mod running;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use raft_core::wire::Limits;
use raft_core::{Member, NodeId};
use raft_replica::storage::{Found, Storage, StorageError, StorageOptions};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::bootstrap::{self, DataDirectory, DirectoryError, Settled, Stage};
use crate::clock::Clock;
use crate::config::{self, ServerConfig, Token, advertised};
use crate::files;
use crate::findings;
use crate::hello::Hello;
use crate::http::{self, App, Forwarder, LeaderClient};
use crate::links::{Links, News};
use crate::log_thread::LogThread;
use crate::metrics::Metrics;
use crate::node::{End, Event, Node, Parts, Recorder};
use crate::room;
use crate::spare::SpareDisk;
use crate::steward;
use crate::tls::{self, Identity, Renewed};
use crate::transport::Transport;

pub use error::StartError;

use running::{Running, hand_over};

/// How often it is looked whether a disk that is full at the start has room.
const FULL: Duration = Duration::from_millis(500);

/// The storage, and what it found.
type Opened = (Storage<SpareDisk>, Found);

/// A running server. One that is dropped ends at once, as by [`Server::halt`]: its directory is free a moment
/// later.
pub struct Server {
    client_address: SocketAddr,
    peer_address: String,
    node: watch::Receiver<Option<Node>>,
    end: watch::Receiver<Option<End>>,
    closing: watch::Sender<bool>,
    running: Arc<Running>,
    app: Arc<App>,
    clients: tokio::task::JoinHandle<()>,
    /// Everything else; ends with this.
    tasks: JoinSet<()>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("client_address", &self.client_address)
            .field("peer_address", &self.peer_address)
            .finish_non_exhaustive()
    }
}

/// What was read again, and is not yet in force.
pub struct Renewal {
    identity: Option<Renewed>,
    forwarder: LeaderClient,
    token: Option<Token>,
}

impl Renewal {
    /// What of it there is, in words.
    #[must_use]
    pub fn what(&self) -> Vec<&'static str> {
        let certificates = self.identity.as_ref().map(|_| "the certificates towards clients");
        certificates.into_iter().chain(self.token.as_ref().map(|_| "the token")).collect()
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Renewal").field(&self.what()).finish()
    }
}

/// What the parts that start one after the other hand on.
struct Begun {
    app: Arc<App>,
    directory: DataDirectory,
    hello: watch::Sender<Hello>,
    stage: watch::Sender<Stage>,
    node: watch::Sender<Option<Node>>,
    end: watch::Sender<Option<End>>,
    running: Arc<Running>,
}

impl Server {
    /// Starts a server. It is there when this returns, but may have no place in a cluster yet.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong with the configuration, the directory or the addresses.
    pub async fn start(
        mut config: ServerConfig,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        config.validate()?;
        let load = |files: &tls::Files| Identity::load(files, config.client_auth);
        let identity = config.client_tls.as_ref().map(load).transpose()?;
        let forwarder = Forwarder::new(&config)?;
        let directory = DataDirectory::open(&config.data_dir, config.id)?;
        let listener = transport.listen(&config.addr).await;
        let peers = listener.map_err(|error| StartError::listen(&config.addr, error))?;
        let (clients, client_address) = listen(&config.client_addr).await?;
        config.addr = advertised(&config.addr, &peers.address());
        config.client_addr = advertised(&config.client_addr, &client_address.to_string());
        let peer_address = config.addr.clone();
        let connections_max = files::connections_max();
        config.watchers_max = files::watchers_max(config.watchers_max, connections_max);

        let (hello, me) = watch::channel(introduction(&config, &directory));
        let clock = Clock::start();
        let links = Links::new(transport, me, frame_bytes_max(&config), clock);
        for (id, address) in &config.peers {
            links.set_address(*id, address);
        }
        let (stage, stage_seen) = watch::channel(Stage::Settled);
        let (node, node_seen) = watch::channel(None);
        let (end, end_seen) = watch::channel(None);
        let (closing, closed) = watch::channel(false);
        let app = Arc::new(App {
            body_budget: Arc::new(Semaphore::new(config.inflight_bytes_max)),
            watchers: Arc::new(Semaphore::new(config.watchers_max)),
            backups: Arc::new(Semaphore::new(1)),
            token: RwLock::new(config.token.clone()),
            config,
            clock,
            links: links.clone(),
            metrics: Metrics::new(),
            stage: stage_seen,
            node: node_seen.clone(),
            forwarder,
            identity,
            is_probing: AtomicBool::new(false),
            has_room: AtomicBool::new(true),
            closing: closed,
            connections_max,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(links.listen(peers));
        tasks.spawn(room::watch(Arc::clone(&app)));
        let clients = tokio::spawn(http::serve(clients, Arc::clone(&app)));
        let running = Arc::new(Running::default());
        let begun = Begun {
            app: Arc::clone(&app),
            directory,
            hello,
            stage,
            node,
            end,
            running: Arc::clone(&running),
        };
        tasks.spawn(begun.finish());
        Ok(Self {
            client_address,
            peer_address,
            node: node_seen,
            end: end_seen,
            closing,
            running,
            app,
            clients,
            tasks,
        })
    }

    /// Where clients reach it.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Where it listens to other servers, as it was configured; a port that was left open is filled in.
    #[must_use]
    pub fn peer_address(&self) -> &str {
        &self.peer_address
    }

    /// Reads again what is in files: the certificates towards clients, and the token. Those between
    /// servers are the transport's. Nothing changes until it is adopted.
    ///
    /// # Errors
    /// Something in them cannot be used.
    pub fn read_again(&self) -> Result<Renewal, StartError> {
        let App { config, identity, .. } = &*self.app;
        Ok(Renewal {
            identity: identity.as_ref().map(Identity::read_again).transpose()?,
            forwarder: Forwarder::read_again(config)?,
            token: config.token_file.as_deref().map(config::token_in).transpose()?,
        })
    }

    /// Puts in force what was read again.
    pub fn adopt(&self, renewal: Renewal) {
        let Renewal { identity, forwarder, token } = renewal;
        if let Some((mine, next)) = self.app.identity.as_ref().zip(identity) {
            mine.adopt(next);
        }
        self.app.forwarder.adopt(forwarder);
        if token.is_some() {
            *self.app.token.write().unwrap_or_else(PoisonError::into_inner) = token;
        }
    }

    /// Waits until it cannot go on, or has been stopped.
    pub async fn ended(&mut self) -> End {
        match self.end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(End::Stopped),
            Err(_) => End::Stopped,
        }
    }

    /// Ends it in order: what clients have asked for is answered, and somebody else leads.
    pub async fn stop(mut self) {
        self.closing.send_replace(true);
        let node = self.node.borrow().clone();
        if let Some(node) = &node {
            hand_over(node).await;
        }
        // A panic there has been printed.
        drop((&mut self.clients).await);
        self.halt().await;
    }

    /// Ends it at once, as if the process had died, except that nobody else dies with it.
    pub async fn halt(mut self) {
        self.clients.abort();
        self.tasks.shutdown().await;
        self.app.links.close().await;
        if !self.clients.is_finished() {
            // It was to be ended.
            drop((&mut self.clients).await);
        }
        let running = Arc::clone(&self.running);
        // A panic there has been printed.
        drop(tokio::task::spawn_blocking(move || running.end()).await);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.clients.abort();
        drop(self.app.links.give_up());
        self.running.give_up();
    }
}

/// Listens to clients, and says where.
async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), StartError> {
    let fail = |error| StartError::listen(address, error);
    let clients = TcpListener::bind(address).await.map_err(fail)?;
    let at = clients.local_addr().map_err(fail)?;
    Ok((clients, at))
}

fn frame_bytes_max(config: &ServerConfig) -> usize {
    let options = config.replica_options(Default::default(), Default::default());
    Limits::for_config(&options.config).bytes_max
}

fn introduction(config: &ServerConfig, directory: &DataDirectory) -> Hello {
    let founding = directory.founding();
    let member = founding.member;
    let (cluster, founders) = match &founding.settled {
        Some(settled) => (Some(settled.cluster), settled.founders.clone()),
        None => (None, vec![member]),
    };
    let address = config.advertise_addr.clone().unwrap_or_else(|| config.addr.clone());
    let mut configured: Vec<NodeId> = config.peers.keys().copied().chain([config.id]).collect();
    configured.sort_unstable();
    Hello { member, address, client_url: config.client_url(), cluster, founders, configured }
}

impl Begun {
    async fn finish(self) {
        let (end, app) = (self.end.clone(), Arc::clone(&self.app));
        let outcome = match self.join().await {
            Ok(node) => {
                // It ends with this.
                let mut steward = JoinSet::new();
                steward.spawn(steward::run(Arc::clone(&app), node.clone()));
                let mut published = node.published();
                tokio::select! {
                    ended = published.wait_for(|published| published.end.is_some()) => {
                        ended.map_or(None, |ended| ended.end.clone())
                    }
                    // It would never get anywhere; better it says so.
                    what = app.links.is_foreign() => Some(End::Failed(what)),
                }
            }
            Err(failure) => Some(End::Failed(failure.to_string())),
        };
        let outcome = outcome.unwrap_or_else(|| End::Failed("the node has panicked".into()));
        if let End::Failed(reason) = &outcome {
            error!("{reason}");
        }
        end.send_replace(Some(outcome));
    }

    /// Finds the server's place in a cluster and starts its node.
    async fn join(self) -> Result<Node, StartError> {
        let Self { app, mut directory, hello, stage, node, running, .. } = self;
        let settled = match directory.founding().settled.clone() {
            Some(settled) => settled,
            None => {
                let settled =
                    bootstrap::settle(&app.links, &app.config.peers, &hello, &stage).await;
                directory.settle(settled.clone())?;
                tell(&directory, &settled);
                settled
            }
        };
        stage.send_replace(Stage::Settled);
        hello.send_modify(|hello| {
            hello.cluster = Some(settled.cluster);
            hello.founders.clone_from(&settled.founders);
        });
        let (directory, opened) = open(directory, &stage).await?;
        let parts = Arc::clone(&app);
        let member = directory.founding().member;
        let start = move || {
            running.start(move |inbox| {
                let tell = move |news| inbox.send(Event::Disk(news)).is_ok();
                let parts = make(&parts, opened, member, &settled, tell);
                // The directory's lock lasts as long as the storage's own.
                parts.map(|parts| (parts, directory)).map_err(io::Error::other)
            })
        };
        let started = tokio::task::spawn_blocking(start).await.map_err(io::Error::other)?;
        let started = started?;
        let links_inbox = started.clone();
        app.links.open(Arc::new(move |news: News| links_inbox.tell(Event::Link(news)).is_ok()));
        node.send_replace(Some(started.clone()));
        Ok(started)
    }
}

/// Opens the storage, which takes as long as the log is. While the disk is full it waits for room.
async fn open(
    mut directory: DataDirectory,
    stage: &watch::Sender<Stage>,
) -> Result<(DataDirectory, Opened), StartError> {
    loop {
        let open = move || {
            let opened = directory.open_storage(StorageOptions::default());
            (directory, opened)
        };
        let result = tokio::task::spawn_blocking(open).await.map_err(io::Error::other)?;
        let opened;
        (directory, opened) = result;
        match opened {
            Ok(opened) => {
                stage.send_replace(Stage::Settled);
                return Ok((directory, opened));
            }
            Err(DirectoryError::Storage {
                error: error @ StorageError::NoSpace { .. }, ..
            }) => {
                if stage.send_replace(Stage::NoRoom) != Stage::NoRoom {
                    warn!(%error, "the disk is full: waiting for room");
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(FULL).await;
    }
}

/// Puts the node together.
fn make(
    app: &App,
    (storage, found): Opened,
    member: Member,
    settled: &Settled,
    tell: impl Fn(crate::log_thread::DiskNews) -> bool + Send + 'static,
) -> Result<Parts, StartError> {
    let genesis = settled.genesis(member).map_err(io::Error::other)?;
    findings::tell(&found.report, &app.metrics);
    let found = found.into_state(&genesis);
    let scrub = app.config.scrub_bytes_per_s;
    let log = LogThread::start(storage, app.clock, app.metrics.clone(), scrub, tell)?;
    let recorder = app.config.flight_recorder.as_ref();
    let recorder = recorder
        .map(|path| Recorder::create(path, app.config.flight_recorder_bytes))
        .transpose()?;
    Ok(Parts {
        options: app.config.replica_options(settled.cluster, member.lineage),
        found,
        log,
        links: app.links.clone(),
        clock: app.clock,
        metrics: app.metrics.clone(),
        recorder,
    })
}

fn tell(directory: &DataDirectory, settled: &Settled) {
    let member = directory.founding().member;
    let cluster = settled.cluster;
    if settled.founders.contains(&member) {
        info!(%cluster, "founded the cluster");
    } else {
        info!(
            %cluster,
            "the cluster exists, and this directory is new to it: waiting to be added"
        );
    }
}
