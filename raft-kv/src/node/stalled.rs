//! A disk that stands still, or takes its thread along, under a node that must not stand still.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{ClusterId, GroupId, Membership, NodeId, Time};
use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;
use raft_replica::kv::KvCommand;
use raft_replica::storage::{Identity, Storage, StorageOptions};
use tokio::time::{Instant, timeout};

use super::*;
use crate::config::ServerConfig;
use crate::hello::Hello;
use crate::metrics::Metrics;
use crate::store::Condition;
use crate::transport::Transport as _;
use crate::transport::memory::Network;

/// The longest that anything here may take.
const DEADLINE: Duration = Duration::from_secs(60);

const CLUSTER: ClusterId = ClusterId(7);

/// What syncs wait for while it is closed. One that is broken is a panic.
#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
    is_broken: AtomicBool,
}

impl Gate {
    fn set(&self, is_closed: bool) {
        *self.is_closed.lock().unwrap() = is_closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        assert!(!self.is_broken.load(Ordering::SeqCst), "a panic that a test has asked for");
        let closed = self.is_closed.lock().unwrap();
        drop(self.changed.wait_while(closed, |is_closed| *is_closed).unwrap());
    }
}

/// Real files behind a gate.
struct Gated {
    disk: FileDisk,
    gate: Arc<Gate>,
}

impl raft_replica::layer::Layer for Gated {
    type Below = FileDisk;

    fn below(&mut self) -> &mut FileDisk {
        &mut self.disk
    }

    fn sync(&mut self, file: &File) -> Result<(), DiskError> {
        self.gate.pass();
        self.disk.sync(file)
    }

    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError> {
        self.gate.pass();
        self.disk.sync_dir(dir)
    }
}

pub(crate) struct One {
    pub(crate) node: Node,
    links: Links,
    gate: Arc<Gate>,
    pub(crate) thread: JoinHandle<()>,
    _hello: watch::Sender<Hello>,
}

fn address(id: NodeId) -> String {
    format!("server-{}", id.0)
}

impl One {
    pub(crate) async fn start(
        member: Member,
        founders: &[Member],
        network: &Network,
        path: &Path,
    ) -> Self {
        let (gate, clock) = (Arc::new(Gate::default()), Clock::start());
        let path = path.join(member.id.0.to_string());
        std::fs::create_dir_all(path.join("raft")).unwrap();
        let disk = FileDisk::new(path.join("raft")).unwrap();
        let mut disk = Gated { disk, gate: Arc::clone(&gate) };
        let identity = Identity { cluster: CLUSTER, group: GroupId(1), member };
        Storage::format(&mut disk, identity).unwrap();
        let options = StorageOptions::default();
        let (storage, found) = Storage::open(disk, options, Some(identity)).unwrap();
        let found = found.into_state(&Membership::new(founders.to_vec(), Vec::new()).unwrap());

        let hello = Hello {
            member,
            address: address(member.id),
            client_url: String::new(),
            cluster: Some(CLUSTER),
            founders: founders.to_vec(),
            configured: Vec::new(),
        };
        let (hello, said) = watch::channel(hello);
        let end = Arc::new(network.end(&address(member.id)));
        let listener = end.listen(&address(member.id)).await.unwrap();
        let links = Links::new(end, said, 1 << 24, clock);
        for other in founders.iter().filter(|other| **other != member) {
            links.set_address(other.id, &address(other.id));
        }
        tokio::spawn(links.clone().listen(listener));

        let mut config = ServerConfig::new(member.id.0, "", "", path.clone());
        config.election_timeout = Duration::from_secs(2);
        config.heartbeat = Duration::from_millis(20);
        let options = config.replica_options(CLUSTER, member.lineage);
        let shared = links.clone();
        let (node, thread) = Node::start(move |inbox| {
            let metrics = Metrics::new();
            let tell = move |news| inbox.send(Event::Disk(news)).is_ok();
            let log = LogThread::start(storage, clock, metrics.clone(), 0, tell)?;
            let links = shared;
            let parts = Parts { options, found, log, links, clock, metrics, recorder: None };
            let directory = DataDirectory::open(&path.join("directory"), member.id);
            Ok((parts, directory.map_err(io::Error::other)?))
        })
        .unwrap();
        let inbox = node.clone();
        links.open(Arc::new(move |news| inbox.tell(Event::Link(news)).is_ok()));
        Self { node, links, gate, thread, _hello: hello }
    }

    pub(super) async fn write(&self) -> Reply<Store> {
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
        let (condition, write) = (Condition::Always, KvCommand::Put { key, value });
        self.node.write(StoreCommand::Write { once: None, condition, write }).await.unwrap()
    }

