//! All states within the bounds, one portion of the frontier after the other (see
//! [`super::order`] for what comes first).
//!
//! Threads compute what follows the states of a portion, each those of a part of its own; then one
//! thread adds what is new, in the order of the portion. So the order of discovery, and with it every
//! figure and every path, does not depend on how many threads there are.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use raft_core::Envelope;

use super::bounds::{Bounds, position};
use super::host::Host;
use super::mail::Mail;
use super::order::{Frontier, Order};
#[cfg(test)]
use super::path::Act;
use super::start::Start;
use super::store::Store;
use super::symmetry::Origin;
use super::visited::Visited;
use super::worker::{Found, Worker};

/// The states of one portion.
const PORTION: usize = 1 << 16;

/// The states that a thread takes at once.
const PART: usize = 1 << 10;

/// How far an exploration has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Distinct states visited.
    pub states: usize,
    /// Steps taken, also those that led to a state visited before.
    pub transitions: u64,
    /// The greatest distance from the start at which a state was found.
    pub depth: usize,
    /// States whose successors are not computed yet.
    pub frontier: usize,
    /// Bytes that the visited states take.
    pub bytes: usize,
}

/// An exploration under way.
#[derive(Debug)]
pub(crate) struct Search {
    pub(super) bounds: Bounds,
    order: Order,
    pub(super) store: Mutex<Store>,
    pub(super) visited: Visited,
    /// The servers at the start, and the messages on their way.
    pub(super) start: Vec<Host>,
    pub(super) start_letters: Vec<Envelope>,
}

/// How an exploration ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Every state within the bounds was visited, and keeps every promise.
    Complete,
    /// It was stopped before that.
    Stopped,
    /// A step breaks a promise.
    Violated(Found),
}

impl Search {
    /// An exploration from a start, within bounds that fit it: those of [`Start::within`], or those of
    /// its founding.
    pub(crate) fn new(bounds: Bounds, start: Start, order: Order) -> Self {
        let alike = start.alike(&bounds);
        let mut store = Store::new(alike.iter().map(|kept| kept.exchange.clone()).collect());
        let start_letters: Vec<Envelope> =
            start.letters.iter().map(|letter| Envelope::clone(letter)).collect();
        let mut inboxes = vec![Vec::new(); bounds.servers()];
        let mut names = Vec::new();
        for letter in &start_letters {
            let origin = Origin::Start(position(letter.from));
            names.push(store.letter(letter.clone(), &origin));
            inboxes[position(letter.to)].extend(names.last());
        }
        for (exchange, kept) in alike.iter().enumerate() {
            for (name, image) in names.iter().zip(&kept.letters) {
                store.note_letter(exchange, *name, names[*image]);
            }
        }
        let mut state = Vec::new();
        for (host, inbox) in start.hosts.iter().zip(inboxes) {
            state.push(store.start(host.clone()));
            state.push(store.inbox(inbox));
        }
        state.push(store.ghosts.name(start.ghost));
        let store = Mutex::new(store);
        // The first state has to be hurried and settled like all that follow it.
        Worker::new(&bounds, &store).settle_all(&mut state);
        let mut visited = Visited::new(state.len());
        state.extend([u32::MAX, u32::MAX]);
        visited.insert(&state, true, &mut Mail::new(&bounds, &store));
        Self { bounds, order, store, visited, start: start.hosts, start_letters }
    }

    /// What leads to a state that was visited after the start.
    #[cfg(test)]
    pub(crate) fn path_to(&self, at: usize) -> Vec<Act> {
        let (parent, step) = self.visited.parent(at);
        self.path(parent, step).expect("a way within the bounds is real")
    }

    /// Explores until the end, with so many threads.
    pub(crate) fn run(
        &mut self,
        jobs: usize,
        stop: &AtomicBool,
        mut tell: impl FnMut(&Progress),
    ) -> (End, Progress) {
        let mut progress = Progress::default();
        let Self { bounds, store, visited, order, .. } = self;
        let mut workers: Vec<Worker<'_>> = (0..jobs).map(|_| Worker::new(bounds, store)).collect();
        let mut frontier = Frontier::new(*order, store);
        frontier.add(visited, 0);
        while let Some(portion) = frontier.take(PORTION) {
            let portion: Vec<u32> =
                portion.into_iter().filter(|at| visited.close(*at as usize)).collect();
            let found = explore(&mut workers, visited, &portion, &mut frontier);
            progress.states = visited.count();
            progress.transitions = workers.iter().map(|worker| worker.transitions).sum();
            progress.depth = frontier.depth;
            progress.frontier = frontier.len;
            progress.bytes = visited.bytes();
            tell(&progress);
            if let Some(found) = found {
                return (End::Violated(found), progress);
            }
            if stop.load(Ordering::Relaxed) {
                return (End::Stopped, progress);
            }
        }
        (End::Complete, progress)
    }
}

