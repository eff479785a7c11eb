//! The keys of a history, one after the other, and in turns if they are hard.
//!
//! A history is linearizable if it is so for every key by itself (Herlihy and Wing's locality). Each
//! key has a few steps at first; those that need more have turns of growing length, so that one hard
//! key does not keep the search from a violation elsewhere.

use super::history::History;
use super::program::{Program, Tables, event};
use super::search::{Found, Search};
use super::tree::Move;
use super::witness;

/// How much a search may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of all keys together; one is a configuration from which everything is tried.
    pub steps: u64,
    /// Bytes that the search of one key may hold.
    pub bytes: usize,
    /// Whether orders are wanted, which takes longer than to find out that there are some.
    pub orders: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: u64::MAX, bytes: 2 << 30, orders: true }
    }
}

/// What is known of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order for every key: the places of its operations in [`History::operations`]; an
    /// update of unknown outcome is among them only if it took effect.
    Linearizable(Vec<Vec<u32>>),
    /// For this key there is none.
    Violated {
        /// The key.
        key: u32,
    },
    /// The search was given up.
    Unknown {
        /// A key that was not decided.
        key: u32,
        /// Why.
        why: Stopped,
    },
}

/// Why a search was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was told to stop, or has made as many steps as it may.
    Steps,
    /// It takes more memory than it may.
    Memory,
    /// More operations are under way at once than it can tell apart.
    Width,
}

/// Steps that each key has at first, and before somebody is asked whether to go on.
const STEPS: u64 = 4_096;

/// A search of a key, with as many bits as it needs.
#[derive(Debug)]
enum Sized {
    One(Box<Search<1>>),
    Two(Box<Search<2>>),
    Four(Box<Search<4>>),
    Sixteen(Box<Search<16>>),
    Most(Box<Search<64>>),
}

impl Sized {
    fn run(&mut self, steps: u64) -> Option<Found> {
        match self {
            Self::One(search) => search.run(steps),
            Self::Two(search) => search.run(steps),
            Self::Four(search) => search.run(steps),
            Self::Sixteen(search) => search.run(steps),
            Self::Most(search) => search.run(steps),
        }
    }

    fn program(&self) -> &Program {
        match self {
            Self::One(search) => &search.program,
            Self::Two(search) => &search.program,
            Self::Four(search) => &search.program,
            Self::Sixteen(search) => &search.program,
            Self::Most(search) => &search.program,
        }
    }

    /// The order that some moves mean, of what ends before an event of the history.
    fn order(&self, history: &History, path: &[(u32, Vec<Move>)], cut: u32) -> Vec<u32> {
        let program = self.program();
        let end = u32::try_from(program.events.len()).expect("a history counts its events");
        let mut order = witness::order(history, program, path, (end, cut));
        let must = |op: &u32| history.operations[*op as usize].ends_before(cut);
        order.extend(program.beyond().filter(must));
        order
    }

    /// The order that reaches furthest of those that were tried, and the operation at whose end it
    /// stops.
    fn longest(&self, history: &History) -> (Vec<u32>, u32) {
        let (until, path) = match self {
            Self::One(search) => search.longest(),
            Self::Two(search) => search.longest(),
            Self::Four(search) => search.longest(),
            Self::Sixteen(search) => search.longest(),
            Self::Most(search) => search.longest(),
        };
        let program = self.program();
        let stops_at = program.ops[program.events[until as usize].op as usize].source;
        (witness::order(history, program, &path, (until, u32::MAX)), stops_at)
    }
}

/// Judges histories; what it has allocated serves again.
#[derive(Debug, Default)]
pub struct Judge {
    tables: Tables,
    narrow: Option<Box<Search<1>>>,
    events: Vec<u32>,
    /// By key: where its events begin.
    starts: Vec<usize>,
}

impl Judge {
    /// A judge that has judged nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges a history, unless `stop` says that it is enough; it is asked now and then.
    pub fn judge(
        &mut self,
        history: &History,
        limits: Limits,
        mut stop: impl FnMut() -> bool,
    ) -> Verdict {
        self.split(history);
        let mut orders = Vec::new();
        orders.resize(history.keys(), Vec::new());
        let mut turns = Turns { hard: Vec::new(), left: limits.steps, given_up: None };
        for key in 0..history.keys() {
            let number = u32::try_from(key).expect("keys have numbers");
            let events = std::mem::take(&mut self.events);
            let these = &events[self.starts[key]..self.starts[key + 1]];
            let search = self.begin(history, these, &[], limits);
            self.events = events;
            let mut search = match search {
                Ok(search) => search,
                Err(why) => {
                    turns.given_up = Some((number, why));
                    continue;
                }
            };
            match turns.run(&mut search, STEPS) {
                None => turns.hard.push((number, search)),
                Some(Found::Nothing) => return Verdict::Violated { key: number },
                Some(Found::Full) => turns.given_up = Some((number, Stopped::Memory)),
                Some(Found::Order(path)) => {
                    if limits.orders {
                        orders[key] = search.order(history, &path, u32::MAX);
                    }
                    self.recycle(search);
                }
            }
        }
        turns.finish(history, &mut orders, limits, &mut stop)
    }

    /// Whether there is an order for these events of one key; `None`: it was not found out. The
    /// operations that are `free`, by number, may take effect as often as anybody likes.
    pub(super) fn is_fine(
        &mut self,
        history: &History,
        events: &[u32],
        free: &[bool],
        limits: Limits,
        stop: &mut impl FnMut() -> bool,
    ) -> Option<bool> {
        let (found, search) = self.search(history, events, free, limits, stop)?;
        self.recycle(search);
        match found {
            Found::Order(_) => Some(true),
            Found::Nothing => Some(false),
            Found::Full => None,
        }
    }

