//! Healed entries: payloads that the log has lost and a peer has given back.
//!
//! A healed entry has the place in the log that it always had: its identity there never went away.
//! Its payload goes to another file, `wal/heal-<number>.wal`, as a batch of its own:
//! ```text
//! | batch | gap to the next page | batch | ...        zeros: nothing has been written yet
//! ```
//! To write it over its old place would put its neighbours at risk, which share sectors with it and
//! were acknowledged. A crash while it is being written leaves the hole as it was, or the healed
//! entry: each is believed only if it makes the identity that the log has there. When the log lets go
//! of all entries of a file, the file goes.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::{EntryId, Index, Payload};

use super::batch::{
    BATCH_HEADER, BatchHeader, BatchWriter, ENTRY_HEADER, EntryHead, Home, PAGE, Place,
    entry_bytes, read_payload,
};
use super::error::{InFile, StorageError, create_fresh, known};
use super::frame::Owner;
use super::read::{InWindow, Window, read_lossy};
use super::segment::{DIR, SegmentName, number, round_up};
use crate::disk::Disk;

/// A file that is being made.
pub(super) const SCRATCH: &str = "wal/heal.tmp";
/// Sets the epochs of these files apart from those of segments.
const EPOCH: u64 = 1 << 63;
/// The most payload bytes in a batch of more than one entry.
const BATCH_BYTES: u64 = 256 << 10;
/// The least length of a file: the next batches have room too.
const FILE_BYTES: u32 = 256 << 10;
/// Offsets in a file are below this.
const FILE_BYTES_LIMIT: u64 = 1 << 31;

/// Where a healed payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HealPlace {
    /// The number of the file.
    pub(super) file: u64,
    offset: u32,
    len: u32,
    kind: u8,
}

/// An entry that a file says it has.
#[derive(Clone, Copy, Debug)]
struct Noted {
    id: EntryId,
    place: HealPlace,
    /// The segment in which the entry has its place.
    segment: SegmentName,
}

/// An entry to be kept apart, and the segment in which it has its place.
pub(super) type Apart<'p> = (EntryId, SegmentName, &'p Payload);

/// The healed entries that were found.
#[derive(Debug, Default)]
pub(super) struct Heals {
    places: BTreeMap<Index, Vec<Noted>>,
    pub(super) files: BTreeSet<u64>,
    /// Whether a file was being made.
    pub(super) scratch: bool,
}

/// The healed entries of a running log.
#[derive(Debug)]
pub(super) struct HealLog<F> {
    owner: Owner,
    places: BTreeMap<Index, HealPlace>,
    files: BTreeSet<u64>,
    active: Option<HealFile<F>>,
    writer: BatchWriter,
}

/// A file that takes batches.
#[derive(Debug)]
struct HealFile<F> {
    number: u64,
    file: F,
    next_offset: u32,
    file_bytes: u32,
}

pub(super) fn path(number: u64) -> String {
    format!("{DIR}/heal-{number}.wal")
}

fn parse(name: &str) -> Option<u64> {
    let number = number(name.strip_prefix("heal-")?.strip_suffix(".wal")?)?;
    (number < EPOCH / 2).then_some(number)
}

fn place(owner: Owner, number: u64, offset: u32) -> Place {
    let home = Home { owner, epoch: EPOCH | number };
    Place { home, batch: offset / PAGE + 1, offset }
}

impl Heals {
    /// Notes what the files say that they hold.
    pub(super) fn read<D: Disk>(
        disk: &mut D,
        owner: Owner,
        listed: &[String],
    ) -> Result<Self, StorageError> {
        let mut found = Self::default();
        for name in listed {
            found.scratch |= SCRATCH.strip_prefix("wal/") == Some(name);
            if let Some(number) = parse(name) {
                found.files.insert(number);
            }
        }
        for number in found.files.clone() {
            found.read_file(disk, owner, number)?;
        }
        Ok(found)
    }

    fn read_file<D: Disk>(
        &mut self,
        disk: &mut D,
        owner: Owner,
        number: u64,
    ) -> Result<(), StorageError> {
        let path = path(number);
        let file = disk.open(&path).in_file(&path)?;
        let length = disk.len(&file).in_file(&path)?.min(FILE_BYTES_LIMIT - 1);
        let mut window = Window::default();
        let mut at = 0u32;
        while u64::from(at) < length {
            let begin = place(owner, number, at);
            let whole = InWindow { file: &file, path: &path, file_bytes: length };
            let bytes = window.peek(disk, whole, u64::from(at), BATCH_HEADER as usize)?;
            at += PAGE;
            let found = BatchHeader::decode(bytes, begin);
            let Some(header) = known(found, &path)? else { continue };
            let segment = SegmentName { epoch: header.generation, first: header.commit };
            let (mut offset, mut index) = (begin.offset + BATCH_HEADER, header.first);
            for _ in 0..header.entries {
                let here = Place { offset, ..begin };
                let bytes = window.peek(disk, whole, u64::from(offset), ENTRY_HEADER as usize)?;
                let Some(head) = EntryHead::decode(bytes, here, index) else { break };
                let EntryHead { id, len, kind } = head;
                let place = HealPlace { file: number, offset, len, kind };
                let noted = Noted { id, place, segment };
                self.places.entry(index).or_default().push(noted);
                offset = offset.saturating_add(ENTRY_HEADER).saturating_add(len);
                index = index.next();
            }
        }
        Ok(())
    }

