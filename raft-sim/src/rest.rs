//! The host's part in telling a disk that it is at rest.
//!
//! Until a disk is told, or the next batch tells it, nothing there says that the last batch was
//! acknowledged: rot in it would pass for a crash. A server tells it once there has been nothing to write for
//! a while, and so does every process here. From then on the ghost knows that the batch has its names, that
//! the hard state vouches for it, and that a start which takes it for torn, or for never written, is wrong.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::workload::Workload;
use crate::world::World;

/// How often disks were told that they are at rest, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rests {
    /// Disks that had something to learn by it, and learned it.
    pub told: u64,
    /// Those whose power or whose calls failed while they were told.
    pub broken: u64,
    /// Wounds that hurt a last batch, and that a start finds because the disk had been told.
    pub found: u64,
}

impl Rests {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        self.told += other.told;
        self.broken += other.broken;
        self.found += other.found;
    }
}

impl fmt::Display for Rests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, broken, found } = self;
        write!(
            f,
            "{told} disks were told that they rest, {broken} failed in it, {found} wounds are found by it"
        )
    }
}

impl<W: Workload> World<W> {
    /// Sees to it that a process looks whether its disk is at rest when it may be, once.
    pub(crate) fn rest_later(&mut self, at: NodeAt) {
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return };
        if let Some(due) = process.next_rest() {
            self.queue.at(due, Event::Rest { node: at, life: node.life });
        }
    }

    /// A process looks whether its disk has had nothing to write for long enough.
    pub(crate) fn on_rest(&mut self, at: NodeAt) -> Result<(), Failure> {
        let now = self.queue.now();
        let node = &mut self.nodes[at];
        if node.paused {
            // All of a process stands still.
            let life = node.life;
            self.queue.after(1 + self.options.fault_us / 4, Event::Rest { node: at, life });
            return Ok(());
        }
        let process = node.process.as_mut().expect("a life has a process while it lasts");
        if process.is_closing() {
            return Ok(());
        }
        if let Some(kind) = process.rest(now) {
            self.begin_disk(at, kind);
        }
        self.rest_later(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raft_replica::storage::What;

    use super::*;
    use crate::damage::tests::at_rest_with;
    use crate::options::Options;
    use crate::workload::KeyValue;

    /// A cluster of which nobody wants anything any more.
    fn idle(rest_after_us: u64) -> World<KeyValue> {
        at_rest_with(Options { events: 1_000, rest_after_us, ..Options::default() })
    }

    /// How many sectors of the log cost a start its last entry without a word, and of how many it says that
    /// they have hurt it.
    fn lost(world: &World<KeyValue>) -> (usize, usize) {
        let (mut torn, mut hurt) = (0, 0);
        let disk = &world.nodes[0].disk;
        let before = world.inspect(0).expect("nothing is lost");
        for sector in disk.payload_sectors() {
            let wound = disk.blank(sector);
            if let Some(after) = world.inspect(0) {
                let is_short = after.last != before.last && !after.is_tail_unknown;
                torn += usize::from(is_short);
                // It is the first one of a term, which has no payload to lose.
                let is_hurt = What::BadHeader { entry: before.last };
                let is_said = after.report.findings.iter().any(|found| found.what == is_hurt);
                hurt += usize::from(is_said && after.last == before.last);
            }
            disk.mend(&wound);
        }
        (torn, hurt)
    }

    #[test]
    fn a_disk_that_was_told_has_nothing_that_passes_for_torn() {
        let world = idle(20_000);
        let id = world.nodes[0].member.id;
        assert!(world.stats().rests.told > 0, "{}", world.stats().rests);
        assert_eq!(world.checker.told_through(id), world.checker.durable_last(id));
        assert_eq!(lost(&world), (0, 1));
    }

    #[test]
    fn a_disk_that_is_never_told_has() {
        let world = idle(0);
        assert_eq!(world.stats().rests, Rests::default());
        assert_eq!(world.checker.told_through(world.nodes[0].member.id), raft_core::Index::ZERO);
        assert_eq!(lost(&world), (1, 0));
    }
}
