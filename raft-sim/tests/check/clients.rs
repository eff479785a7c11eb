//! Stories about clients: EO, LIN.
//!
//! One node that commits alone is enough: what clients are told does not depend on the others.

use bytes::Bytes;
use std::sync::Arc;

use raft_core::{Index, Member, MemberStep, MembershipChange, NodeId, Payload, Term, Time};
use raft_replica::kv::{Kv, KvAnswer, KvCommand, KvQuery, KvResponse, Versioned};
use raft_replica::request::RequestId;
use raft_replica::session::{LogCommand, SessionId};
use raft_sim::check::{
    Answered, Asked, ClientId, Fate, Invariant, Operation, OperationId, Outcome, Violation, Wish,
};

use crate::story::{Story, broken};

/// A sole voter with clients. Its no-op is at 1, the session of all clients at 2.
#[derive(Clone)]
struct Service {
    story: Story,
    applied: u64,
    operations: u64,
}

const SESSION: SessionId = SessionId(2);

impl Service {
    fn new() -> Self {
        let mut story = Story::new(1);
        story.elect(1, 1, &[1]).unwrap();
        let mut service = Self { story, applied: 0, operations: 0 };
        service.commit(Payload::Noop).unwrap();
        service.open(2).unwrap();
        service
    }

    /// An entry is appended, durable, committed and applied.
    fn commit(&mut self, payload: Payload) -> Result<u64, Violation> {
        self.applied += 1;
        let index = self.applied;
        self.story.propose(1, 1, vec![payload])?;
        self.story.sync(1)?;
        self.story.commit(1, index)?;
        self.story.apply(1, index, index, index)?;
        Ok(index)
    }

    fn open(&mut self, sessions_max: u32) -> Result<u64, Violation> {
        let command = LogCommand::<KvCommand>::OpenSession { sessions_max };
        self.commit(Payload::Command(command.encode()))
    }

    fn execute(&mut self, serial: u64, command: &KvCommand) -> Result<u64, Violation> {
        let command = LogCommand::Apply { session: SESSION, serial, command: command.clone() };
        self.commit(Payload::Command(command.encode()))
    }

    fn invoke(&mut self, operation: &Asked<Kv>) -> OperationId {
        self.operations += 1;
        let id = OperationId(self.operations);
        self.story.checker.invoked(ClientId(1), id, operation, Time(self.operations));
        id
    }

    fn ask(&mut self, serial: u64, command: &KvCommand) -> OperationId {
        let command = command.clone();
        self.invoke(&Operation::Command { session: SESSION, serial, command })
    }

    fn query(&mut self, query: KvQuery) -> OperationId {
        self.invoke(&Operation::Query { query })
    }

    fn get(&mut self) -> OperationId {
        self.query(KvQuery::Get { key: bytes("k") })
    }

