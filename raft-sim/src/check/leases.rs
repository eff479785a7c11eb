//! What is answered by leases, told to the checker: LZ.

use raft_core::{NodeId, Term, Time};

use super::violation::Violation;
use super::{Checker, lease_overlap};
use crate::workload::Workload;

impl<W: Workload> Checker<W> {
    /// From now on clocks differ by more than leases bear: what is said by a lease is not judged.
    pub fn excuse_leases(&mut self) {
        self.are_leases_excused = true;
    }

    /// A node answers by a lease that lasts until `until`. Both moments are of the true time, which
    /// no node knows; the clocks must drift no more than the nodes are prepared for.
    ///
    /// # Errors
    /// LZ.
    pub fn leased(&mut self, node: NodeId, until: Time, now: Time) -> Result<(), Violation> {
        if self.are_leases_excused {
            return Ok(());
        }
        let slot = self.ghost.slot(node);
        lease_overlap::leased(&mut self.ghost, slot, until, now)
    }

    /// A node's clock runs at another rate from now on: its lease ends at another moment of the true time.
    pub fn lease_moved(&mut self, node: NodeId, until: Time) {
        let slot = self.ghost.slot(node);
        if let Some((_, end)) = &mut self.ghost.nodes[slot].lease {
            *end = until;
        }
    }

    /// A node would answer by such a lease now, if it were asked; it is not.
    ///
    /// # Errors
    /// LZ.
    pub fn would_lease(&self, node: NodeId, until: Time, now: Time) -> Result<(), Violation> {
        if self.are_leases_excused {
            return Ok(());
        }
        lease_overlap::would_lease(&self.ghost, self.ghost.slot(node), until, now)
    }

    /// A node has become the leader of a term, at a moment of the true time.
    ///
    /// # Errors
    /// LZ.
    pub fn elected(&self, node: NodeId, term: Term, now: Time) -> Result<(), Violation> {
        lease_overlap::elected(&self.ghost, self.ghost.slot(node), term, now)
    }
}
