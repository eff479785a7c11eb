//! What follows a state: every step of every server, by names.
//!
//! Nearly all of it is looking names up. A worker keeps what it has looked up before in tables of
//! its own, so that threads rarely meet at the common store.

pub(super) mod clocks;
mod menu;
mod settle;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard};

use hashbrown::HashMap;
use raft_core::{Incarnation, Term};
use rustc_hash::FxBuildHasher;

use super::bounds::Bounds;
use super::canon::Canon;
use super::facts::Broken;
use super::flat::Flat;
use super::ghost::Ghost;
use super::mail::Mail;
use super::outlook::{Concern, Outlook};
use super::pool::{Pool, Range};
use super::spent::Spent;
use super::store::Store;

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
    /// Those lists among them that depend on a whole cluster: each is there once.
    losses: HashMap<Vec<u32>, Range, FxBuildHasher>,
    menus: Vec<Option<Menu>>,
    /// By server: the step that it takes at once where disks are fast, or [`IDLE`](super::store::IDLE).
    hurried: Vec<Option<u32>>,
    /// By server and speed: the step of a clock, or [`IDLE`](super::store::IDLE).
    clocks: Vec<Option<u32>>,
    /// By server and inbox: the steps that its messages lead to.
    mail: Flat<Range>,
    /// By server and history: the steps that clients and operators can ask for.
    requests: Flat<Range>,
    /// By inbox and message.
    posted: Flat<u32>,
    /// By server and inbox, for each outlook.
    settled: Vec<Flat<Settled>>,
    outlooks: Vec<Outlook>,
    /// By inbox: what of an outlook concerns it.
    concerns: Vec<Concern>,
    /// By outlook and concern: that part of the outlook.
    narrowed: Flat<u32>,
    /// Their places.
    outlook_places: HashMap<Outlook, usize, FxBuildHasher>,
    /// What settled inboxes make servers say; the first says nothing.
    echoes: Vec<Range>,
    /// By server.
    views: Vec<View>,
    /// By history and step.
    ghosts: Flat<u32>,
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
    is_campaign: bool,
    /// Whether it is to be covered when it is taken.
    is_uncovered: bool,
}

/// What else a step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing: the history stays as it is.
    Silent,
    /// The next history depends on this one and the step alone.
    Told,
    /// The same, if the other servers bear out what it says of them.
    Compared,
    /// The other servers must be looked at.
    Judged,
    /// It leads beyond the bounds.
    Beyond,
}

/// A state, with what of it is asked for again and again while its steps are followed.
#[derive(Clone, Copy, Debug)]
struct Parent<'s> {
    names: &'s [u32],
    may_crash: bool,
    /// A place among the outlooks, if messages are collected.
    outlook: usize,
}

/// What a server can do without a message or a request.
#[derive(Clone, Copy, Debug)]
struct Menu {
    /// Timers and completions.
    own: Range,
    crashes: Range,
    /// Crashes after which the disk has lost something.
    losses: Range,
    /// Whether clients or operators may ever ask it for anything.
    is_asked: bool,
}

/// What of a server decides about the messages of all: the numbers are small, and so is this.
#[derive(Clone, Copy, Debug)]
struct View {
    life: u32,
    /// The last term of which it is certain that it will not begin to lead it; if it may not crash, and
    /// if it may.
    closed: [u32; 2],
    /// See [`Future::is_informed`](super::outlook::Future::is_informed); the same.
    is_informed: [bool; 2],
    /// Whether anything hangs on time there.
    is_timed: bool,
}

impl View {
    fn life(&self) -> Incarnation {
        Incarnation(u64::from(self.life))
    }

    fn closed(&self, may_crash: bool) -> Term {
        Term(u64::from(self.closed[usize::from(may_crash)]))
    }

    fn is_informed(&self, may_crash: bool) -> bool {
        self.is_informed[usize::from(may_crash)]
    }
}

