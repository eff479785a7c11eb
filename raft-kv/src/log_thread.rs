//! The thread that owns the disk: takes all work that waits, writes it, syncs once, answers.
//!
//! So the more is asked for while a sync lasts, the more the next one covers (group commit), and
//! nobody else ever waits for a disk. What takes long and is not urgent is done in small parts between
//! the batches: a snapshot is saved, and what nobody asks for is read now and then, so that damage is
//! found while there still is another copy (a *scrub*). After a failure nothing more is done: what the
//! disk holds is unknown until the next start has read it.
//!
//! A full disk is no failure. It is told as soon as there is no room for the log's *next* file:
//! what was accepted until then still fits into the present one, so that a vote, which needs no
//! room, does not wait behind an entry that does. If there is no room even so, what is asked for
//! waits, and what may free some goes on: a snapshot is saved to its end as far as it fits, and
//! given up otherwise; the log that a batch further back lets go of goes at once.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use bytes::Bytes;
use raft_core::{Index, SnapshotMeta, Span, Time};
use raft_replica::disk::Disk;
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{ScrubStep, Storage, StorageError};

use crate::clock::Clock;
use crate::metrics::Metrics;

/// How long there is nothing to do before the disk is told so.
const REST: Span = Span(200_000);

/// How often it is looked whether a full disk has room.
const FULL: Span = Span(100_000);

/// How often a little of the disk is scrubbed.
const SCRUB: Span = Span(250_000);

/// How much of a snapshot is written, and synced, between two batches.
const PART_BYTES: u64 = 512 << 10;

/// How many times as long as a part took the disk is left to batches before the next one. A batch that
/// comes meanwhile waits for its own sync alone, and other servers on the same disk get their turn.
const PAUSE: u64 = 2;

/// What the thread has to tell.
#[derive(Debug)]
pub enum DiskNews {
    /// A piece of work is done.
    Done(Done),
    /// There is no room for the log's next file, or for a piece of work; or there is some again.
    Full(bool),
    /// A scrub has found something, or has been through all of the disk.
    Scrubbed(ScrubStep),
    /// The disk has failed; nothing more will be done.
    Failed(StorageError),
    /// The thread has panicked, which has been printed; nothing more will be done.
    Panicked,
}

/// The way to the thread. It ends when this is dropped, after what was asked for is done and the disk knows
/// that it was acknowledged; a snapshot that is not whole by then is given up.
#[derive(Debug)]
pub struct LogThread {
    work: Option<Sender<Work>>,
    is_closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LogThread {
    /// Starts the thread, which scrubs about `scrub_bytes_per_s` of the disk; zero: nothing. `tell` is
    /// called on it; false: nobody listens any more.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start<D>(
        storage: Storage<D>,
        clock: Clock,
        metrics: Metrics,
        scrub_bytes_per_s: u64,
        tell: impl Fn(DiskNews) -> bool + Send + 'static,
    ) -> io::Result<Self>
    where
        D: Disk + Send + 'static,
        D::File: Send,
    {
        let (sender, work) = mpsc::channel();
        let is_closing = Arc::new(AtomicBool::new(false));
        let now = clock.now();
        let mut writer = Writer {
            storage,
            clock,
            metrics,
            tell,
            inbox: work,
            waiting: VecDeque::new(),
            unsynced: 0,
            is_full: false,
            closing: Arc::clone(&is_closing),
            save: None,
            save_begun: now,
            rest: Some(now.after(REST)),
            scrub: (scrub_bytes_per_s > 0).then_some(now.after(SCRUB)),
            scrub_bytes: (scrub_bytes_per_s / (1_000_000 / SCRUB.0)).max(1),
        };
        let thread = Builder::new().name("raft-log".into()).spawn(move || {
            // Whoever waits for the disk would wait for ever.
            match catch_unwind(AssertUnwindSafe(|| writer.run())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => drop((writer.tell)(DiskNews::Failed(error))),
                Err(_) => drop((writer.tell)(DiskNews::Panicked)),
            }
        })?;
        Ok(Self { work: Some(sender), is_closing, thread: Some(thread) })
    }

