//! Joint consensus: §6, thesis §4.3.

use super::stage::Stage;
use super::story::{Story, Told, must, story};
use super::subject::{Claim, ELECTION_TIMEOUT_US, Input, Kind, Role, Setup, Step};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "20",
        Liveness,
        etcd_campaign_learner_must_vote,
        "etcd 10998, campaign_learner_must_vote"
    ),
    story!(
        "21",
        Safety,
        etcd_non_member_is_handed_the_leadership,
        "etcd-io/raft test_transfer_non_member; EastGuard 150"
    ),
    story!("22", Liveness, scylla_leader_without_a_vote_in_the_new_half, "scylla 10618"),
    story!("23", Safety, ccf_quorum_over_the_union_of_both_halves, "CCF 3837, 3948, 4018"),
    story!(
        "40",
        Liveness,
        etcd_joint_never_left_after_a_leader_change,
        "etcd 12136; tikv raft-rs test_raw_node_joint_auto_leave"
    ),
    story!(
        "41",
        Safety,
        etcd_joint_left_twice,
        "etcd 12582; etcd-io/raft confchange_v2_add_double_auto"
    ),
    story!("42", Safety, camunda_joint_left_before_a_commit_of_the_own_term, "camunda 61854"),
    story!(
        "67",
        Liveness,
        sailing_timer_disarmed_by_a_promotion,
        "sailing reconcile_election_timer: two livelocks"
    ),
];

/// A learner is promoted and does not know it yet; the one candidate that could win needs its vote,
/// and it refuses because it believes that it has none.
///
/// Must hold: whoever is asked for a vote answers by its log and its term, not by its idea of the
/// membership.
///
/// # Errors
/// If it does not hold.
pub fn etcd_campaign_learner_must_vote(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::complete(&[1, 2, 4]).learners(&[3]))?;
    stage.elect(1)?;
    stage.isolate(3);
    stage.change(1, &[Step::Promote(3)])?;
    stage.deliver(|letter| letter.from == 1)?;
    must(stage.view(2).voters == [1, 2, 3, 4], "the others know")?;
    must(stage.view(3).learners == [3], "the learner does not")?;
    stage.crash(1)?;
    stage.lose(|_| true);
    stage.heal();
    let is_led = |stage: &Stage<'_>| stage.leader().is_some();
    must(stage.run_until(20 * ELECTION_TIMEOUT_US, is_led)?, "three of four elect a leader")?;
    stage.commit_somewhere("X")?;
    must(stage.view(3).voters == [1, 2, 3, 4], "the learner votes from now on")
}

/// A server that does not belong to the group is told to campaign at once: because a leader is told
/// to hand over to it, or because an old such message reaches it after it was removed. It counts
/// itself and leads, or the phantom's vote is waited for.
///
/// Must hold: who is not in the membership neither leads nor disturbs.
///
/// # Errors
/// If it does not hold.
pub fn etcd_non_member_is_handed_the_leadership(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::complete(&[1, 2, 3]).learners(&[4]))?;
    stage.elect(1)?;
    stage.add(9)?;
    for stranger in [4, 9] {
        let ticket = stage.transfer(1, stranger)?;
        must(stage.is_refused(ticket), "a transfer to who has no vote is refused")?;
        stage.campaign(stranger)?;
        stage.settle()?;
        must(!stage.leads(stranger), "nor does it lead when it is told to campaign")?;
    }
    stage.commit(1, "X")?;
    // The message that asks the third server to campaign arrives after its removal.
    stage.transfer(1, 3)?;
    let late = stage.keep_back(|letter| letter.kind == Kind::TimeoutNow);
    must(late.len() == 1, "the third server is asked to campaign")?;
    stage.run_for(3 * ELECTION_TIMEOUT_US)?;
    must(stage.leads(1), "the transfer is given up")?;
    stage.change(1, &[Step::Remove(3)])?;
    stage.settle()?;
    must(stage.view(1).voters == [1, 2], "the third server is removed")?;
    let term = stage.view(1).term;
    stage.deliver_kept(&late)?;
    stage.settle()?;
    stage.run_for(2 * ELECTION_TIMEOUT_US)?;
    must(!stage.leads(3) && stage.view(1).term == term, "it disturbs nobody")?;
    stage.commit(1, "Y")
}

