//! Histories from files: JSON lines, or the log of a Jepsen test. The first line tells which.

mod jepsen;
mod jsonl;
mod scan;

use std::fmt;

use super::history::History;

/// A file that is no history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The line, counted from one.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.reason)
    }
}

impl std::error::Error for Malformed {}

/// Reads a history.
///
/// # Errors
/// The first line that makes no sense.
pub fn history(bytes: &[u8]) -> Result<History, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Malformed { line, reason: "this is not UTF-8".to_owned() }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.trim_start().bytes().next() {
        None => Err(Malformed { line: 1, reason: "the file is empty".to_owned() }),
        Some(b'{') => jsonl::read(text),
        Some(_) => jepsen::read(text),
    }
}

/// The lines of a text with their numbers, without those that are blank.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_ascii().is_empty())
}
