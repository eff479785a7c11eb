//! Standard output, what is told to the person who waits, and the interrupt that this person sends.

use std::fmt;
use std::io::{self, Write};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{EXIT_INTERRUPTED, EXIT_OUTPUT};
use crate::report::worse;

/// A flag that the first interrupt sets, with a line for the person who pressed; the second one ends
/// the process.
pub(super) fn stop_on_interrupt(line: &'static str) -> &'static AtomicBool {
    static STOP: AtomicBool = AtomicBool::new(false);
    on_interrupt(move || {
        if STOP.swap(true, Ordering::Relaxed) {
            process::exit(EXIT_INTERRUPTED.into());
        }
        tell(line);
    });
    &STOP
}

/// Without a handler, which is no reason not to run, an interrupt just ends the process.
pub(super) fn on_interrupt(handler: impl FnMut() + Send + 'static) {
    drop(ctrlc::set_handler(handler));
}

/// A line for the person who waits. It says nothing that matters if nobody can read it.
pub(super) fn tell(line: impl fmt::Display) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Standard output, and the first thing that went wrong with it.
#[derive(Debug, Default)]
pub(super) struct Output {
    broken: Option<io::Error>,
}

impl Output {
    pub(super) fn line(&mut self, line: impl fmt::Display) {
        if self.broken.is_none() {
            self.broken = writeln!(io::stdout(), "{line}").err();
        }
    }

    /// The exit code, given that of the runs.
    pub(super) fn finish(self, exit_code: u8) -> u8 {
        match self.broken {
            None => exit_code,
            // Whoever closes a pipe has seen enough.
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => exit_code,
            Some(error) => {
                tell(format_args!("error: cannot write to standard output: {error}"));
                worse(exit_code, EXIT_OUTPUT)
            }
        }
    }
}
