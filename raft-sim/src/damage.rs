//! Damage at rest, as far as the group must bear it, and the host's part in finding it.
//!
//! Whether a wound may be is decided by what it makes of the disk: the directory is read as a start
//! would read it, before and after. The wound stays if no more than copies, slots or payloads are
//! lost by it, and if of each payload another member has an intact copy that no wound will ever
//! meet: an entry is lost by one disk in a run at most. What follows from that is the oracle of the
//! last phase: everything heals.
//!
//! Absent: logs whose end is lost, hard states both of whose copies are, snapshots.

use raft_core::{EntryId, Index, RecoveredState, Slot};
use raft_replica::request::Input;
use raft_replica::storage::work::Done;
use raft_replica::storage::{Finding, Inspection, SnapshotSummary, What, inspect};

use crate::event::{Event, NodeAt};
use crate::failure::Failure;
use crate::nemesis::Strike;
use crate::world::World;

/// How much of a disk is looked at in one go, in bytes.
const SCRUB_BYTES: u64 = 16 << 10;

impl World {
    /// A sector of a node's disk loses what it held, if the group can bear that.
    pub(crate) fn hurt(&mut self, at: NodeAt, mut strike: Strike) {
        let Some(before) = self.inspect(at).filter(|found| !is_hurt(found)) else { return };
        let Some(wound) = self.nodes[at].disk.hurt(strike.fault, &mut strike.draw) else { return };
        let after = self.inspect(at);
        let Some(after) = after.filter(|after| self.is_borne(at, &before, after)) else {
            self.nodes[at].disk.mend(&wound);
            return;
        };
        self.stats.tally.injected(strike.fault);
        self.nodes[at].was_hurt = true;
        self.lost.extend(after.report.damaged());
        if after.report != before.report {
            self.stats.tally.effective(strike.fault);
        }
    }

    /// What a start would find, if it could start.
    fn inspect(&self, at: NodeAt) -> Option<Inspection> {
        let mut disk = self.nodes[at].disk.clone();
        if disk.is_dead() {
            return None;
        }
        inspect(&mut disk).ok()
    }

    /// Whether a node's disk has lost something that its process, or a start, must still heal.
    pub(crate) fn is_damaged(&self, at: NodeAt) -> bool {
        self.nodes[at].was_hurt && self.inspect(at).is_none_or(|found| is_hurt(&found))
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

    fn is_borne(&self, at: NodeAt, before: &Inspection, after: &Inspection) -> bool {
        let is_same = after.last == before.last
            && after.before == before.before
            && after.is_tail_unknown == before.is_tail_unknown
            && after.hard_state == before.hard_state;
        let is_there = |id| !self.lost.contains(&id) && self.has_copy(at, id);
        is_same && after.report.damaged().all(is_there)
    }

    /// Whether another node, which every membership that may come into force names, has an entry.
    fn has_copy(&self, at: NodeAt, id: EntryId) -> bool {
        let is_member = |member| self.checker.memberships().all(|one| one.is_member(member));
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != at);
        others
            .map(|(_, node)| node.member)
            .any(|other| is_member(other) && self.checker.is_durable(other.id, id))
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

    /// Looks through the disk again after a while.
    pub(crate) fn scrub_later(&mut self, at: NodeAt) {
        if self.options.faults.has_damage() {
            let rest_us =
                1 + self.schedule.draw().exponential(2 * self.options.election_timeout_us);
            let life = self.nodes[at].life;
            self.queue.after(rest_us, Event::Scrub { node: at, life });
        }
    }

    /// A process looks through a part of its disk; once the faults have ended, through all of it.
    pub(crate) fn on_scrub(&mut self, at: NodeAt) -> Result<(), Failure> {
        self.scrub_later(at);
        let is_last = self.healed.is_some();
        let node = &mut self.nodes[at];
        if node.paused || self.queue.now() < node.stalled_until {
            return Ok(());
        }
        let process = node.process.as_mut().expect("a life has a process while it lasts");
        // The log of the core may begin later than the segments do.
        let base = process.replica.status().base.index;
        let mut entries = Vec::new();
        // The round that is under way, and one more.
        for is_whole_round in if is_last { [false, true].iter() } else { [false].iter() } {
            let mut step = match process.scrub(if is_last { u64::MAX } else { SCRUB_BYTES }) {
                Ok(Some(step)) => step,
                Ok(None) => return Ok(()),
                Err(error) => return self.on_storage_error(at, error),
            };
            step.damaged.retain(|id| id.index > base);
            if *is_whole_round {
                node.is_whole =
                    step.damaged.is_empty() && step.snapshots.is_empty() && step.repaired == 0;
            }
            entries.extend(step.damaged);
        }
        self.digest.word(entries.len() as u64);
        if entries.is_empty() {
            return Ok(());
        }
        self.deliver(at, Input::Done(Done::Damaged { entries }))
    }
}

/// Whether anything is lost that is there once more, here or elsewhere.
fn is_hurt(found: &Inspection) -> bool {
    found.is_tail_unknown || lost(found).next().is_some()
}

/// What is lost and is still of use: of what a snapshot covers nobody will ever ask.
fn lost(found: &Inspection) -> impl Iterator<Item = &Finding> {
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
mod tests {
    use super::*;
    use crate::fault::{DAMAGE, Tally};
    use crate::options::Options;
    use crate::run::{How, seed};
    use crate::sabotage::Sabotage;
    use crate::trace::Trace;

    #[test]
    fn disks_that_are_hurt_heal() {
        let mut tally = Tally::default();
        let has_damage = |&seed: &u64| Options::draw(seed, 2_000).faults.has_damage();
        for number in (0..100).filter(has_damage).take(8) {
            let report = seed(number, How::once(2_000));
            assert!(report.failure.is_none(), "{report}");
            tally.add(&report.stats.tally);
        }
        for fault in DAMAGE {
            let (injected, effective) = tally.of(fault);
            assert!(0 < effective && effective <= injected, "{}", fault.name());
        }
    }

    #[test]
    fn a_crash_is_not_taken_for_damage() {
        let mut world = World::new(Options::draw(1, 100), Sabotage::None, Trace::off());
        let mut found = RecoveredState::genesis(world.founders.clone());
        assert_eq!(world.must_be_hurt(0, &found), Ok(()));
        let id = EntryId { index: Index(1), ..EntryId::default() };
        found.slots.push(Slot::Damaged { id, bytes: 1, is_membership: false });
        assert!(matches!(world.must_be_hurt(0, &found), Err(Failure::Reported { .. })));
        world.nodes[0].was_hurt = true;
        assert_eq!(world.must_be_hurt(0, &found), Ok(()));
    }
}
