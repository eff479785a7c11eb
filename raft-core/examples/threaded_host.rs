//! A host on plain threads: each node has one thread for the protocol and one for its disk, and
//! channels between them. Nothing is shared.
//!
//! ```text
//!  client ──propose──▶ ┌──────────┐ ──────Work──────▶ ┌──────┐
//!  peers  ──Envelope─▶ │   node   │                   │ disk │ ──▶ file
//!                      └──────────┘ ◀──Persisted───── └──────┘
//! ```
//!
//! The program founds three nodes in a folder, commits some commands, stops them all, starts them
//! again from their files and commits some more: everything must be there, in one order.
//!
//! Two things deserve a look. The node thread never waits for the disk: the core holds back what
//! depends on a batch until `Persisted` comes, and goes on with the rest. And the disk thread takes
//! all batches that have queued up and syncs them together, so the slower the disk, the larger the
//! groups.
//!
//! Deliberately absent: a network (peers are channels; `tokio_host.rs` has sockets) and snapshots.
#![expect(clippy::disallowed_types, reason = "a host owns the clock: the core has none")]
#![expect(clippy::disallowed_methods, reason = "a host owns the threads: the core has none")]
#![expect(clippy::print_stdout, reason = "a program that people watch")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, iter};

use bytes::Bytes;
use raft_core::{
    Body, ClusterId, Config, Effect, GroupId, Member, Membership, Message, Observation, Outcome,
    Payload, Raft, Rejection, Ticket, Time,
};

use crate::wal::{Wal, Work};

#[path = "common/wal.rs"]
mod wal;

const NODES: u64 = 3;
const COMMANDS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).filter(|folder| !folder.starts_with('-'));
    let folder = folder.ok_or("usage: threaded_host <folder>")?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder)?;
    let mut logs = Vec::new();
    for life in 1..=2 {
        let cluster = Cluster::start(&folder)?;
        for n in 0..COMMANDS {
            cluster.propose(&format!("life {life}, command {n}"))?;
        }
        logs = cluster.stop_at(life * COMMANDS)?;
        println!("life {life}: every node has applied {} commands", logs[0].len());
    }
    let is_equal = logs.windows(2).all(|pair| pair[0] == pair[1]);
    println!("{}", if is_equal { "all logs are equal" } else { "LOGS DIFFER" });
    Ok(())
}

/// What a node's inbox holds.
enum Input {
    /// For the core as it is: a peer's message, or a completion of the disk.
    Core(Body),
    /// A client's command; the outcome is sent back.
    Propose(Bytes, Sender<Outcome>),
    Stop,
}

/// Runs one node until it is told to stop, and returns the commands that it has applied.
struct Node {
    raft: Raft,
    inbox: Receiver<Input>,
    disk: Sender<Work>,
    peers: BTreeMap<Member, Sender<Input>>,
    progress: Sender<(Member, usize)>,
    started: Instant,
    /// What the core will be told in the next batch.
    inputs: Vec<Body>,
    next_ticket: u64,
    open: BTreeMap<Ticket, Sender<Outcome>>,
    /// The state machine: a list of commands.
    applied: Vec<Bytes>,
}

