//! Links to the other servers: one connection to each, one way, kept open, made again when it breaks.
//!
//! A frame that cannot be sent now is dropped: the protocol expects losses and likes to be told when a
//! connection breaks, so that it need not wait for a heartbeat. Nothing here grows: queues have a
//! length, frames a size, connections a number (who has not said yet who it is counts by where it comes
//! from, who has by its name); what waits for the node counts against a budget, and a
//! peer whose frames find it used up is read from more slowly.

mod addresses;
mod link;
mod strangers;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use raft_core::{ClusterId, Lineage, Member, NodeId, Span, Time};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::config::is_unspecified_url;
use crate::hello::{self, Hello};
use crate::transport::{Arrival, BoxFuture, Connection, Listener, Transport};
use addresses::Addresses;
use link::Link;
use strangers::{Known, Strangers};

/// The most frames that wait for a connection.
const FRAMES_MAX: usize = 1024;
/// How long who has connected may take to say who it is, whatever the transport asks of it before.
const INTRODUCTION: Duration = Duration::from_secs(2);
/// The most bytes of frames that wait for the node: more than the longest frame that a server takes.
const WAITING_BYTES_MAX: usize = 96 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
/// The most connections from one peer: it keeps one, may ask something on another, and may have lost one
/// without a word.
const PEER_CONNECTIONS_MAX: usize = 3;
/// The most lineages of one peer whose frames are told apart: it has one, or had another before.
const LINEAGES_MAX: usize = 4;
/// The most peers that are remembered because they have introduced themselves.
const PEERS_MAX: usize = 128;

/// What a link has to tell.
#[derive(Debug)]
pub enum News {
    /// A frame arrived.
    Frame {
        /// One encoded message.
        frame: Bytes,
        /// Its share of the budget, until it is dropped.
        budget: OwnedSemaphorePermit,
    },
    /// The connection to a peer broke.
    Unreachable(Member),
}

/// Takes what links have to tell; false: nobody listens any more.
pub type OnNews = Arc<dyn Fn(News) -> bool + Send + Sync>;

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Where it is reached, or was tried last.
    pub address: String,
    /// What it said of itself when it was last heard.
    pub hello: Option<Hello>,
    /// Whether a connection to it stands.
    pub is_connected: bool,
    /// When its last frame came.
    pub heard: Option<Time>,
}

/// All links of a server.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

struct Shared {
    /// Where links run: addresses are also learned on threads that belong to no runtime.
    runtime: Handle,
    clock: Clock,
    transport: Arc<dyn Transport>,
    me: watch::Receiver<Hello>,
    frame_bytes_max: usize,
    budget: Arc<Semaphore>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    on_news: Mutex<Option<OnNews>>,
    /// Why the data directory here seems to be of another cluster than the peers.
    foreign: watch::Sender<Option<String>>,
    /// All links, and whoever has connected; `None`: they are closed.
    tasks: Mutex<Option<JoinSet<()>>>,
}

struct Peer {
    info: PeerInfo,
    /// `None` until the node runs.
    frames: Option<mpsc::Sender<Bytes>>,
    /// Ends the link when it is dropped.
    addresses: watch::Sender<Addresses>,
    /// Those who have spoken under its id, the latest first.
    known: VecDeque<Namesake>,
    /// Its connections to this server, the oldest first; dropped, they end.
    incoming: VecDeque<oneshot::Sender<Infallible>>,
}

impl Peer {
    fn info(&self) -> PeerInfo {
        let heard = self.known.iter().filter_map(|known| time(&known.heard)).max();
        PeerInfo { heard, ..self.info.clone() }
    }

