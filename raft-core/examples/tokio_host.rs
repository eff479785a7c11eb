//! A host on tokio: three nodes in one process that speak over TCP, each with a file.
//!
//! One task owns a node and waits for its inboxes and its next deadline. Everything else
//! is a task that puts into one of them, or a queue that the node's task never waits for:
//!
//! ```text
//!  listen ─▶ hear (one per connection) ─▶ ┌──────┐ ─▶ speak (one per peer) ─▶ TCP
//!  clients ─────────────────────────────▶ │ node │
//!                                         └──────┘ ◀─▶ disk (a blocking thread)
//! ```
//!
//! The program commits some items, stops the leader, commits some more through the other two, and
//! reads them all at each survivor: at the leader by lease, at the follower by asking the leader (thesis
//! §6.4).
//!
//! Deliberately absent: discovery of addresses, and snapshots.
#![expect(clippy::disallowed_types, reason = "a host owns the clock: the core has none")]
#![expect(clippy::print_stdout, reason = "a program that people watch")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::{
    Body, ClusterId, Config, Effect, GroupId, Index, Member, Membership, Message, Observation,
    Outcome, Payload, Raft, ReadMode, Rejection, Ticket, Time, wire,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, JoinSet};
use tokio::time;

use crate::wal::{Wal, Work};

#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/wal.rs"]
mod wal;

const ITEMS: usize = 100;
const CLIENTS: usize = 8;
/// Every queue has an end. Who puts into a full inbox waits; a frame for a full peer is dropped.
const QUEUE: usize = 1024;

type Items = BTreeSet<Bytes>;
type Answer<T> = oneshot::Sender<Result<T, Outcome>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).filter(|folder| !folder.starts_with('-'));
    let folder = folder.ok_or("usage: tokio_host <folder>")?;
    let mut cluster = start(&PathBuf::from(folder)).await?;
    let leader = insert_all(&cluster, "before").await?;
    println!("{ITEMS} items are in; {leader} led, and stops");
    // Aborts its tasks and closes its sockets: for the others it has crashed.
    cluster.remove(&leader);
    let leader = insert_all(&cluster, "after").await?;
    println!("{ITEMS} more are in; {leader} leads");
    for (member, server) in &cluster {
        let items = read(server).await?;
        println!("{member} reads {} items", items.len());
    }
    Ok(())
}

/// What a client asks for.
enum Request {
    Insert(Bytes, Answer<()>),
    Read(Answer<Items>),
}

/// A node as its owner sees it; dropping it stops it.
struct Server {
    clients: mpsc::Sender<Request>,
    _tasks: JoinSet<()>,
}

struct Node {
    raft: Raft,
    started: Instant,
    /// Peers' messages and completions of the disk, for the core as they are.
    inbox: mpsc::Receiver<Body>,
    clients: mpsc::Receiver<Request>,
    disk: mpsc::UnboundedSender<Work>,
    peers: BTreeMap<Member, mpsc::Sender<Bytes>>,
    /// What the core will be told in the next batch.
    inputs: Vec<Body>,
    next_ticket: u64,
    inserts: BTreeMap<Ticket, Answer<()>>,
    reads: BTreeMap<Ticket, Answer<Items>>,
    /// Reads that wait until the items have been applied through their index, and until when their
    /// answers are good.
    ready: Vec<(Index, Option<Time>, Answer<Items>)>,
    applied: Index,
    items: Items,
}

impl Node {
    async fn run(mut self, mut effects: Vec<Effect>) {
        loop {
            effects.drain(..).for_each(|effect| self.execute(effect));
            if self.inputs.is_empty() {
                let deadline = time::sleep(self.until_deadline());
                tokio::select! {
                    Some(body) = self.inbox.recv() => self.inputs.push(body),
                    Some(request) = self.clients.recv() => self.submit(request),
                    () = deadline => {}
                }
            }
            // The more there is in one batch, the fewer messages and syncs come out of it.
            self.inputs.extend(std::iter::from_fn(|| self.inbox.try_recv().ok()));
            while let Ok(request) = self.clients.try_recv() {
                self.submit(request);
            }
            if self.until_deadline().is_zero() {
                self.inputs.push(Body::Tick);
            }
            let now = self.now();
            let messages = self.inputs.drain(..).map(|body| Message { now, body });
            self.raft.step_batch(messages, &mut effects);
        }
    }

