//! Snapshots: the state machine's bytes, and a manifest that says what they are.
//!
//! ```text
//! snap/<index>-<term>.data        the bytes
//! snap/<index>-<term>.manifest    what they cover; length and a digest of each chunk
//! snap/stage.data                 one that is being received
//! ```
//! The manifest is written last, under another name; its rename is the moment at which the
//! snapshot exists. The bytes, and their name, are durable before it. The newest two are kept:
//! the one before the newest may still be on its way to a peer.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{Chunk, ChunkRequest, EntryId, Index, SnapshotMeta, Term};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::error::{InFile, StorageError, open_durable};
use super::frame::{Flaw, VERSION};
use super::record::{Manifest, decode_manifest, encode_manifest};
use crate::disk::Disk;

/// The directory of the snapshots.
pub(super) const DIR: &str = "snap";
const STAGE: &str = "snap/stage.data";
const SCRATCH: &str = "snap/new.tmp";
/// How many snapshots are kept.
const KEPT: usize = 2;

/// The snapshots of one node.
#[derive(Debug)]
pub(super) struct Snapshots<F> {
    chunk_bytes: u32,
    /// By index.
    manifests: Vec<Manifest>,
    stage: Option<Stage<F>>,
}

/// A snapshot that is being received.
#[derive(Debug)]
struct Stage<F> {
    snapshot: EntryId,
    file: F,
    digester: Digester,
    done: bool,
}

impl<F> Snapshots<F> {
    /// Reads the newest manifest.
    ///
    /// # Errors
    /// It cannot be read, or its data are missing: neither is left by a crash.
    pub(super) fn open<D: Disk<File = F>>(
        disk: &mut D,
        chunk_bytes: u32,
    ) -> Result<Self, StorageError> {
        let names = disk.list(DIR).in_file(DIR)?;
        let newest = names.iter().filter_map(|name| parse(name)).max();
        let mut manifests = Vec::with_capacity(KEPT + 1);
        if let Some((index, term)) = newest {
            manifests.push(read_manifest(disk, index, term)?);
        }
        Ok(Self { chunk_bytes, manifests, stage: None })
    }

