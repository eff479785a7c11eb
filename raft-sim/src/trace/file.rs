//! A run as JSON, one object a line, for an independent specification of Raft to judge.
//!
//! ```text
//! {"ev":"meta","v":1,"nodes":["1",..],"voters":["1",..],"learners":[..],"seed":7}
//! {"n":"2","ev":E,"in":M?,"out":[M..],"app":[ENT..]?,"sync":bool,"st":{..}}
//! {"ev":"drop","in":M}  {"ev":"dup","in":M}  {"ev":"crash","n":"2"}
//! E = boot restart recv ignore timeout prevote propose tick persist release stepdown
//! ```
//! The first line names the cluster: the nodes that are neither voters nor learners join later, if
//! at all. Then, in the order in which it happens, a line for each input of a node with its state
//! afterwards, for each copy of a message that is lost or made, and for each end of a process.
//!
//! * `out` is what was sent, in order; `app` what a leader has appended to its log.
//! * `sync` says that all that the node wrote is durable. If it is not, a `persist` follows when it
//!   is, unless the process ends before; what must not be said until then leaves with that line.
//! * `release` follows a step of a leader, in the same state: entries that leave before the leader's own
//!   write of them is durable. All else that the step sends stands in its own line.
//! * `ignore` is a message that the node has refused; `boot` the first start of a member: a node
//!   whose disk was replaced is another member, and boots again under its old name.
//! * `tick` is a step that Figure 2 does not know: a timer without a campaign, a read, a transfer,
//!   a snapshot, news of a disk or of a connection.
//! * There is no line for a membership that comes into force: it does with its entry, in `app` or `recv`.
//! * An inbox that is read in one go is a line for each input of it; what the node sends because of
//!   them leaves with the last.
//! * A `drop` is a message that the network, a receiver that is down, or a crash before it was read
//!   has lost. What is in flight when the trace ends is neither received nor dropped. A message
//!   that is received and was never sent is forged: no run has one, unless its network was broken
//!   on purpose.

use std::collections::BTreeMap;
use std::io::{self, Write};

use raft_core::{Member, Membership, PersistSeq, RoleName, Status};
use serde_json::{Value, json};

use super::json::{entry, message, state};
use crate::event::NodeAt;
use crate::observe::{Given, Happening, Observer, Step};
use crate::options::Options;

/// Writes the trace of a run.
#[derive(Debug)]
pub struct TraceFile<W> {
    to: W,
    broken: Option<io::Error>,
    /// Messages that may still arrive, be lost or be doubled, and how many copies.
    sent: BTreeMap<u64, (Value, u32)>,
    disks: BTreeMap<NodeAt, Disk>,
    /// The line of the step whose messages are leaving.
    open: Option<Open>,
}

/// What a node has asked its disk for.
#[derive(Debug, Default)]
struct Disk {
    /// The newest batch.
    issued: Option<PersistSeq>,
    /// The newest one that is durable.
    durable: Option<PersistSeq>,
    /// An input has led to a write, and the node has more of them to read before it asks for it.
    will_write: bool,
}

/// A step that is not over.
#[derive(Debug)]
struct Open {
    line: Value,
    out: Vec<Value>,
    /// Whether it is a deadline of a pre-candidate, which has campaigned if it asks for votes.
    may_campaign: bool,
    /// Through where the log of who leads is durable there, if the node leads.
    durable: Option<u64>,
    /// What the network has done to its messages.
    after: Vec<Value>,
}

