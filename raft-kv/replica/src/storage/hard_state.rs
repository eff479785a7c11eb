//! The hard state, in two copies on two files.
//!
//! Generation g is written to both slots of pair `g mod 2`, one in each file, and both files are
//! synced before anything depends on it:
//! ```text
//!         page 0      page 1      pages 2 to 9
//! hs.a    pair 0      pair 1      ring of memberships
//! hs.b    pair 0      pair 1      the same
//! ```
//! A crash in the middle of generation g leaves pair g-1, and g was never promised. A copy that
//! rots later has a twin. Two files that take turns with a single copy would not do: when the
//! newest copy rots, the older vote would silently take its place, and the node could vote twice.
//!
//! All of it rests on one rule: nothing of g+1 is written before both copies of g are durable. While
//! the node runs, the two syncs see to it. At a start, what is read proves nothing: after a failed
//! sync the page cache may go on showing a generation that the disk never got, and g+1 would then
//! be written over g-1, the newest that the disk has. So a start first settles what it has read
//! ([`HardStateFiles::settle`]).

use raft_core::{HardState, Index};

use super::batch::PAGE;
use super::error::{InFile, StorageError, open_found};
use super::frame::{Flaw, VERSION};
use super::read::{read_framed, read_lossy};
use super::record::{HardRecord, decode_hard_record, encode_hard_record};
use super::ring;
use crate::disk::Disk;

pub(super) const FILES: [&str; 2] = ["hs.a", "hs.b"];
/// One that is being made for a node that has lost its own.
const SCRATCH: &str = "hs.tmp";

/// The two files, and what they say.
#[derive(Debug)]
pub(super) struct HardStateFiles<F> {
    files: [F; 2],
    record: HardRecord,
}

/// What the hard state says about the log, written along with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogMark {
    /// The log is durable through here.
    pub(super) log_through: Index,
    /// Committed, and durable here.
    pub(super) commit: Index,
    /// The epoch of its newest durable segment.
    pub(super) log_epoch: u64,
}

impl<F> HardStateFiles<F> {
    /// Creates both files with the state of a node that has never run.
    pub(super) fn format<D: Disk<File = F>>(disk: &mut D) -> Result<(), StorageError> {
        let record = HardRecord {
            generation: 1,
            parent: 0,
            state: HardState::default(),
            log_through: Index::ZERO,
            commit: Index::ZERO,
            log_epoch: 0,
        };
        let mut files = Vec::with_capacity(2);
        for name in FILES {
            files.push(disk.create(name, u64::from(2 * PAGE + ring::BYTES)).in_file(name)?);
        }
        let files = files.try_into().ok().expect("one file for each of two names");
        Self { files, record }.put(disk)
    }

    /// Reads the newest generation.
    ///
    /// # Errors
    /// [`StorageError::Amnesia`]: a missing file, two copies that contradict each other, or no copy
    /// at all. A slot of a later version. A generation of which only a part was written is none of
    /// these.
    pub(super) fn open<D: Disk<File = F>>(disk: &mut D) -> Result<Self, StorageError> {
        let mut found: Vec<HardRecord> = Vec::with_capacity(4);
        let mut files = Vec::with_capacity(2);
        for number in 0..2 {
            let name = FILES[number as usize];
            let Some(file) = open_found(disk, name)? else {
                return Err(StorageError::amnesia(name, "it is missing"));
            };
            found.extend(read_copies(disk, &file, number)?);
            files.push(file);
        }
        let record = newest(&found)?;
        let files = files.try_into().ok().expect("one file for each of two names");
        Ok(Self { files, record })
    }

    /// Makes a hard state for a node that has lost its own, in new files, durable on return. The
    /// ring of memberships goes along. `generation` is the highest that the log knows of.
    pub(super) fn replace<D: Disk<File = F>>(
        disk: &mut D,
        mut state: HardState,
        generation: u64,
    ) -> Result<(), StorageError> {
        if open_found(disk, SCRATCH)?.is_some() {
            disk.remove(SCRATCH).in_file(SCRATCH)?;
        }
        let mut newest: Option<HardRecord> = None;
        let mut rings = Vec::with_capacity(2);
        for number in 0..2 {
            let name = FILES[number as usize];
            let mut ring = vec![0; ring::BYTES as usize];
            if let Some(file) = open_found(disk, name)? {
                let found = read_copies(disk, &file, number)?;
                newest = found.into_iter().chain(newest).max_by_key(|record| record.generation);
                read_lossy(disk, &file, name, u64::from(2 * PAGE), &mut ring)?;
            }
            rings.push(ring);
        }
        if let Some(newest) = newest {
            state.term = state.term.max(newest.state.term);
            state.epoch = newest.state.epoch;
        }
        // Far enough from whatever is left that none can be taken for its twin or its parent.
        let generation = newest.map_or(0, |newest| newest.generation).max(generation) + 2;
        let (parent, log_epoch) = (0, 0);
        let (log_through, commit) = (Index::ZERO, Index::ZERO);
        let record = HardRecord { generation, parent, state, log_through, commit, log_epoch };
        for (number, ring) in (0u32..).zip(rings) {
            let name = FILES[number as usize];
            let length = u64::from(2 * PAGE + ring::BYTES);
            let file = disk.create(SCRATCH, length).in_file(SCRATCH)?;
            let pair = u32::from(generation % 2 == 1);
            let copy = encode_hard_record(&record, 2 * number + pair);
            disk.write(&file, u64::from(pair * PAGE), &copy).in_file(SCRATCH)?;
            disk.write(&file, u64::from(2 * PAGE), &ring).in_file(SCRATCH)?;
            disk.sync(&file).in_file(SCRATCH)?;
            disk.rename(SCRATCH, name).in_file(name)?;
        }
        disk.sync_dir("").in_file("")
    }

