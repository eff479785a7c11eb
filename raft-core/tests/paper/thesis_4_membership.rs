//! §6 and thesis §4.1, §4.2: who belongs to a cluster, and what that is asked for.

use raft_core::{Body, Refused, RoleName, Rpc, Term};

use crate::peers::{
    answer, append, end, genesis, grant, heartbeat, lead, lead_with, log, matched, one, plain,
    request, result, say, sent_by, terms, to,
};
use crate::support::{Cluster, member};

/// Thesis §4.1: a server takes appends of a leader that is not in its own configuration: its own
/// may be out of date.
#[test]
fn appends_of_a_leader_that_is_no_member_are_taken() {
    let mut cluster = plain(&[1, 2, 3]);
    let (prev, entries) = (genesis(&cluster), log(&cluster, &[4, 4]));
    let answers = say(&mut cluster, 9, 2, 4, append(prev, entries, 1));
    assert_eq!(result(&answers), matched(2));
    assert_eq!(cluster.status(2).leader, Some(member(9)));
}

/// Thesis §4.1: and votes for a candidate that is not in it, for the cluster may need that vote.
#[test]
fn a_candidate_that_is_no_member_gets_the_vote() {
    let mut cluster = plain(&[1, 2, 3]);
    let last = end(&cluster, &[1]);
    let answers = say(&mut cluster, 9, 2, 4, request(last));
    assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: true });
    assert_eq!(cluster.status(2).vote, Some(member(9)));
}

/// Thesis §4.1: but the votes that a candidate counts are those of its own configuration.
#[test]
fn a_vote_of_a_server_that_is_no_member_does_not_count() {
    let mut cluster = plain(&[1, 2, 3]);
    cluster.step(1, Body::Campaign);
    say(&mut cluster, 9, 1, 1, grant());
    assert_eq!(cluster.status(1).role, RoleName::Candidate);
    assert_eq!(cluster.refusals(1), [Refused::Unasked]);
}

/// §6, thesis §4.2.1: a server may belong without a vote. It gets the whole log, and counts neither
/// for elections nor for commits.
#[test]
fn a_member_without_a_vote_gets_the_log_and_counts_for_nothing() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[4, 5], |config| config.pre_vote = false);
    cluster.step(1, Body::Campaign);
    assert!(sent_by(&mut cluster, 1).iter().all(|sent| sent.to.id.0 <= 3), "nor is it asked");
    say(&mut cluster, 4, 1, 1, grant());
    say(&mut cluster, 5, 1, 1, grant());
    assert_eq!(cluster.status(1).role, RoleName::Candidate);
    let sent = say(&mut cluster, 2, 1, 1, grant());
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    for learner in [4, 5] {
        answer(&mut cluster, to(&sent, learner), matched(1));
    }
    assert_eq!(cluster.status(1).commit.0, 0, "one voter of three holds it");
    answer(&mut cluster, to(&sent, 2), matched(1));
    assert_eq!(cluster.status(1).commit.0, 1);
    let mut cluster = Cluster::new(&[1], &[2]);
    lead(&mut cluster, 1);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    assert_eq!((terms(&cluster, 2), cluster.status(2).applied.0), (vec![1, 1], 2));
}

/// §6, thesis §4.2.1: nor does it ever campaign.
#[test]
fn a_member_without_a_vote_never_campaigns() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    assert_eq!(cluster.server(4).raft.next_deadline(), None, "it has no election timer");
    cluster.tick(4, 1 << 30);
    cluster.step(4, Body::Campaign);
    assert!(sent_by(&mut cluster, 4).is_empty());
    assert_eq!(cluster.status(4).term, Term(0));
    assert_eq!(cluster.refusals(4), [Refused::NotAVoter]);
}

/// §6, thesis §4.2.3: within an election timeout of hearing its leader a server neither enters a
/// candidate's term nor votes for it, whatever its log.
#[test]
fn a_candidate_is_ignored_while_a_leader_is_heard() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    say(&mut cluster, 1, 2, 1, heartbeat(0));
    let last = end(&cluster, &[1, 1, 1]);
    cluster.now.0 += 999;
    let answers = say(&mut cluster, 9, 2, 7, request(last));
    assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: false });
    assert_eq!((cluster.status(2).term, cluster.status(2).vote), (Term(1), None));
    assert!(matches!(cluster.refusals(2)[..], [Refused::StickyLeader { .. }]));
    cluster.now.0 += 1;
    let answers = say(&mut cluster, 9, 2, 7, request(last));
    assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: true });
    assert_eq!(cluster.status(2).term, Term(7));
}

/// §6, thesis §4.2.3: a leader that keeps in touch with a majority is not deposed by a candidate
/// with a later term either.
#[test]
fn a_candidate_does_not_depose_a_leader_that_is_in_touch() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    for attempt in 2..30 {
        cluster.tick(1, 100);
        cluster.deliver();
        let last = cluster.status(1).last;
        for voter in 1..=3 {
            say(&mut cluster, 9, voter, attempt, request(last));
        }
    }
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    assert!((1..=3).all(|id| cluster.status(id).term == Term(1)));
}

/// Thesis §4.2.3: an ordinary election is not hindered: whoever times out has waited as long as the
/// voters must.
#[test]
fn an_ordinary_election_is_not_hindered() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    lead_with(&mut cluster, 1, &[2]);
    cluster.network.clear();
    say(&mut cluster, 1, 2, 1, heartbeat(0));
    say(&mut cluster, 1, 3, 1, heartbeat(0));
    let wait = cluster.server(2).raft.next_deadline().expect("a follower has a timer").0;
    cluster.tick(2, wait - cluster.now.0);
    cluster.deliver_if(|sent| sent.to != member(1));
    assert_eq!(cluster.status(2).role, RoleName::Leader);
}
