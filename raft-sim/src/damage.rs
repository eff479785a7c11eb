//! Damage at rest, as far as the group must bear it; the host's part in finding it is in `scrub`.
//!
//! Whether a wound may be is decided by what it makes of the disk: the directory is read as a start
//! would read it, before and after. The wound stays if no more than copies, slots or payloads are
//! lost by it, and if the group can heal of all that is lost on any disk by then: see `budget`. The end
//! of a log, or a snapshot, may be lost if a start would notice, and if the group can do without one vote
//! more. What a power cut could make of the wound counts as well. What follows from that is the oracle
//! of the last phase: everything heals.
//!
//! Other wounds are taken back, and counted. One that no storage may stumble over is never taken back
//! for what a start makes of it: a single sector leaves a copy of everything that was promised, and a
//! start that finds another promise, or none, has broken its own (see [`survives`]).
//!
//! Absent here: hard states both of whose copies are lost (see `exile`).

mod budget;
mod evidence;
mod unproven;
mod verdict;

use raft_core::{EntryId, Index, RecoveredState, Slot};
use raft_replica::storage::{Finding, Inspection, SegmentSummary, SnapshotSummary, What};

use crate::disk::SimDisk;
use crate::event::NodeAt;
use crate::failure::Failure;
use crate::fault::{Fault, Withdrawn};
use crate::look::Found;
use crate::nemesis::Strike;
use crate::rng::Ratio;
use crate::rot::Wound;
use crate::workload::Workload;
use crate::world::World;
use budget::Toll;
use verdict::{admits, is_missed, survives};

impl<W: Workload> World<W> {
    /// A node's disk loses something, if the group can bear that. Returns whether it has.
    ///
    /// # Errors
    /// One sector is lost, and with it what a second copy keeps.
    pub(crate) fn hurt(&mut self, mut at: NodeAt, mut strike: Strike) -> Result<bool, Failure> {
        if strike.fault == Fault::SnapshotRot {
            // The bytes of a snapshot rot while no process looks; it starts again soon.
            let nodes = self.nodes.len();
            let has_one = |at: &NodeAt| self.nodes[*at].disk.has_snapshot() && self.can_spare(*at);
            let Some(first) = (0..nodes).map(|next| (at + next) % nodes).find(has_one) else {
                return Ok(false);
            };
            if self.inspect(first).is_none_or(|found| is_hurt(&found)) {
                return Ok(false);
            }
            at = first;
            if self.stop(at) {
                self.restart_after(at, 1 + strike.lasts_us / 32);
            }
        }
        if strike.fault == Fault::ZeroedSector
            && strike.clients & 1 == 0
            && let Some(is_kept) = self.hurt_unproven(at, &strike)?
        {
            return Ok(is_kept);
        }
        if !self.nodes[at].disk.is_at_rest() {
            return Ok(false);
        }
        let Some(before) = self.inspect(at).filter(has_all_copies) else {
            return Ok(false);
        };
        let node = &self.nodes[at];
        let is_down = node.process.is_none();
        let draw = &mut strike.draw;
        let is_far = strike.fault == Fault::Misdirected && draw.chance(Ratio::new(1, 2));
        let wound = if is_far && self.nodes.len() > 1 {
            let other = (at + 1 + draw.position(self.nodes.len() - 1)) % self.nodes.len();
            node.disk.misplace(&self.nodes[other].disk, draw)
        } else {
            node.disk.hurt(strike.fault, is_down, draw)
        };
        wound.map_or(Ok(false), |wound| self.judge(at, strike.fault, &before, wound))
    }

