//! The second phase of a run: the faults end, and the cluster must live.
//!
//! Every fault is taken back and every node started, but for a minority of voters that may stay
//! stopped, mute, deaf or flapping for good; the rest is the *core*. Such a minority must not keep
//! the core from its work, by heartbeats that nobody answers or by campaigns that nobody can win,
//! as far as the options of the protocol promise that. Within a bound, which is a multiple of the
//! election timeout, a write (no session, which it needs before) and a read by ReadIndex (none by a
//! lease, which proves less) that began after the healing must be answered, then, with
//! the clients silent, every member in the core must have applied the same log. A change of the
//! membership that was under way must be complete by then, and one more. A new leader per answer
//! would also satisfy that, so the elections after the healing are bounded too, and so are the
//! events: a storm of messages must end with a verdict.

use raft_core::{EntryId, Member, Membership, ReadMode, Time};
use raft_replica::storage::{Inspection, What};

use crate::check::{Answered, Outcome};
use crate::client::TIMEOUTS_PER_REQUEST_MAX;
use crate::damage::lost;
use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::node::Outside;
use crate::observe::Happening;
use crate::process::Process;
use crate::rng::{Draw, Purpose, Ratio};
use crate::workload::Workload;
use crate::world::World;

/// How long the cluster has, in election timeouts.
const TIMEOUTS_MAX: u64 = 200;

/// And how many client timeouts: a request that was open when the faults ended may be given up first.
const CLIENT_TIMEOUTS_MAX: u64 = 2 * TIMEOUTS_PER_REQUEST_MAX;

/// How many events it may take. A storm or a live-lock ends here: its time hardly moves on.
const EVENTS_MAX: u64 = 200_000;

/// How many elections it may take.
const ELECTIONS_MAX: u64 = 20;

/// How long the core is watched after it has done all that, in election timeouts, if nodes outside
/// go on campaigning.
const WATCH_TIMEOUTS: u64 = 20;

/// So many slots of a log share a sector.
const SLOTS_PER_SECTOR: u64 = 8;

/// How many elections may take the lead from a node of the core meanwhile.
const WATCH_ELECTIONS_MAX: u64 = 2;

/// What has come true since the faults ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Healed {
    /// Until when all must have come true.
    deadline: u64,
    /// The event by which all must have come true.
    last_event: u64,
    elections: u64,
    /// Elections by which a node of the core lost the lead, and whether one has it now. Who takes
    /// the lead from a node outside, which comes and goes, does what must be done.
    deposed: u64,
    is_led_by_core: bool,
    /// Clients whose open request began after the healing.
    fresh: Vec<bool>,
    has_written: bool,
    has_read: bool,
    /// The membership was changed once more, or nobody is left to be added.
    pub(crate) has_changed: bool,
    /// Until when the core is watched, and how often it had lost the lead before that.
    watch: Option<(u64, u64)>,
}

impl Healed {
    /// What has come true and what has not, of what the whole group must do.
    pub(crate) fn told(&self) -> String {
        let done = |is_done: bool| if is_done { "done" } else { "not done" };
        format!(
            "a write {}, a read {}, a change {}, {} elections",
            done(self.has_written),
            done(self.has_read),
            done(self.has_changed),
            self.elections
        )
    }
}