impl Node {
    fn run(mut self, first: Vec<Effect>) -> Vec<Bytes> {
        let mut effects = first;
        loop {
            effects.drain(..).for_each(|effect| self.execute(effect));
            // Completions that are here already go first; otherwise sleep until there is a reason.
            if self.inputs.is_empty() {
                match self.inbox.recv_timeout(self.until_deadline()) {
                    Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return self.applied,
                    Ok(input) => self.take(input),
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
            while let Ok(input) = self.inbox.try_recv() {
                if matches!(input, Input::Stop) {
                    return self.applied;
                }
                self.take(input);
            }
            if self.until_deadline().is_zero() {
                self.inputs.push(Body::Tick);
            }
            let now = self.now();
            let messages = self.inputs.drain(..).map(|body| Message { now, body });
            self.raft.step_batch(messages, &mut effects);
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Core(body) => self.inputs.push(body),
            Input::Propose(command, client) => {
                self.next_ticket += 1;
                let ticket = Ticket(self.next_ticket);
                self.open.insert(ticket, client);
                self.inputs.push(Body::Propose { ticket, command });
            }
            Input::Stop => unreachable!("the loop has looked for it"),
        }
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            // Not done when this returns, and it need not be. The thread at the other end writes in
            // the order of the channel, which is all the order that there is to keep.
            Effect::Persist(batch) => drop(self.disk.send(Work::Persist(batch))),
            // A message to a node that has stopped is lost, as messages are.
            Effect::Send(envelope) => {
                if let Some(peer) = self.peers.get(&envelope.to) {
                    drop(peer.send(Input::Core(Body::Peer(envelope))));
                }
            }
            Effect::Apply { entries } => {
                for entry in entries.iter() {
                    match entry.payload() {
                        Payload::Command(command) => self.applied.push(command.clone()),
                        Payload::Noop | Payload::Membership(_) => {}
                    }
                }
                if let Some(last) = entries.last() {
                    self.inputs.push(Body::Applied { through: last.index() });
                }
                let me = self.raft.status().member;
                let _ = self.progress.send((me, self.applied.len()));
            }
            Effect::Outcome { ticket, outcome } => {
                if let Some(client) = self.open.remove(&ticket) {
                    let _ = client.send(outcome);
                }
            }
            Effect::Observe(Observation::LeaderChanged { leader: Some(leader), term }) => {
                println!("{}: {leader} leads {term}", self.raft.status().member);
            }
            Effect::Observe(_) => {}
            Effect::ReadReady { .. } => unreachable!("nobody reads here"),
            Effect::Load(request) => {
                println!("{}: loads {request}", self.raft.status().member);
                drop(self.disk.send(Work::Load(request)));
            }
            // No snapshot is ever taken here, so there is none to read, and none to keep.
            Effect::ReadChunk(request) => {
                self.inputs.push(Body::ChunkRead { request, chunk: None });
            }
            Effect::StageChunk { id, .. } => {
                self.inputs.push(Body::ChunkStaged { id, staged: 0 });
            }
            Effect::RestoreState { .. } => unreachable!("no chunk was ever kept"),
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

/// The disk thread: what has queued up, one sync, the answers.
fn run_disk(mut wal: Wal, work: &Receiver<Work>, node: &Sender<Input>) {
    while let Ok(first) = work.recv() {
        let done = wal.work(iter::once(first).chain(work.try_iter()));
        let has_failed = done.is_err();
        for body in done.unwrap_or_else(|_| vec![Body::PersistFailed]) {
            drop(node.send(Input::Core(body)));
        }
        if has_failed {
            return;
        }
    }
}

/// The nodes as their owner sees them.
struct Cluster {
    inboxes: BTreeMap<Member, Sender<Input>>,
    nodes: Vec<JoinHandle<Vec<Bytes>>>,
    disks: Vec<JoinHandle<()>>,
    progress: Receiver<(Member, usize)>,
}

impl Cluster {
    fn start(folder: &Path) -> Result<Self, Box<dyn Error>> {
        // A host draws a random lineage when it formats a folder, and founders exchange them.
        let members: Vec<Member> = (1..=NODES).map(|id| Member::new(id, id)).collect();
        let founders = Membership::new(members.clone(), vec![])?;
        let (senders, receivers): (Vec<_>, Vec<_>) =
            members.iter().map(|_| mpsc::channel()).unzip();
        let inboxes: BTreeMap<Member, Sender<Input>> =
            members.iter().copied().zip(senders).collect();
        let (report, progress) = mpsc::channel();
        let (mut nodes, mut disks) = (Vec::new(), Vec::new());
        for (me, inbox) in members.into_iter().zip(receivers) {
            let (wal, found) = Wal::open(&folder.join(format!("{me}.wal")), founders.clone())?;
            let mut config = Config::new(ClusterId(1), GroupId(0), me);
            config.election_timeout_us = 300_000;
            config.heartbeat_interval_us = 50_000;
            config.resident_bytes_max = 1 << 10; // little, so that the file is read, too
            let (raft, first) = Raft::recover(config, found, Time(0))?;
            let (disk, work) = mpsc::channel();
            let own = inboxes[&me].clone();
            disks.push(thread::spawn(move || run_disk(wal, &work, &own)));
            let node = Node {
                raft,
                inbox,
                disk,
                peers: inboxes.clone(),
                progress: report.clone(),
                started: Instant::now(),
                inputs: Vec::new(),
                next_ticket: 0,
                open: BTreeMap::new(),
                applied: Vec::new(),
            };
            nodes.push(thread::spawn(move || node.run(first)));
        }
        Ok(Self { inboxes, nodes, disks, progress })
    }

    /// A client: asks whoever may lead until the command is committed.
    fn propose(&self, command: &str) -> Result<(), Box<dyn Error>> {
        let mut next = self.inboxes.keys().cycle();
        let mut target = next.next().copied();
        loop {
            let node = target.or_else(|| next.next().copied()).ok_or("there are nodes")?;
            let (client, outcome) = mpsc::channel();
            let command = Bytes::from(command.to_owned());
            self.inboxes[&node].send(Input::Propose(command, client))?;
            target = match outcome.recv()? {
                Outcome::Committed { .. } => return Ok(()),
                Outcome::Refused(Rejection::NotLeader { hint: Some(leader) }) => Some(leader),
                // Certainly not done: it is safe to ask again, after a while.
                Outcome::Refused(_) | Outcome::Superseded => {
                    thread::sleep(Duration::from_millis(20));
                    None
                }
                // Only a state machine that recognises a command's second coming may retry this.
                outcome @ (Outcome::Unknown | Outcome::Halted | Outcome::Transferred { .. }) => {
                    return Err(format!("{outcome:?}").into());
                }
            };
        }
    }

    /// Waits until every node has applied so many commands, and stops them.
    fn stop_at(self, commands: usize) -> Result<Vec<Vec<Bytes>>, Box<dyn Error>> {
        let mut reached = BTreeMap::new();
        while reached.values().filter(|count| **count >= commands).count() < self.nodes.len() {
            let (node, count) = self.progress.recv()?;
            reached.insert(node, count);
        }
        for inbox in self.inboxes.values() {
            inbox.send(Input::Stop)?;
        }
        let join = |node: JoinHandle<Vec<Bytes>>| node.join().map_err(|_| "a node panicked".into());
        let applied: Result<Vec<Vec<Bytes>>, Box<dyn Error>> =
            self.nodes.into_iter().map(join).collect();
        // A node that has stopped has closed its disk's queue: what is in it is still written.
        for disk in self.disks {
            disk.join().map_err(|_| "a disk panicked")?;
        }
        applied
    }
}
