//! The flight recorder: all that the core is given, in a file that `raft-sim replay` plays.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use raft_core::Recorded;
use raft_replica::recording;
use tracing::warn;

/// Appends to a file until it is full. A recording has no gaps, and later batches mean nothing
/// without earlier ones: what is kept of a long life is its beginning.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: File,
    left: u64,
    buffer: Vec<u8>,
}

impl Recorder {
    /// Begins a file of at most so many bytes. One that is there is renamed to `PATH.1` first: it may
    /// tell why this server had to be started again.
    ///
    /// # Errors
    /// The file system's, with the file's name.
    pub fn create(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("the flight recorder {}: {error}", path.display()))
        };
        Self::begin(path, bytes_max).map_err(named)
    }

    fn begin(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let mut earlier = path.as_os_str().to_owned();
        earlier.push(".1");
        match fs::rename(path, &earlier) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = File::create_new(path)?;
        file.write_all(recording::MAGIC)?;
        let left = bytes_max.saturating_sub(recording::MAGIC.len() as u64);
        Ok(Self { path: path.to_owned(), file, left, buffer: Vec::new() })
    }

    /// Writes and goes on, or says why not.
    pub(super) fn keep(&mut self, recorded: &[Recorded]) -> bool {
        let written = self.write(recorded);
        let file = self.path.display();
        match written {
            Ok(true) => return true,
            Ok(false) => warn!(%file, "the flight recorder is full: it ends here"),
            Err(error) => warn!(%file, %error, "the flight recorder cannot write: it ends here"),
        }
        false
    }

    /// Writes what there is room for, record by record, and tells whether that was all.
    fn write(&mut self, recorded: &[Recorded]) -> io::Result<bool> {
        self.buffer.clear();
        let mut is_all = true;
        for recorded in recorded {
            let end = self.buffer.len();
            recording::write(recorded, &mut self.buffer);
            if self.buffer.len() as u64 > self.left {
                self.buffer.truncate(end);
                is_all = false;
                break;
            }
        }
        self.file.write_all(&self.buffer)?;
        self.left -= self.buffer.len() as u64;
        Ok(is_all)
    }
}
