//! Breadth first: all states at one distance before any farther one, so that what is found first is
//! told by a shortest path.
//!
//! The frontier is taken in portions. Threads compute what follows the states of a portion, each
//! those of a part of its own; then one thread adds what is new, in the order of the portion. So the
//! order of discovery, and with it every figure and every path, does not depend on how many threads
//! there are.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use raft_core::Envelope;

use super::bounds::{Bounds, position};
use super::host::Host;
#[cfg(test)]
use super::path::Act;
use super::start::Start;
use super::store::Store;
use super::symmetry::{self, Origin};
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
    /// The distance of the frontier from the start.
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
    pub(crate) fn new(bounds: Bounds, start: Start) -> Self {
        let mut store = Store::new(symmetry::exchanges(&bounds));
        let start_letters: Vec<Envelope> =
            start.letters.iter().map(|letter| Envelope::clone(letter)).collect();
        let mut inboxes = vec![Vec::new(); bounds.servers()];
        for letter in &start_letters {
            let origin = Origin::Start(position(letter.from));
            inboxes[position(letter.to)].push(store.letter(letter.clone(), &origin));
        }
        let mut state = Vec::new();
        for (host, inbox) in start.hosts.iter().zip(inboxes) {
            state.push(store.start(host.clone()));
            state.push(store.inbox(inbox));
        }
        state.push(store.ghosts.name(start.ghost));
        let mut visited = Visited::new(state.len());
        state.extend([u32::MAX, u32::MAX]);
        visited.insert(&state);
        let store = Mutex::new(store);
        let mut search = Self { bounds, store, visited, start: start.hosts, start_letters };
        search.settle_start();
        search
    }

    /// The first state has to be settled like all that follow it.
    fn settle_start(&mut self) {
        let mut state = self.visited.state(0).to_vec();
        Worker::new(&self.bounds, &self.store).settle_all(&mut state);
        self.visited = Visited::new(state.len());
        state.extend([u32::MAX, u32::MAX]);
        self.visited.insert(&state);
    }

    /// What leads to a state that was visited after the start.
    #[cfg(test)]
    pub(crate) fn path_to(&self, at: usize) -> Vec<Act> {
        let (parent, step) = self.visited.parent(at);
        self.path(parent, step)
    }

    /// Explores until the end, with so many threads.
    pub(crate) fn run(
        &mut self,
        jobs: usize,
        stop: &AtomicBool,
        mut tell: impl FnMut(&Progress),
    ) -> (End, Progress) {
        let mut progress = Progress::default();
        let mut level = 0..1;
        let Self { bounds, store, visited, .. } = self;
        let mut workers: Vec<Worker<'_>> = (0..jobs).map(|_| Worker::new(bounds, store)).collect();
        while !level.is_empty() {
            let end = level.end;
            for start in level.clone().step_by(PORTION) {
                let portion = start..(start + PORTION).min(end);
                let found = explore(&mut workers, visited, portion.clone());
                progress.states = visited.len();
                progress.transitions = workers.iter().map(|worker| worker.transitions).sum();
                progress.frontier = visited.len() - portion.end;
                progress.bytes = visited.bytes();
                tell(&progress);
                if let Some(found) = found {
                    return (End::Violated(found), progress);
                }
                if stop.load(Ordering::Relaxed) {
                    return (End::Stopped, progress);
                }
            }
            level = end..visited.len();
            progress.depth += usize::from(!level.is_empty());
        }
        (End::Complete, progress)
    }
}

/// Computes what follows a portion and adds what is new.
fn explore(
    workers: &mut [Worker<'_>],
    visited: &mut Visited,
    portion: Range<usize>,
) -> Option<Found> {
    let parts: Vec<Range<usize>> =
        portion.clone().step_by(PART).map(|start| start..(start + PART).min(portion.end)).collect();
    let results = if workers.len() == 1 || parts.len() == 1 {
        parts.iter().map(|part| follow(&mut workers[0], visited, part.clone())).collect()
    } else {
        in_parallel(workers, visited, &parts)
    };
    for (records, found) in results {
        for record in records.chunks_exact(visited.stride()) {
            visited.insert(record);
        }
        if found.is_some() {
            return found;
        }
    }
    None
}

type Followed = (Vec<u32>, Option<Found>);

/// What follows the states of a part, as far as nothing is broken.
fn follow(worker: &mut Worker<'_>, visited: &Visited, part: Range<usize>) -> Followed {
    let mut records = Vec::new();
    let stride = visited.stride();
    for at in part {
        let start = records.len();
        if let Err(found) = worker.expand(at, visited.state(at), &mut records) {
            return (records, Some(found));
        }
        // Most of them are known; what is left is added in order, by one thread.
        let mut kept = start;
        let mut next = start;
        while next < records.len() {
            if !visited.contains(&records[next..next + stride - 2]) {
                records.copy_within(next..next + stride, kept);
                kept += stride;
            }
            next += stride;
        }
        records.truncate(kept);
    }
    (records, None)
}

fn in_parallel(
    workers: &mut [Worker<'_>],
    visited: &Visited,
    parts: &[Range<usize>],
) -> Vec<Followed> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results: Vec<Mutex<Followed>> = parts.iter().map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for worker in workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(part) = parts.get(at) else { break };
                    let followed = follow(worker, visited, part.clone());
                    *results[at].lock().expect("each part has one writer") = followed;
                }
            });
        }
    });
    let inner = |result: Mutex<Followed>| result.into_inner().expect("its writer has ended");
    results.into_iter().map(inner).collect()
}
