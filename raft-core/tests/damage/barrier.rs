//! A log whose end is unknown: no vote, no candidacy, until it has come as far as a leader's.

use raft_core::{
    Body, Effect, Incarnation, Index, Observation, Raft, Refused, RoleName, Rpc, RpcKind, Term,
    Ticket, Time,
};

use crate::follower::{batches, beat, led};
use crate::support::{Cluster, member};

fn is_unknown(cluster: &Cluster, id: u64) -> bool {
    cluster.status(id).is_tail_unknown
}

#[test]
fn it_votes_for_nobody_and_does_not_campaign() {
    let mut cluster = led(2);
    cluster.lose_tail(2, 3);
    assert!(cluster.server(2).observations.contains(&Observation::TailUnknown));
    cluster.servers.remove(&1);
    cluster.step(2, Body::Campaign);
    assert_eq!(cluster.refusals(2), [Refused::NotAVoter]);
    assert_eq!(cluster.server(2).raft.next_deadline(), None, "it waits for a leader");
    // n3 has the longer log, but may not count on a node that does not know what it acknowledged.
    cluster.step(3, Body::Campaign);
    cluster.deliver();
    assert_eq!(cluster.refusals(2).last(), Some(&Refused::TailUnknown));
    assert_ne!(cluster.status(3).role, RoleName::Leader);
    // A candidate's term is adopted all the same.
    let term = cluster.status(3).term;
    let mut vote = cluster.network.pop();
    cluster.tick(3, 3_000);
    cluster.deliver_if(|sent| {
        vote.get_or_insert_with(|| sent.clone());
        true
    });
    assert!(cluster.status(3).term >= term && !is_unknown(&cluster, 3));
}

#[test]
fn it_acknowledges_truthfully_and_is_certain_beyond_the_barrier() {
    let mut cluster = led(3);
    cluster.servers.remove(&3);
    cluster.lose_tail(2, 3);
    cluster.trace.clear();
    cluster.propose(1, 9, "with its help");
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::Barrier);
    beat(&mut cluster, 1);
    assert_eq!(cluster.status(1).commit, Index(5), "it counts for commit");
    beat(&mut cluster, 1);
    assert!(!is_unknown(&cluster, 2));
    assert!(cluster.server(2).observations.contains(&Observation::TailCertain));
    // It is certain in a later batch than the entries, and its disk says so.
    let batches = batches(&cluster, 2);
    let certain = batches
        .iter()
        .position(|batch| batch.hard_state.is_some_and(|hard_state| !hard_state.is_tail_unknown));
    let entries = batches.iter().position(|batch| !batch.append.is_empty());
    assert!(entries.unwrap() < certain.unwrap());
    assert!(!cluster.server(2).disk.hard_state.is_tail_unknown);
    // And now it votes again.
    cluster.step(1, Body::StepDown);
    cluster.fall_silent();
    cluster.crash(2);
    cluster.elect(2);
}

/// With the end of a log it may be lost that other entries took the place of those before it: then these show
/// again, where the committed ones were. Nothing but the snapshot is believed to be committed.
#[test]
fn what_a_doubtful_log_shows_is_not_taken_for_what_was_committed() {
    let mut cluster = led(3);
    let known = cluster.status(2).commit;
    assert_eq!(known, Index(4));
    let server = cluster.servers.remove(&2).expect("it is there");
    for is_tail_unknown in [false, true] {
        let mut found = server.disk.recovered();
        found.commit = known;
        found.hard_state.is_tail_unknown = is_tail_unknown;
        let (raft, effects) =
            Raft::recover(server.config.clone(), found, Time(0)).expect("the log is whole");
        let believed = if is_tail_unknown { Index(0) } else { known };
        assert_eq!(raft.status().commit, believed);
        let is_applied = effects.iter().any(|effect| matches!(effect, Effect::Apply { .. }));
        assert_eq!(is_applied, !is_tail_unknown);
    }
}

#[test]
fn the_mark_survives_further_starts() {
    let mut cluster = led(2);
    cluster.lose_tail(2, 2);
    cluster.crash(2);
    assert!(is_unknown(&cluster, 2));
    assert!(cluster.server(2).disk.hard_state.is_tail_unknown);
}

