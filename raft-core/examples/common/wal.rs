//! The persist stream in one file, appended and synced: enough for a host to lose nothing in a
//! crash. Shared by the examples that have a disk.
//!
//! ```text
//! | length 4B LE | XXH3-64 of the record 8B LE | record: one PersistBatch |  ...
//! ```
//!
//! One record holds one batch, so a torn write loses a batch whole, and everything after it: a
//! beginning of the stream is left, which is what the contract of [`PersistBatch`] asks for. When the
//! log is compacted, a new file takes the place of the old one: one record with what is left.
//!
//! Deliberately absent: the bytes of snapshots (`snapshots.rs`), and telling the torn tail of a crash
//! from damage to what was synced long ago. A store for production must tell, because cutting off the
//! second kind forgets promises that others rely on. It also has many files, so that a compaction
//! removes some instead of writing everything again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Body, Entries, EntryId, Index, LoadRequest, Membership, Payload, PersistBatch, RecoveredState,
    Slot, wire,
};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

const FRAME_HEAD: usize = 4 + 8;

/// What a node asks of its disk.
#[derive(Debug)]
pub(crate) enum Work {
    Persist(PersistBatch),
    Load(LoadRequest),
}

/// The file, open for appending, and where each entry of the log lies in it.
#[derive(Debug)]
pub(crate) struct Wal {
    path: PathBuf,
    file: File,
    end: u64,
    /// The frame that has each entry of the log, appended or healed; what was truncated later is in the
    /// file still, but not here.
    frames: BTreeMap<Index, (EntryId, u64)>,
    /// What a new file begins with: the newest hard state, the newest snapshot that was installed, and
    /// the entry before the first one.
    hard_state: Option<Vec<u8>>,
    install: Option<Vec<u8>>,
    before: EntryId,
}

/// A batch as it is written. The parts that are protocol state have encodings in the crate.
#[derive(Serialize, Deserialize)]
struct Record {
    hard_state: Option<Vec<u8>>,
    install: Option<Vec<u8>>,
    truncate_from: Option<Index>,
    heal: Vec<RecordedEntry>,
    append: Vec<RecordedEntry>,
    compact_to: Option<Index>,
    /// Only in the first record of a compacted file: its log begins after this entry, which a snapshot
    /// covers that the host has taken.
    before: Option<EntryId>,
}

/// An entry's identity, the kind of its payload, and the payload.
type RecordedEntry = (EntryId, u8, Vec<u8>);

impl Wal {
    /// Opens the file and says what a node may start from; a new one is founded with `founders`.
    ///
    /// # Errors
    /// Whatever the file system reports, and `InvalidData` for a record that is intact but wrong.
    pub(crate) fn open(path: &Path, founders: Membership) -> io::Result<(Self, RecoveredState)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        sync_folder_of(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut found = RecoveredState::genesis(founders);
        let mut wal = Self {
            path: path.to_owned(),
            file,
            end: 0,
            frames: BTreeMap::new(),
            hard_state: None,
            install: None,
            before: found.before,
        };
        while let Some(record) = intact_record(&bytes[usize::try_from(wal.end).map_err(invalid)?..])
        {
            let at = wal.end;
            wal.end += (FRAME_HEAD + record.len()) as u64;
            let record: Record = postcard::from_bytes(record).map_err(invalid)?;
            wal.note(at, &record)?;
            replay(&mut found, record)?;
        }
        // What a crash has torn must be gone before anything is written after it.
        wal.file.set_len(wal.end)?;
        wal.file.sync_all()?;
        Ok((wal, found))
    }

