//! What a start must not overlook, whatever it says itself.
//!
//! An inspection is the product's own word: whether it has overlooked something, it cannot tell. But the
//! ghost knows which entries are on a disk and which of them were vouched for, the world knows their
//! payloads, and where a wound has met their bytes, or left some of their traces, can be seen on the disk.

use raft_core::{Index, Payload, PersistBatch};
use raft_replica::storage::Inspection;

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
            // Where the disk cannot read what nobody has written, another batch may have stood.
            let is_doubt = after.is_tail_unknown && !node.disk.is_unwritten(wound);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use raft_core::EntryId;

    use super::*;
    use crate::options::Options;
    use crate::rng::{Purpose, Stream};
    use crate::workload::KeyValue;

    /// A cluster that runs, of which nothing was ever hurt, and a node with its disk at rest.
    fn running() -> (World<KeyValue>, NodeAt, Inspection) {
        let (events, snapshot_after_entries) = (2_000, u64::MAX);
        let options =
            Options { events, snapshot_after_entries, is_beyond: true, ..Options::default() };
        let mut world = World::of_options(options);
        world.run_chaos().expect("nothing strikes");
        // A start vouches for what it finds.
        for at in 0..world.nodes.len() {
            world.stop(at);
            world.start(at).expect("nothing strikes");
        }
        loop {
            world.next().expect("nothing strikes");
            let is_it = |at: &NodeAt| {
                let node = &world.nodes[*at];
                let last = world.checker.durable_last(node.member.id);
                node.disk.is_at_rest() && last.0 > world.checker.vouched(node.member.id).0 + 2
            };
            if let Some(at) = (0..world.nodes.len()).find(is_it) {
                let found = world.inspect(at).expect("nothing is lost");
                return (world, at, found);
            }
        }
    }

    #[test]
    fn a_payload_that_is_nowhere_else_is_missed() {
        let (world, at, before) = running();
        let mut overlooked = 0;
        for sector in world.nodes[at].disk.payload_sectors() {
            let wound = world.nodes[at].disk.blank(sector);
            if let Some(after) = world.inspect(at) {
                assert_eq!(world.misses_payloads(at, (&before, &after), &wound), Ok(()));
            }
            // One that takes the log for whole, whatever is lost.
            overlooked += u32::from(world.misses_payloads(at, (&before, &before), &wound).is_err());
            world.nodes[at].disk.mend(&wound);
        }
        assert!(overlooked > 3, "{overlooked}");
    }

    #[test]
    fn a_log_with_all_its_slots_ends_no_earlier() {
        let (world, at, before) = running();
        let disk = &world.nodes[at].disk;
        let through = disk.slots_through(&[], 1..before.last.index.0 + 1).expect("there are slots");
        let cut = |index: u64| {
            let last = EntryId { index: Index(index), ..before.last };
            Inspection { last, ..before.clone() }
        };
        let mut judged = 0;
        for sector in disk.payload_sectors() {
            let wound = disk.blank(sector);
            if disk.is_of_payloads(&wound) {
                judged += 1;
                let short = world.misses_payloads(at, (&before, &cut(through - 1)), &wound);
                assert_eq!(short.expect_err("it is short").index, Some(Index(through)));
            }
            disk.mend(&wound);
        }
        assert!(judged > 3, "{judged}");

        // A slot that an earlier wound has met says nothing.
        let files: BTreeSet<_> = disk.payload_sectors().into_iter().map(|(file, _)| file).collect();
        let tables = files.into_iter().flat_map(|file| (16..24).map(move |sector| (file, sector)));
        let wounds: Vec<Wound> = tables.map(|sector| disk.blank(sector)).collect();
        wounds.iter().rev().for_each(|wound| disk.mend(wound));
        let slots = |wounds: &[Wound]| disk.slots_through(wounds, 1..before.last.index.0 + 1);
        assert_eq!((slots(&[]), slots(&wounds)), (Some(through), None));
    }

    #[test]
    fn who_finds_less_without_a_word_has_a_reason() {
        let (world, at, before) = running();
        let disk = &world.nodes[at].disk;
        let vouched = world.checker.vouched(world.nodes[at].member.id);
        let judge = |last: Index, wound: &Wound| {
            let after =
                Inspection { last: EntryId { index: last, ..before.last }, ..before.clone() };
            world.has_reason(at, (&before, &after), (Fault::LostTail, wound))
        };
        let none = Wound::default();
        assert_eq!(judge(before.last.index, &none), Ok(()));
        let why =
            |last: Index, wound: &Wound| judge(last, wound).expect_err("it is short").predicted;
        assert!(why(vouched.prev(), &none).contains("its hard state vouched for"));
        assert!(why(vouched, &none).contains(" is there"), "{}", why(vouched, &none));
        assert!(why(before.last.index.next(), &none).contains("never been that long"));
        // If the end is lost with all its traces, nobody can tell.
        let mut stream = Stream::new(1, Purpose::Nemesis, 0);
        let excused = (0..256).any(|_| {
            let wound = disk.hurt(Fault::LostTail, false, &mut stream.draw());
            let wound = wound.expect("there is an end");
            let after = world.inspect(at);
            let is_silent = after
                .as_ref()
                .filter(|after| !after.is_tail_unknown && after.last.index < before.last.index);
            let is_excused = is_silent
                .is_some_and(|after| judge(after.last.index.max(covered(after)), &wound).is_ok());
            disk.mend(&wound);
            is_excused
        });
        assert!(excused, "some of many draws leave nothing");
    }

    #[test]
    fn what_a_disk_was_told_at_rest_is_missed() {
        let (mut world, at, before) = running();
        let (id, none) = (world.nodes[at].member.id, Wound::default());
        let last = before.last.index;
        let judge = |world: &World<KeyValue>, last: Index, wound: &Wound| {
            let last = EntryId { index: last, ..before.last };
            let after = Inspection { last, ..before.clone() };
            world.has_reason(at, (&before, &after), (Fault::LostTail, wound))
        };
        assert_eq!(judge(&world, last.prev(), &none), Ok(()), "nobody has named the last entry");
        assert_eq!(world.told_through(at), Index::ZERO);
        world.checker.named(id);
        assert_eq!(world.told_through(at), last);
        let broken = judge(&world, last.prev(), &none).expect_err("it was told");
        assert!(broken.predicted.contains("at rest"), "{}", broken.predicted);
        assert_eq!(broken.invariant, Invariant::Recovery);
        // The hard state vouches for it, whatever becomes of slots and payloads; of what is read without
        // the hard state, slots are a part.
        let disk = world.nodes[at].disk.clone();
        let files: BTreeSet<_> = disk.payload_sectors().into_iter().map(|(file, _)| file).collect();
        let sectors = files.into_iter().flat_map(|file| (16..48).map(move |at| (file, at)));
        let mut judged = [0; 2];
        for sector in sectors {
            let wound = disk.blank(sector);
            assert!(judge(&world, last.prev(), &wound).is_err(), "{sector:?}");
            let is_met = disk.has_met_slot(&[&wound], last.0);
            let named = if is_met { Index::ZERO } else { last };
            assert_eq!(world.named_through(at, &wound), named, "{sector:?}");
            judged[usize::from(is_met)] += 1;
            disk.mend(&wound);
        }
        assert!(judged[0] > 3, "{judged:?}");
        world.stop(at);
        assert_eq!(world.told_through(at), last, "no power cut takes it back");
        world.options.faults.insert(Fault::LyingSync);
        assert_eq!(world.told_through(at), Index::ZERO, "a sync may have lied");
    }

    #[test]
    fn what_a_lost_file_had_cut_off_comes_back_without_a_word() {
        let (mut world, at, mut before) = running();
        world.stop(at);
        let disk = &world.nodes[at].disk;
        // Its newest file was begun when a later term cut the log off before its last entry.
        before.segments.last_mut().expect("it has a log").first = before.last.index;
        let last = EntryId { index: before.last.index.next(), ..before.last };
        let after = Inspection { last, ..before.clone() };
        let mut stream = Stream::new(1, Purpose::Nemesis, 0);
        let mut seen = [false; 2];
        for _ in 0..64 {
            let wound = disk.hurt(Fault::LostTail, true, &mut stream.draw());
            let wound = wound.expect("there is an end");
            let judged = world.has_reason(at, (&before, &after), (Fault::LostTail, &wound));
            assert_eq!(judged.is_ok(), wound.is_removal(), "{judged:?}");
            seen[usize::from(wound.is_removal())] = true;
            disk.mend(&wound);
        }
        assert_eq!(seen, [true; 2]);
    }
}
