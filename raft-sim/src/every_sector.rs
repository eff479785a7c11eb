//! One loss on one disk of a group at rest, each in turn; and each entry on all disks at once.
//!
//! Seeds draw wounds while much else happens. Here nothing else does: one group has written a log of
//! several segments, taken snapshots, changed its members, and come to rest. Its disks are copied, one
//! sector of one of them is hurt, and all servers start. Whatever was hurt, and however, the group must
//! lead, and every disk must be whole again: each copy, each slot, each payload. Of an entry that all have
//! lost the group must say so, and wait.

use raft_core::{Index, NodeId};

use crate::beyond::{Beyond, Outlook};
use crate::damage::tests::at_rest_with;
use crate::disk::SimDisk;
use crate::event::NodeAt;
use crate::failure::Failure;
use crate::fault::{Fault, FaultSet};
use crate::options::{ClientOptions, Options};
use crate::rot::Wound;
use crate::sabotage::Sabotage;
use crate::trace::Trace;
use crate::workload::KeyValue;
use crate::world::World;

/// What becomes of a sector.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Zeroed,
    Flipped,
    /// As before it was last written.
    Past,
    /// As a sector of another file of its kind, on the same disk.
    Beside,
    /// As the same sector of the file of this name on another disk.
    Foreign,
    Unreadable,
}

const HARMS: [Harm; 6] =
    [Harm::Zeroed, Harm::Flipped, Harm::Past, Harm::Beside, Harm::Foreign, Harm::Unreadable];

/// How many entries are committed, and how many of them no snapshot covers, at least.
const COMMITTED_MIN: u64 = 60;
const UNCOVERED_MIN: u64 = 16;

/// A group that has lived long enough and rests; all its processes have been stopped.
fn rested() -> World {
    let mut worlds = (0..16).map(|more| rested_after(1_000 + 300 * more));
    let is_fit = |world: &World| {
        let found = world.inspect(0).expect("it is whole");
        let all = (0..world.nodes.len()).filter_map(|at| world.inspect(at));
        let covered = all.flat_map(|found| found.snapshots).map(|one| one.last.index).max();
        let covered = covered.unwrap_or_default();
        let committed = world.checker.committed().0;
        let is_changed = *world.checker.committed_membership() != world.founders;
        let is_long = committed >= COMMITTED_MIN && committed >= covered.0 + UNCOVERED_MIN;
        is_long && covered > Index::ZERO && found.segments.len() > 1 && is_changed
    };
    worlds.find(is_fit).expect("the log grows between snapshots")
}

fn rested_after(events: u64) -> World {
    let mut faults = FaultSet::default();
    // Nothing strikes: the classes are there for what they make the world remember, and do in the end.
    [Fault::LostWrite, Fault::Membership].into_iter().for_each(|fault| faults.insert(fault));
    let mut world = at_rest_with(Options {
        events,
        spares: 1,
        faults,
        strike_events: 1 << 40,
        segment_slots: 16,
        snapshot_after_entries: 32,
        kept_behind_snapshot: 16,
        rest_after_us: 20_000,
        client: ClientOptions {
            padding: 300,
            reads: crate::rng::Ratio::new(1, 4),
            ..ClientOptions::default()
        },
        ..Options::default()
    });
    assert!(world.nodes.iter().all(|node| node.outside.is_none()), "all take part");
    for at in 0..world.nodes.len() {
        let id = world.nodes[at].member.id;
        assert_eq!(world.checker.told_through(id), world.checker.durable_last(id), "it rests");
        world.stop(at);
    }
    world
}

impl World {
    /// The same group on copies of its disks, with nothing running.
    fn fork(&self) -> Self {
        let (options, choices) = (self.options.clone(), self.choices.clone());
        let workload = KeyValue::new(options.client);
        let mut copy = Self::new(workload, options, choices, Sabotage::None, Trace::off());
        copy.queue.advance(self.queue.now());
        copy.checker = self.checker.clone();
        copy.payloads = self.payloads.clone();
        copy.healed = self.healed.clone();
        for (copy, node) in copy.nodes.iter_mut().zip(&self.nodes) {
            copy.disk = node.disk.fork();
            (copy.clock, copy.seen, copy.incarnation) = (node.clock, node.seen, node.incarnation);
            (copy.life, copy.crashes) = (node.life, node.crashes);
        }
        copy.wait_anew();
        copy
    }

    fn start_all(&mut self) -> Result<(), Failure> {
        (0..self.nodes.len()).try_for_each(|at| self.start(at))
    }

    /// Runs until the group leads and nothing is missing anywhere, and looks at every disk.
    fn heals_all(&mut self) -> Result<(), Failure> {
        self.start_all()?;
        while self.leader().is_none() || self.stuck().is_some() {
            self.next()?;
            self.check_bounds()?;
        }
        self.compare_states()?;
        for at in 0..self.nodes.len() {
            self.stop(at);
            self.is_as_new(at)?;
        }
        Ok(())
    }
}

