//! What of an exploration can be compared with another one: servers and history of all states.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::atomic::AtomicBool;

use rustc_hash::FxBuildHasher;

use super::bounds::Bounds;
use super::canon::Canon;
use super::host::Host;
use super::order::Order;
use super::search::{End, Search};
use super::start::Start;

/// What was visited.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) states: usize,
    /// For each state: a hash of servers and history, and those of its images.
    pub(crate) images: BTreeSet<Vec<u64>>,
}

impl Seen {
    /// Explores to the end, within bounds that fit the start.
    pub(crate) fn from(start: &Start, bounds: &Bounds) -> Self {
        Self::by(start, bounds, |host| FxBuildHasher.hash_one(host))
    }

    /// The same, with what is looked at of a server.
    pub(crate) fn by(start: &Start, bounds: &Bounds, look: impl Fn(&Host) -> u64) -> Self {
        let order = if bounds.subsume { Order::Achievement } else { Order::Breadth };
        let mut search = Search::new(bounds.clone(), start.clone(), order);
        let (end, progress) = search.run(1, &AtomicBool::new(false), |_| {});
        assert!(matches!(end, End::Complete), "{end:?}");
        let exchanges = search.store.get_mut().expect("no thread panics").exchanges.clone();
        let mut canon = Canon::new(exchanges.clone());
        let mut looks: BTreeMap<u32, u64> = BTreeMap::new();
        let mut image = |at: usize, exchange: usize| {
            let mut state = search.visited.state(at).to_vec();
            canon.exchange(exchange, &mut state, &search.bounds, &search.store);
            let store = search.store.lock().expect("no thread panics");
            let (history, servers) = state.split_last().expect("a state is never empty");
            let mut look =
                |host: &u32| *looks.entry(*host).or_insert_with(|| look(store.hosts.get(*host)));
            let servers = servers.iter().step_by(2).map(&mut look);
            let group: Vec<u64> = servers.chain([store.ghosts.hash(*history)]).collect();
            FxBuildHasher.hash_one(group)
        };
        let mut images = |at: usize| {
            let mut images: Vec<u64> = (0..exchanges.len()).map(|by| image(at, by)).collect();
            images.sort_unstable();
            images
        };
        let images = (0..search.visited.len()).map(&mut images).collect();
        Self { states: progress.states, images }
    }

    /// All of them.
    pub(crate) fn groups(&self) -> BTreeSet<u64> {
        self.images.iter().flatten().copied().collect()
    }
}
