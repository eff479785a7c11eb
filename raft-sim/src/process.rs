//! A process of a simulated machine: the product as it ships, and its queue of disk work.
//!
//! Work is begun, synced and confirmed in separate events, so that a crash can fall between any two of
//! them. Batches that wait together are synced together. A snapshot is encoded beside everything else
//! and written in parts, between which other work goes on, as a server does it.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use raft_core::{PersistSeq, SnapshotMeta, Time};
use raft_replica::Frozen;
use raft_replica::machine::StateMachine;
use raft_replica::replica::Replica;
use raft_replica::request::Input;
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{ScrubStep, Storage, StorageError};

use crate::disk::SimDisk;
use crate::options::Options;
use crate::unanswered::Unanswered;
use crate::workload::{Machine, Workload};

/// The most batches that are synced together.
const GROUP_COMMIT_MAX: usize = 16;

/// A running process.
#[derive(Debug)]
pub(crate) struct Process<W: Workload> {
    pub(crate) replica: Replica<Machine<W>>,
    storage: Storage<SimDisk>,
    work: VecDeque<Work>,
    phase: Phase,
    pub(crate) inbox: Vec<Input<Machine<W>>>,
    pub(crate) is_woken: bool,
    pub(crate) unanswered: Unanswered,
    /// How many frames that it has yet to read are not as they were sent.
    pub(crate) changed_frames: usize,
    /// Until when, by its clock, answers by a lease were allowed so far.
    leased_until: Option<Time>,
    /// The state has come from a snapshot since the checker last looked at all of it.
    pub(crate) is_restored: bool,
    /// A state that is being encoded.
    pub(crate) frozen: Option<FrozenState<W>>,
    /// A snapshot is being written, a part after each other piece of work.
    is_saving: bool,
    /// The replica was told that the disk is full.
    is_known_full: bool,
    was_part: bool,
    part_bytes: u64,
    /// How long there is nothing to write before the disk is told so; zero: it never is.
    rest_after_us: u64,
    /// When it is due to be told, unless it has been.
    rest_due: Option<u64>,
    /// The disk is told as soon as it has nothing else to do.
    is_rest_due: bool,
    /// Somebody looks when it is due.
    is_rest_awaited: bool,
    /// It is to end, and until when it waits for somebody else to lead.
    pub(crate) leaves_by: Option<u64>,
    /// It takes and says nothing more: only its disk has still something to do.
    is_closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The disk has nothing to do.
    Idle,
    /// The first piece of work is about to be done.
    Working,
    /// A disk call has failed: nothing more is done until the node starts again.
    Failed,
    /// Batches are accepted through this one and are about to be written and synced.
    Syncing(PersistSeq),
    /// A part of a snapshot is about to be written.
    Saving,
    /// There is nothing to do but to look whether the disk has room again.
    Looking,
    /// The disk is about to be told that it is at rest.
    Resting,
}

/// What the disk has done.
#[derive(Debug, Default)]
pub(crate) struct DiskStep {
    /// What the replica is to be told.
    pub(crate) done: Option<Done>,
    /// The batches through this one are durable, if the disk is honest.
    pub(crate) durable: Option<PersistSeq>,
    /// How long the next step takes; `None`: the disk is idle.
    pub(crate) next: Option<Latency>,
    /// There was no space: the same will be tried again.
    pub(crate) is_full: bool,
    /// The disk was told that it is at rest, and whether there was anything to tell.
    pub(crate) rested: Option<bool>,
}

/// What becomes of a process that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Its disk begins with this.
    Begins(Latency),
    /// Its disk goes on with what it does.
    Busy,
    /// There is nothing left to do.
    Over,
}

/// What kind of disk work is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Latency {
    Write,
    Sync,
    /// There is no space: somebody looks again after a while.
    Full,
}

/// What a snapshot is made of, before it is encoded.
pub(crate) type FrozenState<W> = (Arc<SnapshotMeta>, Frozen<Machine<W>>);

impl<W: Workload> Process<W> {
    /// A process that starts now.
    pub(crate) fn new(
        replica: Replica<Machine<W>>,
        storage: Storage<SimDisk>,
        options: &Options,
        now: u64,
    ) -> Self {
        let rest_after_us = options.rest_after_us;
        Self {
            replica,
            storage,
            work: VecDeque::new(),
            phase: Phase::Idle,
            inbox: Vec::new(),
            is_woken: false,
            unanswered: Unanswered::default(),
            changed_frames: 0,
            leased_until: None,
            is_restored: false,
            frozen: None,
            is_saving: false,
            is_known_full: false,
            was_part: false,
            part_bytes: options.snapshot_chunk_bytes as u64,
            rest_after_us,
            rest_due: (rest_after_us > 0).then_some(now + rest_after_us),
            is_rest_due: false,
            is_rest_awaited: false,
            leaves_by: None,
            is_closing: false,
        }
    }

