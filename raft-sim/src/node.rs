//! One simulated machine: a clock, a disk, and at most one process on them.
//!
//! What outlives a process is here: who the machine is, what it has, and what was done to it.

use raft_core::config::PRIORITY_MAX;
use raft_core::{
    ClusterId, Config, GroupId, Incarnation, Member, Membership, RecoveredState, RoleName, Time,
};
use raft_replica::replica::{Replica, ReplicaOptions};
use raft_replica::request::Output;
use raft_replica::storage::{Identity, Storage, StorageError, StorageOptions};

use crate::clock::Clock;
use crate::disk::SimDisk;
use crate::exile::Exile;
use crate::fault::Fault;
use crate::nemesis::Strike;
use crate::options::{COMMAND_BYTES_MAX, Options, SLOW_INBOX_US};
use crate::process::{Latency, Process};
use crate::rng::{CALM, Purpose, Ratio, Stream};
use crate::rot::Wound;
use crate::sabotage::{Graveyard, Sabotage};
use crate::tape::Choices;
use crate::workload::{Machine, Workload};

/// The cluster of all runs.
const CLUSTER: ClusterId = ClusterId(0xc1);
/// The group of all runs.
const GROUP: GroupId = GroupId(1);

/// What a start has: its storage, and what that has found.
pub(crate) type Opened = (Storage<SimDisk>, RecoveredState);

/// A machine.
#[derive(Debug)]
pub(crate) struct Node<W: Workload> {
    pub(crate) member: Member,
    /// [`raft_core::Config::priority`].
    priority: u8,
    /// [`raft_core::Config::pre_vote`] of its next start, or of all of them.
    pre_vote: bool,
    /// Whether it is given the founders' membership when it has nothing.
    pub(crate) is_founder: bool,
    /// How often it became somebody else.
    wipes: u64,
    pub(crate) clock: Clock,
    pub(crate) disk: SimDisk,
    pub(crate) latency: Stream,
    /// How many times as long as others it takes.
    pub(crate) slowness: u64,
    pub(crate) process: Option<Process<W>>,
    /// Raised by every start and every end of a process.
    pub(crate) life: u32,
    /// The newest deadline in the queue: its generation, and when it comes up.
    pub(crate) deadline: (u32, u64),
    pub(crate) paused: bool,
    /// How long it stays away once it has ended as it was told, in microseconds.
    pub(crate) away_us: u64,
    /// Until when it speaks another version of the wire format, and in each so-manyth frame.
    pub(crate) foreign_until: (u64, u64),
    /// The disk stands still until then.
    pub(crate) stalled_until: u64,
    /// In which life disk work was put off by a stall, and until when.
    pub(crate) put_off: Option<(u32, u64)>,
    /// In which life, and when, disk work would go on that goes on already.
    pub(crate) taken_back: Option<(u32, u64)>,
    /// The disk has no space until then; 0 if it has.
    pub(crate) full_until: u64,
    /// What the last step left: shown in traces, and the columns of `-v`.
    pub(crate) seen: Seen,
    pub(crate) crashes: u64,
    /// The incarnation under which it last spoke.
    pub(crate) incarnation: Incarnation,
    /// What [`Sabotage::SuffixResurrected`] needs to know.
    pub(crate) graveyard: Graveyard,
    /// The strike that cuts the power in the midst of the next sync.
    pub(crate) doom: Option<Strike>,
    /// An operator has asked it to campaign, and it has not done so since.
    pub(crate) is_urged: bool,
    /// Why it is no part of the core of the liveness phase, if it is not.
    pub(crate) outside: Option<Outside>,
    /// Whether its disk has lost anything that was durable, and may still suffer from it.
    pub(crate) was_hurt: bool,
    /// What it has lost, as long as nothing is written there.
    pub(crate) wounds: Vec<Wound>,
    /// Whether it has lost what it had promised, and has not been opened since.
    pub(crate) is_amnesiac: bool,
    /// How it was lost, if the group has yet to admit it again.
    pub(crate) exile: Option<Exile>,
    /// Whether a look at the whole disk since the faults have ended has found nothing.
    pub(crate) is_whole: bool,
}

