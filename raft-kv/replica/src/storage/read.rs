//! Reads that give back as much as the disk does.
//!
//! A sector that the disk cannot read is bytes that fail their checksum, no more: everything that
//! storage reads is checked anyway. So it is read as zeros, sector by sector where a longer read
//! fails. A disk that fails as a whole is an error.

use core::ops::Range;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::error::StorageError;
use super::frame::framed_bytes;
use crate::disk::{Disk, DiskError};

/// What is read again alone when a longer read fails.
const SECTOR: usize = 512;
/// Most framed records are no longer.
const RECORD: usize = 256;
/// How many parts are remembered that somebody still shares: as much as a start keeps in memory.
const EARLIER_MAX: usize = 128;

/// Fills `buffer` from `offset`; what cannot be read, or lies behind the end of the file, is zero.
pub(super) fn read_lossy<D: Disk>(
    disk: &mut D,
    file: &D::File,
    path: &str,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), StorageError> {
    read_noting(disk, file, path, offset, buffer, &mut Vec::new())
}

/// The same; where the sectors are that cannot be read, or that the file does not have, goes to `bad`.
fn read_noting<D: Disk>(
    disk: &mut D,
    file: &D::File,
    path: &str,
    offset: u64,
    buffer: &mut [u8],
    bad: &mut Vec<u64>,
) -> Result<(), StorageError> {
    if attempt(disk, file, path, offset, buffer)? {
        return Ok(());
    }
    let first = SECTOR - usize::try_from(offset % SECTOR as u64).expect("less than a sector");
    let (mut at, mut end) = (0, first.min(buffer.len()));
    while at < end {
        if !attempt(disk, file, path, offset + at as u64, &mut buffer[at..end])? {
            bad.push(offset + at as u64);
            buffer[at..end].fill(0);
            salvage(disk, file, path, offset + at as u64, &mut buffer[at..end])?;
        }
        (at, end) = (end, (end + SECTOR).min(buffer.len()));
    }
    Ok(())
}

/// Reads the framed record at `offset`, which has at most `space` bytes: the rest of its place is not
/// looked at.
pub(super) fn read_framed<D: Disk>(
    disk: &mut D,
    file: &D::File,
    path: &str,
    offset: u64,
    space: usize,
    record: &mut Vec<u8>,
) -> Result<(), StorageError> {
    record.resize(RECORD.min(space), 0);
    read_lossy(disk, file, path, offset, record)?;
    let (first, whole) = (record.len(), framed_bytes(record).min(space));
    if whole > first {
        record.resize(whole, 0);
        read_lossy(disk, file, path, offset + first as u64, &mut record[first..])?;
    }
    Ok(())
}

/// The file may end within the sector.
fn salvage<D: Disk>(
    disk: &mut D,
    file: &D::File,
    path: &str,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), StorageError> {
    let failed = |error| StorageError::Disk { file: path.to_owned(), error };
    let left = disk.len(file).map_err(failed)?.saturating_sub(offset);
    let Ok(left) = usize::try_from(left) else { return Ok(()) };
    if left > 0 && left < buffer.len() && !attempt(disk, file, path, offset, &mut buffer[..left])? {
        buffer[..left].fill(0);
    }
    Ok(())
}

/// Whether it could be read.
fn attempt<D: Disk>(
    disk: &mut D,
    file: &D::File,
    path: &str,
    offset: u64,
    buffer: &mut [u8],
) -> Result<bool, StorageError> {
    match disk.read(file, offset, buffer) {
        Ok(()) => Ok(true),
        Err(DiskError::Unreadable | DiskError::Short) => Ok(false),
        Err(error) => Err(StorageError::Disk { file: path.to_owned(), error }),
    }
}

/// A part of a file that has been read, and what comes from it shares its memory.
#[derive(Debug, Default)]
pub(super) struct Window {
    start: u64,
    bytes: Bytes,
    /// Earlier parts, oldest first. Once nobody shares its memory any more, the oldest is used again:
    /// to read into memory that is there is a good deal faster than into new one.
    earlier: VecDeque<Bytes>,
    /// Where sectors of this file begin that could not be read, as far as it was read.
    bad: Vec<u64>,
}

/// The file that a window is of.
#[derive(Debug)]
pub(super) struct InWindow<'a, F> {
    pub(super) file: &'a F,
    pub(super) path: &'a str,
    pub(super) file_bytes: u64,
}

impl<F> Copy for InWindow<'_, F> {}

impl<F> Clone for InWindow<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl Window {
    /// The bytes at `offset`, read ahead as far as the file goes if they are not there yet.
    pub(super) fn get<D: Disk>(
        &mut self,
        disk: &mut D,
        of: InWindow<'_, D::File>,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, StorageError> {
        let from = self.reach(disk, of, offset, len)?;
        Ok(self.bytes.slice(from..from + len))
    }

    /// The same, only to be looked at.
    pub(super) fn peek<D: Disk>(
        &mut self,
        disk: &mut D,
        of: InWindow<'_, D::File>,
        offset: u64,
        len: usize,
    ) -> Result<&[u8], StorageError> {
        let from = self.reach(disk, of, offset, len)?;
        Ok(&self.bytes[from..from + len])
    }

    /// The window for another file.
    pub(super) fn for_another_file(mut self) -> Self {
        self.retire();
        self.bad.clear();
        self
    }

    /// Whether anything in this part of the file could not be read, of what was.
    pub(super) fn is_unread(&self, span: Range<u64>) -> bool {
        let meets = |at: &u64| {
            *at < span.end && span.start < at / SECTOR as u64 * SECTOR as u64 + SECTOR as u64
        };
        self.bad.iter().any(meets)
    }

    fn retire(&mut self) {
        let bytes = core::mem::take(&mut self.bytes);
        if !bytes.is_empty() {
            self.earlier.push_back(bytes);
        }
        self.start = 0;
    }

    fn reach<D: Disk>(
        &mut self,
        disk: &mut D,
        of: InWindow<'_, D::File>,
        offset: u64,
        len: usize,
    ) -> Result<usize, StorageError> {
        let end = offset + len as u64;
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let ahead = of.file_bytes.saturating_sub(offset).min(disk.read_ahead_bytes());
            let ahead = ahead.max(len as u64);
            let ahead = usize::try_from(ahead).expect("a file is below 2 GiB");
            self.retire();
            let mut bytes = self.memory(ahead);
            read_noting(disk, of.file, of.path, offset, &mut bytes, &mut self.bad)?;
            (self.start, self.bytes) = (offset, bytes.freeze());
        }
        Ok(usize::try_from(offset - self.start).expect("within the window"))
    }

    /// Memory of this length, of the oldest part if nobody needs it any more.
    fn memory(&mut self, len: usize) -> BytesMut {
        let Some(oldest) = self.earlier.pop_front() else { return BytesMut::zeroed(len) };
        match oldest.try_into_mut() {
            Ok(mut bytes) => {
                bytes.resize(len, 0);
                bytes
            }
            Err(oldest) => {
                // Whoever keeps it keeps it: there is no need to remember more than a few.
                if self.earlier.len() < EARLIER_MAX {
                    self.earlier.push_front(oldest);
                }
                BytesMut::zeroed(len)
            }
        }
    }
}
