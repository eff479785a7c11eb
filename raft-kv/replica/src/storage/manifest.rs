//! The files of one snapshot: how they are called, written, read and checked.

use std::hash::Hasher as _;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{EntryId, Index, SnapshotMeta, Term};
use twox_hash::XxHash3_64;

use super::error::{InFile, StorageError, create_fresh, open_found};
use super::frame::{Flaw, Owner, VERSION};
use super::read::read_lossy;
use super::record::{Manifest, decode_manifest, encode_manifest};
use super::segment::number;
use crate::disk::{Disk, DiskError};

/// The directory of the snapshots.
pub(super) const DIR: &str = "snap";
/// A file that is being made.
pub(super) const SCRATCH: &str = "snap/new.tmp";
/// What the names of the two manifests end with.
pub(super) const MANIFESTS: [&str; 2] = ["manifest", "manifest2"];

/// Whether all bytes of a snapshot can be read.
pub(super) fn is_intact<D: Disk>(disk: &mut D, manifest: &Manifest) -> Result<bool, StorageError> {
    if manifest.meta.last.index == Index::ZERO {
        return Ok(true);
    }
    let path = data_path(manifest.meta.last);
    let Some(file) = open_found(disk, &path)? else { return Ok(false) };
    if disk.len(&file).in_file(&path)? != manifest.bytes {
        return Ok(false);
    }
    let mut chunk = vec![0; manifest.chunk_bytes as usize];
    let mut offset = 0;
    for digest in &manifest.digests {
        let left = usize::try_from(manifest.bytes - offset).unwrap_or(usize::MAX);
        let bytes = left.min(chunk.len());
        read_lossy(disk, &file, &path, offset, &mut chunk[..bytes])?;
        if XxHash3_64::oneshot(&chunk[..bytes]) != *digest {
            return Ok(false);
        }
        offset += bytes as u64;
    }
    Ok(true)
}

/// Writes to a file on which nothing depends yet. If there is no space, the file goes.
pub(super) fn write_fresh<D: Disk>(
    disk: &mut D,
    file: &D::File,
    path: &str,
    offset: u64,
    data: &[u8],
) -> Result<(), StorageError> {
    match disk.write(file, offset, data) {
        Err(DiskError::NoSpace) => {
            disk.remove(path).in_file(path)?;
            Err(StorageError::NoSpace { file: path.to_owned() })
        }
        result => result.in_file(path),
    }
}

/// The bytes from `start` to `end`, checked against the digests of the chunks that hold them; `None` if they
/// are not there, or not intact.
///
/// # Errors
/// The disk fails, which says nothing about the bytes.
pub(super) fn read_range<D: Disk>(
    disk: &mut D,
    manifest: &Manifest,
    start: u64,
    end: u64,
) -> Result<Option<Bytes>, StorageError> {
    if start > end {
        return Ok(None);
    }
    if start == end {
        return Ok(Some(Bytes::new()));
    }
    let chunk = u64::from(manifest.chunk_bytes);
    let (first, last) = (start / chunk, end.div_ceil(chunk));
    let (from, to) = (first * chunk, (last * chunk).min(manifest.bytes));
    let path = data_path(manifest.meta.last);
    let in_memory = |bytes: u64| usize::try_from(bytes).expect("what is asked for fits in memory");
    let Some(file) = open_found(disk, &path)? else { return Ok(None) };
    let mut bytes = vec![0; in_memory(to.saturating_sub(from))];
    read_lossy(disk, &file, &path, from, &mut bytes)?;
    let digests = manifest.digests.get(in_memory(first)..).unwrap_or_default();
    let mut chunks = bytes.chunks(manifest.chunk_bytes as usize).zip(digests);
    let is_whole = last <= manifest.digests.len() as u64;
    if !is_whole || !chunks.all(|(chunk, digest)| XxHash3_64::oneshot(chunk) == *digest) {
        return Ok(None);
    }
    let range = in_memory(start - from)..in_memory(end - from);
    Ok(Some(Bytes::from(bytes).slice(range)))
}

/// Has what is read of a snapshot next come from the medium.
pub(super) fn forget<D: Disk>(disk: &mut D, manifest: &Manifest) -> Result<(), StorageError> {
    if let Some(file) = open_found(disk, &data_path(manifest.meta.last))? {
        disk.forget(&file);
    }
    Ok(())
}

/// Writes both copies of a manifest, durably. Where they replace another manifest, the first is
/// durable before the second is touched: so which of two is the newer one is never in doubt.
pub(super) fn write_manifests<D: Disk>(
    disk: &mut D,
    owner: Owner,
    manifest: &Manifest,
    replaces: bool,
) -> Result<(), StorageError> {
    write_manifest(disk, owner, manifest, 0)?;
    if replaces {
        disk.sync_dir(DIR).in_file(DIR)?;
    }
    write_manifest(disk, owner, manifest, 1)?;
    disk.sync_dir(DIR).in_file(DIR)
}

