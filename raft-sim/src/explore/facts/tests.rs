//! Each promise of a single server is broken once, by a step made by hand, and kept by the nearest
//! step that is right.

use std::sync::Arc;

use raft_core::{
    AppendResult, Entries, Envelope, HardState, Incarnation, Member, MemberStep, MembershipChange,
    NodeId, RepairId, Round, Session, SnapshotMeta, Span, Time, Violation,
};

use super::super::bounds::{Bounds, member};
use super::super::by_hand::{deliver, leader, letter, membership, noop, sync, voters, with_log};
use super::*;
use crate::ideal_disk::Disk;

/// Judges a step by a timer: nothing but what is given has happened.
fn judged(before: &Host, effects: &[Effect], after: &Host) -> Result<Vec<Fact>, Broken> {
    of_step(Some(before), Some(&Input::Fire), effects, after)
}

fn sends(from: &Host, letter: Envelope) -> Result<Vec<Fact>, Broken> {
    judged(from, &[Effect::Send(letter)], from)
}

#[track_caller]
fn is_broken<T: std::fmt::Debug>(result: Result<T, Broken>, id: &str) {
    let broken = result.expect_err("a promise is broken");
    assert_eq!(broken.id, id, "{}", broken.what);
}

fn request(last: EntryId) -> Rpc {
    Rpc::RequestVote { last, is_forced: false }
}

fn granted() -> Rpc {
    Rpc::RequestVoteResponse { granted: true }
}

fn matched(index: u64) -> Rpc {
    let result = AppendResult::Matched { index: Index(index) };
    Rpc::AppendEntriesResponse { session: Session(1), round: Round::ZERO, result }
}

/// n1 after a vote for n2 in t1, which is on its way to the disk.
fn voting() -> Host {
    let mut host = with_log(0, 0, &[]);
    deliver(&mut host, letter(1, 0, 1, request(EntryId::default())));
    assert_eq!(host.raft.status().vote, Some(member(1)));
    host
}

/// n1 after a start at which it cannot read its snapshot through i1.
fn without_snapshot() -> Host {
    let mut host = leader(0, 1, &[]);
    sync(&mut host);
    deliver(&mut host, letter(1, 0, 1, matched(1)));
    host.take(&Input::Snapshot);
    sync(&mut host);
    let loss = Some(Loss::Snapshot);
    host.take(&Input::Crash { whole: 0, pieces: 0, loss, commit: Index(1) });
    assert!(host.raft.status().is_snapshot_damaged);
    host
}

fn batch_of(host: &Host, hard_state: HardState) -> Effect {
    let batch = host.unsynced.last().expect("something is on its way").clone();
    Effect::Persist(PersistBatch { hard_state: Some(hard_state), ..batch })
}

#[test]
fn mt_a_term_or_a_durable_vote_falls_back() {
    let (before, after) = (with_log(0, 2, &[]), with_log(0, 1, &[]));
    assert_eq!(judged(&after, &[], &before), Ok(vec![]));
    is_broken(judged(&before, &[], &after), "MT");

    let mut voted = voting();
    sync(&mut voted);
    is_broken(judged(&voted, &[], &with_log(0, 1, &[])), "MT");
}

#[test]
fn mt_a_term_is_forgotten_that_is_not_durable() {
    let (before, after) = (voting(), with_log(0, 0, &[]));
    is_broken(judged(&before, &[], &after), "MT");
    let crash = Input::Crash { whole: 0, pieces: 0, loss: None, commit: Index::ZERO };
    let facts = of_step(Some(&before), Some(&crash), &[], &after).expect("a crash may forget it");
    let commits = Fact::Commits(before.disk.snapshot());
    assert_eq!(facts, [Fact::Restarts, commits, Fact::Reconfigures]);
}

