//! The machine itself as its own model: what it would be if nothing ever failed.

use std::collections::VecDeque;

use raft_core::Index;
use raft_replica::machine::StateMachine;

use super::{Mismatch, Model};

/// A machine that executes the committed commands once and in order, and remembers what it was.
///
/// It keeps a copy per command for as long as a read that began before it has no answer: cheap for
/// small machines, which simulated ones should be.
#[derive(Clone, Debug)]
pub struct Replay<M> {
    /// What it was from an index on, oldest first; never empty.
    states: VecDeque<(Index, M)>,
}

impl<M: StateMachine + Clone + std::fmt::Debug> Model<M> for Replay<M> {
    fn new(machine: M) -> Self {
        Self { states: VecDeque::from([(Index::ZERO, machine)]) }
    }

    fn apply(&mut self, index: Index, command: &M::Command) -> M::Response {
        let mut machine = self.states.back().expect("there is a newest state").1.clone();
        let response = machine.apply(index, command.clone());
        self.states.push_back((index, machine));
        response
    }

    fn judge(&self, index: Index, query: &M::Query, answer: &M::Answer) -> Result<(), Mismatch> {
        let behind = self.states.partition_point(|(since, _)| *since <= index);
        let at = behind.checked_sub(1).expect("nobody asks for what was forgotten");
        let expected = self.states[at].1.query(query);
        if expected == *answer {
            return Ok(());
        }
        Err(Mismatch {
            predicted: format!("{query:?} is answered by {expected:?}"),
            actual: format!("{answer:?}"),
            effect: None,
        })
    }

    fn forget(&mut self, before: Index) {
        let behind = self.states.partition_point(|(since, _)| *since <= before);
        self.states.drain(..behind.saturating_sub(1));
    }
}
