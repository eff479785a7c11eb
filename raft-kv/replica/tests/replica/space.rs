//! Replicas on storage on real files, and a disk that has no more room: who leads hands over, and once
//! there is room again the node goes on.
#![expect(clippy::unwrap_used, reason = "a test that fails names its line")]

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::PathBuf;

use bytes::Bytes;
use raft_core::{ClusterId, GroupId, Member, RoleName, Time};
use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;
use raft_replica::kv::{Kv, KvCommand};
use raft_replica::replica::Replica;
use raft_replica::request::{Failure, Input, Output, Reply, Request, RequestId};
use raft_replica::session::SessionId;
use raft_replica::storage::work::Work;
use raft_replica::storage::{Identity, Storage, StorageError, StorageOptions};

use crate::cluster::{founders, member, options};

const SMALL: StorageOptions = StorageOptions {
    segment_slots: 8,
    segment_bytes: 8192,
    guard_bytes: 0,
    chunk_bytes: 4096,
    resident_bytes: 1 << 20,
};

/// A directory whose files may have so many bytes. It goes with the disk.
struct SmallDisk {
    disk: FileDisk,
    root: PathBuf,
    bytes_max: u64,
}

impl SmallDisk {
    fn new(server: usize) -> Self {
        let name = format!("raft-replica-space-{server}-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir(&root).unwrap();
        Self { disk: FileDisk::new(&root).unwrap(), root, bytes_max: u64::MAX }
    }

    fn used(&self) -> u64 {
        let of = |dir: &str| fs::read_dir(self.root.join(dir)).unwrap();
        let entries = ["", "wal", "snap"].into_iter().flat_map(of);
        let files = entries.map(|entry| entry.unwrap().metadata().unwrap());
        files.filter(fs::Metadata::is_file).map(|file| file.len()).sum()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing to be done about a directory that will not go.
        drop(fs::remove_dir_all(&self.root));
    }
}

impl raft_replica::layer::Layer for SmallDisk {
    type Below = FileDisk;

    fn below(&mut self) -> &mut FileDisk {
        &mut self.disk
    }

    fn create(&mut self, path: &str, len: u64) -> Result<File, DiskError> {
        if !Disk::has_room(self, len) {
            return Err(DiskError::NoSpace);
        }
        Disk::create(&mut self.disk, path, len)
    }

    fn has_room(&mut self, bytes: u64) -> bool {
        self.bytes_max == u64::MAX || self.used().saturating_add(bytes) <= self.bytes_max
    }
}

/// A replica and its storage, and what it asked of it.
struct Host {
    replica: Replica<Kv>,
    storage: Storage<SmallDisk>,
    work: VecDeque<Work>,
    is_full: bool,
    /// How often it was told that there is no room.
    was_full: usize,
}

/// Some hosts, the frames between them, and the replies to clients.
struct Hosts {
    hosts: Vec<Host>,
    frames: VecDeque<(Member, Bytes)>,
    replies: Vec<Reply<Kv>>,
    now: Time,
}

impl Hosts {
    fn new(size: usize) -> Self {
        let now = Time(1_000);
        let mut hosts =
            Self { hosts: Vec::new(), frames: VecDeque::new(), replies: Vec::new(), now };
        for server in 0..size {
            let mut disk = SmallDisk::new(server);
            let member = member(server);
            let identity = Identity { cluster: ClusterId(5), group: GroupId(6), member };
            Storage::format(&mut disk, identity).unwrap();
            let (storage, found) = Storage::open(disk, SMALL, Some(identity)).unwrap();
            let (found, mut out) = (found.into_state(&founders(size)), Vec::new());
            let replica = Replica::start(options(server), found, Kv::new(), now, &mut out).unwrap();
            let work = VecDeque::new();
            hosts.hosts.push(Host { replica, storage, work, is_full: false, was_full: 0 });
            hosts.take(server, out);
        }
        hosts.settle();
        hosts
    }

    fn feed(&mut self, server: usize, input: Input<Kv>) {
        let mut out = Vec::new();
        self.hosts[server].replica.handle_batch(self.now, vec![input], &mut out);
        self.take(server, out);
    }

    fn take(&mut self, server: usize, out: Vec<Output<Kv>>) {
        for output in out {
            match output {
                Output::Send { to, frame } => self.frames.push_back((to, frame)),
                Output::Reply { reply, .. } => self.replies.push(reply),
                Output::Work(work) => self.hosts[server].work.push_back(work),
                Output::Save { .. }
                | Output::Applied { .. }
                | Output::Restored { .. }
                | Output::Observe(_)
                | Output::BadFrame(_)
                | Output::BadSnapshot { .. } => {}
            }
        }
    }