#[test]
fn mt_a_write_takes_back_what_is_on_its_way() {
    let host = voting();
    let hard_state = host.unsynced.last().and_then(|batch| batch.hard_state).expect("a vote");
    assert_eq!(judged(&host, &[batch_of(&host, hard_state)], &host), Ok(vec![]));
    let wrong = [
        HardState { term: Term::ZERO, ..hard_state },
        HardState { vote: None, ..hard_state },
        HardState { vote: Some(member(2)), ..hard_state },
        HardState { incarnation: Incarnation::ZERO, ..hard_state },
    ];
    for wrong in wrong {
        is_broken(judged(&host, &[batch_of(&host, wrong)], &host), "MT");
    }
}

#[test]
fn es_a_vote_is_given_twice() {
    let before = voting();
    let mut other = with_log(0, 0, &[]);
    deliver(&mut other, letter(2, 0, 1, request(EntryId::default())));
    assert_eq!(judged(&before, &[], &before), Ok(vec![]));
    is_broken(judged(&before, &[], &other), "ES");
}

/// A membership that follows the genesis of three, with n3 about to leave.
fn joint() -> Membership {
    let step = MembershipChange::Steps(vec![MemberStep::Remove(NodeId(3))]);
    voters(&[0, 1, 2]).changed(&step).expect("it can change")
}

#[test]
fn cf_is_asked_when_the_log_names_a_membership_that_the_node_does_not_put_in_force() {
    let host = with_log(0, 1, &[noop(1)]);
    let other = with_log(0, 1, &[noop(1), membership(1, joint())]);
    // One that takes the membership for something to be written, and nothing else.
    let mut deaf = host.clone();
    deaf.disk = other.disk;
    assert_eq!(host.raft.status().membership, deaf.raft.status().membership);
    let gone = vec![Fact::Reconfigures, Fact::Rewrites];
    assert_eq!(judged(&host, &[], &deaf), Ok(vec![Fact::Reconfigures]));
    assert_eq!(judged(&deaf, &[], &host), Ok(gone));
    assert_eq!(judged(&deaf, &[], &deaf), Ok(vec![]));
}

#[test]
fn cq_a_leader_counts_by_the_membership_in_its_log_whatever_it_says() {
    let mut before = leader(0, 1, &[]);
    sync(&mut before);
    let mut after = before.clone();
    let effects = deliver(&mut after, letter(1, 0, 1, matched(1)));
    let counted = |before: &Host, after: &Host| {
        let facts = judged(before, &effects, after).expect("the disk of one server is right");
        let quorum = |fact: &Fact| {
            let Fact::Counts { quorum, .. } = fact else { return None };
            Some(Membership::clone(quorum))
        };
        facts.iter().find_map(quorum)
    };
    assert_eq!(counted(&before, &after), Some(voters(&[0, 1, 2])));
    before.disk = with_log(0, 1, &[membership(1, joint())]).disk;
    assert_eq!(counted(&before, &after), Some(joint()));
}

#[test]
fn cq_what_stands_behind_a_joint_membership_is_counted_by_the_next_one_as_soon_as_it_is_left() {
    let founders = Membership::new([0, 1, 2].map(member).to_vec(), vec![member(3)]);
    let step = MemberStep::Replace { old: NodeId(3), new: NodeId(4) };
    let change = MembershipChange::Steps(vec![step]);
    let joint = founders.expect("four servers").changed(&change).expect("it can change");
    let mut before = leader(0, 2, &[noop(1), membership(1, joint.clone())]);
    before.take(&Input::Propose { number: 1 });
    sync(&mut before);
    for index in [3, 4] {
        let mut from_n4 = letter(3, 0, 2, matched(index));
        if let Rpc::AppendEntriesResponse { session, .. } = &mut from_n4.rpc {
            *session = Session(3);
        }
        deliver(&mut before, from_n4);
    }
    // n1 and n4 have the command, n2 only the entry before it, by which the joint one is committed.
    let mut after = before.clone();
    let effects = deliver(&mut after, letter(1, 0, 2, matched(3)));
    assert_eq!(after.raft.status().commit, Index(4));
    let facts = judged(&before, &effects, &after).expect("the disk of one server is right");
    let counted: Vec<(Index, Membership)> = facts
        .iter()
        .filter_map(|fact| {
            let Fact::Counts { id, quorum } = fact else { return None };
            Some((id.index, Membership::clone(quorum)))
        })
        .collect();
    assert_eq!(counted, [(Index(3), joint), (Index(4), voters(&[0, 1, 3]))]);
}