    /// Makes what was found durable, and removes all else.
    pub(super) fn adopt<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), StorageError> {
        let names = disk.list(DIR).in_file(DIR)?;
        if names.iter().any(|name| SCRATCH.strip_prefix("snap/") == Some(name)) {
            disk.remove(SCRATCH).in_file(SCRATCH)?;
        }
        // The manifest's name may be in a cache only, if a sync failed before the restart; then the
        // older snapshot is all that the disk has, and must not go first. The data had their name,
        // durably, before there was a manifest.
        if let Some(newest) = self.manifests.last() {
            write_manifest(disk, newest)?;
        }
        let stem = self.manifests.last().map(|newest| stem(newest.meta.last));
        for name in names {
            let path = format!("{DIR}/{name}");
            let end = stem.as_ref().and_then(|stem| name.strip_prefix(stem));
            if path != SCRATCH && !matches!(end, Some(".manifest" | ".data")) {
                disk.remove(&path).in_file(&path)?;
            }
        }
        Ok(())
    }

    pub(super) fn newest(&self) -> Option<&Arc<SnapshotMeta>> {
        self.manifests.last().map(|manifest| &manifest.meta)
    }

    /// Writes a whole snapshot, durable on return.
    pub(super) fn save<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        meta: &Arc<SnapshotMeta>,
        data: &Bytes,
    ) -> Result<(), StorageError> {
        if self.find(meta.last).is_some() {
            return Ok(());
        }
        let path = data_path(meta.last);
        let file = disk.create(&path, 0).in_file(&path)?;
        disk.write(&file, 0, data).in_file(&path)?;
        disk.sync(&file).in_file(&path)?;
        disk.sync_dir(DIR).in_file(DIR)?;
        let mut digester = Digester::new(self.chunk_bytes);
        digester.update(data);
        self.publish(disk, meta, digester)
    }

    /// Keeps a part of a snapshot that is being received, and says how much of it is there. A part
    /// that does not continue what is there is not kept.
    pub(super) fn stage<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        snapshot: EntryId,
        offset: u64,
        data: &Bytes,
        done: bool,
    ) -> Result<u64, StorageError> {
        if offset == 0 {
            if self.stage.take().is_some() {
                disk.remove(STAGE).in_file(STAGE)?;
            }
            let file = disk.create(STAGE, 0).in_file(STAGE)?;
            let digester = Digester::new(self.chunk_bytes);
            self.stage = Some(Stage { snapshot, file, digester, done: false });
        }
        let Some(stage) = self.stage.as_mut().filter(|stage| stage.snapshot == snapshot) else {
            return Ok(0);
        };
        if offset == stage.digester.bytes && !stage.done {
            disk.write(&stage.file, offset, data).in_file(STAGE)?;
            stage.digester.update(data);
            stage.done = done;
        }
        Ok(stage.digester.bytes)
    }

    /// Makes the staged snapshot the newest one, durable on return. The one at index 0 has no
    /// bytes and is never staged.
    pub(super) fn install<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        meta: &Arc<SnapshotMeta>,
    ) -> Result<(), StorageError> {
        if self.find(meta.last).is_some() {
            return Ok(());
        }
        if meta.last.index == Index::ZERO {
            return self.publish(disk, meta, Digester::new(self.chunk_bytes));
        }
        let stage = self.stage.take().filter(|stage| stage.snapshot == meta.last && stage.done);
        let Some(stage) = stage else {
            return Err(StorageError::NotStaged { snapshot: meta.last });
        };
        let path = data_path(meta.last);
        disk.sync(&stage.file).in_file(STAGE)?;
        disk.rename(STAGE, &path).in_file(&path)?;
        disk.sync_dir(DIR).in_file(DIR)?;
        self.publish(disk, meta, stage.digester)
    }

    /// Writes the manifest, and removes the snapshots that are not kept any longer.
    fn publish<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        meta: &Arc<SnapshotMeta>,
        digester: Digester,
    ) -> Result<(), StorageError> {
        let (bytes, chunk_bytes) = (digester.bytes, self.chunk_bytes);
        let digests = digester.finish();
        let manifest = Manifest { meta: Arc::clone(meta), bytes, chunk_bytes, digests };
        write_manifest(disk, &manifest)?;
        // A blank node's genesis is replaced by the group's, which has the same name.
        let name = stem(meta.last);
        self.manifests.retain(|other| stem(other.meta.last) != name);
        let place = self.manifests.partition_point(|other| other.meta.last < meta.last);
        self.manifests.insert(place, manifest);
        while self.manifests.len() > KEPT {
            let old = self.manifests.remove(0).meta.last;
            let path = manifest_path(old);
            disk.remove(&path).in_file(&path)?;
            if old.index > Index::ZERO {
                let path = data_path(old);
                disk.remove(&path).in_file(&path)?;
            }
        }
        Ok(())
    }

    /// The whole snapshot, or `None` if it is not there or not intact.
    pub(super) fn load<D: Disk<File = F>>(&self, disk: &mut D, snapshot: EntryId) -> Option<Bytes> {
        let manifest = self.find(snapshot)?;
        read_range(disk, manifest, 0, manifest.bytes)
    }

    /// A part of a snapshot, or `None` if it is not there or not intact.
    pub(super) fn chunk<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        request: &ChunkRequest,
    ) -> Option<Chunk> {
        let manifest = self.find(request.snapshot)?;
        let end = request.offset.saturating_add(request.bytes_max as u64).min(manifest.bytes);
        let data = read_range(disk, manifest, request.offset, end)?;
        Some(Chunk { data, done: end == manifest.bytes })
    }

    fn find(&self, snapshot: EntryId) -> Option<&Manifest> {
        self.manifests.iter().find(|manifest| manifest.meta.last == snapshot)
    }
}

/// The bytes from `start` to `end`, checked against the digests of the chunks that hold them.
fn read_range<D: Disk>(disk: &mut D, manifest: &Manifest, start: u64, end: u64) -> Option<Bytes> {
    if start > end {
        return None;
    }
    if start == end {
        return Some(Bytes::new());
    }
    let chunk = u64::from(manifest.chunk_bytes);
    let (first, last) = (start / chunk, end.div_ceil(chunk));
    let (from, to) = (first * chunk, (last * chunk).min(manifest.bytes));
    let file = disk.open(&data_path(manifest.meta.last)).ok()?;
    let mut bytes = vec![0; usize::try_from(to - from).ok()?];
    disk.read(&file, from, &mut bytes).ok()?;
    let digests = manifest.digests.get(usize::try_from(first).ok()?..)?;
    let chunks = bytes.chunks(manifest.chunk_bytes as usize);
    let intact = chunks.zip(digests).all(|(chunk, digest)| xxh3_64(chunk) == *digest);
    let range = usize::try_from(start - from).ok()?..usize::try_from(end - from).ok()?;
    intact.then(|| Bytes::from(bytes).slice(range))
}