    /// Asks for a piece of work. It is done after all that was asked for before, but for a snapshot that
    /// is to be saved: batches need not wait for it.
    pub fn ask(&self, work: Work) {
        if let Some(sender) = &self.work {
            // After a failure the thread is gone; it has said so.
            drop(sender.send(work));
        }
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        drop(self.work.take());
        self.is_closing.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; this must not be a second one.
            drop(thread.join());
        }
    }
}

struct Writer<D: Disk, T> {
    storage: Storage<D>,
    clock: Clock,
    metrics: Metrics,
    tell: T,
    inbox: Receiver<Work>,
    /// What has been asked for and not been begun.
    waiting: VecDeque<Work>,
    /// How many batches are written and not synced.
    unsynced: u64,
    /// What was told last.
    is_full: bool,
    /// Whether nobody waits for room on the disk any more.
    closing: Arc<AtomicBool>,
    /// When the next part of a snapshot is due, if one is being saved.
    save: Option<Time>,
    /// When that one was begun.
    save_begun: Time,
    /// When the disk is told that there is nothing to do, unless it has been.
    rest: Option<Time>,
    /// When the next part of a scrub is due, and its size.
    scrub: Option<Time>,
    scrub_bytes: u64,
}

impl<D: Disk, T: Fn(DiskNews) -> bool> Writer<D, T> {
    fn run(&mut self) -> Result<(), StorageError> {
        loop {
            match self.wait() {
                Ok(first) => self.waiting.push_back(first),
                Err(RecvTimeoutError::Timeout) => {}
                // There will be nothing to do any more, for as long as the server is away.
                Err(RecvTimeoutError::Disconnected) => {
                    return has_room(self.storage.rest()).map(drop);
                }
            }
            self.waiting.extend(self.inbox.try_iter());
            while let Some(work) = self.waiting.pop_front() {
                self.work(&work)?;
            }
            self.sync()?;
            self.beside()?;
        }
    }

