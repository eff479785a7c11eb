//! The world: nodes, network, clients, the nemesis and the checker, driven by one queue of events.
//!
//! A run has two phases. In *chaos* the nemesis strikes for a number of events and only safety is
//! demanded. Then the world *heals*, and within a bound of time the cluster must lead, write, read
//! and agree (see `liveness`). The checker looks at every output at the moment it is made.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::wire::Limits;
use raft_core::{EntryId, Member, Membership};
use raft_replica::request::{Input, Output, RequestId};
use raft_replica::storage::Storage;
use serde::{Deserialize, Serialize};

use crate::beyond::Beyond;
use crate::check::{Checker, Wish};
use crate::client::Client;
use crate::cuts::Cuts;
use crate::digest::Digest;
use crate::disk::Call;
use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::{Fault, Part, Tally};
use crate::liveness::Healed;
use crate::nemesis::Nemesis;
use crate::network::Network;
use crate::node::Node;
use crate::options::Options;
use crate::power::PowerLoss;
use crate::queue::Queue;
use crate::quiet::Rest;
use crate::rest::Rests;
use crate::rng::{Purpose, Ratio, Stream};
use crate::sabotage::Sabotage;
use crate::script::Scribe;
use crate::tape::Choices;
use crate::trace::Trace;
use crate::workload::{KeyValue, Machine, Workload};

/// What a run has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events before the faults ended; zero if a failure came first.
    pub chaos_events: u64,
    /// Events that have come up.
    pub events: u64,
    /// How often a node became leader.
    pub elections: u64,
    /// How often a process ended.
    pub crashes: u64,
    /// How often a process started.
    pub starts: u64,
    /// Sessions that were opened.
    pub sessions: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Writes and reads that were answered before the faults ended.
    pub served: u64,
    /// Requests that were made after more was taken than the group can bear.
    pub asked_beyond: u64,
    /// Frames that were given to the network.
    pub frames: u64,
    /// Batches of disk work that became durable.
    pub syncs: u64,
    /// Snapshots that replaced a state.
    pub restored: u64,
    /// Histories of clients that were judged without looking inside, and found to be linearizable.
    pub judged: u64,
    /// Those for which that was given up.
    pub undecided: u64,
    /// Injections and effects of all classes of faults.
    pub tally: Tally,
    /// Starts that found the end of a log to be unknown, and it was shorter than it had been.
    pub doubts: u64,
    /// Those that found the same of a log that had lost nothing: too many of them cost votes for
    /// nothing.
    pub needless_doubts: u64,
    /// Groups that came to rest after everything else, and were seen to be quiet.
    pub rested: u64,
    /// What was asked of peers, and what came of it, where a log had holes.
    pub repairs: Repairs,
    /// Disks that were told that they are at rest, and what came of it.
    pub rests: Rests,
    /// What was foretold when disks lost more than the group can bear, and what came of it.
    pub beyond: Option<Beyond>,
    /// What power losses have taken back, of everything that was not synced.
    pub lost: PowerLoss,
    /// The calls that change a directory and have failed by an injected error.
    pub failed_calls: BTreeMap<Call, u64>,
    /// By what they have hurt first: the wounds that a start would have noticed.
    pub wounds: BTreeMap<Part, u64>,
}

/// How often the rules for damaged entries were needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// Who became leader with a damaged entry in its log, and had to repair it first.
    pub leaders: u64,
    /// Answers that the entry was never there.
    pub nacks: u64,
    /// Entries that a leader has discarded, because so many never had them.
    pub discards: u64,
}

impl Repairs {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        self.leaders += other.leaders;
        self.nacks += other.nacks;
        self.discards += other.discards;
    }
}