    /// Hands a request to the core under a ticket of its own.
    fn submit(&mut self, request: Request) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.inputs.push(match request {
            Request::Insert(command, answer) => {
                self.inserts.insert(ticket, answer);
                Body::Propose { ticket, command }
            }
            Request::Read(answer) => {
                self.reads.insert(ticket, answer);
                Body::Read { ticket, mode: ReadMode::Lease }
            }
        });
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            // Unbounded, but the core is not: it lets only so many bytes be uncommitted.
            Effect::Persist(batch) => drop(self.disk.send(Work::Persist(batch))),
            // A frame for a peer that is too slow is lost, as frames are.
            Effect::Send(envelope) => {
                if let Some(peer) = self.peers.get(&envelope.to) {
                    drop(peer.try_send(wire::encode(&envelope)));
                }
            }
            Effect::Apply { entries } => {
                for entry in entries.iter() {
                    self.applied = entry.index();
                    match entry.payload() {
                        Payload::Command(item) => drop(self.items.replace(item.clone())),
                        Payload::Noop | Payload::Membership(_) => {}
                    }
                }
                self.inputs.push(Body::Applied { through: self.applied });
                self.answer_reads();
            }
            Effect::ReadReady { ticket, index, valid_until } => {
                let answer = self.reads.remove(&ticket);
                self.ready.extend(answer.map(|answer| (index, valid_until, answer)));
                self.answer_reads();
            }
            Effect::Outcome { ticket, outcome } => {
                if let Some(answer) = self.reads.remove(&ticket) {
                    drop(answer.send(Err(outcome)));
                }
                if let Some(answer) = self.inserts.remove(&ticket) {
                    let is_committed = matches!(outcome, Outcome::Committed { .. });
                    let _ = answer.send(if is_committed { Ok(()) } else { Err(outcome) });
                }
            }
            Effect::Observe(Observation::LeaderChanged { leader: Some(leader), term }) => {
                println!("{}: {leader} leads {term}", self.raft.status().member);
            }
            Effect::Observe(_) => {}
            Effect::Load(request) => drop(self.disk.send(Work::Load(request))),
            // No node of this group takes snapshots, so none is ever read, staged or restored.
            Effect::ReadChunk(request) => {
                self.inputs.push(Body::ChunkRead { request, chunk: None });
            }
            Effect::StageChunk { id, .. } => {
                self.inputs.push(Body::ChunkStaged { id, staged: 0 });
            }
            Effect::RestoreState { .. } => unreachable!("no snapshot was ever staged"),
        }
    }

    fn answer_reads(&mut self) {
        let applied = self.applied;
        let ready: Vec<_> = self.ready.extract_if(.., |(index, ..)| *index <= applied).collect();
        for (_, valid_until, answer) in ready {
            let items = self.items.clone();
            // The clock comes last: if the lease is over by now, another leader may have gone on.
            if valid_until.is_some_and(|until| until <= self.now()) {
                self.submit(Request::Read(answer));
            } else {
                drop(answer.send(Ok(items)));
            }
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn until_deadline(&self) -> Duration {
        let deadline = self.raft.next_deadline().unwrap_or(Time(u64::MAX));
        Duration::from_micros(deadline.since(self.now()).0)
    }
}

/// The disk: what has queued up, one sync, the answers.
fn run_disk(mut wal: Wal, mut queue: mpsc::UnboundedReceiver<Work>, node: &mpsc::Sender<Body>) {
    while let Some(first) = queue.blocking_recv() {
        let more = std::iter::from_fn(|| queue.try_recv().ok());
        let done = wal.work(std::iter::once(first).chain(more));
        let has_failed = done.is_err();
        for body in done.unwrap_or_else(|_| vec![Body::PersistFailed]) {
            drop(node.blocking_send(body));
        }
        if has_failed {
            return;
        }
    }
}

async fn start(folder: &Path) -> Result<BTreeMap<Member, Server>, Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    // A host draws a random lineage when it formats a folder, and founders exchange them.
    let members: Vec<Member> = (1..=3).map(|id| Member::new(id, id)).collect();
    let founders = Membership::new(members.clone(), vec![])?;
    let mut listeners = Vec::new();
    let mut addresses = BTreeMap::new();
    for member in &members {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.insert(*member, listener.local_addr()?);
        listeners.push((*member, listener));
    }
    let mut cluster = BTreeMap::new();
    for (me, listener) in listeners {
        let (wal, found) = Wal::open(&folder.join(format!("{me}.wal")), founders.clone())?;
        let mut config = Config::new(ClusterId(1), GroupId(0), me);
        config.election_timeout_us = 300_000;
        config.heartbeat_interval_us = 50_000;
        config.lease_us = 200_000;
        let limits = wire::Limits::for_config(&config);
        let (raft, first) = Raft::recover(config, found, Time(0))?;
        let (sender, inbox) = mpsc::channel(QUEUE);
        let (clients, requests) = mpsc::channel(QUEUE);
        let (disk, queue) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let mut peers = BTreeMap::new();
        for (peer, address) in addresses.iter().filter(|(peer, _)| **peer != me) {
            let (frames, outbox) = mpsc::channel(QUEUE);
            peers.insert(*peer, frames);
            tasks.spawn(tcp::speak(*address, *peer, outbox, sender.clone()));
        }
        tasks.spawn(tcp::listen(listener, sender.clone(), limits));
        task::spawn_blocking(move || run_disk(wal, queue, &sender));
        let node = Node {
            raft,
            started: Instant::now(),
            inbox,
            clients: requests,
            disk,
            peers,
            inputs: Vec::new(),
            next_ticket: 0,
            inserts: BTreeMap::new(),
            reads: BTreeMap::new(),
            ready: Vec::new(),
            applied: Index::ZERO,
            items: Items::new(),
        };
        tasks.spawn(node.run(first));
        cluster.insert(me, Server { clients, _tasks: tasks });
    }
    Ok(cluster)
}

