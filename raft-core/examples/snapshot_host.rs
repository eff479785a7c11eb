//! A host that takes snapshots and installs them (§7), with a folder for each node. One thread, and a
//! clock that the program moves, so that there is nothing else to see.
//!
//! ```text
//!  n1/wal          the persist stream, short again after each snapshot
//!  n1/snapshot-60  the state through index 60, and what describes it
//! ```
//!
//! The program founds three nodes and commits numbers, most of them while one node is away; the others
//! take snapshots and drop the log before. The one that was away starts from its folder and lacks
//! what is in no log any more, and a fourth, which is new, lacks everything: both get a snapshot, in
//! chunks. Then all are stopped and start again from their folders.
//!
//! Deliberately absent: threads (`threaded_host.rs` has them) and a network (`tokio_host.rs`).
#![expect(clippy::print_stdout, reason = "a program that people watch")]

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;
use raft_core::{
    Body, ClusterId, Config, Effect, Envelope, GroupId, Index, Member, MemberStep, Membership,
    MembershipChange, Message, NodeId, Outcome, Payload, Raft, RoleName, Ticket, Time,
};

use crate::snapshots::Snapshots;
use crate::wal::{Wal, Work};

#[path = "common/snapshots.rs"]
mod snapshots;
#[path = "common/wal.rs"]
mod wal;

/// A node takes a snapshot once it has applied so many entries after the last one.
const SNAPSHOT_ENTRIES: u64 = 20;
const NUMBERS: u64 = 110;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).filter(|folder| !folder.starts_with('-'));
    let folder = PathBuf::from(folder.ok_or("usage: snapshot_host <folder>")?);
    let [n1, n2, n3, n4] = [1, 2, 3, 4].map(|id| Member::new(id, 1000 + id));
    let founders = Membership::new(vec![n1, n2, n3], vec![])?;
    let mut cluster =
        Cluster { folder, now: Time(0), nodes: BTreeMap::new(), on_way: vec![].into() };
    for member in [n1, n2, n3] {
        cluster.start(member, &founders)?;
    }
    (1..=10).try_for_each(|number| cluster.add(number))?;
    cluster.nodes.remove(&n3);
    (11..=NUMBERS).try_for_each(|number| cluster.add(number))?;
    cluster.tell("n3 is away")?;

    cluster.start(n3, &founders)?;
    cluster.pass_until(|cluster| cluster.is_level(n3))?;
    cluster.tell("n3 is back")?;

    // A node that knows nothing starts from an empty membership, and waits to be added.
    cluster.start(n4, &Membership::default())?;
    cluster.change(MemberStep::AddLearner(n4))?;
    cluster.pass_until(|cluster| cluster.is_level(n4))?;
    cluster.change(MemberStep::Promote(NodeId(4)))?;
    cluster.tell("n4 is new")?;

    // All stop at once; what they start from is what their folders hold.
    let members: Vec<Member> = std::mem::take(&mut cluster.nodes).into_keys().collect();
    cluster.on_way.clear();
    for member in members {
        cluster.start(member, &founders)?;
    }
    cluster.add(1)?;
    cluster.pass_until(|cluster| cluster.nodes.keys().all(|member| cluster.is_level(*member)))?;
    cluster.tell("all have started again")
}

/// The state machine: how many numbers there were, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    count: u64,
    sum: u64,
}

impl Totals {
    fn apply(&mut self, command: &[u8]) {
        let number = command.try_into().map_or(0, u64::from_le_bytes);
        *self = Self { count: self.count + 1, sum: self.sum + number };
    }

    fn encode(self) -> Bytes {
        [self.count.to_le_bytes(), self.sum.to_le_bytes()].concat().into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, sum) = bytes.split_first_chunk()?;
        let (count, sum) = (u64::from_le_bytes(*count), u64::from_le_bytes(sum.try_into().ok()?));
        Some(Self { count, sum })
    }
}

struct Node {
    raft: Raft,
    wal: Wal,
    snapshots: Snapshots,
    totals: Totals,
    outcomes: BTreeMap<Ticket, Outcome>,
    /// How many parts of snapshots have come.
    parts: u64,
}

