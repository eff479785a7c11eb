//! Figure 2, the state and the rules for servers: all of them, followers, candidates, leaders.

use raft_core::{
    AppendResult, Body, Effect, Entries, Index, Outcome, RoleName, Rpc, RpcKind, Term, Ticket,
};

use crate::peers::{
    answer, append, end, found, genesis, grant, heartbeat, lead, lead_with, log, matched, plain,
    request, say, sent_by, terms, to,
};
use crate::support::{Cluster, member};

/// Persistent state (§5.6): the term, the vote and the log are on disk before the server answers, so a
/// crash forgets nothing that anyone was told.
#[test]
fn term_vote_and_log_are_durable_before_any_answer() {
    let mut cluster = plain(&[1, 2, 3]);
    let last = genesis(&cluster);
    cluster.is_disk_immediate = false;
    cluster.sync_all();
    assert!(say(&mut cluster, 1, 2, 3, request(last)).is_empty());
    cluster.sync(2);
    assert_eq!(sent_by(&mut cluster, 2).len(), 1, "the vote leaves with the sync");
    let entries = log(&cluster, &[3]);
    assert!(say(&mut cluster, 1, 2, 3, append(last, entries, 0)).is_empty());
    cluster.sync(2);
    assert_eq!(sent_by(&mut cluster, 2).len(), 1, "so does the acknowledgement");
    cluster.crash(2);
    let status = cluster.status(2);
    assert_eq!((status.term, status.vote), (Term(3), Some(member(1))));
    assert_eq!(terms(&cluster, 2), [3]);
}

/// Volatile state (§5.3): the commit index starts at zero and only rises; a restarted server learns it
/// anew.
#[test]
fn the_commit_index_starts_at_zero_after_a_restart() {
    let mut cluster = plain(&[1, 2, 3]);
    let (prev, entries) = (genesis(&cluster), log(&cluster, &[1, 1]));
    say(&mut cluster, 1, 2, 1, append(prev, entries, 2));
    assert_eq!(cluster.status(2).commit, Index(2));
    cluster.crash(2);
    assert_eq!((cluster.status(2).commit, cluster.status(2).applied), (Index(0), Index(0)));
    assert_eq!(cluster.status(2).last.index, Index(2), "the log is all there");
}

/// Volatile state on leaders (§5.3): the first append to everyone names the leader's last entry of before
/// its election as the previous one, and nothing counts as matching.
#[test]
fn a_new_leader_starts_every_peer_at_the_end_of_its_log() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 1, 4, &[1, 4]);
    let sent = lead_with(&mut cluster, 1, &[2]);
    let last = end(&cluster, &[1, 4]);
    for peer in [2, 3] {
        let Rpc::AppendEntries { prev, commit, .. } = &to(&sent, peer).rpc else {
            panic!("the first message of a leader is an append")
        };
        assert_eq!((*prev, *commit), (last, Index(0)));
    }
    assert_eq!(cluster.status(1).commit, Index(0));
}

/// All servers (§5.3): what is committed is applied, in the order of the log, each entry once.
#[test]
fn committed_entries_are_applied_in_order() {
    let mut cluster = plain(&[1, 2, 3]);
    let prev = genesis(&cluster);
    let entries = log(&cluster, &[1, 1, 1, 1]);
    say(&mut cluster, 1, 2, 1, append(prev, entries, 0));
    assert!(cluster.server(2).applied.is_empty());
    for commit in [1, 3, 3, 4] {
        say(&mut cluster, 1, 2, 1, heartbeat(commit));
        let applied: Vec<u64> = cluster.server(2).applied.iter().map(|e| e.index().0).collect();
        assert_eq!(applied, (1..=commit).collect::<Vec<_>>());
    }
}

