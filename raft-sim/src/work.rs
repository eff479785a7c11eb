//! What a node's disk does, from the moment it is asked until the node is told.

use raft_replica::request::Input;
use raft_replica::storage::StorageError;
use raft_replica::storage::work::{Done, Work};

use crate::check::{Invariant, Violation};
use crate::disk::Failed;
use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::process::{FrozenState, Latency};
use crate::workload::Workload;
use crate::world::World;

impl<W: Workload> World<W> {
    /// A process asks its disk for something.
    pub(crate) fn work(&mut self, at: NodeAt, work: Work) -> Result<(), Failure> {
        let node = &mut self.nodes[at];
        if let Work::LoadSnapshot { snapshot, .. } = &work {
            self.checker.restore_asked(node.member.id, snapshot)?;
        }
        let process = node.process.as_mut().expect("a process asks for work");
        if let Some(kind) = process.work(work) {
            self.begin_disk(at, kind);
        }
        Ok(())
    }

    /// A state is encoded beside everything else: at once, or so slowly that the group has another
    /// leader by then.
    pub(crate) fn encode_later(&mut self, at: NodeAt, frozen: FrozenState<W>) {
        let node = &mut self.nodes[at];
        let delay_us = node.encoding_us(&self.options);
        let life = node.life;
        node.process.as_mut().expect("a process asks for work").frozen = Some(frozen);
        self.queue.after(delay_us, Event::Encoded { node: at, life });
    }

    /// A state is encoded, and goes to the disk.
    pub(crate) fn on_encoded(&mut self, at: NodeAt) -> Result<(), Failure> {
        if self.nodes[at].paused {
            // All of a process stands still.
            let life = self.nodes[at].life;
            self.queue.after(1 + self.options.fault_us / 4, Event::Encoded { node: at, life });
            return Ok(());
        }
        let process = self.nodes[at].process.as_mut().expect("a life has a process while it lasts");
        // Who is about to end has none.
        let Some((snapshot, state)) = process.frozen.take() else { return Ok(()) };
        self.digest.word(snapshot.last.index.0);
        let data = self.sabotage.snapshot(state.encode());
        self.work(at, Work::SaveSnapshot { snapshot, data })
    }

    /// A disk is done with what it was doing.
    pub(crate) fn on_disk(&mut self, at: NodeAt) -> Result<(), Failure> {
        let now = self.queue.now();
        self.make_space(at);
        let node = &mut self.nodes[at];
        let life = node.life;
        if node.taken_back == Some((life, now)) {
            node.taken_back = None;
            return Ok(());
        }
        if now < node.stalled_until {
            self.stats.tally.effective(Fault::Stall);
            node.put_off = Some((life, node.stalled_until));
            self.queue.at(node.stalled_until, Event::Disk { node: at, life });
            return Ok(());
        }
        node.put_off = None;
        let process = node.process.as_mut().expect("a life has a process while it lasts");
        let is_resting = process.is_resting();
        let is_sync = is_resting || process.syncing().is_some();
        if let Some(strike) = node.doom.as_mut().filter(|_| is_sync) {
            node.disk.arm_unless_armed(strike.operations);
        }
        let mut done = process.disk(now);
        let is_closing = process.is_closing();
        let space = done.as_mut().ok().filter(|_| !is_closing);
        let space = space.and_then(|step| process.space(step));
        let syncing = process.syncing();
        let has_hard_state = |seq| self.checker.is_hard_state_pending(node.member.id, seq);
        if let Some(seq) =
            syncing.filter(|&seq| self.sabotage.confirms_early(|| has_hard_state(seq)))
        {
            self.begin_disk(at, Latency::Sync);
            return self.deliver(at, Input::Done(Done::Persisted { seq }));
        }
        if done.is_ok() {
            self.has_heard(at)?;
        } else {
            self.stats.rests.broken += u64::from(is_resting);
        }
        self.rest_later(at);
        let node = &self.nodes[at];
        match done {
            Ok(step) => {
                // A disk that is small is no fault.
                if step.is_full && node.disk.is_filled() {
                    self.stats.tally.effective(Fault::NoSpace);
                }
                let saved = matches!(step.done, Some(Done::SnapshotSaved { .. }));
                if step.durable.is_some() || saved || step.rested.is_some() {
                    self.checker.confirmed(node.member.id, node.disk.unsynced(is_scratch))?;
                }
                if let Some(seq) = step.durable {
                    self.stats.syncs += 1;
                    self.checker.persist_durable(node.member.id, seq)?;
                }
                if let Some(has_learned) = step.rested {
                    self.checker.named(node.member.id);
                    self.stats.rests.told += u64::from(has_learned);
                }
                if is_closing && (step.next.is_none() || step.is_full) {
                    return self.end_in_order(at, step.rested.is_some());
                }
                if let Some(kind) = step.next {
                    self.begin_disk(at, kind);
                }
                if let Some(space) = space {
                    self.deliver(at, space)?;
                }
                step.done.map_or(Ok(()), |done| self.deliver(at, Input::Done(done)))
            }
            Err(error) => self.on_storage_error(at, error),
        }
    }