#[test]
fn ci_the_commit_index_falls() {
    let mut before = with_log(0, 1, &[noop(1)]);
    let prev = before.raft.entry_id(Index(1)).expect("the log has it");
    let (entries, commit) = (Entries::default(), Index(1));
    let append =
        Rpc::AppendEntries { session: Session(1), round: Round::ZERO, prev, entries, commit };
    let fresh = before.clone();
    let effects = deliver(&mut before, letter(1, 0, 1, append));
    assert_eq!(before.raft.status().commit, commit);
    let told = vec![Fact::Commits(prev), Fact::Applies(vec![prev])];
    assert_eq!(judged(&fresh, &effects, &before), Ok(told));
    is_broken(judged(&before, &[], &fresh), "CI");
}

#[test]
fn ps_a_message_runs_ahead_of_the_term_or_the_incarnation() {
    let mut host = voting();
    let refused = || letter(0, 2, 1, Rpc::RequestVoteResponse { granted: false });
    is_broken(sends(&host, refused()), "PS");
    sync(&mut host);
    assert_eq!(sends(&host, refused()), Ok(vec![]));
    is_broken(sends(&host, Envelope { incarnation: Incarnation(2), ..refused() }), "PS");
}

#[test]
fn ps_a_vote_is_sent_before_it_is_durable() {
    let mut host = voting();
    is_broken(sends(&host, letter(0, 1, 1, granted())), "PS");
    sync(&mut host);
    assert_eq!(sends(&host, letter(0, 1, 1, granted())), Ok(vec![]));
    is_broken(sends(&host, letter(0, 2, 1, granted())), "PS");
}

#[test]
fn ps_a_candidate_asks_without_its_own_vote_or_its_log() {
    let mut host = with_log(0, 1, &[noop(1)]);
    let last = host.raft.status().last;
    host.take(&Input::Fire);
    is_broken(sends(&host, letter(0, 1, 2, request(last))), "PS");
    sync(&mut host);
    assert_eq!(sends(&host, letter(0, 1, 2, request(last))), Ok(vec![]));
    let more = EntryId { index: Index(2), ..last };
    is_broken(sends(&host, letter(0, 1, 2, request(more))), "PS");
    let voter = with_log(0, 2, &[noop(1)]);
    is_broken(sends(&voter, letter(0, 1, 2, request(last))), "PS");
}

#[test]
fn ps_a_vote_is_told_when_it_is_overtaken_by_a_later_term() {
    let host = with_log(0, 2, &[noop(1)]);
    is_broken(sends(&host, letter(0, 1, 1, granted())), "PS");
    let last = host.raft.status().last;
    is_broken(sends(&host, letter(0, 1, 1, request(last))), "PS");
}

#[test]
fn ps_a_lease_is_promised_before_the_promise_is_durable() {
    let bounds = Bounds { leases: true, ..Bounds::default() };
    let disk = Disk::new(bounds.genesis()).with_log([], Term(1));
    let (mut host, _) = Host::start(Arc::new(bounds.config(0)), disk, Index::ZERO, Time(0));
    let lease = bounds.config(0).lease();
    let heard = |host: &Host, lease| {
        let (session, round, commit) = (Session(1), Round(1), Index::ZERO);
        let asked = letter(1, 0, 1, Rpc::Heartbeat { session, round, commit, lease });
        let input = Input::Deliver(Arc::new(asked));
        let said = letter(0, 1, 1, Rpc::HeartbeatResponse { session, round });
        claims::lease(Some(&input), &[Effect::Send(said)], host)
    };
    is_broken(heard(&host, lease), "PS");
    assert_eq!(heard(&host, Span(0)), Ok(()));
    let (session, round, commit) = (Session(1), Round(1), Index::ZERO);
    deliver(&mut host, letter(1, 0, 1, Rpc::Heartbeat { session, round, commit, lease }));
    is_broken(heard(&host, lease), "PS");
    sync(&mut host);
    assert_eq!(heard(&host, lease), Ok(()));
}

