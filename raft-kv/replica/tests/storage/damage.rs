//! One fault in every sector of every file of a node that has lived: zeroed, a bit flipped, replaced
//! by what stood there before, replaced by another sector, unreadable. See [`crate::verdict`] for what
//! must come of it.

use std::collections::BTreeMap;

use raft_core::{EntryId, Index, Term};
use raft_replica::storage::Storage;

use crate::memory_disk::MemoryDisk;
use crate::model::{Durable, Script, entries, identity};
use crate::verdict::{FIRST_BATCH, Verdict, heal, judge, open, victims};

const SECTOR: usize = 512;

/// A node that has lived, what it knows, and what each of its sectors held before.
struct Life {
    disk: MemoryDisk,
    expected: Durable,
    past: BTreeMap<(String, usize), Vec<u8>>,
}

impl Life {
    /// A new node that has done this, watched.
    fn of(script: &Script) -> Self {
        let mut disk = MemoryDisk::default();
        Storage::format(&mut disk, identity()).unwrap();
        let mut life = Self { disk, expected: script.now().clone(), past: BTreeMap::new() };
        life.go_on(script);
        life
    }

    fn go_on(&mut self, script: &Script) {
        let mut now = self.sectors();
        let mut storage = open(&self.disk).unwrap().0;
        for step in &script.steps {
            step.clone().take(&mut storage).unwrap();
            let next = self.sectors();
            for (place, bytes) in &next {
                if let Some(old) = now.get(place).filter(|old| *old != bytes) {
                    self.past.insert(place.clone(), old.clone());
                }
            }
            now = next;
        }
        storage.rest().unwrap();
        self.expected = script.now().clone();
    }

    fn sectors(&self) -> BTreeMap<(String, usize), Vec<u8>> {
        let mut sectors = BTreeMap::new();
        for file in self.disk.files() {
            for (number, sector) in self.disk.bytes(&file).unwrap().chunks(SECTOR).enumerate() {
                sectors.insert((file.clone(), number * SECTOR), sector.to_vec());
            }
        }
        sectors
    }
}

/// A script of everything that a node does.
fn everything() -> Script {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[1; 12]).sync().commit(10).snapshot(4, &[6; 900]);
    script.append(&[2; 9]).sync().append(&[700, 700, 700]).sync().membership(4).sync();
    script.snapshot(9, &[7; 2000]).term(2, Some(3)).rewrite(24, &[5, 6]).append(&[600]).sync();
    script.membership(5).sync().append(&[3, 4]).sync().term(3, Some(2)).sync();
    script
}

/// Its last act is a hard state, which vouches for the log.
fn vouched() -> Life {
    Life::of(&everything())
}

/// Its last act is an append and a rest.
fn rested() -> Life {
    let mut script = everything();
    script.append(&[30, 0, 700]).sync();
    Life::of(&script)
}

/// It has been started again, healed, started again, and has gone on.
fn healed() -> Life {
    let mut life = vouched();
    for (file, offset) in
        [("wal/seg-1-1.wal", FIRST_BATCH + 4096), ("wal/seg-17-1.wal", FIRST_BATCH + 4096)]
    {
        life.disk.overwrite(file, offset, &[0xa5; SECTOR]);
    }
    let (mut storage, found) = open(&life.disk).unwrap();
    let damaged = Durable::found(&mut storage, &found);
    assert!(damaged.damaged() > 1, "{damaged:#?}");
    heal(&mut storage, &damaged, &life.expected);
    drop(storage);
    let mut script = Script::new(life.expected.clone());
    script.append(&[8; 3]).sync().term(4, None).append(&[9]).sync();
    life.go_on(&script);
    life
}

/// It has received a snapshot, and has no other.
fn received() -> Life {
    let mut script = everything();
    let before = EntryId { index: Index(39), ..EntryId::default() };
    let last = entries(before, Term(3), &[1])[0].id();
    script.receive(last, &[6; 1500], 700).append(&[3, 4]).sync();
    let mut life = Life::of(&script);
    // The next start lets go of the older ones, which the log no longer reaches.
    drop(open(&life.disk).unwrap());
    life.past.clear();
    life
}

/// Puts each fault into each sector and counts the verdicts.
fn strike_all(name: &str, life: &Life) -> BTreeMap<Verdict, u64> {
    let sectors = life.sectors();
    let places: Vec<_> = sectors.keys().cloned().collect();
    let mut verdicts = BTreeMap::new();
    for (number, ((file, offset), old)) in sectors.iter().enumerate() {
        let mut flipped = old.clone();
        let bit = number * 37 % (8 * old.len());
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut faults = vec![("zeroed", vec![0; old.len()]), ("flipped", flipped)];
        faults.extend(life.past.get(&(file.clone(), *offset)).map(|past| ("stale", past.clone())));
        for step in [1, 7, 16] {
            let mut other = sectors[&places[(number + step) % places.len()]].clone();
            other.resize(old.len(), 0);
            faults.push(("misplaced", other));
        }
        let victims = victims(&life.disk, file, *offset, offset + SECTOR);
        let mut strike = |what: &str, strike: &dyn Fn(&MemoryDisk)| {
            let disk = life.disk.fork();
            strike(&disk);
            let context = format!("{name}: {file} at {offset} {what}");
            let verdict = judge(&disk, &life.expected, &victims, &context);
            assert!(verdict != Verdict::TailUnknown || what == "unreadable", "{context}");
            *verdicts.entry(verdict).or_default() += 1;
        };
        for (what, new) in faults.iter().filter(|(_, new)| new != old) {
            strike(what, &|disk| disk.overwrite(file, *offset, new));
        }
        strike("unreadable", &|disk| disk.spoil(file, *offset));
    }
    println!("{name}: {} sectors, {verdicts:?}", sectors.len());
    verdicts
}

