//! Faults as acts on the world: strikes of the nemesis, crashes and starts.

use raft_core::{RecoveredState, Slot};
use raft_replica::storage::StorageError;

use crate::client::Bound;
use crate::disk::{Call, SyncFailure};
use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::nemesis::{self, Strike, Target};
use crate::node::{Node, Outside};
use crate::observe::Happening;
use crate::rng::{Purpose, Ratio};
use crate::sabotage::{Flawed, Sabotage};
use crate::workload::Workload;
use crate::world::World;

/// A jump of a clock is at most so many times as long as other faults last.
const JUMP_FACTOR: u64 = 2;

/// How many bytes a disk has left at most when somebody else fills it: less than two segments.
const ROOM_BYTES_MAX: u64 = 64 << 10;

/// What fails of directories. They are made in empty disks only, in which nothing fails.
const CALLS: [Call; 4] = [Call::Create, Call::Rename, Call::Remove, Call::SyncDir];

impl<W: Workload> World<W> {
    /// A class of the nemesis strikes.
    pub(crate) fn on_strike(&mut self, class: usize) -> Result<(), Failure> {
        let (event, now) = (self.stats.events, self.queue.now());
        let strike = self.nemesis.strike(class, (event, now), &self.options);
        let at = match strike.at {
            Target::Leader(otherwise) => self.leader().unwrap_or(otherwise),
            Target::Node(at) => at,
        };
        self.digest.word(strike.fault as u64);
        self.tell_strike(at, &strike);
        if self.is_ambush(at, &strike) {
            return self.ambush(at, strike);
        }
        match strike.fault {
            Fault::Partition => self.partition(at, strike),
            Fault::Clog | Fault::Overflow | Fault::Reset => self.disturb_links(at, strike),
            Fault::Crash => {
                // Half of the processes are back before anybody can have missed them.
                let is_quick = strike.clients & 1 == 0;
                self.kill(at, if is_quick { 1 + strike.lasts_us / 32 } else { strike.lasts_us });
            }
            Fault::PowerLoss | Fault::Blackout => return self.threaten_power(at, strike),
            Fault::TornWork => self.tear(at, &strike),
            Fault::Pause => {
                let lasts_us = self.bind_clients(at, &strike);
                self.pause(at, lasts_us);
            }
            Fault::Jump => self.jump(at, strike),
            Fault::Stall => self.stall(at, strike.lasts_us),
            Fault::WriteError | Fault::ShortWrite | Fault::LyingSync | Fault::DirectoryError => {
                self.fail_disk(at, strike)
            }
            Fault::SyncDrops | Fault::SyncKeeps => self.fail_disk(at, strike),
            Fault::NoSpace => self.fill_disk(at, strike),
            Fault::BitRot
            | Fault::ZeroedSector
            | Fault::Misdirected
            | Fault::LostWrite
            | Fault::Unreadable
            | Fault::LostTail
            | Fault::StrayWrite
            | Fault::SnapshotRot => {
                if self.hurt(at, strike)? {
                    self.nemesis.accepted(class);
                } else {
                    self.nemesis.refused(class, self.stats.events);
                }
            }
            Fault::Wipe | Fault::Amnesia => {
                if self.banish_any(at, &strike)? {
                    self.nemesis.accepted(class);
                } else {
                    self.nemesis.refused(class, self.stats.events);
                }
            }
            Fault::Membership
            | Fault::Transfer
            | Fault::StepDown
            | Fault::ForgetLeader
            | Fault::Campaign => return self.meddle(at, strike),
            Fault::WireVersion => self.speak_another(at, &strike),
            Fault::GracefulStop => return self.tell_to_end(at, &strike),
            Fault::Malformed | Fault::Oversized => return self.misspeak(at, strike),
            Fault::Loss
            | Fault::Duplication
            | Fault::Reorder
            | Fault::Corruption
            | Fault::SlowNode
            | Fault::Drift
            | Fault::Skew => unreachable!("these do not strike by themselves"),
        }
        Ok(())
    }

    fn tell_strike(&mut self, at: NodeAt, strike: &Strike) {
        let Strike { fault, lasts_us, .. } = *strike;
        self.tell(&Happening::Struck { fault, node: at, lasts_us });
        self.struck = self.trace.is_on().then_some((fault, at, lasts_us));
    }

    /// What an operator asks for.
    fn meddle(&mut self, at: NodeAt, strike: Strike) -> Result<(), Failure> {
        if strike.fault == Fault::Membership {
            self.change_membership()
        } else if strike.fault == Fault::Transfer {
            self.transfer(strike)
        } else if strike.fault == Fault::StepDown {
            self.step_down(at)
        } else if strike.fault == Fault::ForgetLeader {
            self.forget_leader(at)
        } else {
            self.campaign(at)
        }
    }

