//! The trace of a run, judged by what it says alone: nothing here looks at a node.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::rc::Rc;

use raft_sim::run::{self, How};
use raft_sim::sabotage::Sabotage;
use raft_sim::trace::Trace;
use raft_sim::trace::file::TraceFile;
use serde_json::Value;

/// A file that stays in memory.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn trace(seed: u64, events: u64, sabotage: Sabotage) -> String {
    let memory = Memory::default();
    let file = Rc::new(RefCell::new(TraceFile::new(memory.clone())));
    let how = How { sabotage, ..How::once(events) };
    let report = run::traced(seed, how, Trace::off().watched_by(Rc::clone(&file)));
    let has_failed = report.failure.is_some();
    assert!(!has_failed || sabotage != Sabotage::None, "{report}");
    file.borrow_mut().finish().expect("memory does not fail");
    String::from_utf8(memory.0.take()).expect("a trace is text")
}

/// What a trace has said about a node.
#[derive(Clone, Default)]
struct Node {
    is_up: bool,
    state: Value,
    /// The highest term in which it has promised anything to anybody.
    promised: u64,
}

/// Reads a trace line by line and compares it with the rules of Figure 2.
#[derive(Default)]
struct Judge {
    nodes: BTreeMap<String, Node>,
    /// How many copies of each message are under way.
    copies: BTreeMap<String, i64>,
    leaders: BTreeMap<u64, String>,
    counts: BTreeMap<String, u64>,
}

/// The first rule that a trace breaks, with the line.
type Verdict = Result<(), String>;

