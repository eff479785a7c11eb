//! A list of events, or bytes that are read as one, as the life of a cluster.

use crate::cluster::{Cluster, Life};
use crate::event::Event;
use crate::shape::Shape;

/// A longer life is cut: what goes wrong late can go wrong early.
const EVENTS_MAX: usize = 600;

/// Servers live through what the bytes say, and keep the promises of Raft.
///
/// The first two bytes choose the options and the size. Then every two bytes are one event: what,
/// and where. The format is plain on purpose: an engine that changes, drops or repeats bytes
/// changes, drops or repeats events.
///
/// # Panics
/// If a promise is broken.
pub fn step(data: &[u8]) {
    step_life(data);
}

/// The same, and what has happened: so that a test can tell that a corpus is worth its name.
///
/// # Panics
/// If a promise is broken.
pub fn step_life(data: &[u8]) -> Life {
    let (head, events) = data.split_at(data.len().min(2));
    let byte = |at: usize| head.get(at).copied().unwrap_or_default();
    let shape = Shape::from_bytes(byte(0), byte(1));
    let events = events.chunks_exact(2);
    live(shape, events.map(|event| Event::from_bytes(event[0], event[1], shape.servers())))
}

/// Lets a cluster live through events, and heals it.
///
/// It keeps the promises of Raft at every step: Election Safety, Log Matching, Leader
/// Completeness, State Machine Safety, one vote in a term across restarts, rising terms and commit
/// indices, commitment by a quorum of durable copies, durability before every claim, linearizable
/// reads, one true outcome for each request; and, once all faults have ended, progress.
///
/// # Panics
/// If a promise is broken.
pub fn live(shape: Shape, events: impl IntoIterator<Item = Event>) -> Life {
    let mut cluster = Cluster::new(shape);
    for event in events.into_iter().take(EVENTS_MAX) {
        event.happen(&mut cluster);
    }
    cluster.heal();
    cluster.life
}