impl<W: Write> TraceFile<W> {
    /// A trace that goes to `to`.
    #[must_use]
    pub fn new(to: W) -> Self {
        Self { to, broken: None, sent: BTreeMap::new(), disks: BTreeMap::new(), open: None }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The first error of all writes.
    pub fn finish(&mut self) -> io::Result<()> {
        self.close();
        match self.broken.take() {
            Some(error) => Err(error),
            None => self.to.flush(),
        }
    }

    fn line(&mut self, line: &Value) {
        if self.broken.is_none() {
            self.broken = writeln!(self.to, "{line}").err();
        }
    }

    /// The line follows the step that is under way, if there is one.
    fn line_after(&mut self, line: Value) {
        match &mut self.open {
            Some(open) => open.after.push(line),
            None => self.line(&line),
        }
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Open { mut line, out, may_campaign, durable, after } = open;
        if may_campaign && out.iter().any(|sent| sent["mt"] == "preVoteReq") {
            line["ev"] = "prevote".into();
        }
        let is_ahead = |sent: &Value| durable.is_some_and(|durable| last_entry(sent) > durable);
        let (released, out): (Vec<Value>, Vec<Value>) = out.into_iter().partition(is_ahead);
        line["out"] = out.into();
        self.line(&line);
        if !released.is_empty() {
            let (node, sync, state) = (&line["n"], &line["sync"], &line["st"]);
            let out = released;
            let ahead =
                json!({ "n": node, "ev": "release", "out": out, "sync": sync, "st": state });
            self.line(&ahead);
        }
        for line in &after {
            self.line(line);
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        if let Given::Unreadable { message, .. } = step.given {
            self.lost(*message);
            if step.last.is_none() {
                return;
            }
        }
        let is_synced = self.is_synced(step);
        let mut line = json!({
            "n": name(step.node),
            "ev": event(step),
            "out": [],
            "sync": is_synced,
            "st": state(step.after),
        });
        if let Given::Message { message: number, envelope } = step.given {
            line["in"] = message(envelope);
            self.take(*number);
        }
        if step.after.role == RoleName::Leader {
            let runs = step.written.iter().flat_map(|batch| batch.append.iter());
            let appended: Vec<Value> = runs.map(entry).collect();
            if !appended.is_empty() {
                line["app"] = appended.into();
            }
        }
        if step.last.is_none() {
            return self.line(&line);
        }
        let may_campaign = step.after.role == RoleName::PreCandidate
            && matches!(step.given, Given::Deadline | Given::Campaign);
        let is_leader = step.after.role == RoleName::Leader;
        let durable = is_leader.then_some(step.after.durable.0);
        let (out, after) = (Vec::new(), Vec::new());
        self.open = Some(Open { line, out, may_campaign, durable, after });
    }

    fn is_synced(&mut self, step: &Step<'_>) -> bool {
        let disk = self.disks.entry(step.node).or_default();
        match step.given {
            Given::Start { .. } => *disk = Disk::default(),
            Given::Persisted(seq) => disk.durable = Some(*seq),
            Given::Message { .. }
            | Given::Unreadable { .. }
            | Given::Deadline
            | Given::Unreachable(_)
            | Given::Proposal
            | Given::Read
            | Given::Transfer
            | Given::Disk
            | Given::Campaign
            | Given::StepDown
            | Given::ForgetLeader
            | Given::Nothing => {}
        }
        disk.will_write |= !step.written.is_empty();
        if let Some(last) = &step.last {
            disk.issued = last.issued.max(disk.issued);
            disk.will_write = false;
        }
        !disk.will_write && disk.issued <= disk.durable
    }

    /// One copy of a message is gone, in one way or another.
    fn take(&mut self, number: u64) -> Option<Value> {
        let (line, copies) = self.sent.get_mut(&number)?;
        *copies -= 1;
        if *copies == 0 {
            self.sent.remove(&number).map(|(line, _)| line)
        } else {
            Some(line.clone())
        }
    }

    fn lost(&mut self, number: u64) {
        if let Some(lost) = self.take(number) {
            self.line_after(json!({ "ev": "drop", "in": lost }));
        }
    }
}

impl<W: Write> Observer for TraceFile<W> {
    fn happens(&mut self, happening: &Happening<'_>) {
        match happening {
            Happening::Began { options, founders } => self.line(&head(options, founders)),
            Happening::Step(step) => {
                self.close();
                self.step(step);
            }
            Happening::Closed { .. } => self.close(),
            Happening::Sent { message: number, envelope } => {
                let sent = message(envelope);
                if let Some(open) = &mut self.open {
                    open.out.push(sent.clone());
                }
                self.sent.insert(*number, (sent, 1));
            }
            Happening::Doubled { message } => {
                if let Some((line, copies)) = self.sent.get_mut(message) {
                    *copies += 1;
                    let line = json!({ "ev": "dup", "in": line });
                    self.line_after(line);
                }
            }
            Happening::Lost { message, .. } => self.lost(*message),
            Happening::Ended { node } => {
                self.close();
                self.line(&json!({ "ev": "crash", "n": name(*node) }));
            }
            Happening::Event { .. }
            | Happening::Forged { .. }
            | Happening::Arrived { .. }
            | Happening::Struck { .. }
            | Happening::Cut { .. }
            | Happening::Paused { .. }
            | Happening::Asked { .. }
            | Happening::Answered { .. }
            | Happening::Counted { .. }
            | Happening::Healed => {}
        }
    }
}

/// The index of the last entry that a message brings; 0 if it brings none.
fn last_entry(sent: &Value) -> u64 {
    let count = sent["ents"].as_array().map_or(0, Vec::len) as u64;
    if count == 0 { 0 } else { sent["idx"].as_u64().unwrap_or_default() + count }
}

fn head(options: &Options, founders: &Membership) -> Value {
    let ids = |members: &[Member]| -> Vec<String> {
        members.iter().map(|member| member.id.0.to_string()).collect()
    };
    json!({
        "ev": "meta",
        "v": 1,
        "nodes": (0..options.nodes()).map(name).collect::<Vec<String>>(),
        "voters": ids(founders.incoming()),
        "learners": ids(founders.learners()),
        "seed": options.seed,
    })
}

fn name(node: NodeAt) -> String {
    (node + 1).to_string()
}

fn event(step: &Step<'_>) -> &'static str {
    match step.given {
        Given::Start { is_first: true } => "boot",
        Given::Start { is_first: false } => "restart",
        Given::Message { .. } if step.is_refused => "ignore",
        Given::Message { .. } => "recv",
        Given::Deadline | Given::Campaign => campaign(step.before, step.after),
        Given::Proposal => "propose",
        Given::Persisted(_) => "persist",
        Given::StepDown => "stepdown",
        Given::Unreadable { .. }
        | Given::Unreachable(_)
        | Given::Read
        | Given::Transfer
        | Given::Disk
        | Given::ForgetLeader
        | Given::Nothing => "tick",
    }
}

/// What a timer has led to.
fn campaign(before: Option<&Status>, after: &Status) -> &'static str {
    let Some(before) = before else { return "tick" };
    match after.role {
        RoleName::Candidate | RoleName::Leader if after.term > before.term => "timeout",
        RoleName::PreCandidate if before.role != after.role => "prevote",
        RoleName::Follower if before.role == RoleName::Leader => "stepdown",
        RoleName::Follower
        | RoleName::PreCandidate
        | RoleName::Candidate
        | RoleName::Leader
        | RoleName::Halted => "tick",
    }
}