/// A fault that lasts for good, outside the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outside {
    /// It is down.
    Stopped,
    /// Nothing that it sends arrives.
    Mute,
    /// Nothing that is sent to it arrives.
    Deaf,
    /// It is cut off and comes back, again and again.
    Flapping,
}

/// What a person sees of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) role: Option<RoleName>,
    pub(crate) term: u64,
    pub(crate) last: u64,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
    /// Whether it knows that something is damaged.
    pub(crate) is_hurt: bool,
    /// Where its log in memory begins.
    pub(crate) base: u64,
}

impl<W: Workload> Node<W> {
    pub(crate) fn new(at: usize, options: &Options, choices: &Choices, sabotage: Sabotage) -> Self {
        let entity = at as u64;
        let lineage = choices.stream(Purpose::Lineage, entity).draw().word();
        let disk = SimDisk::new(sabotage.lie());
        let latency = choices.stream(Purpose::DiskLatency, entity);
        // One node in eight reads like a real disk, one in eight by pages.
        match choices.stream(Purpose::DiskLatency, 1 << 32 | entity).draw().below(8) {
            0 => disk.set_read_ahead(64 << 10),
            1 => disk.set_read_ahead(4096),
            2.. => {}
        }
        if options.disk_bytes < u64::MAX {
            disk.set_capacity(options.disk_bytes);
        }
        if [Fault::LostWrite, Fault::StrayWrite].iter().any(|&past| options.faults.contains(past)) {
            disk.keep_past();
        }
        Self {
            member: Member::new(entity + 1, lineage),
            is_founder: at < options.voters + options.learners,
            wipes: 0,
            clock: Clock::new(1_000_000 * (entity + 1), 0),
            disk,
            latency,
            slowness: slowness(at, options, choices),
            priority: priority(options, choices, entity + 1),
            pre_vote: pre_vote(options, choices, entity + 1),
            process: None,
            life: 0,
            deadline: (0, u64::MAX),
            paused: false,
            away_us: 0,
            foreign_until: (0, 1),
            stalled_until: 0,
            put_off: None,
            taken_back: None,
            full_until: 0,
            seen: Seen::default(),
            crashes: 0,
            incarnation: Incarnation::ZERO,
            graveyard: Graveyard::default(),
            doom: None,
            outside: None,
            was_hurt: false,
            wounds: Vec::new(),
            is_urged: false,
            is_amnesiac: false,
            exile: None,
            is_whole: false,
        }
    }