    /// Somebody says who it is. Returns where to note when it was heard.
    fn said(&mut self, hello: Hello) -> Arc<AtomicU64> {
        let lineage = hello.member.lineage;
        let at = self.known.iter().position(|known| known.lineage == lineage);
        let heard = at.and_then(|at| self.known.remove(at)).unwrap_or_default().heard;
        let client_url = hello.client_url.clone();
        self.known.push_front(Namesake { lineage, heard: Arc::clone(&heard), client_url });
        self.known.truncate(LINEAGES_MAX);
        self.info.hello = Some(hello);
        heard
    }

    fn namesake(&self, lineage: Lineage) -> Option<&Namesake> {
        self.known.iter().find(|known| known.lineage == lineage)
    }
}

/// One of those who speak under an id: the member, or somebody else.
#[derive(Default)]
struct Namesake {
    lineage: Lineage,
    /// When its last frame came, in microseconds and one more; zero: never.
    heard: Arc<AtomicU64>,
    /// Where clients reach it, as it says.
    client_url: String,
}

fn time(heard: &AtomicU64) -> Option<Time> {
    heard.load(Ordering::Relaxed).checked_sub(1).map(Time)
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("peers", &self.peers()).finish_non_exhaustive()
    }
}

impl Links {
    /// No links yet; they will run in the present runtime. `me` is what this server says of itself.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn new(
        transport: Arc<dyn Transport>,
        me: watch::Receiver<Hello>,
        frame_bytes_max: usize,
        clock: Clock,
    ) -> Self {
        let shared = Shared {
            runtime: Handle::current(),
            clock,
            transport,
            me,
            frame_bytes_max,
            budget: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            peers: Mutex::default(),
            on_news: Mutex::default(),
            foreign: watch::Sender::new(None),
            tasks: Mutex::new(Some(JoinSet::new())),
        };
        Self { shared: Arc::new(shared) }
    }

    /// From now on there is a node that frames are for.
    pub fn open(&self, on_news: OnNews) {
        *self.shared.on_news.lock().unwrap_or_else(PoisonError::into_inner) = Some(on_news);
        for (id, peer) in &mut *self.lock() {
            self.start(*id, peer);
        }
    }

    /// Ends all connections and makes no new ones, for good. When this returns, nothing runs any more.
    pub async fn close(&self) {
        if let Some(mut tasks) = self.give_up() {
            tasks.shutdown().await;
        }
    }

    /// The same without a wait, once what it returns is dropped.
    pub(crate) fn give_up(&self) -> Option<JoinSet<()>> {
        *self.shared.on_news.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.tasks().take()
    }

    /// The operator says that the peer `id` listens at `address`.
    pub fn set_address(&self, id: NodeId, address: &str) {
        self.learn(id, |addresses| addresses.told(address));
    }

    /// The address book says that a peer listens at `address`. It may be older than what the operator
    /// says, and newer: all of them are tried.
    pub fn note_address(&self, member: Member, address: &str) {
        self.learn(member.id, |addresses| addresses.noted(member, address));
    }

    fn learn(&self, id: NodeId, change: impl FnOnce(&mut Addresses) -> bool) {
        let mut peers = self.lock();
        if let Some(peer) = peers.get_mut(&id) {
            peer.addresses.send_if_modified(change);
            return;
        }
        let mut addresses = Addresses::default();
        change(&mut addresses);
        let address = addresses.candidates().into_iter().next().unwrap_or_default();
        let info = PeerInfo { address, hello: None, is_connected: false, heard: None };
        let addresses = watch::Sender::new(addresses);
        let (known, incoming) = (VecDeque::new(), VecDeque::new());
        let mut peer = Peer { info, frames: None, addresses, known, incoming };
        if self.on_news().is_some() {
            self.start(id, &mut peer);
        }
        peers.insert(id, peer);
    }

    /// The peer `id` is gone for good.
    pub fn forget(&self, id: NodeId) {
        self.lock().remove(&id);
    }

    /// Sends a frame if there is a link with room for it.
    pub fn send(&self, to: NodeId, frame: Bytes) {
        let peers = self.lock();
        if let Some(frames) = peers.get(&to).and_then(|peer| peer.frames.as_ref()) {
            // A full queue is a slow network: this frame is lost, as the network might lose it.
            drop(frames.try_send(frame));
        }
    }

    /// What is known of all peers.
    #[must_use]
    pub fn peers(&self) -> BTreeMap<NodeId, PeerInfo> {
        self.lock().iter().map(|(id, peer)| (*id, peer.info())).collect()
    }

    /// How long ago a peer was heard; `None`: never in this life.
    #[must_use]
    pub fn silence(&self, id: NodeId) -> Option<Span> {
        let heard = self.lock().get(&id)?.info().heard?;
        Some(self.shared.clock.now().since(heard))
    }

    /// The same for a member: whoever else has come under its id does not count.
    #[must_use]
    pub fn silence_of(&self, member: Member) -> Option<Span> {
        let peers = self.lock();
        let heard = &peers.get(&member.id)?.namesake(member.lineage)?.heard;
        Some(self.shared.clock.now().since(time(heard)?))
    }

    /// Where clients reach a member, if it ever said so, and not only that it listens everywhere. What
    /// somebody else says under its id does not count.
    #[must_use]
    pub fn client_url(&self, member: Member) -> Option<String> {
        let peers = self.lock();
        let url = &peers.get(&member.id)?.namesake(member.lineage)?.client_url;
        (!is_unspecified_url(url)).then(|| url.clone())
    }

    /// Waits until most peers have said that they belong to another cluster, and none that it belongs
    /// to this one.
    pub async fn is_foreign(&self) -> String {
        let mut foreign = self.shared.foreign.subscribe();
        let what = foreign.wait_for(Option::is_some).await.ok().and_then(|what| what.clone());
        what.expect("the sender lives as long as this does")
    }

    fn look_for_foreigners(&self, mine: ClusterId, theirs: ClusterId) {
        let peers = self.lock();
        let of = |peer: &Peer| peer.info.hello.as_ref().and_then(|hello| hello.cluster);
        let foreign = peers.values().filter(|peer| of(peer).is_some_and(|of| of != mine)).count();
        let is_at_home = peers.values().any(|peer| of(peer) == Some(mine));
        if !is_at_home && foreign * 2 > peers.len() {
            self.shared.foreign.send_replace(Some(format!(
                "the data directory belongs to cluster {mine}, the peers to cluster {theirs}"
            )));
        }
    }

    /// The cluster that this server belongs to.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.shared.me.borrow().cluster
    }

    /// Asks whoever is at `address` who it is.
    ///
    /// # Errors
    /// Nobody is there, or something that is no server of this kind.
    pub async fn ask(&self, address: &str) -> io::Result<Hello> {
        Ok(self.dial(address).await?.1)
    }

    /// Answers who connects, until the links are closed.
    pub async fn listen(self, mut listener: Box<dyn Listener>) {
        let mut strangers = Strangers::default();
        loop {
            match listener.accept().await {
                Ok(Arrival { from, connection }) => {
                    let (links, known) = (self.clone(), Known::default());
                    let place = known.clone();
                    let task = self.spawn(async move {
                        if let Err(error) = links.receive(connection, known).await {
                            debug!(%error, "a connection from a peer has ended");
                        }
                    });
                    let Some(task) = task else { return };
                    strangers.admit(from, place, task);
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    // Without files to spare, the next try fails at once.
                    tokio::time::sleep(BACK_OFF_MIN).await;
                }
            }
        }
    }

    fn start(&self, id: NodeId, peer: &mut Peer) {
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        peer.frames = Some(sender);
        let link = Link::new(self.clone(), id, peer.addresses.subscribe());
        // Once they are closed there is none.
        drop(self.spawn(link.keep(frames)));
    }

    /// Runs something for as long as the links are not closed; `None`: they are.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = self.tasks();
        let tasks = tasks.as_mut()?;
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn_on(task, &self.shared.runtime))
    }
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Option<JoinSet<()>>> {
        self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_news(&self) -> Option<OnNews> {
        self.shared.on_news.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What this server says of itself.
    #[must_use]
    pub fn me(&self) -> Hello {
        self.shared.me.borrow().clone()
    }

    async fn dial(&self, address: &str) -> io::Result<(Connection, Hello)> {
        let connect = self.shared.transport.connect(address);
        let mut connection = timeout(CONNECT_TIMEOUT, connect).await??;
        let theirs = hello::introduce(&mut connection, &self.me()).await?;
        Ok((connection, theirs))
    }

    /// Lets somebody in who says in time that it is of this cluster, and takes its frames.
    async fn receive(
        &self,
        connection: BoxFuture<'static, io::Result<Connection>>,
        known: Known,
    ) -> io::Result<()> {
        let introduction = async {
            let mut connection = connection.await?;
            let theirs = hello::answer(&mut connection, || self.me()).await?;
            Ok::<_, io::Error>((connection, theirs))
        };
        let (connection, theirs) = timeout(INTRODUCTION, introduction).await??;
        let (Some(on_news), mine) = (self.on_news(), self.me()) else { return Ok(()) };
        if theirs.cluster != mine.cluster {
            return Ok(());
        }
        let Some((heard, replaced)) = self.met(theirs, mine.member.id) else { return Ok(()) };
        known.settle();
        tokio::select! {
            ended = self.hear(connection, &heard, &on_news) => ended,
            // It has connected again, and may not know that this connection still stands.
            _ = replaced => Ok(()),
        }
    }

    /// Takes the frames of one connection. One that makes no sense ends it.
    async fn hear(
        &self,
        connection: Connection,
        heard: &AtomicU64,
        on_news: &OnNews,
    ) -> io::Result<()> {
        let mut frames = Framed::new(connection, self.codec());
        while let Some(frame) = frames.next().await {
            let frame = frame.inspect_err(|error| {
                if error.kind() == ErrorKind::InvalidData {
                    // It will come again, and again, until somebody changes something.
                    warn!(%error, "a frame from a peer is refused");
                }
            });
            let frame = frame?.freeze();
            heard.store(self.shared.clock.now().0.saturating_add(1), Ordering::Relaxed);
            let share = u32::try_from(frame.len()).map_err(io::Error::other)?;
            let budget = Arc::clone(&self.shared.budget).acquire_many_owned(share).await;
            let budget = budget.map_err(io::Error::other)?;
            if !on_news(News::Frame { frame, budget }) {
                break;
            }
        }
        Ok(())
    }

    /// A peer is answered where it says it listens, too. Returns where to note that it was heard,
    /// and what ends once it has connected so often that this is too old; `None`: there are too
    /// many peers, or it says that it is this server.
    fn met(
        &self,
        hello: Hello,
        me: NodeId,
    ) -> Option<(Arc<AtomicU64>, oneshot::Receiver<Infallible>)> {
        let id = hello.member.id;
        let has_place = {
            let peers = self.lock();
            peers.contains_key(&id) || peers.len() < PEERS_MAX
        };
        if has_place && id != me {
            self.learn(id, |addresses| addresses.said(hello.member, &hello.address));
        }
        let mut peers = self.lock();
        let peer = peers.get_mut(&id)?;
        let heard = peer.said(hello);
        peer.incoming.retain(|connection| !connection.is_closed());
        if peer.incoming.len() >= PEER_CONNECTIONS_MAX {
            peer.incoming.pop_front();
        }
        let (connection, replaced) = oneshot::channel();
        peer.incoming.push_back(connection);
        Some((heard, replaced))
    }

    fn codec(&self) -> LengthDelimitedCodec {
        LengthDelimitedCodec::builder()
            .max_frame_length(self.shared.frame_bytes_max)
            .little_endian()
            .new_codec()
    }
}