    /// The last of the batches that wait for their sync, if any do.
    pub(crate) fn syncing(&self) -> Option<PersistSeq> {
        match self.phase {
            Phase::Syncing(through) => Some(through),
            Phase::Idle
            | Phase::Failed
            | Phase::Working
            | Phase::Saving
            | Phase::Looking
            | Phase::Resting => None,
        }
    }

    /// Whether the disk is being told that it is at rest.
    pub(crate) fn is_resting(&self) -> bool {
        self.phase == Phase::Resting
    }

    /// Whether nobody hears of it any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// It takes and says nothing more. What its disk was asked for will be done, but for snapshots, and then
    /// the disk is told that it is at rest. Returns what it begins with if it was idle; `None` if nothing
    /// more will be done because the disk has failed.
    pub(crate) fn close(&mut self) -> Closing {
        self.is_closing = true;
        self.inbox.clear();
        self.changed_frames = 0;
        self.frozen = None;
        (self.rest_due, self.is_rest_due) = (None, true);
        match self.phase {
            Phase::Failed => Closing::Over,
            Phase::Idle => self.begin().map_or(Closing::Over, Closing::Begins),
            Phase::Working
            | Phase::Syncing(_)
            | Phase::Saving
            | Phase::Looking
            | Phase::Resting => Closing::Busy,
        }
    }

    /// Whether its disk has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Until when it may answer by its lease, by its own clock.
    pub(crate) fn lease(&self) -> Option<Time> {
        self.leased_until
    }

    /// The end of the lease by its clock, if the replica has one that lasts longer than all before.
    pub(crate) fn new_lease(&mut self) -> Option<Time> {
        let until = self.replica.leased_until();
        let is_new = until > mem::replace(&mut self.leased_until, until);
        until.filter(|_| is_new)
    }

    /// What the replica is to be told after a step of the disk: that there is no space for more, or is
    /// some again.
    pub(crate) fn space(&mut self, step: &mut DiskStep) -> Option<Input<Machine<W>>> {
        let is_full = step.next == Some(Latency::Full) || !self.storage.has_room();
        if is_full && step.next.is_none() && self.phase == Phase::Idle {
            // Who takes nothing more has nothing to write, and would never hear of it.
            self.phase = Phase::Looking;
            step.next = Some(Latency::Full);
        }
        let was_full = mem::replace(&mut self.is_known_full, is_full);
        step.is_full |= is_full && !was_full;
        (is_full != was_full).then_some(Input::DiskFull { is_full })
    }

    /// Queues disk work. Returns what kind the disk begins with if it was idle.
    pub(crate) fn work(&mut self, work: Work) -> Option<Latency> {
        if self.phase == Phase::Failed {
            return None;
        }
        self.work.push_back(work);
        let was_idle = self.phase == Phase::Idle;
        was_idle.then(|| {
            self.phase = Phase::Working;
            Latency::Write
        })
    }

    /// Looks through about `bytes_max` of what is on the disk, if it has nothing else to do.
    pub(crate) fn scrub(&mut self, bytes_max: u64) -> Result<Option<ScrubStep>, StorageError> {
        if !matches!(self.phase, Phase::Idle | Phase::Looking) {
            return Ok(None);
        }
        let step = self.storage.scrub(bytes_max);
        if !matches!(step, Ok(_) | Err(StorageError::NoSpace { .. })) {
            self.phase = Phase::Failed;
        }
        step.map(Some)
    }

    /// Whether nothing was written since its disk was told that it is at rest, if it ever is.
    pub(crate) fn has_heard_of_rest(&self) -> bool {
        self.rest_due.is_none() && !self.is_rest_awaited
    }

    /// When somebody is to look whether the disk is at rest, unless somebody does already.
    pub(crate) fn next_rest(&mut self) -> Option<u64> {
        let due = self.rest_due.filter(|_| !self.is_rest_due && !self.is_rest_awaited);
        self.is_rest_awaited |= due.is_some();
        due
    }

    /// If it is time, the disk is told that it is at rest as soon as it has nothing else to do. Returns what
    /// kind of work it begins with if that is now.
    pub(crate) fn rest(&mut self, now: u64) -> Option<Latency> {
        self.is_rest_awaited = false;
        self.is_rest_due = self.rest_due.is_some_and(|due| due <= now);
        if self.phase == Phase::Idle { self.begin() } else { None }
    }

    /// Does the work that was begun.
    pub(crate) fn disk(&mut self, now: u64) -> Result<DiskStep, StorageError> {
        if self.phase == Phase::Working && !self.is_closing {
            self.is_rest_due = false;
            self.rest_due = (self.rest_after_us > 0).then_some(now + self.rest_after_us);
        }
        let step = self.disk_step();
        if step.is_err() {
            self.phase = Phase::Failed;
        }
        step
    }

