//! The examples run, and what they show is true.
//!
//! A plain `cargo test` builds them before this test. Before `cargo test --test examples`, which
//! builds nothing else, run `cargo build -p raft-core --examples`.
//!
//! Nothing here waits for a length of time: a test waits for lines, and a deadline that is far
//! beyond what any machine needs turns a hang into a failure.
#![expect(clippy::disallowed_methods, reason = "one thread reads each process's output")]
#![expect(clippy::disallowed_types, reason = "a hang must become a failure")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};
use std::{fs, thread};

use bytes::Bytes;
use raft_core::{
    Body, Chunk, ChunkPurpose, ChunkRequest, ClusterId, Config, Effect, Entries, Entry, EntryId,
    GroupId, Incarnation, Index, LoadPurpose, LoadRequest, Member, Membership, Message, Payload,
    PersistBatch, PersistSeq, Raft, Session, Slot, SnapshotMeta, Term, Ticket, Time,
};
use serde_json::{Value, json};

use crate::snapshots::Snapshots;
use crate::wal::{Wal, Work};

#[path = "../examples/common/snapshots.rs"]
mod snapshots;
#[path = "../examples/common/wal.rs"]
mod wal;

/// Longer than anything here takes on the slowest machine: only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

/// The binaries of the examples lie beside the folder of this test's own.
fn example(name: &str) -> Command {
    let own = std::env::current_exe().expect("a test is a file");
    let folder = own.ancestors().nth(2).expect("a test lies in deps, in the target's folder");
    let path = folder.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
    let changed = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    let is_built = changed(&path) >= changed(&source);
    assert!(is_built, "{name} is not built: run cargo build -p raft-core --examples");
    Command::new(path)
}

/// A process that does not outlive its test, and its lines.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Process {
    fn spawn(mut command: Command, on_line: impl Fn(Option<String>) + Send + 'static) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the example starts");
        let stdout = child.stdout.take().expect("it is piped");
        let stdin = child.stdin.take();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                on_line(Some(line));
            }
            on_line(None);
        });
        Self { child, stdin }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs an example to its end and returns what it has printed.
fn run(command: Command) -> Vec<String> {
    let (sender, lines) = mpsc::channel();
    let mut process = Process::spawn(command, move |line| drop(sender.send(line)));
    let mut printed = Vec::new();
    while let Some(line) = lines.recv_timeout(HANG).expect("the example ends") {
        printed.push(line);
    }
    let status = process.child.wait().expect("it has ended");
    assert!(status.success(), "{status}: {printed:#?}");
    printed
}

/// A folder of its own for each test, new.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_dir_all(&path));
    path
}

#[test]
fn threaded_host_finds_everything_again_after_a_restart() {
    let folder = folder("threaded_host");
    let mut command = example("threaded_host");
    command.arg(&folder);
    let printed = run(command);
    let told: Vec<&str> = printed.iter().map(String::as_str).collect();
    assert!(told.contains(&"life 1: every node has applied 100 commands"), "{told:#?}");
    assert_eq!(
        told[told.len() - 2..],
        ["life 2: every node has applied 200 commands", "all logs are equal"]
    );
    for node in 1..=3 {
        let loads = format!("n{node}: loads ");
        assert!(
            told.iter().any(|line| line.starts_with(&loads)),
            "n{node} reads its file: {told:#?}"
        );
        let bytes = fs::read(folder.join(format!("n{node}.wal"))).expect("every node has a file");
        for command in ["life 1, command 0", "life 2, command 99"] {
            let is_there = bytes.windows(command.len()).any(|part| part == command.as_bytes());
            assert!(is_there, "n{node} has {command} on its disk");
        }
    }
}

#[test]
fn tokio_host_goes_on_without_the_leader_it_had() {
    let mut command = example("tokio_host");
    command.arg(folder("tokio_host"));
    let printed = run(command);
    let told = |part: &str| printed.iter().filter(|line| line.contains(part)).count();
    assert_eq!(told("100 items are in; "), 1, "{printed:#?}");
    assert_eq!(told("100 more are in; "), 1, "{printed:#?}");
    assert_eq!(told(" reads 200 items"), 2, "{printed:#?}");
}

