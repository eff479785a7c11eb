//! Snapshots and log compaction: §7, Figure 13.

use super::stage::Stage;
use super::story::{Story, Told, Untold, must, story};
use super::subject::{Claim, ELECTION_TIMEOUT_US, HEARTBEAT_US, Input, Kind, Letter, Setup};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "50",
        Safety,
        etcd_snapshot_older_than_the_commit_index_installed,
        "etcd-io/raft test_restore_ignore_snapshot; hashicorp/raft installSnapshot has no such check"
    ),
    story!(
        "50b",
        Liveness,
        snapshot_older_than_the_commit_index_over_a_damaged_entry,
        "a rule against 50 that heeds the commit index alone"
    ),
    story!(
        "51",
        Safety,
        openraft_snapshot_over_an_existing_log,
        "openraft docs/protocol/snapshot_replication.md"
    ),
    story!(
        "52",
        Safety,
        snapshot_installed_in_pieces,
        "wherever the state machine, the log and the hard state are reset one after another"
    ),
    story!(
        "53",
        Liveness,
        etcd_follower_stuck_after_its_snapshot,
        "etcd 10308, 14633; etcd-io/raft 31, 110"
    ),
    story!(
        "54",
        Liveness,
        openraft_snapshot_to_one_blocks_the_others,
        "openraft 808; renegade 634"
    ),
    story!(
        "55",
        Safety,
        sailing_vote_while_a_snapshot_is_being_installed,
        "sailing, the comments of election.rs"
    ),
    story!(
        "56",
        Safety,
        redisraft_jepsen_report,
        "Jepsen's report on RedisRaft 1b3fbf6; RedisLabs/redisraft 49"
    ),
];

fn is_part(letter: &Letter) -> bool {
    matches!(letter.kind, Kind::Snapshot { .. })
}

/// A leader with so many committed commands; the second server was cut off and has none of them.
fn one_is_behind(stage: &mut Stage<'_>, setup: &Setup, commands: usize) -> Told {
    stage.found(setup)?;
    stage.isolate(2);
    stage.elect(1)?;
    for command in 0..commands {
        stage.commit(1, &format!("command {command}"))?;
    }
    Ok(())
}

/// Heartbeats go by until the leader sends a part of its snapshot to the second server.
fn wait_for_a_part(stage: &mut Stage<'_>) -> Told {
    for _ in 0..10 {
        stage.settle_if(|letter| !is_part(letter))?;
        if !stage.letters(is_part).is_empty() {
            return Ok(());
        }
        stage.input(1, &Input::Pass(HEARTBEAT_US))?;
    }
    must(false, "a server that is behind the log is sent a snapshot")
}

/// A copy of a snapshot arrives after the follower has gone on, and throws it back: what it had
/// acknowledged since is gone.
///
/// Must hold: a snapshot at or below the commit index is not installed.
///
/// # Errors
/// If it does not hold.
pub fn etcd_snapshot_older_than_the_commit_index_installed(stage: &mut Stage<'_>) -> Told {
    one_is_behind(stage, &Setup::figure_2(&[1, 2, 3]), 4)?;
    stage.input(1, &Input::Snapshot)?;
    stage.heal();
    wait_for_a_part(stage)?;
    let copies = stage.copy(is_part);
    stage.settle()?;
    stage.isolate(3);
    stage.commit(1, "acknowledged with the second server")?;
    let before = stage.view(2);
    must(before.commit == 6, "the second server has gone on")?;
    stage.deliver_kept(&copies)?;
    let after = stage.view(2);
    must(after.last_index() == before.last_index(), "nothing of its log is lost")?;
    must(after.applied == before.applied, "nor of its state")?;
    stage.settle()?;
    stage.heal();
    stage.isolate(1);
    stage.elect(2)?;
    must(stage.leads(2), "what was acknowledged outlives the leader")
}