    /// Does what one disk was asked for, as far as it has room; whether anything was.
    fn work(&mut self, server: usize) -> bool {
        let host = &mut self.hosts[server];
        let mut inputs = Vec::new();
        while let Some(work) = host.work.pop_front() {
            match host.storage.write(work.clone()) {
                Err(StorageError::NoSpace { .. }) => {
                    host.work.push_front(work);
                    break;
                }
                done => inputs.extend(done.unwrap().map(Input::Done)),
            }
        }
        match host.storage.sync() {
            Err(StorageError::NoSpace { .. }) => {}
            done => inputs.extend(done.unwrap().map(Input::Done)),
        }
        let is_full = !host.storage.has_room();
        if is_full != host.is_full {
            (host.is_full, host.was_full) = (is_full, host.was_full + usize::from(is_full));
            inputs.push(Input::DiskFull { is_full });
        }
        let was_any = !inputs.is_empty();
        inputs.into_iter().for_each(|input| self.feed(server, input));
        was_any
    }

    /// Until nobody has anything to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let worked = (0..self.hosts.len()).filter(|server| self.work(*server)).count();
            let Some((to, frame)) = self.frames.pop_front() else {
                if worked > 0 {
                    continue;
                }
                return;
            };
            self.feed(usize::try_from(to.id.0 - 1).unwrap(), Input::Frame(frame));
        }
        panic!("the hosts never fall silent");
    }

    /// Lets so many heartbeats pass.
    fn pass(&mut self, heartbeats: usize) {
        for _ in 0..heartbeats {
            self.now = Time(self.now.0 + 100_000);
            for server in 0..self.hosts.len() {
                let deadline = self.hosts[server].replica.next_deadline();
                if deadline.is_some_and(|deadline| deadline <= self.now) {
                    self.feed(server, Input::Tick);
                }
            }
            self.settle();
        }
    }

    fn leader(&self) -> usize {
        let leads = |host: &Host| host.replica.status().role == RoleName::Leader;
        self.hosts.iter().position(leads).expect("somebody leads")
    }

    fn call(&mut self, server: usize, request: Request<Kv>) -> Reply<Kv> {
        self.feed(server, Input::Request { id: RequestId(self.now.0), request });
        self.settle();
        self.now = Time(self.now.0 + 1);
        self.replies.pop().expect("it is answered")
    }

    fn put(&mut self, server: usize, session: SessionId, serial: u64) -> Reply<Kv> {
        let (key, value) = (Bytes::from(vec![1; 8]), Bytes::from(vec![7; 500]));
        let command = KvCommand::Put { key, value };
        self.call(server, Request::Command { session, serial, command })
    }
}

#[test]
fn a_leader_without_room_hands_over_and_follows_once_there_is_some() {
    let mut hosts = Hosts::new(3);
    hosts.feed(0, Input::Campaign);
    hosts.settle();
    assert_eq!(hosts.leader(), 0);
    let Reply::SessionOpened { session } = hosts.call(0, Request::OpenSession) else {
        panic!("no session");
    };
    // What it has accepted still fits into the segment that it has; there is no room for another one.
    let used = hosts.hosts[0].storage.disk_mut().used();
    hosts.hosts[0].storage.disk_mut().bytes_max = used + 1000;
    hosts.settle();
    assert_eq!(hosts.hosts[0].was_full, 1, "the replica was told");
    let leader = hosts.leader();
    assert_ne!(leader, 0, "it has handed over");
    let refused = hosts.put(0, session, 1);
    assert!(matches!(refused, Reply::Failed(Failure::NotLeader { .. })), "{refused:?}");

    // The group goes on, for more than the full disk would hold.
    for serial in 1..=20 {
        let reply = hosts.put(leader, session, serial);
        assert!(matches!(reply, Reply::Response { .. }), "{reply:?}");
        hosts.pass(1);
    }
    assert_eq!(hosts.leader(), leader);
    let applied = |hosts: &Hosts, server: usize| hosts.hosts[server].replica.applied();
    assert!(applied(&hosts, 0).0 + 20 <= applied(&hosts, leader).0, "it took none of them");
    assert!(hosts.hosts[0].storage.disk_mut().used() <= used + 1000);

    hosts.hosts[0].storage.disk_mut().bytes_max = u64::MAX;
    hosts.pass(5);
    assert_eq!(applied(&hosts, 0), applied(&hosts, leader));
    let digest = |server: usize| hosts.hosts[server].replica.digest();
    assert_eq!(digest(0), digest(leader));
    // And it can lead again.
    let handed = hosts.call(leader, Request::TransferLeadership { to: Some(member(0).id) });
    assert!(matches!(handed, Reply::Transferred { .. }), "{handed:?}");
    assert_eq!(hosts.leader(), 0);
    assert!(matches!(hosts.put(0, session, 21), Reply::Response { .. }));
}
