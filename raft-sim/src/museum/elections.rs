//! Elections: §5.2, §5.4.1, pre-vote and the check of the quorum (thesis §9.6, §6.2, §4.2.3).

use super::stage::Stage;
use super::story::{Story, Told, must, story};
use super::subject::{ELECTION_TIMEOUT_US, HEARTBEAT_US, Input, Kind, Letter, Role, Setup, id};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "15",
        Safety,
        akka_stale_or_repeated_votes_counted,
        "akka-raft 46, little-raft 44, camunda 1068, nebula 685, 2405, 3415"
    ),
    story!(
        "16",
        Safety,
        etcd_pre_votes_counted_as_votes,
        "etcd-io/raft CandidateDeliversPreCandidateSelfVoteAfterBecomingCandidate"
    ),
    story!(
        "16b",
        Safety,
        etcd_own_vote_delivered_after_the_election,
        "etcd-io/raft CandidateSelfVoteAfterLostElection, PreCandidateSelfVoteAfterLostElection"
    ),
    story!(
        "17",
        Liveness,
        openraft_pre_vote_deadlock_between_long_logs_and_high_terms,
        "openraft 1796, 1800; canonical/raft 142; redpanda 2071"
    ),
    story!(
        "17b",
        Liveness,
        etcd_prevote_migration_can_complete_election,
        "etcd 8501; tikv raft-rs test_prevote_migration_can_complete_election"
    ),
    story!(
        "18",
        Liveness,
        etcd_higher_term_stuck_under_check_quorum,
        "etcd-io/raft test_free_stuck_candidate_with_check_quorum"
    ),
    story!(
        "19",
        Liveness,
        openraft_one_way_link,
        "etcd-io/raft test_disruptive_follower; openraft t14_one_way_isolation"
    ),
    story!(
        "24",
        Safety,
        term_saturates_and_is_voted_in_twice,
        "a crafted term at the end of the integer, wherever term + 1 saturates or wraps"
    ),
];

/// A grant of the last term reaches a candidate of the next one, or one voter's grant arrives three
/// times, and each is counted.
///
/// Must hold: a candidate counts every voter once, and only in its present term.
///
/// # Errors
/// If it does not hold.
pub fn akka_stale_or_repeated_votes_counted(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3, 4, 5]))?;
    stage.campaign(1)?;
    stage.deliver(|letter| letter.from == 1)?;
    let stale = stage.keep_back(|letter| letter.to == 1);
    must(stale.len() == 4, "all four have granted in term 1")?;
    stage.campaign(1)?;
    must(stage.view(1).term == 2, "the candidate has lost patience")?;
    stage.deliver_kept(&stale)?;
    must(stage.view(1).role == Role::Candidate, "grants of term 1 elect nobody in term 2")?;
    stage.deliver(|letter| letter.goes(1, 2))?;
    let mut copies = stage.copy(|letter| letter.goes(2, 1));
    copies.extend(stage.copy(|letter| letter.goes(2, 1)));
    stage.deliver(|letter| letter.goes(2, 1))?;
    stage.deliver_kept(&copies)?;
    must(stage.view(1).role == Role::Candidate, "one voter, three times, is one voter")?;
    stage.settle()?;
    must(stage.leads(1), "the others' grants elect it")
}

/// A pre-candidate becomes a candidate with its second pre-vote; the rest of the pre-votes arrive
/// afterwards and are counted as votes.
///
/// Must hold: a pre-vote promises nothing.
///
/// # Errors
/// If it does not hold.
pub fn etcd_pre_votes_counted_as_votes(stage: &mut Stage<'_>) -> Told {
    let asking = Setup { check_quorum: false, ..Setup::complete(&[1, 2, 3, 4, 5]) };
    stage.found(&asking)?;
    stage.campaign(1)?;
    stage.deliver(|letter| letter.from == 1)?;
    let is_pre_vote = |letter: &Letter| matches!(letter.kind, Kind::PreVote { .. });
    let copies = stage.copy(is_pre_vote);
    must(copies.len() == 4, "all four would vote for it")?;
    stage.deliver(|letter| is_pre_vote(letter) && (letter.from == 2 || letter.from == 3))?;
    must(stage.view(1).role == Role::Candidate, "three of five let it campaign")?;
    stage.deliver(is_pre_vote)?;
    stage.deliver_kept(&copies)?;
    must(stage.view(1).role == Role::Candidate, "pre-votes elect nobody")?;
    stage.settle()?;
    must(stage.leads(1), "votes do")?;
    // Nor do votes that arrive late disturb the leader, or let it lead another term.
    must(stage.view(1).term == 1, "in the term of the votes")
}