/// All servers (§5.1): a message of a later term, request or response, makes a follower of
/// whoever receives it, in that term.
#[test]
fn a_later_term_makes_a_follower_of_every_role() {
    let last = genesis(&plain(&[1, 2, 3]));
    let later = [
        request(last),
        Rpc::RequestVoteResponse { granted: false },
        heartbeat(0),
        append(last, Entries::empty(), 0),
    ];
    for rpc in later {
        for role in [RoleName::Follower, RoleName::Candidate, RoleName::Leader] {
            let mut cluster = plain(&[1, 2, 3]);
            match role {
                RoleName::Candidate => cluster.step(1, Body::Campaign),
                RoleName::Leader => lead(&mut cluster, 1),
                RoleName::Follower | RoleName::PreCandidate | RoleName::Halted => {}
            }
            assert_eq!(cluster.status(1).role, role);
            say(&mut cluster, 3, 1, 9, rpc.clone());
            assert_eq!(cluster.status(1).role, RoleName::Follower, "{rpc} to a {role}");
            assert_eq!(cluster.status(1).term, Term(9));
        }
    }
}

/// Followers (§5.2): they answer candidates and leaders, and never speak first.
#[test]
fn a_follower_answers_and_never_speaks_first() {
    let mut cluster = plain(&[1, 2, 3]);
    let last = genesis(&cluster);
    cluster.tick(2, 999);
    assert!(sent_by(&mut cluster, 2).is_empty(), "its timer has not fired");
    assert_eq!(say(&mut cluster, 1, 2, 1, request(last)).len(), 1);
    assert_eq!(say(&mut cluster, 1, 2, 1, append(last, Entries::empty(), 0)).len(), 1);
    assert_eq!(say(&mut cluster, 1, 2, 1, heartbeat(0)).len(), 1);
}

/// Followers (§5.2): an election timeout without a message of the leader and without a vote given
/// makes a candidate. Each of the two puts it off.
#[test]
fn an_election_timeout_without_leader_or_vote_makes_a_candidate() {
    let last = genesis(&plain(&[1, 2, 3]));
    let puts_off = [request(last), heartbeat(0), append(last, Entries::empty(), 0)];
    for rpc in puts_off {
        let mut cluster = plain(&[1, 2, 3]);
        // It is in that term already: entering one is not what puts the election off.
        found(&mut cluster, 2, 1, &[]);
        cluster.tick(2, 900);
        say(&mut cluster, 1, 2, 1, rpc);
        let deadline = cluster.server(2).raft.next_deadline().expect("a follower has a timer");
        assert!((1_900..2_900).contains(&deadline.0), "counted anew from 900 on");
        let left = deadline.0 - cluster.now.0;
        cluster.tick(2, left - 1);
        assert_eq!(cluster.status(2).role, RoleName::Follower);
        cluster.tick(2, 1);
        assert_eq!(cluster.status(2).role, RoleName::Candidate);
    }
}

/// Followers (§5.2): a refused candidate or a leader of an earlier term puts nothing off.
#[test]
fn a_refused_message_does_not_put_the_election_off() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 5, &[1, 5]);
    let before = cluster.server(2).raft.next_deadline();
    let last = end(&cluster, &[1]);
    say(&mut cluster, 1, 2, 4, heartbeat(0));
    say(&mut cluster, 1, 2, 4, request(last));
    assert_eq!(cluster.server(2).raft.next_deadline(), before);
}

/// Followers (§5.2): nor does a refused candidate of a later term, or servers that cannot win could
/// keep those that can from trying.
#[test]
fn a_refused_candidate_of_a_later_term_does_not_put_the_election_off() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 5, &[1, 5]);
    let before = cluster.server(2).raft.next_deadline();
    cluster.now.0 += 900;
    let last = end(&cluster, &[1]);
    say(&mut cluster, 1, 2, 6, request(last));
    let status = cluster.status(2);
    assert_eq!((status.term, status.vote), (Term(6), None));
    assert_eq!(cluster.server(2).raft.next_deadline(), before);
}

