//! A way from the start to a state, as it would really happen.
//!
//! The search takes liberties: states stand for their images under an exchange of names, messages
//! that change nothing but what is said are delivered in passing, and one message stands for all
//! stale ones. Here a path is told without them: one cluster, from its start, message by message.

use std::sync::Arc;

use raft_core::{Effect, Envelope, Member};

use super::bounds::{Bounds, position};
use super::host::{Host, Input};
use super::letters::is_stand_in;
use super::search::Search;
use super::spent::Spent;
use super::symmetry::Exchange;
use super::worker::Worker;
use super::worker::clocks::beats;
use crate::run;

/// One server takes one input.
pub(crate) type Act = (usize, Input);

impl Search {
    /// The acts that lead from the start to a state, and then take a step there. `None`: nothing
    /// really leads there, since those that choose by name had to go by different names.
    pub(crate) fn path(&self, at: usize, last: u32) -> Option<Vec<Act>> {
        let mut steps = vec![last];
        let mut states = vec![at];
        let mut at = at;
        while at > 0 {
            let (parent, step) = self.visited.parent(at);
            steps.push(step);
            states.push(parent);
            at = parent;
        }
        let abstract_path =
            self.without_exchanges(states.into_iter().rev().zip(steps.into_iter().rev()));
        let mut store = self.store.lock().expect("no thread panics with the store in hand");
        // Who chooses by name does so in one of the images.
        (0..store.exchanges.len()).find_map(|exchange| {
            let acts = abstract_path.iter().map(|(server, input)| {
                let input = store.input_image(&self.bounds, exchange, input);
                (store.exchanges[exchange][*server], input)
            });
            let acts = acts.collect();
            let cluster = Cluster {
                bounds: &self.bounds,
                hosts: self.start.clone(),
                network: self.start_letters.iter().cloned().map(Arc::new).collect(),
                // The history of the start has the first name.
                spent: store.ghosts.get(0).spent,
                told: Vec::new(),
            };
            cluster.concrete(acts)
        })
    }

    /// The acts of a path in the names of its start.
    fn without_exchanges(&self, path: impl Iterator<Item = (usize, u32)>) -> Vec<Act> {
        let mut worker = Worker::new(&self.bounds, &self.store);
        // The exchange that turns a visited state into the one that really was reached.
        let mut exchange = 0;
        let mut acts = Vec::new();
        for (at, name) in path {
            let state = self.visited.state(at);
            if let Some(beats) = beats(name, self.bounds.servers()) {
                let places = self.exchange(exchange);
                acts.extend(
                    beats.enumerate().map(|(at, beats)| (places[at], Input::Pass { beats })),
                );
                let chosen = worker.exchange_after_time(state, name);
                exchange = chosen.map_or(exchange, |chosen| self.one_after(exchange, chosen));
                continue;
            }
            let mut store = self.store.lock().expect("no thread panics with the store in hand");
            let step = Arc::clone(&store.steps[name as usize]);
            let is_there = |server: &usize| state[2 * server] == step.from;
            let server = (0..self.bounds.servers()).find(is_there).expect("the step begins here");
            let heard = step.heard.iter().map(|letter| Input::Deliver(Arc::clone(letter)));
            for input in heard.chain([step.input.clone()]) {
                let input = store.input_image(&self.bounds, exchange, &input);
                acts.push((store.exchanges[exchange][server], input));
            }
            drop(store);
            if step.broken.is_none()
                && let Some(chosen) = worker.exchange_after(state, server, name)
            {
                exchange = self.one_after(exchange, chosen);
            }
        }
        acts
    }

    fn exchange(&self, name: usize) -> Exchange {
        self.store.lock().expect("no thread panics with the store in hand").exchanges[name].clone()
    }

    /// The exchange that turns a visited state into the real one, after a step that has chosen another
    /// image of it: where each place is really, first back, then on.
    fn one_after(&self, now: usize, chosen: usize) -> usize {
        let (now, then) = (self.exchange(now), self.exchange(chosen));
        let back = |place: usize| then.iter().position(|to| *to == place);
        let real: Exchange = (0..then.len())
            .map(|place| now[back(place).expect("an exchange reaches every place")])
            .collect();
        let store = self.store.lock().expect("no thread panics with the store in hand");
        let known = store.exchanges.iter().position(|other| *other == real);
        known.expect("exchanges one after the other are an exchange")
    }
}

/// What has happened on the way to a state.
struct Told {
    act: Act,
    /// What was said, if that is all that came of it.
    in_passing: Option<Vec<Arc<Envelope>>>,
}