#[test]
fn sm_the_bytes_of_a_snapshot_are_another_state() {
    let host = with_log(0, 1, &[noop(1)]);
    let last = host.raft.status().last;
    let with = |image| {
        let mut after = host.clone();
        let membership = voters(&[0, 1, 2]);
        after.disk.save(Arc::new(SnapshotMeta { last, membership }), image);
        judged(&host, &[], &after)
    };
    assert_eq!(with(Host::image_of(last)), Ok(vec![Fact::Reconfigures]));
    is_broken(with(Host::image_of(host.disk.snapshot())), "SM");
    is_broken(with(Vec::new()), "SM");
}

#[test]
fn sm_a_damaged_snapshot_is_restored_or_comes_back_as_another_state() {
    let (before, snapshot) = (without_snapshot(), leader(0, 1, &[]).raft.status().last);
    assert_eq!(judged(&before, &[], &before), Ok(vec![]));
    let membership = voters(&[0, 1, 2]);
    let snapshot = Arc::new(SnapshotMeta { last: snapshot, membership });
    let effect = Effect::RestoreState { snapshot: Arc::clone(&snapshot) };
    is_broken(judged(&before, &[effect], &before), "SM");
    let with = |image| {
        let mut after = before.clone();
        after.disk.save(Arc::clone(&snapshot), image);
        judged(&before, &[], &after)
    };
    assert_eq!(with(Host::image_of(snapshot.last)), Ok(vec![]));
    is_broken(with(Host::image_of(EntryId::default())), "SM");
}

/// A leader that is asked for a snapshot hears what is committed and does not count it.
#[test]
fn cq_a_leader_is_told_by_who_misses_a_snapshot_and_counts_nothing_else() {
    let before = leader(0, 2, &[noop(1)]);
    let wanted = before.disk.last();
    let asks = |wanted, is_snapshot| {
        let id = RepairId { incarnation: Incarnation(2), n: 1 };
        letter(1, 0, 2, Rpc::Repair(RepairRpc::RequestEntry { id, wanted, is_snapshot }))
    };
    let mut after = before.clone();
    let effects = deliver(&mut after, asks(wanted, true));
    assert_eq!(after.raft.status().commit, wanted.index);
    let told = |letter| {
        let input = Input::Deliver(Arc::new(letter));
        let facts = of_step(Some(&before), Some(&input), &effects, &after).expect("it is right");
        facts.contains(&Fact::Commits(wanted))
    };
    assert!(told(asks(wanted, true)));
    assert!(!told(asks(wanted, false)) && !told(asks(EntryId::default(), true)), "it counts");
}

#[test]
fn ps_an_entry_is_acknowledged_before_it_is_durable() {
    let mut host = leader(0, 1, &[]);
    is_broken(sends(&host, letter(0, 1, 1, matched(1))), "PS");
    sync(&mut host);
    assert_eq!(sends(&host, letter(0, 1, 1, matched(1))), Ok(vec![]));
    is_broken(sends(&host, letter(0, 1, 1, matched(2))), "PS");
}

#[test]
fn ps_an_entry_is_applied_before_it_is_durable() {
    let mut host = leader(0, 1, &[]);
    let entries = host.unsynced.last().expect("its first entry").append.clone();
    let effects = [Effect::Apply { entries }];
    is_broken(judged(&host, &effects, &host), "PS");
    sync(&mut host);
    let before = host.clone();
    deliver(&mut host, letter(1, 0, 1, matched(1)));
    let last = host.raft.status().last;
    let facts = judged(&before, &effects, &host).expect("it is durable and committed");
    assert!(facts.contains(&Fact::Applies(vec![last])));
}