/// Where a file that is of the same kind as this one has something written in this sector, or anywhere.
fn beside(disk: &SimDisk, path: &str, sector: usize) -> Option<Vec<u8>> {
    let kind =
        |path: &str| -> String { path.chars().filter(|one| !one.is_ascii_digit()).collect() };
    let is_kin = |other: &str| {
        let is_copy = path.starts_with("hs.") && other.starts_with("hs.");
        other != path
            && (is_copy || kind(other).trim_end_matches('-') == kind(path).trim_end_matches('-'))
    };
    let all = disk.sectors();
    let kin = || all.iter().filter(|(other, _)| is_kin(other));
    let same =
        kin().find(|(_, sectors)| sectors.contains(&sector)).map(|(other, _)| (other, sector));
    let any = || kin().find_map(|(other, sectors)| Some((other, *sectors.first()?)));
    let (other, sector) = same.or_else(any)?;
    disk.sector(other, sector)
}

/// Hurts a sector of a disk; nothing if there is nothing to hurt it with.
fn hurt(world: &World, at: NodeAt, (path, sector): (&str, usize), harm: Harm) -> Option<Wound> {
    let disk = &world.nodes[at].disk;
    let there = disk.sector(path, sector)?;
    let bytes = match harm {
        Harm::Unreadable => return disk.spoil((path, sector)),
        Harm::Zeroed => vec![0; there.len()],
        Harm::Flipped => {
            let mut flipped = there.clone();
            let bit = sector * 37 % (8 * there.len());
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        }
        Harm::Past => disk.past(path, sector)?,
        Harm::Beside => beside(disk, path, sector)?,
        Harm::Foreign => {
            let other = &world.nodes[(at + 1) % world.nodes.len()].disk;
            other.sector(path, sector)?
        }
    };
    disk.replace((path, sector), &bytes)
}

#[test]
#[expect(clippy::print_stdout, reason = "a test says how much it has visited")]
fn one_loss_on_one_disk_heals() {
    let base = rested();
    let (mut runs, mut noticed) = (0, 0);
    for at in base.members_at() {
        for (path, sectors) in base.nodes[at].disk.sectors() {
            for (sector, harm) in sectors.iter().flat_map(|&one| HARMS.map(|harm| (one, harm))) {
                let mut world = base.fork();
                let Some(wound) = hurt(&world, at, (&path, sector), harm) else { continue };
                let context = format!("n{}: {path}, sector {sector}, {harm:?}", at + 1);
                let before = base.inspect(at).expect("it is whole");
                let found = world.inspect(at);
                let found = found.unwrap_or_else(|| panic!("{context}: it cannot start"));
                assert_eq!(found.hard_state.vote, before.hard_state.vote, "{context}");
                assert_eq!(found.hard_state.term, before.hard_state.term, "{context}");
                noticed += usize::from(found.report != before.report);
                world.keep(at, wound);
                world.heals_all().unwrap_or_else(|failure| panic!("{context}: {failure}"));
                runs += 1;
            }
        }
    }
    println!("{runs} wounds, of which a start notices {noticed}");
    assert!(runs > 800 && noticed > 700, "{runs} {noticed}");
}

/// Nothing is made up, and nothing is given up: the group waits, and names the entry and who had it.
#[test]
#[expect(clippy::print_stdout, reason = "a test says how much it has visited")]
fn an_entry_that_all_have_lost_is_named() {
    let base = rested();
    let members: Vec<NodeAt> = base.members_at();
    let mut named = 0;
    for index in (1..=base.checker.committed().0).map(Index) {
        let mut world = base.fork();
        let mut had: Vec<NodeId> = Vec::new();
        let mut is_covered = false;
        for &at in &members {
            let id = world.nodes[at].member.id;
            let found = world.inspect(at).expect("it is whole");
            is_covered |= found.snapshots.iter().any(|one| one.last.index >= index);
            let Some(entry) = world.checker.durable_entry(id, index) else { continue };
            let Some(payload) = world.payloads.get(&entry) else { continue };
            if let Some(wound) = world.nodes[at].disk.flip(payload) {
                world.keep(at, wound);
                had.push(id);
            }
        }
        // What a snapshot covers is not lost, and of memberships each disk has another copy.
        if is_covered || had.len() < members.len() {
            continue;
        }
        let stalls = Outlook::Stalls { index, nodes: had };
        world.await_outlook().unwrap_or_else(|failure| panic!("{index}: {failure}"));
        let Beyond { predicted, actual } = world.stats.beyond.expect("it was awaited");
        assert_eq!((&predicted, &actual), (&stalls, &stalls), "{index}");
        named += 1;
    }
    println!("{named} entries that all have lost");
    assert!(named > 6, "{named}");
}