/// A snapshot arrives at a server whose log goes beyond it. If the log has the snapshot's last entry,
/// what follows may have been acknowledged and must stay; if it has another one there, everything is
/// wrong, also what lies beyond the snapshot.
///
/// Must hold: both.
///
/// # Errors
/// If it does not hold.
pub fn openraft_snapshot_over_an_existing_log(stage: &mut Stage<'_>) -> Told {
    // The log goes on after the snapshot: appends had been under way when the leader compacted.
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    let mut appends = Vec::new();
    for command in ["A", "B", "C", "D", "E"] {
        stage.propose(1, command)?;
        appends.extend(stage.keep_back(|letter| letter.goes(1, 2)));
        if command == "C" {
            stage.deliver(|letter| letter.goes(1, 3))?;
            stage.isolate(3);
        }
    }
    stage.lose(|letter| letter.goes(1, 3));
    stage.heal();
    stage.deliver(|letter| letter.goes(3, 1))?;
    stage.isolate(3);
    stage.lose(|_| true);
    must(
        stage.commit_of(1) == 4,
        "three commands of five are committed without the second server",
    )?;
    stage.input(1, &Input::Snapshot)?;
    stage.input(1, &Input::Unreachable(2))?;
    wait_for_a_part(stage)?;
    stage.deliver_kept(&appends)?;
    let commit = stage.commit_of(2);
    must(
        stage.view(2).last_index() == 6 && commit < 4,
        format_args!("all stored, {commit} known"),
    )?;
    stage.deliver(is_part)?;
    let log = stage.view(2);
    must(log.last_index() == 6, "what follows a snapshot that is on the log stays")?;
    must(log.commit >= 4, "what the snapshot covers is committed")?;

    // The log goes on after the snapshot's index with entries of a leader that had lost its term.
    let stale = Setup::figure_2(&[1, 2, 3]).log(2, &[1, 2, 2, 2, 2, 2, 2, 2]);
    one_is_behind(stage, &stale.log(1, &[1, 3]).log(3, &[1, 3]), 2)?;
    stage.input(1, &Input::Snapshot)?;
    stage.heal();
    stage.isolate(3);
    wait_for_a_part(stage)?;
    stage.settle_if(|letter| !letter.goes(1, 2) || is_part(letter))?;
    let log = stage.view(2);
    let is_clean = log.log.iter().all(|entry| entry.term >= 3 && entry.index > log.base);
    must(log.base == stage.view(1).base, "the snapshot is installed")?;
    must(is_clean, format_args!("nothing of the wrong log is left: {:?}", log.log))?;
    stage.reboot(2)?;
    stage.commit(1, "X")
}

/// The state machine is reset to the snapshot, then the power fails, and the log is still the old
/// one: the server believes that its state is at 100 and its log at 50.
///
/// Must hold, wherever a crash tears the writes: the server starts, and state and log fit together.
///
/// # Errors
/// If it does not hold.
pub fn snapshot_installed_in_pieces(stage: &mut Stage<'_>) -> Told {
    for stale in [&[][..], &[1], &[1, 2, 2, 2, 2, 2, 2, 2, 2]] {
        let mut pieces = 0;
        loop {
            let setup = Setup::figure_2(&[1, 2, 3]).log(2, stale).log(1, &[1, 3]).log(3, &[1, 3]);
            one_is_behind(stage, &setup, 3)?;
            stage.input(1, &Input::Snapshot)?;
            stage.heal();
            wait_for_a_part(stage)?;
            stage.hold_disk(2);
            stage.settle()?;
            stage.propose(1, "after the snapshot")?;
            stage.settle()?;
            let all: usize = stage.writes(2).iter().sum();
            must(all > 0, "the installation is something to be written")?;
            stage.crash_keeping(2, pieces)?;
            stage.restart(2)?;
            stage.release_disk(2)?;
            let view = stage.view(2);
            must(view.applied.len() as u64 <= view.last_index(), "the state lies on the log")?;
            stage.run_for(5 * HEARTBEAT_US)?;
            must(stage.view(2).has_applied("after the snapshot"), "it catches up from there")?;
            if pieces == all {
                break;
            }
            pieces += 1;
        }
    }
    Ok(())
}

