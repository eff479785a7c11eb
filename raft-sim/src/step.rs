//! One step of a node: inputs in, outputs to the checker, the network, the disk and the clients.

use std::cmp::Ordering;
use std::mem;

use bytes::Bytes;
use raft_core::wire::{self, WireError};
use raft_core::{
    Body, Effect, EntryResult, Message, Observation, ReadMode, RepairRpc, RoleName, Rpc, Ticket,
    Time,
};
use raft_replica::request::{Input, Output, Reply, RequestId};
use raft_replica::storage::work::Work;

use crate::asking::{attempt, client_id, is_misspoken};
use crate::check::{Load, Resident};
use crate::client::{Client, Heard};
use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::foreign::FOREIGN;
use crate::network::Fate;
use crate::node::Seen;
use crate::observe::{Happening, Loss};
use crate::operator;
use crate::process::is_failure;
use crate::sabotage::Sabotage;
use crate::script::Overheard;
use crate::workload::{Machine, Workload};
use crate::world::World;

/// What a node holds is looked at in one event of so many.
const LOOKED_AT_EVERY: u64 = 8;

impl<W: Workload> World<W> {
    /// A frame has come to the end of a link, which it has entered at this position.
    pub(crate) fn arrive(
        &mut self,
        (link, sequence): (u32, u32),
        connection: u32,
        is_copy: bool,
        (frame, is_changed): (Bytes, bool),
    ) -> Result<(), Failure> {
        let (from, to) = self.network.ends(link);
        let counts =
            self.network.arrive(link, (sequence, is_copy), connection, &mut self.stats.tally);
        let is_down = !self.nodes[to].is_up();
        let loss = if !counts {
            Some(Loss::Network(Fault::Reset))
        } else if is_down {
            Some(Loss::Down)
        } else {
            None
        };
        self.watch_arrival((link, sequence), is_copy, loss);
        if !counts {
            return Ok(());
        }
        if is_down {
            // A host that is up refuses connections to a process that is not: its peer notices.
            let life = self.nodes[from].life;
            self.queue.after(1, Event::Unreachable { link, life });
            return Ok(());
        }
        if is_copy {
            self.stats.tally.effective(Fault::Duplication);
        }
        if let Some(process) = &mut self.nodes[to].process {
            process.changed_frames += usize::from(is_changed);
        }
        self.deliver(to, Input::Frame(frame))
    }

    /// Gives a node an input: at once, or when it next looks at its inbox.
    pub(crate) fn deliver(&mut self, at: NodeAt, input: Input<Machine<W>>) -> Result<(), Failure> {
        let now = self.queue.now();
        let node = &mut self.nodes[at];
        let local = node.now(now);
        let inbox_us = node.inbox_us(&self.options);
        let is_slow = node.slowness > 1;
        let Some(process) = node.process.as_mut().filter(|process| !process.is_closing()) else {
            return Ok(());
        };
        if node.paused || inbox_us > 0 {
            process.inbox.push(input);
            if node.paused {
                self.stats.tally.effective(Fault::Pause);
            } else if !mem::replace(&mut process.is_woken, true) {
                let delay_us = self.schedule.draw().below(inbox_us + 1);
                if is_slow {
                    self.stats.tally.effective(Fault::SlowNode);
                }
                self.queue.after(delay_us, Event::Inbox { node: at, life: node.life });
            }
            return Ok(());
        }
        self.trace.taking(at, local, &process.replica, std::slice::from_ref(&input));
        let heard = self.scribe.as_ref().map(|_| Overheard::of(&input));
        self.attempts.extend(attempt(&input));
        process.unanswered.note(&input);
        if is_failure(&input) {
            self.checker.fell_silent(node.member.id);
        }
        process.replica.handle(local, input, &mut self.outputs);
        self.refusals(at)?;
        self.write_down(at, heard);
        self.after_step(at)
    }

