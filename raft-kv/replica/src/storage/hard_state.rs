//! The hard state, in two copies on two files.
//!
//! Generation g is written to both slots of pair `g mod 2`, one in each file, and both files are
//! synced before anything depends on it:
//! ```text
//!         page 0      page 1      page 2      pages 3 to 10
//! hs.a    pair 0      pair 1      spare       ring of memberships
//! hs.b    pair 0      pair 1      spare       the same
//! ```
//! A crash in the middle of generation g leaves pair g-1, and g was never promised. A copy that
//! rots later has a twin. Two files that take turns with a single copy would not do: when the
//! newest copy rots, the older vote would silently take its place, and the node could vote twice.
//!
//! All of it rests on one rule: nothing of g+1 is written before both copies of g are durable. While
//! the node runs, the two syncs see to it. At a start, what is read proves nothing: after a failed
//! sync the page cache may go on showing a generation that the disk never got, and g+1 would then
//! be written over g-1, the newest that the disk has. So a start first makes durable what it has
//! read, where it stands ([`HardStateFiles::settle`]).
//!
//! # How a start settles
//! To write a copy again is to put it at risk: the power may go in the middle. That must not be the
//! last good one, and which are good the start cannot see. So there are four places for the newest
//! generation: its pair and two spare pages, which are empty otherwise. A start writes all four, one
//! after the other, each with a sync of its own, and each with the next *turn*, a number beside the
//! record. It begins with the places that do not show the generation, and goes on from the newest
//! turn to the oldest ([`order`]).
//!
//! What the disk lacks although the cache shows it is then what a start was writing when it ended: of
//! all that is shown this has the newest turn, so the next start writes it first. Every other place
//! was durable when the start went on from it. Hence at every moment, the place that is being written
//! left out, each of the others is good but those that have rotted: one unseen fault may take both
//! places of one file, and the other file still has one. Without turns this is not so: starts that
//! end at another place each time would leave all of them torn, one by one. `tests.rs` beside this
//! file tries every way in which any number of starts can end.
//!
//! The first generation after that empties the spare pages again, under the syncs that it needs
//! anyway: what is left there would pass for the newest once both copies of later ones were lost.
//!
//! The identity and the ring beside it need none of this: there a start writes a copy again only if it
//! cannot be read, so the one that can be is never at risk, and what it adds to the ring goes to one
//! file after the other. Nor do the manifests of snapshots: each is
//! a file that is durable before it takes the name of the one it replaces.

use core::cmp::Reverse;

use raft_core::{HardState, Index};

use super::batch::PAGE;
use super::error::{InFile, StorageError, create_fresh, open_found};
use super::frame::{Flaw, Owner, VERSION};
use super::read::{read_framed, read_lossy};
use super::record::{HardRecord, decode_hard_record, encode_hard_record};
use super::ring;
use crate::disk::Disk;

pub(super) const FILES: [&str; 2] = ["hs.a", "hs.b"];
/// One that is being made for a node that has lost its own.
const SCRATCH: &str = "hs.tmp";

/// How many pages of each file are the hard state's.
const PAGES: u32 = 3;
/// And how many bytes.
pub(super) const BYTES: u32 = PAGES * PAGE;
/// How long each file is, with the ring behind them.
pub(super) const FILE_BYTES: u64 = (BYTES + ring::BYTES) as u64;
/// The page that is empty unless a start was cut short.
const SPARE: u32 = 2;

/// The two files, and what they say.
#[derive(Debug)]
pub(super) struct HardStateFiles<F> {
    owner: Owner,
    files: [F; 2],
    record: HardRecord,
    /// The spare pages hold something, as far as this process knows.
    has_spares: bool,
}

/// Where a copy stands: a page of one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    file: u32,
    page: u32,
}

