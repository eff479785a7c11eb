//! A whole cluster on this machine, for trying things out: `raft-kv cluster start`.
//!
//! Everything is in one directory: the configuration of all nodes, and for each its data, its log and
//! the number of its process. A number is believed only if the process still runs this program with
//! this configuration: it may have been given to somebody else. So the directory has one name, its whole
//! one, from wherever it is asked for; and what a server has locked is in use whatever it is called.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use raft_kv::client::{Answer, Ask, Client};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;

use super::complain;

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long what has ended may take to give back its ports and its directory.
const GIVES_BACK: Duration = Duration::from_secs(2);

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(50);

/// The colours of the nodes' logs: cyan, yellow, green, magenta, blue, red.
const COLOURS: [&str; 6] = ["\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[31m"];

#[derive(Args, Debug)]
pub(super) struct Cluster {
    /// Where everything is
    #[arg(long, global = true, default_value = "raft-kv-cluster")]
    dir: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, Subcommand, Debug)]
enum What {
    /// Start all nodes, for the first time or again
    Start {
        #[command(flatten)]
        shape: Shape,
    },
    /// Tell which nodes run, and what they say
    Status,
    /// Print the logs, coloured by node
    Logs {
        /// The last lines of each
        #[arg(long, default_value_t = 20)]
        lines: usize,
    },
    /// End a node with SIGKILL
    Kill {
        /// Its number
        node: u64,
    },
    /// Start a node again
    StartNode {
        /// Its number
        node: u64,
    },
    /// End all nodes in order
    Stop,
    /// Remove everything, once no node runs
    Clean,
}

/// What a cluster is made like; what there is keeps what it was made like.
#[derive(Args, Clone, Copy, Debug)]
struct Shape {
    /// How many [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
    /// Node N listens to clients at this port plus N [default: 8000]
    #[arg(long)]
    client_port: Option<u16>,
    /// Node N listens to the others at this port plus N [default: 9000]
    #[arg(long)]
    peer_port: Option<u16>,
}

/// One node, as the configuration names it.
struct Node {
    id: u64,
    addr: String,
    client_addr: String,
    data_dir: PathBuf,
}

pub(super) fn run(cluster: Cluster) -> ExitCode {
    let Cluster { dir, what } = cluster;
    // Who asks from elsewhere, or by another name, means the same one.
    let dir = match &what {
        What::Start { .. } => fs::create_dir_all(&dir).and_then(|()| dir.canonicalize()),
        What::Status
        | What::Logs { .. }
        | What::Kill { .. }
        | What::StartNode { .. }
        | What::Stop
        | What::Clean => Ok(dir.canonicalize().unwrap_or(dir)),
    };
    let outcome = dir.map_err(|error| error.to_string()).and_then(|dir| perform(&dir, what));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            complain(what);
            ExitCode::FAILURE
        }
    }
}

fn perform(dir: &Path, what: What) -> Result<(), String> {
    match what {
        What::Start { shape } => start(dir, shape),
        What::Status => nodes(dir).and_then(|nodes| status(dir, &nodes)),
        What::Logs { lines } => nodes(dir).and_then(|nodes| logs(dir, &nodes, lines)),
        What::Kill { node } => known(dir, node).and_then(|_| end(dir, node, Signal::KILL)),
        What::StartNode { node } => known(dir, node).and_then(|node| {
            have_places(dir, std::slice::from_ref(&node))?;
            start_node(dir, node.id).map(drop)
        }),
        What::Stop => nodes(dir).and_then(|nodes| stop(dir, &nodes)),
        What::Clean => clean(dir),
    }
}

fn start(dir: &Path, shape: Shape) -> Result<(), String> {
    let is_new = !config(dir).exists();
    if is_new {
        let text = written(dir, shape)?;
        fs::write(config(dir), text).map_err(|error| error.to_string())?;
    } else {
        agree(dir, &nodes(dir)?, shape)?;
    }
    let nodes = nodes(dir)?;
    if let Err(taken) = have_places(dir, &nodes) {
        if is_new {
            // Nothing was founded: the next try may name other ports.
            drop(fs::remove_file(config(dir)));
        }
        return Err(taken);
    }
    let mut started = Vec::new();
    for node in &nodes {
        started.push((node, start_node(dir, node.id)?));
    }
    until_ready(dir, &mut started)?;
    let endpoints: Vec<&str> = nodes.iter().map(|node| &*node.client_addr).collect();
    say(&format!("ready: {}", endpoints.join(", ")))
}