/// One bad sector never costs more than the payloads in it, or the bytes of a snapshot; but where the next
/// batch would begin and the disk cannot read, nobody can say that none does.
fn check(name: &str, life: &Life, of_snapshot: Verdict) {
    let verdicts = strike_all(name, life);
    let count = |verdict| verdicts.get(&verdict).copied().unwrap_or(0);
    assert_eq!(count(Verdict::Amnesia), 0, "{name}");
    assert!(count(Verdict::TailUnknown) <= 1, "{name}: {verdicts:?}");
    assert!(count(Verdict::Whole) > 500, "{name}: {verdicts:?}");
    assert!(count(Verdict::Damaged) >= 5, "{name}: {verdicts:?}");
    let (snapshots, others) = (count(of_snapshot), count(Verdict::OlderSnapshot));
    assert!(snapshots > 10 && (of_snapshot == Verdict::OlderSnapshot || others == 0), "{name}");
}

#[test]
fn one_bad_sector_where_the_hard_state_vouches() {
    check("vouched", &vouched(), Verdict::OlderSnapshot);
}

#[test]
fn one_bad_sector_of_a_node_at_rest() {
    check("rested", &rested(), Verdict::OlderSnapshot);
}

#[test]
fn one_bad_sector_of_a_node_that_was_healed() {
    check("healed", &healed(), Verdict::OlderSnapshot);
}

#[test]
fn one_bad_sector_of_a_node_that_received_a_snapshot() {
    check("received", &received(), Verdict::SnapshotDamaged);
}

/// A page of one file written over a page of another, or the same: each over each.
#[test]
fn one_misplaced_page() {
    const PAGE: usize = 4096;
    let Life { disk: pristine, expected, .. } = vouched();
    let pages: Vec<(String, usize)> = pristine
        .files()
        .into_iter()
        .flat_map(|file| {
            let pages = pristine.bytes(&file).unwrap().len() / PAGE;
            (0..pages).map(move |page| (file.clone(), page * PAGE))
        })
        .collect();
    let mut verdicts: BTreeMap<Verdict, u64> = BTreeMap::new();
    for (from, from_offset) in &pages {
        let page = pristine.bytes(from).unwrap()[*from_offset..from_offset + PAGE].to_vec();
        for (to, to_offset) in &pages {
            let disk = pristine.fork();
            disk.overwrite(to, *to_offset, &page);
            let context = format!("{from} at {from_offset} over {to} at {to_offset}");
            let victims = victims(&pristine, to, *to_offset, to_offset + PAGE);
            let verdict = judge(&disk, &expected, &victims, &context);
            *verdicts.entry(verdict).or_default() += 1;
        }
    }
    println!("{} pages over each other: {verdicts:?}", pages.len());
    let only = [Verdict::Whole, Verdict::Damaged];
    assert!(verdicts.keys().all(|verdict| only.contains(verdict)), "{verdicts:?}");
    assert!(verdicts[&Verdict::Whole] > 1000 && verdicts[&Verdict::Damaged] > 100);
}

/// A whole file is gone: whatever can be known without it is known, and nothing is made up.
#[test]
fn one_lost_file() {
    let lives = [
        ("vouched", vouched(), Verdict::OlderSnapshot),
        ("rested", rested(), Verdict::OlderSnapshot),
        ("healed", healed(), Verdict::OlderSnapshot),
        ("received", received(), Verdict::SnapshotDamaged),
    ];
    for (name, life, of_snapshot) in lives {
        let EntryId { index, term, .. } = life.expected.snapshot.unwrap();
        let newest_snapshot = format!("snap/{}-{}.data", index.0, term.0);
        let mut verdicts = BTreeMap::new();
        for file in life.disk.files() {
            let disk = life.disk.fork();
            disk.lose(&file);
            let is_of_healed = file.starts_with("wal/heal");
            // Of a segment that is lost nothing may be called damaged.
            let healed = is_of_healed.then(|| victims(&life.disk, &file, 0, SECTOR));
            let victims = healed.unwrap_or_default();
            let verdict = judge(&disk, &life.expected, &victims, &format!("{name}: {file}"));
            let expected = match file.split('/').next().unwrap() {
                "IDENTITY" | "hs.a" | "hs.b" => Verdict::Amnesia,
                "wal" if is_of_healed => Verdict::Damaged,
                "wal" => Verdict::TailUnknown,
                _ if file == newest_snapshot => of_snapshot,
                // Of what is there twice, or of the snapshot before the newest.
                _ => Verdict::Whole,
            };
            assert_eq!(verdict, expected, "{name}: {file}");
            *verdicts.entry(verdict).or_insert(0) += 1;
        }
        println!("{name}, one lost file: {verdicts:?}");
        assert_eq!(verdicts.len(), if name == "healed" { 5 } else { 4 }, "{verdicts:?}");
        assert!(life.expected.last().index > Index(20));
    }
}
