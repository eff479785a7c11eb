//! §5.3: log replication.

use raft_core::{
    AppendResult, Body, Entries, Envelope, Index, Outcome, Rpc, RpcKind, Term, Ticket,
};

use crate::peers::{
    answer, append, end, found, genesis, lead, lead_with, log, matched, one, plain, result, say,
    sent_by, terms, to,
};
use crate::support::{Cluster, member};

fn carries_entries(sent: &Envelope) -> bool {
    matches!(&sent.rpc, Rpc::AppendEntries { entries, .. } if !entries.is_empty())
}

fn is_conflict(sent: &Envelope) -> bool {
    let Rpc::AppendEntriesResponse { result, .. } = sent.rpc else { return false };
    matches!(result, AppendResult::Conflict { .. })
}

/// §5.3: a leader appends a command and sends it to everyone at once, in parallel.
#[test]
fn a_command_goes_to_all_followers_in_parallel() {
    let mut cluster = plain(&[1, 2, 3, 4, 5]);
    lead(&mut cluster, 1);
    cluster.propose(1, 1, "x");
    let sent = sent_by(&mut cluster, 1);
    let receivers: Vec<u64> = sent.iter().map(|envelope| envelope.to.id.0).collect();
    assert_eq!(receivers, [2, 3, 4, 5]);
    assert!(sent.iter().all(carries_entries));
}

/// §5.3: in the normal case one round of messages to a majority replicates a command: the leader
/// commits with the first answers, and slow followers hold up nobody.
#[test]
fn one_round_to_a_majority_commits_and_slow_followers_hold_up_nobody() {
    let mut cluster = plain(&[1, 2, 3, 4, 5]);
    lead(&mut cluster, 1);
    for command in 1..=100 {
        cluster.propose(1, command, "x");
        let sent = sent_by(&mut cluster, 1);
        // n4 and n5 have not answered since the election.
        for peer in [2, 3] {
            answer(&mut cluster, to(&sent, peer), matched(1 + command));
        }
        assert_eq!(cluster.status(1).commit, Index(1 + command));
        sent_by(&mut cluster, 1);
    }
    assert_eq!(cluster.server(1).outcomes.len(), 100);
}

/// §5.3: a follower that is away gets every entry in the end, long after the client was answered.
#[test]
fn a_leader_retries_after_the_client_was_answered() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    for ticket in 1..=5 {
        cluster.propose(1, ticket, "x");
        cluster.deliver_if(|sent| sent.to != member(3));
    }
    assert_eq!(cluster.server(1).outcomes.len(), 5, "all are answered");
    assert_eq!(cluster.status(3).last.index, Index(1));
    for _ in 0..20 {
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| sent.to != member(3));
    }
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(terms(&cluster, 3), [1; 6]);
    assert_eq!(cluster.status(3).applied, Index(6));
}

/// §5.3: committing an entry commits everything before it, of earlier leaders too.
#[test]
fn an_entry_commits_all_that_precede_it() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 1, 3, &[1, 2, 3]);
    let sent = lead_with(&mut cluster, 1, &[2]);
    assert_eq!(cluster.status(1).commit, Index(0));
    answer(&mut cluster, to(&sent, 2), matched(4));
    assert_eq!(cluster.status(1).commit, Index(4));
    let applied: Vec<u64> = cluster.server(1).applied.iter().map(|e| e.term().0).collect();
    assert_eq!(applied, [1, 2, 3, 4]);
}

/// §5.3: the leader's commit index travels with later messages, heartbeats included, and never
/// promises a follower more than its log is known to match.
#[test]
fn followers_learn_the_commit_index_with_later_messages() {
    let mut cluster = plain(&[1, 2, 3]);
    let sent = lead_with(&mut cluster, 1, &[2]);
    answer(&mut cluster, to(&sent, 2), matched(1));
    sent_by(&mut cluster, 1);
    cluster.tick(1, 100);
    let beats = sent_by(&mut cluster, 1);
    let commit = |envelope: &Envelope| {
        let (Rpc::Heartbeat { commit, .. } | Rpc::AppendEntries { commit, .. }) = envelope.rpc
        else {
            panic!("{envelope} carries no commit index")
        };
        commit
    };
    assert_eq!(commit(to(&beats, 2)), Index(1));
    assert_eq!(commit(to(&beats, 3)), Index(0), "nothing is known of its log");
    cluster.propose(1, 1, "x");
    let sent = sent_by(&mut cluster, 1);
    assert_eq!(commit(to(&sent, 2)), Index(1));
}