    /// Does what has queued up and returns the completions. Batches are written in their order and
    /// synced once: a group commit.
    ///
    /// # Errors
    /// Whatever the file system reports. What the file holds is unknown then: the caller says
    /// `PersistFailed` and asks for nothing more. (A second sync may succeed although the pages of
    /// the first are gone.)
    pub(crate) fn work(&mut self, queue: impl IntoIterator<Item = Work>) -> io::Result<Vec<Body>> {
        let (mut frames, mut persisted, mut loads) = (Vec::new(), None, Vec::new());
        let mut is_compacted = false;
        for work in queue {
            match work {
                Work::Persist(batch) => {
                    let record = Record::of(&batch);
                    self.note(self.end, &record)?;
                    is_compacted |= record.compact_to.is_some();
                    let frame = record.frame()?;
                    self.end += frame.len() as u64;
                    frames.extend_from_slice(&frame);
                    persisted = Some(Body::Persisted { seq: batch.seq });
                }
                Work::Load(request) => loads.push(request),
            }
        }
        if persisted.is_some() {
            self.file.write_all(&frames)?;
            self.file.sync_data()?;
        }
        if is_compacted {
            self.rewrite()?;
        }
        // What cannot be read now may be read later: that is not a reason to halt.
        let loaded = loads.into_iter().map(|request| {
            let entries = self.load(&request).ok().filter(|entries| !entries.is_empty());
            Body::Loaded { request, entries }
        });
        Ok(persisted.into_iter().chain(loaded).collect())
    }

    /// The entries asked for, or the first of them. The core compares their chain with its own.
    fn load(&self, request: &LoadRequest) -> io::Result<Entries> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut next = request.after.index.next();
        'frames: while let Some(&(_, at)) = self.frames.get(&next) {
            for (id, kind, payload) in self.read(at)?.entries() {
                // A frame may have entries before what is wanted, and others that a later frame has.
                if id.index != next || !self.is_in(id, at) {
                    continue;
                }
                bytes += payload.len();
                let is_full = bytes > request.bytes_max && !items.is_empty();
                if is_full || id.index > request.through {
                    break 'frames;
                }
                let payload = wire::decode_payload(kind, Bytes::from(payload)).map_err(invalid)?;
                items.push((id.term, payload));
                next = id.index.next();
            }
        }
        Ok(Entries::after(request.after, items))
    }

    /// Whether this entry is in the log, and the frame at `at` has it.
    fn is_in(&self, id: EntryId, at: u64) -> bool {
        self.frames.get(&id.index) == Some(&(id, at))
    }

    fn read(&self, at: u64) -> io::Result<Record> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; FRAME_HEAD];
        file.read_exact(&mut head)?;
        let mut frame = head.to_vec();
        file.take(u64::from(length_in(&head))).read_to_end(&mut frame)?;
        let record = intact_record(&frame).ok_or(io::ErrorKind::InvalidData)?;
        postcard::from_bytes(record).map_err(invalid)
    }

    /// Writes what is left of the log to a new file, which takes the place of this one at once.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut left = BTreeMap::new();
        // Each frame is read once, however many entries of it are left.
        for at in self.frames.values().map(|(_, at)| *at).collect::<BTreeSet<u64>>() {
            let there = self.read(at)?.entries().filter(|(id, ..)| self.is_in(*id, at));
            left.extend(there.map(|entry| (entry.0.index, entry)));
        }
        let record = Record {
            hard_state: self.hard_state.clone(),
            install: self.install.clone(),
            truncate_from: None,
            heal: Vec::new(),
            append: left.into_values().collect(),
            compact_to: None,
            before: Some(self.before),
        };
        replace(&self.path, &record.frame()?)?;
        self.file = OpenOptions::new().read(true).append(true).open(&self.path)?;
        self.end = self.file.metadata()?.len();
        self.frames.values_mut().for_each(|(_, at)| *at = 0);
        Ok(())
    }

    /// Keeps where the entries lie as a batch changes the log.
    fn note(&mut self, at: u64, record: &Record) -> io::Result<()> {
        self.hard_state = record.hard_state.clone().or_else(|| self.hard_state.take());
        if let Some(install) = &record.install {
            let last = wire::decode_snapshot_meta(install).map_err(invalid)?.last;
            let at_last = self.frames.get(&last.index);
            let is_on_log = self.before == last || at_last.is_some_and(|(id, _)| *id == last);
            let rest = self.frames.split_off(&last.index.next());
            self.frames = if is_on_log { rest } else { BTreeMap::new() };
            (self.install, self.before) = (Some(install.clone()), last);
        }
        self.before = record.before.unwrap_or(self.before);
        if let Some(from) = record.truncate_from {
            self.frames.split_off(&from);
        }
        for (healed, ..) in &record.heal {
            if let Some((id, frame)) = self.frames.get_mut(&healed.index)
                && id == healed
            {
                *frame = at;
            }
        }
        self.frames.extend(record.append.iter().map(|(id, ..)| (id.index, (*id, at))));
        if let Some(through) = record.compact_to {
            self.before = self.frames.get(&through).map_or(self.before, |(id, _)| *id);
            self.frames = self.frames.split_off(&through.next());
        }
        Ok(())
    }
}

