//! How long a commit takes, counted in hops of messages: half round trips on a network where all
//! take equally long.
//!
//! In each hop every server takes, at once, what was sent to it during the last one. Disks take as
//! many hops as a test says; none: they confirm within the hop.

use raft_core::{
    Body, ClusterId, Config, Effect, Envelope, GroupId, Index, Member, Membership, Message,
    Outcome, PersistSeq, Raft, RecoveredState, RoleName, Ticket, Time,
};

const LEADER: usize = 0;
/// More than anything here takes.
const HOPS_MAX: u64 = 20;

/// One round trip: out to the followers, and back from a quorum of them.
#[test]
fn a_commit_costs_one_round_trip_with_the_leaders_disk_in_parallel() {
    let committed = |servers, leaders_disk| {
        let mut disks = vec![0; servers];
        disks[LEADER] = leaders_disk;
        commit(&disks).committed
    };
    for servers in [3, 5, 7] {
        for leaders_disk in [0, 1, 2] {
            assert_eq!(committed(servers, leaders_disk), 2, "{servers} servers");
        }
        // A quorum of followers does not even wait for a slower one.
        assert_eq!(committed(servers, 9), 2, "{servers} servers");
    }
    // Alone, there is nothing but the disk.
    assert_eq!(committed(1, 0), 0);
    assert_eq!(committed(1, 3), 3);
}

/// Followers write before they answer, and the slowest disk that a quorum needs counts once.
#[test]
fn disks_of_followers_add_once_to_the_round_trip() {
    assert_eq!(commit(&[0, 3, 3]).committed, 2 + 3);
    assert_eq!(commit(&[5, 3, 3]).committed, 2 + 3, "the leader's is not added to it");
    assert_eq!(commit(&[0, 3, 9]).committed, 2 + 3, "one follower and the leader suffice");
    assert_eq!(commit(&[0, 0, 3, 9, 9]).committed, 2 + 3);
}

/// Half a round trip after the leader commits, everybody who has answered knows.
#[test]
fn followers_learn_of_a_commit_half_a_round_trip_later() {
    for servers in [3, 5, 7] {
        let story = commit(&vec![0; servers]);
        assert_eq!(story.learned[LEADER], Some(2));
        for learned in &story.learned[1..] {
            assert_eq!(*learned, Some(3), "{servers} servers");
        }
    }
}

/// The commit came while the follower's disk was still at work. Nothing more is proposed and no
/// clock moves: that the follower's answer arrives must be reason enough to tell it.
#[test]
fn a_follower_with_a_slow_disk_learns_of_a_commit_half_a_round_trip_after_its_answer() {
    let story = commit(&[0, 0, 4]);
    assert_eq!(story.committed, 2, "the others do not wait for it");
    let answered = 2 + 4;
    let learned = story.learned[2].expect("it learns without a heartbeat");
    assert!(learned <= answered + 1, "learned at hop {learned}");
}

/// A follower that has missed much: the first entries that reach it tell what is committed.
#[test]
fn a_follower_that_lags_learns_of_a_commit_with_what_the_leader_sends_next() {
    let mut group = Lockstep::elected(&[0, 0, 0]);
    group.is_cut = true;
    for _ in 0..50 {
        group.propose();
        group.rest();
    }
    let commit = group.commit(LEADER);
    assert!(group.commit(2) < commit, "it has missed them");
    group.is_cut = false;
    let lost = group.servers[2].member;
    group.servers[LEADER].next.push(Body::PeerUnreachable { peer: lost });
    group.beat();
    let mut sent = None;
    for hop in 0..HOPS_MAX {
        group.hop();
        if sent.is_none() && group.has_entries_for(lost) {
            sent = Some(hop);
        }
        if group.commit(2) == commit {
            assert_eq!(sent, Some(hop - 1), "with the entries, not after them");
            return;
        }
    }
    panic!("it never learned of the commit");
}

/// What became of one proposal, made in hop 0.
struct Story {
    /// The hop in which the leader answered its client.
    committed: u64,
    /// The hop in which each server knew that the entry is committed.
    learned: Vec<Option<u64>>,
}

/// Makes one proposal, with disks that take so many hops; the first server leads.
fn commit(disks: &[u64]) -> Story {
    let mut group = Lockstep::elected(disks);
    let index = group.commit(LEADER).next();
    group.propose();
    let (mut committed, mut learned) = (None, vec![None; disks.len()]);
    for hop in 0..HOPS_MAX {
        group.hop();
        if committed.is_none() && group.answers > 0 {
            committed = Some(hop);
        }
        for (position, learned) in learned.iter_mut().enumerate() {
            if learned.is_none() && group.commit(position) >= index {
                *learned = Some(hop);
            }
        }
    }
    Story { committed: committed.expect("nothing stands in the way"), learned }
}

