//! SM: every node applies the committed entries, each once, in order, to the same effect (§5.4.3).
//!
//! A digest covers what was applied and answered, and travels inside a snapshot: it says nothing about
//! the state that comes out of one. So states themselves are compared as well, now and then.

use raft_core::{Entries, Index, NodeId, SnapshotMeta};
use raft_replica::session::Sessions;

use super::ghost::Ghost;
use super::machine::Machine;
use super::violation::{Invariant, Violation};
use crate::workload::Workload;

/// A node has applied committed entries.
pub(super) fn applied(
    ghost: &mut Ghost,
    slot: usize,
    entries: &Entries,
    digest: u64,
) -> Result<(), Violation> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
    let node = &ghost.nodes[slot];
    let broken = |index: Index, predicted: String, actual: String| {
        Violation::new(Invariant::StateMachineSafety, predicted, actual)
            .on(node.member.id)
            .at(index)
    };
    if first.index() != node.applied.next() {
        return Err(broken(
            first.index(),
            format!("after {} it applies {}", node.applied, node.applied.next()),
            format!("it applies {}", first.index()),
        ));
    }
    // The run is consecutive, and the chain of its last entry covers the others.
    let committed = ghost.committed.at(last.index());
    if committed != Some(last.id()) {
        return Err(broken(
            last.index(),
            match committed {
                Some(committed) => format!("the committed entry is {committed}"),
                None => format!("the log is committed through {}", ghost.committed.last_index()),
            },
            format!("it applies {}", last.id()),
        ));
    }
    reached(ghost, slot, last.index(), digest)
}

/// A node has replaced its state by a snapshot; that the snapshot is one of the committed log is
/// judged elsewhere.
pub(super) fn restored(
    ghost: &mut Ghost,
    slot: usize,
    snapshot: &SnapshotMeta,
    digest: u64,
) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    if snapshot.last.index < node.applied {
        return Err(Violation::new(
            Invariant::StateMachineSafety,
            format!("a snapshot covers the log through {}, which it has applied", node.applied),
            format!("it returns to {snapshot}"),
        )
        .on(node.member.id)
        .at(snapshot.last.index));
    }
    reached(ghost, slot, snapshot.last.index, digest)
}

/// A node that has applied as much as anybody has this state.
pub(super) fn has_state<W: Workload>(
    machine: &Machine<W>,
    node: NodeId,
    state: &W::Machine,
    sessions: &Sessions,
) -> Result<(), Violation> {
    let Some(actual) = machine.differs(state, sessions) else { return Ok(()) };
    let index = machine.applied();
    let predicted = format!("the state at {index} is what the committed commands have made of it");
    Err(Violation::new(Invariant::StateMachineSafety, predicted, actual).on(node).at(index))
}

/// A node's state machine stands at `index`, with this digest.
fn reached(ghost: &mut Ghost, slot: usize, index: Index, digest: u64) -> Result<(), Violation> {
    let position = usize::try_from(index.0).expect("a run is shorter than the address space");
    if ghost.digests.len() <= position {
        ghost.digests.resize(position + 1, None);
    }
    let expected = *ghost.digests[position].get_or_insert(digest);
    let node = &mut ghost.nodes[slot];
    node.applied = index;
    if expected == digest {
        return Ok(());
    }
    Err(Violation::new(
        Invariant::StateMachineSafety,
        format!("the state at {index} has the digest {expected:016x}"),
        format!("its state there has the digest {digest:016x}"),
    )
    .on(node.member.id)
    .at(index))
}
