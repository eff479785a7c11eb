//! What is left out changes nothing: on random walks, within bounds that are too large to be
//! explored with everything left in, all that could be done by messages that were forgotten can still
//! be done, and disks that hurry lead where slow ones do.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use raft_core::{Rpc, Session};

use super::super::bounds::position;
use super::super::gather::is_answer;
use super::super::host::{Host, Input};
use super::super::order::Order;
use super::super::search::Search;
use super::super::start::Start;
use super::*;

/// A random way through a cluster in which no message is ever forgotten, beside the way of the search.
struct Walk<'a> {
    worker: Worker<'a>,
    state: Vec<u32>,
    /// Every message that was ever sent to a server.
    letters: Vec<BTreeSet<u32>>,
    random: u64,
}

impl<'a> Walk<'a> {
    fn new(search: &'a Search, seed: u64) -> Self {
        let bounds = &search.bounds;
        Self {
            worker: Worker::new(bounds, &search.store),
            state: search.visited.state(0).to_vec(),
            letters: vec![BTreeSet::new(); bounds.servers()],
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// A number below a bound (xorshift).
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 32).expect("it has 32 bits") % bound
    }

    fn sent(&mut self, name: u32) -> usize {
        let step = Arc::clone(&self.worker.store().steps[name as usize]);
        let is_new = |(to, letter): &&(usize, u32)| self.letters[*to].insert(*letter);
        step.sent.iter().filter(is_new).count()
    }

    /// What messages can make a server do, but for saying something, which is said.
    fn reactions(&mut self, server: usize) -> Vec<u32> {
        let mut reactions = Vec::new();
        let host = self.state[2 * server];
        for letter in self.letters[server].clone() {
            let name = self.worker.store().deliver(self.worker.bounds, host, letter);
            let step = self.worker.store().steps.get(name as usize).cloned();
            let Some(step) = step.filter(|step| !step.is_beyond) else { continue };
            if self.is_old_news(letter) {
                continue;
            }
            if self.worker.bounds.gather && self.worker.store().is_noted(name) {
                self.may_be_heard(server, name);
                continue;
            }
            if step.is_echo() {
                self.sent(name);
            } else {
                reactions.push(name);
            }
        }
        reactions
    }

    /// Whether a message tells nothing but the life in which its sender will stay. Who takes note of
    /// it can do less than who does not, so the search leaves that out.
    fn is_old_news(&mut self, letter: u32) -> bool {
        let letter = Arc::clone(self.worker.store().letters.get(letter));
        let is_empty = matches!(letter.rpc, Rpc::HeartbeatResponse { session: Session::ZERO, .. });
        let outlook = self.worker.outlook(&self.state);
        let is_last_life = self.worker.outlooks[outlook].is_last_life(&letter);
        let to = self.host(position(letter.to)).raft.status();
        let bounds = self.worker.bounds;
        let is_nothing = !bounds.is_watching() && !bounds.is_lossy();
        is_empty && is_last_life && is_nothing && letter.term <= to.term
    }

    /// An answer that a candidate has not counted is there until it does, or another one that says the
    /// same.
    #[track_caller]
    fn may_be_heard(&mut self, server: usize, name: u32) {
        let (host, inbox) = (self.state[2 * server], self.state[2 * server + 1]);
        let mut store = self.worker.store();
        let wanted = Arc::clone(&store.steps[name as usize]);
        let letters = Arc::clone(store.inboxes.get(inbox));
        let is_alike = |letter: &u32| {
            let other = store.deliver(self.worker.bounds, host, *letter);
            store.steps.get(other as usize).is_some_and(|other| other.to == wanted.to)
        };
        assert!(letters.iter().any(is_alike), "forgotten: {:?}", wanted.input);
    }

    /// The steps by which a candidate hears several answers.
    fn hearings(&mut self, server: usize) -> Vec<u32> {
        let mail = self.worker.mail(self.state[2 * server], self.state[2 * server + 1]);
        let steps: Vec<u32> = mail.indices().map(|at| self.worker.listed.at(at)).collect();
        let store = self.worker.store();
        steps.into_iter().filter(|name| !store.steps[*name as usize].heard.is_empty()).collect()
    }

    /// Says all that can be had for nothing.
    fn settle(&mut self) {
        loop {
            let count =
                |letters: &[BTreeSet<u32>]| letters.iter().map(BTreeSet::len).sum::<usize>();
            let before = count(&self.letters);
            (0..self.letters.len()).for_each(|server| drop(self.reactions(server)));
            if count(&self.letters) == before {
                return;
            }
        }
    }

