//! Snapshots: the state machine's bytes, and a manifest that says what they are.
//!
//! ```text
//! snap/<index>-<term>.data        the bytes
//! snap/<index>-<term>.manifest    what they cover; length and a digest of each chunk
//! snap/<index>-<term>.manifest2   the same again: one bad sector does not take the description
//! snap/stage.data                 one that is being received
//! snap/save.data                  one that is being saved
//! ```
//! The manifests are written last, under another name; the rename of the first is the moment at which
//! the snapshot exists. The bytes, and their name, are durable before it. The newest two are kept: the
//! one before the newest may still be on its way to a peer, and stands in for the newest if that one's
//! bytes cannot be read any more and the log still reaches back to it.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{Chunk, EntryId, Index, SnapshotMeta};

use super::error::{InFile, StorageError, create_fresh, remove_found};
use super::frame::Owner;
use super::manifest::{
    DIR, Digester, SCRATCH, data_path, forget, is_intact, is_ours, manifest_path, parse,
    read_manifest, read_range, stem, write_fresh, write_manifest, write_manifests,
};
use super::record::{Manifest, encode_manifest};
use super::report::{Report, What};
use crate::disk::{Disk, DiskError};

const STAGE: &str = "snap/stage.data";
const SAVE: &str = "snap/save.data";
/// How many snapshots are kept.
const KEPT: usize = 2;
/// The snapshots of one node.
#[derive(Debug)]
pub(super) struct Snapshots<F> {
    owner: Owner,
    chunk_bytes: u32,
    /// By index.
    kept: Vec<Kept>,
    stage: Option<Stage<F>>,
    saving: Option<Saving<F>>,
    /// A snapshot whose bytes are there, durably, and whose manifest had no space yet.
    ready: Option<Manifest>,
}

/// A snapshot that is described, whatever became of its bytes.
#[derive(Debug)]
pub(super) struct Kept {
    manifest: Manifest,
    is_damaged: bool,
}

/// A snapshot that is being received.
#[derive(Debug)]
struct Stage<F> {
    snapshot: EntryId,
    file: F,
    digester: Digester,
    done: bool,
}

/// A snapshot that is being saved, part by part.
#[derive(Debug)]
struct Saving<F> {
    meta: Arc<SnapshotMeta>,
    data: Bytes,
    /// `None` before the first part.
    file: Option<F>,
    /// Covers what is written.
    digester: Digester,
}

impl<F> Snapshots<F> {
    /// Reads the manifests, and the bytes of the newest.
    ///
    /// # Errors
    /// A later version, or a disk error.
    pub(super) fn open<D: Disk<File = F>>(
        disk: &mut D,
        owner: Owner,
        chunk_bytes: u32,
        report: &mut Report,
    ) -> Result<Self, StorageError> {
        let names = disk.list(DIR).in_file(DIR)?;
        let mut found: Vec<_> = names.iter().filter_map(|name| parse(name)).collect();
        found.sort_unstable();
        found.dedup();
        let mut kept = Vec::with_capacity(KEPT + 1);
        for (index, term) in found {
            let name = EntryId { index, term, ..EntryId::default() };
            let copies =
                [read_manifest(disk, owner, name, 0)?, read_manifest(disk, owner, name, 1)?];
            // Where one is replaced by another of the same name, the first copy is the newer one; the second
            // stands in for it no more.
            let manifest = copies.iter().flatten().next().cloned();
            for copy in 0..2u32 {
                if copies[copy as usize] != manifest || manifest.is_none() {
                    let record = "manifest";
                    report.add(manifest_path(name, copy), What::BadCopy { record, copy });
                }
            }
            kept.extend(manifest.map(|manifest| Kept { manifest, is_damaged: false }));
        }
        if let Some(newest) = kept.last_mut() {
            newest.is_damaged = !is_intact(disk, &newest.manifest)?;
        }
        Ok(Self { owner, chunk_bytes, kept, stage: None, saving: None, ready: None })
    }

