//! Processes of the binary under test, on ports and directories of their own.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
#[cfg(feature = "tls")]
use raft_core::{Lineage, Member, NodeId};
use raft_kv::client::{Answer, Ask, Client};
#[cfg(feature = "tls")]
use raft_kv::{
    hello::{self, Hello},
    tls::{Files, Identity},
    transport::{Transport as _, tls::Tls},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_raft-kv");

/// Ports that were free a moment ago.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    // All are held until all are found, so that they differ.
    let held: Vec<_> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// A port above which three are free: none that the system gives to connections, or they would be taken
/// the next moment.
pub(crate) fn free_base() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 900).unwrap() * 10;
    let is_free = |base: u16| (1..=3).all(|id| TcpListener::bind(("127.0.0.1", base + id)).is_ok());
    let candidate = || 20_000 + (start + NEXT.fetch_add(10, Ordering::Relaxed)) % 9000;
    std::iter::repeat_with(candidate).take(900).find(|base| is_free(*base)).expect("free ports")
}

/// The binary with these arguments, and nothing of the environment's settings.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RAFT_KV_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it; it succeeds and prints this.
pub(crate) fn output(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Three servers, each started with nothing but its command line.
pub(crate) struct Three {
    pub(crate) directory: TempDir,
    pub(crate) ports: Vec<u16>,
    /// Where they listen.
    pub(crate) host: &'static str,
    running: [Option<Child>; 3],
    runtime: Runtime,
    /// What is on every command line.
    flags: Vec<String>,
}

impl Three {
    pub(crate) fn start() -> Self {
        let mut three = Self::of(|_| Vec::new());
        for id in 1..=3 {
            three.run(id);
        }
        three
    }

    /// Servers that do not run yet, with these flags as well, made in the presence of the directory.
    pub(crate) fn of(flags: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let flags = flags(directory.path());
        let (host, ports, running) = ("127.0.0.1", free_ports(6), [None, None, None]);
        Self { directory, ports, host, running, runtime, flags }
    }

    /// Sends a signal that does not end it.
    pub(crate) fn signal(&self, id: usize, signal: Signal) {
        let child = self.running[id - 1].as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    pub(crate) fn client_address(&self, id: usize) -> String {
        format!("{}:{}", self.host, self.ports[id + 2])
    }

    pub(crate) fn endpoints(&self) -> String {
        (1..=3).map(|id| self.client_address(id)).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn peer_address(&self, id: usize) -> String {
        format!("{}:{}", self.host, self.ports[id - 1])
    }

    pub(crate) fn data(&self, id: usize) -> PathBuf {
        self.directory.path().join(format!("node{id}"))
    }

    pub(crate) fn run(&mut self, id: usize) {
        let mut arguments = vec![
            "--id".to_owned(),
            id.to_string(),
            "--addr".to_owned(),
            self.peer_address(id),
            "--data-dir".to_owned(),
            self.data(id).display().to_string(),
            "--client-addr".to_owned(),
            self.client_address(id),
            "--disk-reserve-bytes".to_owned(),
            "0".to_owned(),
        ];
        arguments.extend(self.flags.iter().cloned());
        for other in (1..=3).filter(|other| *other != id) {
            arguments.push("--peer".to_owned());
            arguments.push(format!("{other}={}", self.peer_address(other)));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let log = self.directory.path().join(format!("log{id}"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = command(&arguments).stdin(Stdio::null()).stderr(log).spawn().unwrap();
        self.running[id - 1] = Some(child);
    }

    pub(crate) fn log(&self, id: usize) -> String {
        std::fs::read_to_string(self.directory.path().join(format!("log{id}"))).unwrap()
    }

    /// Waits until a server has said this.
    pub(crate) fn until_log(&self, id: usize, what: &str) {
        let began = Instant::now();
        while !self.log(id).contains(what) {
            assert!(began.elapsed() < Duration::from_secs(30), "{what}: {}", self.log(id));
            std::thread::yield_now();
        }
    }

    /// Whether a server answers a peer that shows and believes these files.
    #[cfg(feature = "tls")]
    pub(crate) fn lets_in(&self, id: usize, files: &Files) -> bool {
        let introduction = async {
            let identity = Arc::new(Identity::load(files, true).unwrap());
            let mut connection = Tls::new(identity).connect(&self.peer_address(id)).await?;
            let stranger = Hello {
                member: Member { id: NodeId(9), lineage: Lineage(9) },
                address: String::new(),
                client_url: String::new(),
                cluster: None,
                founders: Vec::new(),
                configured: Vec::new(),
            };
            hello::introduce(&mut connection, &stranger).await
        };
        self.runtime.block_on(introduction).is_ok()
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, id: usize, signal: Signal) -> ExitStatus {
        let mut child = self.running[id - 1].take().expect("it runs");
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal().is_some(), signal == Signal::KILL, "{}", self.log(id));
        status
    }

    /// Waits for one that ends by itself.
    pub(crate) fn ended(&mut self, id: usize) -> ExitStatus {
        self.running[id - 1].take().expect("it runs").wait().unwrap()
    }

    /// Asks again and again until a server's status is so.
    pub(crate) fn until_status(
        &self,
        id: usize,
        what: &str,
        is_so: impl Fn(&serde_json::Value) -> bool,
    ) {
        let began = Instant::now();
        loop {
            let told = self.get(id, "/status");
            let status: serde_json::Value = serde_json::from_str(&told).unwrap();
            if is_so(&status) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{what}: {told}");
            std::thread::yield_now();
        }
    }

    pub(crate) fn ask(&self, id: usize, ask: &Ask) -> Answer {
        let mut client = Client::new(&[self.client_address(id)]);
        client.timeout = Duration::from_secs(30);
        let answer = self.runtime.block_on(client.ask(ask));
        answer.unwrap_or_else(|error| panic!("{error}\n{}", self.log(id)))
    }

    /// The status of one try.
    pub(crate) fn once(&self, id: usize, ask: &Ask) -> u16 {
        let client = Client::new(&[self.client_address(id)]);
        self.runtime.block_on(client.once(ask)).unwrap().status.as_u16()
    }

    pub(crate) fn get(&self, id: usize, path: &str) -> String {
        self.ask(id, &Ask::new(Method::GET, path)).text()
    }

    pub(crate) fn put(&self, id: usize, path: &str, value: &'static str) -> String {
        self.ask(id, &Ask::new(Method::PUT, path).body(value)).text()
    }

    pub(crate) fn leader(&self, seen_by: usize) -> usize {
        assert_eq!(self.get(seen_by, "/readyz"), "ok");
        let told: serde_json::Value =
            serde_json::from_str(&self.get(seen_by, "/client/leader")).unwrap();
        usize::try_from(told["leader"].as_u64().expect("who is ready knows")).unwrap()
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