    /// What the search would do in the place of a step by any message: the same, maybe by another one.
    #[track_caller]
    fn alike(&mut self, server: usize, name: u32) -> u32 {
        let mail = self.worker.mail(self.state[2 * server], self.state[2 * server + 1]);
        let steps: Vec<u32> = mail.indices().map(|at| self.worker.listed.at(at)).collect();
        let store = self.worker.store();
        let wanted = &store.steps[name as usize];
        let is_alike = |other: &u32| {
            let step = &store.steps[*other as usize];
            (step.to, &step.facts, &step.broken) == (wanted.to, &wanted.facts, &wanted.broken)
        };
        // Another one may say something else: it counts only if this one is not there.
        let same = steps.iter().find(|other| **other == name);
        let found = same.or_else(|| steps.iter().find(|other| is_alike(other))).copied();
        let is_led = store.hosts.get(wanted.from).raft.status();
        found.unwrap_or_else(|| panic!("forgotten: {:?}\nat {is_led}", wanted.input))
    }

    /// Takes a random step, after a look at all that messages can do here.
    fn advance(&mut self) -> bool {
        self.settle();
        let ghost = history(&self.state);
        let mut steps = Vec::new();
        for server in 0..self.letters.len() {
            let host = self.state[2 * server];
            for name in self.reactions(server) {
                steps.push((server, name, self.alike(server, name)));
            }
            steps.extend(self.hearings(server).into_iter().map(|name| (server, name, name)));
            let menu = self.worker.menu(host);
            let may_crash = self.worker.may_crash(ghost);
            let crashes = if may_crash { menu.crashes } else { Range::default() };
            let losses = if may_crash {
                let state = self.state.clone();
                self.worker.losses(&state, server, menu)
            } else {
                Range::default()
            };
            for list in [menu.own, crashes, losses, self.worker.requests(host, ghost)] {
                let listed = list.indices().map(|at| self.worker.listed.at(at));
                steps.extend(listed.map(|name| (server, name, name)));
            }
        }
        steps.retain(|(_, name, _)| !self.worker.store().steps[*name as usize].is_beyond);
        if steps.is_empty() {
            return false;
        }
        let chosen = self.below(steps.len());
        let (server, name, alike) = steps[chosen];
        self.sent(name);
        let mut next = Vec::new();
        let state = self.state.clone();
        let from = self.worker.parent(&state);
        self.worker.follow(from, server, alike, &mut next).expect("no promise is broken");
        self.state = next;
        true
    }

    /// The messages that a server would only note, and all that answer no candidate.
    fn answers(&mut self, server: usize) -> (Vec<Input>, Vec<Input>) {
        let host = self.state[2 * server];
        let (mut noted, mut others) = (Vec::new(), Vec::new());
        for letter in self.letters[server].clone() {
            let mut store = self.worker.store();
            let name = store.deliver(self.worker.bounds, host, letter);
            let value = Arc::clone(store.letters.get(letter));
            let input = Input::Deliver(Arc::clone(&value));
            if store.steps.get(name as usize).is_some() && store.is_noted(name) {
                noted.push(input);
            } else if !is_answer(value.rpc.kind()) {
                others.push(input);
            }
        }
        (noted, others)
    }

    fn host(&self, server: usize) -> Arc<Host> {
        Arc::clone(self.worker.store().hosts.get(self.state[2 * server]))
    }
}

