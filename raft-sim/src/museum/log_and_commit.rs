//! Log matching and the commit rule: §5.3, §5.4.

use super::stage::Stage;
use super::story::{Story, Told, must, story};
use super::subject::{HEARTBEAT_US, Input, Kind, Letter, Role, Setup, id};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "14",
        Safety,
        figure_8_old_entry_committed_by_counting,
        "§5.4.2; logcabin 44, canonical/raft 220, CCF 3950, 4472, 4485, 5674, 5748"
    ),
    story!(
        "25",
        Safety,
        copycat_follower_commits_to_the_end_of_its_log,
        "copycat 265, scylla 9965, CCF 8172; hashicorp/raft takes the minimum with its last index"
    ),
    story!("26", Safety, ccf_stale_append_truncates_what_was_acknowledged, "CCF 5927, 5991, 6016"),
    story!("27", Safety, ccf_acknowledges_beyond_the_end_of_an_append, "CCF 6001, 6016"),
    story!("28", Safety, ccf_refusal_raises_the_match, "CCF 5325"),
    story!(
        "29",
        Liveness,
        ccf_heartbeat_refusal_overwrites_the_position,
        "CCF 3723, 2803, 2835, 2852"
    ),
    story!(
        "30",
        Safety,
        toydb_spurious_reject_moves_next_below_match,
        "etcd-io/raft MaybeDecrTo; toydb append_response_stale_reject"
    ),
    story!(
        "31",
        Safety,
        openraft_commit_index_is_what_a_quorum_has,
        "openraft 1802, 1803, 1804 (VecProgress, five voters)"
    ),
    story!(
        "32",
        Safety,
        etcd_acknowledgement_of_an_earlier_leadership,
        "etcd-io/raft LeaderMsgAppSelfAckAfterTermChange"
    ),
    story!("35", Safety, openraft_failed_read_sends_an_append_from_nowhere, "openraft 1795"),
    story!(
        "36",
        Liveness,
        figure_7_logs_are_repaired_in_few_probes,
        "§5.3, Figure 7; etcd-io/raft probe_and_replicate"
    ),
];

fn is_append(letter: &Letter) -> bool {
    matches!(letter.kind, Kind::Append { .. })
}

/// The matches that a server claims in letters that are in flight.
fn claims(stage: &Stage<'_>, from: u64) -> Vec<u64> {
    let claim = |letter: Letter| match letter.kind {
        Kind::Matched { index } => Some(index),
        Kind::RequestPreVote { .. }
        | Kind::PreVote { .. }
        | Kind::RequestVote { .. }
        | Kind::Vote { .. }
        | Kind::Append { .. }
        | Kind::Commit { .. }
        | Kind::Conflict
        | Kind::Heartbeat
        | Kind::HeartbeatAnswer
        | Kind::Snapshot { .. }
        | Kind::SnapshotAnswer
        | Kind::TimeoutNow
        | Kind::ReadIndex
        | Kind::ReadIndexAnswer
        | Kind::Other => None,
    };
    stage.letters(|letter| letter.from == from).into_iter().filter_map(claim).collect()
}

/// Figure 8: the leader of term 4 replicates an entry of term 2 to a majority, and dies before an
/// entry of its own term is there; the leader of term 5 replaces it everywhere.
///
/// Must hold: an old entry is not committed because a majority has it.
///
/// # Errors
/// If it does not hold.
pub fn figure_8_old_entry_committed_by_counting(stage: &mut Stage<'_>) -> Told {
    let one_by_one = Setup { append_entries_max: 1, ..Setup::figure_2(&[1, 2, 3, 4, 5]) };
    let figure = one_by_one
        .log(1, &[1, 2])
        .log(2, &[1, 2])
        .log(3, &[1])
        .log(4, &[1])
        .log(5, &[1, 3])
        .term(1, 3);
    stage.found(&figure)?;
    stage.isolate(5);
    stage.campaign(1)?;
    stage.settle_if(|letter| !is_append(letter))?;
    must(stage.leads(1) && stage.view(1).term == 4, "the first server leads term 4")?;
    stage.isolate(4);
    for _ in 0..10 {
        if stage.view(3).last() == id(2, 2) {
            break;
        }
        stage.deliver(|letter| letter.goes(1, 3) || letter.goes(1, 2))?;
        stage.deliver(|letter| letter.goes(3, 1))?;
    }
    must(stage.view(3).last() == id(2, 2), "the third server gets the old entry")?;
    stage.deliver(|letter| letter.goes(2, 1) || letter.goes(3, 1))?;
    let early = stage.commit_of(1);
    stage.crash(1)?;
    stage.lose(|_| true);
    stage.heal();
    for _ in 0..2 {
        stage.campaign(5)?; // Its first candidacy is for term 4, whose votes are given.
        stage.settle()?;
    }
    must(stage.leads(5), "a later last term wins against a longer log")?;
    stage.restart(1)?;
    stage.run_for(3 * HEARTBEAT_US)?;
    let logs: Vec<_> = [1, 2, 3].map(|server| stage.view(server).log[1]).to_vec();
    must(logs == [id(3, 2); 3], format_args!("the old entry is replaced everywhere: {logs:?}"))?;
    must(early < 2, "a majority with an entry of an earlier term commits nothing")
}