    /// If the newest snapshot cannot be read, an older one that the log reaches takes its place.
    pub(super) fn settle_for_older<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        reaches: impl Fn(EntryId) -> bool,
        report: &mut Report,
    ) -> Result<(), StorageError> {
        let Some(newest) = self.kept.last().filter(|newest| newest.is_damaged) else {
            return Ok(());
        };
        let snapshot = newest.manifest.meta.last;
        let mut replaced = None;
        for (at, older) in self.kept.iter().enumerate().rev().skip(1) {
            if reaches(older.manifest.meta.last) && is_intact(disk, &older.manifest)? {
                replaced = Some(at);
                break;
            }
        }
        let what = What::SnapshotDamaged { snapshot, replaced: replaced.is_some() };
        report.add(data_path(snapshot), what);
        if let Some(at) = replaced {
            self.kept.truncate(at + 1);
        }
        Ok(())
    }

    /// Makes what was found durable, and removes what of ours is not needed.
    pub(super) fn adopt<D: Disk<File = F>>(&mut self, disk: &mut D) -> Result<(), StorageError> {
        let names = disk.list(DIR).in_file(DIR)?;
        if names.iter().any(|name| SCRATCH.strip_prefix("snap/") == Some(name)) {
            disk.remove(SCRATCH).in_file(SCRATCH)?;
        }
        // The manifests' names may be in a cache only, if a sync failed before the restart; then the
        // older snapshot is all that the disk has, and must not go first. The data had their name,
        // durably, before there was a manifest.
        if let Some(newest) = self.kept.last() {
            write_manifests(disk, self.owner, &newest.manifest, false)?;
        }
        let has_data = |kept: &Kept| {
            let last = kept.manifest.meta.last;
            let path = data_path(last);
            last.index == Index::ZERO
                || names.iter().any(|name| path.strip_prefix("snap/") == Some(name))
        };
        let newest = self.kept.len().saturating_sub(1);
        let older = newest.checked_sub(1).filter(|older| has_data(&self.kept[*older]));
        self.kept.drain(..older.unwrap_or(newest));
        let stems: Vec<_> = self.kept.iter().map(|kept| stem(kept.manifest.meta.last)).collect();
        for name in &names {
            let path = format!("{DIR}/{name}");
            let is_kept =
                stems.iter().any(|stem| name.split_once('.').map(|(front, _)| front) == Some(stem));
            if path == STAGE || path == SAVE || (is_ours(name) && !is_kept) {
                disk.remove(&path).in_file(&path)?;
            }
        }
        Ok(())
    }

    /// How much [`Snapshots::adopt`] writes, at most.
    pub(super) fn bytes_to_adopt(&self) -> u64 {
        self.kept
            .last()
            .map_or(0, |newest| 2 * encode_manifest(&newest.manifest, self.owner).len() as u64)
    }

    /// Removes what an earlier process was making.
    pub(super) fn drop_scratch<D: Disk>(&self, disk: &mut D) -> Result<(), StorageError> {
        [SCRATCH, STAGE, SAVE].into_iter().try_for_each(|path| remove_found(disk, path))
    }

    pub(super) fn newest(&self) -> Option<&Arc<SnapshotMeta>> {
        self.kept.last().map(|kept| &kept.manifest.meta)
    }

    /// Through where a snapshot covers the log whose bytes can be read, as far as anybody knows.
    pub(super) fn covered(&self) -> Index {
        let intact = self.kept.iter().rfind(|kept| !kept.is_damaged);
        intact.map_or(Index::ZERO, |kept| kept.manifest.meta.last.index)
    }

    /// Whether the newest snapshot's bytes cannot be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.kept.last().is_some_and(|kept| kept.is_damaged)
    }

    /// What each snapshot covers, how many bytes it has, and whether they cannot be read, as far as
    /// anybody has looked.
    pub(super) fn list(&self) -> impl Iterator<Item = (&Arc<SnapshotMeta>, u64, bool)> {
        let all = self.kept.iter();
        all.map(|kept| (&kept.manifest.meta, kept.manifest.bytes, kept.is_damaged))
    }

    /// Writes a whole snapshot, durable on return.
    pub(super) fn save<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        meta: &Arc<SnapshotMeta>,
        data: &Bytes,
    ) -> Result<(), StorageError> {
        self.begin(disk, meta, data)?;
        while self.save_part(disk, u64::MAX)?.is_none() {}
        Ok(())
    }

    /// Begins to write a snapshot; [`Snapshots::save_part`] does it. One is saved at a time.
    pub(super) fn begin<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        meta: &Arc<SnapshotMeta>,
        data: &Bytes,
    ) -> Result<(), StorageError> {
        if self.saving.take().is_some_and(|other| other.file.is_some()) {
            disk.remove(SAVE).in_file(SAVE)?;
        }
        let digester = Digester::new(self.chunk_bytes);
        let (meta, data) = (Arc::clone(meta), data.clone());
        self.saving = Some(Saving { meta, data, file: None, digester });
        Ok(())
    }

    /// Writes about `bytes_max` more of the snapshot that is being saved, durable on return. What it
    /// covers, once it is whole. Without space it is begun again with the next part.
    pub(super) fn save_part<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        bytes_max: u64,
    ) -> Result<Option<Arc<SnapshotMeta>>, StorageError> {
        let Some(mut saving) = self.saving.take() else { return Ok(None) };
        if self.has_intact(saving.meta.last) {
            // It has been received in the meantime, or was there before.
            if saving.file.is_some() {
                disk.remove(SAVE).in_file(SAVE)?;
            }
            return Ok(Some(saving.meta));
        }
        let chunk_bytes = self.chunk_bytes;
        let outcome = match saving.write(disk, bytes_max) {
            Ok(false) => {
                self.saving = Some(saving);
                return Ok(None);
            }
            Ok(true) => {
                let digester = core::mem::replace(&mut saving.digester, Digester::new(chunk_bytes));
                self.publish(disk, digester.describe(&saving.meta))
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => Ok(Some(saving.meta)),
            Err(error) => {
                let digester = Digester::new(chunk_bytes);
                self.saving = Some(Saving { file: None, digester, ..saving });
                Err(error)
            }
        }
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
            let file = create_fresh(disk, STAGE, 0)?;
            let digester = Digester::new(self.chunk_bytes);
            self.stage = Some(Stage { snapshot, file, digester, done: false });
        }
        let Some(stage) = self.stage.as_mut().filter(|stage| stage.snapshot == snapshot) else {
            return Ok(0);
        };
        if offset == stage.digester.bytes && !stage.done {
            if let Err(error) = write_fresh(disk, &stage.file, STAGE, offset, data) {
                // It is received from its beginning again.
                self.stage = None;
                return Err(error);
            }
            stage.digester.update(data);
            stage.done = done;
        }
        Ok(stage.digester.bytes)
    }

    /// Gives up the snapshot that is being received, unless all of it is here: then it is about to be
    /// installed. Whether there was one.
    pub(super) fn drop_stage<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
    ) -> Result<bool, StorageError> {
        if self.stage.take_if(|stage| !stage.done).is_none() {
            return Ok(false);
        }
        disk.remove(STAGE).in_file(STAGE)?;
        Ok(true)
    }

    /// Makes the staged snapshot the newest one, durable on return. The one at index 0 has no
    /// bytes and is never staged. One that is there already is replaced only if it cannot be read.
    pub(super) fn install<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        meta: &Arc<SnapshotMeta>,
    ) -> Result<(), StorageError> {
        if self.has_intact(meta.last) {
            return Ok(());
        }
        if meta.last.index == Index::ZERO {
            return self.publish(disk, Digester::new(self.chunk_bytes).describe(meta));
        }
        let ready = self.ready.take().filter(|ready| ready.meta == *meta);
        // Another one may be on its way meanwhile: its file stays, and so does what knows of it.
        let stage = self.stage.take_if(|stage| stage.snapshot == meta.last && stage.done);
        let Some(stage) = stage else {
            // An earlier attempt has left the bytes under their name. Those that came since are better.
            let ready = ready.ok_or(StorageError::NotStaged { snapshot: meta.last })?;
            return self.publish(disk, ready);
        };
        let path = data_path(meta.last);
        disk.sync(&stage.file).in_file(STAGE)?;
        disk.rename(STAGE, &path).in_file(&path)?;
        disk.sync_dir(DIR).in_file(DIR)?;
        self.publish(disk, stage.digester.describe(meta))
    }

    /// Writes the manifest, and removes the snapshots that are not kept any longer.
    fn publish<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        manifest: Manifest,
    ) -> Result<(), StorageError> {
        let last = manifest.meta.last;
        // A blank node's genesis is replaced by the group's, which has the same name.
        let name = stem(last);
        let replaces = self.kept.iter().any(|other| stem(other.manifest.meta.last) == name);
        if let Err(error) = write_manifests(disk, self.owner, &manifest, replaces) {
            self.ready = Some(manifest);
            return Err(error);
        }
        // What an earlier attempt has left is of no use any more.
        self.ready = self.ready.take().filter(|ready| stem(ready.meta.last) != name);
        self.kept.retain(|other| stem(other.manifest.meta.last) != name);
        let place = self.kept.partition_point(|other| other.manifest.meta.last < last);
        self.kept.insert(place, Kept { manifest, is_damaged: false });
        while self.kept.len() > KEPT {
            self.remove(disk, 0)?;
        }
        Ok(())
    }

    /// Removes the snapshot with this number if it is not the newest: one that cannot be read stands in
    /// for nothing. Says whether it did.
    pub(super) fn discard<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        number: usize,
    ) -> Result<bool, StorageError> {
        let is_older = number + 1 < self.kept.len();
        if is_older {
            self.remove(disk, number)?;
        }
        Ok(is_older)
    }

    fn remove<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        number: usize,
    ) -> Result<(), StorageError> {
        let old = self.kept.remove(number).manifest.meta.last;
        for path in [manifest_path(old, 0), manifest_path(old, 1), data_path(old)] {
            match disk.remove(&path) {
                // A copy may be damaged by being away, and genesis has no bytes.
                Ok(()) | Err(DiskError::NotFound) => {}
                Err(error) => return Err(StorageError::Disk { file: path, error }),
            }
        }
        Ok(())
    }

    /// A part of a snapshot, or `None` if it is not there or not intact. A disk that fails does not say
    /// which.
    pub(super) fn chunk<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        snapshot: EntryId,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Option<Chunk>, StorageError> {
        let Some(kept) = self.find(snapshot) else { return Ok(None) };
        let manifest = &kept.manifest;
        let end = offset.saturating_add(bytes_max as u64).min(manifest.bytes);
        let is_whole = end == manifest.bytes;
        let data = read_range(disk, manifest, offset, end)?;
        kept.is_damaged |= data.is_none() && offset <= end;
        Ok(data.map(|data| Chunk { data, done: is_whole }))
    }

    /// Checks bytes of a snapshot, by its number, from `offset`: how many there were, and whether they
    /// are intact. `None` if there are no more.
    pub(super) fn check<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        number: usize,
        offset: u64,
    ) -> Result<Option<(EntryId, u64, bool)>, StorageError> {
        let Some(kept) = self.kept.get_mut(number) else { return Ok(None) };
        let left = kept.manifest.bytes.saturating_sub(offset);
        if left == 0 {
            return Ok(None);
        }
        let bytes = left.min(u64::from(kept.manifest.chunk_bytes));
        if offset == 0 {
            forget(disk, &kept.manifest)?;
        }
        let is_intact = read_range(disk, &kept.manifest, offset, offset + bytes)?.is_some();
        kept.is_damaged |= !is_intact;
        Ok(Some((kept.manifest.meta.last, bytes, is_intact)))
    }

    /// Writes manifests again whose twins can be read, durably; says how many there were.
    pub(super) fn repair<D: Disk<File = F>>(&self, disk: &mut D) -> Result<u32, StorageError> {
        let mut repaired = 0;
        for kept in &self.kept {
            for copy in 0..2 {
                let found = read_manifest(disk, self.owner, kept.manifest.meta.last, copy)?;
                if found.as_ref() != Some(&kept.manifest) {
                    write_manifest(disk, self.owner, &kept.manifest, copy)?;
                    disk.sync_dir(DIR).in_file(DIR)?;
                    repaired += 1;
                }
            }
        }
        Ok(repaired)
    }

    fn find(&mut self, snapshot: EntryId) -> Option<&mut Kept> {
        self.kept.iter_mut().find(|kept| kept.manifest.meta.last == snapshot)
    }

    fn has_intact(&mut self, snapshot: EntryId) -> bool {
        self.find(snapshot).is_some_and(|kept| !kept.is_damaged)
    }
}

impl<F> Saving<F> {
    /// Writes the next part, durably; whether it was the last one, and the bytes have their name.
    fn write<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        bytes_max: u64,
    ) -> Result<bool, StorageError> {
        let file = match self.file.take() {
            Some(file) => file,
            // It is of no use before it is whole, and would take the last room on its way.
            None if !disk.has_room(self.data.len() as u64) => {
                return Err(StorageError::NoSpace { file: SAVE.to_owned() });
            }
            None => create_fresh(disk, SAVE, 0)?,
        };
        let from = usize::try_from(self.digester.bytes).expect("it is in memory");
        let room = usize::try_from(bytes_max).unwrap_or(usize::MAX).max(1);
        let part = self.data.slice(from..self.data.len().min(from.saturating_add(room)));
        write_fresh(disk, &file, SAVE, self.digester.bytes, &part)?;
        disk.sync(&file).in_file(SAVE)?;
        self.digester.update(&part);
        if self.digester.bytes < self.data.len() as u64 {
            self.file = Some(file);
            return Ok(false);
        }
        let path = data_path(self.meta.last);
        disk.rename(SAVE, &path).in_file(&path)?;
        disk.sync_dir(DIR).in_file(DIR)?;
        Ok(true)
    }
}