/// A follower has its snapshot, but the leader does not notice: the acknowledgement is lost, or the
/// leader has compacted further meanwhile, or the transport has reported the follower gone.
///
/// Must hold: it is sent what follows, again and again, until it has it.
///
/// # Errors
/// If it does not hold.
pub fn etcd_follower_stuck_after_its_snapshot(stage: &mut Stage<'_>) -> Told {
    for obstacle in ["lost answer", "compacted further", "unreachable", "restarted", "paused"] {
        one_is_behind(stage, &Setup::complete(&[1, 2, 3]), 4)?;
        stage.input(1, &Input::Snapshot)?;
        stage.heal();
        wait_for_a_part(stage)?;
        match obstacle {
            "lost answer" => {
                stage.settle_if(|letter| !letter.goes(2, 1))?;
                stage.lose(|letter| letter.goes(2, 1));
            }
            "compacted further" => {
                let late = stage.keep_back(is_part);
                stage.commit(1, "X")?;
                stage.input(1, &Input::Snapshot)?;
                stage.deliver_kept(&late)?;
            }
            "unreachable" => {
                stage.settle_if(|letter| !letter.goes(2, 1))?;
                stage.input(1, &Input::Unreachable(2))?;
            }
            "restarted" => {
                stage.settle_if(|letter| !letter.goes(2, 1))?;
                stage.reboot(2)?;
            }
            _ => stage.input(2, &Input::Pause(ELECTION_TIMEOUT_US / 2))?,
        }
        stage.run_for(10 * HEARTBEAT_US)?;
        stage.commit_somewhere("Y")?;
        let commits = [1, 2, 3].map(|server| stage.commit_of(server));
        must(commits[1] == commits[0], format_args!("{obstacle}: it caught up: {commits:?}"))?;
        stage.lose(|_| true);
        stage.propose(stage.leader().unwrap_or_default(), "Z")?;
        let goes_on = stage.letters(|letter| matches!(letter.kind, Kind::Append { .. }));
        must(!goes_on.is_empty(), format_args!("{obstacle}: appends flow again without a pause"))?;
    }
    Ok(())
}

/// One follower needs a snapshot and cannot be reached, and the leader waits for it. When it can be
/// reached, one chunk is lost, and the transfer begins again from the first one, for ever.
///
/// Must hold: the others are served meanwhile, and a transfer goes on where it stopped.
///
/// # Errors
/// If it does not hold.
pub fn openraft_snapshot_to_one_blocks_the_others(stage: &mut Stage<'_>) -> Told {
    let chunks = Setup { snapshot_chunk_bytes: 16, ..Setup::complete(&[1, 2, 3]) };
    one_is_behind(stage, &chunks, 6)?;
    stage.input(1, &Input::Snapshot)?;
    for command in ["X", "Y", "Z"] {
        stage.input(1, &Input::Unreachable(2))?;
        stage.run_for(2 * ELECTION_TIMEOUT_US)?;
        stage.commit(1, command)?;
        must(stage.view(3).has_applied("command 5"), "the third server is served")?;
    }
    stage.heal();
    wait_for_a_part(stage)?;
    let mut highest = 0;
    let mut parts = 0;
    for _ in 0..400 {
        for letter in stage.letters(is_part) {
            let Kind::Snapshot { offset, .. } = letter.kind else { continue };
            parts += 1;
            must(
                offset > 0 || highest <= 16,
                format_args!("the transfer goes on from {highest}, not from its beginning"),
            )?;
            highest = highest.max(offset);
            if parts % 3 == 0 {
                stage.lose(is_part); // Every third part is lost.
            }
        }
        stage.deliver(|_| true)?;
        if stage.view(2).has_applied("command 5") {
            break;
        }
        if stage.letters(|_| true).is_empty() {
            stage.run_idle(HEARTBEAT_US)?;
        }
    }
    must(parts > 6, format_args!("the story needs several parts: {parts}"))?;
    must(stage.view(2).has_applied("command 5"), "in the end the snapshot is there")
}