/// A follower with a stale tail hears that the leader has committed more than what it has verified,
/// and commits to the end of its own log instead of to the end of what was verified.
///
/// Must hold: the commit index of a follower is bounded by the entry that the append ends with.
///
/// # Errors
/// If it does not hold.
pub fn copycat_follower_commits_to_the_end_of_its_log(stage: &mut Stage<'_>) -> Told {
    stage.found(&stale_tail())?;
    stage.isolate(2);
    stage.elect(3)?;
    must(stage.commit_of(3) == 3, "the new leader has committed through 3")?;
    stage.heal();
    let empty = Kind::Append { prev: id(1, 1), entries: Vec::new(), commit: 3 };
    stage.post(3, 2, 2, &empty)?;
    let commit = stage.commit_of(2);
    must(commit == 1, format_args!("only what was verified is committed: {commit}, not 1"))?;
    stage.run_for(3 * HEARTBEAT_US)?;
    must(stage.view(2).log == stage.view(3).log, "the tail is replaced in the end")
}

/// A follower with entries 2 and 3 of a leader that has lost its term; the leader of term 2 has
/// another entry 2 and will have a 3.
fn stale_tail() -> Setup {
    let servers = Setup::figure_2(&[1, 2, 3, 4, 5]);
    let logs = servers.log(1, &[1, 1, 1]).log(2, &[1, 1, 1]).log(4, &[1, 2]).log(5, &[1]);
    logs.log(3, &[1, 2]).term(3, 1)
}

/// A copy of an append arrives after the appends that followed it, and the follower truncates to
/// where the copy ends, dropping what it has acknowledged since.
///
/// Must hold: only a real conflict truncates.
///
/// # Errors
/// If it does not hold.
pub fn ccf_stale_append_truncates_what_was_acknowledged(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    stage.isolate(3);
    for command in ["A", "B", "C", "D"] {
        stage.propose(1, command)?;
    }
    let mut copies = stage.copy(|letter| letter.goes(1, 2) && is_append(letter));
    stage.deliver(|letter| letter.goes(1, 2))?;
    stage.deliver(|letter| letter.goes(2, 1))?;
    stage.lose(|_| true); // The follower does not hear that all four are committed.
    must(stage.commit_of(1) == 5, "all four are committed with the second server's help")?;
    must(stage.commit_of(2) < 5, "and it does not know")?;
    stage.isolate(1); // Nothing repairs what the copies may do.
    let (first, last) = (copies.first().cloned(), copies.len());
    must(last >= 4, "each command went out")?;
    stage.deliver_kept(&first.into_iter().collect::<Vec<_>>())?;
    copies.remove(0);
    copies.reverse();
    stage.deliver_kept(&copies)?;
    must(stage.view(2).last_index() == 5, "an old append takes nothing away")?;
    stage.lose(|_| true);
    stage.cut(2, 1);
    stage.heal();
    stage.isolate(1);
    stage.elect(2)?;
    must(stage.view(3).has_applied("D"), "what was acknowledged is there under the next leader")
}

