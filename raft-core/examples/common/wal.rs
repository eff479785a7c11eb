//! The persist stream in one file, appended and synced: enough for a host to lose nothing in a
//! crash. Shared by the examples that have a disk.
//!
//! ```text
//! | length 4B LE | XXH3-64 of the record 8B LE | record: one PersistBatch |  ...
//! ```
//!
//! One record holds one batch, so a torn write loses a batch whole, and everything after it: a
//! beginning of the stream is left, which is what the contract of [`PersistBatch`] asks for.
//!
//! Deliberately absent: snapshots (the file only grows), and telling the torn tail of a crash from
//! damage to what was synced long ago. A store for production must tell, because cutting off the
//! second kind forgets promises that others rely on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use raft_core::{EntryId, Index, Membership, PersistBatch, PersistSeq, RecoveredState, Slot, wire};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const FRAME_HEAD: usize = 4 + 8;

/// The file, open for appending.
#[derive(Debug)]
pub(crate) struct Wal {
    file: File,
}

/// A batch as it is written. The parts that are protocol state have encodings in the crate.
#[derive(Serialize, Deserialize)]
struct Record {
    hard_state: Option<Vec<u8>>,
    install: Option<Vec<u8>>,
    truncate_from: Option<Index>,
    append: Vec<(EntryId, u8, Vec<u8>)>,
    compact_to: Option<Index>,
}

impl Wal {
    /// Opens the file and says what a node may start from; a new one is founded with `founders`.
    ///
    /// # Errors
    /// Whatever the file system reports, and `InvalidData` for a record that is intact but wrong.
    pub(crate) fn open(path: &Path, founders: Membership) -> io::Result<(Self, RecoveredState)> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // The name of a new file is durable only once its directory is.
        path.parent().map(File::open).transpose()?.map_or(Ok(()), |folder| folder.sync_all())?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut found = RecoveredState::genesis(founders);
        let mut rest = &bytes[..];
        while let Some((record, after)) = next_record(rest) {
            replay(&mut found, postcard::from_bytes(record).map_err(invalid)?)?;
            rest = after;
        }
        // What a crash has torn must be gone before anything is written after it.
        let end = (bytes.len() - rest.len()) as u64;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.sync_all()?;
        Ok((Self { file }, found))
    }

    /// Writes batches in their order and syncs once: a group commit. Returns the last one's number.
    ///
    /// # Errors
    /// Whatever the file system reports. What the file holds is unknown then: the caller says
    /// `PersistFailed` and writes nothing more.
    pub(crate) fn write(
        &mut self,
        first: &PersistBatch,
        more: impl Iterator<Item = PersistBatch>,
    ) -> io::Result<PersistSeq> {
        let mut frames = frame(first)?;
        let mut last = first.seq;
        for batch in more {
            frames.extend_from_slice(&frame(&batch)?);
            last = batch.seq;
        }
        self.file.write_all(&frames)?;
        self.file.sync_data()?;
        Ok(last)
    }
}

fn frame(batch: &PersistBatch) -> io::Result<Vec<u8>> {
    let record = postcard::to_allocvec(&Record::of(batch)).map_err(invalid)?;
    let length = u32::try_from(record.len()).map_err(invalid)?;
    Ok([&length.to_le_bytes()[..], &xxh3_64(&record).to_le_bytes(), &record].concat())
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
            append: batch.append.iter().map(entry).collect(),
            compact_to: batch.compact_to,
        }
    }
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
    if let Some(from) = record.truncate_from {
        found.slots.retain(|slot| slot.id().index < from);
    }
    for (id, kind, payload) in record.append {
        let payload = wire::decode_payload(kind, Bytes::from(payload)).map_err(invalid)?;
        found.slots.push(Slot::Resident { id, payload });
    }
    if let Some(through) = record.compact_to {
        let last = found.slots.iter().map(Slot::id).filter(|id| id.index <= through).last();
        found.before = last.unwrap_or(found.before);
        found.slots.retain(|slot| slot.id().index > through);
    }
    Ok(())
}

/// The record at the beginning and what follows it; `None` where the intact ones end.
fn next_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(FRAME_HEAD)?;
    let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes"));
    let (record, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let is_intact = head[4..] == xxh3_64(record).to_le_bytes();
    is_intact.then_some((record, rest))
}

fn invalid<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