    /// A node looks at its inbox.
    pub(crate) fn drain_inbox(&mut self, at: NodeAt) -> Result<(), Failure> {
        let now = self.queue.now();
        let node = &mut self.nodes[at];
        let local = node.now(now);
        let Some(process) = &mut node.process else { return Ok(()) };
        process.is_woken = false;
        self.trace.taking(at, local, &process.replica, &process.inbox);
        let heard: Vec<Overheard> = match &self.scribe {
            None => Vec::new(),
            Some(_) => process.inbox.iter().map(Overheard::of).collect(),
        };
        self.attempts.extend(process.inbox.iter().filter_map(attempt));
        process.inbox.iter().for_each(|input| process.unanswered.note(input));
        let has_failed = process.inbox.iter().any(is_failure);
        process.replica.handle_batch(local, process.inbox.drain(..), &mut self.outputs);
        self.refusals(at)?;
        self.write_down(at, heard);
        self.after_batch(at, has_failed)
    }

    /// A node looks at what its clients have asked, and only after that at the rest of its inbox.
    pub(crate) fn drain_requests(&mut self, at: NodeAt) -> Result<(), Failure> {
        let local = self.nodes[at].now(self.queue.now());
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        let is_request = |input: &Input<Machine<W>>| matches!(input, Input::Request { .. });
        let (requests, rest) = mem::take(&mut process.inbox).into_iter().partition(is_request);
        process.inbox = rest;
        let requests: Vec<Input<Machine<W>>> = requests;
        self.trace.taking(at, local, &process.replica, &requests);
        let heard: Vec<Overheard> = match &self.scribe {
            None => Vec::new(),
            Some(_) => requests.iter().map(Overheard::of).collect(),
        };
        self.attempts.extend(requests.iter().filter_map(attempt));
        requests.iter().for_each(|input| process.unanswered.note(input));
        process.replica.handle_batch(local, requests, &mut self.outputs);
        self.write_down(at, heard);
        self.after_step(at)
    }

    /// The scribe hears what a node was given.
    fn write_down(&mut self, at: NodeAt, heard: impl IntoIterator<Item = Overheard>) {
        let Some(scribe) = &mut self.scribe else { return };
        let Some(process) = &self.nodes[at].process else { return };
        let (is_silent, role) = (self.outputs.is_empty(), process.replica.status().role);
        for one in heard {
            scribe.hear(at, &one, is_silent, role);
        }
    }

    /// Executes what a step has put out, and closes it.
    pub(crate) fn after_step(&mut self, at: NodeAt) -> Result<(), Failure> {
        self.after_batch(at, false)
    }