/// §5.3, Figure 3 (Log Matching): the same index and term mean the same command, and the same log
/// before it; a follower that took one append holds exactly what the leader holds.
#[test]
fn logs_that_agree_at_one_entry_agree_before_it() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    for round in 1..=3 {
        cluster.now.0 += 2_000;
        lead(&mut cluster, round);
        for ticket in 0..4 {
            cluster.propose(round, 10 * round + ticket, "x");
        }
        // Another follower in each round hears nothing.
        cluster.deliver_if(|sent| sent.to.id.0 != (round + 1) % 3 + 1);
    }
    for (one, two) in [(1, 2), (2, 3), (1, 3)] {
        let (one, two) = (&cluster.server(one).disk.log, &cluster.server(two).disk.log);
        let shared = one.iter().zip(two).rposition(|(mine, other)| mine.term() == other.term());
        let shared = shared.expect("they agree somewhere");
        assert_eq!(one[..=shared], two[..=shared]);
    }
}

/// §5.3, Figure 3 (Leader Append-Only): a leader never changes what is in its log, whatever its
/// followers answer.
#[test]
fn a_leader_never_overwrites_its_log() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 1, 3, &[1, 2, 3]);
    found(&mut cluster, 2, 2, &[1, 1, 2, 2, 2, 2]);
    let before = log(&cluster, &[1, 2, 3]);
    lead_with(&mut cluster, 1, &[3]);
    for _ in 0..3 {
        cluster.tick(1, 100);
        cluster.deliver();
        assert_eq!(cluster.server(1).disk.log[..3], before[..]);
    }
    assert_eq!(terms(&cluster, 2), [1, 2, 3, 4], "the follower's gave way");
}

/// §5.3: the consistency check is an induction: a first entry needs nothing before it, every other
/// one needs the one before.
#[test]
fn entries_are_taken_only_where_the_log_before_them_agrees() {
    let mut cluster = plain(&[1, 2, 3]);
    let whole = log(&cluster, &[1, 1, 1]);
    let second = append(end(&cluster, &[1]), whole.slice(Index(2), Index(3)), 0);
    let answers = say(&mut cluster, 1, 2, 1, second.clone());
    let conflict =
        AppendResult::Conflict { rejected: Index(1), hint: Index(0), hint_term: Term(0) };
    assert_eq!(result(&answers), conflict, "and says how long its log is");
    let first = append(genesis(&cluster), whole.slice(Index(1), Index(2)), 0);
    assert_eq!(result(&say(&mut cluster, 1, 2, 1, first)), matched(1));
    assert_eq!(result(&say(&mut cluster, 1, 2, 1, second)), matched(2));
}

/// §5.3: a refusal carries a hint that passes over all entries of the conflicting term, so the
/// number of refusals is that of terms that differ, and not that of entries.
#[test]
fn a_refusal_passes_over_a_whole_term() {
    let mut cluster = plain(&[1, 2, 3]);
    let mut old = vec![1];
    old.extend([2; 300]);
    found(&mut cluster, 2, 2, &old);
    let mut new = vec![1];
    new.extend([3; 300]);
    found(&mut cluster, 1, 3, &new);
    found(&mut cluster, 3, 3, &new);
    let mut refusals = 0;
    cluster.step(1, Body::Campaign);
    cluster.deliver_if(|sent| {
        refusals += u32::from(is_conflict(sent));
        true
    });
    assert_eq!(terms(&cluster, 2), terms(&cluster, 1));
    assert_eq!(refusals, 1, "300 entries of one term, one refusal");
}

