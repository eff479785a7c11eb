//! What the server is doing: short for clients, at length for operators.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::Response;
use raft_core::{Flow, Member, Membership, RoleName, Status};
use serde::Serialize;

use super::App;
use super::list::json;
use super::problem::{Leader, Problem};
use crate::links::PeerInfo;
use crate::node::View;

#[derive(Serialize)]
struct WhoLeads {
    leader: Option<u64>,
    url: Option<String>,
    term: Option<u64>,
    node: u64,
}

#[derive(Serialize)]
struct Brief {
    node: u64,
    role: &'static str,
    term: u64,
    leader: Option<Leader>,
    applied: u64,
}

/// All that an operator may want to know.
#[derive(Serialize)]
struct Full {
    node: u64,
    lineage: String,
    cluster: Option<String>,
    role: &'static str,
    term: u64,
    epoch: u64,
    leader: Option<Leader>,
    commit: u64,
    applied: u64,
    durable: u64,
    last: u64,
    snapshot: u64,
    keys: u64,
    membership: Members,
    peers: Vec<Peer>,
    disk: Disk,
    quorum: Quorum,
}

#[derive(Serialize)]
pub(super) struct Members {
    voters: Vec<u64>,
    learners: Vec<u64>,
    /// The voters of the half that is being left, while a change is under way.
    outgoing: Vec<u64>,
}

#[derive(Serialize)]
struct Peer {
    id: u64,
    address: String,
    url: Option<String>,
    connected: bool,
    heard_ms_ago: Option<u64>,
    /// What only the leader knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<Replication>,
}

#[derive(Serialize)]
struct Replication {
    flow: &'static str,
    matched: u64,
    lag: u64,
    active: bool,
}

#[derive(Serialize)]
struct Disk {
    has_room: bool,
    /// Entries whose payloads cannot be read, until peers have sent them again.
    damaged_entries: usize,
    first_damaged: Option<u64>,
    snapshot_damaged: bool,
    /// It may have acknowledged more than it has, and votes for nobody until it has caught up.
    tail_unknown: bool,
    /// What looking through the disk has come to since the start.
    scrub: Scrub,
}

#[derive(Serialize)]
struct Scrub {
    rounds: u64,
    repaired: u64,
    damaged_entries: u64,
    damaged_snapshots: u64,
}

/// What could fail now without losing the quorum.
#[derive(Serialize)]
struct Quorum {
    voters: usize,
    needed: usize,
    /// Voters that are heard, this server included; only a leader knows.
    alive: Option<usize>,
    can_fail: Option<usize>,
}

pub(super) async fn leader(State(app): State<Arc<App>>) -> Response {
    let published = app.node.borrow().as_ref().map(crate::node::Node::now);
    let leader = published.as_ref().and_then(|published| published.leader);
    json(&WhoLeads {
        leader: leader.map(|leader| leader.id.0),
        url: leader.and_then(|leader| url(&app, leader)),
        term: published.map(|published| published.term.0),
        node: app.config.id.0,
    })
}

pub(super) async fn brief(State(app): State<Arc<App>>) -> Response {
    let brief = app.node().map(|node| {
        let published = node.now();
        json(&Brief {
            node: app.config.id.0,
            role: role_name(published.role),
            term: published.term.0,
            leader: published.leader.map(|leader| Leader::of(&app, leader)),
            applied: published.applied.0,
        })
    });
    app.respond(brief)
}

pub(super) async fn status(State(app): State<Arc<App>>) -> Response {
    let result = async {
        let node = app.node()?;
        let shared = Arc::clone(&app);
        let full = node.inspect(move |view| full(&shared, view)).await;
        let full = full.map_err(|gone| Problem::unavailable("stopped", gone.to_string()))?;
        Ok(json(&full))
    };
    app.respond(result.await)
}

fn url(app: &App, leader: Member) -> Option<String> {
    if leader.id == app.config.id {
        return Some(app.config.client_url());
    }
    app.links.client_url(leader)
}

