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
//! a property of the core: it treats names alike. A test compares what is found with and without.

use std::sync::Arc;

use raft_core::{Envelope, Member, Term};

use super::bounds::{Bounds, member, position};
use super::ghost::Ghost;
use super::host::Input;
use super::store::{IDLE, Store};

/// An exchange of names: where the server at each position goes.
pub(crate) type Exchange = Vec<usize>;

/// The exchanges under which everything within the bounds looks the same, the one that changes
/// nothing first.
pub(crate) fn exchanges(bounds: &Bounds) -> Vec<Exchange> {
    let servers = bounds.servers();
    // A change of the membership names servers, and a leader that it removes hands over to the first
    // by name of those with the longest log.
    if !bounds.symmetry || bounds.changes > 0 {
        return vec![(0..servers).collect()];
    }
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
    /// It stands for requests from one server to another.
    StandIn { from: Member, to: Member, term: Term },
}

impl Store {
    /// The image of a server.
    pub(crate) fn host_image(&mut self, bounds: &Bounds, exchange: usize, host: u32) -> u32 {
        if let Some(known) = recall(&self.images[exchange].hosts, host) {
            return known;
        }
        let image = match self.host_origins[host as usize].clone() {
            Origin::Start(at) => self.starts[self.exchanges[exchange][at]],
            Origin::StandIn { .. } => panic!("a server is no message"),
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
            return input.clone(); // Nothing is exchanged, and a start may have messages on their way.
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
        let (from, input) = match self.letter_origins[letter as usize].clone() {
            Origin::Step(from, input) => (from, input),
            Origin::Start(_) => panic!("a symmetric start has no messages on their way"),
            Origin::StandIn { from, to, term } => {
                let place = |of: Member| member(self.exchanges[exchange][position(of)]);
                let image = self.stand_in(place(from), place(to), term);
                note(&mut self.images[exchange].letters, letter, image);
                return image;
            }
        };
        let original = self.step(bounds, from, &input);
        let image = self.step_image(bounds, exchange, from, &input);
        let sent = self.steps[original as usize].sent.clone();
        let images = self.steps[image as usize].sent.clone();
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
