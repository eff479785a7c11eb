//! Beyond the budget: disks lose more than any group can bear, and what becomes of it is foretold.
//!
//! It begins where a run ends otherwise, with a cluster that has healed. All processes stop. Then
//! either all copies of one committed entry rot, or so many voters lose the ends of their logs that
//! the others are no majority. What must follow is read from the disks and from what the ghost knows
//! to be committed, before anybody starts again:
//!
//! | lost | foretold |
//! |---|---|
//! | every copy of a committed entry that no snapshot covers | nobody applies it, nothing more is committed, and all who had it name its index |
//! | the ends of so many logs that no majority is certain of its own | nobody leads, and they say why |
//! | less than that, in the end | everything heals |
//!
//! Safety is checked as ever. What the nodes report in the end must be what was foretold.
//!
//! One client goes on asking. Nobody owes it an answer, but whatever it is told must be right.

use std::fmt;

use raft_core::{EntryId, Index, Member, NodeId};
use raft_replica::storage::Inspection;

use crate::check::{Invariant, Violation};
use crate::event::NodeAt;
use crate::failure::Failure;
use crate::fault::Fault;
use crate::rng::{Purpose, Ratio, Stream};
use crate::rot::Wound;
use crate::workload::Workload;
use crate::world::World;

/// How long the nodes have to come to their verdict, in election timeouts.
const TIMEOUTS: u64 = 60;

/// And how many events.
const EVENTS_MAX: u64 = 60_000;

/// How often it is tried to lose what nobody else has, and so that a start would notice.
const TRIES: u32 = 16;

/// What becomes of a cluster whose disks have lost something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Everything heals.
    Lives,
    /// No copy is left of a committed entry.
    Stalls {
        /// Its index.
        index: Index,
        /// Who had it, and names it.
        nodes: Vec<NodeId>,
    },
    /// No majority is certain of what it has acknowledged.
    Waits {
        /// Who is not, and says so.
        nodes: Vec<NodeId>,
    },
    /// Something is missing, or nobody leads, and nobody says why: never foretold.
    Stuck,
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, nodes) = match self {
            Self::Lives => return f.write_str("everything heals"),
            Self::Stuck => return f.write_str("does not heal, and nobody says why"),
            Self::Stalls { index, nodes } => (format!("stalls at {index}, named by"), nodes),
            Self::Waits { nodes } => ("waits, for lost ends of logs on".to_owned(), nodes),
        };
        f.write_str(&what)?;
        nodes.iter().try_for_each(|node| write!(f, " {node}"))
    }
}

/// What was foretold, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// What had to become of the cluster.
    pub predicted: Outlook,
    /// What the nodes report.
    pub actual: Outlook,
}

impl<W: Workload> World<W> {
    /// Takes more than the group can bear, foretells what must come of it, and compares.
    ///
    /// # Errors
    /// Safety, as ever; or the nodes report something else.
    pub(crate) fn go_beyond(&mut self) -> Result<(), Failure> {
        for at in 0..self.nodes.len() {
            self.stop(at);
            self.stats.tally.injected(Fault::Blackout);
            self.lose_power(at, Fault::Blackout)?;
        }
        let mut stream = self.choices.stream(Purpose::Nemesis, 1 << 41);
        if stream.draw().chance(Ratio::new(1, 3)) || !self.rot_everywhere(&mut stream)? {
            self.lose_ends(&mut stream)?;
        }
        self.await_outlook()
    }

    /// Foretells what must come of the disks as they are, starts everybody, and compares.
    ///
    /// # Errors
    /// As [`Self::go_beyond`].
    pub(crate) fn await_outlook(&mut self) -> Result<(), Failure> {
        let predicted = self.foretell();
        let (committed, elections) = (self.checker.committed(), self.stats.elections);
        for at in 0..self.nodes.len() {
            self.start(at)?;
        }
        self.ask_beyond();
        let until = self.queue.now() + TIMEOUTS * self.options.election_timeout_us;
        let last_event = self.stats.events + EVENTS_MAX;
        let is_healing = predicted == Outlook::Lives;
        while self.queue.now() < until && self.stats.events < last_event {
            if is_healing && self.is_whole() {
                break;
            }
            self.next()?;
        }
        let actual = self.behold(elections);
        self.stats.beyond = Some(Beyond { predicted: predicted.clone(), actual: actual.clone() });
        let grown = self.checker.committed() > committed && !is_healing;
        if actual == predicted && !grown {
            return Ok(());
        }
        let grown = if grown { ", and more is committed" } else { "" };
        let (predicted, actual) = (predicted.to_string(), format!("{actual}{grown}"));
        Err(Violation::new(Invariant::Recovery, predicted, actual).into())
    }