impl Place {
    fn name(self) -> &'static str {
        FILES[self.file as usize]
    }

    fn offset(self) -> u64 {
        u64::from(self.page * PAGE)
    }

    /// What a record says about where it belongs.
    fn slot(self) -> u32 {
        PAGES * self.file + self.page
    }
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
    pub(super) fn format<D: Disk<File = F>>(
        disk: &mut D,
        owner: Owner,
    ) -> Result<(), StorageError> {
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
            files.push(create_fresh(disk, name, FILE_BYTES)?);
        }
        let files = files.try_into().ok().expect("one file for each of two names");
        Self { owner, files, record, has_spares: false }.put(disk)
    }

    /// Reads the newest generation.
    ///
    /// # Errors
    /// [`StorageError::Amnesia`]: a missing file, two copies that contradict each other, or no copy
    /// at all. A slot of a later version. A generation of which only a part was written is none of
    /// these.
    pub(super) fn open<D: Disk<File = F>>(
        disk: &mut D,
        owner: Owner,
    ) -> Result<Self, StorageError> {
        let mut found: Vec<HardRecord> = Vec::with_capacity(6);
        let mut files = Vec::with_capacity(2);
        for number in 0..2 {
            let name = FILES[number as usize];
            let Some(file) = open_found(disk, name)? else {
                return Err(StorageError::amnesia(name, "it is missing"));
            };
            found.extend(read_copies(disk, owner, &file, number)?);
            files.push(file);
        }
        let record = newest(&found)?;
        let files = files.try_into().ok().expect("one file for each of two names");
        Ok(Self { owner, files, record, has_spares: true })
    }

    /// How many copies of a hard state can be read, of any generation.
    pub(super) fn copies<D: Disk<File = F>>(
        disk: &mut D,
        owner: Owner,
    ) -> Result<usize, StorageError> {
        let mut copies = 0;
        for number in 0..2 {
            if let Some(file) = open_found(disk, FILES[number as usize])? {
                copies += read_copies(disk, owner, &file, number)?.len();
            }
        }
        Ok(copies)
    }

    /// Makes a hard state for a node that has lost its own, in new files, durable on return. The
    /// ring of memberships goes along. `generation` is the highest that the log knows of.
    pub(super) fn replace<D: Disk<File = F>>(
        disk: &mut D,
        owner: Owner,
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
                let found = read_copies(disk, owner, &file, number)?;
                newest = found.into_iter().chain(newest).max_by_key(|record| record.generation);
                read_lossy(disk, &file, name, u64::from(BYTES), &mut ring)?;
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
            let file = create_fresh(disk, SCRATCH, FILE_BYTES)?;
            let place = Place { file: number, page: pair(generation) };
            let copy = encode_hard_record(&record, owner, place.slot(), 0);
            disk.write(&file, place.offset(), &copy).in_file(SCRATCH)?;
            disk.write(&file, u64::from(BYTES), &ring).in_file(SCRATCH)?;
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
        for place in self.places() {
            if self.turn(disk, place)?.is_none() {
                bad.push((place.file, place.name()));
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
        let [first, second] = self.places();
        let place = if number == 0 { first } else { second };
        self.put_copy(disk, place, 0)?;
        self.sync(disk, place)
    }

    /// The files, which the ring of memberships shares.
    pub(super) fn files(&self) -> &[F; 2] {
        &self.files
    }

    pub(super) fn record(&self) -> &HardRecord {
        &self.record
    }

    /// Makes the generation that was read durable, before the next one is written.
    ///
    /// If the disk has none of its copies, because a sync failed, then this generation was never
    /// promised, and the one before it, which was, is not touched.
    pub(super) fn settle<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), StorageError> {
        let spare = |file| Place { file, page: SPARE };
        let [first, second] = self.places();
        let places = [spare(0), spare(1), first, second];
        let mut turns = [None; PLACES];
        for (turn, place) in turns.iter_mut().zip(places) {
            *turn = self.turn(disk, place)?;
        }
        let newest = turns.into_iter().flatten().max().unwrap_or(0);
        for (turn, number) in (newest + 1..).zip(order(turns)) {
            self.put_copy(disk, places[number], turn)?;
            self.sync(disk, places[number])?;
        }
        Ok(())
    }

    /// The turn of a copy, if this place shows the present generation.
    fn turn<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        place: Place,
    ) -> Result<Option<u64>, StorageError> {
        let mut found = Vec::new();
        let (name, offset) = (place.name(), place.offset());
        read_framed(disk, self.file(place), name, offset, PAGE as usize, &mut found)?;
        let shown = decode_hard_record(&found, self.owner, place.slot()).ok();
        Ok(shown.filter(|(record, _)| *record == self.record).map(|(_, turn)| turn))
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
        // What is committed is not forgotten. But a node in doubt goes on from the log that it has: that
        // something is missing its state says, and once the doubt is over it must not be missed again.
        let is_in_doubt = state.is_tail_unknown || self.record.state.is_tail_unknown;
        let commit = if is_in_doubt { commit } else { commit.max(self.record.commit) };
        self.record = HardRecord { generation, parent, state, log_through, commit, log_epoch };
        self.put(disk)
    }

    fn put<D: Disk<File = F>>(&mut self, disk: &mut D) -> Result<(), StorageError> {
        for place in self.places() {
            self.put_copy(disk, place, 0)?;
            if self.has_spares {
                let spare = Place { page: SPARE, ..place };
                let empty = vec![0; self.encode_copy(spare, 0).len()];
                disk.write(self.file(spare), spare.offset(), &empty).in_file(spare.name())?;
            }
        }
        self.has_spares = false;
        self.places().into_iter().try_for_each(|place| self.sync(disk, place))
    }

    fn put_copy<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        place: Place,
        turn: u64,
    ) -> Result<(), StorageError> {
        let copy = self.encode_copy(place, turn);
        disk.write(self.file(place), place.offset(), &copy).in_file(place.name())
    }

    fn sync<D: Disk<File = F>>(&self, disk: &mut D, place: Place) -> Result<(), StorageError> {
        disk.sync(self.file(place)).in_file(place.name())
    }

    fn encode_copy(&self, place: Place, turn: u64) -> Vec<u8> {
        encode_hard_record(&self.record, self.owner, place.slot(), turn)
    }

    fn file(&self, place: Place) -> &F {
        &self.files[place.file as usize]
    }

    /// Where the present generation stands.
    fn places(&self) -> [Place; 2] {
        [0, 1].map(|file| Place { file, page: pair(self.record.generation) })
    }
}

