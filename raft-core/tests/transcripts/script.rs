//! The language of the stories: one command to a line, executed in order.
//!
//! ```text
//! cluster 1 2 3 [learners 4] [pre_vote=off] [check_quorum=off] [chunk=BYTES] [kept=ENTRIES] [batch=ENTRIES]
//!     [lease=US]
//! found 2 term=7 log=1,1,1,4              node 2 starts anew from a disk that holds this
//! blank 4                                 a node starts that was given nothing
//! campaign 1, propose 1 TEXT, read 1      inputs of one node; tickets are numbered from #1
//! change 1 STEP..                         a membership change: add 4, promote 4, demote 3,
//!                                         remove 3, replace 3 4, in order and all at once
//! transfer 1 3, stepdown 1                leadership is handed over, or given up
//! force 1                                 node 1 becomes the only voter of a new epoch
//! tick 1 [US], pass US                    time passes (and node 1 is told)
//! deliver [FILTER..]                      until nothing moves: what passes a filter, or all
//! round [FILTER..]                        what is on its way now, not what it causes
//! drop [FILTER..]                         loses what is on its way
//! slow 2, persist 2, fast 2               node 2's disk writes when told to, now, at once again
//! crash 3, restart 3                      loses what is not durable; starts from the rest
//! quietly COMMAND                         the same, without telling
//! mark, back                              remembers everything, and returns to it: another ending
//! snapshot 1                              node 1's host makes a snapshot of what it has applied
//! network, status [1..], logs             shows what is on its way, the nodes, and their logs
//! ```
//! A FILTER is `1->2`, `1->`, `->2` (one of them must hold) or the kind of a message (one of them too).

use std::collections::BTreeMap;

use raft_core::{
    Body, Config, Effect, Entries, Envelope, Index, MemberStep, Membership, MembershipChange,
    NodeId, Payload, ReadMode, Status, Term, Ticket,
};

use crate::support::{Cluster, Disk, config, member};

/// Tells a story again: keeps what was written for it, and puts what happens after each command.
pub(crate) fn tell(text: &str) -> String {
    let mut teller = Teller::default();
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            lines.push(line.to_owned());
            teller.execute(command);
            lines.append(&mut teller.told);
        } else if line.is_empty() || line.starts_with('#') {
            lines.push(line.to_owned());
        }
    }
    teller.check_safety();
    lines.join("\n") + "\n"
}

#[derive(Clone, Default)]
struct Teller {
    cluster: Option<Cluster>,
    /// What `back` returns to.
    mark: Option<Box<Self>>,
    /// Nodes that are down.
    down: BTreeMap<u64, (Config, Disk)>,
    ticket: u64,
    told: Vec<String>,
}

impl Teller {
    fn execute(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (verb, rest) = words.split_first().expect("a command has a verb");
        match *verb {
            "quietly" => {
                self.execute(&rest.join(" "));
                self.told.clear();
            }
            "cluster" => self.cluster = Some(cluster(rest)),
            "found" => self.found(rest),
            "blank" => {
                let disk = Disk::genesis(Membership::default());
                self.cluster().start(config(number(rest[0])), disk);
            }
            "pass" => {
                let now = &mut self.cluster().now;
                now.0 += number(rest[0]);
            }
            "deliver" => self.deliver(rest, usize::MAX),
            "round" => {
                let moving = self.cluster().network.len();
                self.deliver(rest, moving);
            }
            "drop" => {
                for envelope in self.cluster().take(|sent| passes(rest, sent)) {
                    self.told.push(format!("lost    {envelope}"));
                }
            }
            "slow" => {
                self.cluster().slow_disks.insert(number(rest[0]));
            }
            "persist" => self.cluster().sync(number(rest[0])),
            "fast" => {
                self.cluster().slow_disks.remove(&number(rest[0]));
                self.cluster().sync(number(rest[0]));
            }
            "crash" => self.crash(number(rest[0])),
            "restart" => {
                let (config, disk) = self.down.remove(&number(rest[0])).expect("it is down");
                self.cluster().start(config, disk);
            }
            "mark" => self.mark = Some(Box::new(self.clone())),
            "back" => {
                self.check_safety();
                let mark = self.mark.take().expect("a mark was set");
                *self = Self { mark: Some(mark.clone()), ..*mark };
            }
            "network" => {
                let moving = self.cluster().network.iter();
                self.told = moving.map(|envelope| format!("  {envelope}")).collect();
            }
            "status" => self.status(rest),
            "logs" => self.logs(),
            _ => self.input(verb, rest),
        }
        self.tell_effects();
    }

