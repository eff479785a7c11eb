//! Histories that are made up: for tests, benches, and whoever wants to try the checker.
//!
//! One machine answers clients one at a time, while the moments at which they ask and hear are spread
//! around that: so the history has an order. Some clients hear nothing, and their updates take effect
//! later or never. A lie in one answer makes a history that most often has no order.

use std::fmt::Write;

use crate::rng::{Draw, Purpose, Ratio, Stream};

/// What a made up history is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many operations there are.
    pub operations: u32,
    /// How many clients there are at a time.
    pub clients: u32,
    /// How many keys there are.
    pub keys: u32,
    /// How many values there are; zero: each update has its own.
    pub values: u32,
    /// How often an operation is a read.
    pub reads: Ratio,
    /// How often an update is a compare-and-swap.
    pub swaps: Ratio,
    /// How often an update is a delete.
    pub deletes: Ratio,
    /// How often an operation has no known outcome.
    pub unknown: Ratio,
    /// How many answers are replaced by others.
    pub lies: u32,
    /// Texts that are appended to, in place of registers.
    pub append: bool,
}

/// A step of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Idle,
    /// It has asked, and the machine has not answered.
    Asked,
    /// The machine has answered, and it has not heard.
    Answered,
}

#[derive(Clone, Debug)]
struct Client {
    name: u32,
    step: Step,
    key: usize,
    f: &'static str,
    value: [Option<u32>; 2],
    /// What the machine has said: the value that was found, or that the swap was made.
    found: Option<u32>,
    text: String,
    is_done: bool,
}

#[derive(Clone, Debug)]
struct Line {
    process: u32,
    kind: &'static str,
    f: &'static str,
    key: usize,
    value: String,
    error: Option<&'static str>,
}

struct Machine {
    plan: Plan,
    stream: Stream,
    clients: Vec<Client>,
    registers: Vec<Option<u32>>,
    texts: Vec<String>,
    /// Updates whose clients have given up.
    ghosts: Vec<Client>,
    names: u32,
    written: u32,
    lines: Vec<Line>,
}

/// A history in JSON lines, the same for the same seed.
#[must_use]
pub fn jsonl(plan: &Plan, seed: u64) -> String {
    let mut machine = Machine {
        plan: *plan,
        stream: Stream::new(seed, Purpose::History, 0),
        clients: Vec::new(),
        registers: vec![None; plan.keys.max(1) as usize],
        texts: vec![String::new(); plan.keys.max(1) as usize],
        ghosts: Vec::new(),
        names: plan.clients.max(1),
        written: 0,
        lines: Vec::new(),
    };
    machine.clients = (0..machine.names).map(Client::new).collect();
    machine.run();
    machine.lie();
    machine.show()
}

impl Client {
    fn new(name: u32) -> Self {
        let (step, f, text) = (Step::Idle, "read", String::new());
        Self { name, step, key: 0, f, value: [None; 2], found: None, text, is_done: false }
    }
}

impl Machine {
    fn run(&mut self) {
        let mut left = self.plan.operations;
        while left > 0 || self.clients.iter().any(|client| client.step != Step::Idle) {
            let mut draw = self.stream.draw();
            if !self.ghosts.is_empty() && draw.chance(Ratio::new(1, 16)) {
                let ghost = draw.position(self.ghosts.len());
                let mut ghost = self.ghosts.swap_remove(ghost);
                self.answer(&mut ghost);
                continue;
            }
            let at = draw.position(self.clients.len());
            let mut client = self.clients[at].clone();
            match client.step {
                Step::Idle if left == 0 => continue,
                Step::Idle => {
                    left -= 1;
                    self.ask(&mut client, &mut draw);
                }
                Step::Asked if draw.chance(self.plan.unknown) => {
                    self.line(&client, "info", Some("timeout"));
                    self.ghosts.push(client);
                    client = self.successor();
                }
                Step::Asked => self.answer(&mut client),
                Step::Answered if draw.chance(self.plan.unknown) => {
                    self.line(&client, "info", Some("timeout"));
                    client = self.successor();
                }
                Step::Answered => self.hear(&mut client),
            }
            self.clients[at] = client;
        }
    }

    fn successor(&mut self) -> Client {
        self.names += 1;
        Client::new(self.names - 1)
    }

