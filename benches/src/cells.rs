//! The cells of the table: which workload, on which shape, counted in which unit.
//!
//! A cell is one process: what one workload leaves in the allocator slows the next down, up to
//! three times. Within it, the work is warmed up and then run several times, of which the best
//! counts: a noisy machine can only make a run slower. Time is that of the processor.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::contest::{COMPACT_EVERY, Compaction, Contestant, Cut, Link, Shape};
use crate::counting::{self, Memory};

/// What a group is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// W1: one proposal at a time; a round of messages for each.
    One,
    /// W2: 256 proposals on their way at any time.
    Outstanding,
    /// W3: batches of 64, one after the other.
    Batches,
    /// W4: a follower 100,000 entries behind.
    Lagging,
    /// W5: many groups that have nothing to do, for one heartbeat interval.
    Idle,
    /// W6: what an idle group keeps in memory, all of its replicas together.
    GroupBytes,
    /// W6: what a leader keeps for an entry that cannot commit, appended in batches of 64.
    EntryBytes64,
    /// W6: the same, appended one by one.
    EntryBytes1,
    /// W7: from servers that have just started to a leader whose first entry is applied.
    Election,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What is done.
    pub workload: Workload,
    /// By whom.
    pub shape: Shape,
}

/// How thoroughly a cell is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// For the clock: several runs, the best counts.
    Time,
    /// For an instruction counter: one run, of little work, for it is slowed down fifty times.
    Count,
}

/// What a cell has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// In what the work is counted: commits, entries, groups, elections.
    pub units: u64,
    /// The processor time of the best run, in nanoseconds; its instructions, once they were counted.
    pub work: u64,
    /// What the last run did to memory.
    pub memory: Memory,
}

/// The function in which an instruction counter counts, as `--toggle-collect` takes it.
pub const SECTION: &str = "*measured_section*";

const LAG: u64 = 100_000;

impl Workload {
    /// The beginning of its cells' names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "w1-one",
            Self::Outstanding => "w2-outstanding256",
            Self::Batches => "w3-batches64",
            Self::Lagging => "w4-lagging",
            Self::Idle => "w5-idle",
            Self::GroupBytes => "w6-group-bytes",
            Self::EntryBytes64 => "w6-entry-bytes64",
            Self::EntryBytes1 => "w6-entry-bytes1",
            Self::Election => "w7-election",
        }
    }
}