    /// The commands that are inputs of one node.
    fn input(&mut self, verb: &str, rest: &[&str]) {
        match verb {
            "campaign" => self.step(rest, Body::Campaign),
            "propose" => {
                let command = rest[1..].join(" ").into();
                let ticket = self.next_ticket();
                self.step(rest, Body::Propose { ticket, command });
            }
            "read" => {
                let ticket = self.next_ticket();
                let is_lease = rest.get(1) == Some(&"lease");
                let mode = if is_lease { ReadMode::Lease } else { ReadMode::ReadIndex };
                self.step(rest, Body::Read { ticket, mode });
            }
            "change" => {
                let ticket = self.next_ticket();
                let change = MembershipChange::Steps(steps(&rest[1..]));
                self.step(rest, Body::ProposeMembership { ticket, change, expect: None });
            }
            "transfer" => {
                let (ticket, to) = (self.next_ticket(), Some(NodeId(number(rest[1]))));
                self.step(rest, Body::TransferLeadership { ticket, to });
            }
            "force" => {
                let ticket = self.next_ticket();
                self.step(rest, Body::ForceMembership { ticket });
            }
            "stepdown" => self.step(rest, Body::StepDown),
            "tick" => {
                let after = rest.get(1).map_or(0, |us| number(us));
                self.cluster().tick(number(rest[0]), after);
            }
            "snapshot" => {
                let id = number(rest[0]);
                let raft = &self.cluster().server(id).raft;
                let applied = raft.status().applied;
                let snapshot = raft.snapshot_at(applied).expect("it is applied and in the log");
                self.cluster().step(id, Body::SnapshotTaken { snapshot });
            }
            _ => panic!("no command is called {verb}"),
        }
    }

    fn cluster(&mut self) -> &mut Cluster {
        self.cluster.as_mut().expect("a story begins with `cluster`")
    }

    fn step(&mut self, words: &[&str], body: Body) {
        self.cluster().step(number(words[0]), body);
    }

    fn next_ticket(&mut self) -> Ticket {
        self.ticket += 1;
        Ticket(self.ticket)
    }

    /// A node that starts from a log written by hand: entries are named by the terms that made
    /// them, commands by index and term.
    fn found(&mut self, words: &[&str]) {
        let id = number(words[0]);
        let server = self.cluster().servers.remove(&id).expect("a node of the cluster");
        let (config, mut disk) = (server.config, server.disk);
        for word in &words[1..] {
            match word.split_once('=').expect("name=value") {
                ("term", term) => disk.hard_state.term = Term(number(term)),
                ("log", terms) => {
                    let entry = |(offset, term): (usize, &str)| {
                        let command = format!("{}@{term}", offset + 1);
                        (Term(number(term)), Payload::Command(command.into()))
                    };
                    let items = terms.split(',').enumerate().map(entry);
                    disk.log = Entries::after(disk.before, items).to_vec();
                }
                (name, _) => panic!("`found` knows no {name}"),
            }
        }
        self.cluster().network.retain(|envelope| envelope.from.id.0 != id);
        self.cluster().start(config, disk);
    }

    fn crash(&mut self, id: u64) {
        let server = self.cluster().servers.remove(&id).expect("it runs");
        for batch in server.unsynced {
            self.told.push(format!("  n{id} forgets {batch}"));
        }
        self.down.insert(id, (server.config, server.disk));
    }

    /// Delivers the oldest message that passes, again and again; those to nodes that are down are
    /// lost.
    fn deliver(&mut self, filter: &[&str], most: usize) {
        let mut looked_at = 0;
        let mut position = 0;
        while looked_at < most && position < self.cluster().network.len() {
            looked_at += 1;
            if !passes(filter, &self.cluster().network[position]) {
                position += 1;
                continue;
            }
            let envelope = self.cluster().network.remove(position);
            let to = envelope.to.id.0;
            let (from, kind) = (envelope.from, envelope.rpc.kind());
            if self.down.contains_key(&to) {
                self.told.push(format!("lost    {envelope}"));
                continue;
            }
            self.told.push(format!("{from}->n{to} {kind}"));
            self.cluster().step(to, Body::Peer(envelope));
            self.tell_effects();
            assert!(self.told.len() < 1_000, "the cluster comes to rest");
        }
    }

    fn tell_effects(&mut self) {
        let trace = self.cluster().trace.drain(..).collect::<Vec<_>>();
        for (id, effect) in trace {
            if let Effect::Persist(_) = effect
                && self.cluster().slow_disks.contains(&id)
            {
                self.told.push(format!("  n{id} {effect} (not durable yet)"));
            } else {
                self.told.push(format!("  n{id} {effect}"));
            }
        }
    }

    fn status(&mut self, words: &[&str]) {
        let cluster = self.cluster.as_ref().expect("a story begins with `cluster`");
        let up = cluster.servers.iter().map(|(id, server)| (*id, server.raft.status().to_string()));
        let mut rows: BTreeMap<u64, String> = up.collect();
        rows.extend(self.down.keys().map(|id| (*id, format!("n{id} down"))));
        if !words.is_empty() {
            rows.retain(|id, _| words.iter().any(|word| number(word) == *id));
        }
        self.told.extend(rows.into_values().map(|row| format!("  {row}")));
    }