/// A file takes the place of another, or of none, all or nothing.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder_of(path)
}

/// The name of a new file is durable only once its directory is.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map(File::open).transpose()?.map_or(Ok(()), |folder| folder.sync_all())
}

impl Record {
    fn of(batch: &PersistBatch) -> Self {
        let entry = |entry: &raft_core::Entry| {
            let (kind, payload) = wire::encode_payload(entry.payload());
            (entry.id(), kind, payload.to_vec())
        };
        Self {
            hard_state: batch.hard_state.as_ref().map(|it| wire::encode_hard_state(it).to_vec()),
            install: batch.install.as_ref().map(|it| wire::encode_snapshot_meta(it).to_vec()),
            truncate_from: batch.truncate_from,
            heal: batch.heal.iter().flat_map(|run| run.iter()).map(entry).collect(),
            append: batch.append.iter().map(entry).collect(),
            compact_to: batch.compact_to,
            before: None,
        }
    }

    /// The entries that it has, healed or appended.
    fn entries(self) -> impl Iterator<Item = RecordedEntry> {
        self.heal.into_iter().chain(self.append)
    }

    fn frame(&self) -> io::Result<Vec<u8>> {
        framed(&postcard::to_allocvec(self).map_err(invalid)?)
    }
}

/// A record with its length and its checksum.
pub(crate) fn framed(record: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(record.len()).map_err(invalid)?;
    Ok([&length.to_le_bytes()[..], &XxHash3_64::oneshot(record).to_le_bytes(), record].concat())
}

/// Commands stay where they are: the core asks for those that it needs.
fn slot(id: EntryId, kind: u8, payload: Vec<u8>) -> io::Result<Slot> {
    Ok(match wire::decode_payload(kind, Bytes::from(payload)).map_err(invalid)? {
        Payload::Command(command) => Slot::Cold { id, bytes: command.len() },
        payload @ (Payload::Noop | Payload::Membership(_)) => Slot::Resident { id, payload },
    })
}

/// The fields of a batch take effect in the order in which they stand in it.
fn replay(found: &mut RecoveredState, record: Record) -> io::Result<()> {
    if let Some(bytes) = record.hard_state {
        found.hard_state = wire::decode_hard_state(&bytes).map_err(invalid)?;
    }
    if let Some(bytes) = record.install {
        found.snapshot = Arc::new(wire::decode_snapshot_meta(&bytes).map_err(invalid)?);
        let last = found.snapshot.last;
        let is_on_log = found.before == last || found.slots.iter().any(|slot| slot.id() == last);
        found.slots.retain(|slot| is_on_log && slot.id().index > last.index);
        found.before = last;
        found.founding = false;
    }
    found.before = record.before.unwrap_or(found.before);
    if let Some(from) = record.truncate_from {
        found.slots.retain(|slot| slot.id().index < from);
    }
    for (id, kind, payload) in record.heal {
        let healed = slot(id, kind, payload)?;
        if let Some(damaged) = found.slots.iter_mut().find(|slot| slot.id() == id) {
            *damaged = healed;
        }
    }
    for (id, kind, payload) in record.append {
        found.slots.push(slot(id, kind, payload)?);
    }
    if let Some(through) = record.compact_to {
        let last = found.slots.iter().map(Slot::id).filter(|id| id.index <= through).last();
        found.before = last.unwrap_or(found.before);
        found.slots.retain(|slot| slot.id().index > through);
    }
    Ok(())
}

/// The record of the frame at the beginning, if it is whole.
pub(crate) fn intact_record(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD>()?;
    let record = rest.get(..usize::try_from(length_in(head)).ok()?)?;
    (head[4..] == XxHash3_64::oneshot(record).to_le_bytes()).then_some(record)
}

fn length_in(head: &[u8; FRAME_HEAD]) -> u32 {
    u32::from_le_bytes([head[0], head[1], head[2], head[3]])
}

pub(crate) fn invalid<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
