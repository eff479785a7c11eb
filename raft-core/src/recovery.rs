//! A node starts from what its disk holds (Figure 2, persistent state; thesis §3.8), checked
//! as a whole.
//!
//! Of a cold entry only the identity is there: it is believed here, and what the host loads later
//! is compared with it. Of a damaged one the identity is all that is left: the node keeps its place
//! in the log, votes and campaigns by it, and claims nothing from there on (the repair chapter
//! fills it). A log whose tail is unknown is taken as it is; the barrier chapter says what follows.
//!
//! Deliberately absent: a lost hard state. A server that has lost it is another member from then on:
//! the host starts it under a new lineage, and the group admits it like any new one.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::config::{Config, ConfigError, MESSAGE_BYTES_MAX};
use crate::durable::{HardState, RecoveredState, Slot};
use crate::effect::Observation;
use crate::entry::{Entries, Payload, chain_after, genesis_id};
use crate::log::Log;
use crate::membership::{Membership, MembershipError};
use crate::node::{Node, Parts};
use crate::types::{Chain, EntryId, Index, LIMIT, Term};

/// Recovered entries in one run, which leaves memory as a whole.
const RUN_ENTRIES: usize = 256;

/// A membership and where it stands in the log.
type Change = (Index, Arc<Membership>);

/// Checks what was found, raises the incarnation and stages it.
pub(crate) fn restart(config: Config, mut found: RecoveredState) -> Result<Node, RecoverError> {
    config.validate().map_err(RecoverError::Config)?;
    found.snapshot.membership.validate().map_err(RecoverError::Membership)?;
    check_numbers(&found)?;
    let snapshot = &*found.snapshot;
    if found.founding
        && (snapshot.last != genesis_id(&snapshot.membership) || !found.slots.is_empty())
    {
        return Err(RecoverError::NotGenesis);
    }
    let last = found.slots.last().map_or(found.before, Slot::id);
    let snapshot = found.snapshot.last;
    if !(found.before.index <= snapshot.index && snapshot.index <= last.index) {
        return Err(RecoverError::LogMissesSnapshot);
    }
    if last.term > found.hard_state.term {
        return Err(RecoverError::TermBehindLog { term: found.hard_state.term, log: last.term });
    }
    let compact_to = drop_covered_holes(&mut found);
    let ReadSlots { log, changes, holes, lost_memberships } =
        read_slots(found.before, &found.slots)?;
    if log.id(snapshot.index) != Some(snapshot) {
        return Err(RecoverError::LogMissesSnapshot);
    }
    let is_tail_unknown = found.hard_state.is_tail_unknown;
    let mut commit = found.commit.max(snapshot.index);
    if is_tail_unknown {
        commit = commit.min(last.index); // It may have known of more than is left.
    }
    if commit > last.index {
        return Err(RecoverError::CommitBeyondLog { commit, last: last.index });
    }
    if found.applied > commit {
        return Err(RecoverError::AppliedBeyondCommit { applied: found.applied, commit });
    }
    if is_tail_unknown {
        // What the end of a log says may be lost with it: also that entries before it were replaced. Then
        // what stands here at a committed index need not be what was committed; the leader tells that again.
        commit = snapshot.index.max(found.applied);
    }
    let RecoveredState { hard_state, founding, .. } = found;
    let hard_state = HardState { incarnation: hard_state.incarnation.next(), ..hard_state };
    let memberships =
        memberships(&found.snapshot.membership, found.before, snapshot, changes, &lost_memberships);
    let parts = Parts {
        hard_state,
        log,
        memberships,
        snapshot: found.snapshot,
        commit,
        applied: found.applied,
        is_snapshot_damaged: found.is_snapshot_damaged,
        holes,
        lost_memberships,
    };
    let mut node = Node::new(config, parts);
    node.stage_hard_state();
    if founding {
        node.stage_genesis();
    }
    if hard_state.is_tail_unknown {
        node.observe(Observation::TailUnknown);
    }
    if let Some(through) = compact_to {
        node.gate.stage_compact(through);
    }
    Ok(node)
}

fn check_numbers(found: &RecoveredState) -> Result<(), RecoverError> {
    let HardState { epoch, incarnation, term, .. } = found.hard_state;
    let slots = found.slots.len() as u64;
    let numbers = [
        epoch.0,
        incarnation.0,
        term.0,
        found.before.index.0.saturating_add(slots),
        found.snapshot.last.index.0,
        found.commit.0,
        found.applied.0,
    ];
    // The incarnation rises at every start; a term at its end only keeps the node from campaigning.
    if numbers.iter().any(|number| *number >= LIMIT) || !incarnation.next().is_valid() {
        return Err(RecoverError::OutOfBounds);
    }
    Ok(())
}

/// Damaged entries that the snapshot covers are not needed: the log begins after the last of them.
fn drop_covered_holes(found: &mut RecoveredState) -> Option<Index> {
    let end = found.snapshot.last.index;
    let is_covered = |slot: &Slot| matches!(slot, Slot::Damaged { id, .. } if id.index <= end);
    if found.is_snapshot_damaged {
        return None;
    }
    let last = found.slots.iter().rposition(is_covered)?;
    found.before = found.slots[last].id();
    found.slots.drain(..=last);
    Some(found.before.index)
}

/// A log as the slots give it.
struct ReadSlots {
    log: Log,
    /// The memberships in it.
    changes: Vec<Change>,
    /// Where entries are damaged, and which of them are memberships.
    holes: Vec<Index>,
    lost_memberships: Vec<Index>,
}

