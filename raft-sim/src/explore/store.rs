//! Everything that was ever seen, once: servers, messages, inboxes, histories and the steps between
//! servers, each with a short name.
//!
//! A cluster is a handful of servers, and each of them is in far fewer states than the cluster. So a
//! state of the cluster is a few names, a step of the core is computed once for each server state
//! and input, and most of the search is looking names up.

use std::hash::{BuildHasher, Hash};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use raft_core::{Effect, Envelope, Observation, Refused, RoleName, Rpc, Term};
use rustc_hash::FxBuildHasher;

use super::bounds::{ANY_NUMBER, Bounds, QUESTIONS_MAX, SERVERS_MAX, position};
use super::budget::Budget;
use super::coverage::{Coverage, Note};
use super::facts::{self, Broken, Fact};
use super::ghost::Ghost;
use super::host::{Host, Input};
use super::letters::is_stand_in;
use super::symmetry::{Exchange, Images, Origin};
use super::taken::Taken;
use crate::ideal_disk::Loss;
use crate::run;

/// Values with names from 0 on, in the order of their first appearance.
#[derive(Debug)]
pub(crate) struct Names<T> {
    values: Vec<Arc<T>>,
    hashes: Vec<u64>,
    index: HashTable<u32>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { values: Vec::new(), hashes: Vec::new(), index: HashTable::new() }
    }
}

impl<T: Eq + Hash> Names<T> {
    /// The name of a value.
    pub(crate) fn name(&mut self, value: T) -> u32 {
        let hash = FxBuildHasher.hash_one(&value);
        let known = self.index.find(hash, |at| {
            let at = *at as usize;
            self.hashes[at] == hash && *self.values[at] == value
        });
        if let Some(name) = known {
            return *name;
        }
        let name = u32::try_from(self.values.len()).expect("fewer than 2^32 of a kind fit memory");
        self.values.push(Arc::new(value));
        self.hashes.push(hash);
        self.index.insert_unique(hash, name, |at| self.hashes[*at as usize]);
        name
    }

    pub(crate) fn get(&self, name: u32) -> &Arc<T> {
        &self.values[name as usize]
    }

    /// A hash of the value, the same in every run.
    pub(crate) fn hash(&self, name: u32) -> u64 {
        self.hashes[name as usize]
    }

    /// The values from a name on.
    pub(crate) fn from(&self, name: usize) -> &[Arc<T>] {
        &self.values[name..]
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

/// A step of one server.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The server before and after.
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) input: Input,
    /// What it hears before that, in order (`gather.rs`).
    pub(crate) heard: Vec<Arc<Envelope>>,
    /// What it sends: to whom, which message.
    pub(crate) sent: Vec<(usize, u32)>,
    pub(crate) facts: Vec<Fact>,
    /// A promise that it breaks by itself.
    pub(crate) broken: Option<Broken>,
    /// Whom a leader that goes hands over to.
    pub(crate) successor: Option<usize>,
    /// Whether it begins one of the campaigns that are counted.
    pub(crate) is_campaign: bool,
    /// Whether it leads beyond the bounds, and is not followed.
    pub(crate) is_beyond: bool,
    /// Whether it may as well be taken later.
    is_deferred: bool,
}

impl Step {
    /// A step that never ends.
    fn panics(from: u32, input: &Input, message: &str) -> Self {
        Self {
            from,
            to: from,
            input: input.clone(),
            heard: Vec::new(),
            sent: Vec::new(),
            facts: Vec::new(),
            broken: Some(facts::panicked(message)),
            successor: None,
            is_campaign: false,
            is_beyond: false,
            is_deferred: false,
        }
    }

    /// Whether it changes nothing and only says something.
    pub(crate) fn is_echo(&self) -> bool {
        self.from == self.to && self.facts.is_empty() && self.broken.is_none() && !self.is_beyond
    }

    /// Whether the history says how often it has happened.
    pub(crate) fn is_counted(&self) -> bool {
        self.input.is_bounded() || self.is_campaign
    }

    /// Whether it depends on more than its server if there is room for it within the bounds.
    pub(crate) fn is_limited(&self) -> bool {
        self.is_campaign || matches!(self.input, Input::Crash { .. } | Input::Damage { .. })
    }

    /// Whether taking it changes nothing and says nothing.
    fn is_idle(&self) -> bool {
        self.from == self.to
            && self.sent.is_empty()
            && self.facts.is_empty()
            && self.broken.is_none()
    }
}

/// The name of a step that changes nothing.
pub(crate) const IDLE: u32 = u32::MAX;

/// A step that was computed.
#[derive(Clone, Copy, Debug)]
struct Known {
    name: u32,
    /// What it covers, until that is counted.
    note: Option<Note>,
    /// Whether it refuses an answer that belongs to an earlier stream, or life, of its sender.
    is_disowned: bool,
}