/// An inbox of a server, settled.
#[derive(Clone, Copy, Debug, Default)]
struct Settled {
    /// Without the messages that mean nothing any more.
    inbox: u32,
    /// What it makes the server say: a place among the echoes.
    echoes: u32,
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
        let exchanges =
            store.lock().expect("no thread panics with the store in hand").exchanges.clone();
        Self {
            bounds,
            store,
            canon: Canon::new(exchanges),
            letters: Mail::new(bounds, store),
            steps: Vec::new(),
            sent: Pool::default(),
            listed: Pool::default(),
            losses: HashMap::default(),
            menus: Vec::new(),
            hurried: Vec::new(),
            clocks: Vec::new(),
            mail: Flat::default(),
            requests: Flat::default(),
            posted: Flat::default(),
            settled: Vec::new(),
            outlooks: Vec::new(),
            concerns: Vec::new(),
            narrowed: Flat::default(),
            outlook_places: HashMap::default(),
            echoes: vec![Range::default()],
            views: Vec::new(),
            closed: Vec::new(),
            closings: HashMap::default(),
            ghosts: Flat::default(),
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
        let from = self.parent(state);
        let ghost = history(state);
        let may_crash = from.may_crash;
        for server in 0..self.bounds.servers() {
            let (host, inbox) = (state[2 * server], state[2 * server + 1]);
            let menu = self.menu(host);
            let crashes = if may_crash { menu.crashes } else { Range::default() };
            let losses = if may_crash || self.bounds.rot {
                self.losses(state, server, menu)
            } else {
                Range::default()
            };
            let mail = self.mail(host, inbox);
            let requests =
                if menu.is_asked { self.requests(host, ghost) } else { Range::default() };
            let lists = [menu.own, mail, crashes, losses, requests];
            for list in lists {
                for position in list.indices() {
                    let step = self.listed.at(position);
                    self.take(at, from, server, step, out)?;
                }
            }
        }
        if self.bounds.leases { self.pass(at, state, out) } else { Ok(()) }
    }

    /// Takes a step: what the cluster is after it.
    fn take(
        &mut self,
        at: usize,
        from: Parent<'_>,
        server: usize,
        name: u32,
        out: &mut Vec<u32>,
    ) -> Result<(), Found> {
        let Step { kind, is_campaign, is_uncovered, .. } = self.step(name);
        let most = self.bounds.campaigns;
        let is_spent = |spent: Spent| Some(spent.campaigns) == most;
        if kind == Kind::Beyond || (is_campaign && is_spent(self.spent(history(from.names)))) {
            return Ok(());
        }
        self.transitions += 1;
        if is_uncovered {
            self.steps[name as usize].is_uncovered = false;
            self.store().cover(name);
        }
        let start = out.len();
        if let Err(broken) = self.follow(from, server, name, out) {
            out.truncate(start);
            return Err(Found { state: at, step: name, broken });
        }
        record(at, from.names, name, out);
        Ok(())
    }

    /// Puts the state that a step leads to behind `out`. Returns the exchange of names by which it
    /// was replaced.
    fn follow(
        &mut self,
        from: Parent<'_>,
        server: usize,
        name: u32,
        out: &mut Vec<u32>,
    ) -> Result<usize, Broken> {
        let step = self.step(name);
        let start = out.len();
        out.extend_from_slice(from.names);
        let last = out.len() - 1;
        out[start + 2 * server] = step.to;
        let mut touched = 1 << server | self.post_all(&mut out[start..], step.sent);
        if step.kind != Kind::Silent {
            out[last] = self.witness(&out[start..=last], server, name, step.kind)?;
        }
        if self.is_hurried(out[last]) {
            if !self.is_hurried(history(from.names)) {
                touched = (1 << self.bounds.servers()) - 1;
            }
            touched |= self.hurry(&mut out[start..=last], touched)?;
        }
        Ok(self.finish(from, &mut out[start..=last], touched))
    }

    /// Does what comes of itself after a step from one state to another, where these servers have
    /// changed or have new messages. Returns the exchange of names by which the state was replaced.
    fn finish(&mut self, from: Parent<'_>, state: &mut [u32], mut touched: u32) -> usize {
        if self.bounds.collect {
            let outlook = self.outlook_after(from, state);
            if outlook != from.outlook {
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
        let from = self.parent(state);
        self.follow(from, server, name, &mut out).ok()
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
                } else if step.facts.is_empty() && !step.is_counted() {
                    Kind::Silent
                } else if Ghost::is_alone(&step.facts) {
                    Kind::Told
                } else if Ghost::is_compared(&step.facts) {
                    Kind::Compared
                } else {
                    Kind::Judged
                };
                self.steps.push(Step {
                    to: step.to,
                    sent,
                    kind,
                    is_campaign: step.is_campaign,
                    is_uncovered: step.is_limited(),
                });
            }
        }
        self.steps[name as usize]
    }

    /// An inbox with one message more.
    fn post(&mut self, inbox: u32, letter: u32) -> u32 {
        let key = pair(inbox, letter);
        if let Some(posted) = self.posted.get(key) {
            return posted;
        }
        let mut store = self.store();
        let letters = store.inboxes.get(inbox).iter().copied().chain([letter]).collect();
        let posted = store.inbox(letters);
        drop(store);
        self.posted.insert(key, posted);
        posted
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
        if kind != Kind::Judged
            && let Some(next) = self.ghosts.get(key)
        {
            if kind == Kind::Compared {
                self.store().compare(state, server, name)?;
            }
            return Ok(next);
        }
        let next = self.store().witness(state, server, name)?;
        if kind != Kind::Judged {
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