/// Walks at random within bounds, and looks at every state on the way.
fn walk(bounds: &Bounds, look: impl Fn(&mut Walk<'_>)) {
    let bounds = Bounds { symmetry: false, hurry: false, ..bounds.clone() };
    let start = Start::founded(&bounds, |_| {});
    let search = Search::new(bounds, start, Order::Breadth);
    for seed in 1..=WALKS {
        let mut walk = Walk::new(&search, seed);
        let mut steps = 0;
        while steps < STEPS && walk.advance() {
            look(&mut walk);
            steps += 1;
        }
        assert!(steps > 10, "a walk leads somewhere");
    }
}

const WALKS: u64 = 60;
const STEPS: usize = 80;

fn large() -> Bounds {
    Bounds { terms: 4, entries: 3, crashes: 2, ..Bounds::default() }
}

#[test]
fn what_messages_can_do_is_not_forgotten() {
    for bounds in [
        large(),
        Bounds { terms: 2, crashes: 1, ..large() },
        Bounds { crashes: 0, reads: 2, ..large() },
        Bounds { crashes: 1, reads: 2, forward: true, heartbeats: 2, ..large() },
        Bounds { crashes: 1, reads: 1, heartbeats: 3, ..large() },
        Bounds { pre_vote: true, attempts: 3, ..large() },
        Bounds { pre_vote: true, check_quorum: true, heartbeats: 4, ..large() },
        Bounds { check_quorum: true, heartbeats: 4, crashes: 1, ..large() },
        Bounds { transfers: 2, heartbeats: 2, ..large() },
        Bounds { learners: 1, changes: 2, heartbeats: 1, ..large() },
        Bounds { snapshots: 2, heartbeats: 4, ..large() },
        Bounds { damages: 2, ..large() },
        Bounds { lost_tails: 2, ..large() },
        Bounds { crashes: 3, damages: 1, lost_tails: 1, heartbeats: 3, beyond: true, ..large() },
        Bounds { damages: 2, snapshots: 2, heartbeats: 2, ..large() },
        Bounds { damages: 2, rot: true, heartbeats: 1, ..large() },
        Bounds { damages: 1, lost_tails: 1, learners: 1, changes: 1, heartbeats: 1, ..large() },
    ] {
        walk(&bounds, |_| ());
    }
}

#[test]
fn what_messages_can_do_is_not_forgotten_where_votes_are_heard_in_one_go() {
    let large = Bounds { gather: true, ..large() };
    for bounds in [
        Bounds { nodes: 5, ..large.clone() },
        Bounds { nodes: 5, pre_vote: true, attempts: 3, ..large.clone() },
        Bounds { nodes: 4, learners: 1, changes: 2, heartbeats: 1, ..large.clone() },
        Bounds { nodes: 5, crashes: 3, damages: 1, lost_tails: 1, beyond: true, ..large.clone() },
        Bounds { transfers: 2, heartbeats: 2, ..large },
    ] {
        walk(&bounds, |_| ());
    }
}

/// To hear an answer that is only noted before a step leads to the same server, and makes it say the
/// same, as to hear it after; or to one that looks at no answers of that campaign any more.
fn notes(host: &Host, answer: &Input, input: &Input) {
    let (mut noted, mut other) = (host.clone(), host.clone());
    noted.take(answer);
    let (said, same) = (noted.take(input), other.take(input));
    assert_eq!(said, same, "{input:?} after {answer:?} at {}", host.raft.status());
    if noted != other {
        other.take(answer);
        assert!(noted == other, "{input:?} after {answer:?} at {}", host.raft.status());
    }
}

#[test]
fn what_a_candidate_has_counted_is_asked_by_its_election_alone() {
    let count = Cell::new(0);
    for bounds in [
        Bounds { nodes: 5, ..large() },
        Bounds { nodes: 5, damages: 1, lost_tails: 1, ..large() },
        Bounds { nodes: 4, learners: 1, changes: 1, ..large() },
        Bounds { nodes: 5, pre_vote: true, attempts: 3, ..large() },
        Bounds { nodes: 5, pre_vote: true, check_quorum: true, heartbeats: 3, ..large() },
    ] {
        walk(&bounds, |walk| {
            for server in 0..walk.letters.len() {
                let host = walk.host(server);
                let (noted, others) = walk.answers(server);
                for answer in &noted {
                    let fire = host.may_fire().then_some(Input::Fire);
                    let writes =
                        (1..=host.unsynced.len()).map(|batches| Input::Persist { batches });
                    let inputs = others.iter().cloned().chain(host.crashes());
                    inputs.chain(fire).chain(writes).for_each(|input| notes(&host, answer, &input));
                    count.set(count.get() + 1);
                }
            }
        });
    }
    assert!(count.get() > 100, "{count:?}");
}

/// All writes of a server that does not lead, one after the other, and what it says.
fn written(mut host: Host, said: &mut Vec<raft_core::Effect>) -> Host {
    while let Some(input) = host.hurried() {
        said.extend(host.take(&input));
    }
    host
}

/// To complete what is on its way before a step leads to the same server as to complete it after, and
/// says no less.
fn hurries(host: &Host, input: &Input) {
    let (mut slow, mut fast) = (Vec::new(), Vec::new());
    let mut after = host.clone();
    slow.extend(after.take(input));
    let after = written(after, &mut slow);
    let mut other = written(host.clone(), &mut fast);
    fast.extend(other.take(input));
    let other = written(other, &mut fast);
    assert!(after == other, "{input:?} at {}\n{}", host.raft.status(), after.raft.status());
    let sends = |effect: &&raft_core::Effect| matches!(effect, raft_core::Effect::Send(_));
    for effect in slow.iter().filter(sends) {
        assert!(fast.contains(effect), "{effect} after {input:?} at {}", host.raft.status());
    }
}

#[test]
fn disks_that_hurry_lead_where_slow_ones_do() {
    for bounds in [
        large(),
        Bounds { heartbeats: 3, ..large() },
        Bounds { pre_vote: true, attempts: 3, ..large() },
        Bounds { pre_vote: true, check_quorum: true, heartbeats: 4, ..large() },
        Bounds { transfers: 2, ..large() },
        Bounds { crashes: 0, changes: 2, heartbeats: 1, ..large() },
        Bounds { crashes: 0, learners: 1, changes: 2, heartbeats: 1, ..large() },
    ] {
        walk(&bounds, |walk| {
            for server in 0..walk.letters.len() {
                let host = walk.host(server);
                if host.hurried().is_none() {
                    continue;
                }
                if host.raft.next_deadline().is_some() {
                    hurries(&host, &Input::Fire);
                }
                for letter in walk.letters[server].clone() {
                    let letter = Arc::clone(walk.worker.store().letters.get(letter));
                    hurries(&host, &Input::Deliver(letter));
                }
            }
        });
    }
}