    fn after_batch(&mut self, at: NodeAt, has_failed: bool) -> Result<(), Failure> {
        let mut outputs = mem::take(&mut self.outputs);
        let now = self.queue.now();
        self.watch_step(at, &outputs);
        self.checker.stepped(self.nodes[at].member.id, self.nodes[at].now(now));
        self.note_persists(at, &outputs)?;
        if has_failed {
            // What it read before may have made it write, but not even what it answers leaves any more.
            self.checker.fell_silent(self.nodes[at].member.id);
        }
        let result = outputs.drain(..).try_for_each(|output| self.execute(at, output));
        self.outputs = outputs;
        self.tell(&Happening::Closed { node: at });
        result?;
        self.count_unanswered(at)?;
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return Ok(()) };
        let status = process.replica.status();
        let before = node.seen;
        node.seen = Seen {
            role: Some(status.role),
            term: status.term.0,
            last: status.last.index.0,
            commit: status.commit.0,
            applied: status.applied.0,
            base: status.base.index.0,
            is_hurt: status.damaged > 0 || status.is_snapshot_damaged || status.is_tail_unknown,
        };
        if self.stats.events.is_multiple_of(LOOKED_AT_EVERY) {
            let replica = &process.replica;
            let (peers, requests) = (replica.raft().peers(), replica.requests_open());
            let (bytes, cold) = replica.raft().resident();
            let resident = Resident { bytes, cold, settled: status.applied.min(status.durable) };
            let sessions = replica.sessions().len();
            // Who has halted looks after nothing any more.
            let is_over = status.role == RoleName::Halted;
            let resident = if is_over { Resident::default() } else { resident };
            let load = Load { peers, requests, sessions, resident };
            self.checker.load_observed(node.member.id, &load)?;
        }
        if let Some(until) = process.new_lease() {
            let until = Time(node.clock.when(until, now));
            self.checker.leased(node.member.id, until, Time(now))?;
        }
        // A halted node has taken back what it had not yet asked of its disk; its log in memory may
        // be longer than anything that it told. It says nothing more, so nothing is promised by it.
        if status.role == RoleName::Halted {
            self.checker.fell_silent(node.member.id);
        } else {
            self.checker.commit_observed(node.member.id, status.commit)?;
            self.checker.membership_observed(node.member.id, &status.membership)?;
        }
        self.schedule_deadline(at, now);
        self.hear_change(at, before);
        Ok(())
    }

    /// A step changes the log first, in the node's memory; the order of its outputs is free.
    fn note_persists(&mut self, at: NodeAt, outputs: &[Output<Machine<W>>]) -> Result<(), Failure> {
        for output in outputs {
            let Output::Work(Work::Persist { batch, .. }) = output else { continue };
            self.digest.word(batch.seq.n);
            self.checker.persist_issued(self.nodes[at].member.id, batch)?;
            self.note_payloads(batch);
            if self.sabotage == Sabotage::SuffixResurrected {
                self.nodes[at].graveyard.persist(batch);
            }
        }
        self.note_attempts(at, outputs);
        Ok(())
    }

    /// Puts the node's deadline into the queue, unless one that comes no later is there: that one
    /// looks again when it comes up.
    pub(crate) fn schedule_deadline(&mut self, at: NodeAt, now: u64) {
        let node = &mut self.nodes[at];
        let Some(process) = &node.process else { return };
        let Some(due) = process.replica.next_deadline() else { return };
        let when = node.clock.when(due, now);
        if when < node.deadline.1 {
            // A tick that leaves a deadline in the past must not stop time.
            let when = when.max(now + 1);
            node.deadline = (node.deadline.0 + 1, when);
            let generation = node.deadline.0;
            self.queue.at(when, Event::Deadline { node: at, generation });
        }
    }

    fn execute(&mut self, at: NodeAt, output: Output<Machine<W>>) -> Result<(), Failure> {
        let id = self.nodes[at].member.id;
        match output {
            Output::Send { to, frame } => {
                let to = usize::try_from(to.id.0 - 1).expect("there are few nodes");
                self.send(at, to, frame)
            }
            Output::Reply { id, reply } => {
                self.note_answered(at, id, &reply)?;
                self.settle(at, id, &reply)?;
                self.reply(id, reply)
            }
            Output::Work(work) => self.work(at, work),
            Output::Save { snapshot, state } => {
                self.encode_later(at, (snapshot, state));
                Ok(())
            }
            Output::Applied { entries, digest } => {
                self.digest.word(digest);
                self.checker.applied(id, &entries, digest)?;
                self.inspect_machine(at)
            }
            Output::Restored { snapshot, digest } => {
                self.digest.word(digest);
                self.stats.restored += 1;
                self.checker.restored(id, &snapshot, digest)?;
                if let Some(process) = &mut self.nodes[at].process {
                    process.is_restored = true;
                }
                self.inspect_machine(at)
            }
            Output::Observe(observation) => self.observe(at, &observation),
            Output::BadFrame(error) => {
                let is_version = error == WireError::UnknownVersion(FOREIGN);
                let fault = if is_version { Fault::WireVersion } else { Fault::Corruption };
                self.stats.tally.effective(fault);
                Ok(())
            }
            Output::BadSnapshot { .. } if self.is_damaged(at) => {
                // It says no more; somebody starts it again, and then it asks its peers.
                self.restart_after(at, 1 + self.options.fault_us);
                Ok(())
            }
            Output::BadSnapshot { snapshot, error } => {
                let what = format!("a bad {snapshot}: {error}");
                Err(Failure::Reported { node: id, what })
            }
        }
    }

    /// A node has read frames: it must have refused those that the network had changed, and no others.
    fn refusals(&mut self, at: NodeAt) -> Result<(), Failure> {
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return Ok(()) };
        let changed = mem::take(&mut process.changed_frames);
        let errors = self.outputs.iter().filter_map(|output| {
            let Output::BadFrame(error) = output else { return None };
            Some(error)
        });
        let refused = errors.clone().count();
        let what = match refused.cmp(&changed) {
            Ordering::Equal => return Ok(()),
            Ordering::Less => "takes a frame that is not as it was sent".to_owned(),
            Ordering::Greater => {
                let error = errors.last().expect("there is more than none");
                format!("refuses a frame that is as it was sent: {error}")
            }
        };
        Err(Failure::Reported { node: node.member.id, what })
    }

    fn send(&mut self, from: NodeAt, to: NodeAt, frame: Bytes) -> Result<(), Failure> {
        self.stats.frames += 1;
        self.digest.bytes(&frame);
        let id = self.nodes[from].member.id;
        let envelope = match wire::decode(frame.clone(), &self.limits) {
            Ok(envelope) => envelope,
            Err(error) => {
                let what = format!("sends a frame that is none: {error}");
                return Err(Failure::Reported { node: id, what });
            }
        };
        self.nodes[from].incarnation = envelope.incarnation;
        self.checker.sent(id, &envelope)?;
        if !self.nodes[from].was_hurt {
            self.checker.sent_by_the_whole(id, &envelope)?;
        }
        self.hear_message(from, to, &envelope);
        self.note_nack(&envelope.rpc);
        let link = self.network.link(from, to);
        if envelope.rpc == Rpc::TimeoutNow {
            self.shadow(from, link);
        }
        let frame = self.sabotage.forge(&envelope).unwrap_or(frame);
        let copy = (self.sabotage == Sabotage::RoundForged).then(|| frame.clone());
        let frame = self.in_its_version(from, frame);
        self.network.hears(link, self.nodes[to].is_up());
        let fate = self.network.send_as(link, frame, &mut self.queue, &mut self.stats.tally);
        self.watch_sent(&envelope);
        self.cuts.judge(link, fate)?;
        if let (Some(copy), Fate::Blocked) = (copy, fate) {
            self.forge_answer(from, to, &copy);
        }
        Ok(())
    }

    fn note_nack(&mut self, rpc: &Rpc) {
        let Rpc::Repair(RepairRpc::RequestEntryResponse { result, .. }) = rpc else { return };
        self.stats.repairs.nacks += u64::from(*result == EntryResult::DontHave);
    }

    /// In the name of a node that a partition hides.
    fn forge_answer(&mut self, from: NodeAt, to: NodeAt, frame: &Bytes) {
        let incarnation = self.nodes[to].incarnation;
        if let Some(answer) = self.sabotage.forge_answer(frame, incarnation) {
            let link = self.network.link(to, from);
            self.network.inject(link, answer, &mut self.queue);
            self.watch_forged(to, from);
        }
    }

    fn reply(&mut self, id: RequestId, reply: Reply<Machine<W>>) -> Result<(), Failure> {
        self.digest.word(id.0);
        if is_misspoken(id) {
            self.misspoken(&reply);
            return Ok(());
        }
        if operator::is_operator(id) {
            self.operated(&reply);
            return Ok(());
        }
        let client = Client::<W>::of_attempt(id.0);
        match self.clients[client].hear(id.0, reply) {
            Heard::Late => {}
            Heard::Again => {
                let delay_us = self.clients[client].backoff_us();
                self.set_client_timer(client, delay_us);
            }
            Heard::Over(operation, outcome) => {
                let delay_us = self.clients[client].think_us();
                self.set_client_timer(client, delay_us);
                let mode = self.clients[client].mode();
                self.note_outcome(client, mode, &outcome);
                self.watch_answered(client_id(client), operation, &outcome);
                let now = Time(self.queue.now());
                if self.is_judged(client) {
                    self.checker.replied(client_id(client), operation, &outcome, now)?;
                }
            }
        }
        Ok(())
    }

    /// Whoever else runs and takes itself for a leader is asked, as it is, whether it would answer by a
    /// lease now: clients ask too seldom for that to come together with an election.
    fn ask_for_leases(&mut self, elected: NodeAt) -> Result<(), Failure> {
        let now = self.queue.now();
        for at in (0..self.nodes.len()).filter(|&at| at != elected && self.options.lease_us > 0) {
            let node = &self.nodes[at];
            // A lease holds in true time, whether or not its holder happens to be scheduled.
            let Some(process) = &node.process else { continue };
            if node.seen.role != Some(RoleName::Leader) {
                continue;
            }
            let body = Body::Read { ticket: Ticket(u64::MAX), mode: ReadMode::Lease };
            let effects = process.replica.raft().clone().step(Message { now: node.now(now), body });
            let lease = effects.into_iter().find_map(|effect| {
                let Effect::ReadReady { valid_until, .. } = effect else { return None };
                valid_until
            });
            if let Some(until) = lease {
                let until = Time(node.clock.when(until, now));
                self.checker.would_lease(node.member.id, until, Time(now))?;
            }
        }
        Ok(())
    }

    fn observe(&mut self, at: NodeAt, observation: &Observation) -> Result<(), Failure> {
        self.hear_observation(at, observation);
        let id = self.nodes[at].member.id;
        if let Observation::RoleChanged { role: RoleName::Leader, term } = observation {
            self.stats.elections += 1;
            let process = self.nodes[at].process.as_ref();
            let is_damaged = process.is_some_and(|process| process.replica.status().damaged > 0);
            self.stats.repairs.leaders += u64::from(is_damaged);
            self.note_election(at);
            self.ask_for_leases(at)?;
            self.checker.became_leader(id, *term)?;
            self.checker.elected(id, *term, Time(self.queue.now()))?;
        }
        let campaigns = [RoleName::PreCandidate, RoleName::Candidate];
        if matches!(observation, Observation::RoleChanged { role, .. } if campaigns.contains(role))
            && mem::take(&mut self.nodes[at].is_urged)
        {
            self.stats.tally.effective(Fault::Campaign);
        }
        let is_discard = matches!(observation, Observation::EntryDiscarded { .. });
        self.stats.repairs.discards += u64::from(is_discard);
        // With a broken stack, it is the checker that must notice.
        if let (Observation::Violation(violation), Sabotage::None) = (observation, self.sabotage) {
            let what = format!("{violation:?}");
            return Err(Failure::Reported { node: id, what });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raft_core::{ClusterId, Envelope, GroupId};

    use super::*;
    use crate::damage::tests::at_rest;
    use crate::workload::KeyValue;

    /// A node reads a frame, which the network may have changed, and may say to have changed.
    fn reads(is_whole: bool, is_changed: bool) -> Result<(), Failure> {
        let mut world: World<KeyValue> = at_rest();
        let [from, to] = [0, 1].map(|at: usize| world.nodes[at].member);
        let (epoch, incarnation) = Default::default();
        let (cluster, group) = (ClusterId(0xc1), GroupId(1));
        let rpc = Rpc::RequestVoteResponse { granted: false };
        let term = raft_core::Term(1);
        let frame =
            wire::encode(&Envelope { cluster, group, from, to, epoch, incarnation, term, rpc });
        let frame = if is_whole { frame } else { frame.slice(1..) };
        if let Some(process) = &mut world.nodes[1].process {
            process.changed_frames += usize::from(is_changed);
        }
        world.deliver(1, Input::Frame(frame))
    }

    #[test]
    fn what_the_network_has_changed_is_refused_and_nothing_else() {
        assert_eq!((reads(true, false), reads(false, true)), (Ok(()), Ok(())));
        let what = |read: Result<(), Failure>| {
            let Err(Failure::Reported { what, .. }) = read else { panic!("{read:?}") };
            what
        };
        assert!(what(reads(true, true)).starts_with("takes a frame"));
        assert!(what(reads(false, false)).starts_with("refuses a frame"));
    }
}