    /// The power has failed: what syncs have lied about is gone as well, if the group can bear that.
    pub(crate) fn take_back_lies(&mut self, at: NodeAt) -> Result<(), Failure> {
        if !self.options.faults.contains(Fault::LyingSync) {
            return Ok(());
        }
        let before = self.inspect(at).filter(has_all_copies);
        let Some(wound) = self.nodes[at].disk.take_back() else { return Ok(()) };
        if let Some(before) = before {
            self.judge(at, Fault::LyingSync, &before, wound)?;
        } else {
            self.nodes[at].disk.mend(&wound);
            self.stats.tally.withdrawn(Fault::LyingSync, Withdrawn::Unborne);
        }
        Ok(())
    }

    /// Keeps a wound, or takes it back. Returns whether it is kept.
    fn judge(
        &mut self,
        at: NodeAt,
        fault: Fault,
        before: &Inspection,
        wound: Wound,
    ) -> Result<bool, Failure> {
        let node = &self.nodes[at];
        let after = self.inspect(at);
        if let Some(file) = node.disk.file_of(&wound) {
            survives(before, after.as_ref(), &file).map_err(|broken| broken.on(node.member.id))?;
            let told = self.told_through(at);
            let torn = self.inspect_torn(at);
            for after in [&after, &torn] {
                let is_missed = |after| is_missed(told, before, after);
                after.as_ref().map_or(Ok(()), is_missed).map_err(|it| it.on(node.member.id))?;
            }
        }
        if let Some(after) = &after {
            // A start that has not come to its end has copied the last batch, and not vouched for the copy.
            let is_begun = |newest: &SegmentSummary| before.log_through < newest.first;
            let is_copy = node.process.is_none() && before.segments.last().is_some_and(is_begun);
            let vouched = if wound.is_removal() && !is_copy {
                // What was acknowledged of a file was vouched for: that it is gone is always noticed.
                before.last.index.min(self.checker.durable_last(node.member.id))
            } else {
                // A lie may take back the hard state as well.
                before.log_through.min(after.log_through)
            };
            admits(vouched, before, after).map_err(|broken| broken.on(node.member.id))?;
            self.misses_payloads(at, (before, after), &wound)?;
        }
        let toll = match after.as_ref().zip(self.inspect_torn(at)) {
            Some((after, torn)) => self.toll(at, before, after, &torn),
            // It says so, and begins no more.
            None => Err(Withdrawn::Unborne),
        };
        let is_borne = |toll: &Toll| self.is_borne(at, toll);
        let toll = toll.and_then(|toll| is_borne(&toll).then_some(toll).ok_or(Withdrawn::Unborne));
        let after = match (after, toll) {
            (Some(after), Ok(_)) => after,
            (after, toll) => {
                let why = toll.err().unwrap_or(Withdrawn::Unborne);
                if let Some(after) = after.filter(|_| why == Withdrawn::Unnoticed) {
                    self.has_reason(at, (before, &after), (fault, &wound))?;
                }
                self.nodes[at].disk.mend(&wound);
                self.stats.tally.withdrawn(fault, why);
                return Ok(false);
            }
        };
        let part = node.disk.part_of(&wound);
        let told = self.told_through(at);
        let is_of_last = |id: &EntryId| before.last_batch <= id.index && id.index <= told;
        let is_new = |id: &EntryId| before.report.damaged().all(|known| known != *id);
        let is_found = after.report.damaged().any(|id| is_of_last(&id) && is_new(&id));
        self.stats.rests.found += u64::from(is_found);
        self.keep(at, wound);
        // A lie has been told long before it shows.
        if fault != Fault::LyingSync {
            self.stats.tally.injected(fault);
        }
        if after.report != before.report || after.is_tail_unknown {
            self.stats.tally.effective(fault);
            if let Some(part) = part {
                *self.stats.wounds.entry(part).or_default() += 1;
            }
        }
        Ok(true)
    }

    /// A disk has a wound from now on.
    pub(crate) fn keep(&mut self, at: NodeAt, wound: Wound) {
        let node = &mut self.nodes[at];
        node.was_hurt = true;
        node.is_whole = false;
        node.wounds.push(wound);
    }

