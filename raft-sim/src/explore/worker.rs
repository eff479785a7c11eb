//! What follows a state: every step of every server, by names.
//!
//! Nearly all of it is looking names up. A worker keeps what it has looked up before in tables of
//! its own, so that threads rarely meet at the common store.

pub(super) mod clocks;
mod settle;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard};

use hashbrown::HashMap;
use raft_core::{Incarnation, RoleName, Term};
use rustc_hash::FxBuildHasher;

use super::bounds::Bounds;
use super::canon::Canon;
use super::facts::Broken;
use super::ghost::{Ghost, Spent};
use super::host::Input;
use super::letters::{Future, Outlook};
use super::mail::Mail;
use super::pool::{Pool, Range};
use super::store::{IDLE, Store};
use crate::ideal_disk::Loss;

type Cache<V> = HashMap<u64, V, FxBuildHasher>;

/// One of the threads that search.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    bounds: &'a Bounds,
    store: &'a Mutex<Store>,
    canon: Canon,
    pub(super) letters: Mail<'a>,
    steps: Vec<Step>,
    /// The messages that steps send.
    sent: Pool<(u32, u32)>,
    /// The steps on menus and in the mail.
    listed: Pool<u32>,
    menus: Vec<Option<Menu>>,
    /// By server: the step that it takes at once where disks are fast, or [`IDLE`].
    hurried: Vec<Option<u32>>,
    /// By server and speed: the step of a clock, or [`IDLE`].
    clocks: Vec<Option<u32>>,
    /// By server and inbox: the steps that its messages lead to.
    mail: Cache<Range>,
    /// By server and history: the steps that clients and operators can ask for.
    requests: Cache<Range>,
    /// By inbox and message.
    posted: Cache<u32>,
    /// By server and inbox, for each outlook.
    settled: Vec<(Outlook, Cache<Settled>)>,
    /// By server.
    views: Vec<View>,
    /// By history and step.
    ghosts: Cache<u32>,
    spent: Vec<Spent>,
    /// By history: the term through which nobody will begin to lead.
    closed: Vec<Term>,
    /// By history and such a later term.
    closings: HashMap<(u32, Term), u32, FxBuildHasher>,
    pub(crate) transitions: u64,
}

/// What a worker keeps of a step.
#[derive(Clone, Copy, Debug)]
struct Step {
    to: u32,
    sent: Range,
    kind: Kind,
}

/// What else a step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing: the history stays as it is.
    Silent,
    /// The next history depends on this one and the step alone.
    Told,
    /// The other servers must be looked at.
    Judged,
    /// It leads beyond the bounds.
    Beyond,
}

/// What a server can do without a message or a request.
#[derive(Clone, Copy, Debug)]
struct Menu {
    /// Timers and completions.
    own: Range,
    crashes: Range,
    /// Crashes after which the disk has lost something.
    losses: Range,
}

/// What of a server decides about the messages of all.
#[derive(Clone, Copy, Debug)]
struct View {
    life: Incarnation,
    /// Whether anything hangs on time there.
    is_timed: bool,
    /// If it may not crash, and if it may.
    futures: [Future; 2],
}

impl View {
    fn future(&self, may_crash: bool) -> Future {
        self.futures[usize::from(may_crash)]
    }
}

/// An inbox of a server, settled.
#[derive(Clone, Copy, Debug)]
struct Settled {
    /// Without the messages that mean nothing any more.
    inbox: u32,
    /// What it makes the server say.
    echoes: Range,
}