/// A cluster that takes the acts of a path.
struct Cluster<'a> {
    bounds: &'a Bounds,
    hosts: Vec<Host>,
    network: Vec<Arc<Envelope>>,
    spent: Spent,
    told: Vec<Told>,
}

impl Cluster<'_> {
    /// The same acts with every message that must have been delivered in passing, with messages that
    /// were really sent, and with the writes that were completed at once.
    ///
    /// What is said in passing is said before each act, since a receiver may not say it any more when
    /// its answer is wanted; what nobody wanted is left out in the end. `None`: something arrives that
    /// nobody has sent.
    fn concrete(mut self, acts: Vec<Act>) -> Option<Vec<Act>> {
        assert!(self.hosts.len() == self.bounds.servers(), "a start has all servers");
        self.hurry();
        for (server, input) in acts {
            in_passing(&self.hosts, &mut self.network, &mut self.told);
            let input = match input {
                Input::Deliver(letter) if is_stand_in(&letter) => {
                    Input::Deliver(stale(&self.network, &letter, &self.hosts[server])?)
                }
                Input::Deliver(letter) if !self.network.contains(&letter) => return None,
                input @ (Input::Deliver(_)
                | Input::Fire
                | Input::Silence
                | Input::Patience
                | Input::Persist { .. }
                | Input::Crash { .. }
                | Input::Propose { .. }
                | Input::Read { .. }
                | Input::Transfer { .. }
                | Input::Change { .. }
                | Input::Damage { .. }
                | Input::Snapshot
                | Input::Campaign
                | Input::StepDown
                | Input::Pass { .. }) => input,
            };
            self.spent.count(&input);
            self.take(server, input);
            self.hurry();
        }
        Some(without_needless(self.told))
    }

    /// Takes an act. One that panics is the last of its path.
    fn take(&mut self, server: usize, input: Input) {
        let mut after = self.hosts[server].clone();
        for effect in run::quietly(|| after.take(&input)).unwrap_or_default() {
            if let Effect::Send(letter) = effect {
                send(&mut self.network, letter);
            }
        }
        self.hosts[server] = after;
        self.told.push(Told { act: (server, input), in_passing: None });
    }

    fn hurry(&mut self) {
        if !self.bounds.is_hurried(self.spent) {
            return;
        }
        for server in 0..self.hosts.len() {
            while let Some(input) = self.hosts[server].hurried() {
                self.take(server, input);
            }
        }
    }
}

/// The acts without those that said something in passing which nobody was to hear.
fn without_needless(told: Vec<Told>) -> Vec<Act> {
    let mut wanted: Vec<Arc<Envelope>> = Vec::new();
    let mut acts = Vec::new();
    for Told { act, in_passing } in told.into_iter().rev() {
        if in_passing.is_some_and(|said| !said.iter().any(|letter| wanted.contains(letter))) {
            continue;
        }
        if let Input::Deliver(letter) = &act.1 {
            wanted.push(Arc::clone(letter));
        }
        acts.push(act);
    }
    acts.reverse();
    acts
}

fn send(network: &mut Vec<Arc<Envelope>>, letter: Envelope) {
    if network.iter().all(|other| **other != letter) {
        network.push(Arc::new(letter));
    }
}

/// A request on its way that is as stale as the one that stands for all of them.
fn stale(network: &[Arc<Envelope>], of: &Envelope, receiver: &Host) -> Option<Arc<Envelope>> {
    let term = receiver.raft.status().term;
    let ends = |letter: &Envelope| -> (Member, Member) { (letter.from, letter.to) };
    let found = network
        .iter()
        .find(|letter| ends(letter) == ends(of) && letter.term < term && letter.rpc.is_request());
    found.cloned()
}

/// Delivers what changes nothing at its receiver and makes it say something new.
fn in_passing(hosts: &[Host], network: &mut Vec<Arc<Envelope>>, told: &mut Vec<Told>) {
    let mut next = 0;
    while next < network.len() {
        let input = Input::Deliver(Arc::clone(&network[next]));
        let server = position(network[next].to);
        next += 1;
        let mut after = hosts[server].clone();
        let Ok(effects) = run::quietly(|| after.take(&input)) else { continue };
        if after != hosts[server] {
            continue;
        }
        let before = network.len();
        for effect in effects {
            if let Effect::Send(answer) = effect {
                send(network, answer);
            }
        }
        if network.len() > before {
            let said = network[before..].to_vec();
            told.push(Told { act: (server, input), in_passing: Some(said) });
        }
    }
}
