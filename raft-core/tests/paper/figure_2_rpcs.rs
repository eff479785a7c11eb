//! Figure 2, the receivers of AppendEntries and RequestVote: each numbered rule (§5.1 to §5.4).

use raft_core::{AppendResult, Entries, Index, Refused, RoleName, Round, Rpc, Session, Term};

use crate::peers::{
    append, end, found, genesis, log, matched, one, plain, request, result, say, terms,
};
use crate::support::member;

/// AppendEntries 1 (§5.1): a leader of an earlier term is refused, and told the present one; its
/// entries are not looked at.
#[test]
fn an_append_of_an_earlier_term_is_refused() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 5, &[1]);
    let (prev, entries) = (genesis(&cluster), log(&cluster, &[4, 4]));
    let answers = say(&mut cluster, 1, 2, 4, append(prev, entries, 2));
    assert_eq!(answers[0].term, Term(5), "the answer carries the present term");
    assert!(!matches!(
        answers[0].rpc,
        Rpc::AppendEntriesResponse { result: AppendResult::Matched { .. }, .. }
    ));
    let stale = Refused::StaleTerm { mine: Term(5), theirs: Term(4) };
    assert_eq!(cluster.refusals(2), [stale]);
    assert_eq!((terms(&cluster, 2), cluster.status(2).commit), (vec![1], Index(0)));
    assert_eq!(cluster.status(2).leader, None, "nor does it count as the leader");
}

/// AppendEntries 2 (§5.3): without an entry at the previous index that has the previous term, the
/// append fails and changes nothing.
#[test]
fn an_append_fails_unless_the_previous_entry_is_there() {
    for mine in [&[][..], &[1], &[1, 1], &[1, 1, 3]] {
        let mut cluster = plain(&[1, 2, 3]);
        found(&mut cluster, 2, 3, mine);
        let whole = log(&cluster, &[1, 1, 2, 4]);
        let prev = end(&cluster, &[1, 1, 2]);
        let answers = say(&mut cluster, 1, 2, 4, append(prev, whole.slice(Index(4), Index(5)), 3));
        assert!(matches!(result(&answers), AppendResult::Conflict { rejected: Index(3), .. }));
        assert_eq!(terms(&cluster, 2), mine, "the log is as it was");
        assert_eq!(cluster.status(2).commit, Index(0));
    }
}

/// AppendEntries 3 (§5.3): an entry that conflicts with a new one (same index, other term) goes,
/// and all that follow it. What comes before stays.
#[test]
fn a_conflicting_entry_goes_with_all_that_follow_it() {
    let cases: [(&[u64], &[u64]); 3] =
        [(&[1, 2, 2, 2], &[1, 3]), (&[1, 1, 2], &[1, 1, 3, 3]), (&[2, 2], &[3])];
    for (mine, theirs) in cases {
        let mut cluster = plain(&[1, 2, 3]);
        found(&mut cluster, 2, 2, mine);
        let (prev, entries) = (genesis(&cluster), log(&cluster, theirs));
        let answers = say(&mut cluster, 1, 2, 3, append(prev, entries, 0));
        assert_eq!(result(&answers), matched(theirs.len() as u64));
        assert_eq!(terms(&cluster, 2), theirs);
    }
}

/// AppendEntries 3 and 4 (§5.3): entries that are there already are left alone, and so is what
/// follows them: an old message that comes late must not shorten the log.
#[test]
fn entries_that_are_there_already_truncate_nothing() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 1, &[1, 1, 1, 1]);
    let (prev, old) = (genesis(&cluster), log(&cluster, &[1, 1]));
    let answers = say(&mut cluster, 1, 2, 1, append(prev, old, 0));
    assert_eq!(terms(&cluster, 2), [1, 1, 1, 1]);
    assert_eq!(result(&answers), matched(2), "it claims only what this message has shown");
}

