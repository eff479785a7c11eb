//! Which of the images of a state stands for all of them.

use std::sync::Mutex;

use super::bounds::{Bounds, SERVERS_MAX};
use super::store::{IDLE, Store};
use super::symmetry::{Exchange, exchanges};
use super::worker::history;

/// The images that a worker knows.
#[derive(Debug)]
pub(crate) struct Canon {
    exchanges: Vec<Exchange>,
    hosts: Known,
    inboxes: Known,
    ghosts: Known,
}

/// By name, and under each exchange of names, side by side: the image and its hash.
type Known = Vec<(u32, u64)>;

impl Canon {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let exchanges = exchanges(bounds);
        Self { exchanges, hosts: Vec::new(), inboxes: Vec::new(), ghosts: Vec::new() }
    }

    /// Replaces a state by the one of its images with the smallest hashes: first those of the
    /// servers, which nearly always decide, then the others. Returns the exchange of names.
    pub(crate) fn canonize(
        &mut self,
        state: &mut [u32],
        bounds: &Bounds,
        store: &Mutex<Store>,
    ) -> usize {
        if self.exchanges.len() == 1 {
            return 0;
        }
        let mut best = self.hosts(0, state, bounds, store);
        let mut chosen = 0;
        for exchange in 1..self.exchanges.len() {
            let hashes = self.hosts(exchange, state, bounds, store);
            let is_less = hashes < best
                || hashes == best
                    && self.rest(exchange, state, bounds, store)
                        < self.rest(chosen, state, bounds, store);
            if is_less {
                (best, chosen) = (hashes, exchange);
            }
        }
        if chosen > 0 {
            self.exchange(chosen, state, bounds, store);
        }
        chosen
    }

    fn exchange(
        &mut self,
        chosen: usize,
        state: &mut [u32],
        bounds: &Bounds,
        store: &Mutex<Store>,
    ) {
        let mut old = [0; 2 * SERVERS_MAX];
        let width = 2 * bounds.servers();
        old[..width].copy_from_slice(&state[..width]);
        for server in 0..bounds.servers() {
            let to = self.exchanges[chosen][server];
            state[2 * to] = self.host(chosen, old[2 * server], bounds, store).0;
            state[2 * to + 1] = self.inbox(chosen, old[2 * server + 1], bounds, store).0;
        }
        state[width] = self.ghost(chosen, state[width], store).0;
    }

    fn hosts(
        &mut self,
        exchange: usize,
        state: &[u32],
        bounds: &Bounds,
        store: &Mutex<Store>,
    ) -> [u64; SERVERS_MAX] {
        let mut hashes = [0; SERVERS_MAX];
        for server in 0..bounds.servers() {
            let to = self.exchanges[exchange][server];
            hashes[to] = self.host(exchange, state[2 * server], bounds, store).1;
        }
        hashes
    }

    fn rest(
        &mut self,
        exchange: usize,
        state: &[u32],
        bounds: &Bounds,
        store: &Mutex<Store>,
    ) -> ([u64; SERVERS_MAX], u64) {
        let mut hashes = [0; SERVERS_MAX];
        for server in 0..bounds.servers() {
            let to = self.exchanges[exchange][server];
            hashes[to] = self.inbox(exchange, state[2 * server + 1], bounds, store).1;
        }
        (hashes, self.ghost(exchange, history(state), store).1)
    }

    fn host(
        &mut self,
        exchange: usize,
        name: u32,
        bounds: &Bounds,
        store: &Mutex<Store>,
    ) -> (u32, u64) {
        let place = (exchange, self.exchanges.len());
        lookup(&mut self.hosts, name, place, store, |store| {
            let image = store.host_image(bounds, exchange, name);
            (image, store.hosts.hash(image))
        })
    }

    fn inbox(
        &mut self,
        exchange: usize,
        name: u32,
        bounds: &Bounds,
        store: &Mutex<Store>,
    ) -> (u32, u64) {
        let place = (exchange, self.exchanges.len());
        lookup(&mut self.inboxes, name, place, store, |store| {
            let image = store.inbox_image(bounds, exchange, name);
            (image, store.inbox_hash(image))
        })
    }

    fn ghost(&mut self, exchange: usize, name: u32, store: &Mutex<Store>) -> (u32, u64) {
        let place = (exchange, self.exchanges.len());
        lookup(&mut self.ghosts, name, place, store, |store| {
            let image = store.ghost_image(exchange, name);
            (image, store.ghosts.hash(image))
        })
    }
}

fn lookup(
    known: &mut Known,
    name: u32,
    (exchange, exchanges): (usize, usize),
    store: &Mutex<Store>,
    find: impl FnOnce(&mut Store) -> (u32, u64),
) -> (u32, u64) {
    let at = name as usize * exchanges + exchange;
    if let Some(image) = known.get(at).filter(|(image, _)| *image != IDLE) {
        return *image;
    }
    let image = find(&mut store.lock().expect("no thread panics with the store in hand"));
    if known.len() <= at {
        known.resize(at + 1, (IDLE, 0));
    }
    known[at] = image;
    image
}
