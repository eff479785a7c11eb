//! What must go on: windows, quotas, timers.

use super::stage::Stage;
use super::story::{Story, Told, must, story};
use super::subject::{ELECTION_TIMEOUT_US, HEARTBEAT_US, Input, Kind, Letter, Outcome, Setup};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!("64", Liveness, etcd_lagging_commit, "etcd-io/raft 138, lagging_commit"),
    story!(
        "65",
        Liveness,
        etcd_full_window_and_lost_acknowledgements,
        "etcd-io/raft msg_app_flow_control_recv_heartbeat"
    ),
    story!(
        "66",
        Liveness,
        etcd_uncommitted_quota_leaks_across_leaderships,
        "etcd-io/raft test_uncommitted_entry_after_leader_election"
    ),
    story!(
        "68",
        Liveness,
        tikv_priorities_that_nobody_meets,
        "tikv raft-rs: priority is looked at only between equal logs"
    ),
    story!(
        "69",
        Liveness,
        etcd_even_split_with_identical_timeouts,
        "etcd-io/raft test_prevote_with_split_vote"
    ),
];

/// A follower learns that an entry is committed with the next heartbeat, or the one after it.
///
/// Must hold: without any time passing it learns of it, half a round trip after the leader knows.
///
/// # Errors
/// If it does not hold.
pub fn etcd_lagging_commit(stage: &mut Stage<'_>) -> Told {
    for servers in [&[1, 2, 3][..], &[1, 2, 3, 4, 5]] {
        stage.found(&Setup::complete(servers))?;
        stage.elect(1)?;
        for command in ["A", "B", "C"] {
            stage.propose(1, command)?;
            stage.deliver(|letter| letter.from == 1)?;
            stage.deliver(|letter| letter.to == 1)?;
            let commit = stage.commit_of(1);
            must(commit == stage.view(1).last_index(), "a round trip commits")?;
            stage.deliver(|letter| letter.from == 1)?;
            for follower in &servers[1..] {
                let lag = stage.commit_of(*follower);
                must(
                    lag == commit,
                    format_args!("half a round trip later n{follower} knows: {lag}"),
                )?;
            }
        }
        // A follower that was slow learns with its own acknowledgement's answer, not at a heartbeat.
        stage.propose(1, "D")?;
        let slow = stage.keep_back(|letter| letter.goes(1, 2));
        stage.settle()?;
        stage.deliver_kept(&slow)?;
        stage.settle()?;
        must(stage.commit_of(2) == stage.commit_of(1), "also one that is a little behind")?;
    }
    Ok(())
}

/// As many appends as the window holds are on their way, and all of their answers are lost. Nothing
/// more is sent, so nothing more is answered.
///
/// Must hold: a heartbeat's answer opens the window.
///
/// # Errors
/// If it does not hold.
pub fn etcd_full_window_and_lost_acknowledgements(stage: &mut Stage<'_>) -> Told {
    for is_append_lost in [false, true] {
        let narrow =
            Setup { inflight_appends_max: 2, append_entries_max: 1, ..Setup::complete(&[1, 2]) };
        stage.found(&narrow)?;
        stage.elect(1)?;
        let mut tickets = Vec::new();
        for command in ["A", "B", "C", "D", "E", "F"] {
            tickets.push(stage.propose(1, command)?);
            if is_append_lost {
                stage.lose(|letter| letter.goes(1, 2));
            }
            stage.deliver(|letter| letter.goes(1, 2))?;
            stage.lose(|letter| letter.goes(2, 1));
        }
        must(stage.commit_of(1) == 1, "no acknowledgement has arrived")?;
        stage.run_for(10 * HEARTBEAT_US)?;
        let outcomes: Vec<_> = tickets.iter().map(|ticket| stage.outcome(*ticket)).collect();
        let is_done = outcomes.iter().all(|found| matches!(found, Some(Outcome::Committed(_))));
        must(is_done, format_args!("all is committed within ten heartbeats: {outcomes:?}"))?;
    }
    Ok(())
}