    /// The logs as the paper draws them: the term of each entry below its index; `*` marks what
    /// the node knows to be committed, `.` what only its snapshot has.
    fn logs(&mut self) {
        let cluster = self.cluster.as_ref().expect("a story begins with `cluster`");
        let statuses = cluster.servers.iter().map(|(id, server)| (*id, server.raft.status()));
        let statuses: BTreeMap<u64, Status> = statuses.collect();
        let last = statuses.values().map(|status| status.last.index.0).max().unwrap_or(0);
        let head: String = (1..=last).map(|index| format!(" {index:>3} ")).collect();
        let mut rows: BTreeMap<u64, String> = BTreeMap::from([(0, format!("    {head}"))]);
        for (id, status) in &statuses {
            let raft = &cluster.server(*id).raft;
            let cell = |index: Index| {
                let mark = if index <= status.commit { '*' } else { ' ' };
                let term = raft.entry_id(index).map_or(".".to_owned(), |id| id.term.to_string());
                format!(" {term:>3}{mark}")
            };
            let row: String = (1..=status.last.index.0).map(Index).map(cell).collect();
            rows.insert(*id, format!("  n{id}{row}"));
        }
        rows.extend(self.down.keys().map(|id| (*id, format!("  n{id}  down"))));
        self.told.extend(rows.into_values().map(|row| row.trim_end().to_owned()));
    }

    /// Whatever a story tells, no two state machines apply different entries at one index, and no
    /// node sees a broken assumption.
    fn check_safety(&mut self) {
        let cluster = self.cluster();
        let mut applied = BTreeMap::new();
        for (id, server) in &cluster.servers {
            assert!(cluster.violations(*id).is_empty(), "n{id} sees no violation");
            for entry in &server.applied {
                let known = applied.entry(entry.index()).or_insert_with(|| entry.clone());
                assert_eq!(known, entry, "state machines apply the same entries");
            }
        }
        assert!(!applied.is_empty(), "something is applied by the end of a story");
    }
}

fn cluster(words: &[&str]) -> Cluster {
    let (options, names): (Vec<&str>, Vec<&str>) =
        words.iter().copied().partition(|word| word.contains('='));
    let mut halves = names.split(|word| *word == "learners");
    let ids = |half: Option<&[&str]>| -> Vec<u64> {
        half.unwrap_or_default().iter().map(|id| number(id)).collect()
    };
    let (voters, learners) = (ids(halves.next()), ids(halves.next()));
    let mut cluster = Cluster::with(&voters, &learners, |config| {
        for option in &options {
            match option.split_once('=').expect("name=value") {
                ("pre_vote", "off") => config.pre_vote = false,
                ("lease", us) => config.lease_us = number(us),
                ("check_quorum", "off") => config.check_quorum = false,
                ("chunk", bytes) => {
                    config.snapshot_chunk_bytes = bytes.parse().expect("a number");
                }
                ("batch", entries) => {
                    config.append_entries_max = entries.parse().expect("a number");
                }
                ("kept", entries) => config.kept_behind_snapshot = number(entries),
                (name, value) => panic!("no option is called {name}={value}"),
            }
        }
    });
    cluster.trace.clear();
    cluster
}

/// The steps of a membership change, from words: a verb and one or two servers, again and again.
fn steps(words: &[&str]) -> Vec<MemberStep> {
    let mut words = words.iter();
    let mut steps = Vec::new();
    while let Some(verb) = words.next() {
        let mut id = || NodeId(number(words.next().expect("a step names a server")));
        steps.push(match *verb {
            "add" => MemberStep::AddLearner(member(id().0)),
            "promote" => MemberStep::Promote(id()),
            "demote" => MemberStep::Demote(id()),
            "remove" => MemberStep::Remove(id()),
            "replace" => MemberStep::Replace { old: id(), new: id() },
            other => panic!("no step is called {other}"),
        });
    }
    steps
}

fn passes(filter: &[&str], envelope: &Envelope) -> bool {
    let (ends, kinds): (Vec<&str>, Vec<&str>) = filter.iter().partition(|word| word.contains("->"));
    let is_on = |end: &&str| {
        let (from, to) = end.split_once("->").expect("an arrow");
        let is = |name: &str, id: u64| name.is_empty() || number(name) == id;
        is(from, envelope.from.id.0) && is(to, envelope.to.id.0)
    };
    let kind = envelope.rpc.kind().to_string();
    (ends.is_empty() || ends.iter().any(is_on)) && (kinds.is_empty() || kinds.contains(&&*kind))
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}