    fn ask(&mut self, client: &mut Client, draw: &mut Draw) {
        let plan = self.plan;
        client.key = draw.position(self.registers.len());
        client.step = Step::Asked;
        client.value = [None; 2];
        let mut value = |draw: &mut Draw| {
            self.written += 1;
            Some(if plan.values == 0 {
                self.written
            } else {
                small(draw.below(plan.values.into()))
            })
        };
        client.f = "read";
        if !draw.chance(plan.reads) {
            let (swaps, deletes) = (draw.chance(plan.swaps), draw.chance(plan.deletes));
            (client.f, client.value) = match (plan.append, swaps, deletes) {
                (true, _, _) => ("append", [value(draw), None]),
                (false, true, _) if plan.values > 0 => ("cas", [value(draw), value(draw)]),
                // A value that is there just now may still be there.
                (false, true, _) => ("cas", [self.registers[client.key].or(Some(0)), value(draw)]),
                (false, false, true) => ("delete", [None; 2]),
                (false, false, false) => ("write", [value(draw), None]),
            };
        }
        self.line(client, "invoke", None);
    }

    fn answer(&mut self, client: &mut Client) {
        client.step = Step::Answered;
        let register = &mut self.registers[client.key];
        client.is_done = true;
        match client.f {
            "read" => {
                client.found = *register;
                client.text.clone_from(&self.texts[client.key]);
            }
            "append" => {
                let added = client.value[0].unwrap_or_default();
                write!(self.texts[client.key], "{added}.").expect("a string takes all");
            }
            "cas" if *register == client.value[0] => *register = client.value[1],
            "cas" => client.is_done = false,
            _ => *register = client.value[0],
        }
    }

    fn hear(&mut self, client: &mut Client) {
        if client.is_done {
            self.line(client, "ok", None);
        } else {
            self.line(client, "fail", Some("mismatch"));
        }
        client.step = Step::Idle;
    }

    fn line(&mut self, client: &Client, kind: &'static str, error: Option<&'static str>) {
        let Client { name, key, f, value, found, text, .. } = client;
        let show = |value: Option<u32>| value.map_or("null".to_owned(), |value| value.to_string());
        let value = match *f {
            "read" if kind != "ok" => "null".to_owned(),
            "read" if self.plan.append => format!("\"{text}\""),
            "read" => show(*found),
            "cas" => format!("[{},{}]", show(value[0]), show(value[1])),
            "append" => format!("\"{}.\"", show(value[0])),
            _ => show(value[0]),
        };
        self.lines.push(Line { process: *name, kind, f, key: *key, value, error });
    }

    /// Tells reads what others were told, at other times, and swaps the opposite of the truth.
    fn lie(&mut self) {
        let is_answer = |line: &Line| match line.f {
            "read" => line.kind == "ok",
            "cas" => line.kind == "ok" || line.error == Some("mismatch"),
            _ => false,
        };
        let answers = self.lines.iter().enumerate().filter(|(_, line)| is_answer(line));
        let answers: Vec<usize> = answers.map(|(at, _)| at).collect();
        for _ in 0..self.plan.lies {
            let mut draw = self.stream.draw();
            if answers.len() < 2 {
                return;
            }
            let victim = answers[draw.position(answers.len())];
            let other = self.lines[answers[draw.position(answers.len())]].clone();
            let line = &mut self.lines[victim];
            (line.kind, line.error) = match (line.f, line.kind) {
                ("cas", "ok") => ("fail", Some("mismatch")),
                (_, _) => ("ok", None),
            };
            if line.f == "read" && other.f == "read" {
                line.value = other.value;
            }
        }
    }

    fn show(&self) -> String {
        let (model, init) =
            if self.plan.append { ("kv-append", "\"\"") } else { ("kv-cas", "null") };
        let mut text =
            format!("{{\"format\":\"jepsen-jsonl/1\",\"model\":\"{model}\",\"init\":{init}}}\n");
        for (index, line) in self.lines.iter().enumerate() {
            let Line { process, kind, f, key, value, error } = line;
            let error = error.map_or(String::new(), |error| format!(",\"error\":\"{error}\""));
            writeln!(
                text,
                "{{\"index\":{index},\"process\":{process},\"type\":\"{kind}\",\"f\":\"{f}\",\
                 \"key\":\"k{key}\",\"value\":{value}{error}}}"
            )
            .expect("a string takes all");
        }
        text
    }
}

fn small(value: u64) -> u32 {
    u32::try_from(value).expect("it was below a number of 32 bits")
}
