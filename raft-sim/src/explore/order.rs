//! In which order states are explored.
//!
//! Breadth first finds what is broken by a shortest path. But a state that stands for another one,
//! because it has more messages, is often a few steps farther from the start: it took more to say
//! more. So where states are to stand for others, those come first in which least was achieved:
//! whatever leads to certain servers is known before what follows them is computed, as far as servers
//! never fall back. Nothing is missed if they do, and little is done twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use raft_core::{RoleName, Status};

use super::host::Host;
use super::spent::Spent;
use super::store::Store;
use super::visited::Visited;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// What is near to the start.
    Breadth,
    /// That in which little was achieved.
    Achievement,
}

/// States whose successors are not computed yet, by what comes first.
#[derive(Debug)]
pub(crate) struct Frontier<'a> {
    pub(crate) order: Order,
    store: &'a Mutex<Store>,
    /// In the order of their discovery among equals.
    open: BTreeMap<u32, Vec<u32>>,
    pub(crate) len: usize,
    /// The greatest distance at which a state was found.
    pub(crate) depth: usize,
    /// What was achieved, by the names of servers and of histories.
    hosts: Vec<u32>,
    ghosts: Vec<u32>,
}

impl<'a> Frontier<'a> {
    pub(crate) fn new(order: Order, store: &'a Mutex<Store>) -> Self {
        let open = BTreeMap::new();
        Self { order, store, open, len: 0, depth: 0, hosts: Vec::new(), ghosts: Vec::new() }
    }

    /// Adds a state that was visited.
    pub(crate) fn add(&mut self, visited: &Visited, at: u32) {
        let depth = visited.depth(at as usize);
        self.depth = self.depth.max(depth);
        let rank = match self.order {
            Order::Breadth => u32::try_from(depth).expect("a depth has 16 bits"),
            Order::Achievement => self.achievement(visited.state(at as usize)),
        };
        self.open.entry(rank).or_default().push(at);
        self.len += 1;
    }

    /// Takes so many states at most, which all come first.
    pub(crate) fn take(&mut self, limit: usize) -> Option<Vec<u32>> {
        let mut first = self.open.first_entry()?;
        let states = first.get_mut();
        let rest = states.split_off(limit.min(states.len()));
        let taken = std::mem::replace(states, rest);
        if first.get().is_empty() {
            first.remove();
        }
        self.len -= taken.len();
        Some(taken)
    }

    fn achievement(&mut self, state: &[u32]) -> u32 {
        let (ghost, servers) = state.split_last().expect("a state is never empty");
        let most = servers.iter().step_by(2).max().expect("there are servers");
        if self.hosts.len() <= *most as usize || self.ghosts.len() <= *ghost as usize {
            let store = self.store.lock().expect("no thread panics with the store in hand");
            let hosts = store.hosts.from(self.hosts.len()).iter();
            self.hosts.extend(hosts.map(|host: &Arc<Host>| achieved(host)));
            let ghosts = store.ghosts.from(self.ghosts.len()).iter();
            self.ghosts.extend(ghosts.map(|ghost| spent(ghost.spent)));
        }
        let servers = servers.iter().step_by(2).map(|host| self.hosts[*host as usize]);
        self.ghosts[*ghost as usize] + servers.sum::<u32>()
    }
}

/// More than anything that a crash can take back.
const CRASH: u32 = 1 << 20;

/// A crash takes back much; everything else that is asked for leaves its traces.
fn spent(spent: Spent) -> u32 {
    CRASH * u32::from(spent.crashes)
}

/// What a server has achieved, as a number that hardly ever falls.
fn achieved(host: &Host) -> u32 {
    let Status { role, term, vote, leader, last, commit, .. } = host.raft.status();
    let standing = match role {
        RoleName::Follower | RoleName::PreCandidate | RoleName::Candidate => {
            u64::from(vote.is_some()) + 2 * u64::from(leader.is_some())
        }
        RoleName::Leader | RoleName::Halted => 4,
    };
    let (hard_state, durable) = (host.disk.hard_state(), host.disk.last());
    let known = 128 * term.0 + standing + 16 * last.term.0 + last.index.0 + commit.0;
    let kept = hard_state.term.0 + u64::from(hard_state.vote.is_some());
    let kept = 2 * kept + 16 * durable.term.0 + durable.index.0;
    let peers = host.raft.peers().into_iter();
    let told: u64 = peers.map(|peer| 2 * peer.match_index.0 + peer.next_index.0).sum();
    u32::try_from(known + kept + told).expect("bounds are small")
}
