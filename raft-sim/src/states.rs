//! The states of the servers: the workload looks at them, and the checker compares them with what the
//! committed commands have made of its own.
//!
//! To look at a whole state takes as long as the state is large, so the checker does it after each
//! snapshot that was restored, as soon as the server has caught up, now and then, and at the end.

use crate::event::NodeAt;
use crate::failure::Failure;
use crate::workload::Workload;
use crate::world::World;

/// One state in so many is compared, of servers that have applied all of it themselves.
const COMPARED_EVERY: u64 = 64;

impl<W: Workload> World<W> {
    /// A node's machine has changed.
    pub(crate) fn inspect_machine(&mut self, at: NodeAt) -> Result<(), Failure> {
        let node = &self.nodes[at];
        let Some(process) = &node.process else { return Ok(()) };
        let found = W::invariant(process.replica.machine().machine());
        let applied = process.replica.applied();
        self.checker.inspected(node.member.id, applied, found)?;
        if process.is_restored || applied.0.is_multiple_of(COMPARED_EVERY) {
            self.compare_state(at)?;
        }
        Ok(())
    }

    /// The states of all servers that have come as far as any are compared.
    pub(crate) fn compare_states(&mut self) -> Result<(), Failure> {
        (0..self.nodes.len()).try_for_each(|at| self.compare_state(at))
    }

    fn compare_state(&mut self, at: NodeAt) -> Result<(), Failure> {
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return Ok(()) };
        let replica = &process.replica;
        let (state, sessions) = (replica.machine().machine(), replica.sessions());
        let is_judged =
            self.checker.has_state(node.member.id, replica.applied(), state, sessions)?;
        process.is_restored &= !is_judged;
        Ok(())
    }
}
