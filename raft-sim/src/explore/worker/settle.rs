//! What is done at once, as a part of the step that made it possible: what can be said for nothing
//! is said, what means nothing any more is forgotten, and writes that may hurry are completed.

use std::sync::Arc;

use raft_core::{Envelope, Incarnation};

use super::super::bounds::SERVERS_MAX;
use super::super::facts::Broken;
use super::super::ghost::Ghost;
use super::super::letters;
use super::super::outlook::{Concern, Future, Outlook, Weather};
use super::super::store::IDLE;
use super::{Flat, Kind, Parent, Settled, View, Worker, history, pair};

impl Worker<'_> {
    /// Completes what these servers write and may as well complete at once. Returns the servers that
    /// hear of it.
    pub(super) fn hurry(&mut self, state: &mut [u32], servers: u32) -> Result<u32, Broken> {
        let last = state.len() - 1;
        let mut heard = 0;
        for server in 0..self.bounds.servers() {
            let is_touched = servers & (1 << server) != 0;
            while let Some(name) = self.hurried(state[2 * server]).filter(|_| is_touched) {
                let step = self.step(name);
                state[2 * server] = step.to;
                heard |= self.post_all(state, step.sent);
                if step.kind != Kind::Silent {
                    state[last] = self.witness(state, server, name, step.kind)?;
                }
            }
        }
        Ok(heard)
    }

    fn hurried(&mut self, host: u32) -> Option<u32> {
        let at = host as usize;
        if let Some(Some(known)) = self.hurried.get(at) {
            return Some(*known).filter(|name| *name != IDLE);
        }
        let mut store = self.store();
        let input = store.hosts.get(host).hurried();
        let steps = store.steps(self.bounds, host, input);
        drop(store);
        if self.hurried.len() <= at {
            self.hurried.resize(at + 1, None);
        }
        self.hurried[at] = Some(steps.first().copied().unwrap_or(IDLE));
        steps.first().copied()
    }

    pub(super) fn is_hurried(&mut self, ghost: u32) -> bool {
        let spent = self.spent(ghost);
        self.bounds.is_hurried(spent)
    }

    /// Sends at once what can be had for nothing, and forgets what means nothing any more.
    ///
    /// A message whose delivery changes its receiver in nothing may still make it say something.
    /// Messages are never lost, so whatever may happen without such an answer may happen with it
    /// too: the state that has it stands for the one that lacks it. No promise speaks of the messages
    /// that are there, only of servers, disks and histories.
    ///
    /// Only the servers in the set `touched` have a state or an inbox that is not settled already.
    pub(super) fn settle(&mut self, state: &mut [u32], outlook: usize, mut touched: u32) {
        // What is said a second time is no news, or two servers that forget at once what they hear
        // would go on for ever.
        let mut said: Vec<(u32, u32)> = Vec::new();
        while touched != 0 {
            let server = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            let settled = self.settled(state[2 * server], state[2 * server + 1], outlook);
            state[2 * server + 1] = settled.inbox;
            for position in self.echoes[settled.echoes as usize].indices() {
                let (to, letter) = self.sent.at(position);
                let inbox = 2 * to as usize + 1;
                let posted = self.post(state[inbox], letter);
                if posted != state[inbox] && !said.contains(&(to, letter)) {
                    said.push((to, letter));
                    state[inbox] = posted;
                    touched |= 1 << to;
                }
            }
        }
    }

    /// Hurries and settles a state of which nothing is settled yet.
    pub(crate) fn settle_all(&mut self, state: &mut [u32]) {
        let all = (1 << self.bounds.servers()) - 1;
        if self.is_hurried(history(state)) {
            let slow = state.to_vec();
            if self.hurry(state, all).is_err() {
                // The first step from here will break it too.
                state.copy_from_slice(&slow);
            }
        }
        if self.bounds.collect {
            let outlook = self.outlook(state);
            self.settle(state, outlook, all);
        }
    }

    /// The part of the table of settled inboxes that a state belongs to.
    pub(super) fn outlook(&mut self, state: &[u32]) -> usize {
        let may_crash = self.may_crash(history(state));
        let mut informed = 0;
        let mut lives = [Incarnation::ZERO; SERVERS_MAX];
        for server in 0..self.bounds.servers() {
            let host = self.view(state[2 * server]);
            informed |= u32::from(host.is_informed(may_crash)) << server;
            lives[server] = host.life();
        }
        let weather = if may_crash { Weather::Stormy } else { Weather::Calm(lives) };
        let outlook = Outlook { weather, informed };
        self.outlook_place(outlook)
    }

    fn outlook_place(&mut self, outlook: Outlook) -> usize {
        if let Some(known) = self.outlook_places.get(&outlook) {
            return *known;
        }
        let place = self.outlooks.len();
        self.outlooks.push(outlook);
        self.outlook_places.insert(outlook, place);
        self.settled.push(Flat::default());
        place
    }

    /// The part of an outlook that concerns an inbox.
    fn narrowed(&mut self, outlook: usize, inbox: u32) -> usize {
        if self.concerns.len() <= inbox as usize {
            let store = self.store();
            let inboxes = store.inboxes.from(self.concerns.len()).iter();
            let letters = |letter: &u32| -> &Envelope { store.letters.get(*letter) };
            let concern = |inbox: &Arc<Vec<u32>>| Concern::new(inbox.iter().map(letters));
            self.concerns.extend(inboxes.map(concern));
        }
        let concern = self.concerns[inbox as usize];
        let place = |place: usize| u32::try_from(place).expect("there are few outlooks");
        let key = pair(place(outlook), concern.number());
        if let Some(known) = self.narrowed.get(key) {
            return known as usize;
        }
        let narrow = self.outlook_place(self.outlooks[outlook].concerning(concern));
        self.narrowed.insert(key, place(narrow));
        narrow
    }

    /// A state with what is asked for while its steps are followed.
    pub(super) fn parent<'s>(&mut self, names: &'s [u32]) -> Parent<'s> {
        let may_crash = self.may_crash(history(names));
        let outlook = if self.bounds.collect { self.outlook(names) } else { 0 };
        Parent { names, may_crash, outlook }
    }

    /// The outlook of a state that a step has led to: mostly that of the state before it.
    pub(super) fn outlook_after(&mut self, from: Parent<'_>, state: &[u32]) -> usize {
        let may_crash = self.may_crash(history(state));
        let servers = state.chunks_exact(2).zip(from.names.chunks_exact(2));
        let mut changed = servers.filter(|(now, then)| now[0] != then[0]);
        let is_alike = may_crash == from.may_crash
            && changed.all(|(now, then)| {
                let (now, then) = (self.view(now[0]), self.view(then[0]));
                let is_informed = |view: View| view.is_informed(may_crash);
                now.life == then.life && is_informed(now) == is_informed(then)
            });
        if is_alike { from.outlook } else { self.outlook(state) }
    }

    pub(super) fn view(&mut self, host: u32) -> View {
        let known = self.views.len();
        if host as usize >= known {
            let store = self.store();
            let small = |number: u64| u32::try_from(number).expect("bounds are small");
            let views = store.hosts.from(known).iter().map(|host| {
                let futures =
                    [false, true].map(|may_crash| Future::new(host, self.bounds, may_crash));
                View {
                    life: small(host.raft.status().incarnation.0),
                    closed: futures.map(|future| small(future.closed.0)),
                    is_informed: futures.map(|future| future.is_informed),
                    is_timed: host.is_timed(),
                }
            });
            self.views.extend(views);
        }
        self.views[host as usize]
    }

    /// The history without what is of no interest any more, now that nobody can lead some terms.
    pub(super) fn close(&mut self, state: &[u32]) -> u32 {
        let ghost = history(state);
        let may_crash = self.may_crash(ghost);
        let closed =
            |worker: &mut Self, server: usize| worker.view(state[2 * server]).closed(may_crash);
        let through = (0..self.bounds.servers()).map(|server| closed(self, server)).min();
        let through = through.expect("there are servers");
        if through <= self.closed[ghost as usize] {
            return ghost;
        }
        let key = (ghost, through);
        if let Some(known) = self.closings.get(&key) {
            return *known;
        }
        let mut store = self.store();
        let mut history = Ghost::clone(store.ghosts.get(ghost));
        history.close(through);
        let next = store.ghosts.name(history);
        drop(store);
        self.closings.insert(key, next);
        next
    }

    pub(super) fn settled(&mut self, host: u32, inbox: u32, outlook: usize) -> Settled {
        let (whole, outlook) = (outlook, self.narrowed(outlook, inbox));
        let key = pair(host, inbox);
        if let Some(settled) = self.settled[outlook].get(key) {
            return settled;
        }
        let mut store = self.store();
        let letters = Arc::clone(store.inboxes.get(inbox));
        let mut echoes = Vec::new();
        for letter in letters.iter() {
            let name = store.hear(self.bounds, host, *letter);
            if let Some(step) = store.steps.get(name as usize).filter(|step| step.is_echo()) {
                echoes.extend(step.sent.iter().map(|(to, letter)| {
                    (u32::try_from(*to).expect("a handful of servers"), *letter)
                }));
            }
        }
        let [by_part, by_whole] = [outlook, whole].map(|outlook| self.outlooks[outlook]);
        let kept = letters::collect(&mut store, self.bounds, host, inbox, by_part);
        debug_assert_eq!(
            kept,
            letters::collect(&mut store, self.bounds, host, inbox, by_whole),
            "the rest of the outlook decides nothing"
        );
        drop(store);
        echoes.sort_unstable();
        echoes.dedup();
        let mut place = 0;
        if !echoes.is_empty() {
            place = u32::try_from(self.echoes.len()).expect("fewer than 2^32 fit memory");
            self.echoes.push(self.sent.add(echoes));
        }
        let settled = Settled { inbox: kept, echoes: place };
        self.settled[outlook].insert(key, settled);
        settled
    }
}
