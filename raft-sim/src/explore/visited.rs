//! The states that were visited, in the order of their discovery: names, and how each was reached.
//!
//! A state of three servers takes 44 bytes, and its chain a place in the index.
//!
//! States are found by their servers and their history. Those that differ in nothing but messages
//! hang on one chain, since one of them may stand for another ([`Mail`]).

use std::hash::{Hash, Hasher};
use std::hint::black_box;

use rustc_hash::FxHasher;

use super::heads::Heads;
use super::mail::Mail;

/// The states of one segment: memory grows by these and is never copied.
const SEGMENT: usize = 1 << 16;

/// The end of a chain.
const END: u32 = u32::MAX;

/// In the place of a link: another state stands for this one.
const OUTDONE: u32 = u32::MAX - 1;

/// Visited states.
#[derive(Debug)]
pub(crate) struct Visited {
    /// Names in one state.
    width: usize,
    /// Names, then the state it was reached from and the step that led to it, then the next state
    /// that differs in messages alone.
    segments: Vec<Vec<u32>>,
    /// The first state of each chain.
    heads: Heads,
    /// How each state was found, by place.
    finds: Vec<Find>,
    outdone: usize,
}

/// How a state was found.
#[derive(Clone, Copy, Debug)]
struct Find {
    /// In how many steps.
    depth: u16,
    /// Whether what follows it is not computed yet.
    is_open: bool,
}

impl Visited {
    pub(crate) fn new(width: usize) -> Self {
        let heads = Heads::default();
        Self { width, segments: Vec::new(), heads, finds: Vec::new(), outdone: 0 }
    }

    /// How many states have a place here.
    pub(crate) fn len(&self) -> usize {
        self.finds.len()
    }

    /// How many of them nobody else stands for.
    pub(crate) fn count(&self) -> usize {
        self.len() - self.outdone
    }

    /// Names in a record that is to be added: those of the state, its parent and the step.
    pub(crate) fn stride(&self) -> usize {
        self.width + 2
    }

    fn record(&self, at: usize) -> &[u32] {
        let start = at % SEGMENT * (self.width + 3);
        &self.segments[at / SEGMENT][start..start + self.width + 3]
    }

    fn record_mut(&mut self, at: usize) -> &mut [u32] {
        let start = at % SEGMENT * (self.width + 3);
        &mut self.segments[at / SEGMENT][start..start + self.width + 3]
    }

    /// Numbers that states share which are looked up in the same places: by the servers at the first
    /// places and the history.
    pub(crate) fn likeness(&self, at: usize) -> (u64, u64) {
        let state = self.state(at);
        let mut servers = state[..self.width - 1].iter().step_by(2);
        let mut next = || u64::from(*servers.next().unwrap_or(&0));
        let first = (next() << 32) | next();
        (first, (next() << 32) | u64::from(state[self.width - 1]))
    }

    /// The names of a state.
    pub(crate) fn state(&self, at: usize) -> &[u32] {
        &self.record(at)[..self.width]
    }

    /// The state from which one was reached, and by which step.
    pub(crate) fn parent(&self, at: usize) -> (usize, u32) {
        let record = self.record(at);
        (record[self.width] as usize, record[self.width + 1])
    }

    /// In how many steps a state was found.
    pub(crate) fn depth(&self, at: usize) -> usize {
        usize::from(self.finds[at].depth)
    }

    /// What follows a state is computed now. `false`: another one stands for it.
    pub(crate) fn close(&mut self, at: usize) -> bool {
        self.finds[at].is_open = false;
        self.link(at) != OUTDONE
    }

    fn link(&self, at: usize) -> u32 {
        self.record(at)[self.width + 2]
    }

    /// The first state with these servers and this history.
    fn head(&self, state: &[u32]) -> Option<u32> {
        self.heads.find(hash(state), |at| is_alike(self.state(at as usize), state))
    }

    /// Reads what will be asked about these records. None of it is near, and where one waits for the
    /// other each costs more than a step: here they are fetched side by side.
    pub(crate) fn fetch(&self, records: &[u32], guesses: &mut Vec<u32>) {
        let records = records.chunks_exact(self.stride());
        let guess = |record: &[u32]| self.heads.guess(hash(&record[..self.width]));
        guesses.clear();
        guesses.extend(records.filter_map(guess));
        let read = |at: &u32| self.state(*at as usize)[0];
        black_box(guesses.iter().map(read).fold(0, |all, name| all ^ name));
    }

