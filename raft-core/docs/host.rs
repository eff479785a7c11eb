use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use std::{io, sync::Arc, thread};

use raft_core::*;

pub trait Host: Send + 'static {
    /// Write, in order, and sync; with `install`, first the staged snapshot. An error halts the node. (A
    /// thread of its own may do it and send `Persisted` later.)
    fn persist(&mut self, batch: PersistBatch) -> io::Result<()>;
    /// Whether the disk has too little room for more entries; asked in every round of the loop. Say so
    /// early: what is on its way to `persist` must still fit.
    fn is_disk_full(&mut self) -> bool;
    /// Queue for the network; never wait; drop it if the peer is slow.
    fn send(&mut self, envelope: Envelope);
    fn apply(&mut self, entries: &Entries);
    /// The state machine becomes what the durable snapshot says.
    fn restore(&mut self, snapshot: Arc<SnapshotMeta>);
    fn read_chunk(&mut self, request: ChunkRequest) -> Option<Chunk>;
    /// Returns how many bytes are staged now.
    fn stage_chunk(&mut self, snapshot: EntryId, offset: u64, data: &[u8]) -> u64;
    fn load(&mut self, request: LoadRequest) -> Option<Entries>;
    /// The answer to a client: its ticket's one outcome, or the index at which to read and the time
    /// until which that may be answered. Read, then look at the clock, then answer.
    fn answer(
        &mut self,
        ticket: Ticket,
        answer: Result<(Index, Option<Time>), Outcome>,
        now: &dyn Fn() -> Time,
    );
}

/// Starts a node, and returns its inbox. If that is full, drop a peer's message, and tell a client to come
/// later. The node ends once nobody holds its inbox any more, or when it halts: then the inbox is closed,
/// and what was left in it has no answer.
pub fn start(raft: Raft, first: Vec<Effect>, mut host: impl Host) -> SyncSender<Body> {
    let (sender, inbox) = sync_channel(1024);
    thread::spawn(move || run(raft, first, &inbox, &mut host));
    sender
}

pub fn run(mut raft: Raft, mut effects: Vec<Effect>, inbox: &Receiver<Body>, host: &mut impl Host) {
    let started = Instant::now();
    let now = || Time(started.elapsed().as_micros() as u64);
    let (mut inputs, mut has_failed) = (Vec::new(), false);
    loop {
        for effect in effects.drain(..) {
            match effect {
                Effect::Persist(_) if has_failed => {} // What the disk holds is unknown now.
                Effect::Persist(batch) => {
                    let seq = batch.seq;
                    has_failed = host.persist(batch).is_err();
                    inputs.push(if has_failed {
                        Body::PersistFailed
                    } else {
                        Body::Persisted { seq }
                    });
                }
                Effect::Send(envelope) => host.send(envelope),
                Effect::Apply { entries } => {
                    host.apply(&entries);
                    inputs
                        .extend(entries.last().map(|last| Body::Applied { through: last.index() }));
                }
                Effect::RestoreState { snapshot } => {
                    inputs.push(Body::Applied { through: snapshot.last.index });
                    host.restore(snapshot);
                }
                Effect::ReadChunk(request) => {
                    let chunk = host.read_chunk(request);
                    inputs.push(Body::ChunkRead { request, chunk });
                }
                Effect::StageChunk { id, snapshot, offset, data, done: _ } => {
                    let staged = host.stage_chunk(snapshot.last, offset, &data);
                    inputs.push(Body::ChunkStaged { id, staged });
                }
                Effect::Load(request) => {
                    let entries = host.load(request);
                    inputs.push(Body::Loaded { request, entries });
                }
                Effect::Outcome { ticket, outcome } => host.answer(ticket, Err(outcome), &now),
                Effect::ReadReady { ticket, index, valid_until } => {
                    host.answer(ticket, Ok((index, valid_until)), &now);
                }
                Effect::Observe(observation) => println!("{observation:?}"),
            }
        }
        let status = raft.status();
        if status.role == RoleName::Halted {
            return; // Its tickets have ended. Only another start, from the disk, goes on.
        }
        let is_full = host.is_disk_full();
        if is_full != status.is_disk_full {
            inputs.push(Body::DiskFull { is_full });
        }
        if inputs.is_empty() {
            let wait = raft
                .next_deadline()
                .map_or(Duration::MAX, |deadline| Duration::from_micros(deadline.since(now()).0));
            match inbox.recv_timeout(wait) {
                Ok(body) => inputs.push(body),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        inputs.extend(inbox.try_iter().take(1024)); // together: fewer messages, fewer syncs
        if raft.next_deadline().is_some_and(|deadline| deadline <= now()) {
            inputs.push(Body::Tick);
        }
        let now = now();
        raft.step_batch(inputs.drain(..).map(|body| Message { now, body }), &mut effects);
    }
}