/// The log, the memberships in it, and what of it is damaged.
///
/// Computes every chain again that can be: what a disk returns is believed only if it is what was
/// written. Where the entry before is cold, its identity is what the chain starts from.
fn read_slots(before: EntryId, slots: &[Slot]) -> Result<ReadSlots, RecoverError> {
    let (mut log, mut changes, mut prev) = (Log::new(before), Vec::new(), before);
    let (mut holes, mut lost_memberships) = (Vec::new(), Vec::new());
    for slot in slots {
        let (id, index) = (slot.id(), prev.index.next());
        if id.index != index || id.term < prev.term {
            return Err(RecoverError::NotConsecutive { index });
        }
        prev = id;
        if let Slot::Resident { payload: Payload::Membership(membership), .. } = slot {
            membership.validate().map_err(RecoverError::Membership)?;
            changes.push((index, Arc::clone(membership)));
        }
        if let Slot::Damaged { is_membership, .. } = slot {
            holes.push(index);
            lost_memberships.extend(is_membership.then_some(index));
        }
    }
    // What lies before a cold entry is cold too: a membership there is kept beside the log.
    let is_cold = |slot: &Slot| matches!(slot, Slot::Cold { .. } | Slot::Damaged { .. });
    let cold = slots.iter().rposition(is_cold).map_or(0, |last| last + 1);
    for slot in &slots[..cold] {
        let bytes = match slot {
            Slot::Cold { bytes, .. } | Slot::Damaged { bytes, .. } => *bytes,
            Slot::Resident { id, payload } => {
                check_chain(chain_after(log.last().chain, id.term, id.index, payload), *id)?;
                payload.len()
            }
        };
        if bytes > MESSAGE_BYTES_MAX {
            return Err(RecoverError::OutOfBounds);
        }
        log.append_cold(slot.id(), u32::try_from(bytes).map_err(|_| RecoverError::OutOfBounds)?);
    }
    for run in slots[cold..].chunks(RUN_ENTRIES) {
        let items = run.iter().filter_map(|slot| match slot {
            Slot::Resident { id, payload } => Some((id.term, payload.clone())),
            Slot::Cold { .. } | Slot::Damaged { .. } => None,
        });
        let entries = Entries::after(log.last(), items);
        for (entry, slot) in entries.iter().zip(run) {
            check_chain(entry.chain(), slot.id())?;
        }
        log.append(entries);
    }
    Ok(ReadSlots { log, changes, holes, lost_memberships })
}

fn check_chain(computed: Chain, id: EntryId) -> Result<(), RecoverError> {
    let index = id.index;
    if computed == id.chain { Ok(()) } else { Err(RecoverError::BrokenChain { index }) }
}

/// Each membership in the log, and the one at the base as far as it is known. The snapshot's is in force
/// from the last membership entry at or below it, even a `lost` one; from the base if there is none.
fn memberships(
    at_snapshot: &Membership,
    before: EntryId,
    snapshot: EntryId,
    mut changes: Vec<Change>,
    lost: &[Index],
) -> Vec<Change> {
    let covered = changes.partition_point(|(index, _)| *index <= snapshot.index);
    let kept = covered.checked_sub(1).map(|last| changes[last].0);
    let lost = lost.iter().copied().filter(|index| *index <= snapshot.index).max();
    // An older change stays: an older snapshot may come, if this one is damaged.
    if kept.is_none() || lost > kept {
        let from = lost.unwrap_or(before.index);
        changes.insert(covered, (from, Arc::new(at_snapshot.clone())));
    }
    changes
}

/// Why a node cannot start from what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecoverError {
    /// The configuration does not make sense.
    Config(ConfigError),
    /// A recovered membership is not one.
    Membership(MembershipError),
    /// A founder's snapshot is not genesis, or has a log after it.
    NotGenesis,
    /// A number is at or above [`crate::LIMIT`].
    OutOfBounds,
    /// A slot does not follow the one before it.
    NotConsecutive {
        /// The position.
        index: Index,
    },
    /// An entry's chain is not what its content gives.
    BrokenChain {
        /// The position.
        index: Index,
    },
    /// The snapshot does not lie on the log.
    LogMissesSnapshot,
    /// The log has entries of a term that the hard state does not know: the hard state is lost.
    TermBehindLog {
        /// The hard state's term.
        term: Term,
        /// The last entry's term.
        log: Term,
    },
    /// More is committed than the log holds: acknowledged entries are lost.
    CommitBeyondLog {
        /// The commit index found.
        commit: Index,
        /// The last entry found.
        last: Index,
    },
    /// The state machine is ahead of what is known to be committed.
    AppliedBeyondCommit {
        /// What the host has applied.
        applied: Index,
        /// The commit index found.
        commit: Index,
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "bad configuration: {error}"),
            Self::Membership(error) => write!(f, "bad membership: {error}"),
            Self::NotGenesis => f.write_str("a founder starts from something other than genesis"),
            Self::OutOfBounds => f.write_str("a recovered number is out of bounds"),
            Self::NotConsecutive { index } => write!(f, "the log is not consecutive at {index}"),
            Self::BrokenChain { index } => write!(f, "the chain of the log is broken at {index}"),
            Self::LogMissesSnapshot => f.write_str("the snapshot does not lie on the log"),
            Self::TermBehindLog { term, log } => {
                write!(f, "the hard state is at {term}, the log at {log}: the hard state is lost")
            }
            Self::CommitBeyondLog { commit, last } => {
                write!(f, "{commit} is committed, but the log ends at {last}")
            }
            Self::AppliedBeyondCommit { applied, commit } => {
                write!(f, "{applied} is applied, but only {commit} is known to be committed")
            }
        }
    }
}

impl core::error::Error for RecoverError {}