/// All names.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) hosts: Names<Host>,
    pub(crate) host_origins: Vec<Origin>,
    pub(crate) letters: Names<Envelope>,
    pub(crate) letter_origins: Vec<Origin>,
    /// Names of messages, in the order of their hashes, which is the same in every run.
    pub(crate) inboxes: Names<Vec<u32>>,
    pub(crate) ghosts: Names<Ghost>,
    pub(crate) steps: Vec<Arc<Step>>,
    /// The steps by server and message, and by server and any other input.
    delivered: HashMap<(u32, u32), Known, FxBuildHasher>,
    taken: HashMap<(u32, Input), Known, FxBuildHasher>,
    /// Steps by which a leader that goes hands over to another server than it does.
    pub(crate) choices: HashMap<(u32, usize), u32, FxBuildHasher>,
    /// Steps before which a server hears these messages.
    pub(crate) hearings: HashMap<(u32, Vec<u32>, u32), u32, FxBuildHasher>,
    pub(crate) exchanges: Vec<Exchange>,
    /// For each exchange.
    pub(crate) images: Vec<Images>,
    /// The servers at the start.
    pub(crate) starts: Vec<u32>,
    pub(crate) coverage: Coverage,
    has_panicked: bool,
}

impl Store {
    pub(crate) fn new(exchanges: Vec<Exchange>) -> Self {
        let images = exchanges.iter().map(|_| Images::default()).collect();
        Self { exchanges, images, ..Self::default() }
    }

    /// Names a server of the start.
    pub(crate) fn start(&mut self, host: Host) -> u32 {
        let name = self.host(host, &Origin::Start(self.starts.len()));
        self.starts.push(name);
        name
    }

    fn host(&mut self, host: Host, origin: &Origin) -> u32 {
        let name = self.hosts.name(host);
        if self.hosts.len() > self.host_origins.len() {
            self.host_origins.push(origin.clone());
        }
        name
    }

    pub(crate) fn letter(&mut self, letter: Envelope, origin: &Origin) -> u32 {
        let name = self.letters.name(letter);
        if self.letters.len() > self.letter_origins.len() {
            self.letter_origins.push(origin.clone());
        }
        name
    }

    /// The messages among effects, each once.
    pub(crate) fn sent(&mut self, effects: &[Effect], origin: &Origin) -> Vec<(usize, u32)> {
        let mut sent = Vec::new();
        for effect in effects {
            let Effect::Send(envelope) = effect else { continue };
            let letter = (position(envelope.to), self.letter(envelope.clone(), origin));
            if !sent.contains(&letter) {
                sent.push(letter);
            }
        }
        sent
    }

    /// The steps of a server by several inputs, without those that change nothing. These are the ones
    /// that are covered; others are computed to compare states, and it depends on the order of
    /// discovery which. Steps that a whole cluster may have no room for are covered when one takes
    /// them ([`Self::cover`]).
    pub(crate) fn steps(
        &mut self,
        bounds: &Bounds,
        host: u32,
        inputs: impl IntoIterator<Item = Input>,
    ) -> Vec<u32> {
        let steps = inputs.into_iter().map(|input| {
            let name = self.step(bounds, host, &input);
            if !self.steps.get(name as usize).is_some_and(|step| step.is_limited()) {
                self.count(host, input);
            }
            name
        });
        steps.filter(|step| *step != IDLE).collect()
    }

    /// Covers a step that a cluster takes.
    pub(crate) fn cover(&mut self, name: u32) {
        let Step { from, input, .. } = &*self.steps[name as usize];
        self.count(*from, input.clone());
    }

    fn count(&mut self, host: u32, input: Input) {
        let known = self.taken.get_mut(&(host, input)).expect("it was taken");
        if let Some(note) = known.note.take() {
            self.coverage.count(note);
        }
    }

    /// The history after a step that has led to a state whose history is the one before it.
    ///
    /// # Errors
    /// The promise that the step breaks.
    pub(crate) fn witness(
        &mut self,
        state: &[u32],
        server: usize,
        name: u32,
    ) -> Result<u32, Broken> {
        let (ghost, servers) = state.split_last().expect("a state is never empty");
        let step = Arc::clone(&self.steps[name as usize]);
        if let Some(broken) = &step.broken {
            return Err(broken.clone());
        }
        let mut history = Ghost::clone(self.ghosts.get(*ghost));
        history.spent.count(&step.input);
        history.spent.campaigns += u8::from(step.is_campaign);
        let hosts: Vec<Arc<Host>> =
            servers.iter().step_by(2).map(|host| Arc::clone(self.hosts.get(*host))).collect();
        history.witness(server, &step.facts, &hosts)?;
        self.coverage.look(&step.facts, hosts.iter().map(Arc::as_ref));
        Ok(self.ghosts.name(history))
    }