/// A server that is about to install a snapshot is asked for its vote, and asks for votes. Its log
/// of the moment and its log after a crash are different ones.
///
/// Must hold: it asks for votes with the snapshot's end only once that is durable, and a candidate
/// that lacks what the server has acknowledged gets no vote.
///
/// # Errors
/// If it does not hold.
pub fn sailing_vote_while_a_snapshot_is_being_installed(stage: &mut Stage<'_>) -> Told {
    one_is_behind(stage, &Setup::figure_2(&[1, 2, 3, 4, 5]), 3)?;
    stage.input(1, &Input::Snapshot)?;
    stage.isolate(3); // Behind the snapshot, from now on.
    stage.heal();
    stage.isolate(4);
    wait_for_a_part(stage)?;
    stage.hold_disk(2);
    stage.deliver(is_part)?;
    let early: Vec<Letter> = stage.letters(|letter| {
        letter.from == 2 && matches!(letter.kind, Kind::Matched { index } if index > 1)
    });
    must(early.is_empty(), format_args!("nothing is acknowledged yet: {early:?}"))?;
    stage.campaign(2)?;
    let advertised = stage.letters(|letter| letter.from == 2 && letter.term > 1);
    must(advertised.is_empty(), format_args!("nothing is advertised yet: {advertised:?}"))?;
    stage.reboot(2)?;
    stage.lose(|_| true);
    // Now the snapshot is durable and acknowledged, and a candidate without it asks.
    stage.heal();
    stage.run_for(5 * HEARTBEAT_US)?;
    must(stage.commit_of(2) >= 4, "the second server has installed the snapshot")?;
    let term = stage.view(2).term + 1;
    stage.post(3, 2, term, &Kind::RequestVote { last: super::subject::id(1, 1) })?;
    let granted = stage.letters(|letter| letter.kind == Kind::Vote { granted: true });
    must(granted.is_empty(), format_args!("who lacks the snapshot gets no vote: {granted:?}"))
}

/// What Jepsen found in an early RedisRaft, in one long evening: stale reads, updates lost at a
/// failover, everything lost at a failover, snapshots that do not fit the log, nodes that never come
/// back. Leaders are cut off, crashed and followed by others, snapshots are taken and sent, clients
/// write and read all the time.
///
/// Must hold: every acknowledged write is read for ever after, and in the end all servers are equal.
///
/// # Errors
/// If it does not hold.
pub fn redisraft_jepsen_report(stage: &mut Stage<'_>) -> Told {
    let evening = Setup { snapshot_chunk_bytes: 64, ..Setup::complete(&[1, 2, 3, 4, 5]) };
    stage.found(&evening)?;
    let (mut written, mut read) = (0, 0);
    for hour in 0..24_u64 {
        let found = |stage: &Stage<'_>| stage.leader().is_some();
        must(stage.run_until(30 * ELECTION_TIMEOUT_US, found)?, "there is a leader")?;
        let leader = stage.leader().unwrap_or_default();
        let command = format!("hour {hour}");
        let (write, reading) = (stage.propose(leader, &command)?, stage.read(leader, false)?);
        match hour % 6 {
            0 => stage.isolate(leader),
            1 => stage.crash(leader)?,
            2 => stage.input(leader, &Input::Snapshot)?,
            3 => stage.split(&[leader, leader % 5 + 1]),
            4 => stage.crash(leader % 5 + 1)?,
            _ => stage.cut_one_way(leader, leader % 5 + 1),
        }
        let stale = stage.read(leader, false)?;
        stage.run_for(4 * ELECTION_TIMEOUT_US)?;
        written +=
            u64::from(matches!(stage.outcome(write), Some(super::subject::Outcome::Committed(_))));
        read += u64::from(stage.answer(reading).is_some() || stage.answer(stale).is_some());
        for server in 1..=5 {
            if !stage.up().contains(&server) {
                stage.restart(server)?;
            }
            if (hour + server) % 4 == 0 {
                stage.input(server, &Input::Snapshot)?;
            }
        }
        stage.heal();
        stage.run_for(2 * ELECTION_TIMEOUT_US)?;
    }
    must(written >= 12 && read >= 12, format_args!("{written} writes and {read} reads of 24"))?;
    stage.run_for(10 * ELECTION_TIMEOUT_US)?;
    stage.commit_somewhere("good night")?;
    let first = stage.view(1).applied;
    must((2..=5).all(|server| stage.view(server).applied == first), "all servers are equal")
}

