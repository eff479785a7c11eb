//! The host's part in finding damage: it looks through its disk, a little at a time.

use raft_replica::request::Input;
use raft_replica::storage::StorageError;
use raft_replica::storage::work::Done;

use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::workload::Workload;
use crate::world::World;

/// How much of a disk is looked at in one go, in bytes.
const SCRUB_BYTES: u64 = 16 << 10;

impl<W: Workload> World<W> {
    /// Looks through the disk again after a while.
    pub(crate) fn scrub_later(&mut self, at: NodeAt) {
        if self.options.has_damage() {
            let rest_us = 1 + self.schedule.draw().pause(2 * self.options.election_timeout_us);
            let life = self.nodes[at].life;
            self.queue.after(rest_us, Event::Scrub { node: at, life });
        }
    }

    /// A process looks through a part of its disk; once the faults have ended, through all of it.
    pub(crate) fn on_scrub(&mut self, at: NodeAt) -> Result<(), Failure> {
        self.scrub_later(at);
        let is_last = self.healed.is_some();
        let node = &mut self.nodes[at];
        if node.paused || self.queue.now() < node.stalled_until {
            return Ok(());
        }
        let process = node.process.as_mut().expect("a life has a process while it lasts");
        if process.is_closing() {
            return Ok(());
        }
        // The log of the core may begin later than the segments do.
        let base = process.replica.status().base.index;
        let (mut entries, mut is_clean_round, mut lost) = (Vec::new(), false, None);
        // The round that is under way, and one more.
        for is_whole_round in if is_last { [false, true].iter() } else { [false].iter() } {
            let mut step = match process.scrub(if is_last { u64::MAX } else { SCRUB_BYTES }) {
                Ok(Some(step)) => step,

                Ok(None) => return Ok(()),
                Err(StorageError::NoSpace { .. }) if node.disk.may_refuse() => {
                    self.stats.tally.effective(Fault::NoSpace);
                    return Ok(());
                }
                Err(error) => return self.on_storage_error(at, error),
            };
            step.damaged.retain(|id| id.index > base);
            if *is_whole_round {
                node.is_whole =
                    step.damaged.is_empty() && step.snapshots.is_empty() && step.repaired == 0;
            }
            is_clean_round |= step.is_round_over && step.damaged.is_empty();
            entries.extend(step.damaged);
            lost = step.snapshots.last().copied();
        }
        self.has_heard(at)?;
        if is_clean_round && self.nodes[at].was_hurt {
            self.forget_wounds(at);
        }
        self.digest.word(entries.len() as u64);
        if let Some(snapshot) = lost {
            self.deliver(at, Input::Done(Done::SnapshotDamaged { snapshot }))?;
        }
        if entries.is_empty() || self.nodes[at].process.is_none() {
            return Ok(());
        }
        self.deliver(at, Input::Done(Done::Damaged { entries }))
    }
}