    /// Whether the servers after a step bear out what it says of them, before the history is told.
    ///
    /// # Errors
    /// The promise that the step breaks.
    pub(crate) fn compare(&self, state: &[u32], server: usize, name: u32) -> Result<(), Broken> {
        let (ghost, servers) = state.split_last().expect("a state is never empty");
        let mut hosts = [&**self.hosts.get(servers[0]); SERVERS_MAX];
        let count = servers.len() / 2;
        for (place, host) in hosts.iter_mut().zip(servers.iter().step_by(2)) {
            *place = &**self.hosts.get(*host);
        }
        let facts = &self.steps[name as usize].facts;
        self.ghosts.get(*ghost).compare(server, facts, &hosts[..count])
    }

    /// Whether the group can bear what a step makes a disk lose.
    pub(crate) fn can_bear(&self, state: &[u32], at: usize, name: u32) -> bool {
        let input = &self.steps[name as usize].input;
        let (whole, pieces, loss) = if let Input::Damage { index } = *input {
            (0, 0, Loss::Entry(index))
        } else if let Input::Crash { whole, pieces, loss: Some(loss), .. } = *input {
            (whole, pieces, loss)
        } else {
            return true;
        };
        let (ghost, servers) = state.split_last().expect("a state is never empty");
        let hosts = servers.iter().step_by(2).map(|host| Arc::clone(self.hosts.get(*host)));
        let hosts: Vec<Arc<Host>> = hosts.collect();
        let (disk, ghost) = (hosts[at].left(whole, pieces), self.ghosts.get(*ghost));
        Budget { hosts: &hosts, at, disk: &disk, ghost }.can_bear(loss)
    }

    /// A hash of the messages in an inbox, the same in every run.
    pub(crate) fn inbox_hash(&self, inbox: u32) -> u64 {
        let letters = self.inboxes.get(inbox).iter();
        let hashes: Vec<u64> = letters.map(|letter| self.letters.hash(*letter)).collect();
        FxBuildHasher.hash_one(hashes)
    }

    /// Names a set of messages.
    pub(crate) fn inbox(&mut self, mut letters: Vec<u32>) -> u32 {
        letters.sort_unstable_by_key(|letter| (self.letters.hash(*letter), *letter));
        letters.dedup();
        self.inboxes.name(letters)
    }

    /// The name of what a server does with a message.
    pub(crate) fn deliver(&mut self, bounds: &Bounds, from: u32, letter: u32) -> u32 {
        if let Some(known) = self.delivered.get(&(from, letter)) {
            return known.name;
        }
        let envelope = Arc::clone(self.letters.get(letter));
        let known = if is_stand_in(&envelope) && envelope.term >= self.term(from) {
            // What it stands for says nothing as long as its term lasts.
            Known { name: IDLE, note: None, is_disowned: false }
        } else {
            self.compute_known(bounds, from, &Input::Deliver(envelope))
        };
        self.delivered.insert((from, letter), known);
        known.name
    }

    fn term(&self, host: u32) -> Term {
        self.hosts.get(host).raft.status().term
    }

    /// Whether a server refuses a message, which it was given before, because it belongs to an earlier
    /// stream or life of its sender.
    pub(crate) fn is_disowned(&self, from: u32, letter: u32) -> bool {
        self.delivered.get(&(from, letter)).is_some_and(|known| known.is_disowned)
    }

    /// The same for a message that is on its way there, which is covered.
    pub(crate) fn hear(&mut self, bounds: &Bounds, from: u32, letter: u32) -> u32 {
        if let Some(Known { name, note: None, .. }) = self.delivered.get(&(from, letter)) {
            return *name;
        }
        let name = self.deliver(bounds, from, letter);
        let known = self.delivered.get_mut(&(from, letter)).expect("it was just delivered");
        if let Some(note) = known.note.take() {
            self.coverage.count(note);
        }
        name
    }

    /// The name of what a server does with an input.
    pub(crate) fn step(&mut self, bounds: &Bounds, from: u32, input: &Input) -> u32 {
        if let Input::Deliver(letter) = input {
            let letter = self.letters.name(Envelope::clone(letter));
            return self.deliver(bounds, from, letter);
        }
        let key = (from, input.clone());
        if let Some(known) = self.taken.get(&key) {
            return known.name;
        }
        let known = self.compute_known(bounds, from, input);
        self.taken.insert(key, known);
        known.name
    }

    fn compute_known(&mut self, bounds: &Bounds, from: u32, input: &Input) -> Known {
        let (step, note, is_disowned) = self.compute(bounds, from, input);
        if step.is_idle() || step.is_deferred {
            return Known { name: IDLE, note, is_disowned };
        }
        Known { name: self.add_step(step), note, is_disowned }
    }