    fn disk_step(&mut self) -> Result<DiskStep, StorageError> {
        let phase = mem::replace(&mut self.phase, Phase::Idle);
        self.was_part = phase == Phase::Saving;
        match phase {
            Phase::Idle => unreachable!("the disk was asked for nothing"),
            // A scrub has failed while it waited for room.
            Phase::Failed => {
                self.phase = Phase::Failed;
                Ok(DiskStep::default())
            }
            Phase::Working => self.write(),
            Phase::Syncing(through) => match self.storage.sync() {
                Err(StorageError::NoSpace { .. }) => {
                    Ok(self.wait_for_space(Phase::Syncing(through)))
                }
                done => {
                    let (done, durable) = (done?, Some(through));
                    Ok(DiskStep { done, durable, next: self.begin(), ..DiskStep::default() })
                }
            },
            Phase::Resting => self.tell_rest(),
            Phase::Saving => self.save_part(),
            Phase::Looking => Ok(DiskStep { next: self.begin(), ..DiskStep::default() }),
        }
    }

    fn save_part(&mut self) -> Result<DiskStep, StorageError> {
        match self.storage.save_part(self.part_bytes) {
            Err(StorageError::NoSpace { .. }) if self.work.is_empty() && !self.is_rest_due => {
                Ok(self.wait_for_space(Phase::Saving))
            }
            // What else there is to do may find its space.
            Err(StorageError::NoSpace { .. }) => {
                Ok(DiskStep { next: self.begin(), is_full: true, ..DiskStep::default() })
            }
            done => {
                let done = done?;
                self.is_saving = done.is_none();
                Ok(DiskStep { done, next: self.begin(), ..DiskStep::default() })
            }
        }
    }

    fn tell_rest(&mut self) -> Result<DiskStep, StorageError> {
        // Until more is written it knows.
        (self.rest_due, self.is_rest_due) = (None, false);
        let before = self.storage.disk().operations();
        self.storage.rest()?;
        let rested = Some(self.storage.disk().operations() > before);
        Ok(DiskStep { rested, next: self.begin(), ..DiskStep::default() })
    }

    fn write(&mut self) -> Result<DiskStep, StorageError> {
        let mut written = None;
        for _ in 0..GROUP_COMMIT_MAX {
            let batch = match self.work.front() {
                Some(Work::Persist { batch, .. }) => Some(batch.seq),
                Some(_) if written.is_none() => None,
                Some(_) | None => break,
            };
            let work = self.work.pop_front().expect("there is a first one");
            if let Work::SaveSnapshot { snapshot, data } = &work {
                self.storage.begin_snapshot(snapshot, data)?;
                self.is_saving = true;
                return Ok(DiskStep { next: self.begin(), ..DiskStep::default() });
            }
            // What finds no space is handed in again.
            let again = self.storage.disk().may_refuse().then(|| work.clone());
            match (self.storage.write(work), again) {
                (Err(StorageError::NoSpace { .. }), Some(again)) => {
                    self.work.push_front(again);
                    if written.is_none() {
                        return Ok(self.wait_for_space(Phase::Working));
                    }
                    break;
                }
                (done, _) if batch.is_none() => {
                    return Ok(DiskStep { done: done?, next: self.begin(), ..DiskStep::default() });
                }
                (done, _) => assert!(done?.is_none(), "a batch is not durable before it is synced"),
            }
            written = batch;
        }
        let Some(through) = written else { return Ok(DiskStep::default()) };
        self.phase = Phase::Syncing(through);
        Ok(DiskStep { next: Some(Latency::Sync), ..DiskStep::default() })
    }

    fn wait_for_space(&mut self, phase: Phase) -> DiskStep {
        self.phase = phase;
        DiskStep { next: Some(Latency::Full), is_full: true, ..DiskStep::default() }
    }

    fn begin(&mut self) -> Option<Latency> {
        if self.is_rest_due && self.work.is_empty() {
            self.phase = Phase::Resting;
            return Some(Latency::Sync);
        }
        // By turns, so that neither has to wait for all of the other.
        if self.is_saving && !self.is_closing && (self.work.is_empty() || !self.was_part) {
            self.phase = Phase::Saving;
            return Some(Latency::Sync);
        }
        if self.work.is_empty() {
            return None;
        }
        self.phase = Phase::Working;
        Some(Latency::Write)
    }
}

/// Whether it tells a node that its disk has failed.
pub(crate) fn is_failure<M: StateMachine>(input: &Input<M>) -> bool {
    matches!(input, Input::Done(Done::Failed))
}