/// A follower acknowledges its own last index, where only the append's end was verified; the leader
/// counts entries that it does not have.
///
/// Must hold: an acknowledgement claims no more than what was verified.
///
/// # Errors
/// If it does not hold.
pub fn ccf_acknowledges_beyond_the_end_of_an_append(stage: &mut Stage<'_>) -> Told {
    stage.found(&stale_tail())?;
    stage.isolate(2);
    stage.elect(3)?;
    stage.heal();
    let empty = Kind::Append { prev: id(1, 1), entries: Vec::new(), commit: 0 };
    stage.post(3, 2, 2, &empty)?;
    let claimed = claims(stage, 2);
    let is_honest = claimed.iter().all(|index| *index <= 1);
    must(is_honest, format_args!("only the verified prefix is acknowledged: {claimed:?}"))
}

/// A follower refuses an append and says how long its log is; the leader takes the hint for a match,
/// and commits what nobody else has.
///
/// Must hold: a refusal acknowledges nothing.
///
/// # Errors
/// If it does not hold.
pub fn ccf_refusal_raises_the_match(stage: &mut Stage<'_>) -> Told {
    let long = Setup::figure_2(&[1, 2, 3]).log(2, &[1, 1, 1, 1, 1, 1]).log(1, &[1, 2, 2]);
    stage.found(&long.log(3, &[1, 2]))?;
    stage.isolate(2);
    stage.campaign(1)?;
    stage.settle_if(|letter| !is_append(letter))?;
    must(stage.leads(1), "the third server elects the first")?;
    stage.heal();
    stage.isolate(3);
    stage.lose(|_| true);
    stage.input(1, &Input::Pass(HEARTBEAT_US))?;
    let mut refusals = 0;
    for _ in 0..20 {
        refusals += stage.letters(|letter| letter.kind == Kind::Conflict).len();
        let matched = !claims(stage, 2).is_empty();
        stage.deliver(|letter| letter.goes(2, 1))?;
        let commit = stage.commit_of(1);
        must(matched || commit == 0, format_args!("a refusal commits nothing: {commit}"))?;
        if matched {
            break;
        }
        stage.deliver(|letter| letter.goes(1, 2))?;
    }
    must(refusals > 0, "the story needs a refusal")?;
    stage.settle()?;
    must(stage.commit_of(1) == 4, "with the second server's copy it is committed")
}

/// A leader goes back to where a follower's log may match. Each heartbeat is refused as well, and
/// its refusal overwrites the position that the probes have found, so that they start over for ever.
///
/// Must hold: a diverged follower is repaired, whatever heartbeats and late answers come in between.
///
/// # Errors
/// If it does not hold.
pub fn ccf_heartbeat_refusal_overwrites_the_position(stage: &mut Stage<'_>) -> Told {
    let diverged = Setup { append_entries_max: 1, ..Setup::figure_2(&[1, 2, 3]) };
    let diverged = diverged.log(1, &[1, 1, 2, 2, 4, 4, 6]).log(3, &[1, 1, 2, 2, 4, 4, 6]);
    stage.found(&diverged.log(2, &[1, 1, 1, 3, 3, 3, 5, 5, 5]))?;
    stage.isolate(2);
    stage.elect(1)?;
    stage.heal();
    let mut late = Vec::new();
    for round in 0..60 {
        stage.input(1, &Input::Pass(HEARTBEAT_US))?;
        late.extend(stage.copy(|letter| letter.goes(2, 1)));
        stage.deliver(|letter| letter.goes(1, 2))?;
        late.extend(stage.copy(|letter| letter.goes(2, 1)));
        stage.deliver(|letter| letter.goes(2, 1))?;
        if round % 2 == 1 && !late.is_empty() {
            let oldest = late.remove(0);
            stage.deliver_kept(&[oldest])?;
        }
        stage.settle_if(|letter| !letter.goes(1, 2) && !letter.goes(2, 1))?;
    }
    let (leader, follower) = (stage.view(1).log, stage.view(2).log);
    must(leader == follower, format_args!("the follower is repaired: {follower:?}"))?;
    must(stage.commit_of(2) == stage.commit_of(1), "and knows what is committed")
}

