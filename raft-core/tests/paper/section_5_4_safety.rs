//! §5.4: safety. The election restriction, entries of earlier terms, and what follows from both.

use raft_core::{Body, Entry, Index, Refused, RoleName, Rpc, Term};

use crate::peers::{
    answer, end, found, lead_with, matched, one, plain, request, say, sent_by, terms, to,
};
use crate::support::Cluster;

/// §5.4.1: of two logs, the one whose last entry has the later term is more up to date; with equal
/// terms, the longer one. All pairs of a few logs, against that sentence.
#[test]
fn votes_go_to_logs_that_are_at_least_as_up_to_date() {
    let logs: [&[u64]; 8] =
        [&[], &[1], &[1, 1], &[1, 1, 1, 1], &[1, 2], &[2], &[1, 1, 3], &[1, 2, 3]];
    for mine in logs {
        for theirs in logs {
            let mut cluster = plain(&[1, 2, 3]);
            found(&mut cluster, 2, 3, mine);
            let last = |terms: &[u64]| (terms.last().copied(), terms.len());
            let expected = last(theirs) >= last(mine);
            let theirs_end = end(&cluster, theirs);
            let answers = say(&mut cluster, 1, 2, 4, request(theirs_end));
            let granted = Rpc::RequestVoteResponse { granted: expected };
            assert_eq!(one(&answers), &granted, "{theirs:?} asks {mine:?}");
            let mine = end(&cluster, mine);
            let refused = Refused::LogBehind { mine, theirs: theirs_end };
            assert_eq!(cluster.refusals(2) == [refused], !expected);
        }
    }
}

/// §5.4.1: so a candidate wins only if its log holds all that is committed, without any entry
/// flowing to a new leader.
#[test]
fn a_server_that_lacks_a_committed_entry_cannot_win() {
    let mut cluster = plain(&[1, 2, 3, 4, 5]);
    for id in [1, 2, 3] {
        found(&mut cluster, id, 2, &[1, 2]);
    }
    for id in [4, 5] {
        found(&mut cluster, id, 2, &[1, 1, 1]);
    }
    for _ in 0..3 {
        cluster.step(4, Body::Campaign);
        cluster.deliver();
        assert_ne!(cluster.status(4).role, RoleName::Leader, "three hold a later last term");
    }
    cluster.elect(1);
    assert!((1..=5).all(|id| terms(&cluster, id)[..2] == [1, 2]));
}

/// §5.4.2: a majority that holds an entry of an earlier term does not commit it; a majority that
/// holds an entry of the leader's own term commits both.
#[test]
fn an_earlier_term_is_never_committed_by_counting() {
    let mut cluster = plain(&[1, 2, 3, 4, 5]);
    found(&mut cluster, 1, 4, &[1, 2, 4]);
    let sent = lead_with(&mut cluster, 1, &[2, 3]);
    for peer in 2..=5 {
        answer(&mut cluster, to(&sent, peer), matched(3));
        assert_eq!(cluster.status(1).commit, Index(0), "even if all hold it");
    }
    sent_by(&mut cluster, 1);
    answer(&mut cluster, to(&sent, 2), matched(4));
    assert_eq!(cluster.status(1).commit, Index(0));
    answer(&mut cluster, to(&sent, 3), matched(4));
    assert_eq!(cluster.status(1).commit, Index(4));
}

/// §5.4.2: entries keep the term in which they were made when a later leader replicates them.
#[test]
fn entries_keep_their_terms() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 1, 8, &[1, 2, 2, 5]);
    cluster.elect(1);
    assert!((1..=3).all(|id| terms(&cluster, id) == [1, 2, 2, 5, 9]));
}

/// §5.4.3, Figure 9 (Leader Completeness): whatever is committed in one term is in the logs of the
/// leaders of all later ones. Every server that can win after a commit, by every majority.
#[test]
fn every_later_leader_holds_what_is_committed() {
    for majority in [[2, 3], [2, 5], [3, 4], [4, 5]] {
        let mut start = plain(&[1, 2, 3, 4, 5]);
        start.elect(1);
        start.propose(1, 1, "x");
        start.deliver_if(|sent| {
            let others = [sent.from.id.0, sent.to.id.0];
            others.iter().all(|id| *id == 1 || majority.contains(id))
        });
        assert_eq!(start.status(1).commit, Index(2));
        let mut winners = 0;
        for candidate in 2..=5 {
            let mut cluster = start.clone();
            cluster.step(candidate, Body::Campaign);
            cluster.deliver_if(|sent| sent.from.id.0 != 1 && sent.to.id.0 != 1);
            if cluster.status(candidate).role == RoleName::Leader {
                winners += 1;
                assert_eq!(terms(&cluster, candidate), [1, 1, 2], "n{candidate}");
            }
        }
        assert_eq!(winners, 2, "exactly those that hold the entry");
    }
}

/// §5.4.3, Figure 3 (State Machine Safety): no two servers apply different entries at one index,
/// through changes of leaders that leave conflicting ends behind.
#[test]
fn state_machines_apply_the_same_entries() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.pre_vote = false;
        config.check_quorum = false;
    });
    for term in 1..=12_u64 {
        let leader = term % 3 + 1;
        cluster.step(leader, Body::Campaign);
        cluster.deliver();
        if cluster.status(leader).role != RoleName::Leader {
            continue;
        }
        cluster.propose(leader, 2 * term, "kept");
        cluster.deliver_if(|sent| sent.to.id.0 != (term + 1) % 3 + 1);
        cluster.propose(leader, 2 * term + 1, "nobody hears of it");
        cluster.network.clear();
    }
    cluster.step(1, Body::Campaign);
    cluster.deliver();
    cluster.step(1, Body::Campaign);
    cluster.deliver();
    assert!(cluster.status(1).term > Term(12));
    let applied = |id: u64| -> &[Entry] { &cluster.server(id).applied };
    let shortest = (1..=3).map(|id| applied(id).len()).min().expect("three servers");
    assert!(shortest > 8, "{shortest} entries are applied everywhere");
    assert_eq!(applied(1)[..shortest], applied(2)[..shortest]);
    assert_eq!(applied(1)[..shortest], applied(3)[..shortest]);
    assert!((1..=3).all(|id| cluster.violations(id).is_empty()));
}
