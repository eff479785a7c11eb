//! Strikes against a leader that reads by lease, prepared so that a read would be wrong if one of the
//! rules did not hold that leases rest on (thesis §6.4.1).
//!
//! By chance alone the right moments come together too seldom: a successor that is elected within the
//! drift of clocks, an answer that has waited for longer than its lease, a word to campaign that comes
//! when it is not meant any more. Each of these takes the fault that it is drawn for, and what else it
//! needs. The clients are parted: some go on reading from the leader, the others find its successor.

use raft_replica::request::Input;

use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::nemesis::{Strike, Target};
use crate::options::Options;
use crate::rng::Ratio;
use crate::workload::Workload;
use crate::world::World;

impl<W: Workload> World<W> {
    /// Whether a strike is one of these, as many are that are aimed at the leader.
    pub(crate) fn is_ambush(&self, at: NodeAt, strike: &Strike) -> bool {
        let is_aimed = matches!(strike.at, Target::Leader(_)) && self.leader() == Some(at);
        let is_heads = |bit: u32| strike.clients >> bit & 1 == 0;
        let is_drawn = if strike.fault == Fault::Crash {
            is_heads(1) && is_heads(2)
        } else if strike.fault == Fault::Clog {
            is_heads(3)
        } else {
            matches!(strike.fault, Fault::Stall | Fault::Campaign) && is_heads(0)
        };
        is_aimed && self.options.lease_us > 0 && is_drawn
    }

    /// Strikes.
    pub(crate) fn ambush(&mut self, leader: NodeAt, strike: Strike) -> Result<(), Failure> {
        if strike.fault == Fault::Crash {
            return self.restart_around(leader, strike);
        }
        if strike.fault == Fault::Clog {
            self.delay_answers(leader, strike);
        } else if strike.fault == Fault::Stall {
            self.withhold(leader, strike);
        } else {
            self.lure(leader, strike);
        }
        Ok(())
    }

    /// All processes but the leader's end and start at once, and one campaigns, while the leader
    /// stands still with its clients: who forgets at a start what was promised helps to elect
    /// another leader while this one may still answer.
    fn restart_around(&mut self, leader: NodeAt, mut strike: Strike) -> Result<(), Failure> {
        let lasts_us = strike.draw.range(1, self.options.election_timeout_us);
        self.part_clients(leader, lasts_us, strike.clients >> 8);
        self.pause(leader, lasts_us);
        let eager = strike.draw.position(self.nodes.len());
        for at in (0..self.nodes.len()).filter(|&at| at != leader) {
            if self.stop(at) {
                self.stats.tally.both(Fault::Crash);
                self.start(at)?;
            }
        }
        self.checker.urged(self.nodes[eager].member.id);
        self.deliver(eager, Input::Campaign)
    }

    /// What a leader has asked just before it is cut off is answered as late as a lease bears it,
    /// while its clients wait with it: who counts a lease from the answer has one that outlasts the
    /// promises, and a successor before it is over.
    fn delay_answers(&mut self, leader: NodeAt, mut strike: Strike) {
        let Options { lease_us, election_timeout_us, heartbeat_interval_us, .. } = self.options;
        let late_us = strike.draw.range(lease_us / 2, lease_us);
        let lasts_us = election_timeout_us * 3;
        self.part_clients(leader, lasts_us, strike.clients >> 8);
        for other in (0..self.nodes.len()).filter(|&other| other != leader) {
            self.clog(Fault::Clog, self.network.link(other, leader), late_us);
            let link = self.network.link(leader, other);
            self.queue.after(heartbeat_interval_us, Event::Clog { link, lasts_us });
        }
    }

    /// A leader's disk falls behind, so that others commit before it does, and what it is asked waits
    /// for it. Then the leader stands still until it has a successor: those answers are too late.
    fn withhold(&mut self, leader: NodeAt, mut strike: Strike) {
        let timeout_us = self.options.election_timeout_us;
        let delay_us = strike.draw.range(1, timeout_us / 2);
        let lasts_us = strike.draw.range(timeout_us, timeout_us * 3);
        self.part_clients(leader, delay_us + lasts_us, strike.clients >> 8);
        self.stall(leader, delay_us + strike.draw.range(1, lasts_us / 2));
        self.queue.after(delay_us, Event::Freeze { node: leader, lasts_us });
    }

    /// For an election timeout a leader reaches no more followers than it needs, one of whom is told
    /// to campaign then. The others miss their leader by that time, and have promised nothing any more:
    /// with them it can win, unless its own promise keeps it from trying.
    fn lure(&mut self, leader: NodeAt, mut strike: Strike) {
        let timeout_us = self.options.election_timeout_us;
        let wait_us = strike.draw.range(timeout_us, timeout_us * 3 / 2);
        let voters = (0..self.nodes.len()).filter(|&at| at != leader && self.votes(at));
        let mut voters: Vec<NodeAt> = voters.collect();
        if voters.is_empty() {
            return;
        }
        let first = strike.draw.position(voters.len());
        voters.rotate_left(first);
        self.part_clients(leader, wait_us + timeout_us, strike.clients >> 8);
        // With itself, these are the least that a leader needs.
        for &other in &voters[voters.len().div_ceil(2)..] {
            self.clog(Fault::Clog, self.network.link(leader, other), wait_us + timeout_us / 2);
        }
        self.queue.after(wait_us, Event::Urge { node: voters[0] });
    }

    /// A leader that hands over stands still for a moment, and its clients wait with it: what it
    /// answers when it goes on must not be what its successor has replaced by then. Or its word comes
    /// when it has long given up on that, and leads on.
    pub(crate) fn shadow(&mut self, at: NodeAt, link: u32) {
        let mut draw = self.schedule.draw();
        let is_on = |fault| self.options.faults.contains(fault) && self.healed.is_none();
        let timeout_us = self.options.election_timeout_us;
        if is_on(Fault::Pause) && draw.chance(Ratio::new(1, 2)) {
            let lasts_us = draw.range(1, timeout_us / 2);
            self.part_clients(at, lasts_us, draw.word());
            self.pause(at, lasts_us);
        } else if is_on(Fault::Clog) && draw.chance(Ratio::new(1, 2)) {
            let lasts_us = draw.range(timeout_us, timeout_us * 4);
            self.clog(Fault::Clog, link, lasts_us);
        }
    }
}