    /// The running leader of the highest term.
    pub(crate) fn leader(&self) -> Option<NodeAt> {
        let leads = |node: &Node<W>| node.seen.role == Some(raft_core::RoleName::Leader);
        let leaders = self.nodes.iter().enumerate().filter(|(_, node)| leads(node));
        leaders.max_by_key(|(_, node)| node.seen.term).map(|(at, _)| at)
    }

    /// Some clients share the fate of a leader that is about to be alone, and go on reading there;
    /// the others find its successor. What they write then, nobody may miss. Returns how long the
    /// strike lasts: some of these last long enough for an election.
    fn bind_clients(&mut self, at: NodeAt, strike: &Strike) -> u64 {
        let is_bound = self.queue.now() < self.bound_until;
        let aimed = matches!(strike.at, Target::Leader(_)) && self.leader() == Some(at);
        if is_bound || !aimed || self.nodes.len() < 2 || strike.clients & 1 == 0 {
            return strike.lasts_us;
        }
        let election_us = self.options.election_timeout_us * (strike.clients >> 1 & 3);
        let lasts_us = strike.lasts_us + election_us;
        self.part_clients(at, lasts_us, strike.clients >> 8);
        lasts_us
    }

    /// For a while some clients find this node only, and all others never do.
    pub(crate) fn part_clients(&mut self, at: NodeAt, lasts_us: u64, sides: u64) {
        self.bound_until = self.queue.now() + lasts_us;
        for (client, one) in self.clients.iter_mut().enumerate() {
            let stays = sides.wrapping_add(client as u64).is_multiple_of(3);
            one.bind(Some(if stays { Bound::To(at) } else { Bound::Without(at) }));
        }
    }

    pub(crate) fn unbind_clients_if_due(&mut self) {
        if self.bound_until > 0 && self.queue.now() >= self.bound_until {
            self.bound_until = 0;
            self.clients.iter_mut().for_each(|client| client.bind(None));
        }
    }

    fn partition(&mut self, at: NodeAt, mut strike: Strike) {
        let nodes = self.nodes.len();
        let (_, links) = nemesis::partition(at, nodes, &self.network, &mut strike.draw);
        if links.is_empty() {
            return;
        }
        strike.lasts_us = self.bind_clients(at, &strike);
        self.stats.tally.injected(Fault::Partition);
        for &link in &links {
            self.cut(link);
        }
        let partition = self.partitions.len();
        self.partitions.push(links);
        self.watch_cut(partition);
        self.queue.after(strike.lasts_us, Event::Mend { partition });
    }

    /// Clogs or resets the links of one node, in one direction or both.
    fn disturb_links(&mut self, at: NodeAt, mut strike: Strike) {
        let (outward, inward) = match strike.draw.below(3) {
            0 => (true, false),
            1 => (false, true),
            2.. => (true, true),
        };
        let mut picked = strike.draw.word();
        if strike.draw.chance(Ratio::new(1, 4)) {
            picked = u64::MAX;
        }
        if strike.fault == Fault::Clog {
            strike.lasts_us = self.bind_clients(at, &strike);
        }
        for other in (0..self.nodes.len()).filter(|&other| other != at && picked >> other & 1 == 1)
        {
            let there = outward.then(|| self.network.link(at, other));
            let back = inward.then(|| self.network.link(other, at));
            for link in [there, back].into_iter().flatten() {
                self.disturb(link, strike.clone());
            }
        }
    }

    /// A link holds back what it is given, unless it does already.
    pub(crate) fn clog(&mut self, fault: Fault, link: u32, lasts_us: u64) {
        if self.network.clog(link) {
            self.stats.tally.injected(fault);
            self.queue.after(lasts_us, Event::Release { link });
        }
    }

    fn disturb(&mut self, link: u32, mut strike: Strike) {
        if strike.fault != Fault::Reset {
            self.clog(strike.fault, link, strike.lasts_us);
            return;
        }
        self.stats.tally.injected(Fault::Reset);
        self.network.reset(link);
        self.watch_reset(link);
        if strike.draw.chance(Ratio::new(1, 2)) {
            self.network.reset_next(link);
        }
        let (from, _) = self.network.ends(link);
        let life = self.nodes[from].life;
        self.queue.after(1, Event::Unreachable { link, life });
    }

    fn kill(&mut self, at: NodeAt, down_us: u64) {
        if self.stop(at) {
            self.stats.tally.both(Fault::Crash);
            self.restart_after(at, down_us);
        }
    }

    /// Cuts the power now, or when it hurts: in the midst of the next sync.
    fn threaten_power(&mut self, at: NodeAt, mut strike: Strike) -> Result<(), Failure> {
        if self.nodes[at].process.is_some() && strike.draw.chance(Ratio::new(3, 4)) {
            self.nodes[at].doom = Some(strike);
            Ok(())
        } else {
            self.strike_power(at, &strike)
        }
    }