fn full(app: &App, view: &View<'_>) -> Full {
    let status = view.replica.status();
    let replication = replication(view, &status);
    let peers = app.links.peers();
    let peer = |(id, info): (&raft_core::NodeId, &PeerInfo)| Peer {
        id: id.0,
        address: info.address.clone(),
        url: info.hello.as_ref().map(|hello| hello.client_url.clone()),
        connected: info.is_connected,
        heard_ms_ago: view.silence(*id).map(|silence| silence.0 / 1000),
        replication: replication.get(id).map(|found| Replication { ..*found }),
    };
    Full {
        node: status.member.id.0,
        lineage: format!("{:016x}", status.member.lineage.0),
        cluster: app.links.cluster().map(|cluster| cluster.to_string()),
        role: role_name(status.role),
        term: status.term.0,
        epoch: status.epoch.0,
        leader: status.leader.map(|leader| Leader::of(app, leader)),
        commit: status.commit.0,
        applied: view.applied().0,
        durable: status.durable.0,
        last: status.last.index.0,
        snapshot: status.snapshot.index.0,
        keys: view.store().kv().len() as u64,
        membership: Members::of(&status.membership),
        peers: peers.iter().map(peer).collect(),
        disk: Disk {
            has_room: app.has_room.load(Ordering::Relaxed),
            damaged_entries: status.damaged,
            first_damaged: status.first_damaged.map(|index| index.0),
            snapshot_damaged: status.is_snapshot_damaged,
            tail_unknown: status.is_tail_unknown,
            scrub: scrub(view),
        },
        quorum: quorum(view, &status),
    }
}

fn scrub(view: &View<'_>) -> Scrub {
    let found = view.scrubbed();
    Scrub {
        rounds: found.rounds,
        repaired: found.repaired,
        damaged_entries: found.entries,
        damaged_snapshots: found.snapshots,
    }
}

impl Members {
    pub(super) fn of(membership: &Membership) -> Self {
        let ids = |members: &[Member]| members.iter().map(|member| member.id.0).collect();
        Self {
            voters: ids(membership.incoming()),
            learners: ids(membership.learners()),
            outgoing: ids(membership.outgoing()),
        }
    }
}

fn replication(view: &View<'_>, status: &Status) -> BTreeMap<raft_core::NodeId, Replication> {
    let peers = view.replica.raft().peers();
    let row = |peer: &raft_core::PeerStatus| Replication {
        flow: match peer.flow {
            Flow::Probe => "probe",
            Flow::Replicate { .. } => "replicate",
            Flow::Snapshot { .. } => "snapshot",
            Flow::Diverged => "diverged",
        },
        matched: peer.match_index.0,
        lag: status.last.index.0.saturating_sub(peer.match_index.0),
        active: peer.is_active,
    };
    peers.iter().map(|peer| (peer.member.id, row(peer))).collect()
}

fn quorum(view: &View<'_>, status: &Status) -> Quorum {
    let membership = &status.membership;
    let is_leader = status.role == RoleName::Leader;
    let alive = |half: &[Member]| half.iter().filter(|voter| view.is_alive(**voter)).count();
    let halves = [membership.incoming(), membership.outgoing()];
    Quorum {
        voters: membership.incoming().len(),
        needed: majority(membership.incoming().len()),
        alive: is_leader.then(|| alive(membership.incoming())),
        can_fail: is_leader.then(|| spare(halves.map(|half| (half.len(), alive(half))))),
    }
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// How many can fail so that each half that has voters, of which so many live, keeps its majority.
fn spare(halves: [(usize, usize); 2]) -> usize {
    let has_voters = halves.into_iter().filter(|(voters, _)| *voters > 0);
    has_voters.map(|(voters, alive)| alive.saturating_sub(majority(voters))).min().unwrap_or(0)
}

pub(super) fn role_name(role: RoleName) -> &'static str {
    match role {
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
        RoleName::Halted => "halted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_a_change_is_under_way_both_halves_need_their_majority() {
        assert_eq!(spare([(3, 3), (0, 0)]), 1);
        assert_eq!(spare([(5, 5), (3, 3)]), 1, "the half that is left has less to spare");
        assert_eq!(spare([(5, 5), (3, 2)]), 0);
        assert_eq!(spare([(3, 1), (0, 0)]), 0);
        assert_eq!(spare([(0, 0), (0, 0)]), 0);
    }
}