/// Candidates (§5.2), on conversion: the next term, a vote for itself, a fresh timer, and a
/// request to everyone else.
#[test]
fn a_candidate_enters_the_next_term_votes_for_itself_and_asks_everyone() {
    let mut cluster = plain(&[1, 2, 3, 4, 5]);
    found(&mut cluster, 1, 6, &[2]);
    let left = cluster.server(1).raft.next_deadline().expect("it has a timer").0;
    cluster.tick(1, left);
    let status = cluster.status(1);
    assert_eq!((status.role, status.term), (RoleName::Candidate, Term(7)));
    assert_eq!(status.vote, Some(member(1)));
    let deadline = cluster.server(1).raft.next_deadline().expect("a candidate has a timer");
    assert!((1_000..2_000).contains(&(deadline.0 - cluster.now.0)), "a fresh one");
    let last = end(&cluster, &[2]);
    let sent = sent_by(&mut cluster, 1);
    let asked: Vec<u64> = sent.iter().map(|envelope| envelope.to.id.0).collect();
    assert_eq!(asked, [2, 3, 4, 5]);
    let is_request = |rpc: &Rpc| *rpc == request(last);
    assert!(sent.iter().all(|sent| sent.term == Term(7) && is_request(&sent.rpc)));
}

/// Candidates (§5.2): a majority of votes makes a leader, and not one vote less.
#[test]
fn a_majority_of_votes_makes_a_leader() {
    for (voters, needed) in [(1_u64, 0), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let ids: Vec<u64> = (1..=voters).collect();
        let mut cluster = plain(&ids);
        cluster.step(1, Body::Campaign);
        for voter in 2..2 + needed {
            assert_eq!(cluster.status(1).role, RoleName::Candidate, "{voter} of {voters}");
            say(&mut cluster, voter, 1, 1, grant());
        }
        assert_eq!(cluster.status(1).role, RoleName::Leader, "{needed} grants of {voters} servers");
    }
}

/// Candidates (§5.2): whoever leads the same term is followed.
#[test]
fn a_candidate_follows_the_leader_of_its_term() {
    for rpc in [heartbeat(0), append(genesis(&plain(&[1, 2, 3])), Entries::empty(), 0)] {
        let mut cluster = plain(&[1, 2, 3]);
        cluster.step(1, Body::Campaign);
        say(&mut cluster, 2, 1, 1, rpc);
        let status = cluster.status(1);
        assert_eq!((status.role, status.leader), (RoleName::Follower, Some(member(2))));
        assert_eq!(status.vote, Some(member(1)), "a vote changes only with the term");
    }
}

/// Candidates (§5.2): an election that comes to nothing is followed by the next, in the next term.
#[test]
fn an_election_that_times_out_is_followed_by_the_next() {
    let mut cluster = plain(&[1, 2, 3]);
    for term in 1..=4 {
        let deadline = cluster.server(1).raft.next_deadline().expect("it has a timer").0;
        cluster.tick(1, deadline - cluster.now.0);
        let status = cluster.status(1);
        assert_eq!((status.role, status.term), (RoleName::Candidate, Term(term)));
        assert_eq!(sent_by(&mut cluster, 1).len(), 2, "and everyone is asked again");
    }
}

/// Leaders (§5.2): everyone hears of a new leader at once, and again in every idle interval.
#[test]
fn a_leader_speaks_at_once_and_whenever_it_is_idle() {
    let mut cluster = plain(&[1, 2, 3]);
    let sent = lead_with(&mut cluster, 1, &[2]);
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|sent| sent.rpc.kind() == RpcKind::AppendEntries));
    for _ in 0..3 {
        cluster.tick(1, 99);
        assert!(sent_by(&mut cluster, 1).is_empty());
        cluster.tick(1, 1);
        let sent = sent_by(&mut cluster, 1);
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|sent| sent.rpc.kind() == RpcKind::Heartbeat));
    }
}

/// Leaders (§5.3): a command is appended to the leader's own log at once, and answered only when
/// it is committed.
#[test]
fn a_command_is_appended_at_once_and_answered_when_committed() {
    let mut cluster = plain(&[1, 2, 3]);
    lead(&mut cluster, 1);
    cluster.propose(1, 1, "x");
    assert_eq!(cluster.status(1).last.index, Index(2));
    assert!(cluster.server(1).outcomes.is_empty());
    let sent = sent_by(&mut cluster, 1);
    answer(&mut cluster, to(&sent, 2), matched(2));
    let committed = Outcome::Committed { term: Term(1), index: Index(2) };
    assert_eq!(cluster.server(1).outcomes[&Ticket(1)], committed);
    assert_eq!(cluster.status(1).applied, Index(2));
}

