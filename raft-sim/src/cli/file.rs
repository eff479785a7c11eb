//! Files that a run is written to.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::rc::Rc;
use std::sync::Mutex;

use super::output::{on_interrupt, tell};
use super::{EXIT_INTERRUPTED, EXIT_OUTPUT};
use crate::trace::Trace;
use crate::trace::file::TraceFile;

/// The file of `--trace`.
pub(super) struct TraceTo<'a> {
    path: &'a Path,
    file: Rc<RefCell<TraceFile<WholeLines<File>>>>,
}

impl<'a> TraceTo<'a> {
    /// An empty file.
    ///
    /// # Errors
    /// The exit code; the person has been told.
    pub(super) fn create(path: &'a PathBuf) -> Result<Self, u8> {
        let file = File::create(path).map_err(|error| refused(path, &error))?;
        Ok(Self { path, file: Rc::new(RefCell::new(TraceFile::new(WholeLines::new(file)))) })
    }

    /// The run with this trace is written to the file as well.
    pub(super) fn watch(&self, trace: Trace) -> Trace {
        trace.watched_by(Rc::clone(&self.file))
    }

    /// The exit code if the file is not complete; 0 if it is.
    pub(super) fn finish(&self) -> u8 {
        match self.file.borrow_mut().finish() {
            Ok(()) => 0,
            Err(error) => refused(self.path, &error),
        }
    }
}

/// Held while a file is written that must end with a whole line, whenever the process ends.
static WRITING: Mutex<()> = Mutex::new(());

/// An interrupt ends the process with a line for the person who pressed; a trace that is being written
/// ends with a whole line.
pub(super) fn end_on_interrupt(line: &'static str) {
    on_interrupt(move || {
        // Whoever panicked while it was held writes no more.
        let _writing = WRITING.lock();
        tell(line);
        process::exit(EXIT_INTERRUPTED.into());
    });
}

/// Hands on whole lines only, many at once.
#[derive(Debug)]
struct WholeLines<W> {
    to: W,
    bytes: Vec<u8>,
}

/// So many bytes are kept back at most, and the rest of a line.
const KEPT_BYTES: usize = 64 << 10;

impl<W: Write> WholeLines<W> {
    fn new(to: W) -> Self {
        Self { to, bytes: Vec::new() }
    }

    fn hand_on(&mut self, end: usize) -> io::Result<()> {
        let _writing = WRITING.lock();
        self.to.write_all(&self.bytes[..end])?;
        self.bytes.drain(..end);
        Ok(())
    }
}

impl<W: Write> Write for WholeLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > KEPT_BYTES
            && let Some(last) = self.bytes.iter().rposition(|byte| *byte == b'\n')
        {
            self.hand_on(last + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_on(self.bytes.len())?;
        self.to.flush()
    }
}

/// Makes sure, before there is work that would be lost, that a file can be written there. What is in it
/// stays, and none is left where none was.
///
/// # Errors
/// The exit code; the person has been told.
pub(super) fn must_be_writable(path: &Path) -> Result<(), u8> {
    let is_there = path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| refused(path, &error))?;
    if !is_there {
        drop(fs::remove_file(path));
    }
    Ok(())
}

/// Writes a file. One that cannot be written to its end is removed: nobody must take it for the whole.
/// Returns the exit code; the person has been told.
pub(super) fn write(path: &Path, content: &str) -> u8 {
    let Err(error) = fs::write(path, content) else { return 0 };
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        drop(fs::remove_file(path));
    }
    refused(path, &error)
}

/// Tells that a file cannot be written, and returns the exit code that says so.
pub(super) fn refused(path: &Path, error: &io::Error) -> u8 {
    tell(format_args!("error: cannot write {}: {error}", path.display()));
    EXIT_OUTPUT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed on, each time.
    #[derive(Default)]
    struct Times(Vec<Vec<u8>>);

    impl Write for Times {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_stops_at_any_time_has_written_whole_lines() {
        let mut lines = WholeLines::new(Times::default());
        let mut all = String::new();
        for number in 0..3_000 {
            let line = format!("{{\"line\":{number},\"{}\":0}}\n", "x".repeat(number % 97));
            line.as_bytes()
                .chunks(7)
                .for_each(|part| lines.write_all(part).expect("memory takes it"));
            all.push_str(&line);
        }
        let before = lines.to.0.clone();
        assert!(before.len() > 1, "it does not keep all of it");
        assert!(before.iter().all(|written| written.ends_with(b"\n")));
        lines.flush().expect("memory takes it");
        assert!(lines.to.0.concat() == all.as_bytes());
    }
}
