//! A start on a long log, beside reading its files.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use raft_replica::file_disk::FileDisk;
use raft_replica::storage::{Storage, StorageOptions};

use super::ours::{Ours, identity};
use super::{Appender, Plan, Scratch, Shape};

/// What a recovery took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Entries in the log.
    pub entries: u64,
    /// Bytes in its files.
    pub file_bytes: u64,
    /// To read the files from beginning to end.
    pub read: Duration,
    /// To open the storage.
    pub open: Duration,
    /// The same, with the files no longer in the page cache.
    pub cold_read: Duration,
    /// The same, with the files no longer in the page cache.
    pub cold_open: Duration,
    /// The memory of the process at its peak, in KiB; `None` where the system does not tell.
    pub peak_kib: Option<u64>,
}

/// Writes a log of 1 KiB entries and recovers it; the median of as many turns as the plan says.
///
/// # Panics
/// If the disk fails.
#[must_use]
pub fn recovery(plan: &Plan) -> Recovered {
    let directory = Scratch::new(&plan.directory, "recovery");
    let path = directory.0.join("ours");
    let mut ours = Ours::new(&path, Shape { batch: 256, payload_bytes: 1024 });
    while ours.last_index() < plan.recover_mib << 10 {
        ours.append();
    }
    let entries = ours.last_index();
    drop(ours);
    let mut times = [const { Vec::new() }; 4];
    let (mut peak_kib, mut file_bytes) = (None, 0);
    for turn in 0..=plan.turns {
        for (is_cold, side) in [(true, 0), (false, 2)] {
            settle(&path, is_cold);
            let (bytes, read) = read_all(&path);
            settle(&path, is_cold);
            reset_peak();
            let start = Instant::now();
            let disk = FileDisk::new(&path).expect("it is ours");
            let opened = Storage::open(disk, StorageOptions::default(), Some(identity()));
            let (storage, found) = opened.expect("it can be opened");
            let open = start.elapsed();
            peak_kib = memory_kib("VmHWM:");
            assert_eq!(found.slots.len() as u64, entries, "all is there");
            drop((storage, found));
            file_bytes = bytes;
            // The first turn warms up.
            if turn > 0 {
                times[side].push(read);
                times[side + 1].push(open);
            }
        }
    }
    let [cold_read, cold_open, read, open] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    Recovered { entries, file_bytes, read, open, cold_read, cold_open, peak_kib }
}

/// Writes back what is dirty, and takes the files out of the page cache or leaves them there.
fn settle(path: &Path, is_cold: bool) {
    for entry in std::fs::read_dir(path.join("wal")).expect("it is there") {
        let file = File::open(entry.expect("it is there").path()).expect("it is ours");
        file.sync_all().expect("the disk works");
        if is_cold {
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
                .expect("it is a file");
        }
    }
}

/// Reads every file of the log as a whole, in pieces of the size that is best for the system.
fn read_all(path: &Path) -> (u64, Duration) {
    let start = Instant::now();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    for entry in std::fs::read_dir(path.join("wal")).expect("it is there") {
        let mut file = File::open(entry.expect("it is there").path()).expect("it is ours");
        loop {
            match file.read(&mut buffer).expect("the disk works") {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    (bytes, start.elapsed())
}

/// A line of what the system says about this process.
fn memory_kib(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// From here on the peak counts again. Where that is not possible, the peak is too high, not too low.
fn reset_peak() {
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}