/// Two servers have the longest logs and a low term, two others short logs and a high term; a fifth
/// is down. The first pair's pre-votes are refused for their term, the second pair's for their logs.
///
/// Must hold: a refused asker adopts the term that refuses it, so that somebody wins in the end.
///
/// # Errors
/// If it does not hold.
pub fn openraft_pre_vote_deadlock_between_long_logs_and_high_terms(stage: &mut Stage<'_>) -> Told {
    let long: &[u64] = &[1, 1, 1];
    let pairs = Setup::complete(&[1, 2, 3, 4, 5]).log(1, long).log(2, long);
    let pairs = pairs.log(3, &[1]).log(4, &[1]).log(5, &[1]);
    stage.found(&pairs.term(3, 7).term(4, 7))?;
    stage.crash(5)?;
    let is_led = stage.run_until(20 * ELECTION_TIMEOUT_US, |stage| stage.leader().is_some())?;
    must(is_led, "somebody leads within twenty election timeouts")?;
    stage.commit_somewhere("X")?;

    // The second pair's own questions, which carry their term as well, are lost.
    let pairs = Setup::complete(&[1, 2, 3, 4, 5]).log(1, long).log(2, long);
    let pairs = pairs.log(3, &[1]).log(4, &[1]).log(5, &[1]);
    stage.found(&pairs.term(3, 7).term(4, 7))?;
    stage.crash(5)?;
    for _ in 0..800 {
        if stage.leader().is_some() {
            break;
        }
        stage.run_idle(HEARTBEAT_US / 4)?;
        let is_question = |letter: &Letter| {
            letter.from >= 3 && matches!(letter.kind, Kind::RequestPreVote { .. })
        };
        stage.lose(is_question);
        stage.settle()?;
    }
    must(stage.leader().is_some(), "the answers alone are enough")?;
    stage.commit_somewhere("Y")
}

/// A server comes back from a partition with a higher term. It ignores the leader's lower one, and
/// the others ignore its candidacies because they hear their leader.
///
/// Must hold: the answer to a message of a lower term carries the higher one, so that the leader
/// learns of it and the group comes together.
///
/// # Errors
/// If it does not hold.
pub fn etcd_higher_term_stuck_under_check_quorum(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup { pre_vote: false, ..Setup::complete(&[1, 2, 3]) })?;
    stage.elect(1)?;
    stage.isolate(3);
    stage.run_for(6 * ELECTION_TIMEOUT_US)?;
    let (led, stuck) = (stage.view(1).term, stage.view(3).term);
    must(stuck > led, format_args!("the third server has campaigned alone: t{stuck} over t{led}"))?;
    stage.heal();
    stage.run_for(10 * ELECTION_TIMEOUT_US)?;
    must(stage.leader().is_some(), "somebody leads")?;
    stage.commit_somewhere("X")
}

/// One server can send and hears nothing; without pre-vote it deposes every leader for ever. With
/// pre-vote and without a check of the quorum the opposite happens: a leader that is heard and hears
/// nobody keeps everybody from electing one that could commit.
///
/// Must hold: neither.
///
/// # Errors
/// If it does not hold.
pub fn openraft_one_way_link(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::complete(&[1, 2, 3]))?;
    stage.elect(1)?;
    let term = stage.view(1).term;
    stage.cut_one_way(1, 3);
    stage.cut_one_way(2, 3);
    for _ in 0..10 {
        stage.run_for(2 * ELECTION_TIMEOUT_US)?;
        stage.commit(1, "X")?;
    }
    must(stage.view(1).term == term, "a server that hears nothing deposes nobody")?;
    stage.heal();
    stage.cut_one_way(2, 1);
    stage.cut_one_way(3, 1);
    let is_replaced = |stage: &Stage<'_>| stage.leader().is_some_and(|leader| leader != 1);
    let replaced = stage.run_until(20 * ELECTION_TIMEOUT_US, is_replaced)?;
    must(replaced, "a leader that hears nobody makes way")?;
    let leader = stage.leader().unwrap_or_default();
    stage.commit(leader, "Y")
}

