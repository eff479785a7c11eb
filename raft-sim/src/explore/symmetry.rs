//! Servers that differ in nothing but their names.
//!
//! If every voter may do whatever another one may do, then a state and the same state with the
//! names exchanged have the same futures, and one of them is enough (symmetry reduction). The image
//! of a server under an exchange of names is not written into its state, which only the core can
//! write, but *lived*: a server is what it became by its first input, second input, and so on, and its
//! image is what the other server becomes by the images of these inputs. Messages likewise: the image
//! of what a step sends is what the image of the step sends.
//!
//! That this is right (that two lives which lead to one state have images which lead to one state) is
//! a property of the core: it treats names alike. A test compares what is found with and without. But
//! a leader numbers its streams in the order of names, in some membership. Where one number may mean
//! another stream in another life there is no symmetry (`Start::alike`, `past.rs`).
//!
//! It does so but for one choice. A leader that goes hands over to the voter that lacks least of its
//! log, and among equals to the first by name. So the image of such a step hands over to somebody
//! else than the one whose image it would be. Therefore, wherever it is taken, those steps are taken
//! too that its images take, with the names exchanged back ([`Store::with_choices`]): then what
//! follows the image of a state are the images of what follows the state, and all that really
//! follows is among it. It may be too much: a way on which several leaders go, each with a choice
//! that is the real one under an exchange of its own. So a way to a broken promise counts only if it
//! is real under one exchange for all of it (`path.rs`); if not, the search begins anew with all
//! names told apart.

use std::sync::Arc;

use raft_core::{Envelope, Rpc};

use super::bounds::{Bounds, member, position};
use super::ghost::Ghost;
use super::host::Input;
use super::letters::is_stand_in;
use super::store::{IDLE, Step, Store};

/// An exchange of names: where the server at each position goes.
pub(crate) type Exchange = Vec<usize>;

/// The exchanges under which a cluster that was just founded looks the same, the one that changes
/// nothing first.
pub(crate) fn exchanges(bounds: &Bounds) -> Vec<Exchange> {
    let servers = bounds.servers();
    let mut found = vec![Vec::new()];
    for at in 0..servers {
        let mut longer = Vec::new();
        for prefix in &found {
            let fits = |to: &usize| {
                let is_same_kind =
                    (at < usize::from(bounds.nodes)) == (*to < usize::from(bounds.nodes));
                !prefix.contains(to) && is_same_kind
            };
            longer.extend((0..servers).filter(fits).map(|to| [&prefix[..], &[to]].concat()));
        }
        found = longer;
    }
    found
}

/// What was found out about one exchange, by name; [`IDLE`] is not known yet.
#[derive(Debug, Default)]
pub(crate) struct Images {
    hosts: Vec<u32>,
    letters: Vec<u32>,
    inboxes: Vec<u32>,
    ghosts: Vec<u32>,
}

/// How a server or a message came to be for the first time.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// It was there at the start, at this position.
    Start(usize),
    /// By an input to a server in this state.
    Step(u32, Input),
    /// It says nothing but who speaks to whom: its image is written and not lived.
    Written,
}

impl Store {
    /// The image of a server.
    pub(crate) fn host_image(&mut self, bounds: &Bounds, exchange: usize, host: u32) -> u32 {
        if let Some(known) = recall(&self.images[exchange].hosts, host) {
            return known;
        }
        let image = match self.host_origins[host as usize].clone() {
            Origin::Start(at) => self.starts[self.exchanges[exchange][at]],
            Origin::Written => panic!("a server is no message"),
            Origin::Step(from, input) => {
                let step = self.step_image(bounds, exchange, from, &input);
                if step == IDLE {
                    self.host_image(bounds, exchange, from)
                } else {
                    self.steps[step as usize].to
                }
            }
        };
        note(&mut self.images[exchange].hosts, host, image);
        image
    }

    /// The step that the image of a server takes by the image of an input.
    fn step_image(&mut self, bounds: &Bounds, exchange: usize, from: u32, input: &Input) -> u32 {
        let from = self.host_image(bounds, exchange, from);
        let input = self.input_image(bounds, exchange, input);
        self.step(bounds, from, &input)
    }

    /// The image of an input.
    pub(crate) fn input_image(&mut self, bounds: &Bounds, exchange: usize, input: &Input) -> Input {
        if exchange == 0 {
            return input.clone();
        }
        match input {
            Input::Deliver(letter) => {
                let letter = self.letters.name(Envelope::clone(letter));
                let image = self.letter_image(bounds, exchange, letter);
                Input::Deliver(Arc::clone(self.letters.get(image)))
            }
            Input::Transfer { number, to } => {
                let at = usize::try_from(*to).expect("servers have small numbers") - 1;
                Input::Transfer { number: *number, to: self.exchanges[exchange][at] as u64 + 1 }
            }
            Input::Fire
            | Input::Silence
            | Input::Patience
            | Input::Persist { .. }
            | Input::Crash { .. }
            | Input::Propose { .. }
            | Input::Read { .. }
            | Input::Change { .. }
            | Input::Damage { .. }
            | Input::Snapshot
            | Input::Campaign
            | Input::StepDown
            | Input::Pass { .. } => input.clone(),
        }
    }

