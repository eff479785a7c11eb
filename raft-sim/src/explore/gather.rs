//! A candidate hears votes in one go.
//!
//! Which answers a candidate has counted is read by nobody but the decision of its own election, and
//! what it has heard stays in its mail until then (see `letters.rs`: an answer to a candidate is
//! forgotten when hearing it changes nothing, or when its election is over). So a candidate that has
//! noted some of its votes can do nothing that one cannot do which has noted none of them:
//!
//! - what it does by anything but an answer, it does whatever it has counted, and either it is still
//!   the candidate that it was, with the same count, or it is none any more, and the count is gone;
//! - what it does by one more answer, the other one does by hearing all of them now, in the same order.
//!
//! The other way round, to hear several answers one right after the other is nothing new. So no
//! state is visited in which an answer was merely noted: where one could be heard, all orders are
//! followed in which those that are there can be, until something else comes of it than a longer count;
//! each outcome is one step ([`Store::gathered`]). None is heard a second time in vain by a node that
//! counts each once; one that does not is followed until it has heard twice as many. What such
//! a state would be asked is nothing that the one before it is not asked as well, since no promise
//! speaks of counts. Neither does the history: a note says nothing, and is no fact.
//!
//! It is not so while a candidate's own vote is on its way to the disk, for then the end of the write
//! decides too: its answers are noted as they come. (No honest voter has been asked by then.) For
//! pre-votes nothing is written.
//!
//! Which state stands for which is not touched: a state that has heard nothing has the messages of the
//! one that has, and maybe more. Nor does it matter whether names are exchanged, for the image of a
//! note is a note; nor whether writes hurry, for a note writes nothing; nor how late it is, for no
//! timer is set by a note.

use std::sync::Arc;

use raft_core::{RoleName, RpcKind};

use super::bounds::Bounds;
use super::host::{Host, Input};
use super::store::{IDLE, Step, Store};

impl Store {
    /// The steps that messages lead a server to: each by itself, but for answers to a candidate, of
    /// which those together are one step that decide something.
    pub(crate) fn gathered(&mut self, bounds: &Bounds, host: u32, letters: &[u32]) -> Vec<u32> {
        let is_answer = |letter: &&u32| is_answer(self.letters.get(**letter).rpc.kind());
        let answers: Vec<u32> = letters.iter().filter(is_answer).copied().collect();
        let mut steps: Vec<u32> =
            letters.iter().map(|letter| self.hear(bounds, host, *letter)).collect();
        steps.retain(|step| *step != IDLE && !self.is_noted(*step));
        // The candidate with each count that it can come to, and what it has heard until then.
        let mut counts = vec![(host, Vec::new())];
        let mut next = 0;
        while let Some((at, heard)) = counts.get(next).cloned() {
            for letter in &answers {
                let name = self.hear(bounds, at, *letter);
                if name == IDLE {
                    continue;
                }
                if self.is_noted(name) {
                    let to = self.steps[name as usize].to;
                    let is_short = heard.len() < 2 * answers.len();
                    if is_short && !counts.iter().any(|(known, _)| *known == to) {
                        counts.push((to, [&heard[..], &[*letter]].concat()));
                    }
                } else if !steps.iter().any(|known| self.is_alike(*known, name)) {
                    steps.push(self.hear_before(host, &heard, name));
                }
            }
            next += 1;
        }
        steps
    }

    /// Whether all that a step does is to make the count of a candidate longer.
    pub(crate) fn is_noted(&self, name: u32) -> bool {
        let step = &self.steps[name as usize];
        let Input::Deliver(letter) = &step.input else { return false };
        let is_silent = step.sent.is_empty() && step.facts.is_empty() && step.broken.is_none();
        if !is_answer(letter.rpc.kind()) || !is_silent || step.is_beyond {
            return false;
        }
        let (before, after) = (self.hosts.get(step.from), self.hosts.get(step.to));
        letter.term == before.raft.status().term
            && is_counting(before)
            && before.raft.status() == after.raft.status()
            && before.is_alike_outside(after)
    }

    /// Whether two steps of one server are the same but for the messages that lead to them.
    fn is_alike(&self, one: u32, other: u32) -> bool {
        let of = |step: u32| {
            let Step { to, sent, facts, broken, is_beyond, .. } = &*self.steps[step as usize];
            // Nobody follows what leads beyond the bounds.
            (*is_beyond, if *is_beyond { None } else { Some((*to, sent, facts, broken)) })
        };
        of(one) == of(other)
    }

    /// The step by which a server takes another one after it has heard these messages.
    fn hear_before(&mut self, host: u32, heard: &[u32], name: u32) -> u32 {
        if heard.is_empty() {
            return name;
        }
        let key = (host, heard.to_vec(), name);
        if let Some(known) = self.hearings.get(&key) {
            return *known;
        }
        let mut step = Step::clone(&self.steps[name as usize]);
        let envelopes = heard.iter().map(|letter| Arc::clone(self.letters.get(*letter)));
        (step.from, step.heard) = (host, envelopes.collect());
        let known = self.add_step(step);
        self.hearings.insert(key, known);
        known
    }
}

/// Whether a message answers a candidate, or who asks before it becomes one.
pub(crate) fn is_answer(kind: RpcKind) -> bool {
    matches!(kind, RpcKind::RequestVoteResponse | RpcKind::RequestPreVoteResponse)
}

/// Whether nothing but answers makes a server look at its count.
fn is_counting(host: &Host) -> bool {
    match host.raft.status().role {
        RoleName::PreCandidate => true,
        RoleName::Candidate => host.unsynced.iter().all(|batch| batch.hard_state.is_none()),
        RoleName::Follower | RoleName::Leader | RoleName::Halted => false,
    }
}
