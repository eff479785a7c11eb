//! A whole cluster on this machine, for trying things out: `raft-kv cluster start`.
//!
//! Everything is in one directory: the configuration of all nodes, and for each its data, its log and
//! the number of its process. A number is believed only if the process still runs this program with
//! this configuration: it may have been given to somebody else.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use hyper::Method;
use raft_kv::client::{Ask, Client};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;

use super::complain;

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

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

#[derive(Subcommand, Debug)]
enum What {
    /// Start all nodes, for the first time or again
    Start {
        /// How many
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
        nodes: u16,
        /// Node N listens to clients at this port plus N
        #[arg(long, default_value_t = 8000)]
        client_port: u16,
        /// Node N listens to the others at this port plus N
        #[arg(long, default_value_t = 9000)]
        peer_port: u16,
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

/// One node, as the configuration names it.
struct Node {
    id: u64,
    client_addr: String,
}

pub(super) fn run(cluster: Cluster) -> ExitCode {
    let Cluster { dir, what } = cluster;
    let outcome = match what {
        What::Start { nodes, client_port, peer_port } => start(&dir, nodes, client_port, peer_port),
        What::Status => nodes(&dir).and_then(|nodes| status(&dir, &nodes)),
        What::Logs { lines } => nodes(&dir).and_then(|nodes| logs(&dir, &nodes, lines)),
        What::Kill { node } => known(&dir, node).and_then(|_| end(&dir, node, Signal::KILL)),
        What::StartNode { node } => known(&dir, node).and_then(|_| start_node(&dir, node)),
        What::Stop => nodes(&dir).and_then(|nodes| stop(&dir, &nodes)),
        What::Clean => clean(&dir),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            complain(what);
            ExitCode::FAILURE
        }
    }
}

fn start(dir: &Path, count: u16, client_port: u16, peer_port: u16) -> Result<(), String> {
    if !config(dir).exists() {
        let mut text = String::from("# Written by `raft-kv cluster start`.\n");
        for id in 1..=count {
            let data = dir.join(format!("node{id}"));
            text += &format!(
                "\n[nodes.node{id}]\nid = {id}\naddr = \"127.0.0.1:{}\"\n\
                 client_addr = \"127.0.0.1:{}\"\ndata_dir = {:?}\n",
                peer_port.saturating_add(id),
                client_port.saturating_add(id),
                data.display().to_string(),
            );
        }
        fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        fs::write(config(dir), text).map_err(|error| error.to_string())?;
    }
    let nodes = nodes(dir)?;
    for node in &nodes {
        start_node(dir, node.id)?;
    }
    let endpoints: Vec<String> = nodes.iter().map(|node| node.client_addr.clone()).collect();
    let mut client = Client::new(&endpoints);
    client.timeout = PATIENCE;
    ask(&client, "/readyz")
        .map_err(|error| format!("the cluster is not ready ({error}); see its logs"))?;
    say(&format!("ready: {}", endpoints.join(", ")))
}

fn start_node(dir: &Path, id: u64) -> Result<(), String> {
    if running(dir, id).is_some() {
        return say(&format!("node{id} runs already"));
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
    say(&format!("node{id} runs as process {}", child.id()))
}

fn status(dir: &Path, nodes: &[Node]) -> Result<(), String> {
    for node in nodes {
        let process = match running(dir, node.id) {
            Some(pid) => format!("process {}", pid.as_raw_nonzero()),
            None => "does not run".to_owned(),
        };
        let mut client = Client::new(std::slice::from_ref(&node.client_addr));
        client.timeout = Duration::from_secs(1);
        let told = ask(&client, "/client/status").unwrap_or_default();
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
    while running(dir, id).is_some() {
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
    if let Some(node) = nodes(dir)?.iter().find(|node| running(dir, node.id).is_some()) {
        return Err(format!("node{} runs; stop it first", node.id));
    }
    fs::remove_dir_all(dir).map_err(|error| error.to_string())?;
    say(&format!("{} is removed", dir.display()))
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
        Some(Node { id, client_addr: entry.get("client_addr")?.as_str()?.to_owned() })
    };
    let nodes: Option<Vec<Node>> =
        found.and_then(|found| found.iter().map(|(_, entry)| node(entry)).collect());
    nodes.ok_or_else(|| wrong("every node needs id and client_addr"))
}

fn known(dir: &Path, id: u64) -> Result<Node, String> {
    let mut nodes = nodes(dir)?.into_iter();
    nodes.find(|node| node.id == id).ok_or_else(|| format!("there is no node {id}"))
}

/// The process of a node, if it is one.
fn running(dir: &Path, id: u64) -> Option<Pid> {
    let number: i32 = fs::read_to_string(pid_file(dir, id)).ok()?.trim().parse().ok()?;
    let line = fs::read(format!("/proc/{number}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line);
    let is_ours = line.contains(&*config(dir).to_string_lossy())
        && line.split('\0').any(|word| word == format!("node{id}"));
    if is_ours { Pid::from_raw(number) } else { None }
}

fn ask(client: &Client, path: &str) -> Result<String, String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let answer = runtime.block_on(client.ask(&Ask::new(Method::GET, path)));
    answer.map(|answer| answer.text()).map_err(|error| error.to_string())
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
