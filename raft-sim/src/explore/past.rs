//! Which exchanges of names leave a start with a past as it is.
//!
//! The past is lived once more with the names exchanged: what happened to a server happens to the one
//! in whose place it goes, and instead of a message that arrived there arrives what was sent in its
//! place. If in the end every server, every message that may still arrive, and the history of the
//! group are what the start has in that place, then whatever may follow it may follow with the names
//! exchanged too.

use std::sync::Arc;

use raft_core::{Effect, Envelope, Member, MemberStep, MembershipChange, NodeId};

use super::bounds::{member, position};
use super::host::{Host, Input};
use super::path::Act;
use super::start::Start;
use super::symmetry::{Exchange, exchanges};

/// What has led to a start.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    /// The servers when they were founded.
    pub(crate) founded: Vec<Host>,
    pub(crate) acts: Vec<Act>,
}

/// An exchange of names that leaves a start as it is.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) exchange: Exchange,
    /// For each message that may still arrive: the position of the one in its place.
    pub(crate) letters: Vec<usize>,
}

impl Past {
    /// The exchanges that leave the start as it is to which this past has led; the one that changes
    /// nothing is the first.
    pub(crate) fn kept(&self, start: &Start) -> Vec<Kept> {
        let all = exchanges(&start.cluster).into_iter();
        let mut kept: Vec<Kept> = all.filter_map(|exchange| self.lived(start, exchange)).collect();
        let memberships = memberships(start);
        if !kept.iter().all(|kept| is_numbered_alike(&memberships, &kept.exchange)) {
            kept.truncate(1);
        }
        kept
    }

    /// Lives it with the names exchanged.
    fn lived(&self, start: &Start, exchange: Exchange) -> Option<Kept> {
        let (mut hosts, mut others) = (self.founded.clone(), self.founded.clone());
        let mut sent = Sent::default();
        for (at, input) in &self.acts {
            let image = sent.input(input, &exchange)?;
            let effects = hosts[*at].take(input);
            sent.add(&effects, &others[exchange[*at]].take(&image), &exchange)?;
        }
        for other in &mut others {
            // As at the start.
            (other.campaigns, other.heartbeats) = (0, 0);
            (other.questions, other.patiences) = (0, 0);
        }
        let letters = start.letters.iter().map(|letter| {
            let image = sent.image(letter)?;
            start.letters.iter().position(|other| **other == *image)
        });
        let letters = letters.collect::<Option<Vec<usize>>>()?;
        let is_same = others == start.hosts && start.ghost.exchanged(&exchange) == start.ghost;
        is_same.then_some(Kept { exchange, letters })
    }
}

/// Messages that were sent, each with the one that was sent in its place.
#[derive(Debug, Default)]
struct Sent(Vec<(Envelope, Envelope)>);

impl Sent {
    fn image(&self, letter: &Envelope) -> Option<&Envelope> {
        self.0.iter().find(|(known, _)| known == letter).map(|(_, image)| image)
    }

    /// What is given in the place of an input.
    fn input(&self, input: &Input, exchange: &Exchange) -> Option<Input> {
        Some(match input {
            Input::Deliver(letter) => Input::Deliver(Arc::new(self.image(letter)?.clone())),
            Input::Transfer { number, to } => {
                let NodeId(to) = place(NodeId(*to), exchange);
                Input::Transfer { number: *number, to }
            }
            Input::Change { number, change } => {
                Input::Change { number: *number, change: exchanged(change, exchange) }
            }
            Input::Fire
            | Input::Silence
            | Input::Patience
            | Input::Persist { .. }
            | Input::Crash { .. }
            | Input::Propose { .. }
            | Input::Read { .. }
            | Input::Damage { .. }
            | Input::Snapshot
            | Input::Campaign
            | Input::StepDown
            | Input::Pass { .. } => input.clone(),
        })
    }