/// Whatever a crash leaves of the file, a beginning of the stream is found, and a node starts from it.
#[test]
fn wal_finds_a_beginning_of_what_was_written() {
    let folder = folder("wal");
    fs::create_dir_all(&folder).expect("a test may write");
    let open = |name: &str| {
        let founders = Membership::new(vec![Member::new(1, 7)], vec![]).expect("one voter");
        Wal::open(&folder.join(name), founders).expect("a beginning is always found")
    };
    let config = Config::new(ClusterId(1), GroupId(0), Member::new(1, 7));
    let (mut file, found) = open("whole");
    let mut states = vec![found.clone()];
    let (mut raft, mut effects) =
        Raft::recover(config.clone(), found, Time(0)).expect("a founder starts");
    let mut inbox: VecDeque<Body> = (1..=3)
        .map(|n| Body::Propose { ticket: Ticket(n), command: Bytes::from_static(b"command") })
        .collect();
    inbox.push_front(Body::Campaign);
    loop {
        for effect in effects.drain(..) {
            if let Effect::Persist(batch) = effect {
                let done = file.work([Work::Persist(batch)]).expect("the disk works");
                states.push(open("whole").1);
                done.into_iter().for_each(|body| inbox.push_front(body));
            }
        }
        let Some(body) = inbox.pop_front() else { break };
        effects = raft.step(Message { now: Time(0), body });
    }
    assert_eq!(states.last().expect("there are some").slots.len(), 4, "a no-op and three commands");
    let request = |after, bytes_max| LoadRequest {
        purpose: LoadPurpose::Apply,
        after,
        through: Index(4),
        bytes_max,
    };
    let mut load = |request| {
        let done = file.work([Work::Load(request)]).expect("the disk works");
        let [Body::Loaded { entries: Some(entries), .. }] = &done[..] else {
            panic!("entries and nothing else: {done:?}")
        };
        entries.clone()
    };
    let all = load(request(states[0].before, 1000));
    assert_eq!(all.last().map(Entry::id), Some(raft.status().last), "the whole log, chain and all");
    assert_eq!(load(request(all[0].id(), 15)), all.slice(Index(2), Index(4)), "two of seven bytes");
    assert_eq!(load(request(all[2].id(), 1)), all.slice(Index(4), Index(5)), "always one");
    let bytes = fs::read(folder.join("whole")).expect("it is written");
    let mut reached = 0;
    for cut in (0..bytes.len()).step_by(3) {
        fs::write(folder.join("torn"), &bytes[..cut]).expect("a test may write");
        let found = open("torn").1;
        let state = states.iter().rposition(|state| *state == found).expect("a state in between");
        assert!(state >= reached, "more of the file is never less of the stream");
        reached = state;
        Raft::recover(config.clone(), found, Time(0)).expect("a node starts from it");
    }
    assert_eq!(reached, states.len() - 2, "all but the last batch, which is torn");
}

/// What was healed is read from where it was written again, what a compaction leaves has it, and a
/// snapshot that is installed where the log begins takes nothing of the log.
#[test]
fn wal_has_healed_entries_and_keeps_the_log_behind_an_installed_snapshot() {
    let folder = folder("wal_heals");
    fs::create_dir_all(&folder).expect("a test may write");
    let founders = Membership::new(vec![Member::new(1, 7)], vec![]).expect("one voter");
    let open = || Wal::open(&folder.join("wal"), founders.clone()).expect("it is whole");
    let (mut wal, found) = open();
    let command = |n: u8| (Term(1), Payload::Command(Bytes::from(vec![n; 5])));
    let log = Entries::after(found.before, (1..=5).map(command));
    let part = |from: u64, to: u64| log.slice(Index(from), Index(to));
    let id = |index: u64| part(index, index + 1)[0].id();
    let empty = PersistBatch {
        seq: PersistSeq { incarnation: Incarnation(1), n: 1 },
        hard_state: None,
        install: None,
        truncate_from: None,
        heal: vec![],
        append: Entries::empty(),
        compact_to: None,
    };
    // All entries that there are after one, from the open file and from one that is opened again.
    let assert_left = |wal: &mut Wal, after: EntryId| {
        let expected = log.slice(after.index.next(), Index(6));
        let (mut again, found) = open();
        let ids: Vec<EntryId> = found.slots.iter().map(Slot::id).collect();
        assert_eq!(ids, expected.iter().map(Entry::id).collect::<Vec<_>>());
        let (purpose, through, bytes_max) = (LoadPurpose::Apply, Index(5), 1000);
        for wal in [wal, &mut again] {
            for after in std::iter::once(after).chain((after.index.0 + 1..5).map(id)) {
                let request = LoadRequest { purpose, after, through, bytes_max };
                let done = wal.work([Work::Load(request)]).expect("the disk works");
                let rest = Some(log.slice(after.index.next(), Index(6)));
                assert_eq!(done, [Body::Loaded { request, entries: rest }]);
            }
        }
    };
    let append = PersistBatch { append: part(1, 5), ..empty.clone() };
    // The order in which entries are healed is not that of the log.
    let heal = vec![part(4, 5), part(2, 3)];
    let healed = PersistBatch { heal, append: part(5, 6), ..empty.clone() };
    wal.work([append, healed].map(Work::Persist)).expect("the disk works");
    assert_left(&mut wal, found.before);
    let compact = |through| PersistBatch { compact_to: Some(Index(through)), ..empty.clone() };
    wal.work([Work::Persist(compact(1))]).expect("the disk works");
    assert_left(&mut wal, id(1));
    let meta = SnapshotMeta { last: id(1), membership: founders.clone() };
    let install = PersistBatch { install: Some(Arc::new(meta)), ..empty.clone() };
    wal.work([Work::Persist(install)]).expect("the disk works");
    assert_left(&mut wal, id(1));
    wal.work([Work::Persist(compact(2))]).expect("the disk works");
    assert_left(&mut wal, id(2));
}