/// Writes a manifest and names it, durably.
fn write_manifest<D: Disk>(disk: &mut D, manifest: &Manifest) -> Result<(), StorageError> {
    let file = disk.create(SCRATCH, 0).in_file(SCRATCH)?;
    disk.write(&file, 0, &encode_manifest(manifest)).in_file(SCRATCH)?;
    disk.sync(&file).in_file(SCRATCH)?;
    let path = manifest_path(manifest.meta.last);
    disk.rename(SCRATCH, &path).in_file(&path)?;
    disk.sync_dir(DIR).in_file(DIR)
}

fn read_manifest<D: Disk>(
    disk: &mut D,
    index: Index,
    term: Term,
) -> Result<Manifest, StorageError> {
    let name = EntryId { index, term, ..EntryId::default() };
    let path = manifest_path(name);
    let file = disk.open(&path).in_file(&path)?;
    let length = disk.len(&file).in_file(&path)?;
    let too_long = |_| StorageError::damaged(&path, "it is too long to be a manifest");
    let mut bytes = vec![0; usize::try_from(length).map_err(too_long)?];
    disk.read(&file, 0, &mut bytes).in_file(&path)?;
    let manifest = decode_manifest(&bytes).map_err(|flaw| match flaw {
        Flaw::Zero | Flaw::Bad => StorageError::damaged(&path, "its checksum fails"),
        Flaw::Newer(found) => {
            StorageError::NewerFormat { file: path.clone(), found, supported: VERSION }
        }
    })?;
    if (manifest.meta.last.index, manifest.meta.last.term) != (index, term) {
        return Err(StorageError::damaged(&path, "it describes another snapshot"));
    }
    if index > Index::ZERO {
        let path = data_path(name);
        let file = open_durable(disk, &path)?;
        if disk.len(&file).in_file(&path)? != manifest.bytes {
            return Err(StorageError::damaged(&path, "its length is not the manifest's"));
        }
    }
    Ok(manifest)
}

fn stem(snapshot: EntryId) -> String {
    format!("{}-{}", snapshot.index.0, snapshot.term.0)
}

fn data_path(snapshot: EntryId) -> String {
    format!("{DIR}/{}.data", stem(snapshot))
}

fn manifest_path(snapshot: EntryId) -> String {
    format!("{DIR}/{}.manifest", stem(snapshot))
}

fn parse(name: &str) -> Option<(Index, Term)> {
    let (index, term) = name.strip_suffix(".manifest")?.split_once('-')?;
    let (index, term) = (Index(index.parse().ok()?), Term(term.parse().ok()?));
    let id = EntryId { index, term, ..EntryId::default() };
    (name.strip_suffix(".manifest") == Some(&stem(id))).then_some((index, term))
}

/// Digests of consecutive chunks, from bytes that come in pieces of any size.
#[derive(Debug)]
struct Digester {
    chunk_bytes: u32,
    bytes: u64,
    digests: Vec<u64>,
    chunk: Box<ChunkDigest>,
}

struct ChunkDigest(Xxh3);

impl core::fmt::Debug for ChunkDigest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("ChunkDigest").field(&self.0.digest()).finish()
    }
}

impl Digester {
    fn new(chunk_bytes: u32) -> Self {
        let chunk = Box::new(ChunkDigest(Xxh3::new()));
        Self { chunk_bytes, bytes: 0, digests: Vec::new(), chunk }
    }

    fn update(&mut self, mut data: &[u8]) {
        let chunk_bytes = u64::from(self.chunk_bytes);
        while !data.is_empty() {
            let left = chunk_bytes - self.bytes % chunk_bytes;
            let take = usize::try_from(left).map_or(data.len(), |left| left.min(data.len()));
            let (part, rest) = data.split_at(take);
            self.chunk.0.update(part);
            self.bytes += part.len() as u64;
            if self.bytes.is_multiple_of(chunk_bytes) {
                self.close();
            }
            data = rest;
        }
    }

    fn finish(mut self) -> Vec<u64> {
        if !self.bytes.is_multiple_of(u64::from(self.chunk_bytes)) {
            self.close();
        }
        self.digests
    }

    fn close(&mut self) {
        self.digests.push(self.chunk.0.digest());
        self.chunk.0.reset();
    }
}