    /// Notes what two servers have sent. `None`: the one has sent something else than the other in
    /// its place, as who goes and hands over to the first by name.
    fn add(&mut self, sent: &[Effect], images: &[Effect], exchange: &Exchange) -> Option<()> {
        let to = |effects: &[Effect], server: Member| -> Vec<Envelope> {
            let sent = effects.iter().filter_map(letter).filter(|letter| letter.to == server);
            sent.cloned().collect()
        };
        for (server, place) in exchange.iter().enumerate() {
            let sent = to(sent, member(server));
            let images = to(images, member(*place));
            let is_kind = |(one, other): (&Envelope, &Envelope)| one.rpc.kind() == other.rpc.kind();
            if sent.len() != images.len() || !sent.iter().zip(&images).all(is_kind) {
                return None;
            }
            for (letter, image) in sent.into_iter().zip(images) {
                match self.image(&letter) {
                    Some(known) if *known != image => return None,
                    Some(_) => {}
                    None => self.0.push((letter, image)),
                }
            }
        }
        Some(())
    }
}

/// The members of each membership in which somebody may begin to lead after a start.
fn memberships(start: &Start) -> Vec<Vec<Member>> {
    let known = start.hosts.iter().flat_map(Host::memberships).map(|(_, known)| known.members());
    let newest = start.hosts.iter().map(|host| host.raft.status().membership);
    let left = newest.filter(|newest| newest.is_joint()).map(|joint| joint.left().members());
    let mut all: Vec<Vec<Member>> = known.chain(left).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether an exchange tells apart the streams that a new leader opens in different memberships.
///
/// It numbers them in the order of names. One number for one peer in two memberships is one name for
/// two streams, and so for their messages: then the streams in their places have to have one name
/// too, or the image of a message would depend on the life that it is taken from.
fn is_numbered_alike(memberships: &[Vec<Member>], exchange: &Exchange) -> bool {
    let number = |members: &[Member], leader: usize, peer: usize| {
        let others = members.iter().filter(|other| **other != member(leader));
        others.clone().position(|other| *other == member(peer))
    };
    let ends = (0..exchange.len()).flat_map(|from| (0..exchange.len()).map(move |to| (from, to)));
    let pairs = memberships.iter().flat_map(|one| memberships.iter().map(move |two| (one, two)));
    pairs.flat_map(|pair| ends.clone().map(move |ends| (pair, ends))).all(|((one, two), ends)| {
        let is_one = |(leader, peer): (usize, usize)| {
            let numbers = [number(one, leader, peer), number(two, leader, peer)];
            numbers[0].is_some() && numbers[0] == numbers[1]
        };
        !is_one(ends) || is_one((exchange[ends.0], exchange[ends.1]))
    })
}

fn letter(effect: &Effect) -> Option<&Envelope> {
    if let Effect::Send(letter) = effect { Some(letter) } else { None }
}

fn place(id: NodeId, exchange: &Exchange) -> NodeId {
    let at = usize::try_from(id.0).expect("servers have small numbers") - 1;
    member(exchange[at]).id
}

/// A change that speaks of the others.
fn exchanged(change: &MembershipChange, exchange: &Exchange) -> MembershipChange {
    let id = |id: &NodeId| place(*id, exchange);
    let step = |step: &MemberStep| match step {
        MemberStep::AddLearner(added) => MemberStep::AddLearner(member(exchange[position(*added)])),
        MemberStep::Promote(node) => MemberStep::Promote(id(node)),
        MemberStep::Demote(node) => MemberStep::Demote(id(node)),
        MemberStep::Remove(node) => MemberStep::Remove(id(node)),
        MemberStep::Replace { old, new } => MemberStep::Replace { old: id(old), new: id(new) },
    };
    let steps = |steps: &[MemberStep]| steps.iter().map(step).collect();
    match change {
        MembershipChange::Steps(one) => MembershipChange::Steps(steps(one)),
        MembershipChange::EnterJoint(one) => MembershipChange::EnterJoint(steps(one)),
        MembershipChange::LeaveJoint => MembershipChange::LeaveJoint,
    }
}
