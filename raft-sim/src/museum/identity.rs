//! Who comes back as whom: a server's name, its disk, and what it had promised under them.

use super::stage::Stage;
use super::story::{Story, Told, must, story};
use super::subject::{ELECTION_TIMEOUT_US, HEARTBEAT_US, Setup, Step};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "33",
        Safety,
        drmingdrmer_rejoin_with_the_same_id_in_the_same_term,
        "drmingdrmer/raft-rejoin-bug; tikv 571; etcd-io/raft 349"
    ),
    story!(
        "34",
        Safety,
        openraft_wiped_disk_under_the_same_name,
        "openraft FAQ 07 and dynamic-membership.md"
    ),
];

/// A server is removed and comes back with an empty disk within one term. A late acknowledgement from
/// its first life is counted for its second one, and an entry is committed that it does not have.
///
/// Must hold: acknowledgements count for the stream that they answer.
///
/// # Errors
/// If it does not hold.
pub fn drmingdrmer_rejoin_with_the_same_id_in_the_same_term(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    for command in ["A", "B", "C", "D"] {
        stage.commit(1, command)?;
    }
    stage.propose(1, "E")?;
    stage.deliver(|letter| letter.goes(1, 2))?;
    let late = stage.copy(|letter| letter.goes(2, 1));
    must(!late.is_empty(), "the first life acknowledges")?;
    stage.settle()?;
    stage.change(1, &[Step::Remove(2)])?;
    stage.settle()?;
    must(stage.view(1).voters == [1, 3], "the second server is removed")?;

    stage.isolate(2);
    stage.add(2)?;
    stage.isolate(2);
    stage.change(1, &[Step::AddLearner(2)])?;
    stage.settle()?;
    must(stage.view(1).learners == [2], "and is added again, in the same term")?;
    stage.deliver_kept(&late[..1])?;
    stage.change(1, &[Step::Promote(2)])?;
    stage.settle()?;
    stage.isolate(3);
    let before = stage.commit_of(1);
    stage.propose(1, "F")?;
    stage.deliver_kept(&late[1..])?;
    stage.settle()?;
    let after = stage.commit_of(1);
    must(after == before, format_args!("an empty server helps nobody: {before}, then {after}"))?;
    must(stage.view(2).log.is_empty(), "the story needs it empty")?;

    stage.heal();
    stage.run_for(5 * HEARTBEAT_US)?;
    stage.change(1, &[Step::Promote(2)])?;
    stage.settle()?;
    must(stage.view(1).voters == [1, 2, 3], "once it has caught up, it votes again")?;
    stage.isolate(3);
    stage.commit(1, "G")
}

/// A server has acknowledged an entry, and its disk is replaced by an empty one. It starts under its
/// old name as if nothing had happened, and votes for a candidate that lacks the entry.
///
/// Must hold: an empty disk under an old name is somebody else, who has no vote until the group takes
/// him in.
///
/// # Errors
/// If it does not hold.
pub fn openraft_wiped_disk_under_the_same_name(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    stage.isolate(3);
    stage.commit(1, "X")?;
    stage.add(2)?;
    stage.heal();
    stage.isolate(1);
    for candidate in [3, 2, 3, 2] {
        stage.campaign(candidate)?;
        stage.settle()?;
        must(!stage.leads(2) && !stage.leads(3), "who lacks what is acknowledged does not lead")?;
    }
    stage.run_for(5 * ELECTION_TIMEOUT_US)?;
    must(!stage.leads(2) && !stage.leads(3), "not by itself, either")?;
    stage.heal();
    stage.run_for(5 * ELECTION_TIMEOUT_US)?;
    must(stage.leader().is_some(), "the two that have a vote find a leader")?;
    let leader = stage.leader().unwrap_or_default();
    stage.commit(leader, "Y")?;
    stage.change(leader, &[Step::Remove(2)])?;
    stage.settle()?;
    stage.change(leader, &[Step::AddLearner(2)])?;
    stage.run_for(5 * HEARTBEAT_US)?;
    stage.change(leader, &[Step::Promote(2)])?;
    stage.settle()?;
    must(stage.view(leader).voters == [1, 2, 3], "an operator takes it in again")?;
    stage.commit_somewhere("Z")
}
