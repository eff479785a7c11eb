//! The files of the guide's page on hosting do what the page says.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use bytes::Bytes;
use raft_core::{
    Body, Chunk, ChunkRequest, ClusterId, Config, Effect, Entries, EntryId, Envelope, GroupId,
    Index, LoadRequest, Member, MemberStep, Membership, MembershipChange, Message, Outcome,
    Payload, PersistBatch, Raft, RecoveredState, Rejection, RoleName, SnapshotMeta, Ticket, Time,
};

use self::host::Host;
use crate::support::{Cluster, membership};

#[expect(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a host has a clock and a thread, and what is to be copied is kept short"
)]
#[path = "../../docs/host.rs"]
mod host;
#[expect(unreachable_pub, reason = "it is to be copied")]
#[path = "../../docs/start.rs"]
mod start;

/// A host whose disk is memory, and what it is told.
struct Memory {
    told: Sender<Told>,
    batches: u64,
    /// The disk fails with the next batch that appends a command.
    is_failing: bool,
    has_failed: bool,
    is_disk_full: bool,
    /// By which a client asks once more when it hears that the node has halted.
    late: Option<Sender<Body>>,
}

impl Memory {
    fn new(told: Sender<Told>) -> Self {
        let (is_failing, has_failed, is_disk_full) = (false, false, false);
        Self { told, batches: 0, is_failing, has_failed, is_disk_full, late: None }
    }
}

#[derive(Debug, PartialEq)]
enum Told {
    Applied(Bytes),
    Ended(Ticket, Outcome),
}

fn commands(entries: &Entries) -> impl Iterator<Item = &Bytes> {
    entries.iter().filter_map(|entry| match entry.payload() {
        Payload::Command(command) => Some(command),
        Payload::Noop | Payload::Membership(_) => None,
    })
}