/// §5.3: until it knows where the logs meet, a leader sends one append at a time; then it sends
/// without waiting.
#[test]
fn a_leader_probes_until_the_logs_meet() {
    let mut cluster = plain(&[1, 2, 3]);
    let sent = lead_with(&mut cluster, 1, &[2]);
    for ticket in 1..=3 {
        cluster.propose(1, ticket, "x");
        assert!(sent_by(&mut cluster, 1).is_empty(), "the first append is not answered");
    }
    answer(&mut cluster, to(&sent, 2), matched(1));
    cluster.network.clear();
    for ticket in 4..=6 {
        cluster.propose(1, ticket, "x");
        let sent = sent_by(&mut cluster, 1);
        assert_eq!(sent.iter().filter(|sent| carries_entries(sent)).count(), 1);
        assert_eq!(to(&sent, 2).rpc.kind(), RpcKind::AppendEntries);
    }
}

/// §5.3: a new leader does nothing special; ordinary appends bring the logs together.
#[test]
fn logs_converge_by_ordinary_appends() {
    let logs: [&[u64]; 5] = [&[1, 1, 2, 5], &[1, 1, 2, 2], &[1, 3, 3, 3, 3], &[1], &[]];
    let mut cluster = plain(&[1, 2, 3, 4, 5]);
    for (id, terms) in (1..).zip(logs) {
        found(&mut cluster, id, 5, terms);
    }
    lead(&mut cluster, 1);
    for id in 1..=5 {
        assert_eq!(terms(&cluster, id), [1, 1, 2, 5, 6]);
        assert_eq!(cluster.status(id).commit, Index(5));
        assert!(cluster.violations(id).is_empty());
    }
}

/// §5.3, Figure 7: followers that lack entries, have others, or both; each within three refusals.
#[test]
fn the_followers_of_figure_7_converge() {
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for follower in followers {
        let mut cluster = plain(&[1, 2, 3]);
        for (id, log) in [(1, &leader[..]), (2, follower), (3, &leader[..])] {
            found(&mut cluster, id, 7, log);
        }
        let mut refusals = 0;
        cluster.step(1, Body::Campaign);
        cluster.deliver_if(|sent| {
            refusals += u32::from(is_conflict(sent));
            true
        });
        assert_eq!(terms(&cluster, 2), [&leader[..], &[8]].concat(), "{follower:?}");
        assert_eq!(cluster.status(2).commit, Index(11));
        assert!(refusals <= 3, "{follower:?} took {refusals} refusals");
    }
}

/// §5.3: a leader makes progress with one entry in a message.
#[test]
fn one_entry_to_a_message_is_enough() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.pre_vote = false;
        config.append_entries_max = 1;
    });
    found(&mut cluster, 1, 2, &[1, 1, 1, 2, 2, 2]);
    cluster.step(1, Body::Campaign);
    cluster.deliver_if(|sent| {
        assert!(
            !matches!(&sent.rpc, Rpc::AppendEntries { entries, .. } if entries.len() > 1),
            "{sent}"
        );
        true
    });
    assert_eq!(terms(&cluster, 3), [1, 1, 1, 2, 2, 2, 3]);
}

/// §5.3: an append without entries checks the logs all the same: it is answered like any other.
#[test]
fn an_append_without_entries_is_checked_too() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 2, &[1, 2]);
    for (prev, expected) in [(&[1_u64, 2][..], Some(2)), (&[1], Some(1)), (&[1, 3], None)] {
        let prev = end(&cluster, prev);
        let answers = say(&mut cluster, 1, 2, 3, append(prev, Entries::empty(), 0));
        match expected {
            Some(index) => assert_eq!(result(&answers), matched(index)),
            None => assert!(matches!(
                one(&answers),
                Rpc::AppendEntriesResponse { result: AppendResult::Conflict { .. }, .. }
            )),
        }
        assert_eq!(terms(&cluster, 2), [1, 2], "and changes nothing");
    }
}

/// §5.3: the result goes to the client once its command is committed, with where it stands.
#[test]
fn clients_are_answered_with_the_place_of_their_command() {
    let mut cluster = plain(&[1, 2, 3]);
    lead(&mut cluster, 1);
    for ticket in 1..=3 {
        cluster.propose(1, ticket, "x");
    }
    cluster.deliver();
    for ticket in 1..=3 {
        let expected = Outcome::Committed { term: Term(1), index: Index(1 + ticket) };
        assert_eq!(cluster.server(1).outcomes[&Ticket(ticket)], expected);
    }
}