#[test]
fn snapshot_host_brings_up_who_lacks_what_no_log_has() {
    let folder = folder("snapshot_host");
    let mut command = example("snapshot_host");
    command.arg(&folder);
    let printed = run(command);
    let told = |what: &str, node: u64| {
        let after = printed.iter().skip_while(|line| **line != format!("{what}:"));
        let mut lines = after.filter(|line| line.starts_with(&format!("  n{node} ")));
        lines.next().unwrap_or_else(|| panic!("n{node}, {what}: {printed:#?}")).clone()
    };
    for (what, node) in [("n3 is back", 3), ("n4 is new", 4)] {
        let line = told(what, node);
        assert!(line.contains(" 110 numbers, sum 6105; "), "{line}");
        assert!(line.ends_with("; 4 parts of snapshots have come"), "{line}");
    }
    for node in 1..=4 {
        let line = told("all have started again", node);
        assert!(line.contains(" 111 numbers, sum 6106; its log begins after i100 "), "{line}");
        assert!(line.ends_with("; 0 parts of snapshots have come"), "its folder is enough: {line}");
        let folder = folder.join(format!("n{node}"));
        let bytes = fs::metadata(folder.join("wal")).expect("every node has a log").len();
        assert!(bytes < 2000, "of 111 entries few are left: {bytes} bytes");
        let files = fs::read_dir(folder).expect("every node has a folder").count();
        assert_eq!(files, 2, "the log and one snapshot");
    }
}