/// A snapshot arrives that covers nothing new, and is ignored. One of the entries that it covers
/// cannot be read here any more, and nobody else has it but in snapshots: it is ignored again.
///
/// Must hold: a snapshot at or below the commit index is answered with the commit index, and changes
/// nothing; but one that covers a damaged entry is installed, and what follows it stays.
///
/// # Errors
/// If it does not hold.
pub fn snapshot_older_than_the_commit_index_over_a_damaged_entry(stage: &mut Stage<'_>) -> Told {
    for (damaged, is_installed) in
        [(None, false), (Some(3), true), (Some(5), true), (Some(6), false)]
    {
        let parts = late_snapshot(stage)?;
        if let Some(index) = damaged {
            stage.crash(2)?;
            stage.damage(2, index)?;
            stage.restart_claiming(2, Claim { commit: 7, applied: 0 })?;
        }
        let before = stage.view(2);
        must(
            (before.base, before.commit) == (0, 7),
            "it has its log, and knows that it is committed",
        )?;
        stage.lose(|_| true);
        stage.deliver_kept(&parts)?;
        let after = stage.view(2);
        let what = format!("with {damaged:?} damaged, its log begins after {}", after.base);
        must(after.base == if is_installed { 5 } else { 0 }, what)?;
        must(after.last() == before.last() && after.commit == 7, "nothing else of it is lost")?;
        let is_claim = |at: &Letter| at.goes(2, 1) && matches!(at.kind, Kind::Matched { .. });
        let claims = stage.letters(is_claim);
        let claimed = |at: &Letter| at.kind == Kind::Matched { index: 7 };
        if damaged.is_none() {
            must(claims.iter().any(claimed), format_args!("it answers with that: {claims:?}"))?;
        }
        stage.heal();
        stage.run_for(10 * HEARTBEAT_US)?;
        stage.commit_somewhere("in the end")?;
        must(stage.view(2).has_applied("A"), "and nothing is missing")?;
    }
    Ok(())
}

/// A leader with a snapshot through 5 and a log after it, like the third server; the second one has
/// the log alone, through 7. The snapshot that was meant for it before is still on its way.
fn late_snapshot(stage: &mut Stage<'_>) -> Result<Vec<Letter>, Untold> {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    let mut appends = Vec::new();
    for command in ["A", "B", "C", "D"] {
        stage.propose(1, command)?;
        appends.extend(stage.keep_back(|letter| letter.goes(1, 2)));
        stage.settle()?;
    }
    for server in [1, 3] {
        stage.input(server, &Input::Snapshot)?;
    }
    stage.input(1, &Input::Unreachable(2))?;
    wait_for_a_part(stage)?;
    let parts = stage.keep_back(is_part);
    must(stage.view(1).base == 5, "the leader has nothing but the snapshot to send")?;
    stage.deliver_kept(&appends)?;
    stage.settle()?;
    for command in ["E", "F"] {
        stage.commit(1, command)?;
    }
    stage.run_for(3 * HEARTBEAT_US)?;
    Ok(parts)
}
