//! What the core is given, kept for a host that writes it down.

use std::mem;

use raft_core::{
    Effect, Message, Raft, Recorded, RecordedBatch, RecordedStart, RecoverError, RecoveredState,
    Time,
};

use super::{Replica, ReplicaOptions};
use crate::machine::StateMachine;

impl<M: StateMachine> Replica<M> {
    /// What the core was given since the last call, oldest first: nothing, unless
    /// [`ReplicaOptions::is_recorded`](super::ReplicaOptions) says so. `raft_core::Replay` plays it.
    #[must_use]
    pub fn take_recorded(&mut self) -> Vec<Recorded> {
        mem::take(&mut self.recorded)
    }

    /// Keeps nothing more for [`Replica::take_recorded`]: a recording has no gaps, it ends.
    pub fn stop_recording(&mut self) {
        self.options.is_recorded = false;
        self.recorded = Vec::new();
    }

    /// A step of the core that is recorded: its messages are copied, their payloads shared.
    pub(super) fn step_recorded(
        &mut self,
        messages: impl Iterator<Item = Message>,
        effects: &mut Vec<Effect>,
    ) {
        let messages: Vec<Message> = messages.collect();
        self.raft.step_batch(messages.clone(), effects);
        let digest = self.raft.digest();
        self.recorded.push(Recorded::Batch(RecordedBatch { messages, digest }));
    }
}

/// A start of the core, recorded if the options say so.
pub(super) fn recover(
    options: &ReplicaOptions,
    found: RecoveredState,
    now: Time,
) -> Result<(Raft, Vec<Effect>, Vec<Recorded>), RecoverError> {
    let config = options.config.clone();
    if !options.is_recorded {
        let (raft, effects) = Raft::recover(config, found, now)?;
        return Ok((raft, effects, Vec::new()));
    }
    let (raft, effects) = Raft::recover(config.clone(), found.clone(), now)?;
    let start = RecordedStart { config, found, now, digest: raft.digest() };
    Ok((raft, effects, vec![Recorded::Start(Box::new(start))]))
}