/// A message claims the last term that an integer can hold. `term + 1` wraps or stays; with a
/// saturating sum a node votes for itself again and again in one and the same term.
///
/// Must hold: such a message is refused, and at the end of all terms nobody campaigns.
///
/// # Errors
/// If it does not hold.
pub fn term_saturates_and_is_voted_in_twice(stage: &mut Stage<'_>) -> Told {
    for term in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 62] {
        stage.found(&Setup::figure_2(&[1, 2, 3]))?;
        stage.elect(1)?;
        stage.post(3, 2, term, &Kind::RequestVote { last: id(term, u64::MAX) })?;
        stage.post(3, 2, term, &Kind::RequestVote { last: id(0, 0) })?;
        let empty = Kind::Append { prev: id(0, 0), entries: Vec::new(), commit: 0 };
        stage.post(3, 2, term, &empty)?;
        stage.post(2, 1, term, &Kind::Vote { granted: true })?;
        for server in 1..=3 {
            let now = stage.view(server).term;
            must(now < term, format_args!("n{server} takes over no crafted term: t{now}"))?;
        }
        stage.run_for(5 * ELECTION_TIMEOUT_US)?;
        stage.commit_somewhere("X")?;
    }
    // The last term that is one: it may be led, but no later one exists.
    let last = (1 << 62) - 1;
    stage.found(&Setup::figure_2(&[1, 2, 3]).term(1, last - 1).term(2, last - 1))?;
    stage.elect(1)?;
    must(stage.view(1).term == last, "the last of all terms has a leader")?;
    stage.isolate(1);
    stage.input(1, &Input::Pass(HEARTBEAT_US))?;
    stage.campaign(2)?;
    stage.settle()?;
    stage.run_for(5 * ELECTION_TIMEOUT_US)?;
    must(!stage.leads(2) && !stage.leads(3), "no second one")
}

/// A candidate counts itself once its own vote is on its disk, and disks are slow. When it is told,
/// it may be a candidate of that term still and have a pre-vote of its own besides; or follow whoever
/// has won; or be a candidate of a later term. Pre-votes may come as late.
///
/// Must hold: its own vote counts once, in the candidacy that it was given for.
///
/// # Errors
/// If it does not hold.
pub fn etcd_own_vote_delivered_after_the_election(stage: &mut Stage<'_>) -> Told {
    own_pre_vote_is_no_vote(stage)?;
    own_vote_after_a_lost_election(stage)?;
    pre_votes_after_a_lost_election(stage)?;
    own_vote_of_an_earlier_candidacy(stage)
}

fn asking() -> Setup {
    Setup { pre_vote: true, ..Setup::figure_2(&[1, 2, 3, 4, 5]) }
}

fn is_pre_vote(letter: &Letter) -> bool {
    matches!(letter.kind, Kind::PreVote { .. })
}

/// Somebody grants the first server its vote, as if it had been asked already: a request that waits
/// for the disk would come too late for these stories.
fn grant_early(stage: &mut Stage<'_>, voter: u64, term: u64) -> Told {
    let last = stage.view(1).last();
    stage.post(1, voter, term, &Kind::RequestVote { last })?;
    let is_vote = |letter: &Letter| letter.kind == Kind::Vote { granted: true };
    must(stage.deliver(is_vote)? == 1, format_args!("n{voter} votes for the first server"))
}

