//! The crate `raft` 0.7, etcd's design in Rust.
//!
//! Its `RawNode` over its own `MemStorage`, driven as its documentation says: messages stepped,
//! then every `Ready` handled, the leader's messages before its writes, `advance_append` at once.
//! Pre-vote and check-quorum are on, and so is `batch_append`, without which 256 outstanding
//! proposals make 256 messages to each follower. Limits on messages and on what is uncommitted are
//! those of ours. A proposal enters by `step`, which takes the client's bytes as they are
//! (`propose` wants a vector), and a batch is one message with all of its entries. A tick is a
//! heartbeat interval, so a node is never ticked in vain. Logging is discarded, but compiled in as
//! the crate has it. Over the wire: protobuf, whose payloads are slices of the received frame.
//! Waiting clients are not told by the crate; their part, looking at what is committed, is left out.

use core::mem;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

use crate::contest::{COMPACT_EVERY, Compaction, Contestant, Cut, Link, Shape};

/// The replicas of one group; the first one will lead.
pub(super) struct Group {
    nodes: Vec<Node>,
    shape: Shape,
    cut: Cut,
    to_propose: u64,
    commits: u64,
    /// Lent to every step and always returned empty.
    outgoing: Vec<Message>,
}

/// What belongs to a host, and not to the nodes.
#[derive(Default)]
pub(super) struct Buffers {
    outgoing: Vec<Message>,
    inboxes: Vec<Vec<Message>>,
}

struct Node {
    raft: RawNode<MemStorage>,
    inbox: Vec<Message>,
    applied: u64,
    compacted: u64,
}

const LEADER: usize = 0;

impl Contestant for Group {
    type Buffers = Buffers;

    const NAME: &'static str = "raft";

    fn cold(shape: Shape) -> Self {
        let logger = Logger::root(Discard, o!());
        let ids = 1..=shape.servers as u64;
        let members: Vec<u64> = ids.clone().collect();
        let node = |id| {
            let state = ConfState::from((members.clone(), Vec::new()));
            let store = MemStorage::new_with_conf_state(state);
            let raft = RawNode::new(&config(id), store, &logger).expect("the options are legal");
            Node { raft, inbox: Vec::new(), applied: 0, compacted: 0 }
        };
        Self {
            nodes: ids.map(node).collect(),
            shape,
            cut: Cut::Nobody,
            to_propose: 0,
            commits: 0,
            outgoing: Vec::new(),
        }
    }

    fn elect(&mut self) {
        self.nodes[LEADER].raft.campaign().expect("a follower may campaign");
        self.handle_ready(LEADER);
        self.run();
        assert_eq!(self.nodes[LEADER].raft.raft.state, StateRole::Leader);
        assert!(self.is_level());
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
            let proposal = self.proposal(size);
            self.nodes[LEADER].inbox.push(proposal);
            self.run();
        }
    }

    fn cut(&mut self, cut: Cut) {
        self.cut = cut;
        for position in 1..self.nodes.len() {
            if cut.hits(position, self.nodes.len()) {
                self.nodes[LEADER].raft.report_unreachable(position as u64 + 1);
            }
        }
    }

    fn catch_up(&mut self) {
        self.cut = Cut::Nobody;
        self.idle();
        assert!(self.is_level(), "the answer to a heartbeat wakes the replication");
    }

    fn exchange(&mut self, buffers: &mut Buffers) {
        mem::swap(&mut self.outgoing, &mut buffers.outgoing);
        buffers.inboxes.resize_with(self.nodes.len(), Vec::new);
        for (node, inbox) in self.nodes.iter_mut().zip(&mut buffers.inboxes) {
            if node.inbox.is_empty() {
                mem::swap(&mut node.inbox, inbox);
            }
        }
    }

    fn idle(&mut self) {
        for position in 0..self.nodes.len() {
            self.nodes[position].raft.tick();
            self.handle_ready(position);
        }
        self.run();
    }
}

