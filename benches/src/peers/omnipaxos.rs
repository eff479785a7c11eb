//! The crate `omnipaxos` 0.2: Sequence Paxos beneath a ballot leader election of its own.
//!
//! Its `OmniPaxos` over its own `MemoryStorage`. An entry is the client's bytes, shared when it is
//! cloned; no unicache. Entries proposed together leave in one message, which the crate does by
//! itself until its messages are taken. Its election asks every server for a heartbeat from every
//! other: a tick is one such round and the heartbeat interval, and the first server has the higher
//! priority. Its buffers are told to start small (they begin at 100,000 messages otherwise). Decided
//! entries are read by every server, as its state machine must. A follower that comes back calls
//! `reconnected`, and gets all that it misses in one message. It has no pre-vote to switch on; the
//! leader is not told to stop when a quorum is silent. Over the wire: postcard over the crate's own
//! feature `serde`.
//!
//! Memory is its writes' only disk: an `Accepted` leaves within the call that appended.

use core::mem;

use bytes::Bytes;
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::{ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};

use crate::contest::{COMPACT_EVERY, Compaction, Contestant, Cut, Link, Shape};

/// The replicas of one group; the first one will lead.
pub(super) struct Group {
    nodes: Vec<Node>,
    shape: Shape,
    cut: Cut,
    to_propose: u64,
    commits: u64,
    trimmed: u64,
    /// Lent to every step and always returned empty.
    outgoing: Vec<Message<Command>>,
    /// The same, for every frame.
    frame: Vec<u8>,
}

/// What belongs to a host, and not to the nodes.
#[derive(Default)]
pub(super) struct Buffers {
    outgoing: Vec<Message<Command>>,
    frame: Vec<u8>,
    inboxes: Vec<(Vec<Message<Command>>, Vec<Command>)>,
}

struct Node {
    paxos: OmniPaxos<Command, MemoryStorage<Command>>,
    inbox: Vec<Message<Command>>,
    proposals: Vec<Command>,
    /// Entries that the state machine has read.
    applied: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Command(Bytes);

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

const LEADER: usize = 0;
/// Rounds of heartbeats in which an election must end.
const ROUNDS_MAX: u32 = 10;

impl Contestant for Group {
    type Buffers = Buffers;

    const NAME: &'static str = "omnipaxos";

    fn cold(shape: Shape) -> Self {
        let nodes: Vec<u64> = (1..=shape.servers as u64).collect();
        let node = |&pid: &u64| {
            let cluster =
                ClusterConfig { configuration_id: 1, nodes: nodes.clone(), flexible_quorum: None };
            let server = ServerConfig {
                pid,
                election_tick_timeout: 1,
                buffer_size: 8,
                leader_priority: u32::from(pid == 1),
                ..ServerConfig::default()
            };
            let paxos = cluster
                .build_for_server(server, MemoryStorage::default())
                .expect("the options are legal");
            Node { paxos, inbox: Vec::new(), proposals: Vec::new(), applied: 0 }
        };
        Self {
            nodes: nodes.iter().map(node).collect(),
            shape,
            cut: Cut::Nobody,
            to_propose: 0,
            commits: 0,
            trimmed: 0,
            outgoing: Vec::new(),
            frame: Vec::new(),
        }
    }

    fn elect(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.idle();
            let is_ready = |node: &Node| node.paxos.get_current_leader() == Some((1, true));
            if self.nodes.iter().all(is_ready) {
                return;
            }
        }
        panic!("nobody stands in the way");
    }

    fn commit(&mut self, commands: u64, outstanding: u64) {
        let goal = self.commits + commands;
        self.to_propose = commands;
        self.propose(outstanding.min(commands));
        self.run();
        assert_eq!(self.commits, goal, "a group without faults commits everything");
    }

    fn commit_batches(&mut self, batches: u64, size: u64) {
        let goal = self.commits + batches * size;
        self.pile_up(batches, size);
        assert_eq!(self.commits, goal, "a group without faults commits everything");
    }

    fn pile_up(&mut self, batches: u64, size: u64) {
        for _ in 0..batches {
            self.to_propose = size;
            self.propose(size);
            self.run();
        }
    }