impl Node {
    /// The start from a folder, be it the first or any other: the log says what there is, the newest
    /// snapshot that fits it says where the state machine begins.
    fn start(
        folder: &Path,
        me: Member,
        founders: &Membership,
        now: Time,
    ) -> Result<(Self, Vec<Effect>), Box<dyn Error>> {
        fs::create_dir_all(folder)?;
        let (wal, mut found) = Wal::open(&folder.join("wal"), founders.clone())?;
        let snapshots = Snapshots::open(folder, &mut found)?;
        // The state machine lives in memory, so nothing is applied. (Who keeps it on disk says how far.)
        found.applied = Index::ZERO;
        let mut config = Config::new(ClusterId(1), GroupId(0), me);
        config.snapshot_chunk_bytes = 5; // little, so that there are several
        let (raft, first) = Raft::recover(config, found, now)?;
        let (totals, outcomes) = (Totals::default(), BTreeMap::new());
        Ok((Self { raft, wal, snapshots, totals, outcomes, parts: 0 }, first))
    }

    /// Executes an effect other than `Send`, and returns what completes it.
    fn execute(&mut self, effect: Effect) -> io::Result<Vec<Body>> {
        Ok(match effect {
            Effect::Send(_) => unreachable!("the cluster has taken it"),
            Effect::Persist(batch) => {
                let installed = batch.install.clone().filter(|meta| meta.last.index > Index::ZERO);
                let is_over = installed.is_some() || batch.compact_to.is_some();
                // First the snapshot, then the log that counts on it, then what nobody needs any more.
                installed.map_or(Ok(()), |meta| self.snapshots.install(meta))?;
                let done = self.wal.work([Work::Persist(batch)])?;
                if is_over {
                    self.snapshots.drop_others()?;
                }
                done
            }
            Effect::Load(request) => self.wal.work([Work::Load(request)])?,
            Effect::Apply { entries } => {
                for entry in entries.iter() {
                    match entry.payload() {
                        Payload::Command(command) => self.totals.apply(command),
                        Payload::Noop | Payload::Membership(_) => {}
                    }
                }
                entries
                    .last()
                    .map(|last| Body::Applied { through: last.index() })
                    .into_iter()
                    .collect()
            }
            Effect::RestoreState { snapshot } => {
                let state = self.snapshots.state().and_then(|state| Totals::decode(state));
                self.totals = state.ok_or(io::ErrorKind::InvalidData)?;
                vec![Body::Applied { through: snapshot.last.index }]
            }
            Effect::ReadChunk(request) => {
                let chunk = self.snapshots.read(&request);
                vec![Body::ChunkRead { request, chunk }]
            }
            Effect::StageChunk { id, offset, data, .. } => {
                self.parts += 1;
                let staged = self.snapshots.stage(offset, &data);
                vec![Body::ChunkStaged { id, staged }]
            }
            Effect::Outcome { ticket, outcome } => {
                self.outcomes.insert(ticket, outcome);
                vec![]
            }
            Effect::ReadReady { .. } | Effect::Observe(_) => vec![],
        })
    }

    /// The host decides when: here, by the number of entries. What the state machine has applied and
    /// what the core knows to be applied is the same between two steps of this host.
    fn take_snapshot(&mut self) -> io::Result<Option<Body>> {
        let status = self.raft.status();
        if status.applied.0 < status.snapshot.index.0 + SNAPSHOT_ENTRIES {
            return Ok(None);
        }
        let Some(snapshot) = self.raft.snapshot_at(status.applied) else { return Ok(None) };
        self.snapshots.keep(snapshot.clone(), self.totals.encode())?;
        Ok(Some(Body::SnapshotTaken { snapshot })) // It is durable: the log before it may go.
    }
}

/// The nodes that run, and the messages between them.
struct Cluster {
    folder: PathBuf,
    now: Time,
    nodes: BTreeMap<Member, Node>,
    on_way: VecDeque<Envelope>,
}

impl Cluster {
    fn start(&mut self, member: Member, founders: &Membership) -> Result<(), Box<dyn Error>> {
        let folder = self.folder.join(format!("n{}", member.id.0));
        let (node, first) = Node::start(&folder, member, founders, self.now)?;
        self.nodes.insert(member, node);
        self.execute(member, first)
    }

    fn step(&mut self, member: Member, body: Body) -> Result<(), Box<dyn Error>> {
        let node = self.nodes.get_mut(&member).ok_or("it does not run")?;
        let effects = node.raft.step(Message { now: self.now, body });
        self.execute(member, effects)
    }