    /// A disk of which nothing is lost any more, and on which no wound is left, is as good as one
    /// that was never hurt: from then on, who finds damage on it is wrong again.
    pub(crate) fn forget_wounds(&mut self, at: NodeAt) {
        let node = &mut self.nodes[at];
        node.wounds.retain(|wound| node.disk.is_open(wound));
        // A file that was removed may have had a wound, and come back.
        let may_return = node.disk.may_bring_back();
        let is_over = node.wounds.is_empty() && !node.seen.is_hurt && !may_return;
        // What a snapshot covers is of no use, and a start finds it all the same.
        let is_clean = |found: Option<Inspection>| {
            found.is_some_and(|found| !is_hurt(&found) && found.report.damaged().next().is_none())
        };
        if is_over && is_clean(self.inspect(at)) && !self.is_doubtful(at) {
            self.nodes[at].was_hurt = false;
        }
    }

    /// What a start would find, if it could start.
    pub(crate) fn inspect(&self, at: NodeAt) -> Option<Inspection> {
        self.start_of(at, SimDisk::found)
    }

    /// The same after a power cut in which all slots under way were torn.
    fn inspect_torn(&self, at: NodeAt) -> Option<Inspection> {
        self.start_of(at, SimDisk::found_torn)
    }

    /// A start knows who it is, and refuses the directory of anybody else.
    fn start_of(&self, at: NodeAt, look: impl Fn(&SimDisk) -> Found) -> Found {
        let node = &self.nodes[at];
        let is_its_own = |found: &Inspection| found.identity == node.identity();
        if node.disk.is_dead() { None } else { look(&node.disk).filter(is_its_own) }
    }

    /// Whether a node's disk has lost something that its process, or a start, must still heal.
    pub(crate) fn is_damaged(&self, at: NodeAt) -> bool {
        let is_lost = |found: Option<Inspection>| found.is_none_or(|found| is_hurt(&found));
        self.nodes[at].was_hurt && self.views(at).into_iter().any(is_lost)
    }

    /// What a start would find, and what it would find after a power cut: what is healed may be written, and
    /// not be durable yet.
    fn views(&self, at: NodeAt) -> [Option<Inspection>; 2] {
        [self.start_of(at, SimDisk::found), self.start_of(at, SimDisk::found_durable)]
    }

    /// Whether the end of a node's log is unknown, or would be after a power cut.
    fn is_doubtful(&self, at: NodeAt) -> bool {
        let is_unknown =
            |found: Option<Inspection>| found.is_none_or(|found| found.is_tail_unknown);
        self.nodes[at].was_hurt
            && (self.views(at).into_iter().any(is_unknown) || is_unknown(self.inspect_torn(at)))
    }

    /// Whether any log has an end that is unknown, or would be after a power cut: then the group has
    /// no voter to spare.
    pub(crate) fn is_any_doubtful(&self) -> bool {
        let is_member = |at: NodeAt| {
            let member = self.nodes[at].member;
            self.checker.memberships().any(|one| one.is_member(member))
        };
        (0..self.nodes.len()).any(|at| is_member(at) && self.is_doubtful(at))
    }

    /// What a report says about ends of logs that are unknown; nothing if none is.
    pub(crate) fn show_doubts(&self) -> String {
        let doubtful = (0..self.nodes.len()).filter(|&at| self.is_doubtful(at));
        let names: Vec<String> = doubtful.map(|at| self.nodes[at].member.id.to_string()).collect();
        if names.is_empty() {
            return String::new();
        }
        let committed = self.checker.committed_membership();
        format!(", {} cannot know where their logs ended, of {committed}", names.join(" "))
    }