    fn cut(&mut self, cut: Cut) {
        self.cut = cut;
    }

    fn catch_up(&mut self) {
        let last = self.nodes.len() - 1;
        self.cut = Cut::Nobody;
        self.nodes[last].paxos.reconnected(1);
        self.flush(last);
        self.run();
        let level = self.nodes[LEADER].applied;
        assert!(self.nodes.iter().all(|node| node.applied == level), "one message brings all");
    }

    fn exchange(&mut self, buffers: &mut Buffers) {
        mem::swap(&mut self.outgoing, &mut buffers.outgoing);
        mem::swap(&mut self.frame, &mut buffers.frame);
        buffers.inboxes.resize_with(self.nodes.len(), Default::default);
        for (node, (inbox, proposals)) in self.nodes.iter_mut().zip(&mut buffers.inboxes) {
            if node.inbox.is_empty() && node.proposals.is_empty() {
                mem::swap(&mut node.inbox, inbox);
                mem::swap(&mut node.proposals, proposals);
            }
        }
    }

    fn idle(&mut self) {
        for position in 0..self.nodes.len() {
            self.nodes[position].paxos.tick();
            self.flush(position);
        }
        self.run();
    }
}

impl Group {
    fn propose(&mut self, commands: u64) {
        let commands = commands.min(self.to_propose);
        self.to_propose -= commands;
        for _ in 0..commands {
            let command = Command(self.shape.command());
            self.nodes[LEADER].proposals.push(command);
        }
    }

    fn run(&mut self) {
        let is_waiting = |node: &Node| !node.inbox.is_empty() || !node.proposals.is_empty();
        while self.nodes.iter().any(is_waiting) {
            for position in 0..self.nodes.len() {
                let node = &mut self.nodes[position];
                if !is_waiting(node) {
                    continue;
                }
                for message in node.inbox.drain(..) {
                    node.paxos.handle_incoming(message);
                }
                for command in node.proposals.drain(..) {
                    node.paxos.append(command).expect("nothing is refused");
                }
                self.flush(position);
            }
        }
    }

    /// Sends what a server has to say, and applies what it has learned to be decided.
    fn flush(&mut self, position: usize) {
        let mut outgoing = mem::take(&mut self.outgoing);
        self.nodes[position].paxos.take_outgoing_messages(&mut outgoing);
        for message in outgoing.drain(..) {
            self.send(position, message);
        }
        self.outgoing = outgoing;
        let applied = self.nodes[position].apply();
        if position == LEADER {
            self.commits += applied;
            self.propose(applied);
            self.trim();
        }
    }

    /// Drops what everybody has; refused as long as somebody lacks all of it.
    fn trim(&mut self) {
        let is_due = self.commits >= self.trimmed + COMPACT_EVERY;
        if is_due && self.shape.compaction == Compaction::Regular {
            self.trimmed = self.commits;
            self.nodes[LEADER].paxos.trim(None).expect("everybody keeps up");
        }
    }

    fn send(&mut self, from: usize, message: Message<Command>) {
        let to = usize::try_from(message.get_receiver()).expect("a small id") - 1;
        let members = self.nodes.len();
        if self.cut.hits(from, members) || self.cut.hits(to, members) {
            return;
        }
        let message = match self.shape.link {
            Link::Direct => message,
            Link::Wire => {
                let buffer = mem::take(&mut self.frame);
                let frame = postcard::to_extend(&message, buffer).expect("memory suffices");
                let message = postcard::from_bytes(&frame).expect("an intact frame is understood");
                self.frame = frame;
                self.frame.clear();
                message
            }
        };
        self.nodes[to].inbox.push(message);
    }
}

impl Node {
    /// The state machine reads what is decided, and does nothing with it; how much that was.
    fn apply(&mut self) -> u64 {
        let decided = self.paxos.get_decided_idx();
        if decided == self.applied {
            return 0;
        }
        let entries = self.paxos.read_decided_suffix(self.applied).expect("it is not trimmed");
        self.applied += entries.len();
        assert_eq!(self.applied, decided, "what is decided can be read");
        entries.len() as u64
    }
}