/// A crash between the two leaves the snapshot of before, with which the log begins.
#[test]
fn an_installed_snapshot_counts_only_once_the_log_has_it() {
    let folder = folder("snapshots");
    fs::create_dir_all(&folder).expect("a test may write");
    let founders = Membership::new(vec![Member::new(1, 7)], vec![]).expect("one voter");
    let start = || {
        let (wal, mut found) =
            Wal::open(&folder.join("wal"), founders.clone()).expect("it is whole");
        let snapshots = Snapshots::open(&folder, &mut found).expect("they are whole");
        (wal, snapshots, found)
    };
    let (mut wal, mut snapshots, found) = start();
    let entries = [Term(1), Term(1)].map(|term| (term, Payload::Noop));
    let log = Entries::after(found.before, entries);
    let meta = |last: EntryId| Arc::new(SnapshotMeta { last, membership: founders.clone() });
    let empty = PersistBatch {
        seq: PersistSeq { incarnation: Incarnation(1), n: 1 },
        hard_state: None,
        install: None,
        truncate_from: None,
        heal: vec![],
        append: Entries::empty(),
        compact_to: None,
    };
    let append = PersistBatch { append: log.clone(), ..empty.clone() };
    wal.work([Work::Persist(append)]).expect("the disk works");
    // One is taken: the log has its last entry.
    snapshots.keep(meta(log[0].id()), Bytes::from_static(b"one")).expect("the disk works");
    // A crash while the next one was written leaves a file without a number: it counts for nothing.
    let one = fs::read(folder.join("snapshot-1")).expect("it is there");
    fs::write(folder.join("snapshot-2.new"), &one).expect("a test may write");
    // A snapshot that cannot be read is no reason to go on without it, nor to remove anything.
    fs::write(folder.join("snapshot-1"), &one[..one.len() - 1]).expect("a test may write");
    let (_, mut damaged) = Wal::open(&folder.join("wal"), founders.clone()).expect("it is whole");
    let refused = Snapshots::open(&folder, &mut damaged).err().map(|error| error.kind());
    assert_eq!(refused, Some(std::io::ErrorKind::InvalidData));
    fs::write(folder.join("snapshot-1"), &one).expect("it is still there");
    let (mut wal, mut snapshots, found) = start();
    assert_eq!((found.snapshot.last, found.slots.len()), (log[0].id(), 2));
    let compact = PersistBatch { compact_to: Some(Index(1)), ..empty.clone() };
    wal.work([Work::Persist(compact)]).expect("the disk works");
    // Another one arrives, of which the log knows nothing yet.
    let other = Entries::after(log[1].id(), [(Term(2), Payload::Noop)])[0].id();
    assert_eq!([snapshots.stage(0, b"tw"), snapshots.stage(2, b"o")], [2, 3]);
    snapshots.install(meta(other)).expect("the disk works");
    let (mut wal, mut snapshots, found) = start();
    assert_eq!((found.snapshot.last, found.before), (log[0].id(), log[0].id()));
    assert_eq!(snapshots.state(), Some(&Bytes::from_static(b"one")));
    snapshots.stage(0, b"two");
    snapshots.install(meta(other)).expect("the disk works");
    let install = PersistBatch { install: Some(meta(other)), ..empty };
    wal.work([Work::Persist(install)]).expect("the disk works");
    let (_, snapshots, found) = start();
    assert_eq!((found.snapshot.last, found.before, found.slots.len()), (other, other, 0));
    let request = ChunkRequest {
        to: Member::new(2, 8),
        purpose: ChunkPurpose::Lag { session: Session(1) },
        snapshot: other,
        offset: 1,
        bytes_max: 9,
    };
    let rest = Chunk { data: Bytes::from_static(b"wo"), done: true };
    assert_eq!(snapshots.read(&request), Some(rest));
    assert_eq!(snapshots.read(&ChunkRequest { snapshot: log[0].id(), ..request }), None);
}

/// What Maelstrom is to its nodes: a network, and clients `c1`, `c2`, ... played by the test.
struct Maelstrom {
    nodes: BTreeMap<String, Process>,
    sent: Receiver<Value>,
    next_id: u64,
}

impl Maelstrom {
    fn start(names: &[&str]) -> Self {
        let (sender, sent) = mpsc::channel();
        let mut network = Self { nodes: BTreeMap::new(), sent, next_id: 0 };
        for name in names {
            let sender: Sender<Value> = sender.clone();
            let on_line = move |line: Option<String>| {
                let Some(line) = line else { return };
                let message = serde_json::from_str(&line).expect("nodes print JSON alone");
                drop(sender.send(message));
            };
            let node = Process::spawn(example("maelstrom"), on_line);
            network.nodes.insert((*name).to_owned(), node);
        }
        for name in names {
            let init = json!({ "type": "init", "node_id": name, "node_ids": names });
            assert_eq!(network.ask(name, init)["type"], "init_ok");
        }
        network
    }

    fn deliver(&mut self, message: &Value) {
        let dest = message["dest"].as_str().expect("every message has a destination");
        // What is sent to a node that is gone is lost.
        if let Some(stdin) = self.nodes.get_mut(dest).and_then(|node| node.stdin.as_mut()) {
            drop(writeln!(stdin, "{message}"));
        }
    }

    fn ask(&mut self, node: &str, body: Value) -> Value {
        self.ask_at_once(&[(node, body)]).remove(0)
    }

    /// Requests of as many clients, and the answers to them; meanwhile the nodes' messages travel.
    fn ask_at_once(&mut self, requests: &[(&str, Value)]) -> Vec<Value> {
        let mut answers = vec![Value::Null; requests.len()];
        let first = self.next_id;
        for (node, body) in requests {
            let (id, mut body) = (self.next_id, body.clone());
            body["msg_id"] = json!(id);
            self.deliver(&json!({ "src": format!("c{id}"), "dest": node, "body": body }));
            self.next_id += 1;
        }
        // The nodes' heartbeats go on for ever, so silence is not what a hang looks like.
        let started = Instant::now();
        while answers.iter().any(Value::is_null) {
            assert!(started.elapsed() < HANG, "no answer: {requests:?}, {answers:?}");
            let message = self.sent.recv_timeout(HANG).expect("the nodes run");
            if message["dest"].as_str().is_some_and(|dest| dest.starts_with('n')) {
                self.deliver(&message);
            } else if let Some(place) = message["body"]["in_reply_to"].as_u64()
                && place >= first
            {
                let place = usize::try_from(place - first).expect("it was given here");
                assert_eq!(message["src"], requests[place].0, "the node that was asked answers");
                assert_eq!(message["dest"], format!("c{}", message["body"]["in_reply_to"]));
                assert!(answers[place].is_null(), "and answers once");
                answers[place] = message["body"].clone();
            }
        }
        answers
    }

