//! The thread that owns the disk: takes all work that waits, writes it, syncs once, answers.
//!
//! So the more is asked for while a sync lasts, the more the next one covers (group commit), and
//! nobody else ever waits for a disk. A full disk is no failure: what is asked for waits until there is
//! room again. After a failure nothing more is done: what the disk holds is unknown until the next
//! start has read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use raft_replica::disk::Disk;
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Storage, StorageError};

use crate::clock::Clock;
use crate::metrics::Metrics;

/// How long there is nothing to do before the disk is told so.
const REST: Duration = Duration::from_millis(200);

/// How often it is looked whether a full disk has room.
const FULL: Duration = Duration::from_millis(100);

/// What the thread has to tell.
#[derive(Debug)]
pub enum DiskNews {
    /// A piece of work is done.
    Done(Done),
    /// The disk has failed; nothing more will be done.
    Failed(StorageError),
}

/// The way to the thread. It ends when this is dropped, after what was asked for is done.
#[derive(Debug)]
pub struct LogThread {
    work: Option<Sender<Work>>,
    is_closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LogThread {
    /// Starts the thread. `tell` is called on it; false: nobody listens any more.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start<D>(
        storage: Storage<D>,
        clock: Clock,
        metrics: Metrics,
        tell: impl Fn(DiskNews) -> bool + Send + 'static,
    ) -> io::Result<Self>
    where
        D: Disk + Send + 'static,
        D::File: Send,
    {
        let (sender, work) = mpsc::channel();
        let is_closing = Arc::new(AtomicBool::new(false));
        let closing = Arc::clone(&is_closing);
        let mut writer = Writer { storage, clock, metrics, tell, unsynced: 0, closing };
        let thread = Builder::new().name("raft-log".into()).spawn(move || {
            if let Err(error) = writer.run(&work) {
                (writer.tell)(DiskNews::Failed(error));
            }
        })?;
        Ok(Self { work: Some(sender), is_closing, thread: Some(thread) })
    }

    /// Asks for a piece of work. It is done after all that was asked for before.
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
    /// How many batches are written and not synced.
    unsynced: u64,
    /// Whether nobody waits for room on the disk any more.
    closing: Arc<AtomicBool>,
}

impl<D: Disk, T: Fn(DiskNews) -> bool> Writer<D, T> {
    fn run(&mut self, inbox: &Receiver<Work>) -> Result<(), StorageError> {
        let mut waiting = Vec::new();
        while let Some(first) = self.next(inbox)? {
            waiting.push(first);
            waiting.extend(inbox.try_iter());
            for work in mem::take(&mut waiting) {
                if matches!(work, Work::Persist { .. }) {
                    self.unsynced += 1;
                } else {
                    // It may take long, and what was written before must not wait for it.
                    self.sync()?;
                }
                // What does not fit is handed in again; to keep it costs references only.
                if let Some(done) = self.until_it_fits(|storage| storage.write(work.clone()))? {
                    (self.tell)(DiskNews::Done(done));
                }
            }
            self.sync()?;
        }
        Ok(())
    }

    /// The next piece of work; `None`: there will be none. A disk with nothing to do is told that what
    /// it has was acknowledged.
    fn next(&mut self, inbox: &Receiver<Work>) -> Result<Option<Work>, StorageError> {
        match inbox.recv_timeout(REST) {
            Ok(work) => return Ok(Some(work)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
        match self.storage.rest() {
            // It can wait for the next batch.
            Err(StorageError::NoSpace { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        Ok(inbox.recv().ok())
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

    /// Tries again while the disk is full, and the server is not about to end.
    fn until_it_fits<R>(
        &mut self,
        mut work: impl FnMut(&mut Storage<D>) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        loop {
            match work(&mut self.storage) {
                Err(StorageError::NoSpace { .. }) if !self.closing.load(Ordering::Acquire) => {
                    thread::park_timeout(FULL);
                }
                result => return result,
            }
        }
    }
}