/// The configuration of a new cluster.
fn written(dir: &Path, shape: Shape) -> Result<String, String> {
    let at = dir.to_str().filter(|at| !at.contains(char::is_control));
    if at.is_none() {
        return Err(format!("{}: a name that cannot be written into a file", dir.display()));
    }
    let mut text = String::from("# Written by `raft-kv cluster start`.\n");
    for id in 1..=shape.nodes.unwrap_or(3) {
        let address = |base: u16| {
            let port = base.checked_add(id).ok_or_else(|| format!("there is no port {base}+{id}"));
            port.map(|port| format!("127.0.0.1:{port}"))
        };
        text += &format!(
            "\n[nodes.node{id}]\nid = {id}\naddr = {:?}\nclient_addr = {:?}\ndata_dir = {:?}\n",
            address(shape.peer_port.unwrap_or(9000))?,
            address(shape.client_port.unwrap_or(8000))?,
            dir.join(format!("node{id}")).display().to_string(),
        );
    }
    Ok(text)
}

/// Refuses flags that say something else than the configuration of what there is.
fn agree(dir: &Path, nodes: &[Node], shape: Shape) -> Result<(), String> {
    let is_at = |base: Option<u16>, id: u64, address: &str| {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u64>().ok());
        base.is_none_or(|base| port == Some(u64::from(base) + id))
    };
    let flag = if shape.nodes.is_some_and(|count| usize::from(count) != nodes.len()) {
        "--nodes"
    } else if !nodes.iter().all(|node| is_at(shape.client_port, node.id, &node.client_addr)) {
        "--client-port"
    } else if !nodes.iter().all(|node| is_at(shape.peer_port, node.id, &node.addr)) {
        "--peer-port"
    } else {
        return Ok(());
    };
    let path = config(dir);
    Err(format!("{flag} is not what {} says: leave it out, or clean first", path.display()))
}

/// Makes sure that what is to start can. Who was killed a moment ago may still have what was its own.
fn have_places(dir: &Path, nodes: &[Node]) -> Result<(), String> {
    let absent: Vec<&Node> = nodes.iter().filter(|node| running(dir, node.id).is_none()).collect();
    let began = Instant::now();
    loop {
        match are_free(&absent) {
            Err(_) if began.elapsed() < GIVES_BACK => pause(),
            outcome => return outcome,
        }
    }
}

/// Somebody else at a node's port would answer in its place, and one in its directory is that node.
fn are_free(nodes: &[&Node]) -> Result<(), String> {
    if let Some(node) = nodes.iter().find(|node| is_locked(&node.data_dir)) {
        return Err(format!("{} is in use", node.data_dir.display()));
    }
    let addresses = nodes.iter().flat_map(|node| [&node.addr, &node.client_addr]);
    let listen = |address: &String| {
        TcpListener::bind(address).map_err(|error| format!("cannot listen at {address}: {error}"))
    };
    // All of them at a time: two nodes may not have the same one either.
    addresses.map(listen).collect::<Result<Vec<_>, _>>().map(drop)
}

/// Waits until every node says that it is ready.
fn until_ready(dir: &Path, nodes: &mut [(&Node, Option<Child>)]) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let unready = nodes.iter().map(|(node, _)| readiness(node)).find_map(Result::err);
        // After the answers, which may have been somebody else's.
        let ended = nodes.iter_mut().find_map(|(node, child)| {
            let runs = match child {
                Some(child) => matches!(child.try_wait(), Ok(None)),
                None => running(dir, node.id).is_some(),
            };
            (!runs).then_some(node)
        });
        if let Some(node) = ended {
            let log = fs::read_to_string(log(dir, node.id)).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it has said nothing");
            return Err(format!("node{} has ended: {last}", node.id));
        }
        match unready {
            None => return Ok(()),
            Some(why) if began.elapsed() > PATIENCE => {
                return Err(format!("the cluster is not ready ({why}); see its logs"));
            }
            Some(_) => pause(),
        }
    }
}

fn readiness(node: &Node) -> Result<(), String> {
    let answer = ask(node, "/readyz")?;
    if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.text()) }
}