/// A step that breaks an invariant.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The state before it.
    pub(crate) state: usize,
    pub(crate) step: u32,
    pub(crate) broken: Broken,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(bounds: &'a Bounds, store: &'a Mutex<Store>) -> Self {
        Self {
            bounds,
            store,
            canon: Canon::new(bounds),
            letters: Mail::new(bounds, store),
            steps: Vec::new(),
            sent: Pool::default(),
            listed: Pool::default(),
            menus: Vec::new(),
            hurried: Vec::new(),
            clocks: Vec::new(),
            mail: Cache::default(),
            requests: Cache::default(),
            posted: Cache::default(),
            settled: Vec::new(),
            views: Vec::new(),
            closed: Vec::new(),
            closings: HashMap::default(),
            ghosts: Cache::default(),
            spent: Vec::new(),
            transitions: 0,
        }
    }

    /// Puts what follows a state behind `out`: its names, `at`, and the step.
    ///
    /// # Errors
    /// The first step that breaks an invariant.
    pub(crate) fn expand(
        &mut self,
        at: usize,
        state: &[u32],
        out: &mut Vec<u32>,
    ) -> Result<(), Found> {
        let ghost = history(state);
        let may_crash = self.may_crash(ghost);
        for server in 0..self.bounds.servers() {
            let (host, inbox) = (state[2 * server], state[2 * server + 1]);
            let menu = self.menu(host);
            let crashes = if may_crash { menu.crashes } else { Range::default() };
            let losses =
                if may_crash { self.losses(state, server, menu) } else { Range::default() };
            let mail = self.mail(host, inbox);
            let lists = [menu.own, mail, crashes, losses, self.requests(host, ghost)];
            for list in lists {
                for position in list.indices() {
                    let step = self.listed.at(position);
                    self.take(at, state, server, step, out)?;
                }
            }
        }
        if self.bounds.leases { self.pass(at, state, out) } else { Ok(()) }
    }

    /// Takes a step: what the cluster is after it.
    fn take(
        &mut self,
        at: usize,
        state: &[u32],
        server: usize,
        name: u32,
        out: &mut Vec<u32>,
    ) -> Result<(), Found> {
        if self.step(name).kind == Kind::Beyond {
            return Ok(());
        }
        self.transitions += 1;
        let start = out.len();
        if let Err(broken) = self.follow(state, server, name, out) {
            out.truncate(start);
            return Err(Found { state: at, step: name, broken });
        }
        record(at, state, name, out);
        Ok(())
    }

    /// Puts the state that a step leads to behind `out`. Returns the exchange of names by which it
    /// was replaced.
    fn follow(
        &mut self,
        state: &[u32],
        server: usize,
        name: u32,
        out: &mut Vec<u32>,
    ) -> Result<usize, Broken> {
        let step = self.step(name);
        let start = out.len();
        out.extend_from_slice(state);
        let last = out.len() - 1;
        out[start + 2 * server] = step.to;
        let mut touched = 1 << server | self.post_all(&mut out[start..], step.sent);
        if step.kind != Kind::Silent {
            out[last] = self.witness(&out[start..=last], server, name, step.kind)?;
        }
        if self.is_hurried(out[last]) {
            if !self.is_hurried(history(state)) {
                touched = (1 << self.bounds.servers()) - 1;
            }
            touched |= self.hurry(&mut out[start..=last], touched)?;
        }
        Ok(self.finish(state, &mut out[start..=last], touched))
    }

    /// Does what comes of itself after a step from one state to another, where these servers have
    /// changed or have new messages. Returns the exchange of names by which the state was replaced.
    fn finish(&mut self, from: &[u32], state: &mut [u32], mut touched: u32) -> usize {
        if self.bounds.collect {
            let outlook = self.outlook(state);
            if outlook != self.outlook(from) {
                touched = (1 << self.bounds.servers()) - 1;
            }
            self.settle(state, outlook, touched);
        }
        let last = state.len() - 1;
        state[last] = self.close(state);
        self.canon.canonize(state, self.bounds, self.store)
    }

    /// By which exchange of names a state is replaced that a step leads to; `None` if the step
    /// breaks a promise.
    pub(crate) fn exchange_after(
        &mut self,
        state: &[u32],
        server: usize,
        name: u32,
    ) -> Option<usize> {
        let mut out = Vec::new();
        self.follow(state, server, name, &mut out).ok()
    }

    fn store(&self) -> MutexGuard<'a, Store> {
        self.store.lock().expect("no thread panics with the store in hand")
    }

    fn may_crash(&mut self, ghost: u32) -> bool {
        self.spent(ghost).crashes < self.bounds.crashes
    }

    fn spent(&mut self, ghost: u32) -> Spent {
        let known = self.spent.len();
        if ghost as usize >= known {
            let store = self.store();
            self.spent.extend(store.ghosts.from(known).iter().map(|ghost| ghost.spent));
            self.closed.extend(store.ghosts.from(known).iter().map(|ghost| ghost.closed));
        }
        self.spent[ghost as usize]
    }

    fn step(&mut self, name: u32) -> Step {
        let known = self.steps.len();
        if name as usize >= known {
            let store = self.store();
            for step in &store.steps[known..] {
                let sent = self.sent.add(step.sent.iter().map(|(to, letter)| {
                    (u32::try_from(*to).expect("a handful of servers"), *letter)
                }));
                let kind = if step.broken.is_some() {
                    Kind::Judged
                } else if step.is_beyond {
                    Kind::Beyond
                } else if step.facts.is_empty() && !step.input.is_bounded() {
                    Kind::Silent
                } else if Ghost::is_alone(&step.facts) {
                    Kind::Told
                } else {
                    Kind::Judged
                };
                self.steps.push(Step { to: step.to, sent, kind });
            }
        }
        self.steps[name as usize]
    }

    fn menu(&mut self, host: u32) -> Menu {
        let at = host as usize;
        if let Some(Some(menu)) = self.menus.get(at) {
            return *menu;
        }
        let mut store = self.store();
        let value = std::sync::Arc::clone(store.hosts.get(host));
        let mut own = Vec::new();
        if value.may_fire() {
            own.push(Input::Fire);
        }
        if value.has_clock() && value.raft.status().role != RoleName::Leader {
            own.push(Input::Campaign);
        }
        if self.bounds.check_quorum && value.may_be_silent() {
            own.push(Input::Silence);
        }
        if self.bounds.is_lossy() && value.may_be_impatient() {
            own.push(Input::Patience);
        }
        own.extend((1..=value.unsynced.len()).map(|batches| Input::Persist { batches }));
        let own = store.steps(self.bounds, host, own);
        let may_crash = self.bounds.crashes > 0;
        let crashes = value.crashes().filter(|_| may_crash);
        let crashes = store.steps(self.bounds, host, crashes);
        let losses = value.losses().filter(|_| may_crash && self.bounds.is_lossy());
        let losses = store.steps(self.bounds, host, losses);
        drop(store);
        let [own, crashes, losses] = [own, crashes, losses].map(|list| self.listed.add(list));
        let menu = Menu { own, crashes, losses };
        if self.menus.len() <= at {
            self.menus.resize(at + 1, None);
        }
        self.menus[at] = Some(menu);
        menu
    }

    /// Crashes after which the disk of a server has lost what it may still lose here.
    fn losses(&mut self, state: &[u32], server: usize, menu: Menu) -> Range {
        let spent = self.spent(history(state));
        let may_damage = spent.damages < self.bounds.damages;
        let may_lose_tail = spent.lost_tails < self.bounds.lost_tails;
        if !may_damage && !may_lose_tail {
            return Range::default();
        }
        let steps: Vec<u32> = menu.losses.indices().map(|at| self.listed.at(at)).collect();
        let store = self.store();
        let is_left = |name: &u32| {
            let Input::Crash { loss: Some(loss), .. } = store.steps[*name as usize].input else {
                return false;
            };
            match loss {
                Loss::Entry(_) => may_damage,
                Loss::Tail(_) => may_lose_tail,
            }
        };
        let may_lose = |name: &u32| self.bounds.beyond || store.can_bear(state, server, *name);
        let steps: Vec<u32> =
            steps.into_iter().filter(|name| is_left(name) && may_lose(name)).collect();
        drop(store);
        self.listed.add(steps)
    }

    /// The steps that the messages of an inbox lead to.
    fn mail(&mut self, host: u32, inbox: u32) -> Range {
        let key = pair(host, inbox);
        if let Some(steps) = self.mail.get(&key) {
            return *steps;
        }
        let mut store = self.store();
        let letters = std::sync::Arc::clone(store.inboxes.get(inbox));
        let mut steps: Vec<u32> =
            letters.iter().map(|letter| store.hear(self.bounds, host, *letter)).collect();
        steps.retain(|step| *step != IDLE);
        if self.bounds.collect {
            // What they make it say was said when the state was settled.
            steps.retain(|step| !store.steps[*step as usize].is_echo());
        }
        drop(store);
        let steps = self.listed.add(steps);
        self.mail.insert(key, steps);
        steps
    }

    /// What clients and operators may ask of a server now.
    fn requests(&mut self, host: u32, ghost: u32) -> Range {
        let key = pair(host, ghost);
        if let Some(steps) = self.requests.get(&key) {
            return *steps;
        }
        let spent = self.spent(ghost);
        let mut store = self.store();
        let inputs = self.bounds.requests(&store.hosts.get(host).raft.status(), spent);
        let steps = store.steps(self.bounds, host, inputs);
        drop(store);
        let steps = self.listed.add(steps);
        self.requests.insert(key, steps);
        steps
    }

    /// An inbox with one message more.
    fn post(&mut self, inbox: u32, letter: u32) -> u32 {
        let store = self.store;
        *self.posted.entry(pair(inbox, letter)).or_insert_with(|| {
            let mut store = store.lock().expect("no thread panics with the store in hand");
            let letters = store.inboxes.get(inbox).iter().copied().chain([letter]).collect();
            store.inbox(letters)
        })
    }

    /// All that a step has sent is in the mail. Returns the servers that it goes to.
    fn post_all(&mut self, state: &mut [u32], sent: Range) -> u32 {
        let mut heard = 0;
        for position in sent.indices() {
            let (to, letter) = self.sent.at(position);
            let inbox = 2 * to as usize + 1;
            state[inbox] = self.post(state[inbox], letter);
            heard |= 1 << to;
        }
        heard
    }

    /// The history after a step.
    fn witness(
        &mut self,
        state: &[u32],
        server: usize,
        name: u32,
        kind: Kind,
    ) -> Result<u32, Broken> {
        let ghost = history(state);
        let key = pair(ghost, name);
        if kind == Kind::Told
            && let Some(next) = self.ghosts.get(&key)
        {
            return Ok(*next);
        }
        let next = self.store().witness(state, server, name)?;
        if kind == Kind::Told {
            self.ghosts.insert(key, next);
        }
        Ok(next)
    }
}

/// Completes the record of a state that was just put behind `out`: how it was reached. A step that
/// leads nowhere leaves none.
fn record(at: usize, from: &[u32], step: u32, out: &mut Vec<u32>) {
    let start = out.len() - from.len();
    if out[start..] == *from {
        out.truncate(start);
    } else {
        out.push(u32::try_from(at).expect("states are counted in 32 bits"));
        out.push(step);
    }
}

/// A state ends with its history.
pub(crate) fn history(state: &[u32]) -> u32 {
    *state.last().expect("a state is never empty")
}

fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
