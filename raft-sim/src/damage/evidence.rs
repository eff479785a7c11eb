//! What a start must not overlook, whatever it says itself.
//!
//! An inspection is the product's own word: whether it has overlooked something, it cannot tell. But the
//! ghost knows which entries are on a disk and which of them were vouched for, the world knows their
//! payloads, and where a wound has met their bytes, or left some of their traces, can be seen on the disk.

use raft_core::{Index, Payload, PersistBatch};
use raft_replica::storage::{Inspection, What};

use super::verdict::covered;
use crate::check::{Invariant, Violation};
use crate::event::NodeAt;
use crate::fault::Fault;
use crate::rot::Wound;
use crate::workload::Workload;
use crate::world::World;

impl<W: Workload> World<W> {
    /// Remembers what is written, where disks may lose it.
    pub(crate) fn note_payloads(&mut self, batch: &PersistBatch) {
        if !self.options.has_damage() {
            return;
        }
        for entry in batch.append.iter() {
            if let Payload::Command(bytes) = entry.payload() {
                self.payloads.entry(entry.id()).or_insert_with(|| bytes.clone());
            }
        }
    }

    /// Through where the last process has told its disk that its log was acknowledged. The hard state has
    /// it, twice, so no one wound takes that back, nor a power cut, unless a sync has lied.
    pub(super) fn told_through(&self, at: NodeAt) -> Index {
        let node = &self.nodes[at];
        let is_certain = node.process.is_some() || !self.options.faults.contains(Fault::LyingSync);
        if is_certain { self.checker.told_through(node.member.id) } else { Index::ZERO }
    }

    /// The same, if neither this wound nor an earlier one has met the slot of the last entry: then the log
    /// reaches as far.
    fn named_through(&self, at: NodeAt, wound: &Wound) -> Index {
        let node = &self.nodes[at];
        let told = self.told_through(at);
        let wounds: Vec<&Wound> = node.wounds.iter().chain([wound]).collect();
        let is_left = told > Index::ZERO && !node.disk.has_met_slot(&wounds, told.0);
        if is_left { told } else { Index::ZERO }
    }

    /// Of a log whose payloads a wound has met, all that can be read nowhere else is missed, and it ends no
    /// earlier than its slots do.
    ///
    /// # Errors
    /// A start takes for whole what is not.
    pub(crate) fn misses_payloads(
        &self,
        at: NodeAt,
        (before, after): (&Inspection, &Inspection),
        wound: &Wound,
    ) -> Result<(), Violation> {
        let node = &self.nodes[at];
        let ends = before.before.index.0 + 1..before.last.index.0 + 1;
        let broken = |index: Index, predicted: String, actual: String| {
            Err(Violation::new(Invariant::Recovery, predicted, actual).on(node.member.id).at(index))
        };
        if before.report.is_clean() && node.process.is_some() && node.disk.is_of_payloads(wound) {
            let through =
                node.disk.slots_through(&node.wounds, ends.clone()).map_or(Index::ZERO, Index);
            let through = through.max(self.named_through(at, wound));
            let is_short = after.last.index < through;
            // Where the log ends in a sector that cannot be read, more may have stood.
            let is_doubt = after.is_tail_unknown
                && !node.disk.is_unwritten(wound)
                && !(wound.is_unreadable() && is_end_hurt(after));
            if is_short || (through == before.last.index && is_doubt) {
                let predicted =
                    format!("payloads are lost, and every slot through {through} is left");
                let actual = format!("a start finds the log through {}", after.last);
                return broken(through, predicted, actual);
            }
        }
        // What is being replaced may be another entry on the disk by now.
        let kept = self.checker.kept(node.member.id);
        let ends = ends.map(Index).take_while(|index| *index <= kept);
        let ids = ends.filter_map(|index| self.checker.durable_entry(node.member.id, index));
        let known = ids.filter_map(|id| Some((id, self.payloads.get(&id)?)));
        for id in node.disk.met(wound, known) {
            let is_there = after.before.index < id.index && id.index <= after.last.index;
            let is_missed =
                || [before, after].iter().any(|one| one.report.damaged().any(|bad| bad == id));
            if is_there && !is_missed() && !node.disk.is_left(&self.payloads[&id]) {
                let predicted =
                    format!("no copy of the payload of {id} is left here, and it is missed");
                return broken(id.index, predicted, "a start takes it for whole".to_owned());
            }
        }
        Ok(())
    }

    /// Whether a start that finds less than there was, without a word, has a reason: what is gone was never
    /// vouched for, and has left no trace.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn has_reason(
        &self,
        at: NodeAt,
        (before, after): (&Inspection, &Inspection),
        (fault, wound): (Fault, &Wound),
    ) -> Result<(), Violation> {
        let node = &self.nodes[at];
        let is_same = before.hard_state == after.hard_state;
        // A lie may be about both files of the hard state, and about all that was written after them.
        if fault == Fault::LyingSync && !is_same {
            return Ok(());
        }
        // With the newest segment's name goes what it had cut off: that counts again, as it once did, also
        // while the batch that cuts it off is still on its way.
        let fence = before.segments.last().filter(|_| wound.is_removal());
        let is_other = |last| self.checker.durable_entry(node.member.id, last) != Some(after.last);
        let is_longer = after.last.index > before.last.index;
        let came_back = fence.filter(|_| is_longer || is_other(after.last.index));
        let end = came_back.map_or(after.last.index, |fence| fence.first.prev());
        let left = end.max(covered(after));
        let lost = left.0 + 1..before.last.index.0 + 1;
        let vouched = self.checker.vouched(node.member.id);
        let told = self.told_through(at);
        let reason = if !is_same {
            Some("the hard state is another one".to_owned())
        } else if is_longer && came_back.is_none() {
            Some("it has never been that long".to_owned())
        } else if lost.is_empty() {
            None
        } else if told.0 >= lost.start && fault != Fault::LyingSync {
            Some(format!("at rest its disk was told that {told} was acknowledged"))
        } else if vouched.0 >= lost.start && fault != Fault::LyingSync {
            Some(format!("its hard state vouched for {vouched}"))
        } else if node.process.is_some() {
            node.disk.trace_of(wound, &node.wounds, lost)
        } else {
            // A power cut may have torn what is left.
            None
        };
        let Some(reason) = reason else { return Ok(()) };
        let predicted = format!("the log went on to {}: {reason}", before.last);
        let actual = format!("a start finds the log through {left}, and takes that for all of it");
        Err(Violation::new(Invariant::Recovery, predicted, actual)
            .on(node.member.id)
            .at(left.next()))
    }
}

/// Whether the last entry is one that cannot be read where it stands.
fn is_end_hurt(found: &Inspection) -> bool {
    let mut hurt = found.report.findings.iter().filter_map(|finding| match &finding.what {
        What::Damaged { entry } | What::BadHeader { entry } | What::Healed { entry } => Some(entry),
        What::BadCopy { .. }
        | What::BadSlot { .. }
        | What::Torn { .. }
        | What::TailUnknown { .. }
        | What::SnapshotDamaged { .. }
        | _ => None,
    });
    hurt.any(|entry| *entry == found.last)
}
