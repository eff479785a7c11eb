//! A counter on three servers with real files: all that a host of a replica has to do, in one thread.
//!
//! `cargo run -p raft-replica --example counter -- DIR` adds one and prints the sum, which three directories
//! keep from run to run. Add `raft-core` and `raft-replica` to your own manifest to begin like this.
//!
//! Deliberately absent, and in raft-kv: a process for each server, frames over sockets, storage on a
//! thread of its own, time from a monotonic clock. Here time goes on to the next deadline when nothing is left
//! to do.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use raft_core::{ClusterId, Config, GroupId, Index, Member, Membership, ReadMode, RoleName, Time};
use raft_replica::file_disk::FileDisk;
use raft_replica::machine::{Gathered, StateMachine};
use raft_replica::replica::{Replica, ReplicaOptions};
use raft_replica::request::{Input, Output, Reply, Request, RequestId};
use raft_replica::storage::work::Work;
use raft_replica::storage::{Identity, Storage, StorageOptions};

/// The state machine: a command adds, a query reads.
#[derive(Debug, Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Response = u64;
    type Query = ();
    type Answer = u64;
    type Snapshot = u64;
    type Error = postcard::Error;
    type Restore = Gathered;

    fn apply(&mut self, _: Index, more: u64) -> u64 {
        self.0 = self.0.wrapping_add(more);
        self.0
    }

    fn query(&self, (): &()) -> u64 {
        self.0
    }

    fn snapshot(&self) -> u64 {
        self.0
    }

    fn encode(sum: &u64, bytes: &mut Vec<u8>) {
        bytes.extend(postcard::to_allocvec(sum).expect("a number serializes"));
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), postcard::Error> {
        self.0 = postcard::from_bytes(snapshot)?;
        Ok(())
    }
}

struct Server {
    replica: Replica<Counter>,
    storage: Storage<FileDisk>,
}

/// Three servers, and what is on its way to them.
struct Host {
    now: Time,
    servers: Vec<Server>,
    inbox: VecDeque<(usize, Input<Counter>)>,
    replies: BTreeMap<RequestId, Reply<Counter>>,
    requests: u64,
}

impl Host {
    /// Founds the servers if there is no such directory; a server that has lost its own does not start.
    fn open(root: &Path) -> Result<Self, Box<dyn Error>> {
        let is_new = !root.exists();
        // A real founder draws its lineage at random when its directory is made.
        let members: Vec<Member> = (1..=3).map(|id| Member::new(id, id * 1000)).collect();
        let founders = Membership::new(members.clone(), vec![])?;
        let (cluster, group, now) = (ClusterId(1), GroupId(1), Time(0));
        let (servers, inbox, replies) = (Vec::new(), VecDeque::new(), BTreeMap::new());
        let mut host = Self { now, servers, inbox, replies, requests: 0 };
        for (at, member) in members.into_iter().enumerate() {
            let path = root.join(member.id.0.to_string());
            let identity = Identity { cluster, group, member };
            if is_new {
                fs::create_dir_all(&path)?;
                Storage::format(&mut FileDisk::new(&path)?, identity)?;
            }
            let (disk, options) = (FileDisk::new(&path)?, StorageOptions::default());
            let (storage, found) = Storage::open(disk, options, Some(identity))?;
            let options = ReplicaOptions::new(Config::new(cluster, group, member));
            let (found, mut out) = (found.into_state(&founders), Vec::new());
            let replica = Replica::start(options, found, Counter::default(), now, &mut out)?;
            host.servers.push(Server { replica, storage });
            host.execute(at, out)?;
        }
        Ok(host)
    }

    /// Carries out what a replica asks for.
    fn execute(&mut self, at: usize, out: Vec<Output<Counter>>) -> Result<(), Box<dyn Error>> {
        let storage = &mut self.servers[at].storage;
        for output in out {
            let work = match output {
                Output::Send { to, frame } => {
                    let to = usize::try_from(to.id.0 - 1)?;
                    self.inbox.push_back((to, Input::Frame(frame)));
                    continue;
                }
                Output::Reply { id, reply } => {
                    self.replies.insert(id, reply);
                    continue;
                }
                Output::Work(work) => work,
                Output::Save { snapshot, state } => {
                    Work::SaveSnapshot { snapshot, data: state.encode() }
                }
                Output::BadSnapshot { error, .. } => return Err(error.into()),
                Output::Applied { .. }
                | Output::Restored { .. }
                | Output::Observe(_)
                | Output::BadFrame(_) => continue,
            };
            self.inbox.extend(storage.write(work)?.map(|done| (at, Input::Done(done))));
        }
        // Batches are durable now and not before: one sync for all of them.
        self.inbox.extend(storage.sync()?.map(|done| (at, Input::Done(done))));
        Ok(())
    }

    fn step(&mut self, at: usize, input: Input<Counter>) -> Result<(), Box<dyn Error>> {
        let mut out = Vec::new();
        self.servers[at].replica.handle(self.now, input, &mut out);
        self.execute(at, out)
    }

    /// Gives a replica the next thing that has arrived, or lets time pass.
    fn go_on(&mut self) -> Result<(), Box<dyn Error>> {
        if let Some((at, input)) = self.inbox.pop_front() {
            return self.step(at, input);
        }
        let due = |(at, server): (usize, &Server)| Some((server.replica.next_deadline()?, at));
        let next = self.servers.iter().enumerate().filter_map(due).min();
        let (deadline, at) = next.ok_or("a group of three always waits for something")?;
        self.now = self.now.max(deadline);
        self.step(at, Input::Tick)
    }

    fn ask(
        &mut self,
        at: usize,
        request: Request<Counter>,
    ) -> Result<Reply<Counter>, Box<dyn Error>> {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.step(at, Input::Request { id, request })?;
        loop {
            if let Some(reply) = self.replies.remove(&id) {
                return Ok(reply);
            }
            self.go_on()?;
        }
    }

    fn leader(&mut self) -> Result<usize, Box<dyn Error>> {
        let leads = |server: &Server| server.replica.status().role == RoleName::Leader;
        loop {
            if let Some(at) = self.servers.iter().position(leads) {
                return Ok(at);
            }
            self.go_on()?;
        }
    }
}

/// Adds one to the counter of a directory, and reads the sum at a follower.
pub(crate) fn count(root: &Path) -> Result<u64, Box<dyn Error>> {
    let mut host = Host::open(root)?;
    let leader = host.leader()?;
    let Reply::SessionOpened { session } = host.ask(leader, Request::OpenSession)? else {
        return Err("no session was opened".into());
    };
    // Sent again with the same serial, it would not be executed again.
    let command = Request::Command { session, serial: 1, command: 1 };
    let Reply::Response { response, .. } = host.ask(leader, command)? else {
        return Err("the command was not executed".into());
    };
    let query = Request::Query { query: (), mode: ReadMode::ReadIndex };
    let reply = host.ask((leader + 1) % 3, query)?;
    let Reply::Answer { answer, .. } = reply else {
        return Err(format!("the query was not answered: {reply:?}").into());
    };
    if answer != response {
        return Err(format!("{response} was answered, and then {answer}").into());
    }
    Ok(answer)
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args_os().nth(1).ok_or("usage: counter DIR")?;
    let sum = count(Path::new(&root))?;
    writeln!(std::io::stdout(), "the counter is at {sum}")?;
    Ok(())
}
