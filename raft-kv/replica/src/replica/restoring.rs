//! The state is replaced by a snapshot (§7), part by part: beside the state that there is, and for good
//! once all parts have proved right. Between the parts the replica does everything else.

use std::sync::Arc;

use raft_core::{Body, Chunk, SnapshotMeta};

use super::Replica;
use crate::applier::{Reading, RestoreError};
use crate::machine::StateMachine;
use crate::request::Output;
use crate::storage::work::Work;

/// A snapshot of which a part has been read.
#[derive(Clone, Debug)]
pub(super) struct Restoring<M: StateMachine> {
    snapshot: Arc<SnapshotMeta>,
    /// Where the part begins that the storage was asked for.
    offset: u64,
    reading: Reading<M>,
}

impl<M: StateMachine> Replica<M> {
    /// Asks for the first part of a snapshot.
    pub(super) fn restore(&mut self, snapshot: Arc<SnapshotMeta>, out: &mut Vec<Output<M>>) {
        let restoring = Restoring { snapshot, offset: 0, reading: Reading::new() };
        self.ask_for_part(restoring, out);
    }

    fn ask_for_part(&mut self, restoring: Restoring<M>, out: &mut Vec<Output<M>>) {
        let (snapshot, offset) = (Arc::clone(&restoring.snapshot), restoring.offset);
        let bytes_max = self.options.restore_part_bytes.max(1);
        out.push(Output::Work(Work::LoadSnapshot { snapshot, offset, bytes_max }));
        self.restoring = Some(restoring);
    }

    /// Takes a part, and asks for the next one or replaces the state. A part of a snapshot that a newer one
    /// has overtaken is ignored.
    pub(super) fn on_loaded(
        &mut self,
        snapshot: &Arc<SnapshotMeta>,
        offset: u64,
        chunk: Option<Chunk>,
        out: &mut Vec<Output<M>>,
    ) {
        let is_awaited = |it: &mut Restoring<M>| it.snapshot == *snapshot && it.offset == offset;
        let Some(mut restoring) = self.restoring.take_if(is_awaited) else { return };
        let restored = match chunk {
            None => Err(RestoreError::Unreadable),
            Some(Chunk { data, done }) => {
                restoring.reading.feed(&data);
                if !done {
                    restoring.offset += data.len() as u64;
                    return self.ask_for_part(restoring, out);
                }
                restoring.reading.finish(snapshot.last, &mut self.applier)
            }
        };
        let snapshot = restoring.snapshot;
        match restored {
            Ok(()) => {
                self.due.restored();
                self.bodies.push(Body::Applied { through: snapshot.last.index });
                out.push(Output::Restored { snapshot, digest: self.applier.digest() });
            }
            // The disk holds what nobody has written: the same as a failed write.
            Err(error) => {
                self.bodies.push(Body::PersistFailed);
                self.halt();
                out.push(Output::BadSnapshot { snapshot, error });
            }
        }
    }
}