    /// The power has failed in the midst of disk work.
    pub(crate) fn on_power_failure(&mut self, at: NodeAt) -> Result<(), Failure> {
        if let Some(strike) = self.nodes[at].doom.take() {
            return self.strike_power(at, &strike);
        }
        if self.stop(at) {
            self.restart_after(at, 1 + self.options.fault_us / 4);
        }
        self.lose_power(at, Fault::TornWork)
    }

    /// The power fails, at one node or at all.
    fn strike_power(&mut self, at: NodeAt, strike: &Strike) -> Result<(), Failure> {
        if strike.fault == Fault::Blackout {
            self.blackout(strike)
        } else {
            self.cut_power(at, strike.lasts_us, Fault::PowerLoss)
        }
    }

    fn cut_power(&mut self, at: NodeAt, down_us: u64, fault: Fault) -> Result<(), Failure> {
        self.stats.tally.injected(fault);
        if self.stop(at) {
            self.restart_after(at, down_us);
        }
        self.lose_power(at, fault)
    }

    fn blackout(&mut self, strike: &Strike) -> Result<(), Failure> {
        let mut delays = self.choices.stream(Purpose::Nemesis, 1 << 32 | self.queue.now());
        for at in 0..self.nodes.len() {
            let down_us = 1 + delays.draw().exponential(strike.lasts_us);
            self.cut_power(at, down_us, Fault::Blackout)?;
        }
        Ok(())
    }

    fn tear(&mut self, at: NodeAt, strike: &Strike) {
        if self.nodes[at].process.is_some() {
            self.stats.tally.injected(Fault::TornWork);
            self.nodes[at].disk.arm(strike.operations);
        }
    }

    pub(crate) fn pause(&mut self, at: NodeAt, lasts_us: u64) {
        let node = &mut self.nodes[at];
        if node.process.is_none() || node.paused {
            return;
        }
        self.stats.tally.injected(Fault::Pause);
        node.paused = true;
        self.queue.after(lasts_us, Event::Resume { node: at, life: node.life });
        self.tell(&Happening::Paused { node: at, lasts_us });
    }

    fn jump(&mut self, at: NodeAt, mut strike: Strike) {
        let now = self.queue.now();
        self.stats.tally.injected(Fault::Jump);
        let most = i64::try_from(strike.lasts_us * JUMP_FACTOR).unwrap_or(i64::MAX);
        let is_back = strike.draw.chance(Ratio::new(1, 3));
        let node = &mut self.nodes[at];
        let differs = node.clock.jump(now, if is_back { -most } else { most });
        if node.process.is_some() && differs {
            self.stats.tally.effective(Fault::Jump);
            // What was scheduled by the old reading comes too late after a jump forward.
            node.deadline.1 = u64::MAX;
            self.schedule_deadline(at, now);
        }
    }

    pub(crate) fn stall(&mut self, at: NodeAt, lasts_us: u64) {
        self.stats.tally.injected(Fault::Stall);
        let until = self.queue.now() + lasts_us;
        let node = &mut self.nodes[at];
        node.stalled_until = node.stalled_until.max(until);
    }

    fn fail_disk(&mut self, at: NodeAt, strike: Strike) {
        let node = &self.nodes[at];
        if node.process.is_none() {
            return;
        }
        self.stats.tally.injected(strike.fault);
        if strike.fault == Fault::WriteError {
            // Half of them last for some writes of the next starts as well.
            let writes = if strike.clients & 1 == 0 { 1 } else { 2 + (strike.clients >> 1 & 3) };
            node.disk.fail_writes(writes);
        } else if strike.fault == Fault::DirectoryError {
            let call = CALLS[strike.operations as usize % CALLS.len()];
            node.disk.fail_next(call, strike.draw);
        } else if strike.fault == Fault::ShortWrite {
            node.disk.cut_next_write(strike.draw);
        } else if strike.fault == Fault::LyingSync {
            node.disk.lie_next_sync();
            if strike.clients & 1 == 0 {
                // The next sync of that file would make up for it, and it is never far.
                node.disk.arm_unless_armed(strike.operations);
            }
        } else if strike.fault == Fault::SyncDrops {
            node.disk.fail_next_sync(SyncFailure::DropsPages, strike.draw);
        } else {
            node.disk.fail_next_sync(SyncFailure::KeepsPages, strike.draw);
        }
    }

    fn fill_disk(&mut self, at: NodeAt, mut strike: Strike) {
        self.stats.tally.injected(Fault::NoSpace);
        let node = &mut self.nodes[at];
        // Half of them leave a little, and what the node removes: it may run out half way.
        let has_room = strike.clients & 1 == 0;
        node.disk.fill(has_room.then(|| strike.draw.below(ROOM_BYTES_MAX + 1)));
        node.full_until = node.full_until.max(self.queue.now() + strike.lasts_us);
    }