/// A leader that is leaving, in a joint membership, has a vote in the old half only. Because it has
/// none in the new one it does not vote for itself at all, and nobody is elected.
///
/// Must hold: a candidate counts itself in each half that it belongs to.
///
/// # Errors
/// If it does not hold.
pub fn scylla_leader_without_a_vote_in_the_new_half(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    stage.enter_joint(1, &[Step::Remove(1)])?;
    stage.settle()?;
    let view = stage.view(1);
    must(view.voters == [2, 3] && view.outgoing == [1, 2, 3], "the membership is joint")?;
    stage.elect(2)?;
    stage.isolate(3);
    stage.campaign(1)?;
    stage.settle()?;
    must(!stage.leads(1), "one of two is no majority of the new half")?;
    stage.heal();
    stage.isolate(3);
    stage.campaign(2)?;
    stage.settle()?;
    must(!stage.leads(2), "not with itself, either")?;
    stage.heal();
    for _ in 0..2 {
        stage.campaign(1)?;
        stage.settle()?;
    }
    must(stage.leads(1), "with both of them it leads the joint group, although it leaves")?;
    stage.leave_joint(1)?;
    stage.run_for(10 * ELECTION_TIMEOUT_US)?;
    must(stage.leader().is_some_and(|leader| leader != 1), "until the others do without it")
}

/// In a joint membership a majority is counted over all servers of both halves together.
///
/// Must hold: it takes a majority of each half, to commit and to elect.
///
/// # Errors
/// If it does not hold.
pub fn ccf_quorum_over_the_union_of_both_halves(stage: &mut Stage<'_>) -> Told {
    let swap = [Step::Remove(2), Step::Remove(3), Step::Promote(4), Step::Promote(5)];
    for (reached, suffices) in [
        (&[2, 3][..], false),
        (&[4, 5], false),
        (&[2, 4], true),
        (&[3, 5], true),
        (&[2], false),
        (&[2, 3, 4], true),
        (&[3, 4, 5], true),
    ] {
        stage.found(&Setup::figure_2(&[1, 2, 3]).learners(&[4, 5]))?;
        stage.elect(1)?;
        stage.enter_joint(1, &swap)?;
        stage.settle()?;
        let view = stage.view(1);
        must(view.voters == [1, 4, 5] && view.outgoing == [1, 2, 3], "the membership is joint")?;
        for server in [2, 3, 4, 5] {
            if !reached.contains(&server) {
                stage.isolate(server);
            }
        }
        let before = stage.commit_of(1);
        stage.propose(1, "X")?;
        stage.settle()?;
        let commits = stage.commit_of(1) > before;
        must(commits == suffices, format_args!("n1 with {reached:?} commits: {commits}"))?;
        stage.campaign(reached[0])?;
        stage.settle()?;
        let with_the_first = stage.leads(reached[0]);
        must(
            with_the_first == suffices,
            format_args!("n{} is elected by {reached:?} and n1: {with_the_first}", reached[0]),
        )?;
    }
    Ok(())
}

/// A leader enters a joint membership and dies. Only the one that began a change knows that it has
/// to be ended, and the group stays joint for ever.
///
/// Must hold: whoever leads leaves a joint membership, because the log says so.
///
/// # Errors
/// If it does not hold.
pub fn etcd_joint_never_left_after_a_leader_change(stage: &mut Stage<'_>) -> Told {
    for is_committed in [false, true] {
        stage.found(&Setup::complete(&[1, 2, 3]).learners(&[4]))?;
        stage.elect(1)?;
        stage.change(1, &[Step::Promote(4)])?;
        stage.deliver(|letter| letter.from == 1)?;
        if is_committed {
            stage.deliver(|letter| letter.to == 1)?;
        }
        stage.lose(|_| true);
        stage.crash(1)?;
        must(stage.view(2).outgoing == [1, 2, 3], "the others are in the joint membership")?;
        let is_led = |stage: &Stage<'_>| stage.leader().is_some();
        must(stage.run_until(20 * ELECTION_TIMEOUT_US, is_led)?, "another one leads")?;
        stage.commit_somewhere("X")?;
        for server in [2, 3, 4] {
            let view = stage.view(server);
            let is_left = view.outgoing.is_empty() && view.voters == [1, 2, 3, 4];
            must(is_left, format_args!("n{server} has left it: {:?}", view.outgoing))?;
        }
    }
    Ok(())
}

/// The leader leaves a joint membership by itself, and an operator, an earlier leader or a repeated
/// request leaves it again; the second time there is nothing to leave, and the process panics.
///
/// Must hold: leaving twice is leaving once.
///
/// # Errors
/// If it does not hold.
pub fn etcd_joint_left_twice(stage: &mut Stage<'_>) -> Told {
    for wave in 0..8 {
        stage.found(&Setup::figure_2(&[1, 2, 3]).learners(&[4]))?;
        stage.elect(1)?;
        stage.change(1, &[Step::Promote(4)])?;
        for _ in 0..wave {
            stage.deliver(|_| true)?;
        }
        stage.leave_joint(1)?;
        stage.leave_joint(1)?;
        // The next leader finds what the first one has left of it.
        stage.crash(1)?;
        stage.lose(|_| true);
        for _ in 0..3 {
            stage.campaign(2)?;
            stage.settle()?;
        }
        must(stage.leads(2), "the second server leads")?;
        stage.leave_joint(2)?;
        stage.settle()?;
        stage.restart(1)?;
        stage.commit_somewhere("X")?;
        let view = stage.view(1);
        must(view.outgoing.is_empty(), "the membership is left")?;
        let is_one = view.voters == [1, 2, 3] || view.voters == [1, 2, 3, 4];
        must(is_one, format_args!("and is one of the two: {:?}", view.voters))?;
    }
    Ok(())
}