    /// Whether a process takes what comes.
    pub(crate) fn is_up(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.is_closing())
    }

    /// Whether a process takes requests of clients: not if it is to end.
    pub(crate) fn serves(&self) -> bool {
        self.is_up() && self.process.as_ref().is_some_and(|process| process.leaves_by.is_none())
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { cluster: CLUSTER, group: GROUP, member: self.member }
    }

    /// The time that it reads.
    pub(crate) fn now(&self, now: u64) -> Time {
        self.clock.local(now)
    }

    /// How long the next disk work takes, in microseconds.
    pub(crate) fn latency_us(&mut self, kind: Latency, disk_us: u64) -> u64 {
        let disk_us = disk_us * self.slowness;
        let mean = match kind {
            Latency::Write => disk_us,
            Latency::Sync => disk_us * 2,
            Latency::Full => disk_us * 16,
        };
        1 + self.latency.draw().exponential(mean)
    }

    /// How long it leaves its inbox unread, in microseconds.
    pub(crate) fn inbox_us(&self, options: &Options) -> u64 {
        if self.slowness == 1 {
            return options.inbox_us;
        }
        options.inbox_us.max(SLOW_INBOX_US) * self.slowness
    }

    /// How long it takes to encode its state.
    pub(crate) fn encoding_us(&mut self, options: &Options) -> u64 {
        let mut draw = self.latency.draw();
        let is_slow = draw.chance(Ratio::new(1, 4));
        let mean = if is_slow { options.election_timeout_us } else { options.disk_us * 2 };
        1 + draw.exponential(mean)
    }

    /// Opens the data directory: what a process that starts now would find.
    pub(crate) fn open(
        &self,
        options: &Options,
        founders: &Membership,
    ) -> Result<Opened, StorageError> {
        let expected = Some(self.identity());
        let (storage, found) =
            Storage::open(self.disk.clone(), storage_options(options), expected)?;
        let given = if self.is_founder { founders } else { &Membership::default() };
        Ok((storage, found.into_state(given)))
    }

    /// Opens the data directory of a node that has lost what it had promised, under another lineage.
    pub(crate) fn reopen(
        &mut self,
        options: &Options,
        choices: &Choices,
    ) -> Result<Opened, StorageError> {
        // An operator sees to it that nothing else happens meanwhile.
        self.disk.disarm();
        self.disk.make_space();
        self.full_until = 0;
        self.become_another(choices);
        let disk = self.disk.clone();
        let (storage, found) = Storage::readmit(disk, storage_options(options), self.identity())?;
        Ok((storage, found.into_state(&Membership::default())))
    }

    /// Starts a process on what was found.
    pub(crate) fn start(
        &mut self,
        options: &Options,
        machine: Machine<W>,
        (storage, found): Opened,
        now: u64,
        out: &mut Vec<Output<Machine<W>>>,
    ) -> Result<(), raft_core::RecoverError> {
        let mut config = config(options, self.member, self.priority);
        config.config.pre_vote = self.pre_vote;
        self.pre_vote ^= options.has_mixed_pre_vote;
        let local = self.now(now);
        let replica = Replica::start(config, found, machine, local, out)?;
        self.life += 1;
        self.process = Some(Process::new(replica, storage, options, now));
        Ok(())
    }

    /// The machine gets an empty disk, and with it another lineage: it is somebody else now, and is
    /// given nothing. No process may be running.
    pub(crate) fn wipe(&mut self, choices: &Choices) {
        self.become_another(choices);
        self.disk = self.disk.another();
        self.full_until = 0;
        self.was_hurt = false;
        self.wounds.clear();
        self.is_whole = false;
    }

    /// The server is somebody else from now on.
    fn become_another(&mut self, choices: &Choices) {
        assert!(self.process.is_none(), "a running process keeps its name");
        self.wipes += 1;
        let entity = self.wipes << 32 | (self.member.id.0 - 1);
        let word = choices.stream(Purpose::Lineage, entity).draw().word();
        // Not the one that it had, even if nothing is left to chance.
        self.member.lineage.0 = if word == CALM { CALM - self.wipes } else { word };
        self.is_founder = false;
        self.is_amnesiac = false;
        self.incarnation = Incarnation::ZERO;
        self.graveyard = Graveyard::default();
        self.doom = None;
    }

    /// Ends the process. Returns whether there was one: a node that is down waits for its start.
    pub(crate) fn stop(&mut self) -> bool {
        if self.process.take().is_none() {
            return false;
        }
        self.life += 1;
        self.paused = false;
        self.is_urged = false;
        self.deadline = (self.deadline.0 + 1, u64::MAX);
        self.seen = Seen { role: None, ..self.seen };
        true
    }
}

