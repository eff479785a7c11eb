//! How a server becomes a member of a cluster, with the same command line for ever.
//!
//! A data directory has two parts: `raft/`, which the storage owns, and `founding.toml`, which says
//! how far its founding has come. A server that starts on an empty directory draws a lineage, makes it
//! durable, and then asks the servers of its command line (its *peers*) who they are:
//!
//! * Somebody says that the cluster exists, and names this very lineage as one of its founders: this
//!   server crashed in between, and adopts that founding.
//! * Somebody says that the cluster exists, and names other founders: this server is somebody new. It
//!   never founds anything, takes the cluster's name, and waits to be added. So does a server that has
//!   lost its disk: its lineage is another one, its votes were another's.
//! * Nobody has a cluster: everyone names the lineages that it has heard, its own included. A server
//!   that has been named the same complete set by every founder founds the cluster with it, and names
//!   that set for ever.
//!
//! Two founders never found with different sets. Suppose that A did with S and B with T. A names S
//! last, so it named T, which B heard, before it named S; likewise B named S before T. What a server
//! names for a third one is what it was last told by that one, who changes it only by losing its disk
//! and never back. So A has seen such changes lead from T to S, and B from S to T: both cannot be.
//! (Each server asks the others one after the other, so what it hears of one does not go back.)
//!
//! Nothing is founded either while two founders were told of different ones: with a complete set by the
//! shorter list, a cluster would come about that lacks somebody, whom its operator counts in.
//!
//! The name of the cluster is a checksum over the founders: they all compute the same one, and no two
//! foundings agree in it. Deliberately absent: a change of the founders once they are named (start
//! over with empty directories), and discovery (an address is told by an operator).

mod directory;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use raft_core::{ClusterId, Member, Membership, MembershipError, NodeId};
use tokio::sync::watch;
use tracing::{error, info, warn};
use twox_hash::XxHash3_64;

pub use directory::{DataDirectory, DirectoryError, Founding};

use crate::hello::Hello;
use crate::links::Links;

/// How often the others are asked while nothing happens.
const INTERVAL: Duration = Duration::from_millis(100);

/// What a server that belongs to no cluster has to wait for; shown to whoever asks whether it is
/// ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The founders that have not been heard yet, or have not named the same set.
    Founding {
        /// Who.
        missing: Vec<NodeId>,
        /// What the command lines contradict each other in.
        contradiction: Option<String>,
    },
    /// A cluster is known, or this server has one.
    Settled,
    /// The disk is full: the log cannot go on.
    NoRoom,
}

/// What comes out of the founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who founded it.
    pub founders: Vec<Member>,
}

impl Settled {
    /// What this member starts from: the founders' membership, or nothing.
    ///
    /// # Errors
    /// The founders are no membership.
    pub fn genesis(&self, me: Member) -> Result<Membership, MembershipError> {
        if self.founders.contains(&me) {
            Membership::new(self.founders.clone(), Vec::new())
        } else {
            Ok(Membership::default())
        }
    }
}

/// The name of the cluster that these founders make.
#[must_use]
pub fn cluster_of(founders: &[Member]) -> ClusterId {
    let mut sorted = founders.to_vec();
    sorted.sort_unstable();
    let mut bytes = Vec::with_capacity(16 * sorted.len());
    for member in sorted {
        bytes.extend_from_slice(&member.id.0.to_le_bytes());
        bytes.extend_from_slice(&member.lineage.0.to_le_bytes());
    }
    ClusterId(XxHash3_64::oneshot(&bytes))
}

/// Asks until it is clear what this server is. `peers` are the other founders' addresses, `hello` is
/// what it says of itself meanwhile.
pub async fn settle(
    links: &Links,
    peers: &BTreeMap<NodeId, String>,
    hello: &watch::Sender<Hello>,
    stage: &watch::Sender<Stage>,
) -> Settled {
    let me = hello.borrow().member;
    if peers.is_empty() {
        warn!("no --peer is named: this server founds a cluster of its own, alone");
    }
    let mut answers: BTreeMap<NodeId, Hello> = BTreeMap::new();
    let mut told = None;
    loop {
        for (id, address) in peers {
            if let Some(answer) = ask(links, *id, address).await {
                if let Some(settled) = adopt(&answer) {
                    return settled;
                }
                answers.insert(*id, answer);
                name(hello, &answers, me);
            }
        }
        let mine = hello.borrow().founders.clone();
        let missing: Vec<NodeId> = peers
            .keys()
            .filter(|id| answers.get(id).is_none_or(|answer| answer.founders != mine))
            .copied()
            .collect();
        let contradiction = contradiction(&hello.borrow(), &answers);
        if contradiction.is_none() && missing.is_empty() && mine.len() == peers.len() + 1 {
            return Settled { cluster: cluster_of(&mine), founders: mine };
        }
        let now = Stage::Founding { missing, contradiction };
        if told.as_ref() != Some(&now) {
            tell(&now);
            stage.send_replace(now.clone());
            told = Some(now);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn tell(stage: &Stage) {
    let Stage::Founding { missing, contradiction } = stage else { return };
    if let Some(contradiction) = contradiction {
        error!("{contradiction}");
    } else {
        let missing: Vec<u64> = missing.iter().map(|id| id.0).collect();
        info!(?missing, "founding a cluster needs every founder once; waiting");
    }
}

/// Somebody was told of other founders than this server.
fn contradiction(mine: &Hello, answers: &BTreeMap<NodeId, Hello>) -> Option<String> {
    let other = answers.values().find(|answer| answer.configured != mine.configured)?;
    let list =
        |ids: &[NodeId]| ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(", ");
    Some(format!(
        "nothing is founded: server {} is told that the founders are {}, and server {} that they are {}; \
         --peer must name the same ones everywhere",
        mine.member.id.0,
        list(&mine.configured),
        other.member.id.0,
        list(&other.configured),
    ))
}

async fn ask(links: &Links, id: NodeId, address: &str) -> Option<Hello> {
    let answer = links.ask(address).await.ok()?;
    if answer.member.id != id {
        let found = answer.member.id.0;
        warn!(peer = id.0, address, found, "another server listens where this peer should");
        return None;
    }
    Some(answer)
}

/// The cluster that somebody belongs to.
fn adopt(answer: &Hello) -> Option<Settled> {
    let founders = answer.founders.clone();
    answer.cluster.map(|cluster| Settled { cluster, founders })
}

/// Names all that have been heard.
fn name(hello: &watch::Sender<Hello>, answers: &BTreeMap<NodeId, Hello>, me: Member) {
    let mut founders: Vec<Member> = answers.values().map(|answer| answer.member).collect();
    founders.push(me);
    founders.sort_unstable();
    hello.send_if_modified(|hello| {
        let is_new = hello.founders != founders;
        hello.founders = founders;
        is_new
    });
}

/// A number that nobody else draws.
///
/// # Errors
/// The system has no randomness.
pub fn draw_lineage() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}
