//! What a cluster is simulated for: a state machine, what its clients ask, and what must be true.
//!
//! The simulator drives any [`StateMachine`] of `raft_replica` through everything that it does to
//! its own key-value store: faults, crashes, snapshots, changes of the membership. Three things are
//! checked of the machine itself: every answer is one that the [`Model`] gives at its place in the
//! log, no change takes effect twice or not at all, and [`Workload::invariant`] holds on every node
//! after all that it has applied or restored.
//!
//! As an example, a bank whose money must not vanish:
//!
//! ```standalone_crate
#![doc = include_str!("../examples/bank.rs")]
//! ```

pub mod kv;
mod replay;
pub mod words;

use std::fmt::Debug;

use raft_core::Index;
use raft_replica::machine::StateMachine;

use crate::check::{Answered, Asked, ClientId, OperationId};
use crate::rng::Draw;
use crate::sabotage::Flawed;

pub use kv::KeyValue;
pub use replay::Replay;

/// The machine that a simulated node has.
pub(crate) type Machine<W> = Flawed<<W as Workload>::Machine>;

/// The commands of a workload's machine.
pub type Command<W> = <<W as Workload>::Machine as StateMachine>::Command;
/// What they answer.
pub type Response<W> = <<W as Workload>::Machine as StateMachine>::Response;
/// Its queries.
pub type Query<W> = <<W as Workload>::Machine as StateMachine>::Query;
/// What they answer.
pub type Answer<W> = <<W as Workload>::Machine as StateMachine>::Answer;

/// What the clients of a run do with a state machine, and what must be true of it.
///
/// Each client has a clone of its own, which learns from what that client is told. Everything here
/// must depend on the arguments and on what was told before, and on nothing else: a seed is to give
/// the same run again.
pub trait Workload: Clone + Debug {
    /// What the cluster replicates.
    type Machine: StateMachine + Clone + Debug;
    /// What tells right answers from wrong ones: [`Replay`], the machine itself without a cluster, or
    /// one that shares no code with the machine and finds its mistakes as well.
    type Model: Model<Self::Machine>;

    /// The machine before any command, the same on all nodes.
    fn machine(&self) -> Self::Machine;

    /// What a client changes next.
    fn command(&mut self, turn: Turn, draw: &mut Draw) -> Command<Self>;

    /// What a client reads next.
    fn query(&mut self, turn: Turn, draw: &mut Draw) -> Query<Self>;

    /// What must be true of a machine at any time, or in what way it is not.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    fn invariant(machine: &Self::Machine) -> Result<(), String> {
        let _ = machine;
        Ok(())
    }

    /// A command of this client has been answered.
    fn responded(&mut self, command: &Command<Self>, response: &Response<Self>) {
        let _ = (command, response);
    }

    /// A query of this client has been answered.
    fn answered(&mut self, query: &Query<Self>, answer: &Answer<Self>) {
        let _ = (query, answer);
    }

    /// A command in a few words, for people.
    #[must_use]
    fn show_command(command: &Command<Self>) -> String {
        format!("{command:?}")
    }

    /// A query in a few words.
    #[must_use]
    fn show_query(query: &Query<Self>) -> String {
        format!("{query:?}")
    }

    /// In a few words, what a command has answered that took effect at `index`.
    #[must_use]
    fn show_response(response: &Response<Self>, index: Index) -> String {
        format!("{response:?} at {index}")
    }

    /// In a few words, what a query has answered as of `index`.
    #[must_use]
    fn show_answer(answer: &Answer<Self>, index: Index) -> String {
        format!("{answer:?} at {index}")
    }
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The client.
    pub client: u64,
    /// Its number for the request, from 1.
    pub request: u64,
}

/// What a machine should be: told of every command that was committed, in order.
pub trait Model<M: StateMachine>: Clone + Debug {
    /// The model of a machine that has seen no command.
    fn new(machine: M) -> Self;

    /// What a command that takes effect at `index` answers. Indices rise, with gaps.
    fn apply(&mut self, index: Index, command: &M::Command) -> M::Response;

    /// Whether a query is answered so after all commands through `index`. All of them have been
    /// applied, and perhaps more.
    ///
    /// # Errors
    /// What is wrong with the answer.
    fn judge(&self, index: Index, query: &M::Query, answer: &M::Answer) -> Result<(), Mismatch>;

    /// Nobody will ask for anything before this index again.
    fn forget(&mut self, before: Index) {
        let _ = before;
    }

    /// From now on, it keeps what clients see, for [`Model::judge_history`].
    fn keep_history(&mut self) {}

    /// A client makes a request.
    fn invoked(&mut self, asker: (ClientId, OperationId), operation: &Asked<M>) {
        let _ = (asker, operation);
    }

    /// A request has ended for its client.
    fn ended(&mut self, asker: (ClientId, OperationId), outcome: &Answered<M>) {
        let _ = (asker, outcome);
    }

    /// Whether what clients saw was found to be linearizable by somebody who looks at nothing else;
    /// `None` if it was not kept.
    ///
    /// # Errors
    /// Why it is not.
    fn judge_history(&self) -> Result<Option<bool>, String> {
        Ok(None)
    }
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What should have been answered.
    pub predicted: String,
    /// What was.
    pub actual: String,
    /// The entry whose effect the answer shows and should not, if the answer tells.
    pub effect: Option<Index>,
}