    /// The copies of the present generation that cannot be read, and their files.
    pub(super) fn bad_copies<D: Disk<File = F>>(
        &self,
        disk: &mut D,
    ) -> Result<Vec<(u32, &'static str)>, StorageError> {
        let mut bad = Vec::new();
        for number in 0..2 {
            if !self.shows(disk, number)? {
                bad.push((number, FILES[number as usize]));
            }
        }
        Ok(bad)
    }

    /// Writes a copy of the present generation again whose twin can be read.
    pub(super) fn repair<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        number: u32,
    ) -> Result<(), StorageError> {
        self.put_copy(disk, number)?;
        self.sync_copy(disk, number)
    }

    /// The files, which the ring of memberships shares.
    pub(super) fn files(&self) -> &[F; 2] {
        &self.files
    }

    pub(super) fn record(&self) -> &HardRecord {
        &self.record
    }

    /// Makes the generation that was read durable where it stands, before the next one is written.
    ///
    /// One file after the other: a power cut tears one copy at most. If the disk has the other, it
    /// is found next time. If the disk has neither, because a sync failed, then this generation was
    /// never promised, and the one before it, which was, is not touched.
    pub(super) fn settle<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), StorageError> {
        // A copy that cannot be read goes first: the only good one is not put at risk.
        let order = if self.shows(disk, 0)? { [1, 0] } else { [0, 1] };
        order.into_iter().try_for_each(|number| self.repair(disk, number))
    }

    /// Whether this file shows the present generation.
    fn shows<D: Disk<File = F>>(&self, disk: &mut D, number: u32) -> Result<bool, StorageError> {
        let (name, file) = self.file(number);
        let copy = self.encode_copy(number);
        let mut found = vec![0; copy.len()];
        read_lossy(disk, file, name, self.offset(), &mut found)?;
        Ok(found == copy)
    }

    /// Writes the next generation, durable on return.
    pub(super) fn write<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        state: HardState,
        mark: LogMark,
    ) -> Result<(), StorageError> {
        let LogMark { log_through, commit, log_epoch } = mark;
        let parent = self.record.digest();
        let generation = self.record.generation + 1;
        let commit = commit.max(self.record.commit);
        self.record = HardRecord { generation, parent, state, log_through, commit, log_epoch };
        self.put(disk)
    }

    fn put<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), StorageError> {
        (0..2).try_for_each(|number| self.put_copy(disk, number))?;
        (0..2).try_for_each(|number| self.sync_copy(disk, number))
    }

    fn put_copy<D: Disk<File = F>>(&self, disk: &mut D, number: u32) -> Result<(), StorageError> {
        let (name, file) = self.file(number);
        disk.write(file, self.offset(), &self.encode_copy(number)).in_file(name)
    }

    fn sync_copy<D: Disk<File = F>>(&self, disk: &mut D, number: u32) -> Result<(), StorageError> {
        let (name, file) = self.file(number);
        disk.sync(file).in_file(name)
    }

    fn encode_copy(&self, number: u32) -> Vec<u8> {
        encode_hard_record(&self.record, 2 * number + self.pair())
    }

    fn file(&self, number: u32) -> (&'static str, &F) {
        (FILES[number as usize], &self.files[number as usize])
    }

    /// The pair of the present generation, and where it stands in each file.
    fn pair(&self) -> u32 {
        u32::from(self.record.generation % 2 == 1)
    }

    fn offset(&self) -> u64 {
        u64::from(self.pair() * PAGE)
    }
}

/// The copies of both pairs in one file, as far as they can be read.
fn read_copies<D: Disk>(
    disk: &mut D,
    file: &D::File,
    number: u32,
) -> Result<Vec<HardRecord>, StorageError> {
    let name = FILES[number as usize];
    let mut found = Vec::with_capacity(2);
    let mut record = Vec::new();
    for pair in 0..2 {
        read_framed(disk, file, name, u64::from(pair * PAGE), PAGE as usize, &mut record)?;
        match decode_hard_record(&record, 2 * number + pair) {
            Ok(record) if record.generation % 2 == u64::from(pair) => found.push(record),
            Ok(_) | Err(Flaw::Zero | Flaw::Bad) => {}
            Err(Flaw::Newer(version)) => return Err(newer(name, version)),
        }
    }
    Ok(found)
}

fn newest(found: &[HardRecord]) -> Result<HardRecord, StorageError> {
    let newest = found.iter().max_by_key(|record| record.generation);
    let Some(newest) = newest else {
        return Err(StorageError::amnesia(FILES[0], "no copy of the hard state can be read"));
    };
    for other in found {
        let agrees = match newest.generation - other.generation {
            0 => other == newest,
            1 => other.digest() == newest.parent,
            // The slot of this pair was not written when it should have been. Its twin was, or
            // the generation after it would not be there.
            _ => true,
        };
        if !agrees {
            return Err(StorageError::amnesia(FILES[0], "copies of the hard state contradict"));
        }
    }
    Ok(*newest)
}

fn newer(file: &str, found: u32) -> StorageError {
    StorageError::NewerFormat { file: file.to_owned(), found, supported: VERSION }
}