    pub(crate) fn begin_disk(&mut self, at: NodeAt, kind: Latency) {
        let node = &mut self.nodes[at];
        let delay_us = node.latency_us(kind, self.options.disk_us);
        if node.slowness > 1 {
            self.stats.tally.effective(Fault::SlowNode);
        }
        let life = node.life;
        self.queue.after(delay_us, Event::Disk { node: at, life });
    }

    pub(crate) fn on_storage_error(
        &mut self,
        at: NodeAt,
        error: StorageError,
    ) -> Result<(), Failure> {
        let node = &self.nodes[at];
        if node.disk.is_dead() {
            return self.on_power_failure(at);
        }
        let Some(failed) = node.disk.take_failed() else {
            return Err(Failure::Storage { node: node.member.id, error });
        };
        self.note_failed(failed);
        // The process says no more; somebody starts it again after a while.
        self.restart_after(at, 1 + self.options.fault_us);
        self.deliver(at, Input::Done(Done::Failed))
    }

    /// Of a storage that goes on: it has stopped at every call that failed.
    ///
    /// # Errors
    /// It has not: what it says from then on may be a lie.
    pub(crate) fn has_heard(&self, at: NodeAt) -> Result<(), Failure> {
        let node = &self.nodes[at];
        let Some(Failed { fault, .. }) = node.disk.take_failed() else { return Ok(()) };
        let predicted = "a storage stops at the first call of its disk that fails".to_owned();
        let actual = format!("it goes on after a call that has failed ({})", fault.name());
        let broken = Violation::new(Invariant::PromiseDurability, predicted, actual);
        Err(broken.on(node.member.id).into())
    }

    pub(crate) fn note_failed(&mut self, failed: Failed) {
        if failed.took_hold {
            self.stats.tally.effective(failed.fault);
        }
        if let Some(call) = failed.call {
            *self.stats.failed_calls.entry(call).or_default() += 1;
        }
    }
}

/// What is being made promises nothing before it has its final name.
pub(crate) fn is_scratch(path: &str) -> bool {
    ["snap/stage.data", "snap/save.data"].contains(&path) || path.ends_with(".tmp")
}

#[cfg(test)]
mod tests {
    use raft_replica::disk::Disk;

    use super::*;
    use crate::damage::tests::at_rest;

    #[test]
    fn a_storage_that_goes_on_after_an_error_is_found_out() {
        let world = at_rest();
        assert_eq!(world.has_heard(0), Ok(()));
        let mut disk = world.nodes[0].disk.clone();
        disk.fail_next_write();
        let file = disk.open("hs.a").expect("every node has one");
        disk.write(&file, 0, &[0]).expect_err("it was told to fail");
        let Err(Failure::Violation(broken)) = world.has_heard(0) else { panic!("it is one") };
        assert_eq!(broken.invariant, Invariant::PromiseDurability);
        assert_eq!(world.has_heard(0), Ok(()), "once is enough");
    }
}