    /// Waits until what everybody may know of it is so.
    async fn until(&self, what: &str, is_so: impl FnMut(&Published) -> bool) {
        let mut published = self.node.published();
        let waited = timeout(DEADLINE, published.wait_for(is_so)).await;
        let is_so = waited.unwrap_or_else(|_| panic!("not in time: {what}")).is_ok();
        assert!(is_so, "it has ended before: {what}");
    }

    fn heard(&self, id: NodeId) -> Option<Time> {
        self.links.peers().get(&id)?.heard
    }
}

pub(super) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < DEADLINE, "not in time: {what}");
        tokio::task::yield_now().await;
    }
}

/// Three servers, one of which leads and serves; and which.
async fn three(directory: &Path) -> (Vec<One>, usize) {
    let network = Network::default();
    let founders: Vec<Member> = (1..=3).map(|id| Member::new(id, 10 + id)).collect();
    let mut all = Vec::new();
    for member in &founders {
        all.push(One::start(*member, &founders, &network, directory).await);
    }
    let mut leader = None;
    until("somebody leads and serves", async || {
        all[0].until("somebody leads", |published| published.leader.is_some()).await;
        leader = all.iter().position(|one| one.node.now().role == RoleName::Leader);
        let Some(at) = leader else { return false };
        matches!(all[at].write().await, Reply::Response { .. })
    })
    .await;
    (all, leader.expect("somebody leads"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_stands_still_goes_on_speaking_and_hands_over() {
    let directory = tempfile::tempdir().unwrap();
    let (all, leader) = three(directory.path()).await;
    let old = &all[leader];
    let other = &all[(leader + 1) % 3];
    let before = old.node.now();
    assert_eq!(before.role, RoleName::Leader);

    old.gate.set(true);
    let mut heard = Vec::new();
    let stalled = async {
        until("another one leads", async || {
            heard.extend(other.heard(before.me.id));
            heard.dedup();
            let now = other.node.now();
            now.leader.is_some_and(|leader| leader != before.me)
        })
        .await;
        let now = other.node.now();
        assert_eq!(now.term.0, before.term.0 + 1, "one election, asked for, is all it takes");
        assert!(heard.len() >= 3, "the old one went on speaking: {heard:?}");
        // It has not been told yet that anything is durable, and knows all the same.
        old.until("the old one knows", |published| published.leader == now.leader).await;
        assert!(old.node.inspect(|view| view.now).await.is_ok());
        old.gate.set(false);
    };
    // Whatever becomes of it, it is told once the disk goes on.
    tokio::join!(stalled, old.write());
    for one in &all {
        one.node.stop();
    }
    for one in all {
        one.thread.join().unwrap();
    }
}

/// Who was asked first could not take over: it lacks what its own disk has not taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_stands_still_asks_again_if_nobody_took_over() {
    let directory = tempfile::tempdir().unwrap();
    let (all, leader) = three(directory.path()).await;
    let old = &all[leader];
    let others: Vec<&One> = (1..3).map(|other| &all[(leader + other) % 3]).collect();
    let before = old.node.now();
    let is_handing_over = async || {
        let look = old.node.inspect(|view| view.replica.status().transferee.is_some());
        look.await.unwrap()
    };

    for one in &all {
        one.gate.set(true);
    }
    let stalled = async {
        until("somebody is asked", is_handing_over).await;
        until("in vain", async || !is_handing_over().await).await;
        let now = old.node.now();
        assert_eq!((now.role, now.term), (before.role, before.term), "it leads on");
        for one in &others {
            one.gate.set(false);
        }
        let is_another = |leader: Member| leader != before.me;
        let told = |published: &Published| published.leader.is_some_and(is_another);
        others[0].until("another one leads", told).await;
        assert_eq!(others[0].node.now().term.0, before.term.0 + 1, "it was asked for");
        old.gate.set(false);
    };
    tokio::join!(stalled, old.write());
    for one in &all {
        one.node.stop();
    }
    for one in all {
        one.thread.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_thread_panics_ends_and_says_why() {
    let (directory, network) = (tempfile::tempdir().unwrap(), Network::default());
    let me = Member::new(1, 11);
    let one = One::start(me, &[me], &network, directory.path()).await;
    until("it serves", async || matches!(one.write().await, Reply::Response { .. })).await;
    one.gate.is_broken.store(true, Ordering::SeqCst);
    let (key, condition) = (Bytes::from_static(b"k"), Condition::Always);
    let write = StoreCommand::Write { once: None, condition, write: KvCommand::Delete { key } };
    let reply = one.node.write(write).await;
    assert!(!matches!(reply, Ok(Reply::Response { .. })), "{reply:?}");
    let mut published = one.node.published();
    let ended = published.wait_for(|published| published.end.is_some()).await;
    let end = ended.unwrap().end.clone();
    assert_eq!(end, Some(End::Failed("the log thread has panicked".to_owned())));
    one.thread.join().unwrap();
}
