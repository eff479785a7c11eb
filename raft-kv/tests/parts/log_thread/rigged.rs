//! Real files on a disk that fails, or is as small as somebody says.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;

/// What a disk is made to do.
#[derive(Debug)]
pub(crate) struct Rig {
    /// Its syncs fail.
    pub(crate) fails: AtomicBool,
    /// Its syncs panic.
    pub(crate) panics: AtomicBool,
    /// How many bytes all its files may have.
    pub(crate) space: AtomicU64,
    /// Says when a part of a snapshot has been written, and waits until it may go on.
    pub(crate) parts: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Default for Rig {
    fn default() -> Self {
        let (fails, panics) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { fails, panics, space: AtomicU64::new(u64::MAX), parts: Mutex::new(None) }
    }
}

pub(crate) struct Rigged {
    disk: FileDisk,
    root: PathBuf,
    rig: Arc<Rig>,
}

/// How many bytes all files in a directory have.
pub(crate) fn used(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    let size = |entry: fs::DirEntry| {
        let data = entry.metadata().unwrap();
        if data.is_dir() { used(&entry.path()) } else { data.len() }
    };
    entries.map(size).sum()
}

impl Rigged {
    pub(crate) fn new(root: &Path, rig: &Arc<Rig>) -> Self {
        let disk = FileDisk::new(root).unwrap();
        Self { disk, root: root.to_owned(), rig: Arc::clone(rig) }
    }
}

impl raft_replica::layer::Layer for Rigged {
    type Below = FileDisk;

    fn below(&mut self) -> &mut FileDisk {
        &mut self.disk
    }

    fn create(&mut self, path: &str, len: u64) -> Result<File, DiskError> {
        if !Disk::has_room(self, len) {
            return Err(DiskError::NoSpace);
        }
        self.disk.create(path, len)
    }

    fn has_room(&mut self, bytes: u64) -> bool {
        used(&self.root).saturating_add(bytes) <= self.rig.space.load(Ordering::SeqCst)
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        let more = (offset + data.len() as u64).saturating_sub(self.disk.len(file)?);
        if more > 0 && !Disk::has_room(self, more) {
            return Err(DiskError::NoSpace);
        }
        self.disk.write(file, offset, data)?;
        // Nothing else is as long.
        if let Some((written, go_on)) = &*self.rig.parts.lock().unwrap()
            && data.len() > 256 << 10
        {
            // Whoever listens no more does not care.
            if written.send(()).is_ok() {
                _ = go_on.recv();
            }
        }
        Ok(())
    }

    fn sync(&mut self, file: &File) -> Result<(), DiskError> {
        assert!(!self.rig.panics.load(Ordering::SeqCst), "a panic that a test has asked for");
        if self.rig.fails.load(Ordering::SeqCst) {
            return Err(DiskError::Failed("the cable is out".to_owned()));
        }
        self.disk.sync(file)
    }
}