    /// An order for the first events of one key, if it is found: of all operations that end among
    /// them, and of others if these take effect. The next event is number `cut` of the history.
    pub(super) fn order(
        &mut self,
        history: &History,
        (events, cut): (&[u32], u32),
        limits: Limits,
        stop: &mut impl FnMut() -> bool,
    ) -> Option<Vec<u32>> {
        let (found, search) = self.search(history, events, &[], limits, stop)?;
        let Found::Order(path) = found else { return None };
        let order = search.order(history, &path, cut);
        self.recycle(search);
        Some(order)
    }

    fn search(
        &mut self,
        history: &History,
        events: &[u32],
        free: &[bool],
        limits: Limits,
        stop: &mut impl FnMut() -> bool,
    ) -> Option<(Found, Sized)> {
        let mut search = self.begin(history, events, free, limits).ok()?;
        let mut left = limits.steps;
        loop {
            let steps = left.min(STEPS);
            left -= steps;
            match search.run(steps) {
                None if left == 0 || stop() => return None,
                None => {}
                Some(found) => return Some((found, search)),
            }
        }
    }

    /// The order that reaches furthest of those that are tried for events of one key that have none,
    /// and the operation at whose end it stops. One that reaches further need not be tried, if nothing
    /// can come after it.
    pub(super) fn longest(
        &mut self,
        history: &History,
        events: &[u32],
        limits: Limits,
        stop: &mut impl FnMut() -> bool,
    ) -> Option<(Vec<u32>, u32)> {
        let mut search = self.begin(history, events, &[], limits).ok()?;
        while search.run(STEPS).is_none() {
            if stop() {
                return None;
            }
        }
        Some(search.longest(history))
    }

    /// The events of each key, in order, as far as they matter.
    pub(super) fn events_of(&mut self, history: &History, key: u32) -> Vec<u32> {
        self.split(history);
        let key = key as usize;
        self.events[self.starts[key]..self.starts[key + 1]].to_vec()
    }

    fn begin(
        &mut self,
        history: &History,
        events: &[u32],
        free: &[bool],
        limits: Limits,
    ) -> Result<Sized, Stopped> {
        let bytes = limits.bytes;
        let mut search = self.narrow.take().unwrap_or_else(|| Box::new(Search::new(bytes)));
        search.program.load(history, events, free, &mut self.tables);
        if search.fits() {
            search.start();
            return Ok(Sized::One(search));
        }
        let program = std::mem::take(&mut search.program);
        self.narrow = Some(search);
        match program.slots {
            0..=128 => Ok(Sized::Two(Search::boxed(program, bytes))),
            129..=256 => Ok(Sized::Four(Search::boxed(program, bytes))),
            257..=1024 => Ok(Sized::Sixteen(Search::boxed(program, bytes))),
            1025..=4096 => Ok(Sized::Most(Search::boxed(program, bytes))),
            4097.. => Err(Stopped::Width),
        }
    }

    fn recycle(&mut self, search: Sized) {
        match search {
            Sized::One(search) => self.narrow = Some(search),
            Sized::Two(_) | Sized::Four(_) | Sized::Sixteen(_) | Sized::Most(_) => {}
        }
    }

    /// Sorts the events of a history by key.
    fn split(&mut self, history: &History) {
        let Self { events, starts, .. } = self;
        let mut all = vec![u32::MAX; history.events as usize];
        starts.clear();
        starts.resize(history.keys() + 2, 0);
        for (number, operation) in history.operations.iter().enumerate() {
            all[operation.call as usize] = event(number, false);
            starts[operation.key as usize + 2] += 1;
            if let Some(end) = operation.end {
                all[end as usize] = event(number, true);
                starts[operation.key as usize + 2] += 1;
            }
        }
        all.retain(|event| *event != u32::MAX);
        for key in 2..starts.len() {
            starts[key] += starts[key - 1];
        }
        if history.keys() == 1 {
            *events = all;
            starts[1] = events.len();
            return;
        }
        events.clear();
        events.resize(all.len(), 0);
        for event in all {
            let key = history.operations[(event >> 1) as usize].key as usize;
            events[starts[key + 1]] = event;
            starts[key + 1] += 1;
        }
    }
}

/// Keys that are not decided.
struct Turns {
    hard: Vec<(u32, Sized)>,
    left: u64,
    given_up: Option<(u32, Stopped)>,
}

impl Turns {
    fn run(&mut self, search: &mut Sized, steps: u64) -> Option<Found> {
        let steps = steps.min(self.left);
        self.left -= steps;
        search.run(steps)
    }

    fn finish(
        mut self,
        history: &History,
        orders: &mut Vec<Vec<u32>>,
        limits: Limits,
        stop: &mut impl FnMut() -> bool,
    ) -> Verdict {
        let mut rounds = 1;
        while !self.hard.is_empty() {
            let mut still = Vec::new();
            for (key, mut search) in std::mem::take(&mut self.hard) {
                let mut found = None;
                for _ in 0..rounds {
                    if self.left == 0 || stop() {
                        return Verdict::Unknown { key, why: Stopped::Steps };
                    }
                    found = self.run(&mut search, STEPS);
                    if found.is_some() {
                        break;
                    }
                }
                match found {
                    None => still.push((key, search)),
                    Some(Found::Nothing) => return Verdict::Violated { key },
                    Some(Found::Full) => self.given_up = Some((key, Stopped::Memory)),
                    Some(Found::Order(path)) => {
                        if limits.orders {
                            orders[key as usize] = search.order(history, &path, u32::MAX);
                        }
                    }
                }
            }
            self.hard = still;
            rounds *= 2;
        }
        match self.given_up {
            Some((key, why)) => Verdict::Unknown { key, why },
            None => Verdict::Linearizable(std::mem::take(orders)),
        }
    }
}
