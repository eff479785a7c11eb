//! A disk that has the log's next file ready.
//!
//! A segment of the log is made of zeros before anything is written to it, so that no sync of it has
//! to wait for the file system to find room. To fill and sync one takes as long as hundreds of commits;
//! if the log thread did so, all of them would wait. So as soon as a large file was made, a thread of
//! its own makes another of the same length beside the data, and the next one is that, under its new
//! name. What a crash leaves of it is removed at the next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
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
    /// Whoever makes it; the length of what was made.
    making: Option<JoinHandle<io::Result<u64>>>,
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
        Ok(Self { disk, root: root.to_owned(), shelf, making: None })
    }

    /// The spare under its new name, if there is one of this length. It is no loss if there is none.
    fn take(&mut self, path: &str, length: u64) -> Option<File> {
        let made = self.making.take()?.join().ok()?.ok()?;
        let to = self.root.join(path);
        if made != length || to.exists() {
            return None;
        }
        fs::rename(&self.shelf, &to).ok()?;
        OpenOptions::new().read(true).write(true).open(&to).ok()
    }

    fn make_another(&mut self, length: u64) {
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
        self.making = Builder::new().name("raft-spare".into()).spawn(make).ok();
    }
}

fn fill(path: &Path, length: u64) -> io::Result<u64> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let mut left = length;
    while left > 0 {
        let part = usize::try_from(left).map_or(PART.len(), |left| left.min(PART.len()));
        file.write_all(&PART[..part])?;
        file.sync_data()?;
        left -= part as u64;
    }
    file.sync_all()?;
    Ok(length)
}

impl Drop for SpareDisk {
    fn drop(&mut self) {
        if let Some(making) = self.making.take() {
            // It is nobody's any more, whatever became of it.
            drop(making.join());
        }
        drop(fs::remove_file(&self.shelf));
    }
}

impl Disk for SpareDisk {
    type File = File;

    fn open(&mut self, path: &str) -> Result<File, DiskError> {
        self.disk.open(path)
    }

    fn create(&mut self, path: &str, len: u64) -> Result<File, DiskError> {
        if len < SPARE_BYTES_MIN {
            return self.disk.create(path, len);
        }
        let file = match self.take(path, len) {
            Some(file) => file,
            None => self.disk.create(path, len)?,
        };
        self.make_another(len);
        Ok(file)
    }

    fn len(&mut self, file: &File) -> Result<u64, DiskError> {
        self.disk.len(file)
    }

    fn read(&mut self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read(file, offset, buffer)
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.disk.write(file, offset, data)
    }

    fn sync(&mut self, file: &File) -> Result<(), DiskError> {
        self.disk.sync(file)
    }

    fn create_dir(&mut self, path: &str) -> Result<(), DiskError> {
        self.disk.create_dir(path)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.disk.remove(path)
    }

    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.disk.list(dir)
    }

    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError> {
        self.disk.sync_dir(dir)
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
        disk.making.take().map(JoinHandle::join).unwrap().unwrap().unwrap();
        disk.making = Builder::new().spawn(|| Ok(SPARE_BYTES_MIN)).ok();
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