/// Two votes of five, and what the candidate has thought of itself before.
fn own_pre_vote_is_no_vote(stage: &mut Stage<'_>) -> Told {
    stage.found(&asking())?;
    stage.hold_disk(1);
    stage.campaign(1)?;
    stage.deliver(|letter| letter.from == 1)?;
    stage.deliver(|letter| is_pre_vote(letter) && (letter.from == 2 || letter.from == 3))?;
    must(stage.view(1).role == Role::Candidate, "two others and itself let it campaign")?;
    must(!stage.writes(1).is_empty(), "its own vote is not on its disk yet")?;
    grant_early(stage, 2, 1)?;
    grant_early(stage, 3, 1)?;
    must(
        stage.view(1).role == Role::Candidate,
        "two votes of five, and no pre-vote, elect nobody",
    )?;
    stage.deliver(is_pre_vote)?;
    must(stage.view(1).role == Role::Candidate, "whoever else gave one")?;
    stage.release_disk(1)?;
    must(stage.leads(1), "its own vote is the third")
}

/// The leader of its term was elected meanwhile; with pre-vote and without.
fn own_vote_after_a_lost_election(stage: &mut Stage<'_>) -> Told {
    for pre_vote in [false, true] {
        stage.found(&Setup { pre_vote, ..asking() })?;
        stage.hold_disk(1);
        stage.campaign(1)?;
        stage.deliver(|letter| letter.from == 1)?;
        stage.deliver(is_pre_vote)?;
        must(stage.view(1).role == Role::Candidate, "the first server campaigns")?;
        stage.campaign(2)?;
        stage.settle_if(|letter| letter.from != 1 && letter.to != 1)?;
        must(stage.leads(2) && stage.view(2).term == 1, "the second one wins the term")?;
        stage.deliver(|letter| letter.goes(2, 1))?;
        must(stage.view(1).role == Role::Follower, "the first server follows it")?;
        stage.release_disk(1)?;
        let vote = Kind::Vote { granted: true };
        for voter in [3, 4] {
            stage.post(voter, 1, 1, &vote)?;
        }
        must(stage.view(1).role == Role::Follower, "whatever votes come, it follows still")?;
        let asked = stage.letters(|at| at.from == 1 && matches!(at.kind, Kind::RequestVote { .. }));
        must(asked.is_empty(), format_args!("nor does it ask for any now: {asked:?}"))?;
        stage.commit(2, "X")?;
        must(stage.view(1).has_applied("X"), "and it has what its leader has")?;
    }
    Ok(())
}

/// The leader of the term speaks to who has asked whether it could win the next one.
fn pre_votes_after_a_lost_election(stage: &mut Stage<'_>) -> Told {
    stage.found(&asking())?;
    stage.elect(2)?;
    for server in [1, 3, 4, 5] {
        stage.input(server, &Input::Pause(3 * ELECTION_TIMEOUT_US))?;
    }
    stage.cut(1, 2);
    stage.campaign(1)?;
    stage.deliver(|letter| letter.from == 1)?;
    let again = stage.copy(is_pre_vote);
    let late = stage.keep_back(is_pre_vote);
    let are_both = late.len() == 3 && again.len() == 3;
    must(are_both, "three others have not heard of their leader for long")?;
    stage.heal();
    stage.input(2, &Input::Pass(HEARTBEAT_US))?;
    stage.deliver(|letter| letter.goes(2, 1))?;
    must(stage.view(1).role == Role::Follower, "the first server hears it again")?;
    stage.deliver_kept(&late)?;
    must(stage.view(1).role == Role::Follower, "what it had asked for is over")?;
    // Nor do the answers to one question answer the next one.
    stage.cut(1, 2);
    stage.campaign(1)?;
    stage.lose(|_| true);
    must(stage.view(1).role == Role::PreCandidate, "it asks anew")?;
    stage.deliver_kept(&again)?;
    must(stage.view(1).role == Role::PreCandidate, "and has no answer yet")?;
    must(stage.view(1).term == 1, "in the term of its leader")
}

/// It has lost patience, and campaigns again, before the vote of its first candidacy is written.
fn own_vote_of_an_earlier_candidacy(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.hold_disk(1);
    stage.campaign(1)?;
    let first = stage.writes(1).len();
    stage.campaign(1)?;
    must(stage.writes(1).len() > first, "both votes are on their way to the disk")?;
    grant_early(stage, 2, 2)?;
    stage.write(1, first)?;
    let view = stage.view(1);
    must(
        (view.term, view.role) == (2, Role::Candidate),
        "a vote of term 1 elects nobody in term 2",
    )?;
    stage.release_disk(1)?;
    must(stage.leads(1), "that of term 2 does")
}