#[test]
fn sm_an_entry_is_applied_twice_or_never() {
    let mut before = leader(0, 1, &[]);
    sync(&mut before);
    let mut after = before.clone();
    let effects = deliver(&mut after, letter(1, 0, 1, matched(1)));
    assert!(judged(&before, &effects, &after).is_ok(), "it is applied once");
    is_broken(judged(&before, &[], &after), "SM");
    is_broken(judged(&before, &[&effects[..], &effects[..]].concat(), &after), "SM");
    let snapshot =
        Arc::new(SnapshotMeta { last: after.disk.snapshot(), membership: voters(&[0, 1, 2]) });
    is_broken(judged(&after, &[Effect::RestoreState { snapshot }], &after), "SM");
}

#[test]
fn ps_a_snapshot_is_restored_before_it_is_installed() {
    let host = with_log(0, 1, &[noop(1)]);
    let restore = |last| {
        let snapshot = Arc::new(SnapshotMeta { last, membership: voters(&[0, 1, 2]) });
        judged(&host, &[Effect::RestoreState { snapshot }], &host)
    };
    let genesis = host.disk.snapshot();
    assert_eq!(restore(genesis), Ok(vec![Fact::Restores(genesis)]));
    is_broken(restore(host.raft.status().last), "PS");
}

#[test]
fn lm_the_core_itself_sees_two_histories() {
    let host = with_log(0, 1, &[]);
    let two = |known: Member, other| Violation::TwoLeaders { term: Term(1), known, other };
    let seen = Observation::Violation(two(member(1), member(2)));
    is_broken(judged(&host, &[Effect::Observe(seen)], &host), "LM");
}

#[test]
fn a_leader_counts_and_a_follower_is_told() {
    let mut before = leader(0, 1, &[]);
    sync(&mut before);
    let mut after = before.clone();
    let effects = deliver(&mut after, letter(1, 0, 1, matched(1)));
    let last = after.raft.status().last;
    assert_eq!(after.raft.status().commit, last.index, "n1 and n2 have it");
    let quorum = before.raft.status().membership;
    let believed = Fact::Believes(Belief::of(&after, |_| true));
    let told = vec![Fact::Counts { id: last, quorum }, believed, Fact::Applies(vec![last])];
    assert_eq!(judged(&before, &effects, &after), Ok(told));
}

#[test]
fn what_joins_and_leaves_a_log_is_told() {
    let (one, two) = (with_log(0, 2, &[noop(1)]), with_log(0, 2, &[noop(2)]));
    let (gone, come) = (one.raft.status().last, two.raft.status().last);
    let facts = judged(&one, &[], &two).expect("nothing is broken by that alone");
    assert_eq!(facts, [Fact::Truncates(vec![gone]), Fact::Appends(vec![come]), Fact::Rewrites]);
    let crash = Input::Crash { whole: 0, pieces: 0, loss: None, commit: Index::ZERO };
    let facts = of_step(Some(&one), Some(&crash), &[], &two).expect("nothing is broken");
    let committed = Fact::Commits(one.disk.snapshot());
    let told = [Fact::Restarts, Fact::Appends(vec![come]), committed, Fact::Reconfigures];
    assert_eq!(facts, told, "a crash truncates nothing");
}

#[test]
fn what_a_leader_begins_to_believe_is_told_once() {
    let mut host = leader(0, 1, &[]);
    let input = Input::Deliver(Arc::new(letter(1, 0, 1, matched(1))));
    let mut told = || {
        let before = host.clone();
        let effects = host.take(&input);
        let facts = of_step(Some(&before), Some(&input), &effects, &host).expect("it is right");
        facts.into_iter().filter(|fact| matches!(fact, Fact::Believes(_))).collect::<Vec<_>>()
    };
    let belief = Belief { peer: member(1), life: Incarnation(1), through: Index(1) };
    assert_eq!(told(), [Fact::Believes(vec![belief])]);
    assert_eq!(told(), []);
}