    /// What a report says about a node's disk; nothing if it was never hurt.
    pub(crate) fn show_damage(&self, at: NodeAt) -> String {
        if !self.nodes[at].was_hurt {
            return String::new();
        }
        let Some(found) = self.inspect(at) else { return ", its disk cannot be read".to_owned() };
        let findings: Vec<String> = lost(&found).take(4).map(ToString::to_string).collect();
        let knows = if self.nodes[at].seen.is_hurt { ", and it knows" } else { "" };
        format!(", its log begins at {}, its disk: [{}]{knows}", found.before, findings.join("; "))
    }

    /// What a wound takes, unless it takes more than anybody could notice: a promise, or the end
    /// of the log without a trace.
    fn toll(
        &self,
        at: NodeAt,
        before: &Inspection,
        after: &Inspection,
        torn: &Inspection,
    ) -> Result<Toll, Withdrawn> {
        let id = self.nodes[at].member.id;
        let (had, left) = (before.last.index, after.last.index);
        // With its last file a log may lose that an end was replaced: the old one is there again, and a
        // node in doubt must not take it for committed.
        let is_old = |entry: EntryId| entry != after.last;
        let is_other = self.checker.durable_entry(id, left).is_some_and(is_old);
        let is_without_a_word = !after.is_tail_unknown && (is_other || left != had);
        if after.hard_state != before.hard_state || is_without_a_word {
            return Err(Withdrawn::Unnoticed);
        }
        if left > had {
            // In doubt, with an end that nobody else may have any more.
            return Err(Withdrawn::Unborne);
        }
        let end = after.last.index.min(torn.last.index);
        let entry = |index| self.checker.durable_entry(id, Index(index));
        Ok(Toll {
            damaged: after.report.damaged().collect(),
            tail: (end.0 + 1..=before.last.index.0).filter_map(entry).collect(),
            is_doubt: after.is_tail_unknown || torn.is_tail_unknown,
            snapshot: lost_snapshot(after),
        })
    }

    /// A start that finds damage on a disk that was never hurt has taken a crash for it.
    pub(crate) fn must_be_hurt(&self, at: NodeAt, found: &RecoveredState) -> Result<(), Failure> {
        let lost = found.slots.iter().find(|slot| matches!(slot, Slot::Damaged { .. }));
        let what = if let Some(slot) = lost {
            format!("misses the payload of {}", slot.id())
        } else if found.is_snapshot_damaged {
            format!("misses the bytes of {}", found.snapshot)
        } else if found.hard_state.is_tail_unknown {
            "does not know where its log ended".to_owned()
        } else {
            return Ok(());
        };
        let node = &self.nodes[at];
        if node.was_hurt || self.sabotage != crate::sabotage::Sabotage::None {
            return Ok(());
        }
        let what = format!("{what}, and its disk has lost nothing that was durable");
        Err(Failure::Reported { node: node.member.id, what })
    }
}

/// The newest snapshot, if its bytes are lost.
fn lost_snapshot(found: &Inspection) -> Option<EntryId> {
    found.report.findings.iter().find_map(|finding| {
        let What::SnapshotDamaged { snapshot, .. } = &finding.what else { return None };
        Some(*snapshot)
    })
}

/// Whether anything is lost that is there once more, here or elsewhere.
pub(crate) fn is_hurt(found: &Inspection) -> bool {
    found.is_tail_unknown || lost(found).next().is_some()
}

/// Whether nothing is lost but payloads: whatever is there twice is there twice.
fn has_all_copies(found: &Inspection) -> bool {
    let is_payload = |finding: &Finding| matches!(finding.what, What::Damaged { .. });
    !found.is_tail_unknown && lost(found).all(is_payload)
}