    /// Names a step that has none.
    pub(crate) fn add_step(&mut self, step: Step) -> u32 {
        self.steps.push(Arc::new(step));
        u32::try_from(self.steps.len() - 1).expect("fewer than 2^32 steps fit memory")
    }

    /// What comes of a call, or the message with which it panics. The first panic is printed where it
    /// happens, with its place; more of them would say the same.
    fn calmly<T>(&mut self, call: impl FnOnce() -> T) -> Result<T, String> {
        if self.has_panicked {
            return run::quietly(call);
        }
        panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
            self.has_panicked = true;
            run::message(payload.as_ref())
        })
    }

    fn compute(&mut self, bounds: &Bounds, from: u32, input: &Input) -> (Step, Option<Note>, bool) {
        let before = Arc::clone(self.hosts.get(from));
        let mut after = Host::clone(&before);
        let effects = match self.calmly(|| after.take(input)) {
            Ok(effects) => effects,
            Err(message) => return (Step::panics(from, input, &message), None, false),
        };
        if bounds.heartbeats == ANY_NUMBER {
            after.heartbeats = 0;
        }
        let told = facts::of_step(Some(&before), Some(input), &effects, &after);
        let (facts, broken) = match told {
            Ok(facts) => (facts, None),
            Err(broken) => (Vec::new(), Some(broken)),
        };
        let status = after.raft.status();
        let is_beyond = status.term.0 > u64::from(bounds.terms)
            || after.campaigns > bounds.attempts
            || after.heartbeats > bounds.heartbeats
            || after.questions > QUESTIONS_MAX;
        let is_campaign = *input == Input::Fire && before.raft.status().role != RoleName::Leader;
        let origin = Origin::Step(from, input.clone());
        let is_deferred = bounds.collect && is_answer_kept(&before, input, &effects);
        let is_beyond = is_beyond || is_deferred;
        let taken = || Taken::new(&before, input, &effects, &facts, &after);
        let note = (!is_beyond).then(|| self.coverage.note(&taken()));
        let step = Step {
            from,
            is_deferred,
            to: if is_beyond { from } else { self.host(after, &origin) },
            input: input.clone(),
            heard: Vec::new(),
            sent: if is_beyond { Vec::new() } else { self.sent(&effects, &origin) },
            facts,
            broken,
            successor: effects.iter().find_map(successor),
            is_campaign: bounds.campaigns.is_some() && is_campaign,
            is_beyond,
        };
        (step, note, effects.iter().any(is_disowned))
    }
}

/// Whom a leader hands over to as it goes.
fn successor(effect: &Effect) -> Option<usize> {
    let Effect::Observe(Observation::Retired { successor }) = effect else { return None };
    successor.map(position)
}

fn is_disowned(effect: &Effect) -> bool {
    let Effect::Observe(Observation::Refused { reason, .. }) = effect else { return false };
    matches!(reason, Refused::StaleSession { .. } | Refused::StaleIncarnation { .. })
}

/// Whether all that a step does is to keep an answer until the present hard state is durable.
///
/// Who refuses a request of an earlier term, or a candidate, answers, and changes nothing else. The
/// answer leaves when the hard state is durable, if the term is still the same then; but the request,
/// which stays around, may just as well arrive right after that moment and be refused and answered in
/// the same words. A crash loses the answer in the one case and finds none in the other. (Not so who
/// has promised not to vote: that may be over by then. And a part of a
/// snapshot that is refused because another one is with the host is not answered at all.)
fn is_answer_kept(before: &Host, input: &Input, effects: &[Effect]) -> bool {
    let Input::Deliver(letter) = input else { return false };
    let is_candidate = matches!(letter.rpc, Rpc::RequestVote { .. } | Rpc::RequestPreVote { .. });
    // The doubt may be over by then, or the promise, and the answer another one.
    let is_candidate = is_candidate && !before.has_clock() && !before.raft.status().is_tail_unknown;
    let is_refused = effects.iter().all(|effect| match effect {
        Effect::Observe(Observation::Refused { reason, .. }) => {
            is_candidate || matches!(reason, Refused::StaleTerm { .. })
        }
        Effect::Observe(_)
        | Effect::Persist(_)
        | Effect::Send(_)
        | Effect::Apply { .. }
        | Effect::RestoreState { .. }
        | Effect::Outcome { .. }
        | Effect::ReadReady { .. }
        | Effect::Load(_)
        | Effect::ReadChunk(_)
        | Effect::StageChunk { .. } => false,
    });
    let is_waiting = before.unsynced.iter().any(|batch| batch.hard_state.is_some());
    letter.rpc.is_request() && is_refused && is_waiting && !effects.is_empty()
}

#[cfg(test)]
mod tests;