/// A refusal arrives late, after the follower has been repaired, and takes the leader's position
/// back below what the follower has acknowledged.
///
/// Must hold: a stale refusal changes nothing.
///
/// # Errors
/// If it does not hold.
pub fn toydb_spurious_reject_moves_next_below_match(stage: &mut Stage<'_>) -> Told {
    let behind = Setup::figure_2(&[1, 2, 3]).log(1, &[1, 1, 1, 1]).log(3, &[1, 1, 1, 1]);
    stage.found(&behind.log(2, &[1]))?;
    stage.campaign(1)?;
    let mut refusals = Vec::new();
    for _ in 0..10 {
        refusals.extend(stage.copy(|letter| letter.kind == Kind::Conflict));
        stage.deliver(|_| true)?;
    }
    must(!refusals.is_empty(), "the story needs a refusal")?;
    must(stage.view(2).log == stage.view(1).log, "the follower is repaired")?;
    for refusal in refusals {
        stage.deliver_kept(&[refusal])?;
        let said = stage.letters(|letter| letter.goes(1, 2) && is_append(letter));
        must(said.is_empty(), format_args!("nothing is sent again for it: {said:?}"))?;
        stage.propose(1, "next")?;
        let appends = stage.letters(|letter| letter.goes(1, 2) && is_append(letter));
        let matched = stage.view(2).last();
        let goes_on = appends
            .iter()
            .all(|letter| matches!(&letter.kind, Kind::Append { prev, .. } if *prev == matched));
        must(goes_on && appends.len() == 1, format_args!("it goes on at {matched}: {appends:?}"))?;
        stage.settle()?;
    }
    must(stage.commit_of(2) == stage.commit_of(1), "the follower has everything")
}

/// A data structure that keeps the followers' positions sorted forgets to move one, and the leader
/// commits an entry that two of five servers have.
///
/// Must hold: for every combination of positions the commit index is the highest one that a majority
/// has reached. Four followers of a leader acknowledge 0 to 3 of its entries.
///
/// # Errors
/// If it does not hold.
pub fn openraft_commit_index_is_what_a_quorum_has(stage: &mut Stage<'_>) -> Told {
    let one_by_one = Setup { append_entries_max: 1, ..Setup::figure_2(&[1, 2, 3, 4, 5]) };
    for code in 0..256 {
        let matches = [code % 4, code / 4 % 4, code / 16 % 4, code / 64];
        stage.found(&one_by_one)?;
        stage.campaign(1)?;
        stage.settle_if(|letter| !is_append(letter))?;
        stage.propose(1, "A")?;
        stage.propose(1, "B")?;
        // In the order of the highest first, so that positions overtake each other.
        for round in 0..6 {
            for (follower, wanted) in (2..).zip(matches) {
                let has = stage.view(follower).last_index();
                let next = |letter: &Letter| {
                    letter.goes(1, follower)
                        && matches!(&letter.kind, Kind::Append { entries, .. }
                            if entries.iter().all(|entry| entry.index <= wanted))
                };
                if has < wanted && (round + follower) % 2 == 0 {
                    stage.deliver(next)?;
                    stage.deliver(|letter| letter.goes(follower, 1))?;
                }
            }
        }
        let reached: Vec<u64> = (2..=5).map(|server| stage.view(server).last_index()).collect();
        must(reached == matches, format_args!("the story's positions: {reached:?} {matches:?}"))?;
        let has = |index: &u64| 1 + matches.iter().filter(|at| **at >= *index).count() >= 3;
        let expected = (1..=3).rev().find(has).unwrap_or_default();
        let commit = stage.commit_of(1);
        must(commit == expected, format_args!("{matches:?}: commits {commit}, not {expected}"))?;
    }
    Ok(())
}