/// Whether a node runs with these options: what is wrong with them for its core or its storage.
pub(crate) fn check(options: &Options) -> Result<(), String> {
    let member = Member { id: raft_core::NodeId(1), lineage: raft_core::Lineage(1) };
    config(options, member, PRIORITY_MAX).config.validate().map_err(|error| error.to_string())?;
    storage_options(options).validate().map_err(|error| error.to_string())?;
    if options.disk_bytes == u64::MAX {
        return Ok(());
    }
    let mut disk = SimDisk::default();
    disk.set_capacity(options.disk_bytes);
    let identity = Identity { cluster: CLUSTER, group: GROUP, member };
    Storage::format(&mut disk, identity)
        .map_err(|_| "disk_bytes do not hold what is written before any entry".to_owned())
}

/// What no node of a run may exceed: the options that all have but for who they are.
pub(crate) fn bounds(options: &Options) -> ReplicaOptions {
    let anybody = Member { id: raft_core::NodeId(1), lineage: raft_core::Lineage(1) };
    config(options, anybody, PRIORITY_MAX)
}

fn storage_options(options: &Options) -> StorageOptions {
    StorageOptions {
        segment_slots: options.segment_slots,
        segment_bytes: 32 << 10,
        guard_bytes: options.guard_bytes,
        chunk_bytes: 4096,
        resident_bytes: 64 << 10,
    }
}

/// Of the machines that begin as voters one is slow, and each other machine with one quarter.
fn slowness(at: usize, options: &Options, choices: &Choices) -> u64 {
    if !options.faults.contains(Fault::SlowNode) {
        return 1;
    }
    let slow = choices.stream(Purpose::Node, 1 << 32).draw().position(options.voters);
    let mut draw = choices.stream(Purpose::Node, 1 << 33 | (at as u64 + 1)).draw();
    let is_slow = at == slow || draw.chance(Ratio::new(1, 4));
    if is_slow { options.slow_factor } else { 1 }
}

fn priority(options: &Options, choices: &Choices, id: u64) -> u8 {
    if !options.has_priorities {
        return PRIORITY_MAX;
    }
    let mut draw = choices.stream(Purpose::Node, id).draw();
    u8::try_from(draw.below(u64::from(PRIORITY_MAX) + 1)).expect("priorities are small")
}

fn pre_vote(options: &Options, choices: &Choices, id: u64) -> bool {
    if !options.has_mixed_pre_vote {
        return options.pre_vote;
    }
    options.pre_vote ^ choices.stream(Purpose::Node, 1 << 34 | id).draw().chance(Ratio::new(1, 2))
}

fn config(options: &Options, member: Member, priority: u8) -> ReplicaOptions {
    let config = Config {
        seed: options.seed,
        election_timeout_us: options.election_timeout_us,
        heartbeat_interval_us: options.heartbeat_interval_us,
        pre_vote: options.pre_vote,
        check_quorum: options.check_quorum,
        command_bytes_max: COMMAND_BYTES_MAX,
        // A window holds a few messages, or it would be one that stops and waits.
        append_bytes_max: (options.inflight_bytes_max / 4).clamp(256, 16 << 10),
        append_entries_max: options.append_entries_max,
        inflight_appends_max: options.inflight_appends_max,
        inflight_bytes_max: options.inflight_bytes_max,
        unapplied_bytes_max: options.unapplied_bytes_max,
        resident_bytes_max: options.resident_bytes_max,
        lease_us: options.lease_us,
        clock_drift_percent: options.clock_drift_percent,
        priority,
        promotion_lag_entries_max: options.promotion_lag_entries_max,
        uncommitted_bytes_max: options.uncommitted_bytes_max,
        requests_max: options.requests_max,
        snapshot_chunk_bytes: options.snapshot_chunk_bytes,
        kept_behind_snapshot: options.kept_behind_snapshot,
        ..Config::new(CLUSTER, GROUP, member)
    };
    ReplicaOptions {
        sessions_max: options.sessions_max,
        snapshot_after_entries: options.snapshot_after_entries,
        snapshot_after_bytes: 1 << 20,
        // What is sent in parts is read in such parts, too.
        restore_part_bytes: options.snapshot_chunk_bytes,
        ..ReplicaOptions::new(config)
    }
}
