//! BND: what a node holds and sends at once is within the bounds of its options.
//!
//! Each message is looked at when it leaves, what a leader has not committed when it has appended it,
//! and now and then what it says of itself. One message, one entry and one command are always
//! admitted, however large they are: else they would wait for ever.
//!
//! Deliberately absent: the bytes of the log that stay in memory, which no other node can see.

use std::collections::VecDeque;

use raft_core::{Config, Entries, Envelope, Flow, Index, Payload, PeerStatus, PersistBatch, Rpc};
use raft_replica::replica::ReplicaOptions;

use super::ghost::Node;
use super::violation::{Invariant, Violation};

/// What a node holds between two steps, by its own account.
#[derive(Clone, Debug)]
pub struct Load {
    /// How entries flow from it, if it leads.
    pub peers: Vec<PeerStatus>,
    /// Requests that it has not answered.
    pub requests: usize,
    /// Sessions that are open.
    pub sessions: usize,
    /// The payloads of its log that are in memory.
    pub resident: Resident,
}

/// The payloads of a log that are in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resident {
    /// How many bytes they have.
    pub bytes: usize,
    /// Through where they are on disk only.
    pub cold: Index,
    /// Through where the log is durable, and applied.
    pub settled: Index,
}

/// The commands that a leader has appended in its term and that are not known to be committed: the
/// index and the bytes of each.
pub(super) type Uncommitted = VecDeque<(Index, usize)>;

/// A node sends a message.
pub(super) fn sent(
    options: &ReplicaOptions,
    node: &Node,
    envelope: &Envelope,
) -> Result<(), Violation> {
    let config = &options.config;
    if let Rpc::AppendEntries { entries, .. } = &envelope.rpc {
        within(node, "entries in an append", entries.len(), config.append_entries_max)?;
        if entries.len() > 1 {
            within(node, "bytes in an append", entries.bytes(), config.append_bytes_max)?;
        }
    } else if let Rpc::InstallSnapshot { data, .. } = &envelope.rpc {
        within(node, "bytes in a part", data.len(), config.snapshot_chunk_bytes)?;
    }
    Ok(())
}

/// A node has asked for a batch; what it has appended as a leader waits to be committed.
pub(super) fn appended(node: &mut Node, batch: &PersistBatch) {
    for entry in batch.append.iter().filter(|entry| node.led == Some(entry.term())) {
        if let Payload::Command(command) = entry.payload() {
            node.uncommitted.push_back((entry.index(), command.len()));
        }
    }
}

/// A node has asked for a batch: whoever has admitted its commands, none is too large.
pub(super) fn commands(
    options: &ReplicaOptions,
    node: &Node,
    batch: &PersistBatch,
) -> Result<(), Violation> {
    let most = options.config.command_bytes_max;
    let commands = batch.append.iter().filter_map(|entry| match entry.payload() {
        Payload::Command(command) => Some(command.len()),
        Payload::Noop | Payload::Membership(_) => None,
    });
    commands.max().map_or(Ok(()), |bytes| within(node, "bytes in a command", bytes, most))
}

/// The end of a step of a node, whose commit index is `commit`.
pub(super) fn stepped(
    options: &ReplicaOptions,
    node: &mut Node,
    commit: Index,
) -> Result<(), Violation> {
    if node.uncommitted.is_empty() {
        return Ok(());
    }
    if node.led != Some(node.issued.hard_state.term) {
        node.uncommitted.clear();
        return Ok(());
    }
    while node.uncommitted.front().is_some_and(|(index, _)| *index <= commit) {
        node.uncommitted.pop_front();
    }
    let sum = |commands: &Uncommitted| commands.iter().map(|(_, bytes)| bytes).sum();
    let is_one = node.uncommitted.iter().filter(|(_, bytes)| *bytes > 0).count() <= 1;
    let most = options.config.uncommitted_bytes_max;
    if is_one { Ok(()) } else { within(node, "uncommitted bytes", sum(&node.uncommitted), most) }
}

/// A node has applied these entries at once.
pub(super) fn applied(
    options: &ReplicaOptions,
    node: &Node,
    entries: &Entries,
) -> Result<(), Violation> {
    let most = options.config.unapplied_bytes_max;
    if entries.len() > 1 { within(node, "bytes to apply", entries.bytes(), most) } else { Ok(()) }
}

/// What a node says of itself.
pub(super) fn holds(options: &ReplicaOptions, node: &Node, load: &Load) -> Result<(), Violation> {
    let Config { inflight_appends_max, inflight_bytes_max, requests_max, .. } = options.config;
    for peer in &load.peers {
        let Flow::Replicate { appends, bytes } = peer.flow else { continue };
        within(node, "appends under way", appends, inflight_appends_max)?;
        if appends > 1 {
            within(node, "bytes under way", bytes, inflight_bytes_max)?;
        }
    }
    resident(options, node, load.resident)?;
    // Proposals and reads, each.
    within(node, "requests", load.requests, 2 * requests_max)?;
    within(node, "sessions", load.sessions, options.sessions_max as usize)
}

/// What is durable and applied stays in memory only as far as there is room for it, and nothing more is taken
/// where so much is that waits for either: one message may come on top.
fn resident(options: &ReplicaOptions, node: &Node, resident: Resident) -> Result<(), Violation> {
    let config = &options.config;
    let Resident { bytes, cold, settled } = resident;
    if cold < settled {
        within(node, "bytes of payloads in memory", bytes, config.resident_bytes_max)?;
    }
    let message = config.append_bytes_max.max(config.command_bytes_max);
    let parts = [config.unapplied_bytes_max, config.uncommitted_bytes_max, message];
    let most = parts.into_iter().fold(config.resident_bytes_max, usize::saturating_add);
    within(node, "bytes of payloads in memory, settled or not", bytes, most)
}

fn within(node: &Node, what: &str, found: usize, most: usize) -> Result<(), Violation> {
    if found <= most {
        return Ok(());
    }
    let (predicted, actual) = (format!("at most {most} {what}"), format!("{found} {what}"));
    Err(Violation::new(Invariant::Bounds, predicted, actual).on(node.member.id))
}
