//! Leases over random histories (thesis §6.4.1): while a host may answer by a lease, nobody else
//! leads a later term; whatever is lost, crashes, is handed over, replaced or asked for by hand, and
//! however the clocks drift apart within their bound.

use raft_core::{
    Body, Config, MemberStep, MembershipChange, NodeId, ReadMode, RoleName, Term, Ticket, Time,
};

use crate::dice::Dice;
use crate::support::{Cluster, member};

const NODES: u64 = 5;
const DRIFT_PERCENT: u64 = 10;

/// A read by lease that a host may answer, until its own clock says otherwise.
struct Lent {
    by: u64,
    term: Term,
    until: Time,
}

struct History {
    cluster: Cluster,
    dice: Dice,
    /// True time; a node's clock runs up to the drift bound faster.
    time: u64,
    drifts: Vec<u64>,
    tickets: u64,
    lent: Vec<Lent>,
    /// How many leases were given out, and how many terms had a leader.
    given: u64,
    last_term: Term,
    terms: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let (check_quorum, pre_vote) = (dice.below(2) == 0, dice.below(2) == 0);
        let lease_us = 300 + 100 * dice.below(8);
        let cluster = Cluster::with(&[1, 2, 3], &[4, 5], |config: &mut Config| {
            config.lease_us = lease_us;
            config.clock_drift_percent = 10;
            config.check_quorum = check_quorum;
            config.pre_vote = pre_vote;
        });
        let drifts = (0..=NODES).map(|_| dice.below(DRIFT_PERCENT + 1)).collect();
        let (last_term, time) = (Term::ZERO, 0);
        let (tickets, given, terms, lent) = (0, 0, 0, Vec::new());
        Self { cluster, dice, time, drifts, tickets, lent, given, last_term, terms }
    }

    fn clock(&self, id: u64) -> Time {
        let drift = self.drifts[usize::try_from(id).expect("small")];
        Time(self.time + self.time * drift / 100)
    }

    fn step(&mut self, id: u64, body: Body) {
        self.cluster.now = self.clock(id);
        self.cluster.step(id, body);
    }

    fn node(&mut self) -> u64 {
        1 + self.dice.below(NODES)
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn advance(&mut self) {
        self.time += self.dice.below(15);
        match self.dice.below(1_000) {
            0..600 => self.deliver(),
            600..800 => self.tick(),
            800..900 => self.read(),
            900..940 => self.propose(),
            940..950 => self.change(),
            950..965 => self.transfer(),
            965..970 => self.crash(),
            970..975 => self.by_hand(Body::StepDown),
            975..985 => self.by_hand(Body::ForgetLeader),
            985..995 => self.by_hand(Body::Campaign),
            _ => self.cluster.network.clear(),
        }
        self.check();
    }

    /// A message arrives, in any order; sometimes twice, sometimes never.
    fn deliver(&mut self) {
        let waiting = self.cluster.network.len() as u64;
        if waiting == 0 {
            return;
        }
        let at = usize::try_from(self.dice.below(waiting.min(6))).expect("small");
        let envelope = match self.dice.below(30) {
            0 => self.cluster.network[at].clone(),
            1 => {
                self.cluster.network.remove(at);
                return;
            }
            _ => self.cluster.network.remove(at),
        };
        self.step(envelope.to.id.0, Body::Peer(envelope));
    }

    /// Whoever is due gets its tick.
    fn tick(&mut self) {
        for id in 1..=NODES {
            let deadline = self.cluster.server(id).raft.next_deadline();
            if deadline.is_some_and(|deadline| deadline <= self.clock(id)) {
                self.step(id, Body::Tick);
            }
        }
    }

    fn read(&mut self) {
        let (id, ticket) = (self.node(), self.ticket());
        let term = self.cluster.status(id).term;
        self.step(id, Body::Read { ticket, mode: ReadMode::Lease });
        if let Some(until) = self.cluster.server(id).valid_until.get(&ticket).copied() {
            self.given += 1;
            self.lent.push(Lent { by: id, term, until });
        }
    }

    fn propose(&mut self) {
        let (id, ticket) = (self.node(), self.ticket());
        self.cluster.now = self.clock(id);
        self.cluster.propose(id, ticket.0, "x");
    }

    fn change(&mut self) {
        let Some(leader) = self.leader() else { return };
        let (one, other) = (NodeId(self.node()), NodeId(self.node()));
        let step = match self.dice.below(5) {
            0 => MemberStep::Promote(one),
            1 => MemberStep::Demote(one),
            2 | 3 => MemberStep::Replace { old: one, new: other },
            _ => MemberStep::AddLearner(member(one.0)),
        };
        let second = MemberStep::Replace { old: other, new: one };
        let steps = if self.dice.below(2) == 0 { vec![step] } else { vec![step, second] };
        let (ticket, change) = (self.ticket(), MembershipChange::Steps(steps));
        self.step(leader, Body::ProposeMembership { ticket, change, expect: None });
    }

    fn transfer(&mut self) {
        let Some(leader) = self.leader() else { return };
        let (ticket, to) = (self.ticket(), Some(NodeId(self.node())));
        self.step(leader, Body::TransferLeadership { ticket, to });
    }

    /// The host dies with its node, and answers nothing any more.
    fn crash(&mut self) {
        let id = self.node();
        self.lent.retain(|lent| lent.by != id);
        self.cluster.now = self.clock(id);
        self.cluster.crash(id);
    }

    fn by_hand(&mut self, body: Body) {
        let id = self.node();
        self.step(id, body);
    }

    fn leader(&mut self) -> Option<u64> {
        let is_leader = |id: &u64| self.cluster.status(*id).role == RoleName::Leader;
        (1..=NODES).filter(is_leader).max_by_key(|id| self.cluster.status(*id).term)
    }

    fn check(&mut self) {
        let mut lent = std::mem::take(&mut self.lent);
        lent.retain(|lent| self.clock(lent.by) < lent.until);
        for id in 1..=NODES {
            let status = self.cluster.status(id);
            if status.role != RoleName::Leader {
                continue;
            }
            for Lent { by, term, until } in &lent {
                assert!(
                    status.term <= *term || id == *by,
                    "n{id} leads {} at {}, but n{by} of {term} may answer until {until} by its clock",
                    status.term,
                    self.time
                );
            }
            if status.term > self.last_term {
                self.last_term = status.term;
                self.terms += 1;
            }
        }
        self.lent = lent;
    }
}

#[test]
fn nobody_leads_while_a_host_may_answer_by_another_ones_lease() {
    let (mut given, mut terms) = (0, 0);
    for seed in 0..150 {
        let mut history = History::new(seed);
        for _ in 0..3_000 {
            history.advance();
        }
        given += history.given;
        terms += history.terms;
    }
    assert!(given > 1_000 && terms > 500, "{given} leases, {terms} terms with a leader");
}