#[test]
fn an_answer_that_an_earlier_start_asked_for_is_refused() {
    let mut cluster = led(2);
    cluster.lose_tail(2, 3);
    cluster.tick(1, 100);
    let mut early = Vec::new();
    cluster.deliver_if(|sent| {
        let is_answer = sent.rpc.kind() == RpcKind::BarrierResponse;
        early.extend(is_answer.then(|| sent.clone()));
        !is_answer
    });
    assert!(!early.is_empty());
    // It loses more, and starts once more: what the leader said before does not bind it.
    cluster.lose_tail(2, 2);
    let known = cluster.status(2).incarnation;
    for answer in early {
        cluster.step(2, Body::Peer(answer));
        let refused = cluster.refusals(2).last().copied();
        let theirs = Incarnation(known.0 - 1);
        assert_eq!(refused, Some(Refused::StaleIncarnation { known, theirs }));
    }
    assert!(is_unknown(&cluster, 2));
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    assert!(!is_unknown(&cluster, 2));
}

/// n1's log is longer than what the new leader has, but it is another one.
#[test]
fn length_alone_proves_nothing() {
    let mut cluster = led(1);
    for ticket in 10..14 {
        cluster.propose(1, ticket, "lonely");
    }
    cluster.fall_silent();
    cluster.step(2, Body::Campaign);
    cluster.deliver_if(|sent| sent.to != member(1));
    cluster.lose_tail(1, 6);
    assert_eq!(cluster.status(1).last.index, Index(5));
    cluster.tick(2, 100);
    // The barrier is told, the appends are lost.
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::AppendEntries);
    assert!(cluster.status(1).last.index >= cluster.status(2).last.index);
    assert!(is_unknown(&cluster, 1), "its log is as long, and not known to be the same");
    beat(&mut cluster, 2);
    beat(&mut cluster, 2);
    assert!(!is_unknown(&cluster, 1));
    assert_eq!(cluster.log_of(1), cluster.log_of(2));
}

#[test]
fn it_is_certain_only_once_the_entries_are_durable() {
    let mut cluster = led(3);
    cluster.slow_disks.insert(2);
    cluster.lose_tail(2, 3);
    cluster.sync(2);
    beat(&mut cluster, 1);
    beat(&mut cluster, 1);
    assert_eq!(cluster.status(2).last.index, Index(4));
    assert!(is_unknown(&cluster, 2));
    cluster.sync(2);
    assert!(!is_unknown(&cluster, 2));
    assert!(cluster.server(2).disk.hard_state.is_tail_unknown, "not yet on the disk");
    // No vote leaves before the mark is gone for good.
    cluster.tick(2, 2_000);
    cluster.trace.clear();
    cluster.step(3, Body::Campaign);
    cluster.deliver();
    let is_vote = |(id, effect): &(u64, Effect)| {
        let is_grant = |rpc: &Rpc| {
            matches!(
                rpc,
                Rpc::RequestVoteResponse { granted: true }
                    | Rpc::RequestPreVoteResponse { granted: true, .. }
            )
        };
        *id == 2 && matches!(effect, Effect::Send(sent) if is_grant(&sent.rpc))
    };
    assert!(!cluster.trace.iter().any(is_vote));
    cluster.sync(2);
    assert!(!cluster.server(2).disk.hard_state.is_tail_unknown);
}

#[test]
fn a_new_term_asks_anew() {
    let mut cluster = led(2);
    cluster.lose_tail(2, 3);
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::AppendEntries);
    assert!(is_unknown(&cluster, 2));
    // n3 leads, with the help of n1.
    cluster.step(1, Body::StepDown);
    cluster.fall_silent();
    cluster.step(3, Body::Campaign);
    cluster.deliver_if(|sent| sent.to != member(2));
    assert_eq!(cluster.status(3).role, RoleName::Leader);
    cluster.trace.clear();
    beat(&mut cluster, 3);
    beat(&mut cluster, 3);
    let asked = |(id, effect): &(u64, Effect)| {
        *id == 2 && matches!(effect, Effect::Send(sent) if sent.rpc.kind() == RpcKind::Barrier)
    };
    assert!(cluster.trace.iter().any(asked));
    assert!(!is_unknown(&cluster, 2));
}

#[test]
fn it_is_no_successor() {
    let mut cluster = led(2);
    cluster.lose_tail(2, 2);
    cluster.servers.remove(&3);
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::AppendEntries);
    let to = Some(raft_core::NodeId(2));
    cluster.step(1, Body::TransferLeadership { ticket: Ticket(9), to });
    let refused = cluster.server(1).outcomes[&Ticket(9)];
    let expected = raft_core::Outcome::Refused(raft_core::Rejection::UnknownMember);
    assert_eq!(refused, expected);
}

#[test]
fn an_operator_may_end_the_doubt() {
    let mut cluster = Cluster::new(&[1], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.lose_tail(1, 2);
    cluster.step(1, Body::Campaign);
    assert_eq!(cluster.status(1).role, RoleName::Follower);
    cluster.step(1, Body::ForceMembership { ticket: Ticket(2) });
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    assert!(!is_unknown(&cluster, 1));
    assert!(cluster.status(1).term > Term(1));
}
