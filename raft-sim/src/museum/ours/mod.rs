//! The museum's subject that this project is about: `raft_core` with disks in memory.

mod letters;
mod machine;
mod server;

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{
    Body, ClusterId, Config, Envelope, GroupId, Incarnation, Member, MemberStep, Membership,
    MembershipChange, NodeId, Payload, ReadMode, Round, Session, Term, Ticket,
    config::PRIORITY_MAX,
};

use crate::ideal_disk::Disk;

use super::story::Untold;
use super::subject::{
    Claim, ELECTION_TIMEOUT_US, HEARTBEAT_US, Input, Kind, Letter, Setup, Step, Subject, View,
};
use machine::command_of;
use server::Server;

/// The key of all election jitter; that of each server is drawn with its number.
const SEED: u64 = 0x6d75_7365_756d;

/// The name of every story's cluster.
const CLUSTER: ClusterId = ClusterId(0x6d75);

/// A cluster of nodes of `raft_core`.
#[derive(Debug, Default)]
pub struct Ours {
    setup: Option<Setup>,
    servers: BTreeMap<u64, Server>,
    /// How many disks were put into each server after its first.
    disks: BTreeMap<u64, u64>,
    /// By name; names only rise.
    in_flight: BTreeMap<u64, Envelope>,
    letters: u64,
    /// The newest stream of each sender to each receiver, by which a posted append goes.
    streams: BTreeMap<(u64, u64), (Session, Round)>,
}

impl Subject for Ours {
    fn found(&mut self, setup: &Setup) {
        *self = Self { setup: Some(setup.clone()), ..Self::default() };
        let members = |servers: &[u64]| servers.iter().map(|server| member(*server, 0)).collect();
        let founders = Membership::new(members(&setup.voters), members(&setup.learners))
            .expect("a story names each server once");
        let is_given = !(setup.logs.is_empty() && setup.terms.is_empty());
        for server in setup.voters.iter().chain(&setup.learners) {
            let mut disk = Disk::new(founders.clone());
            if is_given {
                let terms = setup.logs.get(server).map_or(&[][..], Vec::as_slice);
                let items = terms.iter().zip(1..).map(|(term, index)| {
                    (Term(*term), Payload::Command(command_of(*term, index).into_bytes().into()))
                });
                let term = setup.terms.get(server).copied().unwrap_or_default();
                disk = disk.with_log(items, Term(term));
            }
            let config = config(setup, *server, member(*server, 0));
            self.servers.insert(*server, Server::new(config, disk));
            self.restart(*server, Claim::default()).expect("an honest disk is accepted");
        }
    }

    fn add(&mut self, server: u64) -> Result<(), Untold> {
        let setup = self.setup.clone().expect("a story founds its cluster first");
        let disks = self.disks.entry(server).or_insert(0);
        *disks += 1;
        let lineage = if setup.tells_disks_apart { *disks } else { 0 };
        let config = config(&setup, server, member(server, lineage));
        let mut fresh = Server::new(config, Disk::new(Membership::default()));
        if let Some(before) = self.servers.values().next() {
            fresh = fresh.with_clock_of(self.servers.get(&server).unwrap_or(before));
        }
        self.servers.insert(server, fresh);
        self.restart(server, Claim::default())
    }

    fn found_alone(&mut self, server: u64) -> Result<(), Untold> {
        let setup = self.setup.clone().expect("a story founds its cluster first");
        let disks = self.disks.entry(server).or_insert(0);
        *disks += 1;
        // One of two marks tells it from what it was, so that each is put to the test alone: the
        // lineage of its disk, or the name of its cluster.
        let lineage = if setup.tells_disks_apart { *disks } else { 0 };
        let member = member(server, lineage);
        let mut config = config(&setup, server, member);
        if !setup.tells_disks_apart {
            config.cluster = ClusterId(CLUSTER.0 + *disks);
        }
        let founder = Membership::new(vec![member], Vec::new()).expect("it is one server");
        let fresh = Server::new(config, Disk::new(founder)).with_clock_of(&self.servers[&server]);
        self.servers.insert(server, fresh);
        self.restart(server, Claim::default())
    }

    fn input(&mut self, server: u64, input: &Input) -> Result<(), Untold> {
        let body = match input {
            Input::Pass(span_us) => {
                self.server(server).pass(*span_us);
                None
            }
            Input::Pause(span_us) => {
                self.server(server).pause(*span_us);
                None
            }
            Input::SetBack(span_us) => {
                self.server(server).set_back(*span_us);
                None
            }
            Input::PreVote(pre_vote) => {
                self.server(server).config.pre_vote = *pre_vote;
                None
            }
            Input::Snapshot => {
                self.server(server).snapshot();
                None
            }
            Input::Campaign => Some(Body::Campaign),
            Input::Propose { ticket, command } => {
                let command = Bytes::copy_from_slice(command);
                Some(Body::Propose { ticket: Ticket(*ticket), command })
            }
            Input::Read { ticket, by_lease } => {
                let mode = if *by_lease { ReadMode::Lease } else { ReadMode::ReadIndex };
                Some(Body::Read { ticket: Ticket(*ticket), mode })
            }
            Input::Change { ticket, steps, is_explicit } => {
                let steps = steps.iter().map(|step| self.step_of(*step)).collect();
                let change = if *is_explicit {
                    MembershipChange::EnterJoint(steps)
                } else {
                    MembershipChange::Steps(steps)
                };
                Some(Body::ProposeMembership { ticket: Ticket(*ticket), change, expect: None })
            }
            Input::LeaveJoint { ticket } => {
                let change = MembershipChange::LeaveJoint;
                Some(Body::ProposeMembership { ticket: Ticket(*ticket), change, expect: None })
            }
            Input::Transfer { ticket, to } => {
                Some(Body::TransferLeadership { ticket: Ticket(*ticket), to: Some(NodeId(*to)) })
            }
            Input::ForgetLeader => Some(Body::ForgetLeader),
            Input::DiskReads(reads_disk) => {
                self.server(server).set_reads_disk(*reads_disk);
                None
            }
            Input::Unreachable(peer) => {
                let peer = self.server(*peer).config.member();
                Some(Body::PeerUnreachable { peer })
            }
            Input::DiskFailed => Some(Body::PersistFailed),
        };
        if let Some(body) = body {
            self.server(server).step(body);
        }
        self.post_outbox(server);
        Ok(())
    }