pub(super) fn write_manifest<D: Disk>(
    disk: &mut D,
    owner: Owner,
    manifest: &Manifest,
    copy: u32,
) -> Result<(), StorageError> {
    let file = create_fresh(disk, SCRATCH, 0)?;
    write_fresh(disk, &file, SCRATCH, 0, &encode_manifest(manifest, owner))?;
    disk.sync(&file).in_file(SCRATCH)?;
    let path = manifest_path(manifest.meta.last, copy);
    disk.rename(SCRATCH, &path).in_file(&path)
}

/// A copy of a manifest, unless it cannot be read.
pub(super) fn read_manifest<D: Disk>(
    disk: &mut D,
    owner: Owner,
    name: EntryId,
    copy: u32,
) -> Result<Option<Manifest>, StorageError> {
    /// Digests of a snapshot of a TiB, in chunks of 64 KiB.
    const BYTES_MAX: u64 = 1 << 28;
    let path = manifest_path(name, copy);
    let Some(file) = open_found(disk, &path)? else { return Ok(None) };
    let length = disk.len(&file).in_file(&path)?;
    let Some(length) = usize::try_from(length).ok().filter(|_| length <= BYTES_MAX) else {
        return Ok(None);
    };
    let mut bytes = vec![0; length];
    read_lossy(disk, &file, &path, 0, &mut bytes)?;
    match decode_manifest(&bytes, owner) {
        Ok(manifest) => {
            let last = manifest.meta.last;
            Ok(Some(manifest).filter(|_| (last.index, last.term) == (name.index, name.term)))
        }
        Err(Flaw::Zero | Flaw::Bad) => Ok(None),
        Err(Flaw::Newer(found)) => {
            Err(StorageError::NewerFormat { file: path, found, supported: VERSION })
        }
    }
}

pub(super) fn stem(snapshot: EntryId) -> String {
    format!("{}-{}", snapshot.index.0, snapshot.term.0)
}

pub(super) fn data_path(snapshot: EntryId) -> String {
    format!("{DIR}/{}.data", stem(snapshot))
}

pub(super) fn manifest_path(snapshot: EntryId, copy: u32) -> String {
    format!("{DIR}/{}.{}", stem(snapshot), MANIFESTS[copy as usize])
}

/// Whether a file of this name belongs to some snapshot.
pub(super) fn is_ours(name: &str) -> bool {
    parse(name).is_some() || name.strip_suffix(".data").and_then(parse_stem).is_some()
}

pub(super) fn parse(name: &str) -> Option<(Index, Term)> {
    let (front, end) = name.rsplit_once('.')?;
    parse_stem(front).filter(|_| MANIFESTS.contains(&end))
}

fn parse_stem(front: &str) -> Option<(Index, Term)> {
    let (index, term) = front.split_once('-')?;
    Some((Index(number(index)?), Term(number(term)?)))
}

/// Digests of consecutive chunks, from bytes that come in pieces of any size.
#[derive(Debug)]
pub(super) struct Digester {
    chunk_bytes: u32,
    pub(super) bytes: u64,
    digests: Vec<u64>,
    chunk: Box<ChunkDigest>,
}

struct ChunkDigest(XxHash3_64);

impl core::fmt::Debug for ChunkDigest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("ChunkDigest").field(&self.0.finish()).finish()
    }
}

impl Digester {
    pub(super) fn new(chunk_bytes: u32) -> Self {
        let chunk = Box::new(ChunkDigest(XxHash3_64::new()));
        Self { chunk_bytes, bytes: 0, digests: Vec::new(), chunk }
    }

    pub(super) fn update(&mut self, mut data: &[u8]) {
        let chunk_bytes = u64::from(self.chunk_bytes);
        while !data.is_empty() {
            let left = chunk_bytes - self.bytes % chunk_bytes;
            let take = usize::try_from(left).map_or(data.len(), |left| left.min(data.len()));
            let (part, rest) = data.split_at(take);
            self.chunk.0.write(part);
            self.bytes += part.len() as u64;
            if self.bytes.is_multiple_of(chunk_bytes) {
                self.close();
            }
            data = rest;
        }
    }

    /// The manifest of a snapshot that consists of what has come so far.
    pub(super) fn describe(mut self, meta: &Arc<SnapshotMeta>) -> Manifest {
        if !self.bytes.is_multiple_of(u64::from(self.chunk_bytes)) {
            self.close();
        }
        let Self { chunk_bytes, bytes, digests, .. } = self;
        Manifest { meta: Arc::clone(meta), bytes, chunk_bytes, digests }
    }

    fn close(&mut self) {
        self.digests.push(self.chunk.0.finish());
        *self.chunk = ChunkDigest(XxHash3_64::new());
    }
}