/// A leader finds a committed joint membership in the log of an earlier term and leaves it at once.
/// Whether it knows all that is committed it cannot tell before an entry of its own term is.
///
/// Must hold: it leaves only then.
///
/// # Errors
/// If it does not hold.
pub fn camunda_joint_left_before_a_commit_of_the_own_term(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]).learners(&[4]))?;
    stage.elect(1)?;
    stage.change(1, &[Step::Promote(4)])?;
    stage.deliver(|letter| letter.from == 1)?;
    let joint = stage.view(2).last_index();
    stage.deliver(|letter| letter.to == 1)?;
    must(stage.commit_of(1) == joint, "the joint membership is committed")?;
    stage.lose(|_| true);
    stage.crash(1)?;
    stage.crash(2)?;
    stage.restart_claiming(2, Claim { commit: joint, applied: 0 })?;
    must(stage.view(2).outgoing == [1, 2, 3], "the second server knows that it is")?;
    stage.campaign(2)?;
    stage.settle_if(|letter| !matches!(letter.kind, Kind::Append { .. }))?;
    must(stage.leads(2), "and leads")?;
    let early = stage.view(2).outgoing;
    stage.input(2, &Input::Pass(ELECTION_TIMEOUT_US / 4))?;
    must(!early.is_empty() && stage.view(2).outgoing == early, "it does not leave it yet")?;
    stage.settle_if(|letter| !letter.goes(2, 1))?;
    must(stage.view(2).outgoing.is_empty(), "it does once its own first entry is committed")
}

/// A learner has no election timer. It becomes a voter, and has none still; when the leader is gone,
/// everybody waits for somebody else.
///
/// Must hold: who may vote may campaign, from the moment it may.
///
/// # Errors
/// If it does not hold.
pub fn sailing_timer_disarmed_by_a_promotion(stage: &mut Stage<'_>) -> Told {
    for blank in [false, true] {
        let setup = Setup::complete(&[1]);
        let setup = if blank { setup } else { setup.learners(&[2, 3]) };
        stage.found(&setup)?;
        stage.elect(1)?;
        if blank {
            stage.add(2)?;
            stage.add(3)?;
            stage.change(1, &[Step::AddLearner(2), Step::AddLearner(3)])?;
            stage.run_for(ELECTION_TIMEOUT_US)?;
        }
        stage.change(1, &[Step::Promote(2), Step::Promote(3)])?;
        stage.settle()?;
        must(stage.view(3).voters == [1, 2, 3], "all three vote")?;
        stage.crash(1)?;
        let is_led = |stage: &Stage<'_>| stage.leader().is_some();
        must(stage.run_until(20 * ELECTION_TIMEOUT_US, is_led)?, "one of the promoted leads")?;
        // A voter that is demoted and promoted again has its timer again, too.
        let leader = stage.leader().unwrap_or_default();
        let other = 5 - leader;
        stage.restart(1)?;
        stage.run_for(ELECTION_TIMEOUT_US)?;
        stage.change(leader, &[Step::Demote(other)])?;
        stage.run_for(ELECTION_TIMEOUT_US)?;
        stage.change(leader, &[Step::Promote(other)])?;
        stage.run_for(ELECTION_TIMEOUT_US)?;
        must(stage.view(other).voters == [1, 2, 3], "it votes again")?;
        stage.crash(leader)?;
        stage.isolate(1);
        stage.run_for(6 * ELECTION_TIMEOUT_US)?;
        stage.heal();
        stage.crash(1)?;
        stage.restart(leader)?;
        must(stage.run_until(20 * ELECTION_TIMEOUT_US, is_led)?, "and campaigns")?;
    }
    // The entry that makes it a voter is the last that it hears.
    stage.found(&Setup::complete(&[1, 2, 3]).learners(&[4]))?;
    stage.elect(1)?;
    stage.run_for(ELECTION_TIMEOUT_US)?;
    stage.change(1, &[Step::Promote(4)])?;
    stage.deliver(|letter| letter.from == 1)?;
    stage.lose(|_| true);
    stage.isolate(4);
    must(stage.view(4).voters.contains(&4), "it may vote")?;
    stage.input(4, &Input::Pass(2 * ELECTION_TIMEOUT_US))?;
    let role = stage.view(4).role;
    must(role != Role::Follower, format_args!("it campaigns when it hears no leader: {role:?}"))
}