    /// Asks again as long as there is no leader, or another one. Only for requests that may as
    /// well be done twice: an answer with code 13 says that nobody knows.
    fn insist(&mut self, node: &str, body: &Value) -> Value {
        let started = Instant::now();
        loop {
            let answer = self.ask(node, body.clone());
            if ![11, 13, 14].iter().any(|code| answer["code"] == *code) {
                return answer;
            }
            assert!(started.elapsed() < HANG, "no leader serves: {answer}");
        }
    }
}

fn read(key: u64) -> Value {
    json!({ "type": "read", "key": key })
}

fn write(key: u64, value: u64) -> Value {
    json!({ "type": "write", "key": key, "value": value })
}

fn cas(key: u64, from: u64, to: u64) -> Value {
    json!({ "type": "cas", "key": key, "from": from, "to": to })
}

#[test]
fn maelstrom_nodes_keep_one_linearizable_store() {
    let mut network = Maelstrom::start(&["n1", "n2", "n3"]);
    assert_eq!(network.insist("n1", &read(1))["code"], 20, "the key does not exist");
    assert_eq!(network.insist("n2", &cas(1, 0, 1))["code"], 20, "the key does not exist");
    assert_eq!(network.insist("n1", &write(1, 10))["type"], "write_ok");
    for node in ["n1", "n2", "n3"] {
        let answer = network.insist(node, &read(1));
        assert_eq!((&answer["type"], &answer["value"]), (&json!("read_ok"), &json!(10)));
    }
    assert_eq!(network.insist("n2", &cas(1, 11, 12))["code"], 22, "the value is another");
    // If the leader changes under it, the first try may have been done: then the value is 12.
    let swapped = network.insist("n3", &cas(1, 10, 12));
    assert!(swapped["type"] == "cas_ok" || swapped["code"] == 22, "{swapped}");
    assert_eq!(network.insist("n1", &read(1))["value"], 12);
    assert_eq!(network.insist("n1", &json!({ "type": "echo" }))["code"], 10, "not supported");
}

/// Of all who want to replace the same value at once, wherever they ask, one can.
#[test]
fn maelstrom_nodes_agree_on_who_came_first() {
    let mut network = Maelstrom::start(&["n1", "n2", "n3"]);
    assert_eq!(network.insist("n1", &write(5, 0))["type"], "write_ok");
    let (mut value, mut is_unsure) = (0, false);
    for round in 1..=10 {
        let node = |n: u64| ["n1", "n2", "n3"][usize::try_from(n % 3).expect("small")];
        let rivals: Vec<(&str, Value)> =
            (1..=9).map(|n| (node(n), cas(5, value, round * 100 + n))).collect();
        let answers = network.ask_at_once(&rivals);
        let mut winners = answers.iter().zip(1..).filter(|(answer, _)| answer["type"] == "cas_ok");
        let winner: Option<u64> = winners.next().map(|(_, n)| round * 100 + n);
        assert!(winners.next().is_none(), "two have won: {answers:?}");
        let now = network.insist(node(round), &read(5))["value"].as_u64().expect("a number");
        // Where nobody knows whether it was done (the leader has changed), it may be done later.
        is_unsure |= answers.iter().any(|answer| answer["code"] == 13);
        let is_right = now == winner.unwrap_or(value) || is_unsure;
        assert!(is_right, "{winner:?} won over {value}, but there is {now}");
        value = now;
    }
    assert!(value >= 100, "somebody has won");
}

#[test]
fn maelstrom_nodes_survive_the_loss_of_any_one() {
    for gone in ["n1", "n2", "n3"] {
        let mut network = Maelstrom::start(&["n1", "n2", "n3"]);
        assert_eq!(network.insist(gone, &write(7, 1))["type"], "write_ok");
        network.nodes.remove(gone);
        let left: Vec<String> = network.nodes.keys().cloned().collect();
        for node in &left {
            assert_eq!(network.insist(node, &read(7))["value"], 1);
        }
        assert_eq!(network.insist(&left[0], &write(7, 2))["type"], "write_ok");
        assert_eq!(network.insist(&left[1], &read(7))["value"], 2);
    }
}