/// A cluster with everything around it.
#[derive(Debug)]
pub struct World<W: Workload = KeyValue> {
    pub(crate) options: Options,
    /// What is replicated, and what every client begins with.
    pub(crate) workload: W,
    /// Who decides what is left open.
    pub(crate) choices: Choices,
    pub(crate) sabotage: Sabotage,
    pub(crate) queue: Queue<Event>,
    pub(crate) network: Network,
    /// What the network must not pass.
    pub(crate) cuts: Cuts,
    pub(crate) nodes: Vec<Node<W>>,
    pub(crate) founders: Membership,
    pub(crate) clients: Vec<Client<W>>,
    pub(crate) checker: Checker<W>,
    pub(crate) nemesis: Nemesis,
    /// The links that each partition stops; empty once it has ended.
    pub(crate) partitions: Vec<Vec<u32>>,
    /// Until when clients are bound to their sides of a node that is alone; 0 if they are not.
    pub(crate) bound_until: u64,
    pub(crate) healed: Option<Healed>,
    /// More was taken than can be borne: only one client goes on asking.
    pub(crate) is_beyond: bool,
    /// How the members rest, while that is all that they shall do.
    pub(crate) rest: Option<Rest>,
    /// The payloads of all commands that were ever written, where disks may lose them.
    pub(crate) payloads: BTreeMap<EntryId, Bytes>,
    pub(crate) digest: Digest,
    pub(crate) stats: Stats,
    pub(crate) trace: Trace,
    /// What has struck in this event, where, and for how long, if lines are kept.
    pub(crate) struck: Option<(Fault, NodeAt, u64)>,
    /// Who tells the run as a script, if anybody does.
    pub(crate) scribe: Option<Box<Scribe>>,
    pub(crate) limits: Limits,
    pub(crate) schedule: Stream,
    /// How often an operator has asked for something.
    pub(crate) operations: u64,
    /// Two buffers, empty between steps: what a node puts out, and what it was asked for.
    pub(crate) outputs: Vec<Output<Machine<W>>>,
    pub(crate) attempts: Vec<(RequestId, Wish)>,
}

impl World {
    /// The world of a seed's options, with nothing broken and nobody watching.
    ///
    /// # Panics
    /// If the options describe no cluster, which options that were drawn never do.
    #[must_use]
    pub fn of_options(options: Options) -> Self {
        let choices = Choices::of_seed(options.seed);
        let workload = KeyValue::new(options.client);
        Self::new(workload, options, choices, Sabotage::None, Trace::off())
    }
}

impl<W: Workload> World<W> {
    /// A world for these options, in which everything else is decided by these choices; nothing has
    /// happened yet.
    ///
    /// # Panics
    /// If the options describe no cluster, which options that were drawn never do.
    #[must_use]
    pub fn new(
        workload: W,
        options: Options,
        choices: Choices,
        sabotage: Sabotage,
        trace: Trace,
    ) -> Self {
        let nodes: Vec<Node<W>> =
            (0..options.nodes()).map(|at| Node::new(at, &options, &choices, sabotage)).collect();
        let members: Vec<Member> = nodes.iter().map(|node| node.member).collect();
        let (founders, _) = members.split_at(options.voters + options.learners);
        let (voters, learners) = founders.split_at(options.voters);
        let founders = Membership::new(voters.to_vec(), learners.to_vec())
            .expect("drawn options describe a cluster");
        let clients = (0..options.client.clients as u64).map(|id| {
            let mut client =
                Client::new(id, &choices, nodes.len(), options.client, workload.clone());
            if options.lease_us > 0 {
                client.use_leases();
            }
            client
        });
        Self {
            queue: Queue::new(),
            network: Network::new(nodes.len(), &choices, options.link),
            cuts: Cuts::new(nodes.len()),
            clients: clients.collect(),
            checker: Checker::of_run(&options, &members, &founders, workload.machine()),
            nemesis: Nemesis::new(&options, &choices),
            partitions: Vec::new(),
            bound_until: 0,
            healed: None,
            is_beyond: false,
            rest: None,
            payloads: BTreeMap::new(),
            digest: Digest::new(options.seed),
            stats: Stats::default(),
            trace,
            struck: None,
            scribe: None,
            limits: Limits::default(),
            schedule: choices.stream(Purpose::Schedule, 0),
            operations: 0,
            outputs: Vec::new(),
            attempts: Vec::new(),
            nodes,
            founders,
            options,
            workload,
            choices,
            sabotage,
        }
    }

    /// Runs chaos, heals, and waits for the cluster to live.
    ///
    /// # Errors
    /// The first [`Failure`]; the world stays as it was then.
    pub fn run(&mut self) -> Result<(), Failure> {
        self.run_chaos()?;
        self.run_healed()
    }

