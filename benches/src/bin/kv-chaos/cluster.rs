//! The servers: processes of the real binary, each behind its proxy.

mod ends;

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hyper::Method;
use raft_kv::client::{Answer, Ask, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::dice::Dice;
use super::disks::{Disks, Left, RESERVE_BYTES};
use super::proxy::{self, Rules};
use super::{rot, tell};

/// How long the healed cluster may take until every server answers, and again until every one votes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a server may take to tell what it has counted before it is killed: it may not be able to.
const LAST_QUESTION: Duration = Duration::from_millis(300);

/// What a server says of itself, as far as it matters here.
#[derive(Deserialize)]
struct Status {
    disk: Disk,
}

#[derive(Deserialize)]
struct Disk {
    damaged_entries: u64,
    snapshot_damaged: bool,
    tail_unknown: bool,
    scrub: Scrub,
}

#[derive(Deserialize)]
struct Scrub {
    rounds: u64,
    damaged_snapshots: u64,
}

impl Disk {
    /// Whether all of it has been looked through, and nothing is missing.
    fn is_whole(&self) -> bool {
        let is_hurt = self.damaged_entries > 0 || self.snapshot_damaged || self.tail_unknown;
        !is_hurt && self.scrub.damaged_snapshots == 0 && self.scrub.rounds > 0
    }
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// By SIGSTOP.
    Paused,
    Down,
}

struct Node {
    id: u64,
    state: State,
    child: Option<Child>,
    /// How long its log was when it was last started.
    log_begin: usize,
    /// Whether its disk was full in this life.
    was_full: bool,
    listen: String,
    proxy: String,
    client: String,
}

/// All servers.
pub(crate) struct Cluster {
    program: PathBuf,
    /// Goes before the directory that it is in.
    disks: Option<Disks>,
    directory: TempDir,
    nodes: Vec<Node>,
    pub(crate) rules: Rules,
    /// Whose disk was hurt last, until it is known to be whole.
    hurt: Option<u64>,
}

impl Cluster {
    /// Servers on disks of so many MiB, where these can be had; 0: on the disk that there is.
    pub(crate) async fn start(program: PathBuf, count: u64, mib: u64) -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("kv-chaos-").tempdir();
        let directory = directory.map_err(|error| error.to_string())?;
        let rules = Rules::default();
        let mut nodes = Vec::new();
        for id in 1..=count {
            let [listen, client] = free_addresses().await?;
            let listener = TcpListener::bind("127.0.0.1:0").await;
            let listener = listener.map_err(|error| error.to_string())?;
            let proxy = listener.local_addr().map_err(|error| error.to_string())?.to_string();
            tokio::spawn(proxy::serve(listener, id, listen.clone(), rules.clone()));
            nodes.push(Node {
                id,
                state: State::Down,
                child: None,
                log_begin: 0,
                was_full: false,
                listen,
                proxy,
                client,
            });
        }
        let disks = (mib > 0).then(|| Disks::mount(directory.path(), count, mib));
        let disks = disks.transpose().unwrap_or_else(|error| {
            tell(&format!(
                "SKIPPED: full disks, since no small file system can be mounted ({error}); root can, or \
                 anybody under `unshare -rm`"
            ));
            None
        });
        let mut cluster = Self { program, disks, directory, nodes, rules, hurt: None };
        for id in 1..=count {
            cluster.run(id)?;
        }
        Ok(cluster)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.client.clone()).collect()
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    pub(crate) fn state(&self, id: u64) -> State {
        self.nodes.iter().find(|node| node.id == id).map_or(State::Down, |node| node.state)
    }

    /// Where others reach a server.
    pub(crate) fn proxy(&self, id: u64) -> Option<&str> {
        self.nodes.iter().find(|node| node.id == id).map(|node| node.proxy.as_str())
    }

    pub(crate) fn run(&mut self, id: u64) -> Result<(), String> {
        let peers: Vec<String> = self
            .nodes
            .iter()
            .filter(|node| node.id != id)
            .map(|node| format!("{}={}", node.id, node.proxy))
            .collect();
        let reserve = if self.disks.is_some() { RESERVE_BYTES } else { 0 };
        let (data, log, said) = (self.data(id), self.log_path(id), self.log(id).len());
        let is_full = self.is_full(id);
        let node = self.nodes.iter_mut().find(|node| node.id == id).ok_or("no such node")?;
        let log = File::options().create(true).append(true).open(log);
        let log = log.map_err(|error| error.to_string())?;
        let child = Command::new(&self.program)
            .args(["--id", &id.to_string(), "--addr", &node.listen])
            .args(["--advertise-addr", &node.proxy, "--client-addr", &node.client])
            .args(["--peers", &peers.join(","), "--disk-reserve-bytes", &reserve.to_string()])
            // Snapshots are taken often, and a request does not outlast a fault by much.
            .args(["--snapshot-after-entries", "500", "--request-timeout-ms", "2000"])
            // All of a disk is looked through every other second.
            .args(["--scrub-bytes-per-s", "67108864"])
            .arg("--data-dir")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        node.child = Some(child);
        node.state = State::Running;
        node.log_begin = said;
        node.was_full = is_full;
        Ok(())
    }

    /// SIGKILL: whatever was not synced is lost with the process only, not with the machine. What the
    /// server has counted is asked for before it is forgotten.
    pub(crate) async fn kill(&mut self, id: u64) -> Result<(), String> {
        self.broken_assumptions(id, LAST_QUESTION).await?;
        self.signal(id, Signal::KILL)?;
        let Some(node) = self.nodes.iter_mut().find(|node| node.id == id) else { return Ok(()) };
        node.state = State::Down;
        if let Some(mut child) = node.child.take() {
            let status = child.wait().map_err(|error| error.to_string())?;
            if status.signal() != Some(Signal::KILL.as_raw()) {
                // It was faster.
                self.excused(id, status)?;
            }
        }
        Ok(())
    }

    pub(crate) fn pause(&mut self, id: u64) -> Result<(), String> {
        self.signal(id, Signal::STOP)?;
        self.set(id, State::Paused);
        Ok(())
    }

    pub(crate) fn go_on(&mut self, id: u64) -> Result<(), String> {
        self.signal(id, Signal::CONT)?;
        self.set(id, State::Running);
        Ok(())
    }

    /// The server loses its disk; it must be down.
    pub(crate) fn wipe(&self, id: u64) -> Result<(), String> {
        match std::fs::remove_dir_all(self.data(id)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn has_small_disks(&self) -> bool {
        self.disks.is_some()
    }

    pub(crate) fn is_full(&self, id: u64) -> bool {
        self.disks.as_ref().is_some_and(|disks| disks.is_full(id))
    }

    pub(crate) fn fill(&mut self, id: u64, left: Left) -> Result<(), String> {
        let Some(disks) = &mut self.disks else { return Ok(()) };
        if let Some(node) = self.nodes.iter_mut().find(|node| node.id == id) {
            node.was_full = true;
        }
        disks.fill(id, left).map_err(|error| error.to_string())
    }

    pub(crate) fn free(&mut self, id: u64) -> Result<(), String> {
        let Some(disks) = &mut self.disks else { return Ok(()) };
        disks.free(id).map_err(|error| error.to_string())
    }

    /// Who leads, if somebody says so.
    pub(crate) async fn leader(&self) -> Option<u64> {
        #[derive(Deserialize)]
        struct Told {
            leader: Option<u64>,
        }
        let ask = Ask::new(Method::GET, "/client/leader");
        let answer = self.ask(&ask, Duration::from_secs(1)).await.ok()?;
        serde_json::from_slice::<Told>(&answer.body).ok()?.leader
    }

    /// How often a leader said that it hands over because of its disk, and how often that came about.
    pub(crate) fn hand_overs(&self) -> (usize, usize) {
        let (mut asked, mut failed) = (0, 0);
        for id in self.ids() {
            let log = self.log(id);
            asked += log.matches("the disk is nearly full: handing over").count();
            failed += log.matches("nobody takes over").count();
        }
        (asked, asked.saturating_sub(failed))
    }

    /// Flips a bit in a file of a server that is down. False: another disk may not be whole yet, and what
    /// two have lost the rest may not have.
    pub(crate) async fn flip(&mut self, id: u64, dice: &mut Dice) -> Result<bool, String> {
        if let Some(other) = self.hurt
            && !self.is_whole(other).await
        {
            return Ok(false);
        }
        self.hurt = None;
        if !rot::flip(&self.data(id), dice).map_err(|error| error.to_string())? {
            return Ok(false);
        }
        self.hurt = Some(id);
        Ok(true)
    }

    /// Whether all disks are whole, as far as is known.
    pub(crate) async fn is_unhurt(&mut self) -> bool {
        if let Some(id) = self.hurt
            && self.is_whole(id).await
        {
            self.hurt = None;
        }
        self.hurt.is_none()
    }

    /// Whether a server runs, has everything that is committed, and has looked through all of its disk.
    async fn is_whole(&self, id: u64) -> bool {
        let Some(node) = self.nodes.iter().find(|node| node.id == id) else { return false };
        let mut client = Client::new(std::slice::from_ref(&node.client));
        client.timeout = Duration::from_secs(1);
        let status = match client.once(&Ask::new(Method::GET, "/status")).await {
            Ok(answer) if answer.status.is_success() => answer.body,
            Ok(_) | Err(_) => return false,
        };
        let status: Result<Status, _> = serde_json::from_slice(&status);
        status.is_ok_and(|status| status.disk.is_whole()) && self.is_ready(id).await.is_ok()
    }

    /// One request to whoever answers.
    pub(crate) async fn ask(&self, ask: &Ask, timeout: Duration) -> Result<Answer, String> {
        let mut client = Client::new(&self.urls());
        client.timeout = timeout;
        client.ask(ask).await.map_err(|error| error.to_string())
    }

    /// Ends all faults, and waits until every server answers.
    pub(crate) async fn heal(&mut self) -> Result<(), String> {
        self.rules.clear();
        self.calm()?;
        self.all_answer().await
    }

    /// All servers run, and all disks have room.
    pub(crate) fn calm(&mut self) -> Result<(), String> {
        for id in self.ids() {
            self.free(id)?;
            match self.state(id) {
                State::Running => {}
                State::Paused => self.go_on(id)?,
                State::Down => self.run(id)?,
            }
        }
        Ok(())
    }

    pub(crate) async fn all_answer(&mut self) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        for id in self.ids() {
            loop {
                let last = match self.is_ready(id).await {
                    Ok(()) => break,
                    Err(error) => error,
                };
                if Instant::now() > end {
                    return Err(format!("server {id} does not answer: {last}"));
                }
                self.departed()?;
                if self.state(id) == State::Down {
                    self.run(id)?;
                }
                // Perhaps it was removed and waits, or does not even know. Who is a member stays one;
                // if it does not come about now, it is tried again.
                drop(self.add(id).await);
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
        Ok(())
    }

    /// Waits until every server votes: who was added is not to stay a learner, and no change half done.
    ///
    /// # Errors
    /// What the members are instead.
    pub(crate) async fn all_vote(&mut self) -> Result<(), String> {
        #[derive(Deserialize, Debug)]
        struct Told {
            membership: Members,
        }
        #[derive(Deserialize, Debug, PartialEq, Eq)]
        struct Members {
            voters: Vec<u64>,
            learners: Vec<u64>,
            outgoing: Vec<u64>,
        }
        let all = Members { voters: self.ids(), learners: Vec::new(), outgoing: Vec::new() };
        let end = Instant::now() + PATIENCE;
        loop {
            let ask = Ask::new(Method::GET, "/cluster/members");
            let answer = self.ask(&ask, Duration::from_secs(3)).await?;
            let told: Told =
                serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
            let mut members = told.membership;
            members.voters.sort_unstable();
            if members == all {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("not everybody votes: {members:?}"));
            }
            // Who is a member waits for the leader of the day; who is none was removed, and is asked in.
            for id in self.ids() {
                if !members.voters.contains(&id) && !members.learners.contains(&id) {
                    drop(self.add(id).await);
                }
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn is_ready(&self, id: u64) -> Result<(), String> {
        let node = self.nodes.iter().find(|node| node.id == id).ok_or("no such node")?;
        let mut client = Client::new(std::slice::from_ref(&node.client));
        client.timeout = Duration::from_secs(3);
        let answer = client.once(&Ask::new(Method::GET, "/readyz")).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.text()) }
    }

    pub(crate) async fn add(&self, id: u64) -> Result<Answer, String> {
        let body = format!("{{\"id\":{id},\"addr\":\"{}\"}}", self.proxy(id).unwrap_or_default());
        let ask = Ask::new(Method::POST, "/cluster/members").body(body);
        self.ask(&ask, Duration::from_secs(3)).await
    }

    /// Leaves the directory where it is.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        if let Some(disks) = &mut self.disks {
            disks.stay();
        }
        self.directory.path().to_owned()
    }

    fn log_path(&self, id: u64) -> PathBuf {
        self.directory.path().join(format!("node{id}.log"))
    }

    /// All that a server has said.
    fn log(&self, id: u64) -> String {
        std::fs::read_to_string(self.log_path(id)).unwrap_or_default()
    }

    /// What it has said in this life.
    fn said(&self, id: u64) -> String {
        let begin = self.nodes.iter().find(|node| node.id == id).map_or(0, |node| node.log_begin);
        self.log(id).get(begin..).unwrap_or_default().to_owned()
    }

    fn data(&self, id: u64) -> PathBuf {
        match &self.disks {
            Some(disks) => disks.path(id).join("data"),
            None => self.directory.path().join(format!("node{id}")),
        }
    }

    fn set(&mut self, id: u64, state: State) {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.id == id) {
            node.state = state;
        }
    }

    fn signal(&self, id: u64, signal: Signal) -> Result<(), String> {
        let node = self.nodes.iter().find(|node| node.id == id);
        let Some(child) = node.and_then(|node| node.child.as_ref()) else { return Ok(()) };
        kill_process(Pid::from_child(child), signal).map_err(|error| error.to_string())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Two addresses that are free: on ports that the system gives to no connection, or they would be taken
/// the next moment.
async fn free_addresses() -> Result<[String; 2], String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut found = Vec::new();
    for _ in 0..1000 {
        let offset = std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Relaxed));
        let address = format!("127.0.0.1:{}", 10_000 + offset % 20_000);
        if TcpListener::bind(&address).await.is_ok() {
            found.push(address);
        }
        if let [first, second] = &found[..] {
            return Ok([first.clone(), second.clone()]);
        }
    }
    Err("there are no free ports".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_whole_in_whatever_order_that_is_told() {
        let told = |damaged: u64, rounds: u64| {
            format!(
                r#"{{"disk": {{"scrub": {{"damaged_snapshots": 0, "rounds": {rounds}}}, "more": [1],
                "tail_unknown": false, "snapshot_damaged": false, "damaged_entries": {damaged}}}}}"#
            )
        };
        let is_whole = |text: &str| serde_json::from_str::<Status>(text).unwrap().disk.is_whole();
        assert!(is_whole(&told(0, 3)));
        assert!(!is_whole(&told(1, 3)), "something is missing");
        assert!(!is_whole(&told(0, 0)), "nobody has looked");
    }
}
