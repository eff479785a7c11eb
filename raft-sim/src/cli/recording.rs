//! `raft-sim replay FILE` with what a server's core was given: its life, played again.

use bytes::Bytes;
use raft_core::wire::WireError;
use raft_core::{Recorded, Replay};
use raft_replica::recording::{self, Records};

use super::output::Output;
use super::{EXIT_DETERMINISM, EXIT_USAGE};

/// Whether a file is one.
pub(super) fn is_recording(content: &[u8]) -> bool {
    content.starts_with(recording::MAGIC)
}

/// Plays a recording to its end, or to where it leads elsewhere. A record that a crash has cut is no
/// error: it is the end. Returns the exit code.
pub(super) fn main(content: Vec<u8>, is_verbose: bool, mut output: Output) -> u8 {
    let mut life = Life { is_verbose, ..Life::default() };
    let exit_code = match Records::of(Bytes::from(content)) {
        Some(records) => life.play(records, &mut output),
        None => EXIT_USAGE,
    };
    output.finish(exit_code)
}

#[derive(Default)]
struct Life {
    replay: Replay,
    is_verbose: bool,
    starts: u64,
    batches: u64,
    messages: u64,
}

impl Life {
    fn play(&mut self, mut records: Records, output: &mut Output) -> u8 {
        let exit_code = loop {
            match records.next() {
                None => break 0,
                Some(Err(error)) => break self.is_no_record(error, output),
                Some(Ok(recorded)) => {
                    let place = self.replay.played();
                    self.tell(place, &recorded, output);
                    match self.replay.play(recorded) {
                        Ok(effects) if self.is_verbose => {
                            effects
                                .iter()
                                .for_each(|effect| output.line(format_args!("    {effect}")));
                        }
                        Ok(_) => {}
                        Err(error) => {
                            output.line(error);
                            break EXIT_DETERMINISM;
                        }
                    }
                }
            }
        };
        let Self { starts, batches, messages, .. } = self;
        output.line(format_args!("{starts} starts, {batches} batches, {messages} messages"));
        if let Some(raft) = self.replay.raft() {
            output.line(raft.status());
            output.line(format_args!("digest {:016x}", raft.digest()));
        }
        if exit_code == 0 && records.left() > 0 {
            let left = records.left();
            output.line(format_args!("the last record is cut: {left} bytes of it are there"));
        }
        exit_code
    }

    fn is_no_record(&self, error: WireError, output: &mut Output) -> u8 {
        output.line(format_args!("record {}: {error}", self.replay.played()));
        EXIT_USAGE
    }

    /// Counts a record, and shows it if that is asked for.
    fn tell(&mut self, place: u64, recorded: &Recorded, output: &mut Output) {
        match recorded {
            Recorded::Start(start) => {
                self.starts += 1;
                if self.is_verbose {
                    let (now, found) = (start.now, &start.found);
                    let (state, entries) = (found.hard_state, found.slots.len());
                    let snapshot = &found.snapshot;
                    let what = format_args!("{state} {snapshot} and {entries} entries");
                    output.line(format_args!("{place} {now} start from {what}"));
                }
            }
            Recorded::Batch(batch) => {
                self.batches += 1;
                self.messages += batch.messages.len() as u64;
                if self.is_verbose {
                    let messages = batch.messages.iter();
                    messages.for_each(|message| output.line(format_args!("{place} {message}")));
                }
            }
        }
    }
}