/// What is lost and is still of use: of what a snapshot covers nobody will ever ask.
pub(crate) fn lost(found: &Inspection) -> impl Iterator<Item = &Finding> {
    let covers = |snapshot: &&SnapshotSummary| !snapshot.is_damaged;
    let covered = found.snapshots.iter().rfind(covers).map_or(Index::ZERO, |one| one.last.index);
    found.report.findings.iter().filter(move |finding| match &finding.what {
        What::Torn { .. } | What::Healed { .. } => false,
        What::Damaged { entry } => entry.index > covered,
        What::BadCopy { .. }
        | What::BadSlot { .. }
        | What::BadHeader { .. }
        | What::TailUnknown { .. }
        | What::SnapshotDamaged { .. }
        | _ => true,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use raft_replica::disk::Disk;

    use super::*;
    use crate::fault::{DAMAGE, LOSSES, Tally};
    use crate::options::Options;
    use crate::run::{How, seed};

    #[test]
    fn disks_that_are_hurt_heal() {
        let mut tally = Tally::default();
        let losses = |seed: u64| {
            Options::draw(seed, 2_000).faults.iter().filter(|one| one.is_loss()).count()
        };
        for number in (0..200).filter(|&seed| losses(seed) > 3).take(16) {
            let report = seed(number, How::once(2_000));
            assert!(report.failure.is_none(), "{report}");
            tally.add(&report.stats.tally);
        }
        // In so short a run hardly anybody has a snapshot.
        let all = DAMAGE.into_iter().chain(LOSSES).filter(|fault| *fault != Fault::SnapshotRot);
        for fault in all {
            let (injected, effective) = tally.of(fault);
            assert!(0 < effective && effective <= injected, "{}", fault.name());
        }
    }

    #[test]
    fn a_crash_is_not_taken_for_damage() {
        let mut world = World::of_options(Options::draw(1, 100));
        let mut found = RecoveredState::genesis(world.founders.clone());
        assert_eq!(world.must_be_hurt(0, &found), Ok(()));
        let id = EntryId { index: Index(1), ..EntryId::default() };
        found.slots.push(Slot::Damaged { id, bytes: 1, is_membership: false });
        assert!(matches!(world.must_be_hurt(0, &found), Err(Failure::Reported { .. })));
        world.nodes[0].was_hurt = true;
        assert_eq!(world.must_be_hurt(0, &found), Ok(()));
    }

    /// A cluster that has run for a while, with every disk at rest.
    pub(crate) fn at_rest() -> World<crate::workload::KeyValue> {
        at_rest_with(Options { events: 1_000, ..Options::default() })
    }

    /// The same with other options.
    pub(crate) fn at_rest_with(options: Options) -> World<crate::workload::KeyValue> {
        let mut world = World::of_options(options);
        world.run().expect("a run without faults passes");
        // It ends with a start.
        (0..2_000).for_each(|_| world.next().expect("nothing strikes"));
        for (node, dir) in world.nodes.iter().flat_map(|node| ["", "wal"].map(|dir| (node, dir))) {
            node.disk.clone().sync_dir(dir).expect("nothing fails");
        }
        world
    }

    #[test]
    fn a_disk_that_has_healed_counts_as_one_that_was_never_hurt() {
        let mut world = at_rest();
        let mut stream = crate::rng::Stream::new(1, crate::rng::Purpose::Nemesis, 0);
        let wound = (0..512)
            .find_map(|_| {
                let disk = &world.nodes[0].disk;
                let wound = disk.hurt(Fault::BitRot, false, &mut stream.draw())?;
                let is_seen = world.inspect(0).is_some_and(|found| is_hurt(&found));
                if !is_seen || disk.file_of(&wound).is_none_or(|file| file != "IDENTITY") {
                    disk.mend(&wound);
                    return None;
                }
                Some(wound)
            })
            .expect("one of many draws hits that file");
        world.nodes[0].was_hurt = true;
        world.nodes[0].wounds.push(wound);
        world.forget_wounds(0);
        assert!(world.nodes[0].was_hurt, "nobody has looked yet");
        // Two rounds: one repairs, the next finds nothing.
        (0..2).for_each(|_| world.on_scrub(0).expect("a scrub finds what it repairs"));
        assert!(!world.nodes[0].was_hurt && world.nodes[0].wounds.is_empty());
    }
}