impl<W: Workload> World<W> {
    /// Ends all faults.
    pub(crate) fn heal(&mut self) -> Result<(), Failure> {
        let (options, waits) = (&self.options, self.waits_us());
        self.healed = Some(Healed {
            deadline: self.queue.now() + waits,
            last_event: self.stats.events + EVENTS_MAX,
            fresh: vec![false; self.clients.len()],
            has_changed: !options.faults.contains(Fault::Membership),
            ..Healed::default()
        });
        if options.faults.contains(Fault::Membership) {
            self.queue.after(options.election_timeout_us, Event::Operator);
        }
        self.network.heal(&mut self.queue, &mut self.stats.tally);
        self.cuts.heal();
        self.tell(&Happening::Healed);
        if self.trace.is_on() {
            let columns = self.columns();
            self.trace.healed(self.stats.events, self.queue.now(), &columns);
        }
        self.watch_released();
        self.bound_until = 0;
        self.clients.iter_mut().for_each(|client| {
            client.bind(None);
            client.use_rounds();
        });
        self.partitions.iter_mut().for_each(Vec::clear);
        self.choose_outside();
        let now = self.queue.now();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            node.disk.disarm();
            node.doom = None;
            node.stalled_until = 0;
            node.foreign_until.0 = 0;
            // Work that a stall has put off goes on now, and not again at the end of the stall.
            if let Some((life, until)) = node.put_off.take().filter(|(_, until)| *until > now) {
                node.taken_back = Some((life, until));
                self.queue.after(1, Event::Disk { node: at, life });
            }
            node.full_until = 0;
            node.disk.make_space();
            node.clock.set_skew(now, 0);
            if let Some(until) = node.process.as_ref().and_then(Process::lease) {
                let until = Time(node.clock.when(until, now));
                self.checker.lease_moved(node.member.id, until);
            }
            node.deadline.1 = u64::MAX;
            if self.nodes[at].outside == Some(Outside::Stopped) {
                self.stop(at);
            } else if self.nodes[at].seen.role.is_none() || self.is_halted(at) {
                self.stop(at);
                self.start(at)?;
            } else {
                self.nodes[at].paused = false;
                self.drain_inbox(at)?;
            }
        }
        Ok(())
    }

    /// One run in two keeps a minority of the voters outside the core, all in the same way: a
    /// minority of every membership that may come into force.
    fn choose_outside(&mut self) {
        let memberships: Vec<Membership> = self.checker.memberships().cloned().collect();
        self.stop_strangers(&memberships);
        let is_frail = (0..self.nodes.len()).any(|at| self.is_damaged(at));
        if is_frail || self.exiled().is_some() || self.options.is_beyond {
            // The one intact copy of something must not be with who stays outside, nor the vote that
            // stands in for one that is gone.
            return;
        }
        // What only a frame holds may still be appended; it makes nobody a member who campaigns.
        let under_way = self.memberships_under_way();
        let memberships: Vec<Membership> =
            memberships.into_iter().chain(under_way.iter().map(|one| (**one).clone())).collect();
        let mut draw = self.choices.stream(Purpose::Nemesis, 1 << 40).draw();
        let lasts = draw.chance(Ratio::new(1, 2)).then(|| self.draw_outside(&mut draw));
        let Some(outside) = lasts.flatten() else { return };
        let mut voters: Vec<Member> = memberships.iter().flat_map(all_voters).copied().collect();
        voters.sort_unstable();
        voters.dedup();
        let leader = self.leader().map(|at| self.nodes[at].member);
        let leader = leader.and_then(|leader| voters.iter().position(|voter| *voter == leader));
        let leader = leader.filter(|_| draw.chance(Ratio::new(1, 2)));
        let first = leader.unwrap_or_else(|| draw.position(voters.len()));
        voters.rotate_left(first);
        let most = 1 + draw.position(voters.len() / 2);
        let mut lost: Vec<Member> = Vec::new();
        for voter in voters {
            lost.push(voter);
            if lost.len() > most || !memberships.iter().all(|one| is_borne(one, &lost)) {
                lost.pop();
            }
        }
        for at in 0..self.nodes.len() {
            if lost.contains(&self.nodes[at].member) {
                self.nodes[at].outside = Some(outside);
                self.network_outside(at, outside);
            }
        }
    }

    /// Servers that belong to no membership any more, and may not know it, go on campaigning. The
    /// core bears that if candidates ask before they raise a term; if not, operators must stop who is
    /// removed. That members stick to their leader is not enough: one that lags behind, and has come
    /// to a higher term than its leader, hears of no leader; strangers who count it among their voters
    /// raise its term again and again, each time ahead of the leader, who steps down at its answer.
    fn stop_strangers(&mut self, memberships: &[Membership]) {
        if self.options.all_ask_first() {
            return;
        }
        for node in &mut self.nodes {
            // Who is on its way back will be a member.
            if node.exile.is_none() && !memberships.iter().any(|one| one.is_member(node.member)) {
                node.outside = Some(Outside::Stopped);
            }
        }
    }

    /// A fault outside the core that the core must bear: whether it must is up to the options.
    fn draw_outside(&self, draw: &mut Draw) -> Option<Outside> {
        let options = &self.options;
        let links = options.faults.contains(Fault::Partition);
        match draw.below(4) {
            0 => Some(Outside::Stopped),
            1 => links.then_some(Outside::Mute),
            // Only a leader that looks for its quorum gives up, and only followers that stick to
            // their leader ignore a candidate that hears nobody.
            2 => (links && options.check_quorum).then_some(Outside::Deaf),
            // Who comes back with a higher term deposes the leader, unless it asks first.
            3.. => {
                let is_calm = options.check_quorum && options.all_ask_first();
                (links && is_calm).then_some(Outside::Flapping)
            }
        }
    }

    fn network_outside(&mut self, at: NodeAt, outside: Outside) {
        let (outward, inward) = match outside {
            Outside::Stopped => (false, false),
            Outside::Mute => (true, false),
            Outside::Deaf => (false, true),
            Outside::Flapping => return self.flap(at, true),
        };
        for other in (0..self.nodes.len()).filter(|&other| other != at) {
            if outward {
                self.cut(self.network.link(at, other));
            }
            if inward {
                self.cut(self.network.link(other, at));
            }
        }
    }

    /// A node outside the core is cut off or comes back, and the other way round after a while.
    pub(crate) fn flap(&mut self, at: NodeAt, cut: bool) {
        for other in (0..self.nodes.len()).filter(|&other| other != at) {
            for link in [self.network.link(at, other), self.network.link(other, at)] {
                if cut {
                    self.cut(link);
                } else {
                    self.mend(link);
                }
            }
        }
        let delay_us = self.schedule.draw().range(1, self.options.election_timeout_us * 4);
        self.queue.after(delay_us, Event::Flap { node: at, cut: !cut });
    }

    fn is_halted(&self, at: NodeAt) -> bool {
        self.nodes[at].seen.role == Some(raft_core::RoleName::Halted)
    }

    /// Whether clients begin nothing new.
    pub(crate) fn is_quiet(&self) -> bool {
        self.healed.as_ref().is_some_and(|healed| healed.has_written && healed.has_read)
    }

    /// Whether this client begins nothing new. Where there are more clients than sessions, each pushes out
    /// another one's session before it was used, and no write would ever come about: once the faults are
    /// over, so many go on as sessions have room, with some to spare for attempts that are repeated.
    pub(crate) fn is_quiet_for(&self, client: usize) -> bool {
        if self.is_beyond {
            return client != 0;
        }
        let room = usize::try_from(self.options.sessions_max / 2).unwrap_or(usize::MAX).max(1);
        self.is_quiet() || (self.healed.is_some() && client >= room)
    }

    pub(crate) fn note_invoked(&mut self, client: usize) {
        if let Some(healed) = &mut self.healed {
            healed.fresh[client] = true;
        }
    }

    /// A client has its answer.
    pub(crate) fn note_outcome(
        &mut self,
        client: usize,
        mode: ReadMode,
        outcome: &Answered<W::Machine>,
    ) {
        let fresh = self.healed.as_mut().filter(|healed| healed.fresh[client]);
        match outcome {
            // A session is what a write needs, and none itself.
            Outcome::Opened { .. } => self.stats.sessions += 1,
            Outcome::Response { .. } => {
                self.stats.writes += 1;
                if let Some(healed) = fresh {
                    healed.has_written = true;
                }
            }
            Outcome::Answer { .. } => {
                self.stats.reads += 1;
                if let Some(healed) = fresh.filter(|_| mode == ReadMode::ReadIndex) {
                    healed.has_read = true;
                }
            }
            Outcome::Expired | Outcome::Stale | Outcome::Failed | Outcome::Unknown => {}
        }
    }

    pub(crate) fn note_election(&mut self, winner: NodeAt) {
        if let Some(healed) = &mut self.healed {
            healed.elections += 1;
            healed.deposed += u64::from(healed.is_led_by_core);
            healed.is_led_by_core = self.nodes[winner].outside.is_none();
        }
    }

    /// Whether everything that must come true has.
    fn is_alive(&self) -> bool {
        let has_changed = self.healed.as_ref().is_some_and(|healed| healed.has_changed);
        let is_settled = has_changed
            && !self.checker.committed_membership().is_joint()
            && self.exiled().is_none();
        self.is_quiet() && is_settled && self.stuck().is_none()
    }

    /// Whether nothing more is to be seen. Nodes that are cut off, but go on campaigning, must not
    /// depose the leader of a core that works: for that the core is watched a while longer.
    pub(crate) fn is_over(&mut self) -> bool {
        let campaigns = |outside| matches!(outside, Outside::Deaf | Outside::Flapping);
        let is_watched = self.nodes.iter().any(|node| node.outside.is_some_and(campaigns));
        let now = self.queue.now();
        let span = self.options.election_timeout_us * WATCH_TIMEOUTS;
        let is_alive = self.is_alive();
        let Some(healed) = &mut self.healed else { return false };
        match healed.watch {
            Some((until, _)) => now > until,
            None if is_alive && is_watched => {
                healed.watch = Some((now + span, healed.deposed));
                healed.deadline += span;
                false
            }
            None => is_alive,
        }
    }

    /// The first member in the core that is not up to date.
    pub(crate) fn stuck(&self) -> Option<NodeAt> {
        let committed = self.checker.committed().0;
        let is_done = |at: NodeAt| {
            let node = &self.nodes[at];
            let is_idle = node.process.as_ref().is_some_and(Process::is_idle);
            let is_done = node.seen.applied == committed && node.seen.last == committed && is_idle;
            is_done && (!self.options.has_damage() || self.is_healed(at))
        };
        (0..self.nodes.len()).find(|&at| self.is_in_core(at) && !is_done(at))
    }

    /// Whether a node is a member that the liveness of the group counts on.
    pub(crate) fn is_in_core(&self, at: NodeAt) -> bool {
        let node = &self.nodes[at];
        node.outside.is_none() && self.checker.committed_membership().is_member(node.member)
    }

    /// Whether nothing is missing on a disk any more: neither its scrub nor its core knows of anything,
    /// and a start would find nothing.
    fn is_healed(&self, at: NodeAt) -> bool {
        let node = &self.nodes[at];
        let is_calm = node.is_whole && !node.seen.is_hurt;
        is_calm && self.inspect(at).is_some_and(|found| self.is_as_whole_as_it_gets(at, &found))
    }

    /// Whether a start would find nothing on a disk that its process could have healed. Nobody asks for what
    /// its log in memory no longer has, so of an entry there both names may be lost: a start ends the log
    /// there and says so. Or one is left, and no scrub finds the way to it any more; or the payload of a
    /// membership, and a start takes it from its other place. The sector that has the slot of a damaged entry
    /// is not written again either, whatever other slots of it are lost.
    pub(crate) fn is_as_whole_as_it_gets(&self, at: NodeAt, found: &Inspection) -> bool {
        let base = self.nodes[at].seen.base;
        !found.hard_state.is_tail_unknown
            && lost(found).all(|finding| {
                if let What::TailUnknown { after, .. } = &finding.what {
                    return after.index.0 < base;
                }
                let is_slot = matches!(finding.what, What::BadSlot { .. });
                let (What::BadSlot { entry } | What::BadHeader { entry }) = &finding.what else {
                    return false;
                };
                let is_near =
                    |lost: EntryId| lost.index.0.abs_diff(entry.index.0) < SLOTS_PER_SECTOR;
                entry.index.0 <= base || (is_slot && found.report.damaged().any(is_near))
            })
    }

    /// Everybody has as much time again, for everything has stopped.
    pub(crate) fn wait_anew(&mut self) {
        let deadline = self.queue.now() + self.waits_us();
        let last_event = self.stats.events + EVENTS_MAX;
        let healed = self.healed.as_mut().expect("it ends after the healing");
        let (elections, is_led_by_core, watch) = (0, false, None);
        *healed =
            Healed { deadline, last_event, elections, is_led_by_core, watch, ..healed.clone() };
    }

    fn waits_us(&self) -> u64 {
        let options = &self.options;
        options.election_timeout_us * TIMEOUTS_MAX + options.client.timeout_us * CLIENT_TIMEOUTS_MAX
    }

    /// Whether time and elections are within their bounds.
    pub(crate) fn check_bounds(&self) -> Result<(), Failure> {
        let healed = self.healed.as_ref().expect("bounds begin with the healing");
        if healed.elections > ELECTIONS_MAX {
            let what = format!(
                "{} elections after the faults had ended, at most {ELECTIONS_MAX} are due",
                healed.elections
            );
            return Err(Failure::Liveness(what));
        }
        if let Some((_, before)) = healed.watch {
            let since = healed.deposed - before;
            return if since > WATCH_ELECTIONS_MAX {
                let what = "elections in a core that works, because of nodes outside that campaign";
                Err(Failure::Liveness(format!("{since} {what}")))
            } else {
                Ok(())
            };
        }
        let bound = if self.queue.now() > healed.deadline {
            format!("{TIMEOUTS_MAX} election timeouts and {CLIENT_TIMEOUTS_MAX} client timeouts")
        } else if self.stats.events > healed.last_event {
            format!("{EVENTS_MAX} events")
        } else {
            return Ok(());
        };
        let leader = self.leader().filter(|&at| self.nodes[at].outside.is_none());
        let missing = if leader.is_none() {
            format!("no leader in the core{}", self.show_doubts())
        } else if !healed.has_written {
            "no write was acknowledged".to_owned()
        } else if !healed.has_read {
            "no read by ReadIndex was answered".to_owned()
        } else if self.checker.committed_membership().is_joint() {
            format!("the membership is {} still", self.checker.committed_membership())
        } else if !healed.has_changed {
            "no change of the membership was committed".to_owned()
        } else if let Some(at) = self.exiled() {
            let (member, membership) = (self.nodes[at].member, self.checker.committed_membership());
            format!("{member} has not got back into {membership}")
        } else if let Some(at) = self.stuck() {
            let node = &self.nodes[at];
            format!(
                "{} has applied {} of {} and its log ends at {}{}",
                node.member,
                node.seen.applied,
                self.checker.committed(),
                node.seen.last,
                self.show_damage(at)
            )
        } else {
            return Ok(());
        };
        Err(Failure::Liveness(format!("{missing}, {bound} after the faults had ended")))
    }
}

/// The voters of both halves.
fn all_voters(membership: &Membership) -> impl Iterator<Item = &Member> {
    membership.incoming().iter().chain(membership.outgoing())
}

/// Whether every half of a membership has a majority without those who are lost.
fn is_borne(membership: &Membership, lost: &[Member]) -> bool {
    [membership.incoming(), membership.outgoing()].into_iter().all(|half| {
        let missing = half.iter().filter(|voter| lost.contains(voter)).count();
        half.is_empty() || missing <= (half.len() - 1) / 2
    })
}
