//! EO: while its process lives, a server answers each request once, and then has forgotten it.
//!
//! Clients lose patience and ask again, so an answer that never comes shows nowhere else: what waits for
//! it fills its server slowly, until that is too busy for everybody. So the world keeps a book of what
//! each process was asked and has not answered. An answer must be in it, and after each step a server must
//! count as many requests as the book has. Once the faults have ended, the book of every server in the core
//! must become empty, as a part of coming to rest (see `quiet`).
//!
//! Absent: servers that are outside the core, or no members; nothing bounds how long they think that
//! somebody leads them.

use std::collections::BTreeMap;
use std::fmt;

use raft_core::NodeId;
use raft_replica::machine::StateMachine;
use raft_replica::request::{Input, Reply, Request, RequestId};

use crate::check::{Invariant, Violation};
use crate::event::NodeAt;
use crate::failure::Failure;
use crate::workload::{Machine, Workload};
use crate::world::World;

/// What a process was asked and has not answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unanswered(BTreeMap<RequestId, Kind>);

/// What an answer may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Session,
    Command,
    Query,
    Membership,
    Transfer,
}

impl Kind {
    fn of<M: StateMachine>(request: &Request<M>) -> Self {
        match request {
            Request::OpenSession => Self::Session,
            Request::Command { .. } => Self::Command,
            Request::Query { .. } => Self::Query,
            Request::ChangeMembership { .. } | Request::ForceMembership => Self::Membership,
            Request::TransferLeadership { .. } => Self::Transfer,
        }
    }

    /// What an answer is to; any request may fail.
    fn answered_by<M: StateMachine>(reply: &Reply<M>) -> Option<Self> {
        match reply {
            Reply::SessionOpened { .. } => Some(Self::Session),
            Reply::Response { .. } => Some(Self::Command),
            Reply::Answer { .. } => Some(Self::Query),
            Reply::MembershipChanged { .. } => Some(Self::Membership),
            Reply::Transferred { .. } => Some(Self::Transfer),
            Reply::Failed(_) => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "a session",
            Self::Command => "a command",
            Self::Query => "a read",
            Self::Membership => "a membership",
            Self::Transfer => "another leader",
        })
    }
}

impl Unanswered {
    /// A process is given this.
    pub(crate) fn note<M: StateMachine>(&mut self, input: &Input<M>) {
        if let Input::Request { id, request } = input {
            let before = self.0.insert(*id, Kind::of(request));
            assert!(before.is_none(), "the name of an open request is not used again");
        }
    }

    fn first(&self) -> Option<(&RequestId, &Kind)> {
        self.0.first_key_value()
    }
}

impl<W: Workload> World<W> {
    /// A server answers a request.
    ///
    /// # Errors
    /// EO, if it has none of this name, or one about something else.
    pub(crate) fn note_answered(
        &mut self,
        at: NodeAt,
        id: RequestId,
        reply: &Reply<Machine<W>>,
    ) -> Result<(), Failure> {
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return Ok(()) };
        let (asked, answered) = (process.unanswered.0.remove(&id), Kind::answered_by(reply));
        let predicted = match asked {
            Some(asked) if answered.is_none_or(|answered| answered == asked) => return Ok(()),
            Some(asked) => format!("{id} asks for {asked}"),
            None => format!("{id} was answered, or never asked"),
        };
        let about = answered.map_or_else(|| "anything".to_owned(), |kind| kind.to_string());
        Err(broken(node.member.id, predicted, format!("it is answered as if it asked for {about}")))
    }

    /// The end of a step of a server: it has not forgotten anybody, and remembers nobody whom it has
    /// answered.
    ///
    /// # Errors
    /// EO.
    pub(crate) fn count_unanswered(&self, at: NodeAt) -> Result<(), Failure> {
        let node = &self.nodes[at];
        let Some(process) = &node.process else { return Ok(()) };
        let (waiting, counted) = (process.unanswered.0.len(), process.replica.requests_open());
        if waiting == counted {
            return Ok(());
        }
        let predicted = format!("{waiting} requests without an answer");
        Err(broken(node.member.id, predicted, format!("it counts {counted}")))
    }

    /// The first server in the core that owes answers, told as what disturbs a group at rest.
    pub(crate) fn owing(&self) -> Option<String> {
        let owes = |at: NodeAt| {
            let node = &self.nodes[at];
            let process = node.process.as_ref().filter(|_| self.is_in_core(at))?;
            let (first, kind) = process.unanswered.first()?;
            let count = process.unanswered.0.len();
            let first = format!("{first} for {kind}");
            Some(format!("{} owes {count} answers, {first} first", node.member))
        };
        (0..self.nodes.len()).find_map(owes)
    }
}

fn broken(node: NodeId, predicted: String, actual: String) -> Failure {
    Violation::new(Invariant::ExactlyOnce, predicted, actual).on(node).into()
}

#[cfg(test)]
mod tests {
    use raft_core::ReadMode;
    use raft_replica::kv::KvQuery;
    use raft_replica::request::Failure as Failed;

    use super::*;
    use crate::damage::tests::at_rest;
    use crate::workload::KeyValue;

    #[test]
    fn each_request_is_answered_once_and_by_what_it_asks_for() {
        let mut world = at_rest();
        let id = RequestId(7);
        let read = || Input::<Machine<KeyValue>>::Request {
            id,
            request: Request::Query {
                query: KvQuery::Get { key: "k".into() },
                mode: ReadMode::ReadIndex,
            },
        };
        let no = Reply::Failed(Failed::Busy);
        let done = Reply::Transferred { term: raft_core::Term(9) };
        assert!(world.note_answered(0, id, &no).is_err(), "nobody has asked");
        for (reply, is_right) in [(&done, false), (&no, true)] {
            world.nodes[0].process.as_mut().unwrap().unanswered.note(&read());
            assert_eq!(world.owing().as_deref(), Some("n1 owes 1 answers, #7 for a read first"));
            assert!(world.count_unanswered(0).is_err(), "the replica was not asked");
            assert_eq!(world.note_answered(0, id, reply).is_ok(), is_right);
            assert!(world.note_answered(0, id, &no).is_err(), "it has its answer");
        }
        assert_eq!((world.owing(), world.count_unanswered(0)), (None, Ok(())));
    }
}
