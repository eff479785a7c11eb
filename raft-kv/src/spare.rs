//! A disk that has the log's next file ready.
//!
//! A segment of the log is made of zeros before anything is written to it, so that no sync of it has
//! to wait for the file system to find room. To fill and sync one takes as long as hundreds of commits;
//! if the log thread did so, all of them would wait. So as soon as a large file was made, a thread of
//! its own makes another of the same length beside the data, and the next one is that, under its new
//! name. What a crash leaves of it is removed at the next start.
//!
//! The spare is also the log's reserve: while there is one, whatever becomes of the rest of the disk, the
//! log can go on for a file's length. A file that does not fit is not begun, by the spare's thread or by
//! anybody: on its way it would take the last room from all others on this disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::mem;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;

/// Smaller files are made when they are needed.
const SPARE_BYTES_MIN: u64 = 1 << 20;

/// The spare is filled and synced in parts: a large one would hold up the log's own syncs.
static PART: [u8; 256 << 10] = [0; 256 << 10];

/// A [`FileDisk`] with a spare file.
#[derive(Debug)]
pub struct SpareDisk {
    disk: FileDisk,
    root: PathBuf,
    /// Where the spare is: beside the disk's directory, in the same file system.
    shelf: PathBuf,
    spare: Spare,
    /// The length of the last large file: the next one is likely as long.
    wanted: u64,
}

/// What has become of the spare.
#[derive(Debug)]
enum Spare {
    /// There is none.
    None,
    /// A thread makes it, with so many bytes.
    Making(u64, JoinHandle<io::Result<()>>),
    /// It lies on the shelf, with so many bytes.
    Made(u64),
}

impl SpareDisk {
    /// The directory at `root`, with a spare at `shelf`, which nobody else uses.
    ///
    /// # Errors
    /// As for [`FileDisk::new`].
    pub fn new(root: &Path, shelf: PathBuf) -> Result<Self, DiskError> {
        let disk = FileDisk::new(root)?;
        match fs::remove_file(&shelf) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DiskError::Failed(error.to_string()));
            }
            Ok(()) | Err(_) => {}
        }
        Ok(Self { disk, root: root.to_owned(), shelf, spare: Spare::None, wanted: 0 })
    }

    /// Looks whether the one who makes it has ended.
    fn settle(&mut self) {
        if matches!(&self.spare, Spare::Making(_, making) if making.is_finished()) {
            self.join();
        }
    }

    /// Waits for the one who makes it.
    fn join(&mut self) {
        self.spare = match mem::replace(&mut self.spare, Spare::None) {
            // What has failed, or panicked, has left nothing.
            Spare::Making(length, making) => match making.join() {
                Ok(Ok(())) => Spare::Made(length),
                Ok(Err(_)) | Err(_) => Spare::None,
            },
            spare @ (Spare::None | Spare::Made(_)) => spare,
        };
    }

    /// The spare under its new name, if there is one of this length. It is no loss if there is none.
    fn take(&mut self, path: &str, length: u64) -> Option<File> {
        self.join();
        let to = self.root.join(path);
        if !matches!(self.spare, Spare::Made(made) if made == length) || to.exists() {
            return None;
        }
        self.spare = Spare::None;
        fs::rename(&self.shelf, &to).ok()?;
        OpenOptions::new().read(true).write(true).open(&to).ok()
    }

    /// Begins to make a spare, unless there is one, or no room for it.
    fn make_another(&mut self) {
        self.settle();
        let length = self.wanted;
        let is_there = match self.spare {
            Spare::Making(..) => true,
            Spare::Made(made) => made == length,
            Spare::None => false,
        };
        if is_there {
            return;
        }
        // One of another length is of no use any more.
        drop(fs::remove_file(&self.shelf));
        self.spare = Spare::None;
        if !self.is_free(length) {
            return;
        }
        let shelf = self.shelf.clone();
        let make = move || {
            let made = fill(&shelf, length);
            if made.is_err() {
                // Half a file would only take room.
                drop(fs::remove_file(&shelf));
            }
            made
        };
        // Without a thread there is no spare.
        let making = Builder::new().name("raft-spare".into()).spawn(make);
        self.spare = making.map_or(Spare::None, |making| Spare::Making(length, making));
    }

    /// Whether so many bytes are free; if the system does not say, that shows when they are written.
    fn is_free(&self, bytes: u64) -> bool {
        free_bytes(&self.root).is_none_or(|free| bytes <= free)
    }
}

fn fill(path: &Path, length: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let mut left = length;
    while left > 0 {
        let part = usize::try_from(left).map_or(PART.len(), |left| left.min(PART.len()));
        file.write_all(&PART[..part])?;
        file.sync_data()?;
        left -= part as u64;
    }
    file.sync_all()
}

/// How many bytes are free for this process in the file system that a path is in; `None` where the
/// system does not say.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(path).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

impl Drop for SpareDisk {
    fn drop(&mut self) {
        // It is nobody's any more, whatever became of it.
        self.join();
        drop(fs::remove_file(&self.shelf));
    }
}

impl raft_replica::layer::Layer for SpareDisk {
    type Below = FileDisk;

    fn below(&mut self) -> &mut FileDisk {
        &mut self.disk
    }

    fn create(&mut self, path: &str, len: u64) -> Result<File, DiskError> {
        let is_large = len >= SPARE_BYTES_MIN;
        let spare = if is_large { self.take(path, len) } else { None };
        let file = match spare {
            Some(file) => file,
            None if !self.is_free(len) => return Err(DiskError::NoSpace),
            None => self.disk.create(path, len)?,
        };
        if is_large {
            self.wanted = len;
            self.make_another();
        }
        Ok(file)
    }

    /// For what the spare is for, the spare is the answer: where there is none, another attempt is made.
    fn has_room(&mut self, bytes: u64) -> bool {
        if bytes != self.wanted || bytes < SPARE_BYTES_MIN {
            return self.is_free(bytes);
        }
        self.make_another();
        !matches!(self.spare, Spare::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_file_was_there_before_it_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let (root, shelf) = (directory.path().join("raft"), directory.path().join("spare"));
        fs::create_dir(&root).unwrap();
        let mut disk = SpareDisk::new(&root, shelf.clone()).unwrap();
        drop(disk.create("first", SPARE_BYTES_MIN).unwrap());
        disk.join();
        assert!(
            matches!(disk.spare, Spare::Made(SPARE_BYTES_MIN)) && disk.has_room(SPARE_BYTES_MIN)
        );
        fs::write(&shelf, vec![7; 1 << 20]).unwrap();
        let second = disk.create("second", SPARE_BYTES_MIN).unwrap();
        let mut found = [0; 2];
        disk.read(&second, 0, &mut found).unwrap();
        assert_eq!(found, [7, 7], "it is the one that lay on the shelf");

        let other = disk.create("third", 2 * SPARE_BYTES_MIN).unwrap();
        assert_eq!(disk.len(&other).unwrap(), 2 * SPARE_BYTES_MIN, "a spare of that length only");
        assert_eq!(disk.create("third", 2 * SPARE_BYTES_MIN).unwrap_err(), DiskError::Exists);
        drop(disk);
        assert!(!shelf.exists(), "nothing is left behind");
    }
}
