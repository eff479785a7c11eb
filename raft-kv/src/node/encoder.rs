//! Turns the state into the bytes of a snapshot, beside the node's thread.
//!
//! With hundreds of megabytes this takes longer than an election timeout. The node goes on meanwhile: it
//! shares the state with what is encoded, and copies what it changes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::Builder;

use raft_core::SnapshotMeta;
use raft_replica::Frozen;
use tracing::{debug, warn};

use super::Event;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::Store;

/// Encodes the state on a thread of its own, which tells the node when it is done. The node asks for one
/// at a time.
pub(super) fn encode(
    snapshot: Arc<SnapshotMeta>,
    state: Frozen<Store>,
    (clock, metrics): (Clock, Metrics),
    inbox: Sender<Event>,
) {
    let (state, task) = (Arc::new(state), Task { snapshot, clock, metrics, inbox });
    let (shared, begun) = (Arc::clone(&state), task.clone());
    let started = Builder::new().name("raft-encode".into()).spawn(move || begun.run(&shared));
    if let Err(error) = started {
        // Better late than never: without a snapshot the log grows for ever.
        warn!(%error, "no thread for a snapshot: the node waits for it");
        task.run(&state);
    }
}

#[derive(Clone)]
struct Task {
    snapshot: Arc<SnapshotMeta>,
    clock: Clock,
    metrics: Metrics,
    inbox: Sender<Event>,
}

impl Task {
    fn run(self, state: &Frozen<Store>) {
        let begun = self.clock.now();
        // Nobody else would notice: the node waits for this snapshot before it takes the next one.
        let Ok(data) = catch_unwind(AssertUnwindSafe(|| state.encode())) else {
            drop(self.inbox.send(Event::NotEncoded));
            return;
        };
        let took = self.clock.now().since(begun);
        self.metrics.encoded(took);
        debug!(through = self.snapshot.last.index.0, bytes = data.len(), us = took.0, "encoded");
        // A node that has ended needs no snapshot.
        drop(self.inbox.send(Event::Encoded(self.snapshot, data)));
    }
}