    /// The healed payload of the entry `id`, which follows `before`.
    pub(super) fn find<D: Disk>(
        &self,
        disk: &mut D,
        id: EntryId,
        before: EntryId,
    ) -> Result<Option<(Payload, HealPlace)>, StorageError> {
        let noted = self.places.get(&id.index).into_iter().flatten();
        for Noted { place, .. } in noted.filter(|noted| noted.id == id) {
            if let Some(payload) = place.read(disk, id, before)? {
                return Ok(Some((payload, *place)));
            }
        }
        Ok(None)
    }

    /// Who the entry after `before` is, in this segment, if it has been healed there and nothing else can
    /// tell. Of an entry that was healed elsewhere nothing is said here: another one may have taken its place
    /// since, or the file in which it was has been lost, and with it what came after, which must be noticed.
    pub(super) fn identify<D: Disk>(
        &self,
        disk: &mut D,
        before: EntryId,
        segment: SegmentName,
    ) -> Result<Option<Identified>, StorageError> {
        let noted = self.places.get(&before.index.next()).into_iter().flatten();
        for Noted { id, place, .. } in noted.filter(|noted| noted.segment == segment) {
            if let Some(payload) = place.read(disk, *id, before)? {
                return Ok(Some(Identified { id: *id, payload, place: *place }));
            }
        }
        Ok(None)
    }
}

/// An entry that its healed copy alone can name.
#[derive(Clone, Debug)]
pub(super) struct Identified {
    pub(super) id: EntryId,
    pub(super) payload: Payload,
    pub(super) place: HealPlace,
}

impl HealPlace {
    /// The length and the kind of the payload.
    pub(super) fn shape(self) -> (u32, u8) {
        (self.len, self.kind)
    }

    /// The payload, if it is intact.
    pub(super) fn read<D: Disk>(
        self,
        disk: &mut D,
        id: EntryId,
        before: EntryId,
    ) -> Result<Option<Payload>, StorageError> {
        let path = path(self.file);
        let file = disk.open(&path).in_file(&path)?;
        let offset = u64::from(self.offset) + u64::from(ENTRY_HEADER);
        if offset + u64::from(self.len) > disk.len(&file).in_file(&path)? {
            return Ok(None);
        }
        let mut bytes = vec![0; self.len as usize];
        read_lossy(disk, &file, &path, offset, &mut bytes)?;
        Ok(read_payload(bytes.into(), self.kind, id, before))
    }
}

impl<F> HealLog<F> {
    /// Goes on after what was found; `places` says which of it is in use.
    pub(super) fn new(
        owner: Owner,
        files: BTreeSet<u64>,
        places: BTreeMap<Index, HealPlace>,
    ) -> Self {
        Self { owner, places, files, active: None, writer: BatchWriter::default() }
    }

    /// Where the entry at `index` has been healed.
    pub(super) fn place(&self, index: Index) -> Option<HealPlace> {
        self.places.get(&index).copied()
    }

    /// What a start would find in the files.
    pub(super) fn read_again<D: Disk<File = F>>(
        &self,
        disk: &mut D,
    ) -> Result<Heals, StorageError> {
        let mut found = Heals::default();
        for number in &self.files {
            found.read_file(disk, self.owner, *number)?;
        }
        Ok(found)
    }

    /// The entries that are in use of the newest file, which an earlier process may have left
    /// unsynced.
    pub(super) fn newest(&self) -> Vec<(Index, HealPlace)> {
        let Some(newest) = self.files.last() else { return Vec::new() };
        let of_newest = |(_, place): &(&Index, &HealPlace)| place.file == *newest;
        let places = self.places.iter().filter(of_newest);
        places.map(|(index, place)| (*index, *place)).collect()
    }

