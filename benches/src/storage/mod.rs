//! What keeping a log on a real disk costs: ours, the floor, and (feature `peers`) `raft-engine`.
//!
//! An append is one batch of entries made durable. The *floor* writes as many bytes as ours to a file
//! that is already there, in one piece, and syncs it: nobody can do with less. The *filling floor* does
//! the same to files that it makes first, full of zeros and durable, as long as a segment of ours: so
//! much is the least for who has to tell what was never written from what was lost. All take turns, a
//! fraction of a second each, so that whatever else the machine does strikes all of them alike; of the
//! turns, the median counts. A recovery is compared with reading the same files.
//!
//! ```text
//! cargo bench -p benches --bench storage                                  a few seconds for each row
//! cargo bench -p benches --bench storage -- --recover-mib 1024 --turns 9
//! cargo bench -p benches --bench storage --features peers                 with raft-engine
//! ```
//! What a recovery reads may be in the page cache or not; both are measured.

mod counted;
#[cfg(feature = "peers")]
mod engine;
mod ours;
mod recovery;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ours::Ours;
use raft_replica::storage::StorageOptions;
pub use recovery::{Recovered, recovery};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the files go: the disk that is measured.
    pub directory: PathBuf,
    /// How many turns each contestant gets, an odd number.
    pub turns: usize,
    /// How long a turn is, in milliseconds.
    pub turn_ms: u64,
    /// How much log is recovered, in MiB.
    pub recover_mib: u64,
}

impl Plan {
    /// Reads the arguments of the program; those of cargo are passed over.
    #[must_use]
    pub fn parse(arguments: &[String]) -> Option<Self> {
        let directory = std::env::temp_dir();
        let mut plan = Self { directory, turns: 5, turn_ms: 300, recover_mib: 256 };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {}
                "--dir" => plan.directory = arguments.next()?.into(),
                "--turns" => plan.turns = arguments.next()?.parse().ok()?,
                "--turn-ms" => plan.turn_ms = arguments.next()?.parse().ok()?,
                "--recover-mib" => plan.recover_mib = arguments.next()?.parse().ok()?,
                _ => return None,
            }
        }
        (plan.turns % 2 == 1 && plan.turn_ms > 0).then_some(plan)
    }
}

/// One row: entries of a size, in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Entries that become durable together.
    pub batch: usize,
    /// The length of a payload.
    pub payload_bytes: usize,
}

/// The rows.
pub const SHAPES: [Shape; 6] = [
    Shape { batch: 1, payload_bytes: 256 },
    Shape { batch: 16, payload_bytes: 256 },
    Shape { batch: 256, payload_bytes: 256 },
    Shape { batch: 1, payload_bytes: 1024 },
    Shape { batch: 16, payload_bytes: 1024 },
    Shape { batch: 256, payload_bytes: 1024 },
];

/// Who makes batches durable.
pub(crate) trait Appender {
    /// One batch more.
    fn append(&mut self);
    /// The bytes written since the last call.
    fn take_bytes(&mut self) -> u64;
}

/// What a row has given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// What was measured.
    pub shape: Shape,
    /// Batches per second: ours, the floor, the filling floor, the peer.
    pub batches_per_second: [Option<u64>; 4],
    /// Bytes that ours, and the peer, hand to the disk for each entry.
    pub bytes_per_entry: [Option<u64>; 2],
}