/// Computes what follows a portion and adds what is new.
fn explore(
    workers: &mut [Worker<'_>],
    visited: &mut Visited,
    portion: &[u32],
    frontier: &mut Frontier<'_>,
) -> Option<Found> {
    // What is alike is computed side by side, since it is looked up in the same places.
    let mut alike: Vec<((u64, u64), u32)> = Vec::with_capacity(portion.len());
    alike.extend((0u32..).zip(portion).map(|(place, at)| (visited.likeness(*at as usize), place)));
    alike.sort_unstable();
    let sorted: Vec<u32> = alike.iter().map(|(_, place)| portion[*place as usize]).collect();
    let taken: Vec<u64> = workers.iter().map(|worker| worker.transitions).collect();
    let results = follow_all(workers, visited, &sorted);
    if results.iter().any(|followed| followed.found.is_some()) {
        // The first broken promise is that of the first state.
        for (worker, taken) in workers.iter_mut().zip(taken) {
            worker.transitions = taken;
        }
        let results = follow_all(workers, visited, portion);
        return add(&results, 0..portion.len(), workers, visited, frontier);
    }
    let mut order = vec![0; portion.len()];
    for (sorted, (_, place)) in alike.iter().enumerate() {
        order[*place as usize] = sorted;
    }
    add(&results, order.into_iter(), workers, visited, frontier)
}

/// Adds what is new after the states of a portion, in this order, up to a broken promise.
fn add(
    results: &[Followed],
    order: impl Iterator<Item = usize>,
    workers: &mut [Worker<'_>],
    visited: &mut Visited,
    frontier: &mut Frontier<'_>,
) -> Option<Found> {
    let is_breadth_first = frontier.order == Order::Breadth;
    let mut guesses = Vec::new();
    for place in order {
        let followed = &results[place / PART];
        let records = followed.after(place % PART);
        visited.fetch(records, &mut guesses);
        for record in records.chunks_exact(visited.stride()) {
            if let Some(at) = visited.insert(record, is_breadth_first, &mut workers[0].letters) {
                frontier.add(visited, at);
            }
        }
        if let Some(found) = &followed.found
            && place % PART + 1 == followed.ends.len()
        {
            return Some(found.clone());
        }
    }
    None
}

fn follow_all(workers: &mut [Worker<'_>], visited: &Visited, states: &[u32]) -> Vec<Followed> {
    let parts: Vec<&[u32]> = states.chunks(PART).collect();
    if workers.len() == 1 || parts.len() == 1 {
        parts.iter().map(|part| follow(&mut workers[0], visited, part)).collect()
    } else {
        in_parallel(workers, visited, &parts)
    }
}

/// What follows the states of a part, as far as nothing is broken.
#[derive(Debug, Default)]
struct Followed {
    /// Without what was known already.
    records: Vec<u32>,
    /// Where the records end that follow each state.
    ends: Vec<usize>,
    /// What is broken by a step from the last one.
    found: Option<Found>,
}

impl Followed {
    /// The records of what follows a state of the part.
    fn after(&self, place: usize) -> &[u32] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.records[start..self.ends[place]]
    }
}

/// The states whose successors are looked up together.
const GROUP: usize = 16;

fn follow(worker: &mut Worker<'_>, visited: &Visited, part: &[u32]) -> Followed {
    let mut followed = Followed::default();
    let mut guesses = Vec::new();
    for group in part.chunks(GROUP) {
        let Followed { records, ends, found } = &mut followed;
        let (first, start) = (ends.len(), records.len());
        for at in group.iter().map(|at| *at as usize) {
            *found = worker.expand(at, visited.state(at), records).err();
            ends.push(records.len());
            if found.is_some() {
                break;
            }
        }
        visited.fetch(&records[start..], &mut guesses);
        keep_new(worker, visited, records, start, &mut ends[first..]);
        if found.is_some() {
            break;
        }
    }
    followed
}

/// Keeps of the records from a place on those that are not known. Most of them are; what is left is
/// added in order, by one thread.
fn keep_new(
    worker: &mut Worker<'_>,
    visited: &Visited,
    records: &mut Vec<u32>,
    start: usize,
    ends: &mut [usize],
) {
    let stride = visited.stride();
    let (mut next, mut kept) = (start, start);
    for end in ends {
        while next < *end {
            if !visited.contains(&records[next..next + stride - 2], &mut worker.letters) {
                records.copy_within(next..next + stride, kept);
                kept += stride;
            }
            next += stride;
        }
        *end = kept;
    }
    records.truncate(kept);
}

fn in_parallel(workers: &mut [Worker<'_>], visited: &Visited, parts: &[&[u32]]) -> Vec<Followed> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results: Vec<Mutex<Followed>> = parts.iter().map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for worker in workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(part) = parts.get(at) else { break };
                    let followed = follow(worker, visited, part);
                    *results[at].lock().expect("each part has one writer") = followed;
                }
            });
        }
    });
    let inner = |result: Mutex<Followed>| result.into_inner().expect("its writer has ended");
    results.into_iter().map(inner).collect()
}
