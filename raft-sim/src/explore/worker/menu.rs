//! What a server can do next.

use std::sync::Arc;

use raft_core::RoleName;

use super::super::host::Input;
use super::super::pool::Range;
use super::super::spent::Spent;
use super::super::store::IDLE;
use super::{Menu, Worker, history, pair};
use crate::ideal_disk::Loss;

impl Worker<'_> {
    /// What it can do without a message or a request.
    pub(super) fn menu(&mut self, host: u32) -> Menu {
        let at = host as usize;
        if let Some(Some(menu)) = self.menus.get(at) {
            return *menu;
        }
        let mut store = self.store();
        let value = Arc::clone(store.hosts.get(host));
        let mut own = Vec::new();
        if value.may_fire() {
            own.push(Input::Fire);
        }
        if value.has_clock() && value.raft.status().role != RoleName::Leader {
            own.push(Input::Campaign);
        }
        // Whoever sticks to a leader that is alive refuses candidates, or those that ask first; who
        // forwards reads gives up when the leader is silent.
        if self.bounds.is_listening() && value.may_be_silent() {
            own.push(Input::Silence);
        }
        if self.bounds.is_lossy() && value.may_be_impatient() {
            own.push(Input::Patience);
        }
        own.extend((1..=value.unsynced.len()).map(|batches| Input::Persist { batches }));
        let own = store.steps(self.bounds, host, own);
        let own = store.with_choices(self.bounds, own);
        // The more was asked for, the less may be.
        let requests = self.bounds.requests(&value.raft.status(), Spent::default());
        let is_asked = !requests.is_empty();
        let may_crash = self.bounds.crashes > 0;
        let crashes = value.crashes().filter(|_| may_crash);
        let crashes = store.steps(self.bounds, host, crashes);
        let losses = value.losses().filter(|_| may_crash && self.bounds.is_lossy());
        let finds = value.finds().filter(|_| self.bounds.rot);
        let losses = store.steps(self.bounds, host, losses.chain(finds));
        drop(store);
        let [own, crashes, losses] = [own, crashes, losses].map(|list| self.listed.add(list));
        let menu = Menu { own, crashes, losses, is_asked };
        if self.menus.len() <= at {
            self.menus.resize(at + 1, None);
        }
        self.menus[at] = Some(menu);
        menu
    }

    /// Crashes after which the disk of a server has lost what it may still lose here, and what it may
    /// lose without one.
    pub(super) fn losses(&mut self, state: &[u32], server: usize, menu: Menu) -> Range {
        let spent = self.spent(history(state));
        let may_crash = spent.crashes < self.bounds.crashes;
        let may_damage = spent.damages < self.bounds.damages;
        let may_lose_tail = spent.lost_tails < self.bounds.lost_tails;
        if !may_damage && !may_lose_tail {
            return Range::default();
        }
        let steps: Vec<u32> = menu.losses.indices().map(|at| self.listed.at(at)).collect();
        let store = self.store();
        let is_left = |name: &u32| {
            let Input::Crash { loss: Some(loss), .. } = store.steps[*name as usize].input else {
                return may_damage;
            };
            may_crash
                && match loss {
                    Loss::Entry(_) | Loss::Snapshot => may_damage,
                    Loss::Tail(_) => may_lose_tail,
                }
        };
        let may_lose = |name: &u32| self.bounds.beyond || store.can_bear(state, server, *name);
        let steps: Vec<u32> =
            steps.into_iter().filter(|name| is_left(name) && may_lose(name)).collect();
        drop(store);
        if let Some(known) = self.losses.get(&steps) {
            return *known;
        }
        let listed = self.listed.add(steps.iter().copied());
        self.losses.insert(steps, listed);
        listed
    }

    /// The steps that the messages of an inbox lead to.
    pub(super) fn mail(&mut self, host: u32, inbox: u32) -> Range {
        let key = pair(host, inbox);
        if let Some(steps) = self.mail.get(key) {
            return steps;
        }
        let mut store = self.store();
        let letters = Arc::clone(store.inboxes.get(inbox));
        let mut steps: Vec<u32> = if self.bounds.gather {
            store.gathered(self.bounds, host, &letters)
        } else {
            letters.iter().map(|letter| store.hear(self.bounds, host, *letter)).collect()
        };
        steps.retain(|step| *step != IDLE);
        if self.bounds.collect {
            // What they make it say was said when the state was settled.
            steps.retain(|step| !store.steps[*step as usize].is_echo());
        }
        let steps = store.with_choices(self.bounds, steps);
        drop(store);
        let steps = self.listed.add(steps);
        self.mail.insert(key, steps);
        steps
    }

    /// What clients and operators may ask of a server now.
    pub(super) fn requests(&mut self, host: u32, ghost: u32) -> Range {
        let key = pair(host, ghost);
        if let Some(steps) = self.requests.get(key) {
            return steps;
        }
        let spent = self.spent(ghost);
        let mut store = self.store();
        let inputs = self.bounds.requests(&store.hosts.get(host).raft.status(), spent);
        let steps = store.steps(self.bounds, host, inputs);
        let steps = store.with_choices(self.bounds, steps);
        drop(store);
        let steps = self.listed.add(steps);
        self.requests.insert(key, steps);
        steps
    }
}