/// Measures a row.
///
/// # Panics
/// If the disk fails.
#[must_use]
pub fn measure(plan: &Plan, shape: Shape) -> Measured {
    let directory = Scratch::new(&plan.directory, "append");
    let mut ours = Ours::new(&directory.0.join("ours"), shape);
    for _ in 0..8 {
        ours.append();
    }
    let per_batch = ours.take_bytes() / 8;
    let mut floor = Floor::new(&directory.0.join("floor"), per_batch, Room::Given);
    let mut filling = Floor::new(&directory.0.join("filling"), per_batch, Room::Filled);
    #[cfg(feature = "peers")]
    let mut peer = engine::Engine::new(&directory.0.join("peer"), shape);
    let (mut rates, mut bytes) = ([const { Vec::new() }; 4], [0, 0]);
    let mut batches = [0, 0];
    for _ in 0..plan.turns {
        let (count, rate) = turn(plan.turn_ms, &mut ours);
        rates[0].push(rate);
        (batches[0], bytes[0]) = (batches[0] + count, bytes[0] + ours.take_bytes());
        rates[1].push(turn(plan.turn_ms, &mut floor).1);
        rates[2].push(turn(plan.turn_ms, &mut filling).1);
        #[cfg(feature = "peers")]
        {
            let (count, rate) = turn(plan.turn_ms, &mut peer);
            rates[3].push(rate);
            (batches[1], bytes[1]) = (batches[1] + count, bytes[1] + peer.take_bytes());
        }
    }
    let entries = |side: usize| batches[side] * shape.batch as u64;
    let per_entry = |side: usize| bytes[side].checked_div(entries(side));
    Measured {
        shape,
        batches_per_second: rates.map(median),
        bytes_per_entry: [per_entry(0), per_entry(1)],
    }
}

/// How many batches in one turn, and how many that is per second.
fn turn(milliseconds: u64, appender: &mut impl Appender) -> (u64, u64) {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < Duration::from_millis(milliseconds) {
        appender.append();
        count += 1;
    }
    let nanoseconds = start.elapsed().as_nanos();
    let rate = u128::from(count) * 1_000_000_000 / nanoseconds;
    (count, u64::try_from(rate).expect("a rate is small"))
}

fn median(mut rates: Vec<u64>) -> Option<u64> {
    rates.sort_unstable();
    rates.get(rates.len() / 2).copied()
}

/// A payload that nobody can compress: some stores try.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut word = 1_u64;
    let mut next = || {
        // A xorshift generator (Marsaglia 2003).
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

/// Writes to a file that is there: one piece, one sync.
struct Floor {
    path: PathBuf,
    file: File,
    room: Room,
    data: Vec<u8>,
    offset: u64,
    file_bytes: u64,
}

/// Where the room for the next batches comes from once a file is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// The same file again: it costs nothing.
    Given,
    /// Another file, which is filled with zeros first.
    Filled,
}

impl Floor {
    fn new(path: &Path, bytes: u64, room: Room) -> Self {
        let file_bytes = u64::from(StorageOptions::default().segment_bytes).max(2 * bytes);
        let data = vec![0xa5; usize::try_from(bytes).expect("it fits into memory")];
        let file = filled(path, file_bytes);
        Self { path: path.to_path_buf(), file, room, data, offset: 0, file_bytes }
    }
}

/// A durable file of so many zeros.
fn filled(path: &Path, bytes: u64) -> File {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).open(path).expect("the name is free");
    let zeros = vec![0; usize::try_from(bytes).expect("it fits into memory")];
    file.write_all_at(&zeros, 0).expect("the disk works");
    file.sync_all().expect("the disk works");
    file
}

impl Appender for Floor {
    fn append(&mut self) {
        if self.offset + self.data.len() as u64 > self.file_bytes {
            self.offset = 0;
            if self.room == Room::Filled {
                std::fs::remove_file(&self.path).expect("it is ours");
                self.file = filled(&self.path, self.file_bytes);
            }
        }
        self.file.write_all_at(&self.data, self.offset).expect("the disk works");
        self.file.sync_data().expect("the disk works");
        self.offset = (self.offset + self.data.len() as u64).next_multiple_of(4096);
    }

    fn take_bytes(&mut self) -> u64 {
        0
    }
}

/// A directory that goes when it is no longer used.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(parent: &Path, name: &str) -> Self {
        let path = parent.join(format!("bench-storage-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the directory can be written");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to be done about a directory that will not go.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