/// Leaders (§5.3): a peer whose next index is not past the log gets the entries from there on; its
/// success moves both of its indexes, and it gets the next ones.
#[test]
fn a_success_moves_a_peer_on() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.pre_vote = false;
        config.append_entries_max = 2;
        config.inflight_appends_max = 1;
    });
    let sent = lead_with(&mut cluster, 1, &[2]);
    for ticket in 1..=4 {
        cluster.propose(1, ticket, "x");
    }
    assert!(sent_by(&mut cluster, 1).is_empty(), "one append at a time until the logs meet");
    let mut next = to(&sent, 2).clone();
    for (first, last) in [(2, 3), (4, 5)] {
        let so_far = matched(first - 1);
        let sent = answer(&mut cluster, &next, so_far);
        let appends = |sent: &&raft_core::Envelope| matches!(&sent.rpc, Rpc::AppendEntries { entries, .. } if !entries.is_empty());
        next = sent.iter().find(appends).expect("entries follow").clone();
        let Rpc::AppendEntries { prev, entries, .. } = &next.rpc else { unreachable!() };
        assert_eq!(prev.index, Index(first - 1));
        let indices: Vec<u64> = entries.iter().map(|entry| entry.index().0).collect();
        assert_eq!(indices, [first, last]);
    }
}

/// Leaders (§5.3): a failure of the consistency check moves the peer's next index back, and the
/// append is tried again from there.
#[test]
fn a_failed_append_is_tried_again_further_back() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 1, 3, &[1, 2, 3]);
    let sent = lead_with(&mut cluster, 1, &[2]);
    let conflict =
        AppendResult::Conflict { rejected: Index(3), hint: Index(1), hint_term: Term(1) };
    let sent = answer(&mut cluster, to(&sent, 2), conflict);
    let Rpc::AppendEntries { prev, entries, .. } = &to(&sent, 2).rpc else {
        panic!("an append is tried again")
    };
    assert_eq!(*prev, end(&cluster, &[1]));
    assert_eq!(entries.len(), 3, "both that it lacks, and the no-op");
}

/// Leaders (§5.3, §5.4.2): the commit index is the highest one that a majority matches, if its
/// entry is of the leader's own term.
#[test]
fn the_commit_index_is_what_a_majority_matches() {
    let mut cluster = plain(&[1, 2, 3, 4, 5]);
    let sent = lead_with(&mut cluster, 1, &[2, 3]);
    for peer in 2..=5 {
        answer(&mut cluster, to(&sent, peer), matched(1));
    }
    for ticket in 1..=3 {
        cluster.propose(1, ticket, "x");
    }
    let sent = sent_by(&mut cluster, 1);
    // Own match is 4. After each answer: which index do three of five have?
    for (peer, index, commit) in [(2, 4, 1), (3, 2, 2), (4, 3, 3), (5, 4, 4)] {
        answer(&mut cluster, to(&sent, peer), matched(index));
        assert_eq!(cluster.status(1).commit, Index(commit), "n{peer} matches {index}");
    }
}

/// Leaders (§5.3): a leader's own entry counts for its majority only once it is on its own disk.
#[test]
fn the_leaders_own_disk_counts_like_any_other() {
    let mut cluster = plain(&[1, 2, 3]);
    lead(&mut cluster, 1);
    cluster.is_disk_immediate = false;
    cluster.propose(1, 1, "x");
    let sent = sent_by(&mut cluster, 1);
    answer(&mut cluster, to(&sent, 2), matched(2));
    assert_eq!(cluster.status(1).commit, Index(1), "one disk of three");
    cluster.sync(1);
    assert_eq!(cluster.status(1).commit, Index(2), "two of three");
    let applied = |(id, effect): &(u64, Effect)| *id == 1 && matches!(effect, Effect::Apply { .. });
    assert!(cluster.trace.iter().any(applied));
}
