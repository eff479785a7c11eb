//! QS: a group that works, and of which nobody wants anything, is quiet.
//!
//! Once everything has come true that must after the faults, the run goes on until nothing but
//! heartbeats and their answers has passed between the members for a while, no more of them than the
//! interval allows, none of them has had anything to tell, or shows anything else than before (no
//! election, no message that is refused, no entry), and nobody waits for an answer of theirs. What was
//! under way may end first: requests that were open when the faults ended, and answers to them. A group
//! that is still busy after a bound that is a multiple of the timeouts never comes to rest.
//!
//! Groups with members outside the core, who may knock for ever, owe the answers and nothing else.
//! Absent: what servers say, and are told, that are no members.

use raft_core::{Envelope, Member, Observation, Rpc};

use crate::event::NodeAt;
use crate::failure::Failure;
use crate::node::Seen;
use crate::workload::Workload;
use crate::world::World;

/// For how many heartbeat intervals a group must be quiet.
const HEARTBEATS: u64 = 8;

/// How long it may take until then, in election timeouts and in client timeouts.
const TIMEOUTS_MAX: u64 = 60;

/// How the members rest.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    /// Since when they do.
    since: u64,
    /// What has disturbed them last.
    noise: String,
    /// Heartbeats since then.
    heartbeats: u64,
    heartbeats_max: u64,
}

impl<W: Workload> World<W> {
    /// Runs until the group has been quiet for a while.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), Failure> {
        let membership = self.checker.committed_membership();
        let is_outside = |member: &Member| {
            self.nodes.iter().any(|node| node.member == *member && node.outside.is_some())
        };
        let members = membership.members();
        let is_whole = !members.iter().any(is_outside);
        let options = &self.options;
        let interval = options.heartbeat_interval_us;
        let bound = TIMEOUTS_MAX * (options.election_timeout_us + options.client.timeout_us);
        if !is_whole {
            return self.answer_all(self.queue.now() + bound);
        }
        let (now, peers) = (self.queue.now(), members.len() as u64 - 1);
        let noise = "the end of the faults".to_owned();
        // Their answers are counted as well.
        let heartbeats_max = 2 * (HEARTBEATS + 1) * peers;
        self.rest = Some(Rest { since: now, noise, heartbeats: 0, heartbeats_max });
        loop {
            let Some(rest) = &self.rest else { return Ok(()) };
            if rest.since > now + bound {
                return Err(Failure::Unrest(format!(
                    "still busy after {bound} us: {}",
                    rest.noise
                )));
            }
            if self.queue.now() > rest.since + HEARTBEATS * interval {
                match self.owing() {
                    Some(noise) => self.wake(noise),
                    None => {
                        self.rest = None;
                        self.stats.rested += 1;
                        return Ok(());
                    }
                }
            }
            self.next()?;
        }
    }

    /// Runs until nobody waits for an answer of the core.
    fn answer_all(&mut self, deadline: u64) -> Result<(), Failure> {
        while let Some(owing) = self.owing() {
            if self.queue.now() > deadline {
                return Err(Failure::Unrest(owing));
            }
            self.next()?;
        }
        Ok(())
    }

    /// Whether a node is a member, and at rest: whatever it does is looked at.
    fn is_resting(&self, at: NodeAt) -> bool {
        self.rest.is_some() && self.checker.committed_membership().is_member(self.nodes[at].member)
    }

    /// A node sends a message.
    pub(crate) fn hear_message(&mut self, from: NodeAt, to: NodeAt, envelope: &Envelope) {
        if !self.is_resting(from) || !self.is_resting(to) {
            return;
        }
        if matches!(envelope.rpc, Rpc::Heartbeat { .. } | Rpc::HeartbeatResponse { .. }) {
            let Some(rest) = &mut self.rest else { return };
            rest.heartbeats += 1;
            if rest.heartbeats <= rest.heartbeats_max {
                return;
            }
        }
        self.wake(format!("{} sends {envelope}", envelope.from));
    }

    /// A node has something to tell.
    pub(crate) fn hear_observation(&mut self, at: NodeAt, observation: &Observation) {
        let stranger = |from: &Member| !self.checker.committed_membership().is_member(*from);
        let by_stranger = matches!(
            observation,
            Observation::Refused { from: Some(from), .. } if stranger(from)
        );
        if self.is_resting(at) && !by_stranger {
            self.wake(format!("{} tells {observation}", self.nodes[at].member));
        }
    }

    /// A node shows something else than before.
    pub(crate) fn hear_change(&mut self, at: NodeAt, before: Seen) {
        let node = &self.nodes[at];
        if before != node.seen && self.is_resting(at) {
            self.wake(format!("{} was {before:?} and is {:?}", node.member, node.seen));
        }
    }

    fn wake(&mut self, noise: String) {
        let now = self.queue.now();
        if let Some(rest) = &mut self.rest {
            *rest = Rest { since: now, noise, heartbeats: 0, ..*rest };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::options::Options;
    use crate::world::World;

    #[test]
    fn groups_come_to_rest() {
        let rested = (0..16).filter(|seed| {
            let mut world = World::of_options(Options::draw(*seed, 1_000));
            assert_eq!(world.run(), Ok(()), "seed {seed}");
            world.stats().rested == 1
        });
        assert!(rested.count() > 4, "most groups have all their members");
    }
}
