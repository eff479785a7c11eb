//! The state machine that a group replicates (§2): what an embedder implements.
//!
//! A replica feeds committed commands to it, in the order of the log, the same on every member.
//! Everything else a service needs from consensus (sessions, linearizable reads, snapshots) is done
//! around it; a state machine sees no term, no leader and no client.

use std::error::Error;
use std::fmt::Debug;

use raft_core::Index;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A deterministic machine: equal commands at equal indices give equal states and responses.
///
/// The contract, on which the agreement of the replicas rests:
/// 1. `apply` depends on the machine's state and its arguments alone: no clock, no randomness, no
///    iteration order of a hash map, no floating point, no configuration that may differ between
///    members;
/// 2. `apply` is total: a command that makes no sense is answered by a response that says so;
/// 3. `query` changes nothing;
/// 4. `restore` of an encoded snapshot gives a machine that behaves as the original did when the
///    snapshot was taken, whatever was applied since, and so does its [`StateMachine::Restore`];
/// 5. commands and responses always serialize with `postcard` and come back equal.
///
/// A response is kept, for its client's next retry, until the client's next command: keep it small.
pub trait StateMachine {
    /// What changes the state; it goes through the log.
    type Command: Clone + Debug + Eq + Serialize + DeserializeOwned;
    /// What a command answers.
    type Response: Clone + Debug + Eq + Serialize + DeserializeOwned;
    /// What reads the state; it does not go through the log.
    type Query: Clone + Debug + Eq + Serialize + DeserializeOwned;
    /// What a query answers.
    type Answer: Clone + Debug + Eq + Serialize + DeserializeOwned;
    /// The state as of one moment, apart from what is applied later.
    type Snapshot: Clone + Debug + Eq;
    /// Why bytes are not a snapshot of this machine.
    type Error: Error + Clone + Eq;
    /// How a snapshot is read back, part by part: [`Gathered`] unless the state is so large that its
    /// bytes must not be in memory beside it.
    type Restore: Restore<Self>;

    /// Executes the committed command that stands at `index` in the log. Indices rise, with gaps.
    fn apply(&mut self, index: Index, command: Self::Command) -> Self::Response;

    /// Answers from the present state.
    fn query(&self, query: &Self::Query) -> Self::Answer;

    /// The present state, to be encoded later. Nobody is answered meanwhile, so it must be cheap
    /// however large the state is: what is shared with the state, and copied where that changes, is.
    fn snapshot(&self) -> Self::Snapshot;

    /// Appends all of a snapshot to `bytes`; equal states give equal bytes. It may take long, on another
    /// thread.
    fn encode(snapshot: &Self::Snapshot, bytes: &mut Vec<u8>);

    /// Replaces the state by one that [`StateMachine::encode`] wrote, here or on another member.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes; the state is then unchanged.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Self::Error>;
}

/// A snapshot that comes in parts, and what has been made of them: beside the state, which is replaced
/// at the end or not at all.
pub trait Restore<M: StateMachine + ?Sized>: Clone + Debug + Default {
    /// Takes the next bytes. Where a part ends means nothing.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes; nothing more will be asked of it then.
    fn feed(&mut self, part: &[u8]) -> Result<(), M::Error>;

    /// All bytes have come, and are those that were written: replaces the state.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes; the state is then unchanged.
    fn finish(self, machine: &mut M) -> Result<(), M::Error>;
}

/// Gathers all of a snapshot for [`StateMachine::restore`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered(Vec<u8>);

impl<M: StateMachine> Restore<M> for Gathered {
    fn feed(&mut self, part: &[u8]) -> Result<(), M::Error> {
        self.0.extend_from_slice(part);
        Ok(())
    }

    fn finish(self, machine: &mut M) -> Result<(), M::Error> {
        machine.restore(&self.0)
    }
}

/// Does what [`StateMachine::restore`] is to do by a [`Restore`] other than [`Gathered`].
///
/// # Errors
/// Whatever is wrong with the bytes; the state is then unchanged.
pub fn restore_at_once<M: StateMachine>(machine: &mut M, snapshot: &[u8]) -> Result<(), M::Error> {
    let mut restore = M::Restore::default();
    restore.feed(snapshot)?;
    restore.finish(machine)
}