/// A leader loses its term and is elected again. An acknowledgement that was meant for its first
/// leadership arrives, and is counted although the entry has been replaced since.
///
/// Must hold: an answer counts in the term in which it was given.
///
/// # Errors
/// If it does not hold.
pub fn etcd_acknowledgement_of_an_earlier_leadership(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3, 4, 5]))?;
    stage.elect(1)?;
    stage.split(&[1, 2]);
    for command in ["A", "B", "C"] {
        stage.propose(1, command)?;
    }
    stage.deliver(|letter| letter.goes(1, 2))?;
    let late = stage.keep_back(|letter| letter.goes(2, 1));
    must(!late.is_empty(), "the second server acknowledges")?;
    stage.lose(|_| true);
    stage.elect(3)?;
    stage.heal();
    stage.run_for(3 * HEARTBEAT_US)?;
    must(stage.view(1).role == Role::Follower, "the first server follows the third")?;
    stage.campaign(1)?;
    stage.settle_if(|letter| !is_append(letter))?;
    must(stage.leads(1), "and is elected again")?;
    stage.split(&[1, 3]);
    for command in ["D", "E", "F"] {
        stage.propose(1, command)?;
    }
    let before = stage.commit_of(1);
    stage.deliver_kept(&late)?;
    stage.deliver(|letter| letter.goes(1, 3) || letter.goes(3, 1))?;
    stage.deliver(|letter| letter.goes(1, 3) || letter.goes(3, 1))?;
    let after = stage.commit_of(1);
    must(after == before, format_args!("two of five commit nothing: {before}, then {after}"))
}

/// A leader must read old entries from its disk to help a follower that lags, and the read fails. It
/// goes on as if there were nothing before the entries that it sends, and the follower, who has
/// nothing to compare them with, takes them for the beginning of the log.
///
/// Must hold: what cannot be read is not sent; once it can be, the follower gets it.
///
/// # Errors
/// If it does not hold.
pub fn openraft_failed_read_sends_an_append_from_nowhere(stage: &mut Stage<'_>) -> Told {
    let forgetful = Setup { resident_bytes_max: Some(1), ..Setup::figure_2(&[1, 2, 3]) };
    stage.found(&forgetful)?;
    stage.elect(1)?;
    stage.commit(1, "before")?;
    stage.run_for(2 * HEARTBEAT_US)?;
    stage.isolate(2);
    for command in 0..8 {
        stage.commit(1, &format!("a command of some length, the {command}th of its kind"))?;
    }
    let before = stage.view(2).log;
    stage.input(1, &Input::DiskReads(false))?;
    stage.heal();
    for _ in 0..20 {
        stage.run_for(HEARTBEAT_US / 2)?;
        stage.input(1, &Input::Pass(HEARTBEAT_US / 2))?;
        let from_nowhere = |letter: &Letter| {
            letter.goes(1, 2)
                && matches!(&letter.kind, Kind::Append { prev, .. } if prev.index < before.len() as u64)
        };
        let wrong = stage.letters(from_nowhere);
        must(wrong.is_empty(), format_args!("appends begin where the logs meet: {wrong:?}"))?;
    }
    let log = stage.view(2).log;
    must(log.starts_with(&before), format_args!("the follower keeps what it has: {log:?}"))?;
    must(log.len() < stage.view(1).log.len(), "the story needs entries that only a disk has")?;
    stage.propose(1, "meanwhile")?;
    stage.settle()?;
    stage.input(1, &Input::DiskReads(true))?;
    stage.run_for(5 * HEARTBEAT_US)?;
    must(stage.view(2).log == stage.view(1).log, "it catches up when the disk can be read")
}

/// The six followers of Figure 7: too short, too long, with entries of terms that nobody else has.
///
/// Must hold: each is made equal to the leader's log, with at most one probe for each term that
/// either log has, and one to begin with.
///
/// # Errors
/// If it does not hold.
pub fn figure_7_logs_are_repaired_in_few_probes(stage: &mut Stage<'_>) -> Told {
    let leader: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for log in followers {
        let setup = Setup::figure_2(&[1, 2, 3]).log(1, leader).log(2, log).log(3, leader);
        stage.found(&setup.term(1, 7))?;
        stage.isolate(2);
        stage.elect(1)?;
        stage.heal();
        stage.input(1, &Input::Pass(HEARTBEAT_US))?;
        let mut probes = 0;
        for _ in 0..40 {
            if stage.view(2).log == stage.view(1).log {
                break;
            }
            probes += stage.letters(|letter| letter.goes(1, 2) && is_append(letter)).len();
            stage.deliver(|_| true)?;
        }
        must(stage.view(2).log == stage.view(1).log, format_args!("{log:?} is repaired"))?;
        let mut terms: Vec<u64> = leader.iter().chain(log).copied().collect();
        terms.sort_unstable();
        terms.dedup();
        let most = terms.len() + 1;
        must(probes <= most, format_args!("{log:?}: {probes} probes, at most {most} are needed"))?;
    }
    Ok(())
}
