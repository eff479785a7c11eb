//! Files that a run is written to.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::EXIT_OUTPUT;
use super::output::tell;
use crate::trace::Trace;
use crate::trace::file::TraceFile;

/// The file of `--trace`.
pub(super) struct TraceTo<'a> {
    path: &'a Path,
    file: Rc<RefCell<TraceFile<BufWriter<File>>>>,
}

impl<'a> TraceTo<'a> {
    /// An empty file.
    ///
    /// # Errors
    /// The exit code; the person has been told.
    pub(super) fn create(path: &'a PathBuf) -> Result<Self, u8> {
        let file = File::create(path).map_err(|error| refused(path, &error))?;
        Ok(Self { path, file: Rc::new(RefCell::new(TraceFile::new(BufWriter::new(file)))) })
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

/// Tells that a file cannot be written, and returns the exit code that says so.
pub(super) fn refused(path: &Path, error: &io::Error) -> u8 {
    tell(format_args!("error: cannot write {}: {error}", path.display()));
    EXIT_OUTPUT
}