impl Host for Memory {
    fn persist(&mut self, batch: PersistBatch) -> io::Result<()> {
        assert!(!self.has_failed, "nothing is written after a failure: {batch}");
        self.batches += 1;
        assert_eq!(batch.seq.n, self.batches);
        self.has_failed = self.is_failing && commands(&batch.append).count() > 0;
        if self.has_failed { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn is_disk_full(&mut self) -> bool {
        self.is_disk_full
    }
    fn send(&mut self, _: Envelope) {}
    fn apply(&mut self, entries: &Entries) {
        commands(entries).for_each(|command| drop(self.told.send(Told::Applied(command.clone()))));
    }
    fn restore(&mut self, _: Arc<SnapshotMeta>) {}
    fn read_chunk(&mut self, _: ChunkRequest) -> Option<Chunk> {
        None
    }
    fn stage_chunk(&mut self, _: EntryId, _: u64, _: &[u8]) -> u64 {
        0
    }
    fn load(&mut self, _: LoadRequest) -> Option<Entries> {
        None
    }
    fn answer(
        &mut self,
        ticket: Ticket,
        answer: Result<(Index, Option<Time>), Outcome>,
        _: &dyn Fn() -> Time,
    ) {
        drop(self.told.send(Told::Ended(ticket, answer.expect_err("nobody reads here"))));
        if let Some(late) = self.late.take() {
            let command = Bytes::from_static(b"late");
            late.send(Body::Propose { ticket: Ticket(9), command })
                .expect("the loop has the inbox");
        }
    }
}

/// The only voter of a group.
fn alone() -> (Raft, Vec<Effect>) {
    let me = Member::new(1, 7);
    let founders = Membership::new(vec![me], vec![]).expect("one voter");
    let config = Config::new(ClusterId(1), GroupId(0), me);
    Raft::recover(config, RecoveredState::genesis(founders), Time(0)).expect("a founder starts")
}

/// It leads, and the disk has executed this many batches.
fn alone_and_leading() -> (Raft, u64) {
    let (mut raft, mut effects) = alone();
    effects.extend(raft.step(Message { now: Time(0), body: Body::Campaign }));
    let mut batches = 0;
    while !effects.is_empty() {
        for effect in std::mem::take(&mut effects) {
            if let Effect::Persist(batch) = effect {
                batches += 1;
                let body = Body::Persisted { seq: batch.seq };
                effects.extend(raft.step(Message { now: Time(0), body }));
            }
        }
    }
    assert_eq!(raft.status().role, RoleName::Leader);
    (raft, batches)
}

#[test]
fn the_host_of_the_guide_commits_and_applies_what_it_is_given() {
    let (raft, first) = alone();
    let (told, answers) = mpsc::channel();
    let host = Memory::new(told);
    let inbox = host::start(raft, first, host);
    inbox.send(Body::Campaign).expect("the node runs");
    for n in 0.. {
        // It leads once its vote is durable; until then it refuses, and is asked again.
        let command = Bytes::from_static(b"first");
        inbox.send(Body::Propose { ticket: Ticket(n), command }).expect("the node runs");
        let told = answers.recv().expect("the node runs");
        if !matches!(told, Told::Ended(_, Outcome::Refused(_))) {
            assert!(matches!(told, Told::Applied(_) | Told::Ended(_, Outcome::Committed { .. })));
            assert!(answers.recv().is_ok(), "the outcome and the application, in either order");
            break;
        }
    }
    // Far more than the inbox holds: who sends waits, and nothing is lost.
    for n in 0..5000 {
        let command = Bytes::from_static(b"x");
        inbox.send(Body::Propose { ticket: Ticket(n), command }).expect("the node runs");
    }
    drop(inbox);
    let told: Vec<Told> = answers.iter().collect();
    let is_applied = |told: &&Told| **told == Told::Applied(Bytes::from_static(b"x"));
    let is_committed = |told: &&Told| matches!(told, Told::Ended(_, Outcome::Committed { .. }));
    let count = told.iter().filter(is_committed).count();
    assert_eq!((count, told.iter().filter(is_applied).count()), (5000, 5000));
}

#[test]
fn the_host_of_the_guide_says_that_the_disk_is_full() {
    let (raft, batches) = alone_and_leading();
    let (told, answers) = mpsc::channel();
    let mut host = Memory { batches, is_disk_full: true, ..Memory::new(told) };
    let (clients, inbox) = mpsc::channel();
    let command = Bytes::from_static(b"x");
    clients.send(Body::Propose { ticket: Ticket(1), command }).expect("the inbox is open");
    drop(clients);
    host::run(raft, vec![], &inbox, &mut host);
    drop(host);
    let refused = Told::Ended(Ticket(1), Outcome::Refused(Rejection::DiskFull));
    assert_eq!(answers.iter().collect::<Vec<_>>(), [refused]);
}

/// A disk fails between two batches that came out of one step. The node halts, and the loop ends with it
/// although its inbox is open: what comes then is not answered.
#[test]
fn the_host_of_the_guide_writes_nothing_after_a_failure() {
    let (mut raft, batches) = alone_and_leading();
    let mut effects = vec![];
    let change = MembershipChange::Steps(vec![MemberStep::AddLearner(Member::new(2, 8))]);
    let command = Bytes::from_static(b"x");
    let asked = [
        Body::Propose { ticket: Ticket(1), command },
        Body::ProposeMembership { ticket: Ticket(2), change, expect: None },
    ];
    raft.step_batch(asked.map(|body| Message { now: Time(0), body }), &mut effects);
    let asked = effects.iter().filter(|effect| matches!(effect, Effect::Persist(_)));
    assert_eq!(asked.count(), 2, "one for the command, one for the membership");
    let (told, answers) = mpsc::channel();
    let (clients, inbox) = mpsc::channel();
    let late = Some(clients);
    let mut host = Memory { batches, is_failing: true, late, ..Memory::new(told) };
    host::run(raft, effects, &inbox, &mut host);
    assert!(host.has_failed);
    drop(host);
    let halted = [1, 2].map(|n| Told::Ended(Ticket(n), Outcome::Halted));
    assert_eq!(answers.iter().collect::<Vec<_>>(), halted, "both requests end");
}

/// What the page reads out of a log of batches is what a disk holds that has executed them: after a
/// truncation, an installed snapshot, and one that was taken.
#[test]
fn the_start_of_the_guide_finds_what_a_disk_holds() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    cluster.elect(3);
    for n in 1..=2 {
        cluster.propose(3, n, "never to be committed");
    }
    cluster.network.clear();
    cluster.now.0 += 10_000;
    for id in [1, 2] {
        cluster.step(id, Body::ForgetLeader);
    }
    cluster.step(1, Body::Campaign);
    cluster.deliver_if(|sent| sent.from.id.0 != 3 && sent.to.id.0 != 3);
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    cluster.propose(1, 1, "x");
    cluster.tick(1, 100);
    cluster.deliver();
    assert!(written(&cluster, 3).any(|batch| batch.truncate_from.is_some()), "n3 has truncated");
    compare(&cluster, None);
    for n in 2..=6 {
        cluster.propose(1, n, "y");
        cluster.deliver_if(|sent| sent.to.id.0 != 3);
    }
    let taken = cluster.server(1).raft.snapshot_at(cluster.status(1).applied).expect("applied");
    cluster.servers.get_mut(&1).expect("n1 is there").disk.snapshot = Arc::clone(&taken);
    cluster.step(1, Body::SnapshotTaken { snapshot: Arc::clone(&taken) });
    cluster.propose(1, 7, "z");
    for _ in 0..4 {
        cluster.tick(1, 100);
        cluster.deliver();
    }
    let installed = |batch: PersistBatch| batch.install.is_some_and(|meta| meta.last == taken.last);
    assert!(written(&cluster, 3).any(installed), "n3 has installed the snapshot");
    assert!(
        written(&cluster, 1).any(|batch| batch.compact_to.is_some()),
        "n1 has dropped a prefix"
    );
    compare(&cluster, Some(&taken));
}

/// What a node has written so far.
fn written(cluster: &Cluster, of: u64) -> impl Iterator<Item = PersistBatch> {
    let of_node = cluster.trace.iter().filter(move |(id, _)| *id == of);
    of_node.filter_map(|(_, effect)| {
        let Effect::Persist(batch) = effect else { return None };
        Some(batch.clone())
    })
}

/// All nodes would start as their disks say; n1 may have taken a snapshot.
fn compare(cluster: &Cluster, taken: Option<&Arc<SnapshotMeta>>) {
    for (id, server) in &cluster.servers {
        let found = start::found(membership(&[1, 2, 3], &[]), written(cluster, *id));
        let own = taken.filter(|_| *id == 1).cloned();
        let started = start::restart(server.config.clone(), found, own, cluster.now);
        let (raft, first) = started.expect("the log is whole");
        let on_disk = Raft::recover(server.config.clone(), server.disk.recovered(), cluster.now);
        assert!((raft, first) == on_disk.expect("the disk is whole"), "n{id}");
    }
}