    fn letter_image(&mut self, bounds: &Bounds, exchange: usize, letter: u32) -> u32 {
        if let Some(known) = recall(&self.images[exchange].letters, letter) {
            return known;
        }
        let value = Arc::clone(self.letters.get(letter));
        if is_written(&value) {
            let place = |at: usize| member(self.exchanges[exchange][at]);
            let (from, to) = (place(position(value.from)), place(position(value.to)));
            let image = Envelope { from, to, ..Envelope::clone(&value) };
            let image = self.letter(image, &Origin::Written);
            note(&mut self.images[exchange].letters, letter, image);
            return image;
        }
        let (from, input) = match self.letter_origins[letter as usize].clone() {
            Origin::Step(from, input) => (from, input),
            Origin::Start(_) => panic!("a start says the images of its messages"),
            Origin::Written => unreachable!("the image of what is written is written"),
        };
        let original = self.step(bounds, from, &input);
        let image = self.step_image(bounds, exchange, from, &input);
        let lived = |step: u32| {
            let is_lived = |(_, name): &&(usize, u32)| !is_written(self.letters.get(*name));
            let sent = self.steps[step as usize].sent.iter().filter(is_lived);
            sent.copied().collect::<Vec<(usize, u32)>>()
        };
        let (sent, images) = (lived(original), lived(image));
        for (at, (to, name)) in sent.iter().enumerate() {
            // The so-manyth to this receiver: the receivers themselves may come in another order.
            let before = sent[..at].iter().filter(|(other, _)| other == to).count();
            let to = self.exchanges[exchange][*to];
            let image = images.iter().filter(|(other, _)| *other == to).nth(before);
            let (_, image) = image.expect("the image of a step sends as much");
            note(&mut self.images[exchange].letters, *name, *image);
        }
        recall(&self.images[exchange].letters, letter).expect("its step sends it")
    }

    /// A message of the start has another one as its image.
    pub(crate) fn note_letter(&mut self, exchange: usize, letter: u32, image: u32) {
        note(&mut self.images[exchange].letters, letter, image);
    }

    /// These steps, and for each by which a leader goes those by which it hands over to the voters
    /// that its images choose, exchanged back.
    pub(crate) fn with_choices(&mut self, bounds: &Bounds, mut steps: Vec<u32>) -> Vec<u32> {
        for at in 0..steps.len() {
            let step = Arc::clone(&self.steps[steps[at] as usize]);
            let Some(successor) = step.successor else { continue };
            for exchange in 1..self.exchanges.len() {
                let image = self.step_image(bounds, exchange, step.from, &step.input);
                let chosen = self.steps[image as usize].successor;
                let chosen = chosen.expect("the image of who goes and hands over does so too");
                let back = self.exchanges[exchange].iter().position(|to| *to == chosen);
                let other = back.expect("an exchange reaches every place");
                if other == successor {
                    continue;
                }
                let name = self.hand_over_to(steps[at], other);
                if !steps.contains(&name) {
                    steps.push(name);
                }
            }
        }
        steps
    }

    /// The step by which a leader that goes hands over to this server instead. It leaves the same
    /// behind, since it forgets whom it has asked.
    fn hand_over_to(&mut self, name: u32, other: usize) -> u32 {
        if let Some(known) = self.choices.get(&(name, other)) {
            return *known;
        }
        let mut step = Step::clone(&self.steps[name as usize]);
        let is_asked = |(to, letter): &(usize, u32)| {
            Some(*to) == step.successor && self.letters.get(*letter).rpc == Rpc::TimeoutNow
        };
        let asked = step.sent.iter().position(is_asked).expect("a successor is asked at once");
        let letter = Envelope::clone(self.letters.get(step.sent[asked].1));
        let letter = Envelope { to: member(other), ..letter };
        step.sent[asked] = (other, self.letter(letter, &Origin::Written));
        step.successor = Some(other);
        let known = self.add_step(step);
        self.choices.insert((name, other), known);
        known
    }

    /// The image of an inbox.
    pub(crate) fn inbox_image(&mut self, bounds: &Bounds, exchange: usize, inbox: u32) -> u32 {
        if let Some(known) = recall(&self.images[exchange].inboxes, inbox) {
            return known;
        }
        let letters = Arc::clone(self.inboxes.get(inbox));
        let images =
            letters.iter().map(|letter| self.letter_image(bounds, exchange, *letter)).collect();
        let image = self.inbox(images);
        note(&mut self.images[exchange].inboxes, inbox, image);
        image
    }

    /// The image of a history.
    pub(crate) fn ghost_image(&mut self, exchange: usize, ghost: u32) -> u32 {
        if let Some(known) = recall(&self.images[exchange].ghosts, ghost) {
            return known;
        }
        let history = Ghost::exchanged(self.ghosts.get(ghost), &self.exchanges[exchange]);
        let image = self.ghosts.name(history);
        note(&mut self.images[exchange].ghosts, ghost, image);
        image
    }
}

/// Whether a message says nothing but who speaks to whom, in which term and life: what stands for
/// stale requests, and the wish that somebody campaigns.
fn is_written(letter: &Envelope) -> bool {
    is_stand_in(letter) || letter.rpc == Rpc::TimeoutNow
}

fn recall(images: &[u32], name: u32) -> Option<u32> {
    images.get(name as usize).copied().filter(|image| *image != IDLE)
}

fn note(images: &mut Vec<u32>, name: u32, image: u32) {
    let at = name as usize;
    if images.len() <= at {
        images.resize(at + 1, IDLE);
    }
    images[at] = image;
}

#[cfg(test)]
mod tests;