/// Starts a node unless it runs; returns the process that was started.
fn start_node(dir: &Path, id: u64) -> Result<Option<Child>, String> {
    if running(dir, id).is_some() {
        return say(&format!("node{id} runs already")).map(|()| None);
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let log = OpenOptions::new().create(true).append(true).open(log(dir, id));
    let log = log.map_err(|error| error.to_string())?;
    let child = Command::new(program)
        .arg("-c")
        .arg(config(dir))
        .args(["-n", &format!("node{id}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // What interrupts this command is not meant for the node.
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    fs::write(pid_file(dir, id), child.id().to_string()).map_err(|error| error.to_string())?;
    say(&format!("node{id} runs as process {}", child.id())).map(|()| Some(child))
}

fn status(dir: &Path, nodes: &[Node]) -> Result<(), String> {
    for node in nodes {
        let process = match running(dir, node.id) {
            Some(pid) => format!("process {}", pid.as_raw_nonzero()),
            None => "does not run".to_owned(),
        };
        let told = ask(node, "/client/status").map(|answer| answer.text()).unwrap_or_default();
        say(&format!("node{} {} {process} {told}", node.id, node.client_addr))?;
    }
    Ok(())
}

fn logs(dir: &Path, nodes: &[Node], lines: usize) -> Result<(), String> {
    for (node, colour) in nodes.iter().zip(COLOURS.iter().cycle()) {
        let text = fs::read_to_string(log(dir, node.id)).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        for line in &all[all.len().saturating_sub(lines)..] {
            say(&format!("{colour}node{}\x1b[0m {line}", node.id))?;
        }
    }
    Ok(())
}

fn stop(dir: &Path, nodes: &[Node]) -> Result<(), String> {
    for node in nodes {
        end(dir, node.id, Signal::TERM)?;
    }
    Ok(())
}

/// Ends a node and waits until it is gone.
fn end(dir: &Path, id: u64, signal: Signal) -> Result<(), String> {
    let Some(pid) = running(dir, id) else { return say(&format!("node{id} does not run")) };
    kill_process(pid, signal).map_err(|error| error.to_string())?;
    let began = Instant::now();
    while !is_gone(pid) {
        if began.elapsed() > PATIENCE {
            return Err(format!("node{id} does not end"));
        }
        pause();
    }
    say(&format!("node{id} has ended"))
}

fn clean(dir: &Path) -> Result<(), String> {
    if !config(dir).exists() {
        // Whatever it is, it is none of ours.
        return Err(format!("{} holds no cluster", dir.display()));
    }
    let runs = |node: &&Node| running(dir, node.id).is_some() || is_locked(&node.data_dir);
    if let Some(node) = nodes(dir)?.iter().find(runs) {
        return Err(format!("node{} runs; stop it first", node.id));
    }
    fs::remove_dir_all(dir).map_err(|error| error.to_string())?;
    let here = std::env::current_dir().ok();
    let shown = here.and_then(|here| dir.strip_prefix(here).ok()).unwrap_or(dir);
    say(&format!("{} is removed", shown.display()))
}

fn config(dir: &Path) -> PathBuf {
    dir.join("cluster.toml")
}

fn log(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("node{id}.log"))
}

fn pid_file(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("node{id}.pid"))
}

fn nodes(dir: &Path) -> Result<Vec<Node>, String> {
    let path = config(dir);
    let text = fs::read_to_string(&path)
        .map_err(|_| format!("there is no cluster in {}; start one", dir.display()))?;
    let wrong = |what: &str| format!("{}: {what}", path.display());
    let table: toml::Table = toml::from_str(&text).map_err(|error| wrong(&error.to_string()))?;
    let found = table.get("nodes").and_then(toml::Value::as_table);
    let node = |entry: &toml::Value| {
        let id = u64::try_from(entry.get("id")?.as_integer()?).ok()?;
        let text = |name| Some(entry.get(name)?.as_str()?.to_owned());
        let (addr, client_addr) = (text("addr")?, text("client_addr")?);
        Some(Node { id, addr, client_addr, data_dir: text("data_dir")?.into() })
    };
    let nodes: Option<Vec<Node>> =
        found.and_then(|found| found.iter().map(|(_, entry)| node(entry)).collect());
    nodes.ok_or_else(|| wrong("every node needs id, addr, client_addr and data_dir"))
}

fn known(dir: &Path, id: u64) -> Result<Node, String> {
    let mut nodes = nodes(dir)?.into_iter();
    nodes.find(|node| node.id == id).ok_or_else(|| format!("there is no node {id}"))
}

/// The process of a node, if it is one.
fn running(dir: &Path, id: u64) -> Option<Pid> {
    let number: i32 = fs::read_to_string(pid_file(dir, id)).ok()?.trim().parse().ok()?;
    let line = fs::read(format!("/proc/{number}/cmdline")).ok()?;
    let has = |word: &[u8]| line.split(|byte| *byte == 0).any(|other| other == word);
    let is_ours = has(config(dir).as_os_str().as_bytes()) && has(format!("node{id}").as_bytes());
    if is_ours { Pid::from_raw(number) } else { None }
}

/// Whether a process has given back all that it had, its ports too; its name is gone before that.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // The state follows the program's name, which is in brackets and may hold anything.
    stat.map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')))
}

/// Whether a server has a data directory, wherever it believes that to be.
fn is_locked(data_dir: &Path) -> bool {
    let tried = File::open(data_dir).map(|file| file.try_lock());
    matches!(tried, Ok(Err(TryLockError::WouldBlock)))
}

/// What a node answers to one try.
fn ask(node: &Node, path: &str) -> Result<Answer, String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let mut client = Client::new(std::slice::from_ref(&node.client_addr));
    client.timeout = Duration::from_secs(1);
    let answer = runtime.block_on(client.once(&Ask::new(Method::GET, path)));
    answer.map_err(|error| error.to_string())
}

/// Nobody tells when a process that is not one's own child ends.
#[expect(clippy::disallowed_methods, reason = "there is no event to wait for")]
fn pause() {
    std::thread::sleep(INTERVAL);
}

/// A reader that closes a pipe early is no error.
fn say(line: &str) -> Result<(), String> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}
