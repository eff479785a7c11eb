//! A node for [Maelstrom](https://github.com/jepsen-io/maelstrom), workload `lin-kv`: a linearizable
//! key-value store over JSON lines on standard input and output.
//!
//! ```text
//! maelstrom test -w lin-kv --bin target/debug/examples/maelstrom --node-count 3 --time-limit 20 \
//!     --rate 30 --concurrency 2n --nemesis partition
//! ```
//!
//! The shape of every host is here: inputs are collected, one batch is stepped, its effects are
//! executed, and their completions are the next inputs. Writes and compare-and-sets go through the
//! log, and a node that does not lead passes them on. A read needs no entry: the core asks the leader
//! for its read index (thesis §6.4), and the node reads its own store.
//!
//! Deliberately absent: a disk and snapshots. A process of Maelstrom is never started a second time,
//! so what is in its memory is as durable as anything in this world; and its tests are short. The
//! host with a disk is `threaded_host.rs`.
#![expect(clippy::disallowed_types, reason = "a host owns the clock: the core has none")]
#![expect(clippy::disallowed_methods, reason = "a host owns the threads: the core has none")]
#![expect(clippy::print_stdout, reason = "Maelstrom's network is standard output")]
#![expect(clippy::print_stderr, reason = "Maelstrom's log is standard error")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{io, thread};

use bytes::Bytes;
use raft_core::{
    Body, ClusterId, Config, Effect, Entry, GroupId, Index, Member, Membership, Message,
    Observation, Outcome, Payload, Raft, ReadMode, RecoveredState, Rejection, Ticket, Time, wire,
};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let init: Value = serde_json::from_str(&lines.recv()?)?;
    let mut server = Server::new(&init).ok_or("the first message must be an init")?;
    server.reply_to(&init, json!({ "type": "init_ok" }));
    server.run(&lines);
    Ok(())
}

/// A client's request that is not answered yet.
struct Request {
    client: String,
    body: Value,
    /// The node that passed it on and wants the answer, and its ticket there.
    via: Option<(String, u64)>,
}

struct Server {
    name: String,
    names: BTreeMap<Member, String>,
    started: Instant,
    limits: wire::Limits,
    raft: Raft,
    /// What the core will be told in the next batch.
    inputs: Vec<Body>,
    next_ticket: u64,
    open: BTreeMap<Ticket, Request>,
    /// Requests that a leader was asked to answer instead.
    passed_on: BTreeMap<u64, Request>,
    /// Reads that wait until the store has applied through their index.
    reads: Vec<(Index, Ticket)>,
    applied: Index,
    store: BTreeMap<String, Value>,
}

impl Server {
    /// `None` if the message is not an `init` as the protocol describes it.
    fn new(init: &Value) -> Option<Self> {
        let name = init["body"]["node_id"].as_str()?.to_owned();
        let nodes = init["body"]["node_ids"].as_array()?;
        // Everybody gets the same list. Real founders draw a random lineage each and exchange them.
        let members = (1..).map(|n| Member::new(n, n));
        let names: BTreeMap<Member, String> =
            members.zip(nodes.iter().filter_map(Value::as_str).map(str::to_owned)).collect();
        let me = *names.iter().find(|(_, other)| **other == name)?.0;
        let founders = Membership::new(names.keys().copied().collect(), vec![]).ok()?;
        let mut config = Config::new(ClusterId(1), GroupId(0), me);
        config.election_timeout_us = 500_000;
        config.resident_bytes_max = 1 << 31;
        let limits = wire::Limits::for_config(&config);
        let found = RecoveredState::genesis(founders);
        let (raft, effects) = Raft::recover(config, found, Time(0)).ok()?;
        let mut server = Self {
            name,
            names,
            started: Instant::now(),
            limits,
            raft,
            inputs: Vec::new(),
            next_ticket: 0,
            open: BTreeMap::new(),
            passed_on: BTreeMap::new(),
            reads: Vec::new(),
            applied: Index::ZERO,
            store: BTreeMap::new(),
        };
        effects.into_iter().for_each(|effect| server.execute(effect));
        Some(server)
    }