    /// The next piece of work, unless something else is due before it comes.
    fn wait(&self) -> Result<Work, RecvTimeoutError> {
        let look = self.is_full.then(|| self.clock.now().after(FULL));
        match [self.save, self.rest, self.scrub, look].into_iter().flatten().min() {
            Some(due) => self.inbox.recv_timeout(self.clock.until(due)),
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn work(&mut self, work: &Work) -> Result<(), StorageError> {
        match work {
            Work::Persist { .. } => self.unsynced += 1,
            Work::SaveSnapshot { snapshot, data } => return self.begin_snapshot(snapshot, data),
            Work::LoadSnapshot { .. }
            | Work::Load(_)
            | Work::ReadChunk(_)
            | Work::StageChunk { .. } => {
                // It may take long, and what was written before must not wait for it.
                self.sync()?;
            }
        }
        self.rest = Some(self.clock.now().after(REST));
        // What does not fit is handed in again; to keep it costs references only.
        if let Some(done) = self.until_it_fits(|storage| storage.write(work.clone()))? {
            (self.tell)(DiskNews::Done(done));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        if self.unsynced == 0 {
            return Ok(());
        }
        let begun = self.clock.now();
        let done = self.until_it_fits(Storage::sync)?;
        self.metrics.synced(self.clock.now().since(begun), self.unsynced);
        self.unsynced = 0;
        if let Some(done) = done {
            (self.tell)(DiskNews::Done(done));
        }
        Ok(())
    }

    fn begin_snapshot(
        &mut self,
        snapshot: &Arc<SnapshotMeta>,
        data: &Bytes,
    ) -> Result<(), StorageError> {
        self.save_begun = self.clock.now();
        self.save = Some(self.save_begun);
        self.storage.begin_snapshot(snapshot, data)
    }

    /// Does a little of what is not urgent.
    fn beside(&mut self) -> Result<(), StorageError> {
        let is_full = !self.storage.has_room();
        self.tell_full(is_full);
        let now = self.clock.now();
        let is_due = |due: Option<Time>| due.is_some_and(|due| due <= now);
        if is_due(self.save) {
            self.save_part()?;
        }
        if is_due(self.rest) {
            // Until more is written the disk knows that what it has was acknowledged.
            self.rest = None;
            has_room(self.storage.rest())?;
        }
        if is_due(self.scrub) {
            let step = has_room(self.storage.scrub(self.scrub_bytes))?.unwrap_or_default();
            self.scrub = Some(self.clock.now().after(SCRUB));
            self.metrics.scrubbed(&step);
            if step != (ScrubStep { bytes: step.bytes, ..ScrubStep::default() }) {
                (self.tell)(DiskNews::Scrubbed(step));
            }
        }
        Ok(())
    }

    fn save_part(&mut self) -> Result<(), StorageError> {
        let begun = self.clock.now();
        match has_room(self.storage.save_part(PART_BYTES))? {
            Some(Some(done)) => {
                self.save = None;
                self.metrics.saved(self.clock.now().since(self.save_begun));
                (self.tell)(DiskNews::Done(done));
            }
            Some(None) => self.save = Some(next_part(begun, self.clock.now())),
            None => self.save = Some(self.clock.now().after(FULL)),
        }
        Ok(())
    }

    fn tell_full(&mut self, is_full: bool) {
        if mem::replace(&mut self.is_full, is_full) != is_full {
            (self.tell)(DiskNews::Full(is_full));
        }
    }

    /// Tries again while there is no room, and the server is not about to end. Whether there is room for
    /// more is looked at afterwards.
    fn until_it_fits<R>(
        &mut self,
        mut work: impl FnMut(&mut Storage<D>) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        loop {
            let result = work(&mut self.storage);
            let is_closing = self.closing.load(Ordering::Acquire);
            if !matches!(result, Err(StorageError::NoSpace { .. })) || is_closing {
                return result;
            }
            self.tell_full(true);
            self.make_room()?;
        }
    }

    /// Does what may free some room, a little of it, or waits for a while.
    fn make_room(&mut self) -> Result<(), StorageError> {
        let look = self.clock.now().after(FULL);
        let due = self.save.map_or(look, |save| save.min(look));
        match self.inbox.recv_timeout(self.clock.until(due)) {
            Ok(work) => self.waiting.push_back(work),
            Err(RecvTimeoutError::Timeout) => {}
            // The server is about to end, and says so in a moment.
            Err(RecvTimeoutError::Disconnected) => {
                thread::park_timeout(Duration::from_micros(FULL.0));
            }
        }
        self.waiting.extend(self.inbox.try_iter());
        for work in mem::take(&mut self.waiting) {
            match &work {
                // What is applied is durable, whatever else waits.
                Work::SaveSnapshot { snapshot, data } => {
                    self.begin_snapshot(snapshot, data)?;
                    continue;
                }
                Work::Persist { batch, .. } => {
                    self.storage.may_compact(batch.compact_to.unwrap_or(Index::ZERO));
                }
                Work::LoadSnapshot { .. }
                | Work::Load(_)
                | Work::ReadChunk(_)
                | Work::StageChunk { .. } => {}
            }
            self.waiting.push_back(work);
        }
        if self.save.is_some_and(|due| due <= self.clock.now()) {
            self.save_part()?;
        }
        Ok(())
    }
}

/// When the part is due that follows one which took this time.
fn next_part(begun: Time, done: Time) -> Time {
    done.after(Span(done.since(begun).0.saturating_mul(PAUSE)))
}

/// What has come of it; `None`: there is no room for it now.
fn has_room<R>(result: Result<R, StorageError>) -> Result<Option<R>, StorageError> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(StorageError::NoSpace { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_has_longer_pauses_between_the_parts_of_a_snapshot() {
        assert_eq!(next_part(Time(5), Time(5)), Time(5), "a disk that takes no time needs none");
        assert_eq!(next_part(Time(100), Time(130)), Time(190));
    }
}