    fn in_flight(&self) -> Vec<Letter> {
        let letter = |(name, envelope): (&u64, &Envelope)| letters::letter(*name, envelope);
        self.in_flight.iter().map(letter).collect()
    }

    fn deliver(&mut self, letter: u64) {
        let Some(envelope) = self.in_flight.remove(&letter) else { return };
        let to = envelope.to.id.0;
        if self.servers.contains_key(&to) {
            self.server(to).step(Body::Peer(envelope));
            self.post_outbox(to);
        }
    }

    fn lose(&mut self, letter: u64) {
        self.in_flight.remove(&letter);
    }

    fn duplicate(&mut self, letter: u64) -> u64 {
        let copy = self.in_flight[&letter].clone();
        self.send(copy)
    }

    fn post(&mut self, from: u64, to: u64, term: u64, kind: &Kind) -> Result<(), Untold> {
        let stream = self.streams.get(&(from, to)).copied().unwrap_or_default();
        let sender = &self.servers[&from];
        let raft = sender.raft().ok_or(Untold::Unsupported("post for a server that is down"))?;
        let rpc = letters::posted(kind, raft, stream)?;
        let status = raft.status();
        let envelope = Envelope {
            cluster: sender.config.cluster,
            group: sender.config.group,
            from: status.member,
            to: self.servers[&to].config.member(),
            epoch: status.epoch,
            incarnation: status.incarnation.max(Incarnation(1)),
            term: Term(term),
            rpc,
        };
        self.send(envelope);
        Ok(())
    }

    fn writes(&self, server: u64) -> Vec<usize> {
        self.servers[&server].writes()
    }

    fn complete(&mut self, server: u64, writes: usize) {
        self.server(server).complete(writes);
        self.post_outbox(server);
    }

    fn crash(&mut self, server: u64, pieces: usize) {
        self.server(server).crash(pieces);
    }

    fn damage(&mut self, server: u64, index: u64) -> Result<(), Untold> {
        self.server(server).damage(index);
        Ok(())
    }

    fn restart(&mut self, server: u64, claim: Claim) -> Result<(), Untold> {
        self.server(server).start(claim)?;
        self.post_outbox(server);
        Ok(())
    }

    fn view(&self, server: u64) -> View {
        self.servers[&server].view()
    }
}

impl Ours {
    fn server(&mut self, server: u64) -> &mut Server {
        self.servers.get_mut(&server).expect("a story names servers of its cluster")
    }

    fn step_of(&self, step: Step) -> MemberStep {
        match step {
            Step::AddLearner(server) => {
                MemberStep::AddLearner(self.servers[&server].config.member())
            }
            Step::Promote(server) => MemberStep::Promote(NodeId(server)),
            Step::Demote(server) => MemberStep::Demote(NodeId(server)),
            Step::Remove(server) => MemberStep::Remove(NodeId(server)),
        }
    }

    fn send(&mut self, envelope: Envelope) -> u64 {
        self.letters += 1;
        self.in_flight.insert(self.letters, envelope);
        self.letters
    }

    fn post_outbox(&mut self, server: u64) {
        for envelope in std::mem::take(&mut self.server(server).outbox) {
            if let Some(stream) = letters::stream(&envelope.rpc) {
                self.streams.insert((envelope.from.id.0, envelope.to.id.0), stream);
            }
            self.send(envelope);
        }
    }
}

/// The member with this number; each new disk under the number has a lineage of its own, unless a
/// story wants it taken for the old one.
fn member(server: u64, disks: u64) -> Member {
    Member::new(server, server * 100 + disks)
}

fn config(setup: &Setup, server: u64, member: Member) -> Config {
    let mut config = Config::new(CLUSTER, GroupId(1), member);
    config.seed = SEED;
    config.election_timeout_us = ELECTION_TIMEOUT_US;
    config.heartbeat_interval_us = HEARTBEAT_US;
    config.pre_vote = setup.pre_votes.get(&server).copied().unwrap_or(setup.pre_vote);
    config.check_quorum = setup.check_quorum;
    config.lease_us = setup.lease_us;
    config.priority = setup.priorities.get(&server).copied().unwrap_or(PRIORITY_MAX);
    if let Some(bytes) = setup.resident_bytes_max {
        config.resident_bytes_max = bytes;
    }
    config.append_entries_max = setup.append_entries_max;
    config.inflight_appends_max = setup.inflight_appends_max;
    config.uncommitted_bytes_max = setup.uncommitted_bytes_max;
    config.unapplied_bytes_max = setup.unapplied_bytes_max;
    config.snapshot_chunk_bytes = setup.snapshot_chunk_bytes;
    debug_assert!(config.id.0 == server, "a member is named by its number");
    config
}
