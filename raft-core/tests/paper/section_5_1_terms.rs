//! §5.1: terms, a logical clock by which servers tell old from new.

use raft_core::{
    AppendResult, Body, Entries, Index, Observation, Refused, RoleName, Round, Rpc, Session, Term,
};

use crate::peers::{
    append, found, genesis, grant, heartbeat, lead, lead_with, one, plain, request, say, sent_by,
    to,
};
use crate::support::{Cluster, member};

/// §5.1: every message carries its sender's term, and a lower one gives way to it.
#[test]
fn terms_are_exchanged_with_every_message() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 7, &[1]);
    cluster.step(1, Body::Campaign);
    assert_eq!(cluster.status(1).term, Term(1));
    cluster.deliver();
    let status = cluster.status(1);
    assert_eq!((status.role, status.term), (RoleName::Follower, Term(7)), "n2 has told it");
    lead(&mut cluster, 1);
    assert!((1..=3).all(|id| cluster.status(id).term == Term(8)));
}

/// §5.1: a term only rises; what was said in an earlier one is refused by everyone, and a request
/// is answered with the present term so that its sender learns of it.
#[test]
fn whatever_belongs_to_an_earlier_term_is_refused() {
    let last = genesis(&plain(&[1, 2, 3]));
    let (session, round) = (Session(1), Round(0));
    let result = AppendResult::Matched { index: Index(1) };
    let messages = [
        (Rpc::RequestPreVote { last, attempt: 1 }, true),
        (Rpc::RequestPreVoteResponse { attempt: 1, granted: true }, false),
        (request(last), true),
        (grant(), false),
        (append(last, Entries::empty(), 0), true),
        (Rpc::AppendEntriesResponse { session, round, result }, false),
        (heartbeat(0), true),
        (Rpc::HeartbeatResponse { session, round }, false),
    ];
    for (rpc, is_request) in messages {
        let mut cluster = plain(&[1, 2, 3]);
        found(&mut cluster, 2, 7, &[]);
        let before = cluster.server(2).raft.digest();
        let answers = say(&mut cluster, 1, 2, 6, rpc);
        assert_eq!(cluster.refusals(2), [Refused::StaleTerm { mine: Term(7), theirs: Term(6) }]);
        assert_eq!(cluster.server(2).raft.digest(), before, "nothing has changed");
        assert_eq!(answers.len(), usize::from(is_request));
        assert!(answers.iter().all(|answer| answer.term == Term(7)));
    }
}

/// §5.1: a candidate or leader that learns of a later term is a follower from then on: it takes no
/// further request of a client, and does not know who leads.
#[test]
fn a_leader_out_of_date_is_a_follower_at_once() {
    let mut cluster = plain(&[1, 2, 3]);
    let sent = lead_with(&mut cluster, 1, &[2]);
    let Rpc::AppendEntries { session, round, .. } = to(&sent, 2).rpc else {
        panic!("the first message of a leader is an append")
    };
    say(&mut cluster, 2, 1, 5, Rpc::HeartbeatResponse { session, round });
    let status = cluster.status(1);
    assert_eq!((status.role, status.term), (RoleName::Follower, Term(5)));
    assert_eq!((status.leader, status.vote), (None, None));
    cluster.tick(1, 100);
    assert!(sent_by(&mut cluster, 1).is_empty(), "no heartbeat any more");
}

/// §5.1, Figure 3 (Election Safety): a term has at most one leader. A second one in the same term
/// is not believed, and is reported.
#[test]
fn a_term_has_one_leader() {
    let mut cluster = plain(&[1, 2, 3]);
    say(&mut cluster, 1, 2, 1, heartbeat(0));
    assert!(say(&mut cluster, 3, 2, 1, heartbeat(0)).is_empty());
    assert_eq!(cluster.status(2).leader, Some(member(1)));
    assert_eq!(cluster.violations(2).len(), 1);
}

/// §5.1: some terms end without a leader, and a server may miss whole terms: a later one is
/// entered from wherever a server stands.
#[test]
fn terms_may_be_skipped() {
    let mut cluster = plain(&[1, 2, 3]);
    say(&mut cluster, 1, 2, 1, heartbeat(0));
    say(&mut cluster, 3, 2, 40, heartbeat(0));
    let status = cluster.status(2);
    assert_eq!((status.term, status.leader), (Term(40), Some(member(3))));
}

/// §5.1: a message may be lost, late, or come twice. Whoever asks asks again: a candidate at its
/// next timeout, a leader at its next heartbeat.
#[test]
fn what_is_not_answered_is_asked_again() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    cluster.propose(1, 1, "x");
    cluster.network.clear();
    for _ in 0..3 {
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| sent.to != member(3));
    }
    assert_eq!(cluster.status(2).last.index, Index(2));
    assert_eq!(cluster.status(3).last.index, Index(1), "not a word has reached it");
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(cluster.status(3).last.index, Index(2));
}

/// §5.1: repeated answers count once.
#[test]
fn an_answer_that_comes_twice_counts_once() {
    let mut cluster = plain(&[1, 2, 3, 4, 5]);
    cluster.step(1, Body::Campaign);
    for _ in 0..3 {
        say(&mut cluster, 2, 1, 1, grant());
    }
    assert_eq!(cluster.status(1).role, RoleName::Candidate, "two of five");
    let last = genesis(&cluster);
    let answers = say(&mut cluster, 2, 3, 1, request(last));
    let again = say(&mut cluster, 2, 3, 1, request(last));
    assert_eq!(one(&answers), one(&again));
    let roles = cluster.server(3).observations.iter();
    assert_eq!(roles.filter(|seen| matches!(seen, Observation::RoleChanged { .. })).count(), 0);
}