    fn reply(&mut self, id: OperationId, outcome: &Answered<Kv>) -> Result<(), Violation> {
        self.operations += 1;
        self.story.checker.replied(ClientId(1), id, outcome, Time(self.operations))
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn put(value: &'static str) -> KvCommand {
    KvCommand::Put { key: bytes("k"), value: bytes(value) }
}

fn changed(previous: Option<u64>, index: u64) -> Answered<Kv> {
    let response = KvResponse::Changed { previous: previous.map(Index) };
    Outcome::Response { response, index: Index(index) }
}

fn versioned(value: &'static str, version: u64) -> Versioned {
    Versioned { value: bytes(value), version: Index(version) }
}

fn value(found: Option<(&'static str, u64)>, index: u64) -> Answered<Kv> {
    let found = found.map(|(value, version)| versioned(value, version));
    Outcome::Answer { answer: KvAnswer::Value(found), index: Index(index) }
}

#[test]
fn an_acknowledged_command_took_effect() {
    let mut service = Service::new();
    let id = service.ask(1, &put("a"));
    let mut early = service.clone();
    broken(early.reply(id, &changed(None, 3)), Invariant::ExactlyOnce, None);
    service.execute(1, &put("a")).unwrap();
    service.reply(id, &changed(None, 3)).unwrap();
}

#[test]
fn an_acknowledged_command_is_the_one_that_was_asked_for() {
    let mut service = Service::new();
    let id = service.ask(1, &put("a"));
    service.execute(1, &put("b")).unwrap();
    broken(service.reply(id, &changed(None, 3)), Invariant::ExactlyOnce, None);
}

#[test]
fn a_repeated_command_is_answered_by_its_first_effect() {
    let mut service = Service::new();
    let id = service.ask(1, &put("a"));
    service.execute(1, &put("a")).unwrap();
    service.execute(1, &put("a")).unwrap();
    let mut twice = service.clone();
    broken(twice.reply(id, &changed(Some(3), 4)), Invariant::ExactlyOnce, None);
    service.reply(id, &changed(None, 3)).unwrap();
}

#[test]
fn a_repeated_command_changes_nothing() {
    let mut service = Service::new();
    service.execute(1, &put("a")).unwrap();
    service.execute(2, &put("b")).unwrap();
    service.execute(1, &put("a")).unwrap();
    let id = service.get();
    let mut again = service.clone();
    broken(again.reply(id, &value(Some(("a", 5)), 5)), Invariant::ExactlyOnce, None);
    service.reply(id, &value(Some(("b", 4)), 5)).unwrap();
}

#[test]
fn a_command_that_failed_never_takes_effect() {
    let mut service = Service::new();
    let id = service.ask(1, &put("a"));
    let mut late = service.clone();
    late.execute(1, &put("a")).unwrap();
    broken(late.reply(id, &Outcome::Failed), Invariant::ExactlyOnce, None);
    service.reply(id, &Outcome::Failed).unwrap();
    let mut unknown = service.clone();
    broken(service.execute(1, &put("a")).map(drop), Invariant::ExactlyOnce, None);
    // The same when the client gave up without knowing is no surprise.
    let id = unknown.ask(2, &put("a"));
    unknown.reply(id, &Outcome::Unknown).unwrap();
    unknown.execute(2, &put("a")).unwrap();
}

#[test]
fn an_open_session_is_not_refused() {
    let mut service = Service::new();
    let id = service.ask(1, &put("a"));
    service.open(2).unwrap();
    let mut early = service.clone();
    broken(early.reply(id, &Outcome::Expired), Invariant::ExactlyOnce, None);
    // The third of two sessions: the one that was used least recently goes.
    service.open(2).unwrap();
    service.reply(id, &Outcome::Expired).unwrap();
}

#[test]
fn a_session_that_is_used_stays() {
    let mut service = Service::new();
    service.open(2).unwrap();
    service.execute(1, &put("a")).unwrap();
    service.open(2).unwrap();
    let id = service.ask(2, &put("b"));
    broken(service.reply(id, &Outcome::Expired), Invariant::ExactlyOnce, None);
}

#[test]
fn only_an_older_serial_is_stale() {
    let mut service = Service::new();
    service.execute(5, &put("a")).unwrap();
    let (older, newer) = (service.ask(4, &put("b")), service.ask(6, &put("c")));
    service.reply(older, &Outcome::Stale).unwrap();
    broken(service.reply(newer, &Outcome::Stale), Invariant::ExactlyOnce, None);
}

#[test]
fn a_session_belongs_to_one_client() {
    let mut service = Service::new();
    let (one, other) =
        (service.invoke(&Operation::OpenSession), service.invoke(&Operation::OpenSession));
    let third = service.invoke(&Operation::OpenSession);
    service.open(9).unwrap();
    let opened = |session| Outcome::Opened { session: SessionId(session) };
    service.reply(one, &opened(3)).unwrap();
    broken(service.reply(other, &opened(3)), Invariant::ExactlyOnce, None);
    broken(service.reply(third, &opened(1)), Invariant::ExactlyOnce, None);
}

#[test]
fn a_read_sees_every_write_that_was_answered_before_it() {
    let mut service = Service::new();
    service.execute(1, &put("a")).unwrap();
    let write = service.ask(2, &put("b"));
    service.execute(2, &put("b")).unwrap();
    let concurrent = service.get();
    service.reply(write, &changed(Some(3), 4)).unwrap();
    let later = service.get();
    // A read that began before the answer may come before the write; a later one may not.
    service.reply(concurrent, &value(Some(("a", 3)), 3)).unwrap();
    let mut fresh = service.clone();
    broken(service.reply(later, &value(Some(("a", 3)), 3)), Invariant::Linearizability, None);
    fresh.reply(later, &value(Some(("b", 4)), 4)).unwrap();
}

#[test]
fn a_read_sees_what_an_earlier_read_saw() {
    let mut service = Service::new();
    service.execute(1, &put("a")).unwrap();
    service.execute(2, &put("b")).unwrap();
    let first = service.get();
    service.reply(first, &value(Some(("b", 4)), 4)).unwrap();
    let second = service.get();
    broken(service.reply(second, &value(Some(("a", 3)), 3)), Invariant::Linearizability, None);
}

#[test]
fn a_read_does_not_lie_about_its_place() {
    let mut service = Service::new();
    service.execute(1, &put("a")).unwrap();
    let id = service.get();
    for (found, index) in [(Some(("b", 3)), 3), (Some(("a", 2)), 3), (None, 3), (None, 9)] {
        let mut service = service.clone();
        broken(service.reply(id, &value(found, index)), Invariant::Linearizability, None);
    }
    service.reply(id, &value(Some(("a", 3)), 3)).unwrap();
}

#[test]
fn a_write_comes_after_all_that_was_answered_before_it() {
    let mut service = Service::new();
    service.execute(1, &put("a")).unwrap();
    let read = service.get();
    service.reply(read, &value(Some(("a", 3)), 3)).unwrap();
    // A client that asks for what is in the log already: its answer lies in the past.
    let id = service.ask(1, &put("a"));
    broken(service.reply(id, &changed(None, 3)), Invariant::Linearizability, None);
    let id = service.ask(2, &put("b"));
    service.execute(2, &put("b")).unwrap();
    service.reply(id, &changed(Some(3), 4)).unwrap();
}

#[test]
fn a_response_is_the_machines() {
    let swap = KvCommand::CompareAndSwap { key: bytes("k"), expect: Some(bytes("a")), new: None };
    let mut service = Service::new();
    service.execute(1, &put("a")).unwrap();
    let (first, second) = (service.ask(2, &swap), service.ask(3, &swap));
    service.execute(2, &swap).unwrap();
    service.execute(3, &swap).unwrap();
    let mut wrong = service.clone();
    broken(wrong.reply(first, &changed(None, 4)), Invariant::Linearizability, None);
    service.reply(first, &changed(Some(3), 4)).unwrap();
    let mut wrong = service.clone();
    broken(wrong.reply(second, &changed(None, 5)), Invariant::Linearizability, None);
    let response = KvResponse::Differs { found: None };
    service.reply(second, &Outcome::Response { response, index: Index(5) }).unwrap();
}

#[test]
fn a_scan_is_a_view_of_one_moment() {
    let mut service = Service::new();
    for (serial, key) in [(1, "pa"), (2, "pb"), (3, "q")] {
        let command = KvCommand::Put { key: bytes(key), value: bytes("v") };
        service.execute(serial, &command).unwrap();
    }
    service.execute(4, &KvCommand::Delete { key: bytes("pa") }).unwrap();
    let query = KvQuery::Scan { prefix: bytes("p"), after: None, limit: 1 };
    let (pa, pb) = ((bytes("pa"), versioned("v", 3)), (bytes("pb"), versioned("v", 4)));
    let cases = [
        // As of 5 both keys are there, as of 6 one is.
        (vec![pa.clone()], true, 5, true),
        (vec![pb.clone()], false, 6, true),
        (vec![pa.clone()], true, 6, false),
        (vec![pa.clone()], false, 5, false),
        (vec![pb.clone()], false, 5, false),
        (vec![pa, pb], false, 5, false),
        (vec![], true, 6, true),
        (vec![], false, 6, false),
    ];
    for (entries, more, index, is_right) in cases {
        let mut service = service.clone();
        let id = service.query(query.clone());
        let answer = KvAnswer::Page { entries, more };
        let end = service.reply(id, &Outcome::Answer { answer, index: Index(index) });
        if is_right {
            end.unwrap();
        } else {
            broken(end, Invariant::Linearizability, None);
        }
    }
}

#[test]
fn an_entry_that_is_applied_again_after_a_restart_is_no_second_effect() {
    let mut service = Service::new();
    service.execute(1, &put("a")).unwrap();
    let kept = service.story.actor(1).hard_state;
    service.story.crash(1, kept, 3).unwrap();
    service.story.commit(1, 0).unwrap();
    service.story.elect(1, 2, &[1]).unwrap();
    service.story.noop(1, 2).unwrap();
    service.story.sync(1).unwrap();
    service.story.commit(1, 4).unwrap();
    service.story.apply(1, 1, 4, 77).unwrap();
    let id = service.get();
    service.reply(id, &value(Some(("a", 3)), 4)).unwrap();
    assert_eq!(service.story.checker.applied_index(NodeId(1)), Index(4));
}

#[test]
fn an_attempt_ends_as_its_own_entry_does() {
    let mut story = Story::led();
    let [first, second, third] = [1, 2, 3].map(RequestId);
    let wish = Wish::Command(SessionId(1), 1);
    let put = |number: u64| {
        let (key, value) = (Bytes::from_static(b"k"), Bytes::copy_from_slice(&[1]));
        let command = KvCommand::Put { key, value };
        Payload::Command(
            LogCommand::Apply { session: SessionId(1), serial: number, command }.encode(),
        )
    };
    story.propose(1, 1, vec![put(1)]).unwrap();
    let mut batch = story.batch(1);
    batch.append = story.entries(1, 2);
    let ends = |story: &Story, attempt: RequestId, fate: Fate| {
        story.clone().checker.settled(NodeId(1), attempt, fate)
    };
    // Of two that come in one step, either may have been refused before the other was appended.
    let mut together = story.clone();
    let attempts = [(first, wish), (second, wish)];
    together.checker.took(NodeId(1), &attempts, std::iter::once(&batch));
    for attempt in [first, second] {
        ends(&together, attempt, Fate::Refused).unwrap();
    }
    story.checker.took(NodeId(1), &[(first, wish)], std::iter::once(&batch));
    story.checker.took(NodeId(1), &[(second, wish)], std::iter::empty());
    let unknown = |is_over| Fate::Unknown { is_over };
    // Nobody has it but the leader: nothing can be said for certain, and it is not lost from sight.
    broken(ends(&story, first, Fate::Committed), Invariant::ExactlyOnce, Some(1));
    for attempt in [first, second] {
        broken(ends(&story, attempt, Fate::Superseded), Invariant::ExactlyOnce, Some(1));
        broken(ends(&story, attempt, unknown(false)), Invariant::ExactlyOnce, Some(1));
        ends(&story, attempt, unknown(true)).unwrap();
        ends(&story, attempt, Fate::None).unwrap();
    }
    // What was appended is not refused, whatever becomes of it; an attempt that joins it may be.
    broken(ends(&story, first, Fate::Refused), Invariant::ExactlyOnce, Some(1));
    ends(&story, second, Fate::Refused).unwrap();
    // It still stands for whoever joins it after that.
    let mut later = story.clone();
    later.checker.settled(NodeId(1), second, Fate::Refused).unwrap();
    later.checker.took(NodeId(1), &[(third, wish)], std::iter::empty());
    later.sync(1).unwrap();
    broken(ends(&later, third, Fate::Superseded), Invariant::ExactlyOnce, Some(1));
    let told = later.checker.settled(NodeId(1), third, Fate::Superseded).unwrap_err();
    assert!(told.predicted.contains("may be or become committed"), "{told}");
    let mut committed = story.clone();
    committed.sync(1).unwrap();
    committed.replicate(1, 2, 2).unwrap();
    committed.commit(1, 2).unwrap();
    let mut replaced = story;
    replaced.elect(3, 2, &[2, 3]).unwrap();
    replaced.noop(3, 2).unwrap();
    // Another leader might still have it, had it come there.
    broken(ends(&replaced, first, Fate::Superseded), Invariant::ExactlyOnce, Some(1));
    replaced.sync(3).unwrap();
    replaced.replicate(3, 2, 2).unwrap();
    replaced.commit(3, 2).unwrap();
    for attempt in [first, second] {
        ends(&committed, attempt, Fate::Committed).unwrap();
        broken(ends(&committed, attempt, Fate::Superseded), Invariant::ExactlyOnce, Some(1));
        ends(&replaced, attempt, Fate::Superseded).unwrap();
    }
    broken(ends(&replaced, first, Fate::Committed), Invariant::ExactlyOnce, Some(1));
    // The session may remember what another entry has done.
    ends(&replaced, second, Fate::Committed).unwrap();
}

#[test]
fn an_operator_is_told_of_a_change_that_is_committed_where_it_stands() {
    let mut story = Story::led();
    let learner = MembershipChange::Steps(vec![MemberStep::AddLearner(Member::new(4, 4))]);
    let next = story.founders.changed(&learner).unwrap();
    let request = RequestId(1);
    story.propose(1, 1, vec![Payload::Membership(Arc::new(next))]).unwrap();
    let mut batch = story.batch(1);
    batch.append = story.entries(1, 2);
    let attempts = [(request, Wish::Membership { leaves: false })];
    story.checker.took(NodeId(1), &attempts, std::iter::once(&batch));
    let ends = |story: &Story, fate: Fate| story.clone().checker.settled(NodeId(1), request, fate);
    broken(ends(&story, Fate::CommittedAt(Index(2))), Invariant::CommitQuorum, Some(1));
    broken(ends(&story, Fate::Refused), Invariant::ExactlyOnce, Some(1));
    story.sync(1).unwrap();
    story.replicate(1, 2, 2).unwrap();
    broken(ends(&story, Fate::CommittedAt(Index(1))), Invariant::ExactlyOnce, Some(1));
    ends(&story, Fate::CommittedAt(Index(2))).unwrap();
}

#[test]
fn an_operator_is_told_of_a_later_term_that_somebody_else_has_begun() {
    let mut story = Story::led();
    broken(story.checker.handed_over(NodeId(1), Term(1)), Invariant::ExactlyOnce, Some(1));
    broken(story.checker.handed_over(NodeId(1), Term(2)), Invariant::ExactlyOnce, Some(1));
    story.elect(3, 2, &[2, 3]).unwrap();
    story.checker.handed_over(NodeId(1), Term(2)).unwrap();
    broken(story.checker.handed_over(NodeId(1), Term(3)), Invariant::ExactlyOnce, Some(1));
    broken(story.checker.handed_over(NodeId(3), Term(2)), Invariant::ExactlyOnce, Some(3));
}