fn ensure(holds: bool, rule: &str) -> Verdict {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

impl Judge {
    fn of(trace: &str) -> Result<Self, String> {
        let mut judge = Self::default();
        let mut lines = trace.lines();
        let head = lines.next().expect("a trace has a head");
        let head: Value = serde_json::from_str(head).expect("each line is an object");
        assert_eq!((text(&head["ev"]), number(&head["v"])), ("meta", 1));
        for node in head["nodes"].as_array().expect("a list") {
            judge.nodes.insert(text(node).to_owned(), Node::default());
        }
        for (at, line) in lines.enumerate() {
            let line: Value = serde_json::from_str(line).expect("each line is an object");
            judge.line(&line).map_err(|rule| format!("line {}: {rule}: {line}", at + 2))?;
        }
        Ok(judge)
    }

    fn line(&mut self, line: &Value) -> Verdict {
        let event = text(&line["ev"]);
        *self.counts.entry(event.to_owned()).or_default() += 1;
        match event {
            "drop" => self.gone(&line["in"]),
            "dup" => {
                let copies = self.copies.get_mut(&line["in"].to_string());
                let copies = copies.filter(|copies| **copies > 0).ok_or("a copy of nothing")?;
                *copies += 1;
                Ok(())
            }
            "crash" => {
                let node = self.nodes.get_mut(text(&line["n"])).expect("the head names all");
                node.is_up = false;
                Ok(())
            }
            _ => self.step(event, line),
        }
    }

    fn gone(&mut self, message: &Value) -> Verdict {
        let copies = self.copies.entry(message.to_string()).or_default();
        *copies -= 1;
        ensure(*copies >= 0, "a message that was not sent, or not so often")
    }

    fn step(&mut self, event: &str, line: &Value) -> Verdict {
        let name = text(&line["n"]);
        if let Some(message) = line.get("in") {
            ensure(["recv", "ignore"].contains(&event), "only who receives has a message")?;
            ensure(text(&message["to"]) == name, "a message for another node")?;
            self.gone(message)?;
        }
        let state = &line["st"];
        if state["role"] == "L" {
            let leader = self.leaders.entry(number(&state["term"])).or_insert(name.to_owned());
            ensure(leader == name, "two leaders in a term")?;
        }
        let node = self.nodes.get_mut(name).expect("the head names all");
        match event {
            "boot" => *node = Node { is_up: true, state: state.clone(), promised: 0 },
            "restart" => {
                ensure(!node.is_up, "a process that runs is not started")?;
                ensure(number(&state["term"]) >= node.promised, "a promise is forgotten")?;
                *node = Node { is_up: true, state: state.clone(), ..node.clone() };
            }
            _ => {
                ensure(node.is_up, "a step of a node that is down")?;
                follows(event, node, line)?;
                node.state = state.clone();
            }
        }
        node.state["sync"] = line["sync"].clone();
        coherent(state)?;
        for sent in line["out"].as_array().expect("a list") {
            *self.copies.entry(sent.to_string()).or_default() += 1;
            says(name, sent, state)?;
            if sent["mt"] != "preVoteReq" && sent["mt"] != "preVoteResp" {
                node.promised = node.promised.max(number(&sent["term"]));
            }
        }
        Ok(())
    }
}

/// What holds of each state by itself.
fn coherent(state: &Value) -> Verdict {
    ensure(number(&state["commit"]) <= number(&state["last"]), "commits what it has not")?;
    ensure(number(&state["lt"]) <= number(&state["term"]), "an entry of a later term")?;
    let role = text(&state["role"]);
    ensure(["F", "P", "C", "L"].contains(&role), "a role that there is not")
}

/// What holds between two steps of one life.
fn follows(event: &str, before: &Node, line: &Value) -> Verdict {
    let (was, is) = (&before.state, &line["st"]);
    ensure(number(&was["term"]) <= number(&is["term"]), "a term that falls")?;
    ensure(number(&was["commit"]) <= number(&is["commit"]), "a commit index that falls")?;
    if was["term"] == is["term"] {
        let is_kept = was["vote"] == "-" || was["vote"] == is["vote"];
        ensure(is_kept, "a second vote in a term")?;
        ensure(was["role"] != "L" || is["role"] != "C", "who leads does not stand again")?;
    }
    if event == "release" {
        ensure(line["sync"] == false, "what is durable is not released before it is")?;
        let mut state = was.clone();
        state.as_object_mut().expect("a state").remove("sync");
        ensure(state == *is, "entries that leave change nothing")?;
        let sent = line["out"].as_array().expect("a list");
        let has_entries =
            |sent: &Value| sent["ents"].as_array().is_some_and(|list| !list.is_empty());
        ensure(is["role"] == "L" && sent.iter().all(has_entries), "only leaders' entries leave")?;
    }
    let is_confirmed = was["sync"] == true || line["sync"] == false || event == "persist";
    ensure(is_confirmed, "durable without an answer of the disk")?;
    let Some(appended) = line.get("app").and_then(Value::as_array) else { return Ok(()) };
    ensure(is["role"] == "L", "only leaders append")?;
    let of_term = appended.iter().all(|entry| entry["t"] == is["term"]);
    ensure(of_term, "a leader appends entries of its term")?;
    if (&was["role"], &was["term"]) == (&is["role"], &is["term"]) {
        let last = number(&was["last"]) + appended.len() as u64;
        // Answers of peers may discard damaged entries at the end, which nobody else ever had.
        let may_discard = line["in"]["mt"] == "entryResp" && was["commit"] != was["last"];
        let is_shorter = may_discard && number(&is["last"]) < last;
        ensure(is_shorter || last == number(&is["last"]), "what is appended follows the log")?;
    }
    Ok(())
}

/// What holds of a message and the state in which it is sent.
fn says(name: &str, sent: &Value, state: &Value) -> Verdict {
    ensure(text(&sent["from"]) == name, "in the name of another node")?;
    let kind = text(&sent["mt"]);
    if kind.starts_with("preVote") {
        return Ok(());
    }
    ensure(number(&sent["term"]) <= number(&state["term"]), "a message of a later term")?;
    if sent["term"] != state["term"] {
        return Ok(());
    }
    match kind {
        "voteReq" => ensure(state["vote"] == *name, "who stands votes for itself"),
        "voteResp" if sent["ok"] == true => {
            ensure(state["vote"] == sent["to"], "a vote that was not given")
        }
        "appReq" | "hbReq" | "commit" => {
            ensure(number(&sent["commit"]) <= number(&state["commit"]), "a commit too far")
        }
        "appResp" if sent["ok"] == true => {
            ensure(number(&sent["match"]) <= number(&state["last"]), "a match beyond the log")
        }
        _ => Ok(()),
    }
}

#[test]
fn the_traces_of_healthy_runs_keep_the_rules() {
    let mut counts = BTreeMap::<String, u64>::new();
    for seed in 0..36 {
        let trace = trace(seed, 2_000, Sabotage::None);
        assert!(!trace.contains("null"), "seed {seed}");
        let judge = Judge::of(&trace).unwrap_or_else(|rule| panic!("seed {seed}: {rule}"));
        for (event, count) in judge.counts {
            *counts.entry(event).or_default() += count;
        }
    }
    for event in [
        "boot", "restart", "recv", "ignore", "timeout", "prevote", "propose", "tick", "persist",
        "stepdown", "release", "crash", "drop", "dup",
    ] {
        assert!(counts.get(event).is_some_and(|count| *count > 10), "{event}: {counts:?}");
    }
}

#[test]
fn forged_messages_are_seen_in_a_trace() {
    let rule = |sabotage, seeds: u64| {
        let verdicts = (0..seeds).map(|seed| Judge::of(&trace(seed, 4_000, sabotage)).err());
        verdicts.flatten().next().unwrap_or_else(|| panic!("{sabotage:?} is not seen"))
    };
    let forged = rule(Sabotage::VoteForged, 20);
    assert!(forged.contains("a message that was not sent"), "{forged}");
    let forged = rule(Sabotage::AcknowledgementForged, 20);
    assert!(forged.contains("a message that was not sent"), "{forged}");
}

#[test]
fn a_seed_has_one_trace() {
    let [one, two] = [0; 2].map(|_| trace(5, 2_000, Sabotage::None));
    assert_eq!(one, two);
    assert!(one.starts_with("{\"ev\":\"meta\",\"learners\":["), "{}", &one[..200]);
}