    /// Somebody makes space, if it is time.
    pub(crate) fn make_space(&mut self, at: NodeAt) {
        let node = &mut self.nodes[at];
        if node.full_until > 0 && self.queue.now() >= node.full_until {
            node.full_until = 0;
            node.disk.make_space();
        }
    }

    /// Ends a node's process. Returns whether there was one.
    pub(crate) fn stop(&mut self, at: NodeAt) -> bool {
        let node = &mut self.nodes[at];
        let id = node.member.id;
        let was_running = node.stop();
        if was_running {
            node.crashes += 1;
            self.stats.crashes += 1;
            self.checker.crashed(id);
            self.watch_end(at);
        }
        was_running
    }

    /// A node's disk forgets what was not synced.
    ///
    /// # Errors
    /// As [`World::hurt`].
    pub(crate) fn lose_power(&mut self, at: NodeAt, fault: Fault) -> Result<(), Failure> {
        let node = &mut self.nodes[at];
        // Each loss has randomness of its own, so that one more write does not change the next.
        let entity = (at as u64) << 32 | node.crashes;
        let mut stream = self.choices.stream(Purpose::DiskCrash, entity);
        let loss = node.disk.lose_power(&mut stream);
        if loss.is_effective() {
            self.stats.tally.effective(fault);
        }
        self.stats.lost.add(&loss);
        self.digest.word(loss.old << 32 | loss.new << 16 | loss.garbage);
        self.take_back_lies(at)
    }

    pub(crate) fn restart_after(&mut self, at: NodeAt, delay_us: u64) {
        let life = self.nodes[at].life;
        self.queue.after(delay_us, Event::Start { node: at, life });
    }

    pub(crate) fn on_start(&mut self, at: NodeAt) -> Result<(), Failure> {
        if self.nodes[at].outside == Some(Outside::Stopped) {
            return Ok(());
        }
        // A process that halted is killed first.
        self.stop(at);
        self.start(at)
    }

    /// Starts a process on what its disk holds.
    pub(crate) fn start(&mut self, at: NodeAt) -> Result<(), Failure> {
        let now = self.queue.now();
        self.make_space(at);
        let id = self.nodes[at].member.id;
        let (storage, mut found) = match self.open(at)? {
            Ok(opened) => opened,
            Err(error) => return self.on_open_error(at, error),
        };
        if self.sabotage == Sabotage::SuffixResurrected {
            self.nodes[at].graveyard.resurrect(&mut found);
        }
        if self.sabotage == Sabotage::VoteLost {
            found.hard_state.vote = None;
        }
        self.has_heard(at)?;
        self.must_be_hurt(at, &found)?;
        self.note_doubt(at, &found);
        self.checker.recovered(id, &found)?;
        if let Some(scribe) = self.scribe.as_mut().filter(|_| self.nodes[at].life > 0) {
            scribe.start(at, &found);
        }
        let machine = Flawed::new(self.workload.machine(), self.sabotage, at);
        let node = &mut self.nodes[at];
        node.start(&self.options, machine, (storage, found), now, &mut self.outputs)
            .map_err(|error| Failure::Recover { node: id, error })?;
        node.disk.taken();
        self.trace.starting(node.member);
        self.stats.starts += 1;
        self.scrub_later(at);
        self.rest_later(at);
        self.after_step(at)
    }

    /// Counts how often a start says that the end of the log is unknown, and is right.
    fn note_doubt(&mut self, at: NodeAt, found: &RecoveredState) {
        let id = self.nodes[at].member.id;
        if !found.hard_state.is_tail_unknown || self.checker.is_in_doubt(id) {
            return;
        }
        let last = found.slots.last().map_or(found.before, Slot::id);
        if last.index < self.checker.durable_last(id) {
            self.stats.doubts += 1;
        } else {
            self.stats.needless_doubts += 1;
        }
    }

    /// A start fails only because the disk does: then it is tried again.
    fn on_open_error(&mut self, at: NodeAt, error: StorageError) -> Result<(), Failure> {
        let node = &mut self.nodes[at];
        if node.disk.is_dead() {
            node.crashes += 1;
            self.lose_power(at, Fault::TornWork)?;
        } else if let Some(failed) = node.disk.take_failed() {
            self.note_failed(failed);
        } else if matches!(error, StorageError::NoSpace { .. }) && node.disk.may_refuse() {
            self.stats.tally.effective(Fault::NoSpace);
        } else {
            return Err(Failure::Storage { node: node.member.id, error });
        }
        self.restart_after(at, 1 + self.options.fault_us / 4);
        Ok(())
    }
}
