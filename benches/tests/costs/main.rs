//! The golden table of what a commit costs: counts, so that no noisy machine can blur them.
//!
//! A change that makes commits dearer, or cheaper, shows here as a changed line.
//! Time is counted beside it, in hops of messages.
//! `UPDATE_EXPECT=1 cargo test -p benches` writes the table again; commit only what you can explain.

mod hops;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use benches::contest::{COMPACT_EVERY, Compaction, Link, Shape};
use benches::{Costs, Counting, Group};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Enough for buffers to reach their final size, and for a few snapshots.
const WARM_UP: u64 = 3 * COMPACT_EVERY;
/// A multiple of the snapshot interval and of every batch, so that nothing is counted in part.
const MEASURED: u64 = 4 * COMPACT_EVERY;

const HEAD: &str = "\
# Costs per committed command of 256 bytes, of all servers together, in thousandths. Batches are
# handed over at once, one after the other; nobody's clock moves. Messages are shared in memory
# (direct) or encoded and decoded (wire). Every server takes a snapshot and compacts its log every
# 4096 entries; that is included, and so is the command itself, one allocation.
#
# servers batch link       steps   messages   frame-bytes   persists   allocations
";

#[test]
fn a_commit_costs_what_the_table_says() {
    let mut table = String::from(HEAD);
    for servers in [1, 3, 5, 7] {
        for batch in [1, 64] {
            for link in [Link::Direct, Link::Wire] {
                table.push_str(&row(shape(servers, link), batch));
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
    let shape = shape(3, Link::Wire);
    assert_eq!(measure(shape, 16), measure(shape, 16));
}

#[test]
fn batches_share_their_messages() {
    let shape = shape(3, Link::Direct);
    let (alone, _) = measure(shape, 1);
    let (batched, _) = measure(shape, 64);
    assert_eq!(alone.messages, 64 * batched.messages);
    assert!(batched.steps * 63 < alone.steps, "a batch takes hardly more steps than a command");
}

/// Ten thousand groups that have nothing to do must not keep an allocator busy.
#[test]
fn an_idle_group_allocates_nothing() {
    let mut group = Group::new(shape(3, Link::Direct));
    (0..64).for_each(|_| group.pass_interval());
    let before = group.costs();
    let memory = benches::memory(|| (0..1000).for_each(|_| group.pass_interval()));
    assert_eq!(memory.allocations, 0);
    assert!(group.costs().since(before).messages >= 4000, "two peers are asked, and answer");
}

fn shape(servers: usize, link: Link) -> Shape {
    Shape { servers, command_bytes: 256, link, compaction: Compaction::Regular }
}

fn row(shape: Shape, batch: u64) -> String {
    let (costs, allocations) = measure(shape, batch);
    let link = match shape.link {
        Link::Direct => "direct",
        Link::Wire => "wire",
    };
    let mut row = String::new();
    let servers = shape.servers;
    write!(row, "{servers:>9} {batch:>5} {link:<6}").expect("a string grows");
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

fn measure(shape: Shape, batch: u64) -> (Costs, u64) {
    let mut group = Group::new(shape);
    let commit = |group: &mut Group, commands| {
        (0..commands / batch).for_each(|_| group.commit_batch(batch));
    };
    commit(&mut group, WARM_UP);
    let before = group.costs();
    let memory = benches::memory(|| commit(&mut group, MEASURED));
    assert_eq!(group.costs().commits - before.commits, MEASURED, "everything commits");
    (group.costs().since(before), memory.allocations)
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/costs.txt")
}

fn is_updating() -> bool {
    std::env::var("UPDATE_EXPECT").is_ok()
}