/// AppendEntries 4 (§5.3): whatever is not in the log yet is appended.
#[test]
fn new_entries_are_appended_after_those_that_are_there() {
    for have in 0..=3 {
        let all = [1, 1, 2];
        let mut cluster = plain(&[1, 2, 3]);
        found(&mut cluster, 2, 2, &all[..have]);
        let (prev, entries) = (genesis(&cluster), log(&cluster, &all));
        let answers = say(&mut cluster, 1, 2, 2, append(prev, entries, 0));
        assert_eq!(result(&answers), matched(3));
        assert_eq!(terms(&cluster, 2), all);
    }
}

/// AppendEntries 5 (§5.3): the commit index rises to the leader's, but not past the last entry that
/// this message has shown to be the leader's; what follows that may be another leader's.
#[test]
fn the_commit_index_is_the_lesser_of_the_leaders_and_the_last_new_entry() {
    // (the leader's commit index, how many of three entries it sends, the follower's then)
    for (theirs, sent, expected) in [(0, 3, 0), (2, 3, 2), (3, 3, 3), (9, 2, 2), (9, 0, 0)] {
        let mut cluster = plain(&[1, 2, 3]);
        found(&mut cluster, 2, 1, &[1, 1, 1, 1]);
        let (prev, entries) = (genesis(&cluster), log(&cluster, &[1, 1, 1]));
        let entries = entries.slice(Index(1), Index(1 + sent));
        say(&mut cluster, 1, 2, 2, append(prev, entries, theirs));
        assert_eq!(cluster.status(2).commit, Index(expected), "{theirs} of {sent} entries");
    }
}

/// AppendEntries 5 (§5.3): a lower commit index, as an old message may carry, changes nothing.
#[test]
fn the_commit_index_never_falls() {
    let mut cluster = plain(&[1, 2, 3]);
    let (prev, entries) = (genesis(&cluster), log(&cluster, &[1, 1]));
    say(&mut cluster, 1, 2, 1, append(prev, entries, 2));
    say(&mut cluster, 1, 2, 1, append(prev, Entries::empty(), 0));
    assert_eq!(cluster.status(2).commit, Index(2));
}

/// RequestVote 1 (§5.1): a candidate of an earlier term is refused, whatever its log. What tells it
/// the present term is no vote of that term, not even a refused one.
#[test]
fn a_candidate_of_an_earlier_term_is_refused() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 5, &[1]);
    let last = end(&cluster, &[1, 4, 4]);
    let answers = say(&mut cluster, 1, 2, 4, request(last));
    let (session, round) = (Session::ZERO, Round::ZERO);
    assert_eq!(one(&answers), &Rpc::HeartbeatResponse { session, round });
    assert_eq!(answers[0].term, Term(5), "the answer carries the present term");
    assert_eq!(cluster.status(2).vote, None);
}

/// RequestVote 2 (§5.2): the vote is given if it is still free, or was given to this candidate.
#[test]
fn a_vote_is_given_if_it_is_free_or_the_candidates_already() {
    let mut cluster = plain(&[1, 2, 3, 4]);
    let last = genesis(&cluster);
    for (candidate, granted) in [(1, true), (3, false), (1, true), (4, false)] {
        let answers = say(&mut cluster, candidate, 2, 7, request(last));
        assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted });
    }
    assert_eq!(cluster.status(2).vote, Some(member(1)));
    assert_eq!(cluster.refusals(2), [Refused::AlreadyVoted { candidate: member(1) }; 2]);
    let answers = say(&mut cluster, 3, 2, 8, request(last));
    assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: true }, "a term, a vote");
}

/// RequestVote 2 (§5.4.1): and only if the candidate's log is at least as up to date.
#[test]
fn a_free_vote_is_refused_to_a_log_that_is_behind() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 2, &[1, 2]);
    let (mine, theirs) = (end(&cluster, &[1, 2]), end(&cluster, &[1, 1, 1]));
    let answers = say(&mut cluster, 1, 2, 3, request(theirs));
    assert_eq!(one(&answers), &Rpc::RequestVoteResponse { granted: false });
    assert_eq!(cluster.refusals(2), [Refused::LogBehind { mine, theirs }]);
    let status = cluster.status(2);
    assert_eq!((status.term, status.vote), (Term(3), None), "the term counts, the vote stays free");
    assert_eq!(status.role, RoleName::Follower);
}
