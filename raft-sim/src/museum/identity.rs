//! Who comes back as whom: a server's name, its disk, and what it had promised under them.

use super::stage::Stage;
use super::story::{Story, Told, Untold, must, story};
use super::subject::{
    ELECTION_TIMEOUT_US, HEARTBEAT_US, Input, Kind, Letter, Outcome, Setup, Step, View,
};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "33",
        Safety,
        drmingdrmer_rejoin_with_the_same_id_in_the_same_term,
        "drmingdrmer/raft-rejoin-bug; tikv 571; etcd-io/raft 349"
    ),
    story!("34", Safety, openraft_wiped_disk_under_the_same_name, "openraft FAQ 07"),
    story!(
        "34b",
        Safety,
        openraft_single_node_founded_again_on_a_wiped_disk,
        "openraft dynamic-membership.md"
    ),
];

/// A server is removed and comes back with an empty disk within one term. A late acknowledgement from
/// its first life is counted for its second one: for an entry that is not committed yet, or to make it
/// a voter although it has nothing.
///
/// Must hold: acknowledgements count for the stream that they answer. It is told of a disk that is
/// known for another one, and of one that has got the identity of the lost one, so that nothing but
/// the stream tells the two lives apart.
///
/// # Errors
/// If it does not hold.
pub fn drmingdrmer_rejoin_with_the_same_id_in_the_same_term(stage: &mut Stage<'_>) -> Told {
    for tells_disks_apart in [true, false] {
        let setup = Setup { tells_disks_apart, ..Setup::figure_2(&[1, 2, 3]) };
        let without = rejoin(stage, &setup, false)?;
        catch_up(stage)?;
        let with = rejoin(stage, &setup, true)?;
        must(
            with == without,
            format_args!("a first life helps no second one: {with:?}, without it {without:?}"),
        )?;
        catch_up(stage)?;
    }
    Ok(())
}

/// What comes of the second life before it has received anything.
#[derive(Debug, PartialEq, Eq)]
struct Rejoined {
    voters: Vec<u64>,
    commit: u64,
    promoted: Option<Outcome>,
}

/// The story, with the late acknowledgement or without.
fn rejoin(stage: &mut Stage<'_>, setup: &Setup, is_heard: bool) -> Result<Rejoined, Untold> {
    stage.found(setup)?;
    stage.elect(1)?;
    for command in ["A", "B", "C", "D"] {
        stage.commit(1, command)?;
    }
    stage.change(1, &[Step::Remove(2)])?;
    stage.settle_if(|letter| letter.to != 2)?;
    must(stage.view(1).voters == [1, 3], "the second server is removed")?;

    // It does not know yet, and is the only one to receive the next entry.
    stage.cut(1, 3);
    stage.propose(1, "E")?;
    let entry = stage.view(1).last_index();
    stage.settle_if(|letter| letter.goes(1, 2))?;
    let late = stage.keep_back(|letter| letter.goes(2, 1));
    let is_answer = |letter: &Letter| letter.kind == Kind::Matched { index: entry };
    must(late.iter().any(is_answer), "the first life acknowledges the entry")?;

    stage.add(2)?;
    stage.isolate(2);
    stage.change(1, &[Step::AddLearner(2)])?;
    must(stage.view(1).learners == [2], "it is added again, in the same term")?;
    let before = stage.commit_of(1);
    must(before < entry, "the entry is not committed when it comes back")?;
    if is_heard {
        stage.deliver_kept(&late)?;
    }
    let after = stage.commit_of(1);
    must(after == before, format_args!("an empty server helps nobody: {before}, then {after}"))?;

    stage.heal();
    stage.isolate(2);
    stage.run_for(2 * HEARTBEAT_US)?;
    must(stage.commit_of(1) > entry, "the third server has it, and the return is committed")?;
    let promotion = stage.change(1, &[Step::Promote(2)])?;
    stage.settle()?;
    stage.isolate(3);
    stage.propose(1, "F")?;
    stage.settle()?;
    must(stage.view(2).log.is_empty(), "the story needs it empty")?;
    let View { voters, commit, .. } = stage.view(1);
    Ok(Rejoined { voters, commit, promoted: stage.outcome(promotion) })
}