    fn run(&mut self, lines: &Receiver<String>) {
        let mut effects = Vec::new();
        loop {
            match lines.recv_timeout(self.until_deadline()) {
                Ok(line) => {
                    self.on_line(&line);
                    // The more arrives in one batch, the fewer messages leave it.
                    lines.try_iter().for_each(|line| self.on_line(&line));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.until_deadline().is_zero() {
                self.inputs.push(Body::Tick);
            }
            while !self.inputs.is_empty() {
                let now = self.now();
                let messages = self.inputs.drain(..).map(|body| Message { now, body });
                self.raft.step_batch(messages, &mut effects);
                effects.drain(..).for_each(|effect| self.execute(effect));
            }
        }
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            // Nothing outlives this process, so writing to its memory is all that durable can mean.
            Effect::Persist(batch) => self.inputs.push(Body::Persisted { seq: batch.seq }),
            Effect::Send(envelope) => {
                let frame = to_hex(&wire::encode(&envelope));
                self.send(&self.names[&envelope.to], &json!({ "type": "raft", "frame": frame }));
            }
            Effect::Apply { entries } => {
                entries.iter().for_each(|entry| self.apply(entry));
                self.inputs.push(Body::Applied { through: self.applied });
                self.answer_reads();
            }
            Effect::ReadReady { ticket, index, valid_until: _ } => {
                self.reads.push((index, ticket));
                self.answer_reads();
            }
            Effect::Outcome { ticket, outcome } => self.on_outcome(ticket, outcome),
            Effect::Observe(Observation::LeaderChanged { .. }) => {
                // The leader that was asked may be gone, and with it the answer.
                for request in std::mem::take(&mut self.passed_on).into_values() {
                    self.answer(request, error(13, "the leader has changed"));
                }
            }
            Effect::Observe(observation) => eprintln!("{observation:?}"),
            // The whole log stays in memory here: the configuration says so.
            Effect::Load(request) => self.inputs.push(Body::Loaded { request, entries: None }),
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

    fn on_line(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            eprintln!("not JSON: {line}");
            return;
        };
        let body = &message["body"];
        let src = message["src"].as_str().unwrap_or_default();
        match body["type"].as_str().unwrap_or_default() {
            "raft" => {
                let frame = from_hex(body["frame"].as_str().unwrap_or_default());
                match wire::decode(Bytes::from(frame), &self.limits) {
                    Ok(envelope) => self.inputs.push(Body::Peer(envelope)),
                    Err(error) => eprintln!("a frame from {src}: {error}"),
                }
            }
            "read" | "write" | "cas" => {
                self.submit(Request { client: src.to_owned(), body: body.clone(), via: None });
            }
            "pass-on" => {
                let client = body["client"].as_str().unwrap_or_default().to_owned();
                let via = Some((src.to_owned(), body["ticket"].as_u64().unwrap_or_default()));
                self.submit(Request { client, body: body["request"].clone(), via });
            }
            "pass-back" => {
                let ticket = body["ticket"].as_u64().unwrap_or_default();
                if let Some(request) = self.passed_on.remove(&ticket) {
                    self.answer(request, body["reply"].clone());
                }
            }
            other => self.reply_to(&message, error(10, &format!("{other} is not supported"))),
        }
    }

    /// Hands a request to the core under a ticket of its own.
    fn submit(&mut self, request: Request) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        if request.body["type"] == "read" {
            self.inputs.push(Body::Read { ticket, mode: ReadMode::ReadIndex });
        } else {
            // The command names who owes the answer. So an answer needs the entry alone, and it
            // does not matter whether its outcome is executed before or after it is applied.
            let command = json!({ "node": self.name, "ticket": ticket.0, "body": request.body });
            let command = Bytes::from(command.to_string());
            self.inputs.push(Body::Propose { ticket, command });
        }
        self.open.insert(ticket, request);
    }

    fn on_outcome(&mut self, ticket: Ticket, outcome: Outcome) {
        let reply = match outcome {
            // The answer is given where the entry is applied.
            Outcome::Committed { .. } => return,
            Outcome::Refused(Rejection::NotLeader { hint: Some(leader) }) => {
                return self.pass_on(ticket, leader);
            }
            // Codes 11 and 14 say that it certainly did not happen, code 13 that nobody knows.
            Outcome::Refused(_) => error(11, "refused for now"),
            Outcome::Superseded => error(14, "another leader's entry is there instead"),
            Outcome::Transferred { .. } => unreachable!("nobody asks for a transfer"),
            Outcome::Unknown | Outcome::Halted => error(13, "it may have happened or not"),
        };
        if let Some(request) = self.open.remove(&ticket) {
            self.answer(request, reply);
        }
    }

    fn pass_on(&mut self, ticket: Ticket, leader: Member) {
        let Some(request) = self.open.remove(&ticket) else { return };
        let name = self.names[&leader].clone();
        // Once only: two nodes that take each other for the leader must not play ball.
        if request.via.is_some() || name == self.name {
            return self.answer(request, error(11, "no leader is known"));
        }
        let Request { client, body, .. } = &request;
        let on =
            json!({ "type": "pass-on", "ticket": ticket.0, "client": client, "request": body });
        self.send(&name, &on);
        self.passed_on.insert(ticket.0, request);
    }

    /// The state machine: the same entries in the same order give the same store everywhere.
    fn apply(&mut self, entry: &Entry) {
        self.applied = entry.index();
        let command = match entry.payload() {
            Payload::Command(command) => command,
            Payload::Noop | Payload::Membership(_) => return,
        };
        let command: Value =
            serde_json::from_slice(command).expect("only this program proposes commands");
        let body = &command["body"];
        let key = body["key"].to_string();
        let reply = if body["type"] == "write" {
            self.store.insert(key, body["value"].clone());
            json!({ "type": "write_ok" })
        } else {
            match self.store.get_mut(&key) {
                None => error(20, "the key does not exist"),
                Some(value) if *value != body["from"] => error(22, "the value is another"),
                Some(value) => {
                    *value = body["to"].clone();
                    json!({ "type": "cas_ok" })
                }
            }
        };
        let ticket = Ticket(command["ticket"].as_u64().unwrap_or_default());
        if command["node"] == *self.name
            && let Some(request) = self.open.remove(&ticket)
        {
            self.answer(request, reply);
        }
    }

    fn answer_reads(&mut self) {
        let applied = self.applied;
        let ready: Vec<_> = self.reads.extract_if(.., |(index, _)| *index <= applied).collect();
        for (_, ticket) in ready {
            let Some(request) = self.open.remove(&ticket) else { continue };
            let reply = match self.store.get(&request.body["key"].to_string()) {
                Some(value) => json!({ "type": "read_ok", "value": value }),
                None => error(20, "the key does not exist"),
            };
            self.answer(request, reply);
        }
    }

    fn answer(&self, request: Request, mut reply: Value) {
        let Request { client, body, via } = request;
        if let Some((node, ticket)) = via {
            self.send(&node, &json!({ "type": "pass-back", "ticket": ticket, "reply": reply }));
        } else {
            reply["in_reply_to"] = body["msg_id"].clone();
            self.send(&client, &reply);
        }
    }

    fn reply_to(&self, message: &Value, mut reply: Value) {
        reply["in_reply_to"] = message["body"]["msg_id"].clone();
        self.send(message["src"].as_str().unwrap_or_default(), &reply);
    }

    fn send(&self, dest: &str, body: &Value) {
        println!("{}", json!({ "src": self.name, "dest": dest, "body": body }));
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn until_deadline(&self) -> Duration {
        let deadline = self.raft.next_deadline().unwrap_or(Time(u64::MAX));
        Duration::from_micros(deadline.since(self.now()).0)
    }
}

fn error(code: u64, text: &str) -> Value {
    json!({ "type": "error", "code": code, "text": text })
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is no hex becomes a shorter frame, which the decoder refuses.
fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).ok();
    digits.chunks_exact(2).filter_map(byte).collect()
}