    /// From now on one client asks again. Nobody owes it an answer, but each that it gets is judged.
    fn ask_beyond(&mut self) {
        self.is_beyond = true;
        let delay_us = self.clients[0].think_us();
        self.set_client_timer(0, delay_us);
    }

    /// The members of the newest committed membership.
    pub(crate) fn members_at(&self) -> Vec<NodeAt> {
        let membership = self.checker.committed_membership();
        let is_member = |at: &NodeAt| membership.is_member(self.nodes[*at].member);
        (0..self.nodes.len()).filter(is_member).collect()
    }

    /// One committed entry rots on the disks of all members. Returns whether there is one that can.
    fn rot_everywhere(&mut self, stream: &mut Stream) -> Result<bool, Failure> {
        let members = self.members_at();
        let covered = members.iter().map(|&at| covered(self.inspect(at).as_ref())).max();
        let first = covered.unwrap_or_default().next();
        let committed = self.checker.committed();
        let Some(span) = (committed.0 + 1).checked_sub(first.0).filter(|&span| span > 0) else {
            return Ok(false);
        };
        for _ in 0..TRIES {
            let index = Index(first.0 + stream.draw().below(span));
            if self.rot_copies(&members, index)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An entry rots wherever it is, or nowhere. Returns whether it has.
    fn rot_copies(&mut self, members: &[NodeAt], index: Index) -> Result<bool, Failure> {
        let mut wounds: Vec<(NodeAt, Wound)> = Vec::new();
        for &at in members {
            let Some(id) = self.checker.durable_entry(self.nodes[at].member.id, index) else {
                continue;
            };
            if let Some(wound) = self.rot_entry(at, id)? {
                wounds.push((at, wound));
            } else {
                wounds.iter().for_each(|(at, wound)| self.nodes[*at].disk.mend(wound));
                return Ok(false);
            }
        }
        wounds.into_iter().for_each(|(at, wound)| self.keep(at, wound));
        Ok(true)
    }

    /// Looks for the sector whose loss costs this payload and nothing that is worse. None that is tried may
    /// cost a payload without a word.
    fn rot_entry(&self, at: NodeAt, id: EntryId) -> Result<Option<Wound>, Failure> {
        let Some(before) = self.inspect(at) else { return Ok(None) };
        let disk = &self.nodes[at].disk;
        for sector in disk.payload_sectors() {
            let wound = disk.blank(sector);
            let found = self.inspect(at);
            if let Some(after) = &found {
                self.misses_payloads(at, (&before, after), &wound)?;
            }
            let is_lost = found.is_some_and(|found| {
                let is_same = found.hard_state == before.hard_state && found.last == before.last;
                is_same && !found.is_tail_unknown && found.report.damaged().any(|one| one == id)
            });
            if is_lost {
                return Ok(Some(wound));
            }
            disk.mend(&wound);
        }
        Ok(None)
    }

    /// So many voters lose the ends of their logs that the others are no majority, if they can.
    fn lose_ends(&mut self, stream: &mut Stream) -> Result<(), Failure> {
        let mut voters = self.members_at();
        voters.retain(|&at| self.checker.committed_membership().is_voter(self.nodes[at].member));
        let mut left = voters.len().div_ceil(2);
        let first = stream.draw().position(voters.len());
        voters.rotate_left(first);
        for at in voters {
            let wound = if left > 0 { self.lose_end(at, stream)? } else { None };
            if let Some(wound) = wound {
                self.keep(at, wound);
                left -= 1;
            }
        }
        Ok(())
    }

    /// A log loses its end so that a start would notice. One that does not notice must have a reason.
    fn lose_end(&self, at: NodeAt, stream: &mut Stream) -> Result<Option<Wound>, Failure> {
        let Some(before) = self.inspect(at) else { return Ok(None) };
        let disk = &self.nodes[at].disk;
        for _ in 0..TRIES {
            let Some(wound) = disk.hurt(Fault::LostTail, true, &mut stream.draw()) else {
                return Ok(None);
            };
            let found = self.inspect(at);
            let is_unknown = found.as_ref().is_some_and(|found| found.is_tail_unknown);
            if let Some(after) = found.as_ref().filter(|_| !is_unknown) {
                self.has_reason(at, (&before, after), (Fault::LostTail, &wound))?;
            }
            if found.is_some_and(|found| is_unknown && found.hard_state == before.hard_state) {
                return Ok(Some(wound));
            }
            disk.mend(&wound);
        }
        Ok(None)
    }

    /// What must become of the cluster with these disks.
    fn foretell(&self) -> Outlook {
        let membership = self.checker.committed_membership();
        let found: Vec<(Member, Option<Inspection>)> = self
            .members_at()
            .into_iter()
            .map(|at| (self.nodes[at].member, self.inspect(at)))
            .collect();
        let is_certain = |member: &Member| {
            let of = found.iter().find(|(one, _)| one == member);
            of.is_some_and(|(_, found)| found.as_ref().is_some_and(|one| !one.is_tail_unknown))
        };
        let has_majority = |half: &[Member]| {
            let certain = half.iter().filter(|voter| is_certain(voter)).count();
            half.is_empty() || certain > half.len() / 2
        };
        if !has_majority(membership.incoming()) || !has_majority(membership.outgoing()) {
            // A learner says so as well.
            let members = found.iter().map(|(member, _)| member);
            let unknown = members.filter(|member| !is_certain(member));
            return Outlook::Waits { nodes: names(unknown.map(|member| member.id)) };
        }
        let is_intact = |(member, found): &(Member, Option<Inspection>), index: Index| {
            found.as_ref().is_some_and(|found| {
                let is_lost = found.report.damaged().any(|id| id.index == index);
                let id = self.checker.durable_entry(member.id, index);
                let is_there = id.is_some() && index <= found.last.index && !is_lost;
                covered(Some(found)) >= index || is_there
            })
        };
        let first = found.iter().map(|(_, found)| covered(found.as_ref())).max();
        let mut indices = first.unwrap_or_default().0 + 1..=self.checker.committed().0;
        let blocked = indices.find(|&index| !found.iter().any(|one| is_intact(one, Index(index))));
        let Some(index) = blocked.map(Index) else { return Outlook::Lives };
        let had = found.iter().filter(|(_, found)| {
            found.as_ref().is_some_and(|one| one.report.damaged().any(|id| id.index == index))
        });
        Outlook::Stalls { index, nodes: names(had.map(|(member, _)| member.id)) }
    }

    /// What the nodes report, after so many elections before.
    fn behold(&self, elections: u64) -> Outlook {
        let statuses: Vec<_> = self
            .members_at()
            .into_iter()
            .filter_map(|at| self.nodes[at].process.as_ref())
            .map(|process| process.replica.status())
            .collect();
        let unknown = statuses.iter().filter(|status| status.is_tail_unknown);
        let unknown = names(unknown.map(|status| status.member.id));
        if self.stats.elections == elections && !unknown.is_empty() {
            return Outlook::Waits { nodes: unknown };
        }
        let Some(index) = statuses.iter().filter_map(|status| status.first_damaged).min() else {
            return if self.is_whole() { Outlook::Lives } else { Outlook::Stuck };
        };
        let named = statuses
            .iter()
            .filter(|status| status.first_damaged == Some(index) && status.applied < index);
        Outlook::Stalls { index, nodes: names(named.map(|status| status.member.id)) }
    }

    /// Whether nothing is missing anywhere among the members.
    fn is_whole(&self) -> bool {
        self.leader().is_some() && self.stuck().is_none()
    }
}

/// Through where the newest snapshot of a disk covers the log, if its bytes are whole.
fn covered(found: Option<&Inspection>) -> Index {
    let whole = found.and_then(|found| found.snapshots.iter().rfind(|one| !one.is_damaged));
    whole.map_or(Index::ZERO, |one| one.last.index)
}

fn names(nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = nodes.collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Options, Profile};
    use crate::run::{How, options};

    #[test]
    fn what_no_group_can_bear_becomes_what_was_foretold() {
        let (mut stalls, mut waits, mut asked) = (0, 0, 0);
        for seed in 0..16 {
            let run = Options::draw_as(seed, 1_000, Profile::Beyond);
            let report = options(&run, How::once(run.events));
            assert!(report.failure.is_none(), "{report}");
            let beyond = report.stats.beyond.clone().expect("every run gets there");
            assert_eq!(beyond.predicted, beyond.actual);
            asked += report.stats.asked_beyond;
            stalls += u32::from(matches!(beyond.actual, Outlook::Stalls { .. }));
            waits += u32::from(matches!(beyond.actual, Outlook::Waits { .. }));
            assert!(report.to_string().contains("\nbeyond     foretold: "), "{report}");
        }
        assert!(stalls > 1 && waits > 1 && asked > 64, "{stalls} {waits} {asked}");
    }
}
