//! Snapshots as files of a folder, one for each, and the parts of one that arrives (§7).
//!
//! ```text
//! snapshot-17 | length 4B LE | XXH3-64 8B LE | what it covers, the state of the host |
//! ```
//!
//! A file is written whole under another name and then renamed, so that it is there or not. Which of
//! them counts, the log says: one that is installed must not take the place of the old one before
//! the log has the batch that installs it, for the old log begins where the old snapshot ends. So
//! both are kept until then, and a crash in between leaves either.
//!
//! Deliberately absent: states that are larger than memory, and more than one reader at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use bytes::Bytes;
use raft_core::{Chunk, ChunkRequest, RecoveredState, Slot, SnapshotMeta, wire};

use crate::wal::{self, framed, intact_record};

pub(crate) struct Snapshots {
    folder: PathBuf,
    /// The newest one that the log knows of; none if there is only the genesis.
    newest: Option<(Arc<SnapshotMeta>, Bytes)>,
    /// What has arrived of the next one. Only the installation must be durable.
    staged: Vec<u8>,
}

impl Snapshots {
    /// Finds the newest snapshot that fits the log, and says so in what the node starts from.
    ///
    /// # Errors
    /// Whatever the file system reports, and `InvalidData` for a file that is damaged or wrong.
    pub(crate) fn open(folder: &Path, found: &mut RecoveredState) -> io::Result<Self> {
        let (folder, staged) = (folder.to_owned(), Vec::new());
        let mut snapshots = Self { folder, newest: None, staged };
        for file in snapshots.files()? {
            let bytes = fs::read(file)?;
            // Files are whole before they have their names, so this one was. Who goes on without it says
            // `is_snapshot_damaged`; here the start is refused, and nothing is removed.
            let record = intact_record(&bytes).ok_or_else(|| wal::invalid("a damaged snapshot"))?;
            let (meta, state): (Vec<u8>, Vec<u8>) =
                postcard::from_bytes(record).map_err(wal::invalid)?;
            let meta = wire::decode_snapshot_meta(&meta).map_err(wal::invalid)?;
            let is_on_log = found.before == meta.last
                || found.slots.iter().map(Slot::id).any(|id| id == meta.last);
            if is_on_log && meta.last.index >= found.snapshot.last.index {
                found.snapshot = Arc::new(meta);
                snapshots.newest = Some((Arc::clone(&found.snapshot), state.into()));
            }
        }
        snapshots.drop_others()?;
        Ok(snapshots)
    }

    /// Makes a snapshot durable. The one before stays until [`Self::drop_others`].
    ///
    /// # Errors
    /// Whatever the file system reports: then there is no new snapshot.
    pub(crate) fn keep(&mut self, meta: Arc<SnapshotMeta>, state: Bytes) -> io::Result<()> {
        let record = (wire::encode_snapshot_meta(&meta).to_vec(), state.to_vec());
        let record = postcard::to_allocvec(&record).map_err(wal::invalid)?;
        wal::replace(&self.path(&meta), &framed(&record)?)?;
        self.newest = Some((meta, state));
        Ok(())
    }

    /// Makes the staged snapshot durable.
    ///
    /// # Errors
    /// Whatever the file system reports: then nothing may be written that counts on it.
    pub(crate) fn install(&mut self, meta: Arc<SnapshotMeta>) -> io::Result<()> {
        let state = std::mem::take(&mut self.staged).into();
        self.keep(meta, state)
    }

    /// The log knows of the newest snapshot: no other one is needed.
    ///
    /// # Errors
    /// Whatever the file system reports. What is left is removed by the next start.
    pub(crate) fn drop_others(&self) -> io::Result<()> {
        let newest = self.newest.as_ref().map(|(meta, _)| self.path(meta));
        let others = self.files()?.into_iter().filter(|file| Some(file) != newest.as_ref());
        others.into_iter().try_for_each(fs::remove_file)
    }

    /// The state in the newest snapshot.
    pub(crate) fn state(&self) -> Option<&Bytes> {
        self.newest.as_ref().map(|(_, state)| state)
    }

    /// A part for a peer, unless a newer snapshot has come meanwhile: then the core asks for that.
    pub(crate) fn read(&self, request: &ChunkRequest) -> Option<Chunk> {
        let (meta, state) = self.newest.as_ref()?;
        let from = usize::try_from(request.offset).ok()?;
        if meta.last != request.snapshot || from > state.len() {
            return None;
        }
        let end = state.len().min(from + request.bytes_max);
        Some(Chunk { data: state.slice(from..end), done: end == state.len() })
    }

    /// Keeps a part that has arrived, and says how much there is now. The first one begins anew.
    pub(crate) fn stage(&mut self, offset: u64, data: &[u8]) -> u64 {
        if offset == 0 {
            self.staged.clear();
        }
        if offset == self.staged.len() as u64 {
            self.staged.extend_from_slice(data);
        }
        self.staged.len() as u64
    }

    fn path(&self, meta: &SnapshotMeta) -> PathBuf {
        self.folder.join(format!("snapshot-{}", meta.last.index.0))
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let all: io::Result<Vec<PathBuf>> =
            fs::read_dir(&self.folder)?.map(|file| Ok(file?.path())).collect();
        // One that was not whole when the host stopped has no number yet; it is written over some day.
        let is_ours = |file: &PathBuf| {
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
            name.and_then(|name| name.strip_prefix("snapshot-")?.parse::<u64>().ok()).is_some()
        };
        Ok(all?.into_iter().filter(is_ours).collect())
    }
}