    /// Writes payloads, in ascending order of their indices, durable on return.
    pub(super) fn write<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        entries: &[Apart<'_>],
    ) -> Result<(), StorageError> {
        let groups = groups(entries);
        if groups.is_empty() {
            return Ok(());
        }
        let bytes = |group: &&[Apart<'_>]| -> u64 {
            let entries = group.iter().map(|(.., payload)| entry_bytes(payload)).sum::<u64>();
            (u64::from(BATCH_HEADER) + entries).next_multiple_of(u64::from(PAGE))
        };
        let need = groups.iter().map(bytes).sum::<u64>();
        let room = |file: &HealFile<F>| u64::from(file.file_bytes - file.next_offset);
        let fresh = self.active.as_ref().is_none_or(|file| room(file) < need);
        if fresh {
            self.active = Some(self.begin(disk, need)?);
        }
        let owner = self.owner;
        let active = self.active.as_mut().expect("just made if there was none");
        let path = if fresh { SCRATCH.to_owned() } else { path(active.number) };
        for group in groups {
            active.put(disk, (owner, &path), group, &mut self.writer, &mut self.places)?;
        }
        disk.sync(&active.file).in_file(&path)?;
        if fresh {
            disk.rename(SCRATCH, &self::path(active.number)).in_file(SCRATCH)?;
            disk.sync_dir(DIR).in_file(DIR)?;
            self.files.insert(active.number);
        }
        Ok(())
    }

    fn begin<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        need: u64,
    ) -> Result<HealFile<F>, StorageError> {
        let file_bytes = need.max(u64::from(FILE_BYTES));
        let limit = |bytes: &u64| *bytes < FILE_BYTES_LIMIT;
        let Some(file_bytes) =
            Some(file_bytes).filter(limit).and_then(|bytes| u32::try_from(bytes).ok())
        else {
            return Err(StorageError::Options { what: "healed entries must stay below 2 GiB" });
        };
        let number = self.files.last().map_or(1, |last| last + 1);
        let file = create_fresh(disk, SCRATCH, u64::from(file_bytes))?;
        Ok(HealFile { number, file, next_offset: 0, file_bytes })
    }

    /// What the log no longer has is forgotten: all before `from`, or not before `to`.
    pub(super) fn keep(&mut self, from: Index, to: Index) {
        self.places.retain(|index, _| from <= *index && *index < to);
    }

    /// Removes the files of which nothing is in use; how many there were.
    pub(super) fn sweep<D: Disk>(&mut self, disk: &mut D) -> Result<usize, StorageError> {
        let used: BTreeSet<u64> = self.places.values().map(|place| place.file).collect();
        let active = self.active.as_ref().map(|file| file.number);
        let unused = |number: &&u64| !used.contains(number) && Some(**number) != active;
        let unused: Vec<u64> = self.files.iter().filter(unused).copied().collect();
        for number in &unused {
            let path = path(*number);
            disk.remove(&path).in_file(&path)?;
            self.files.remove(number);
        }
        Ok(unused.len())
    }
}

impl<F> HealFile<F> {
    fn put<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        (owner, path): (Owner, &str),
        group: &[Apart<'_>],
        writer: &mut BatchWriter,
        places: &mut BTreeMap<Index, HealPlace>,
    ) -> Result<(), StorageError> {
        let place = place(owner, self.number, self.next_offset);
        writer.begin();
        for (id, _, payload) in group {
            let fits = writer.push(place, *id, payload, self.file_bytes - self.next_offset);
            assert!(fits, "the file was made for this batch");
        }
        let before = EntryId { index: group[0].0.index.prev(), ..EntryId::default() };
        // Where the batch of a segment says how far the log had got, this one names the segment.
        let segment = group[0].1;
        writer.finish(place, before, segment.first, segment.epoch);
        disk.write(&self.file, u64::from(self.next_offset), &writer.data).in_file(path)?;
        for slot in writer.slots() {
            let (offset, len, kind) = (slot.offset, slot.len, slot.kind);
            places.insert(slot.id.index, HealPlace { file: self.number, offset, len, kind });
        }
        let length = u32::try_from(writer.data.len()).expect("a batch fits in its file");
        self.next_offset = round_up(self.next_offset + length);
        Ok(())
    }
}

/// How long a file is, at most, that holds entries of these lengths and nothing else.
pub(super) fn file_bytes(entries: impl Iterator<Item = u64>) -> u64 {
    let page = u64::from(PAGE);
    let alone = |bytes: u64| u64::from(BATCH_HEADER + ENTRY_HEADER) + bytes;
    let bytes: u64 = entries.map(|bytes| alone(bytes).next_multiple_of(page)).sum();
    if bytes == 0 { 0 } else { bytes.max(u64::from(FILE_BYTES)) }
}

/// Cuts entries into runs of one segment that follow each other and are not too long.
fn groups<'a, 'p>(mut entries: &'a [Apart<'p>]) -> Vec<&'a [Apart<'p>]> {
    let mut groups = Vec::new();
    while let Some((first, of, payload)) = entries.first() {
        let (mut count, mut bytes) = (1, entry_bytes(payload));
        for (id, segment, payload) in &entries[1..] {
            bytes += entry_bytes(payload);
            let follows = id.index.0 == first.index.0 + count as u64 && segment == of;
            if !follows || bytes > BATCH_BYTES {
                break;
            }
            count += 1;
        }
        let (group, rest) = entries.split_at(count);
        groups.push(group);
        entries = rest;
    }
    groups
}