/// Several clients at once, each with its share of the items. Says who led in the end.
async fn insert_all(
    cluster: &BTreeMap<Member, Server>,
    prefix: &str,
) -> Result<Member, Box<dyn Error>> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let servers: BTreeMap<Member, mpsc::Sender<Request>> =
            cluster.iter().map(|(member, server)| (*member, server.clients.clone())).collect();
        let items: Vec<Bytes> = (client..ITEMS)
            .step_by(CLIENTS)
            .map(|n| Bytes::from(format!("{prefix} {n}")))
            .collect();
        clients.spawn(async move {
            let mut leader = None;
            for item in items {
                leader = Some(insert(&servers, leader, &item).await);
            }
            leader
        });
    }
    let leaders = clients.join_all().await;
    leaders.into_iter().flatten().last().ok_or_else(|| "no client inserted anything".into())
}

/// Asks whoever may lead until the item is in. An item that is inserted twice is in once, so even
/// an unknown outcome may be tried again.
async fn insert(
    servers: &BTreeMap<Member, mpsc::Sender<Request>>,
    leader: Option<Member>,
    item: &Bytes,
) -> Member {
    let mut hint = leader;
    let mut others = servers.keys().copied().cycle();
    loop {
        let target = hint.take().or_else(|| others.next()).expect("there are nodes");
        // A hint may name the node that was stopped.
        let Some(server) = servers.get(&target) else { continue };
        let (answer, answered) = oneshot::channel();
        if server.send(Request::Insert(item.clone(), answer)).await.is_err() {
            continue;
        }
        match answered.await {
            Ok(Ok(())) => return target,
            Ok(Err(Outcome::Refused(Rejection::NotLeader { hint: Some(leader) }))) => {
                hint = Some(leader);
            }
            Ok(Err(_)) | Err(_) => time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Asks one node, whoever leads: the node asks its leader.
async fn read(server: &Server) -> Result<Items, Box<dyn Error>> {
    loop {
        let (answer, answered) = oneshot::channel();
        server.clients.send(Request::Read(answer)).await.map_err(|_| "the node has stopped")?;
        match answered.await? {
            Ok(items) => return Ok(items),
            Err(_) => time::sleep(Duration::from_millis(20)).await,
        }
    }
}
