//! Wounds to what nobody knows to be committed: the last copy of it may go, and then a leader must find out
//! that it may be discarded.
//!
//! By chance alone they are rare, and healed by whoever still has the entry in memory. So the process stops,
//! and starts again soon.

use super::has_all_copies;
use crate::event::NodeAt;
use crate::failure::Failure;
use crate::nemesis::Strike;
use crate::workload::Workload;
use crate::world::World;

/// How many sectors are tried, from the end of the log.
const SECTORS_MAX: usize = 12;

impl<W: Workload> World<W> {
    /// An entry that is not known to be committed becomes unreadable, on this node or the next one that has
    /// one. Returns whether it has, or nothing if nobody has one that can be told.
    pub(super) fn hurt_unproven(
        &mut self,
        at: NodeAt,
        strike: &Strike,
    ) -> Result<Option<bool>, Failure> {
        let committed = self.checker.committed();
        let nodes = self.nodes.len();
        let is_ahead = |at: &NodeAt| {
            let node = &self.nodes[*at];
            self.checker.durable_last(node.member.id) > committed && node.disk.is_at_rest()
        };
        let Some(at) = (0..nodes).map(|next| (at + next) % nodes).find(is_ahead) else {
            return Ok(None);
        };
        let Some(before) = self.inspect(at).filter(has_all_copies) else { return Ok(None) };
        let disk = self.nodes[at].disk.clone();
        let mut sectors = disk.payload_sectors();
        let newest = sectors.first().map(|(file, _)| *file);
        sectors.retain(|(file, _)| Some(*file) == newest);
        for sector in sectors.into_iter().rev().take(SECTORS_MAX) {
            let wound = disk.blank(sector);
            let is_it = self.inspect(at).is_some_and(|found| {
                let mut damaged = found.report.damaged();
                found.last == before.last && damaged.any(|id| id.index > committed)
            });
            if is_it {
                if self.stop(at) {
                    self.restart_after(at, 1 + strike.lasts_us / 32);
                }
                return self.judge(at, strike.fault, &before, wound).map(Some);
            }
            disk.mend(&wound);
        }
        Ok(None)
    }
}