impl Cell {
    /// All cells, in the order of the table.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let cell = |workload, servers, command_bytes, link| {
            // Nothing may be dropped that a lagging follower needs.
            let compaction = match workload {
                Workload::Lagging => Compaction::Off,
                Workload::One
                | Workload::Outstanding
                | Workload::Batches
                | Workload::Idle
                | Workload::GroupBytes
                | Workload::EntryBytes64
                | Workload::EntryBytes1
                | Workload::Election => Compaction::Regular,
            };
            Self { workload, shape: Shape { servers, command_bytes, link, compaction } }
        };
        let mut cells = Vec::new();
        for workload in [Workload::One, Workload::Outstanding, Workload::Batches] {
            for link in [Link::Direct, Link::Wire] {
                cells.extend([16, 256, 4096].map(|bytes| cell(workload, 3, bytes, link)));
            }
        }
        // Not with 4 KiB: 100,000 of these take 400 MB, and who copies them for each server or message
        // would be measured by how fast memory is given out.
        for link in [Link::Direct, Link::Wire] {
            cells.extend([16, 256].map(|bytes| cell(Workload::Lagging, 3, bytes, link)));
        }
        for link in [Link::Direct, Link::Wire] {
            cells.push(cell(Workload::Idle, 3, 256, link));
        }
        for workload in [Workload::GroupBytes, Workload::EntryBytes64, Workload::EntryBytes1] {
            cells.push(cell(workload, 3, 256, Link::Direct));
        }
        for link in [Link::Direct, Link::Wire] {
            cells.extend([3, 5, 7].map(|servers| cell(Workload::Election, servers, 256, link)));
        }
        cells
    }

    /// The name that the command line knows it by.
    #[must_use]
    pub fn name(&self) -> String {
        let Shape { servers, command_bytes, link, .. } = self.shape;
        let link = match link {
            Link::Direct => "direct",
            Link::Wire => "wire",
        };
        format!("{}/{servers}x{command_bytes}/{link}", self.workload.name())
    }

    /// Measures it here and now.
    #[must_use]
    pub fn run<C: Contestant>(&self, effort: Effort) -> Reading {
        let is_counted = effort == Effort::Count;
        let runs = if is_counted { 1 } else { 7 };
        let (often, once) = ((effort, runs), (effort, 1));
        let shape = self.shape;
        match self.workload {
            Workload::One => {
                // As many as from one compaction to the next, or one more or less would count.
                let commands = if is_counted { COMPACT_EVERY } else { 1 << 13 };
                let mut group = elected::<C>(shape, 1 << 13, 1);
                measure(commands, often, || group.commit(commands, 1))
            }
            Workload::Outstanding => {
                let commands = if is_counted { 1 << 13 } else { 1 << 14 };
                let mut group = elected::<C>(shape, 1 << 14, 64);
                measure(commands, often, || group.commit(commands, 256))
            }
            Workload::Batches => {
                let batches = if is_counted { 1 << 7 } else { 1 << 8 };
                let mut group = elected::<C>(shape, 1 << 14, 64);
                measure(batches * 64, often, || group.commit_batches(batches, 64))
            }
            Workload::Lagging => {
                let lag = if is_counted { LAG / 10 } else { LAG };
                let mut group = elected::<C>(shape, 0, 1);
                group.cut(Cut::Last);
                group.commit_batches(lag / 64, 64);
                measure(lag / 64 * 64, once, || group.catch_up())
            }
            Workload::Idle => {
                let count: u64 = if is_counted { 100 } else { C::IDLE_GROUPS };
                let mut groups: Vec<C> = (0..count).map(|_| elected(shape, 0, 1)).collect();
                groups.iter_mut().for_each(C::shed);
                let mut buffers = C::Buffers::default();
                C::idle_all(&mut groups, &mut buffers);
                measure(count, often, || C::idle_all(&mut groups, &mut buffers))
            }
            Workload::GroupBytes => {
                let count: usize = 100;
                let mut groups: Vec<C> = Vec::with_capacity(count);
                let mut build = || {
                    let mut group = elected::<C>(shape, 0, 1);
                    group.idle();
                    group.shed();
                    groups.push(group);
                };
                measure(count as u64, once, || (0..count).for_each(|_| build()))
            }
            Workload::EntryBytes64 => uncommitted::<C>(shape, 64, once),
            Workload::EntryBytes1 => uncommitted::<C>(shape, 1, once),
            Workload::Election => {
                let count: u64 = if is_counted { 20 } else { 200 };
                elected::<C>(shape, 0, 1);
                let mut groups: Vec<C> = (0..count * runs).map(|_| C::cold(shape)).collect();
                let mut left = groups.iter_mut();
                let elect = |group: &mut C| group.elect();
                let count_here = usize::try_from(count).expect("a small constant");
                measure(count, often, || left.by_ref().take(count_here).for_each(elect))
            }
        }
    }
}

/// A group at rest that has committed so much before, much as it will be asked to.
fn elected<C: Contestant>(shape: Shape, warm_up: u64, outstanding: u64) -> C {
    let mut group = C::cold(shape);
    group.elect();
    group.commit(warm_up, outstanding);
    group
}

/// What the leader keeps for each of 4096 entries that cannot commit.
fn uncommitted<C: Contestant>(shape: Shape, size: u64, once: (Effort, u64)) -> Reading {
    let mut group = elected::<C>(shape, 0, 1);
    group.cut(Cut::Followers);
    group.shed();
    measure(4096, once, || {
        group.pile_up(4096 / size, size);
        group.shed();
    })
}

/// Runs `work` as often as its effort says; each run does so many units.
fn measure(units: u64, (effort, runs): (Effort, u64), mut work: impl FnMut()) -> Reading {
    let mut reading = Reading { units, work: u64::MAX, memory: Memory::default() };
    for _ in 0..runs {
        // An instruction counter's machine is not one whose clock tells anything.
        let clock = || if effort == Effort::Time { busy() } else { Duration::ZERO };
        let start = clock();
        reading.memory = counting::memory(|| measured_section(&mut work));
        let nanos = clock().saturating_sub(start).as_nanos();
        reading.work = reading.work.min(u64::try_from(nanos).expect("centuries"));
    }
    reading
}

/// The processor time of this thread. Nothing here waits, so it is the time that passes on a quiet
/// machine; on a busy one, what others take is not counted.
fn busy() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).expect("it starts at zero");
    Duration::from_secs(seconds)
        + Duration::from_nanos(u64::try_from(now.tv_nsec).expect("part of a second"))
}

/// What callgrind is told to count, by its name ([`SECTION`]): it must remain a function.
#[inline(never)]
fn measured_section(work: &mut dyn FnMut()) {
    black_box(work)();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Peer;

    /// A bench that nobody runs must not rot; what goes wrong in one is asserted by its host.
    #[test]
    fn everybody_can_do_every_cell() {
        for cell in Cell::all() {
            for peer in Peer::all() {
                let reading = (peer.run)(&cell, Effort::Count);
                assert!(reading.units > 0, "{} in {}", peer.name, cell.name());
            }
        }
    }
}