fn config(id: u64) -> Config {
    Config {
        id,
        election_tick: 10,
        heartbeat_tick: 1,
        max_size_per_msg: 256 << 10,
        max_inflight_msgs: 64,
        max_uncommitted_size: 16 << 20,
        check_quorum: true,
        pre_vote: true,
        batch_append: true,
        ..Config::default()
    }
}

impl Group {
    fn is_level(&self) -> bool {
        self.nodes.iter().all(|node| node.applied == self.nodes[LEADER].applied)
    }

    fn proposal(&self, size: u64) -> Message {
        let entry = || Entry { data: self.shape.command(), ..Entry::default() };
        let mut message = Message { from: LEADER as u64 + 1, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries((0..size).map(|_| entry()).collect::<Vec<_>>().into());
        message
    }

    fn propose(&mut self, commands: u64) {
        let commands = commands.min(self.to_propose);
        self.to_propose -= commands;
        for _ in 0..commands {
            let proposal = self.proposal(1);
            self.nodes[LEADER].inbox.push(proposal);
        }
    }

    fn run(&mut self) {
        while self.nodes.iter().any(|node| !node.inbox.is_empty()) {
            for position in 0..self.nodes.len() {
                let node = &mut self.nodes[position];
                if node.inbox.is_empty() {
                    continue;
                }
                for message in node.inbox.drain(..) {
                    node.raft.step(message).expect("nothing is refused");
                }
                self.handle_ready(position);
            }
        }
    }

    fn handle_ready(&mut self, position: usize) {
        while self.nodes[position].raft.has_ready() {
            let mut outgoing = mem::take(&mut self.outgoing);
            let before = self.nodes[position].applied;
            let commits = self.nodes[position].handle_ready(&mut outgoing);
            for message in outgoing.drain(..) {
                self.send(position, message);
            }
            self.outgoing = outgoing;
            if position == LEADER {
                self.commits += commits;
                self.propose(commits);
            }
            let node = &mut self.nodes[position];
            let is_due = before >= node.compacted + COMPACT_EVERY;
            if is_due && self.shape.compaction == Compaction::Regular {
                node.compact(before);
            }
        }
    }

    fn send(&mut self, from: usize, message: Message) {
        let to = usize::try_from(message.to).expect("a small id") - 1;
        let members = self.nodes.len();
        if self.cut.hits(from, members) || self.cut.hits(to, members) {
            return;
        }
        let message = match self.shape.link {
            Link::Direct => message,
            Link::Wire => {
                let frame = Bytes::from(message.write_to_bytes().expect("memory suffices"));
                Message::parse_from_carllerche_bytes(&frame).expect("an intact frame is understood")
            }
        };
        self.nodes[to].inbox.push(message);
    }
}

impl Node {
    /// Does what one `Ready` asks for; how many commands were committed by it.
    fn handle_ready(&mut self, outgoing: &mut Vec<Message>) -> u64 {
        let mut ready = self.raft.ready();
        outgoing.append(&mut ready.take_messages());
        let mut commits = self.apply(&ready.take_committed_entries());
        if !ready.entries().is_empty() || ready.hs().is_some() {
            let mut store = self.raft.store().wl();
            store.append(ready.entries()).expect("entries follow each other");
            if let Some(state) = ready.hs() {
                store.set_hardstate(HardState::clone(state));
            }
        }
        outgoing.append(&mut ready.take_persisted_messages());
        let mut light = self.raft.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.raft.store().wl().mut_hard_state().commit = commit;
        }
        outgoing.append(&mut light.take_messages());
        commits += self.apply(&light.take_committed_entries());
        self.raft.advance_apply_to(self.applied);
        commits
    }

    /// The state machine does nothing, at once. A leader's first entry is no command.
    fn apply(&mut self, entries: &[Entry]) -> u64 {
        if let Some(last) = entries.last() {
            self.applied = last.index;
        }
        entries.iter().filter(|entry| !entry.data.is_empty()).count() as u64
    }

    /// Every follower has answered up to here long ago, unless it is cut off.
    fn compact(&mut self, applied: u64) {
        self.compacted = applied;
        self.raft.store().wl().compact(applied).expect("applied entries are there");
    }
}
