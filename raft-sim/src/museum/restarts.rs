//! What a node starts from, and what it may not carry on with: Figure 2, persistent state.

use super::stage::Stage;
use super::story::{Story, Told, must, story};
use super::subject::{Claim, ELECTION_TIMEOUT_US, HEARTBEAT_US, Input, Outcome, Setup};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "8",
        Safety,
        etcd_restart_with_a_commit_index_that_does_not_fit,
        "etcd issues 10217 and 20426; hashicorp/raft RestoreCommittedLogs"
    ),
    story!(
        "9",
        Safety,
        tikv_committed_entries_pagination_after_restart,
        "tikv raft-rs test_committed_entries_pagination_after_restart"
    ),
    story!("12", Safety, convex_persist_failure_ignored, "convex 156 and 168"),
];

/// A host restarts a node with a commit index that its log does not reach, or with a state machine
/// that is ahead of everything committed. Some libraries panic, some carry on.
///
/// Must hold: what does not fit together is refused with a reason, what does is taken up.
///
/// # Errors
/// If it does not hold.
pub fn etcd_restart_with_a_commit_index_that_does_not_fit(stage: &mut Stage<'_>) -> Told {
    for (commit, applied, fits) in
        [(0, 0, true), (3, 0, true), (3, 2, true), (3, 3, true), (9, 0, false), (2, 3, false)]
    {
        stage.found(&Setup::figure_2(&[1]))?;
        stage.elect(1)?;
        stage.commit(1, "X")?;
        stage.commit(1, "Y")?;
        stage.crash(1)?;
        let restarted = stage.restart_claiming(1, Claim { commit, applied });
        let claim = format!("commit {commit}, applied {applied}, of 3 entries");
        must(restarted.is_ok() == fits, format_args!("{claim}: {restarted:?}"))?;
        if fits {
            stage.elect(1)?;
            must(stage.view(1).applied.len() == 4, format_args!("all is applied once: {claim}"))?;
        }
    }
    Ok(())
}

/// A node hands committed entries to its state machine page by page, and restarts in the middle
/// with a durable state machine. The page that a limit had cut short is never read again.
///
/// Must hold: every committed index is applied exactly once, in order, whatever pages and restarts.
///
/// # Errors
/// If it does not hold.
pub fn tikv_committed_entries_pagination_after_restart(stage: &mut Stage<'_>) -> Told {
    for applied in 0..=11 {
        for known in [0, 5, 10, 11] {
            let pages = Setup { unapplied_bytes_max: 7, ..Setup::figure_2(&[1, 2, 3]) };
            stage.found(&pages)?;
            stage.elect(1)?;
            for command in 0..10 {
                stage.commit(1, &format!("command {command}"))?;
            }
            stage.crash(2)?;
            stage.restart_claiming(2, Claim { commit: known.max(applied), applied })?;
            stage.commit(1, "last")?;
            stage.run_for(3 * HEARTBEAT_US)?;
            let count = stage.view(2).applied.len();
            must(count == 12, format_args!("restarted at {applied} of {known}: {count} of 12"))?;
        }
    }
    Ok(())
}

/// A write fails, and the node carries on as if it had been made: it acknowledges what a restart
/// will not find.
///
/// Must hold: after a failed write a node promises nothing any more, until it starts again from what
/// its disk really has.
///
/// # Errors
/// If it does not hold.
pub fn convex_persist_failure_ignored(stage: &mut Stage<'_>) -> Told {
    for failing in [1, 2] {
        stage.found(&Setup::figure_2(&[1, 2, 3]))?;
        stage.elect(1)?;
        stage.isolate(3);
        stage.hold_disk(failing);
        let ticket = stage.propose(1, "X")?;
        stage.settle()?;
        stage.input(failing, &Input::DiskFailed)?;
        stage.propose(1, "Y")?;
        stage.input(failing, &Input::Pass(3 * ELECTION_TIMEOUT_US))?;
        let said = stage.letters(|letter| letter.from == failing);
        must(said.is_empty(), format_args!("n{failing} is silent from then on: {said:?}"))?;
        stage.settle()?;
        let outcome = stage.outcome(ticket);
        must(!matches!(outcome, Some(Outcome::Committed(_))), "one copy of three is no quorum")?;
        stage.reboot(failing)?;
        stage.heal();
        stage.run_for(5 * ELECTION_TIMEOUT_US)?;
        stage.commit_somewhere("Z")?;
        must(stage.view(failing).has_applied("Z"), "a restart reads what is really there")?;
    }
    Ok(())
}