/// A group whose servers take every hop together.
struct Lockstep {
    servers: Vec<Server>,
    hop: u64,
    /// Proposals that were committed.
    answers: u64,
    /// Nothing reaches the last server, and nothing comes from it.
    is_cut: bool,
}

struct Server {
    member: Member,
    raft: Raft,
    /// What arrives in the next hop.
    next: Vec<Body>,
    /// What the disk is writing, and the hop in which it will be durable.
    writing: Vec<(u64, PersistSeq)>,
    disk_hops: u64,
}

impl Lockstep {
    fn elected(disks: &[u64]) -> Self {
        let members: Vec<Member> =
            (1u64..).take(disks.len()).map(|id| Member::new(id, 7)).collect();
        let founders = Membership::new(members.clone(), Vec::new()).expect("a legal size");
        let mut group = Self { servers: Vec::new(), hop: 0, answers: 0, is_cut: false };
        for member in members {
            let config = Config::new(ClusterId(1), GroupId(0), member);
            let found = RecoveredState::genesis(founders.clone());
            let (raft, effects) = Raft::recover(config, found, Time(0)).expect("genesis fits");
            let (next, writing) = (Vec::new(), Vec::new());
            group.servers.push(Server { member, raft, next, writing, disk_hops: 0 });
            let position = group.servers.len() - 1;
            let started = group.execute(position, effects);
            group.servers[position].next.extend(started);
        }
        group.servers[LEADER].next.push(Body::Campaign);
        group.rest();
        assert_eq!(group.servers[LEADER].raft.status().role, RoleName::Leader);
        for (server, hops) in group.servers.iter_mut().zip(disks) {
            server.disk_hops = *hops;
        }
        group
    }

    fn propose(&mut self) {
        let (ticket, command) = (Ticket(self.hop), b"command".as_slice().into());
        self.servers[LEADER].next.push(Body::Propose { ticket, command });
    }

    /// The leader's heartbeat is due.
    fn beat(&mut self) {
        let leader = &mut self.servers[LEADER];
        let due = leader.raft.next_deadline().expect("a leader has deadlines");
        self.hop = due.0;
        leader.next.push(Body::Tick);
    }

    fn commit(&self, position: usize) -> Index {
        self.servers[position].raft.status().commit
    }

    fn has_entries_for(&self, member: Member) -> bool {
        let to = self.servers.iter().find(|server| server.member == member);
        let is_append = |body: &Body| {
            matches!(body, Body::Peer(Envelope { rpc: raft_core::Rpc::AppendEntries { entries, .. }, .. })
                if !entries.is_empty())
        };
        to.is_some_and(|to| to.next.iter().any(is_append))
    }

    fn rest(&mut self) {
        while self.servers.iter().any(|server| !server.next.is_empty()) {
            self.hop();
        }
    }

    fn hop(&mut self) {
        self.hop += 1;
        let inboxes: Vec<Vec<Body>> =
            self.servers.iter_mut().map(|server| core::mem::take(&mut server.next)).collect();
        for (position, mut inbox) in inboxes.into_iter().enumerate() {
            let server = &mut self.servers[position];
            server.writing.retain(|&(due, seq)| {
                if due <= self.hop {
                    inbox.push(Body::Persisted { seq });
                }
                due > self.hop
            });
            while !inbox.is_empty() {
                let now = Time(self.hop);
                let messages = inbox.drain(..).map(|body| Message { now, body });
                let mut effects = Vec::new();
                self.servers[position].raft.step_batch(messages, &mut effects);
                inbox = self.execute(position, effects);
            }
        }
    }

    /// Executes effects; what must be answered within the hop is returned.
    fn execute(&mut self, position: usize, effects: Vec<Effect>) -> Vec<Body> {
        let mut at_once = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(batch) => {
                    let server = &mut self.servers[position];
                    if server.disk_hops == 0 {
                        at_once.push(Body::Persisted { seq: batch.seq });
                    } else {
                        server.writing.push((self.hop + server.disk_hops, batch.seq));
                    }
                }
                Effect::Send(envelope) => self.send(position, envelope),
                Effect::Apply { entries } => {
                    let through = entries.last().expect("never empty").index();
                    at_once.push(Body::Applied { through });
                }
                Effect::Outcome { outcome, .. } => {
                    assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
                    self.answers += 1;
                }
                Effect::RestoreState { .. }
                | Effect::ReadReady { .. }
                | Effect::Load(_)
                | Effect::ReadChunk(_)
                | Effect::StageChunk { .. } => unreachable!("nobody reads or needs a snapshot"),
                Effect::Observe(_) => {}
            }
        }
        at_once
    }

    fn send(&mut self, from: usize, envelope: Envelope) {
        let to = self.servers.iter().position(|server| server.member == envelope.to);
        let (to, last) = (to.expect("members send to members"), self.servers.len() - 1);
        if !(self.is_cut && (from == last || to == last)) {
            self.servers[to].next.push(Body::Peer(envelope));
        }
    }
}