/// Pre-vote is turned on server by server. One that has campaigned without it comes back in a higher
/// term and asks first from now on, with a log that is behind; who has the log asks in a lower term.
/// The one is refused for its log, the other is not heard for its term.
///
/// Must hold: whoever asks first and whoever does not, somebody is elected in the end.
///
/// # Errors
/// If it does not hold.
pub fn etcd_prevote_migration_can_complete_election(stage: &mut Stage<'_>) -> Told {
    // The very story: two ask, the third has not, and does from now on.
    let migrating = Setup { pre_vote: true, ..Setup::figure_2(&[1, 2, 3]) };
    let two = Setup { pre_votes: [(3, false)].into_iter().collect(), ..migrating };
    stage.found(&two)?;
    stage.elect(1)?;
    stage.isolate(3);
    stage.commit(1, "A")?;
    for _ in 0..3 {
        stage.campaign(3)?;
    }
    stage.input(3, &Input::PreVote(true))?;
    stage.reboot(3)?;
    let terms = [2, 3].map(|server| stage.view(server).term);
    must(terms == [1, 4], format_args!("the third server comes back in a higher term: {terms:?}"))?;
    stage.crash(1)?;
    stage.lose(|_| true);
    stage.heal();
    for server in [2, 3] {
        stage.input(server, &Input::Pause(3 * ELECTION_TIMEOUT_US))?;
    }
    for candidate in [3, 2, 3, 2] {
        stage.campaign(candidate)?;
        stage.settle()?;
    }
    must(stage.leads(2), "who has the log is elected by who has the term")?;
    stage.commit(2, "B")?;
    for set in 0..8_u64 {
        mixed(stage, set)?;
    }
    for pre_vote in [true, false] {
        migration(stage, pre_vote)?;
    }
    Ok(())
}

/// Of three servers those of a set ask first. One is cut off for long, comes back behind, and the
/// leader is lost.
fn mixed(stage: &mut Stage<'_>, set: u64) -> Told {
    let is_led = |stage: &Stage<'_>| stage.leader().is_some();
    let pre_votes = (1..=3).map(|server| (server, set >> (server - 1) & 1 == 1)).collect();
    for check_quorum in [false, true] {
        let asks = Setup::figure_2(&[1, 2, 3]);
        stage.found(&Setup { check_quorum, pre_votes: Clone::clone(&pre_votes), ..asks })?;
        stage.elect(1)?;
        stage.isolate(3);
        stage.commit(1, "A")?;
        stage.run_for(6 * ELECTION_TIMEOUT_US)?;
        stage.crash(1)?;
        stage.heal();
        let found = stage.run_until(20 * ELECTION_TIMEOUT_US, is_led)?;
        must(found, format_args!("somebody is elected where {pre_votes:?}"))?;
        must(stage.leads(2), "the one that has the log")?;
        stage.restart(1)?;
        stage.commit_somewhere("B")?;
    }
    Ok(())
}

/// One server after the other is cut off, campaigns, starts with the other option, and comes back.
fn migration(stage: &mut Stage<'_>, pre_vote: bool) -> Told {
    let is_led = |stage: &Stage<'_>| stage.leader().is_some();
    stage.found(&Setup { pre_vote: !pre_vote, ..Setup::complete(&[1, 2, 3]) })?;
    for server in [3, 2, 1] {
        must(stage.run_until(20 * ELECTION_TIMEOUT_US, is_led)?, "there is a leader")?;
        stage.commit_somewhere("on the way")?;
        stage.isolate(server);
        stage.run_for(6 * ELECTION_TIMEOUT_US)?;
        stage.input(server, &Input::PreVote(pre_vote))?;
        stage.reboot(server)?;
        stage.heal();
        stage.run_for(6 * ELECTION_TIMEOUT_US)?;
        must(stage.leader().is_some(), format_args!("also after n{server} has come back"))?;
        let leader = stage.leader().unwrap_or_default();
        stage.crash(leader)?;
        must(stage.run_until(20 * ELECTION_TIMEOUT_US, is_led)?, "and when the leader is lost")?;
        stage.restart(leader)?;
    }
    stage.commit_somewhere("in the end")
}
