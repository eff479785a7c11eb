//! The node: one thread that owns the replica, and the way to it.
//!
//! The thread waits for events or for the replica's next deadline, takes everything that has arrived
//! as one batch, reads the clock, and carries out what the replica says: frames to the links, work to
//! the log thread, replies to who asked. It never waits for a disk or a network (but for the flight
//! recorder's file, if there is one), so heartbeats leave while a sync lasts; nor does it turn the state into the bytes of a snapshot, which another thread
//! does. Nothing else in the server touches consensus.

#[cfg(test)]
mod crowded;
mod driver;
mod encoder;
mod gateway;
mod recorder;
#[cfg(test)]
pub(crate) mod stalled;
mod view;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;
use raft_core::{Index, Member, RecoveredState, RoleName, SnapshotMeta, Term};
use raft_replica::replica::ReplicaOptions;
use raft_replica::request::{Reply, Request};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::bootstrap::DataDirectory;
use crate::clock::Clock;
use crate::links::{Links, News};
use crate::log_thread::{DiskNews, LogThread};
use crate::metrics::Metrics;
use crate::store::{Store, StoreCommand};

pub use recorder::Recorder;
pub use view::{Scrubbed, View};

use driver::Driver;
use gateway::Write;

/// What a node is made of.
#[derive(Debug)]
pub struct Parts {
    /// The options of the replica.
    pub options: ReplicaOptions,
    /// What the storage found.
    pub found: RecoveredState,
    /// The storage, on its thread.
    pub log: LogThread,
    /// The way to the peers.
    pub links: Links,
    /// The clock.
    pub clock: Clock,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to write down what the core is given.
    pub recorder: Option<Recorder>,
}

/// One thing that happens to the node.
pub(crate) enum Event {
    /// A link has something to tell.
    Link(News),
    /// The log thread has.
    Disk(DiskNews),
    /// A client wants the state changed.
    Write(Write),
    /// A client or an operator asks for something else.
    Ask(Request<Store>, oneshot::Sender<Reply<Store>>),
    /// A snapshot is in bytes now.
    Encoded(Arc<SnapshotMeta>, Bytes),
    /// A snapshot could not be made: its thread has panicked.
    NotEncoded,
    /// Somebody looks at the node as it is.
    Inspect(Inspection),
    /// The server ends.
    Stop,
}

/// What a command takes of what may be under way. It is given back when the command is answered, whether
/// anybody still waits for that or not.
pub(crate) type Share = Arc<OwnedSemaphorePermit>;

/// What looks at a node, on the node's thread.
pub(crate) type Inspection = Box<dyn FnOnce(&View<'_>) + Send>;

/// What everybody may know of the node without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// This server.
    pub me: Member,
    /// Its role.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// The leader that it knows.
    pub leader: Option<Member>,
    /// The last applied index.
    pub applied: Index,
    /// Whether it is a member, as far as it knows.
    pub is_member: bool,
    /// Why the node has ended, if it has.
    pub end: Option<End>,
}

/// Why a node has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// It cannot go on.
    Failed(String),
}

/// The node does not answer any more. What it was asked for may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node has stopped")
    }
}

impl std::error::Error for Gone {}

/// The way to the node's thread.
#[derive(Clone)]
pub struct Node {
    inbox: Sender<Event>,
    published: watch::Receiver<Published>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("published", &*self.published.borrow()).finish_non_exhaustive()
    }
}

impl Node {
    /// Starts the thread, which makes its `Parts` there and keeps the directory to its end.
    ///
    /// # Errors
    /// The system has no thread to give, or the parts cannot be made.
    pub(crate) fn start(
        make: impl FnOnce(Sender<Event>) -> io::Result<(Parts, DataDirectory)> + Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (inbox, events) = mpsc::channel();
        let (started, outcome) = mpsc::channel();
        let (sender, own) = (inbox.clone(), inbox.clone());
        let thread = Builder::new().name("raft-node".into()).spawn(move || {
            let made = make(sender).and_then(|(parts, directory)| {
                Driver::new(parts, (own, events))
                    .map(|(driver, published)| (driver, published, directory))
            });
            match made {
                Ok((driver, published, directory)) => {
                    // Whoever started this waits for the answer.
                    drop(started.send(Ok(published)));
                    driver.run();
                    // Until now nobody else could have the directory.
                    drop(directory);
                }
                Err(error) => {
                    drop(started.send(Err(error)));
                }
            }
        })?;
        let published = outcome.recv().map_err(|_| io::Error::other("the node has panicked"))??;
        Ok((Self { inbox, published }, thread))
    }

    /// What everybody may know; tells when it changes.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// What everybody may know, now.
    #[must_use]
    pub fn now(&self) -> Published {
        self.published.borrow().clone()
    }

    /// Changes the state, if this server leads.
    ///
    /// # Errors
    /// [`Gone`]: the outcome is unknown.
    pub async fn write(&self, command: StoreCommand) -> Result<Reply<Store>, Gone> {
        self.write_with(command, None).await
    }

    /// The same with what the command takes of what may be under way.
    pub(crate) async fn write_with(
        &self,
        command: StoreCommand,
        share: Option<Share>,
    ) -> Result<Reply<Store>, Gone> {
        let (answer, reply) = oneshot::channel();
        self.tell(Event::Write(Write { command, answer, share }))?;
        reply.await.map_err(|_| Gone)
    }

    /// Asks for anything but a command.
    ///
    /// # Errors
    /// [`Gone`]: the outcome is unknown.
    pub async fn ask(&self, request: Request<Store>) -> Result<Reply<Store>, Gone> {
        let (answer, reply) = oneshot::channel();
        self.tell(Event::Ask(request, answer))?;
        reply.await.map_err(|_| Gone)
    }

    /// Looks at the node as it is; `look` runs on its thread, and should be short.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, reply) = oneshot::channel();
        self.tell(Event::Inspect(Box::new(move |view| {
            // Who does not wait any more needs no answer.
            drop(answer.send(look(view)));
        })))?;
        reply.await.map_err(|_| Gone)
    }

    pub(crate) fn tell(&self, event: Event) -> Result<(), Gone> {
        self.inbox.send(event).map_err(|_| Gone)
    }

    /// Ends the node once it has taken everything that came before.
    pub fn stop(&self) {
        // If it has ended already, that is what was wanted.
        let _: Result<(), Gone> = self.tell(Event::Stop);
    }
}
