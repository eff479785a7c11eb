//! Sectors that the disk cannot read in a batch that was acknowledged last, before anything was written
//! after it. A power cut leaves old bytes, new ones or garbage, and never that: nothing may be taken for
//! torn.

use std::collections::BTreeMap;

use crate::evidence::after;
use crate::memory_disk::MemoryDisk;
use crate::model::Script;
use crate::verdict::{FIRST_BATCH, Verdict, judge, victims};

const FILE: &str = "wal/seg-1-1.wal";

/// Two batches, of which the last has entries in one sector and entries over many.
fn script() -> Script {
    let mut script = Script::founding();
    script.term(1, Some(1)).append(&[10, 20]).sync().append(&[30, 700, 5, 600, 1200, 3]).sync();
    script
}

fn struck(what: &str, strike: impl Fn(&MemoryDisk, usize)) -> BTreeMap<Verdict, u64> {
    let script = script();
    let pristine = after(&script);
    let bytes = pristine.bytes(FILE).unwrap().len();
    let mut verdicts = BTreeMap::new();
    for offset in (FIRST_BATCH..bytes).step_by(512) {
        let disk = pristine.fork();
        strike(&disk, offset);
        // The last batch has no slots yet: nothing tells where its entries stand.
        let mut victims = victims(&pristine, FILE, offset, bytes);
        victims.extend(script.now().log[2..].iter().map(|(id, _)| id.index));
        let verdict = judge(&disk, script.now(), &victims, &format!("{what} at {offset}"));
        *verdicts.entry(verdict).or_default() += 1;
    }
    println!("{what}: {verdicts:?}");
    verdicts
}

#[test]
fn an_unreadable_sector_is_never_torn() {
    let verdicts = struck("unreadable", |disk, offset| disk.spoil(FILE, offset));
    // The first batch has slots; in the second two sectors hold nothing but a payload each, whose header says
    // whose it is, and four hold headers. Nobody has written to the others.
    let expected = [(Verdict::Whole, 9), (Verdict::Damaged, 3), (Verdict::TailUnknown, 4)];
    assert_eq!(verdicts, expected.into());
}

#[test]
fn a_file_that_ends_early_is_never_torn() {
    let verdicts = struck("cut off", |disk, offset| disk.cut_off(FILE, offset));
    let expected = [(Verdict::Whole, 2), (Verdict::TailUnknown, 14)];
    assert_eq!(verdicts, expected.into());
}