    /// Runs until the faults are to end.
    pub(crate) fn run_chaos(&mut self) -> Result<(), Failure> {
        self.found()?;
        while self.stats.events < self.options.events {
            self.next()?;
        }
        self.network.settle(&mut self.stats.tally);
        while self.nemesis.goes_on(self.stats.events, &self.stats.tally) {
            self.next()?;
            self.network.settle(&mut self.stats.tally);
        }
        self.stats.chaos_events = self.stats.events;
        self.stats.served = self.stats.writes + self.stats.reads;
        Ok(())
    }

    /// Ends the faults and runs on.
    pub(crate) fn run_healed(&mut self) -> Result<(), Failure> {
        self.heal()?;
        while !self.is_over() {
            self.next()?;
            self.check_bounds()?;
        }
        self.come_to_rest()?;
        self.compare_states()?;
        if self.options.is_beyond {
            self.go_beyond()?;
        } else {
            self.start_over()?;
        }
        self.compare_states()?;
        match self.checker.judge_sample()? {
            Some(true) => self.stats.judged += 1,
            Some(false) => self.stats.undecided += 1,
            None => {}
        }
        Ok(())
    }

    /// What has been counted.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The digest of everything that has happened.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    /// How far entries are known to be committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.checker.committed().0
    }

    /// The true time, in microseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.queue.now()
    }

    /// The lines that a failure shows.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Formats all disks, starts all nodes, and schedules clients and nemesis.
    fn found(&mut self) -> Result<(), Failure> {
        self.watch_begin();
        for at in 0..self.nodes.len() {
            self.format(at)?;
            self.skew(at);
            if self.nodes[at].slowness > 1 {
                self.stats.tally.injected(Fault::SlowNode);
            }
            self.start(at)?;
        }
        for client in 0..self.clients.len() {
            let delay_us = self.clients[client].think_us();
            self.queue.after(delay_us, Event::Client { client, generation: 0 });
        }
        Ok(())
    }

    /// Makes a node's empty disk its data directory.
    pub(crate) fn format(&mut self, at: NodeAt) -> Result<(), Failure> {
        let node = &self.nodes[at];
        let mut disk = node.disk.clone();
        Storage::format(&mut disk, node.identity())
            .map_err(|error| Failure::Storage { node: node.member.id, error })
    }

    /// Takes the next event.
    pub(crate) fn next(&mut self) -> Result<(), Failure> {
        let event = self.next_event()?;
        self.stats.events += 1;
        self.trace.passed(self.stats.events);
        self.digest.word(self.queue.now());
        self.watch_event(&event);
        let what = self.trace.is_on().then(|| self.describe(&event));
        let before = self.trace.is_on().then(|| self.columns());
        let result = self.dispatch(event);
        self.trace.over(self.stats.events, &self.digest);
        self.watch_tally();
        if let (Some(what), Some(before)) = (what, before) {
            let columns = self.columns();
            let what = self.struck.take().map_or(what, |strike| self.describe_strike(strike));
            if columns != before || what.starts_with('!') || result.is_err() {
                self.trace.line(self.stats.events, self.queue.now(), &what, &columns);
            }
        }
        result
    }

    /// The nemesis comes first, then the queue.
    fn next_event(&mut self) -> Result<Event, Failure> {
        if self.healed.is_none() && self.nemesis.looks_back(self.stats.events) {
            self.network.settle(&mut self.stats.tally);
        }
        if self.healed.is_none()
            && let Some(class) =
                self.nemesis.due(self.stats.events, &mut self.queue, &self.stats.tally)
        {
            return Ok(Event::Strike { class });
        }
        while let Some(event) = self.queue.pop() {
            if !self.is_stale(&event) {
                return Ok(event);
            }
        }
        Err(Failure::Liveness("nothing will ever happen again".to_owned()))
    }

    /// Whether an event means nothing any more.
    fn is_stale(&self, event: &Event) -> bool {
        let is_other_life = |node: NodeAt, life: u32| self.nodes[node].life != life;
        match event {
            Event::Frame { .. } | Event::Strike { .. } | Event::Mend { .. } => false,
            Event::Release { .. } | Event::Flap { .. } => false,
            Event::Operator | Event::Readmit { .. } => false,
            Event::Clog { .. } | Event::Freeze { .. } | Event::Urge { .. } => self.healed.is_some(),
            Event::Deadline { node, generation } => self.nodes[*node].deadline.0 != *generation,
            Event::Inbox { node, life }
            | Event::Resume { node, life }
            | Event::Leave { node, life } => is_other_life(*node, *life),
            Event::Disk { node, life }
            | Event::Scrub { node, life }
            | Event::Rest { node, life }
            | Event::Encoded { node, life }
            | Event::Start { node, life } => is_other_life(*node, *life),
            Event::Client { client, generation } => self.clients[*client].generation != *generation,
            Event::Unreachable { link, life } => is_other_life(self.network.ends(*link).0, *life),
        }
    }

    fn dispatch(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Frame { link, sequence, copy, connection, frame, is_changed } => {
                self.arrive((link, sequence), connection, copy, (frame, is_changed))
            }
            Event::Deadline { node, .. } => self.on_deadline(node),
            Event::Inbox { node, .. } => self.on_inbox(node),
            Event::Disk { node, .. } => self.on_disk(node),
            Event::Scrub { node, .. } => self.on_scrub(node),
            Event::Rest { node, .. } => self.on_rest(node),
            Event::Encoded { node, .. } => self.on_encoded(node),
            Event::Start { node, .. } => self.on_start(node),
            Event::Leave { node, .. } => self.on_leave(node),
            Event::Resume { node, .. } => self.on_resume(node),
            Event::Client { client, .. } => self.on_client(client),
            Event::Strike { class } => self.on_strike(class),
            Event::Mend { partition } => {
                for link in std::mem::take(&mut self.partitions[partition]) {
                    self.mend(link);
                }
                Ok(())
            }
            Event::Clog { link, lasts_us } => {
                self.clog(Fault::Clog, link, lasts_us);
                Ok(())
            }
            Event::Release { link } => {
                self.network.release(link, &mut self.queue, &mut self.stats.tally);
                self.watch_released();
                Ok(())
            }
            Event::Flap { node, cut } => {
                self.flap(node, cut);
                Ok(())
            }
            Event::Freeze { node, lasts_us } => {
                self.pause(node, lasts_us);
                Ok(())
            }
            Event::Urge { node } => self.urge(node),
            Event::Operator => self.look_after_membership(),
            Event::Readmit { node } => self.readmit(node),
            Event::Unreachable { link, .. } => {
                let (from, to) = self.network.ends(link);
                let peer = self.nodes[to].member;
                self.deliver(from, Input::Unreachable(peer))
            }
        }
    }

    fn on_deadline(&mut self, at: NodeAt) -> Result<(), Failure> {
        let now = self.queue.now();
        let node = &mut self.nodes[at];
        let Some(process) = &node.process else { return Ok(()) };
        node.deadline.1 = u64::MAX;
        let is_due = process.replica.next_deadline().is_some_and(|due| due <= node.now(now));
        if !is_due {
            // It has moved on since: come back when it is due.
            self.schedule_deadline(at, now);
            return Ok(());
        }
        if node.clock.is_off(now) {
            self.count_skew(at, Tally::effective);
        }
        self.deliver(at, Input::Tick)
    }

    fn on_inbox(&mut self, at: NodeAt) -> Result<(), Failure> {
        let node = &self.nodes[at];
        if node.paused || !node.is_up() { Ok(()) } else { self.drain_inbox(at) }
    }

    fn on_resume(&mut self, at: NodeAt) -> Result<(), Failure> {
        if !self.nodes[at].paused {
            return Ok(());
        }
        self.nodes[at].paused = false;
        if !self.nodes[at].is_up() {
            return Ok(());
        }
        // Each connection keeps its order, but which one is read first is anybody's guess: a
        // deposed leader may see its clients before it sees its successor.
        if self.schedule.draw().chance(Ratio::new(1, 2)) {
            self.drain_requests(at)?;
        }
        self.drain_inbox(at)
    }
}