/// Once the second life has the log, it votes like anybody else.
fn catch_up(stage: &mut Stage<'_>) -> Told {
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

/// A server has acknowledged an entry, and its disk is replaced by an empty one. Whoever installs it
/// again repeats the first step of all: a cluster of one server is founded on it. It leads itself,
/// answers clients, and the others take it for their second server still.
///
/// Must hold: what was founded again is another group, in whatever term it is. Nothing that it says
/// counts in the old one, and it takes nothing from there. It is told of a disk that is known for
/// another one, and of one that has got the identity of the lost one, in a cluster of another name.
///
/// # Errors
/// If it does not hold.
pub fn openraft_single_node_founded_again_on_a_wiped_disk(stage: &mut Stage<'_>) -> Told {
    for tells_disks_apart in [true, false] {
        for candidacies in [1, 3] {
            let setup = Setup { tells_disks_apart, ..Setup::figure_2(&[1, 2, 3]) };
            founded_again(stage, &setup, candidacies)?;
        }
    }
    Ok(())
}

/// The old group is in its second term, the new one in as many as it has had candidacies.
fn founded_again(stage: &mut Stage<'_>, setup: &Setup, candidacies: u64) -> Told {
    stage.found(setup)?;
    stage.elect(3)?;
    stage.elect(1)?;
    stage.isolate(3);
    stage.commit(1, "X")?;
    stage.found_alone(2)?;
    for _ in 0..candidacies {
        stage.campaign(2)?;
        stage.input(2, &Input::Pass(2 * ELECTION_TIMEOUT_US))?;
    }
    must(stage.leads(2), "the second server leads a group of its own")?;
    stage.commit(2, "mine")?;
    let alone = stage.view(2);

    // The old leader has nobody but it.
    let ticket = stage.propose(1, "Y")?;
    stage.run_for(5 * HEARTBEAT_US)?;
    let outcome = stage.outcome(ticket);
    must(outcome.is_none(), format_args!("one of three commits nothing: {outcome:?}"))?;
    let view = stage.view(2);
    let is_same = (view.role, view.term, &view.log) == (alone.role, alone.term, &alone.log);
    must(is_same, format_args!("nobody leads the second server but itself: {:?}", view.log))?;

    // Nor has who was cut off, and lacks what is acknowledged.
    stage.heal();
    stage.isolate(1);
    for _ in 0..3 {
        stage.campaign(3)?;
        stage.settle()?;
        must(!stage.leads(3), "one of three elects nobody")?;
    }
    stage.heal();
    stage.run_for(10 * ELECTION_TIMEOUT_US)?;
    let leader = stage.leader();
    must(leader.is_some(), "the two that are left find a leader")?;
    let leader = leader.unwrap_or_default();
    stage.commit(leader, "Z")?;
    must([1, 3].iter().all(|server| stage.view(*server).has_applied("X")), "X is there for ever")?;
    let mine = stage.view(2);
    must(mine.voters == [2] && !mine.has_applied("X"), "and the two groups are apart")?;
    must(mine.complaints.is_empty(), format_args!("in peace: {:?}", mine.complaints))?;

    // An operator gives up the group of one, and the old one takes the server in.
    stage.change(leader, &[Step::Remove(2)])?;
    stage.settle()?;
    stage.add(2)?;
    stage.change(leader, &[Step::AddLearner(2)])?;
    stage.run_for(5 * HEARTBEAT_US)?;
    stage.change(leader, &[Step::Promote(2)])?;
    stage.settle()?;
    must(stage.view(2).voters == [1, 2, 3], "it is a member again")?;
    stage.commit_somewhere("in the end")
}