    /// Whether a state was visited, or one that stands for it.
    pub(crate) fn contains(&self, state: &[u32], mail: &mut Mail<'_>) -> bool {
        let mut at = self.head(state).unwrap_or(END);
        while at != END {
            if mail.stands_for(self.state(at as usize), state) {
                return true;
            }
            at = self.link(at as usize);
        }
        false
    }

    /// Adds a state with its parent and step, unless it was visited, or one that stands for it.
    /// Returns its place, unless it takes that of another one.
    ///
    /// It takes the place of those that it stands for and that are open; if `is_breadth_first`, only
    /// if it was found in no more steps.
    pub(crate) fn insert(
        &mut self,
        record: &[u32],
        is_breadth_first: bool,
        mail: &mut Mail<'_>,
    ) -> Option<u32> {
        let (state, depth) = (&record[..self.width], self.depth_after(record[self.width]));
        let link = self.width + 2;
        let head = self.head(state);
        let (mut taken, mut before) = (None, None);
        let mut next = head.unwrap_or(END);
        while next != END {
            let at = next as usize;
            next = self.link(at);
            if mail.stands_for(self.state(at), state) {
                assert!(taken.is_none(), "who stands for another one stands for all that it does");
                return None;
            }
            let Find { depth: known, is_open } = self.finds[at];
            let is_no_nearer = !is_breadth_first || known >= depth;
            let gives_way = is_open && is_no_nearer && mail.stands_for(state, self.state(at));
            match before {
                Some(before) if gives_way && taken.is_some() => {
                    self.record_mut(before)[link] = next;
                    self.record_mut(at)[link] = OUTDONE;
                    self.outdone += 1;
                    continue;
                }
                Some(_) | None if gives_way => taken = Some(at),
                Some(_) | None => {}
            }
            before = Some(at);
        }
        let Some(taken) = taken else { return Some(self.push(record, depth, head)) };
        self.record_mut(taken)[..link].copy_from_slice(record);
        self.finds[taken].depth = depth;
        None
    }

    fn depth_after(&self, parent: u32) -> u16 {
        let parent = self.finds.get(parent as usize);
        parent.map_or(0, |parent| parent.depth.saturating_add(1))
    }

    /// Adds a record behind the head of its chain, or as the head of a new one.
    fn push(&mut self, record: &[u32], depth: u16, head: Option<u32>) -> u32 {
        let at = u32::try_from(self.len()).ok().filter(|at| *at < OUTDONE);
        let at = at.expect("fewer than 2^32 states fit memory");
        if self.len().is_multiple_of(SEGMENT) {
            self.segments.push(Vec::with_capacity(SEGMENT * (self.width + 3)));
        }
        let next = head.map_or(END, |head| self.link(head as usize));
        let segment = self.segments.last_mut().expect("one was pushed");
        segment.extend_from_slice(record);
        segment.push(next);
        self.finds.push(Find { depth, is_open: true });
        if let Some(head) = head {
            let link = self.width + 2;
            self.record_mut(head as usize)[link] = at;
            return at;
        }
        self.heads.insert(hash(&record[..self.width]), at);
        at
    }

    /// Bytes of memory in use.
    pub(crate) fn bytes(&self) -> usize {
        let records = self.segments.len() * SEGMENT * (self.width + 3) * size_of::<u32>();
        let finds = self.finds.capacity() * size_of::<Find>();
        records + finds + self.heads.bytes()
    }
}

/// Whether states differ in nothing but messages.
fn is_alike(one: &[u32], other: &[u32]) -> bool {
    let servers = one.chunks_exact(2).zip(other.chunks_exact(2));
    one.last() == other.last()
        && servers.fold(true, |is_alike, (one, other)| is_alike & (one[0] == other[0]))
}

/// A hash of all but the messages.
fn hash(state: &[u32]) -> u64 {
    let mut hasher = FxHasher::default();
    state.last().hash(&mut hasher);
    state.chunks_exact(2).for_each(|server| hasher.write_u32(server[0]));
    hasher.finish()
}
