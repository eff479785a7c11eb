//! Which of the images of a state stands for all of them.

use std::cmp::Ordering;
use std::sync::Mutex;

use super::bounds::{Bounds, SERVERS_MAX};
use super::store::{IDLE, Store};
use super::symmetry::Exchange;
use super::worker::history;

/// The images that a worker knows.
#[derive(Debug)]
pub(crate) struct Canon {
    exchanges: Vec<Exchange>,
    /// For each exchange: who goes to each place.
    comers: Vec<Exchange>,
    hosts: Known,
    inboxes: Known,
    ghosts: Known,
}

/// Images by name, and under each exchange of names, side by side; and their hashes, which the images
/// themselves are rarely looked at for.
#[derive(Debug, Default)]
struct Known {
    images: Vec<u32>,
    hashes: Vec<u64>,
}

/// In the place of a hash that is not known, or is this one.
const UNKNOWN: u64 = u64::MAX;

impl Canon {
    pub(crate) fn new(exchanges: Vec<Exchange>) -> Self {
        let back = |exchange: &Exchange| {
            let comer = |place| exchange.iter().position(|to| *to == place);
            let comer = |place| comer(place).expect("an exchange reaches every place");
            (0..exchange.len()).map(comer).collect()
        };
        let comers = exchanges.iter().map(back).collect();
        let [hosts, inboxes, ghosts] = [(); 3].map(|()| Known::default());
        Self { exchanges, comers, hosts, inboxes, ghosts }
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
        let mut best = [u64::MAX; SERVERS_MAX];
        let mut chosen = 0;
        for exchange in 0..self.exchanges.len() {
            let order = self.compare(exchange, &mut best, state, bounds, store);
            let is_less = order == Ordering::Less
                || order == Ordering::Equal
                    && self.rest(exchange, state, bounds, store)
                        < self.rest(chosen, state, bounds, store);
            if is_less {
                chosen = exchange;
            }
        }
        if chosen > 0 {
            self.exchange(chosen, state, bounds, store);
        }
        chosen
    }

    /// Compares the hashes of the servers in an image of a state with the best ones so far, which it
    /// replaces if they are smaller. Mostly the first place decides.
    fn compare(
        &mut self,
        exchange: usize,
        best: &mut [u64; SERVERS_MAX],
        state: &[u32],
        bounds: &Bounds,
        store: &Mutex<Store>,
    ) -> Ordering {
        let mut order = Ordering::Equal;
        for (place, best) in best.iter_mut().enumerate().take(bounds.servers()) {
            let comer = self.comers[exchange][place];
            let hash = self.host_hash(exchange, state[2 * comer], bounds, store);
            if order == Ordering::Equal {
                order = hash.cmp(best);
            }
            if order == Ordering::Greater {
                return order;
            }
            *best = hash;
        }
        order
    }

    /// Replaces a state by its image under an exchange.
    pub(crate) fn exchange(
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

    fn host_hash(
        &mut self,
        exchange: usize,
        name: u32,
        bounds: &Bounds,
        store: &Mutex<Store>,
    ) -> u64 {
        let at = name as usize * self.exchanges.len() + exchange;
        match self.hosts.hashes.get(at) {
            Some(hash) if *hash != UNKNOWN => *hash,
            Some(_) | None => self.host(exchange, name, bounds, store).1,
        }
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
    if let Some(image) = known.images.get(at).filter(|image| **image != IDLE) {
        return (*image, known.hashes[at]);
    }
    let image = find(&mut store.lock().expect("no thread panics with the store in hand"));
    if known.images.len() <= at {
        known.images.resize((name as usize + 1) * exchanges, IDLE);
        known.hashes.resize(known.images.len(), UNKNOWN);
    }
    (known.images[at], known.hashes[at]) = image;
    image
}
