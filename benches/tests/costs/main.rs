//! The golden table of what a commit costs: counts, so that no noisy machine can blur them.
//!
//! A change that makes commits dearer, or cheaper, shows here as a changed line.
//! `UPDATE_EXPECT=1 cargo test -p benches` writes the table again; commit only what you can explain.

mod counting;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use benches::{Costs, Group, Link, Load};

/// Enough for buffers to reach their final size, and for a few snapshots.
const WARM_UP: u64 = 3 << 12;
/// A multiple of the snapshot interval and of every batch, so that nothing is counted in part.
const MEASURED: u64 = 1 << 14;

const HEAD: &str = "\
# Costs per committed command of 256 bytes, of all servers together, in thousandths.
# Messages are shared in memory (direct) or encoded and decoded (wire). Every server takes a
# snapshot and compacts its log every 4096 entries; that is included.
#
# servers outstanding link       steps   messages   frame-bytes   persists   allocations
";

#[test]
fn a_commit_costs_what_the_table_says() {
    let mut table = String::from(HEAD);
    for servers in [1, 3, 5] {
        for outstanding in [1, 64] {
            for link in [Link::Direct, Link::Wire] {
                let load = Load { servers, outstanding, command_bytes: 256, link };
                table.push_str(&row(load));
            }
        }
    }
    if is_updating() {
        fs::write(path(), &table).expect("the table can be written");
    }
    let expected = fs::read_to_string(path()).expect("the table is there");
    assert_eq!(table, expected.replace("\r\n", "\n"), "the costs have changed");
}

#[test]
fn the_second_run_costs_what_the_first_did() {
    let load = Load { servers: 3, outstanding: 7, command_bytes: 16, link: Link::Wire };
    assert_eq!(measure(load), measure(load));
}

#[test]
fn batches_share_their_messages() {
    let one = Load { servers: 3, outstanding: 1, command_bytes: 16, link: Link::Direct };
    let (alone, _) = measure(one);
    let (batched, _) = measure(Load { outstanding: 64, ..one });
    assert_eq!(alone.messages, 64 * batched.messages);
    assert!(batched.steps * 63 < alone.steps, "a batch takes hardly more steps than a command");
}

fn row(load: Load) -> String {
    let (costs, allocations) = measure(load);
    let link = match load.link {
        Link::Direct => "direct",
        Link::Wire => "wire",
    };
    let mut row = String::new();
    let (servers, outstanding) = (load.servers, load.outstanding);
    write!(row, "{servers:>9} {outstanding:>11} {link:<6}").expect("a string grows");
    let columns = [
        (costs.steps, 10),
        (costs.messages, 11),
        (costs.frame_bytes, 14),
        (costs.persists, 11),
        (allocations, 14),
    ];
    for (count, width) in columns {
        let thousandths = count * 1000 / costs.commits;
        write!(row, "{thousandths:>width$}").expect("a string grows");
    }
    row.push('\n');
    row
}

fn measure(load: Load) -> (Costs, u64) {
    let mut group = Group::new(load);
    group.commit(WARM_UP);
    let before = group.costs();
    let allocations = counting::allocations(|| group.commit(MEASURED));
    (group.costs().since(before), allocations)
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/costs.txt")
}

#[expect(clippy::disallowed_methods, reason = "a person asks for a new table by it")]
fn is_updating() -> bool {
    std::env::var("UPDATE_EXPECT").is_ok()
}