    /// Executes what comes out of a node, and gives it the completions, until nothing is left to do.
    fn execute(&mut self, member: Member, effects: Vec<Effect>) -> Result<(), Box<dyn Error>> {
        let node = self.nodes.get_mut(&member).ok_or("it does not run")?;
        let mut effects = VecDeque::from(effects);
        loop {
            let bodies = match effects.pop_front() {
                Some(Effect::Send(envelope)) => {
                    self.on_way.push_back(envelope);
                    continue;
                }
                Some(effect) => node.execute(effect)?,
                None => match node.take_snapshot()? {
                    Some(taken) => vec![taken],
                    None => return Ok(()),
                },
            };
            for body in bodies {
                effects.extend(node.raft.step(Message { now: self.now, body }));
            }
        }
    }

    /// Lets time pass, from one deadline to the next, until something is so.
    fn pass_until(&mut self, is_so: impl Fn(&Self) -> bool) -> Result<(), Box<dyn Error>> {
        let end = Time(self.now.0 + 60_000_000);
        while !is_so(self) {
            if let Some(envelope) = self.on_way.pop_front() {
                if self.nodes.contains_key(&envelope.to) {
                    self.step(envelope.to, Body::Peer(envelope))?;
                }
                continue;
            }
            let deadline =
                |(member, node): (&Member, &Node)| Some((node.raft.next_deadline()?, *member));
            let (at, member) =
                self.nodes.iter().filter_map(deadline).min().ok_or("nobody waits")?;
            self.now = self.now.max(at);
            if self.now > end {
                return Err("a minute has passed".into());
            }
            self.step(member, Body::Tick)?;
        }
        Ok(())
    }

    fn leader(&self) -> Option<Member> {
        let leads = |node: &Node| node.raft.status().role == RoleName::Leader;
        self.nodes.iter().find(|(_, node)| leads(node)).map(|(member, _)| *member)
    }

    /// Whether a node has applied all that the leader has.
    fn is_level(&self, member: Member) -> bool {
        let applied =
            |member: &Member| self.nodes.get(member).map(|node| node.raft.status().applied);
        self.leader().is_some_and(|leader| applied(&leader) == applied(&member))
    }

    fn add(&mut self, number: u64) -> Result<(), Box<dyn Error>> {
        let command = Bytes::copy_from_slice(&number.to_le_bytes());
        self.ask(|ticket| Body::Propose { ticket, command: command.clone() })
    }

    fn change(&mut self, step: MemberStep) -> Result<(), Box<dyn Error>> {
        let change = || MembershipChange::Steps(vec![step]);
        self.ask(|ticket| Body::ProposeMembership { ticket, change: change(), expect: None })
    }

    /// Asks whoever leads until it is done.
    fn ask(&mut self, request: impl Fn(Ticket) -> Body) -> Result<(), Box<dyn Error>> {
        let ticket = Ticket(1);
        loop {
            self.pass_until(|cluster| cluster.leader().is_some())?;
            let leader = self.leader().ok_or("somebody leads")?;
            self.step(leader, request(ticket))?;
            let ended = |cluster: &Self| cluster.nodes[&leader].outcomes.contains_key(&ticket);
            self.pass_until(ended)?;
            let node = self.nodes.get_mut(&leader).ok_or("it runs")?;
            match node.outcomes.remove(&ticket) {
                Some(Outcome::Committed { .. }) => return Ok(()),
                Some(Outcome::Refused(_)) => {
                    let later = Time(self.now.0 + 100_000);
                    self.pass_until(|cluster| cluster.now >= later)?;
                }
                outcome => return Err(format!("{outcome:?}").into()),
            }
        }
    }

    fn tell(&self, what: &str) -> Result<(), Box<dyn Error>> {
        println!("{what}:");
        for (member, node) in &self.nodes {
            let (status, Totals { count, sum }) = (node.raft.status(), node.totals);
            let folder = self.folder.join(format!("n{}", member.id.0));
            let bytes = fs::metadata(folder.join("wal"))?.len();
            let (base, parts) = (status.base.index, node.parts);
            println!(
                "  {member} has {count} numbers, sum {sum}; its log begins after {base} ({bytes} bytes); \
                 {parts} parts of snapshots have come"
            );
        }
        Ok(())
    }
}