/// The page of this generation in both files.
fn pair(generation: u64) -> u32 {
    u32::from(generation % 2 == 1)
}

/// How many places there are at a start for the generation that it has read.
const PLACES: usize = 4;

/// In which order a start writes its places, given the turns of those that show the generation: the
/// others first, then the newest turn first.
fn order(turns: [Option<u64>; PLACES]) -> [usize; PLACES] {
    let mut order = [0, 1, 2, 3];
    order.sort_by_key(|&place| turns[place].map(Reverse));
    order
}

/// The copies in one file, as far as they can be read.
fn read_copies<D: Disk>(
    disk: &mut D,
    owner: Owner,
    file: &D::File,
    number: u32,
) -> Result<Vec<HardRecord>, StorageError> {
    let mut found = Vec::with_capacity(PAGES as usize);
    let mut bytes = Vec::new();
    for place in (0..PAGES).map(|page| Place { file: number, page }) {
        read_framed(disk, file, place.name(), place.offset(), PAGE as usize, &mut bytes)?;
        let belongs = |generation| [SPARE, pair(generation)].contains(&place.page);
        match decode_hard_record(&bytes, owner, place.slot()) {
            Ok((record, _)) if belongs(record.generation) => found.push(record),
            Ok(_) | Err(Flaw::Zero | Flaw::Bad) => {}
            Err(Flaw::Newer(version)) => return Err(newer(place.name(), version)),
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

#[cfg(test)]
mod tests;