/// A leader's quota of uncommitted bytes is used up when it loses its term. The entries are replaced,
/// the quota is not: elected again, it refuses every proposal.
///
/// Must hold: the quota counts the uncommitted entries of this leadership, and an empty one admits
/// a command of any legal size.
///
/// # Errors
/// If it does not hold.
pub fn etcd_uncommitted_quota_leaks_across_leaderships(stage: &mut Stage<'_>) -> Told {
    let quota = Setup { uncommitted_bytes_max: 64, ..Setup::figure_2(&[1, 2, 3]) };
    stage.found(&quota)?;
    stage.elect(1)?;
    stage.isolate(1);
    let half = "x".repeat(40);
    stage.propose(1, &half)?;
    let full = stage.propose(1, &half)?;
    must(stage.is_refused(full), "the story needs a quota that is used up")?;
    stage.elect(2)?;
    stage.commit(2, "Y")?;
    stage.heal();
    stage.run_for(3 * HEARTBEAT_US)?;
    for _ in 0..4 {
        stage.elect(1)?;
        stage.commit(1, &half)?;
        stage.elect(2)?;
    }
    stage.elect(1)?;
    let whole = "y".repeat(200);
    stage.commit(1, &whole)?;
    for _ in 0..4 {
        stage.commit(1, &half)?;
    }
    // What is committed is given back, though something else is not.
    stage.found(&Setup { append_entries_max: 1, ..quota })?;
    stage.elect(1)?;
    let third = "z".repeat(20);
    for _ in 0..3 {
        stage.propose(1, &third)?;
    }
    let is_first = |letter: &Letter| matches!(&letter.kind, Kind::Append { entries, .. } if entries.iter().all(|at| at.index == 2));
    stage.deliver(is_first)?;
    stage.deliver(|letter| letter.to == 1)?;
    must(stage.commit_of(1) == 2, "the first of three is committed")?;
    let fourth = stage.propose(1, &third)?;
    must(!stage.is_refused(fourth), "and makes room for a fourth")
}

/// Servers refuse to vote for one of a lower priority, or do not campaign at all. Where only such
/// servers are left, or only such a server has the log to win, nobody leads.
///
/// Must hold: a priority delays, and excludes nobody.
///
/// # Errors
/// If it does not hold.
pub fn tikv_priorities_that_nobody_meets(stage: &mut Stage<'_>) -> Told {
    let is_led = |stage: &Stage<'_>| stage.leader().is_some();
    let mut low = Setup::complete(&[1, 2, 3]);
    low.priorities = [(1, 0), (2, 0), (3, 0)].into_iter().collect();
    stage.found(&low)?;
    must(
        stage.run_until(20 * ELECTION_TIMEOUT_US, is_led)?,
        "where all are low, one of them leads",
    )?;
    stage.commit_somewhere("X")?;

    let mut eager = Setup::complete(&[1, 2, 3]).log(1, &[1, 2]).log(2, &[1]).log(3, &[1, 2]);
    eager.priorities = [(1, 0), (3, 0)].into_iter().collect();
    stage.found(&eager)?;
    stage.crash(3)?;
    must(
        stage.run_until(30 * ELECTION_TIMEOUT_US, is_led)?,
        "where only a low one can win, it does",
    )?;
    must(stage.leads(1), "the one with the longer log")?;
    stage.commit_somewhere("X")
}

/// All servers are started at one moment with one configuration, draw the same timeouts, and split
/// every vote.
///
/// Must hold: a few elections are enough, also with an even number of servers.
///
/// # Errors
/// If it does not hold.
pub fn etcd_even_split_with_identical_timeouts(stage: &mut Stage<'_>) -> Told {
    for servers in [&[1, 2][..], &[1, 2, 3, 4], &[1, 2, 3, 4, 5, 6]] {
        for pre_vote in [false, true] {
            stage.found(&Setup { pre_vote, ..Setup::complete(servers) })?;
            for server in servers {
                stage.campaign(*server)?; // All at once, and all requests cross.
            }
            let is_led = |stage: &Stage<'_>| stage.leader().is_some();
            let found = stage.run_until(10 * ELECTION_TIMEOUT_US, is_led)?;
            must(found, format_args!("{servers:?} elect a leader within ten timeouts"))?;
            stage.commit_somewhere("X")?;
            let terms = stage.view(1).term;
            must(terms <= 8, format_args!("and without many terms: {terms}"))?;
        }
    }
    // Asked alone, each of them would wait for another time in every term.
    stage.found(&Setup::figure_2(&[1, 2, 3, 4]))?;
    for server in [1, 2, 3, 4] {
        stage.isolate(server);
    }
    let mut campaigns: Vec<(u64, u64)> = Vec::new();
    for _ in 0..400 {
        for server in [1, 2, 3, 4] {
            let term = stage.view(server).term;
            stage.input(server, &Input::Pass(ELECTION_TIMEOUT_US / 100))?;
            if stage.view(server).term > term {
                campaigns.push((server, stage.view(server).clock_us));
            }
        }
        stage.lose(|letter| !matches!(letter.kind, Kind::Other));
    }
    let mut times: Vec<u64> = campaigns.iter().map(|(_, at)| *at).collect();
    times.dedup();
    must(campaigns.len() >= 8, "each has campaigned at least twice")?;
    must(times.len() + 1 >= campaigns.len(), format_args!("at different times: {campaigns:?}"))
}
