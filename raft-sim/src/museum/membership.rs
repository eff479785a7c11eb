//! Who belongs to the group: §6, thesis §4, and who comes back as whom.

use super::stage::Stage;
use super::story::{Story, Told, must, story};
use super::subject::{ELECTION_TIMEOUT_US, HEARTBEAT_US, Input, Kind, Letter, Setup, Step};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "37",
        Safety,
        ongaro_single_server_changes_of_two_leaders,
        "raft-dev, Ongaro 2015: bug in single-server membership changes"
    ),
    story!("38", Safety, redpanda_second_change_before_the_first_is_committed, "redpanda 17675"),
    story!(
        "39",
        Safety,
        etcd_campaign_with_removals_committed_and_not_applied,
        "etcd 11284; etcd-io/raft 456, 469"
    ),
    story!("43", Safety, openraft_snapshot_keeps_a_stale_membership, "openraft 1808"),
    story!("44", Safety, etcd_restart_without_the_applied_membership, "etcd 21190; d-engine 431"),
    story!(
        "45",
        Safety,
        etcd_removed_leader_counts_itself,
        "etcd-io/raft confchange_v1_remove_leader"
    ),
    story!("46", Safety, ccf_premature_retirement, "CCF 2456, 5973"),
    story!("47", Liveness, hashicorp_removed_server_storms, "hashicorp/raft 476, 524, 526"),
    story!(
        "48",
        Safety,
        truncated_membership_stays_in_force,
        "thesis §4.1, wherever a membership counts from its append on"
    ),
    story!(
        "49",
        Liveness,
        etcd_demoted_while_the_leadership_is_handed_over,
        "etcd-io/raft LeaderTransferDemoteNode"
    ),
    story!(
        "49b",
        Safety,
        learner_promoted_when_applied_instead_of_when_appended,
        "thesis §4.1, wherever a membership counts from its application on"
    ),
];

/// The bug in Raft's own first algorithm for single-server changes. The leader of term 1 appends one
/// change and is cut off; the leader of term 2, which has not seen it, appends and commits another
/// one; the two memberships have quorums without a common server, and the first leader comes back.
///
/// Must hold, for two additions, an addition and a removal, and two removals: what is committed is in
/// the log of every later leader. A leader commits an entry of its own term before it changes the
/// membership.
///
/// # Errors
/// If it does not hold.
pub fn ongaro_single_server_changes_of_two_leaders(stage: &mut Stage<'_>) -> Told {
    let variants = [
        (&[1, 2, 3, 4][..], Step::Promote(5), Step::Promote(6), [1, 2, 5], [3, 4, 6]),
        (&[1, 2, 3, 4], Step::Promote(5), Step::Remove(1), [1, 2, 5], [3, 4, 6]),
        (&[1, 2, 3, 4, 7], Step::Remove(3), Step::Remove(1), [1, 2, 5], [3, 4, 7]),
    ];
    for (voters, first, second, one_side, other_side) in variants {
        stage.found(&Setup::figure_2(voters).learners(&[5, 6]))?;
        stage.elect(1)?;
        stage.commit(1, "A")?;
        // The change reaches only those that the first leader will need later.
        stage.isolate(2);
        stage.isolate(3);
        stage.isolate(4);
        stage.isolate(7);
        stage.change(1, &[first])?;
        stage.settle()?;
        // The second server elects the third, and hears no more of it.
        stage.heal();
        stage.isolate(1);
        stage.isolate(5);
        stage.campaign(3)?;
        stage.deliver(|letter| letter.from == 3)?;
        stage.deliver(|letter| letter.to == 3)?;
        must(stage.leads(3), "the third server leads term 2")?;
        stage.heal();
        stage.split(&other_side);
        stage.change(3, &[second])?;
        stage.settle()?;
        stage.propose(3, "B")?;
        stage.settle()?;
        // The first leader comes back with its own membership.
        stage.heal();
        stage.split(&one_side);
        for _ in 0..3 {
            stage.campaign(1)?;
            stage.settle()?;
            stage.propose(1, "C")?;
            stage.settle()?;
        }
        stage.heal();
        stage.run_for(10 * ELECTION_TIMEOUT_US)?;
        must(stage.leader().is_some(), "somebody leads in the end")?;
        let leader = stage.leader().unwrap_or_default();
        stage.commit(leader, "D")?;
    }
    Ok(())
}

/// A leader takes a second change while the first one is not committed; a part of the group counts
/// quorums by the one, another part by the other.
///
/// Must hold: one change at a time.
///
/// # Errors
/// If it does not hold.
pub fn redpanda_second_change_before_the_first_is_committed(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]).learners(&[4, 5]))?;
    stage.elect(1)?;
    let first = stage.change(1, &[Step::Promote(4)])?;
    let second = stage.change(1, &[Step::Promote(5)])?;
    let third = stage.change(1, &[Step::Remove(2), Step::Remove(3)])?;
    must(stage.outcome(first).is_none(), "the first change is under way")?;
    must(stage.is_refused(second) && stage.is_refused(third), "and no other one is taken")?;
    stage.settle()?;
    must(stage.view(1).voters == [1, 2, 3, 4], "the first is complete")?;
    stage.change(1, &[Step::Promote(5)])?;
    stage.settle()?;
    must(stage.view(3).voters == [1, 2, 3, 4, 5], "then another one is taken")?;
    // Also when the first one changes no quorum.
    stage.found(&Setup::figure_2(&[1, 2, 3]).learners(&[4, 5]))?;
    stage.elect(1)?;
    let first = stage.change(1, &[Step::Remove(5)])?;
    let second = stage.change(1, &[Step::Promote(4)])?;
    must(stage.outcome(first).is_none() && stage.is_refused(second), "one at a time")?;
    stage.settle()?;
    must(stage.view(1).learners == [4], "the learner is gone")
}

/// Two of three servers are removed, one after the other. Where a membership counts only once it is
/// applied, the removed ones may have both changes in their logs and still elect one of themselves,
/// while the third one commits alone.
///
/// Must hold: whoever has a committed removal in its log does not campaign against it.
///
/// # Errors
/// If it does not hold.
pub fn etcd_campaign_with_removals_committed_and_not_applied(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    // What only tells that something is committed does not arrive.
    let is_news = |letter: &Letter| {
        let is_empty =
            |kind: &Kind| matches!(kind, Kind::Append { entries, .. } if entries.is_empty());
        let is_word = matches!(letter.kind, Kind::Commit { .. } | Kind::Heartbeat);
        !is_word && !is_empty(&letter.kind)
    };
    for removed in [3, 2] {
        stage.change(1, &[Step::Remove(removed)])?;
        stage.settle_if(is_news)?;
        must(!stage.view(1).voters.contains(&removed), format_args!("n{removed} is removed"))?;
    }
    stage.isolate(1);
    stage.lose(|_| true);
    stage.commit(1, "X")?;
    for candidate in [2, 3, 2, 3] {
        stage.campaign(candidate)?;
        stage.settle()?;
        must(!stage.leads(candidate), "a removed server does not lead")?;
    }
    stage.run_for(5 * ELECTION_TIMEOUT_US)?;
    must(!stage.leads(2) && !stage.leads(3), "not by itself, either")
}

/// A snapshot replaces a log whose tail held an uncommitted membership, and that membership stays in
/// force although no entry says so any more.
///
/// Must hold: the membership in force is the last one of snapshot and log.
///
/// # Errors
/// If it does not hold.
pub fn openraft_snapshot_keeps_a_stale_membership(stage: &mut Stage<'_>) -> Told {
    uncommitted_change_on_two_of_five(stage)?;
    for command in ["A", "B", "C"] {
        stage.commit(3, command)?;
    }
    stage.input(3, &Input::Snapshot)?;
    stage.heal();
    stage.isolate(1);
    stage.run_for(5 * HEARTBEAT_US)?;
    let view = stage.view(2);
    must(view.base >= 5, format_args!("the snapshot is installed: {}", view.base))?;
    must(
        view.voters == [1, 2, 3, 4, 5] && view.outgoing.is_empty(),
        format_args!("the membership is the snapshot's: {:?} {:?}", view.voters, view.outgoing),
    )
}

/// A follower puts a membership into force when it is appended, and later replaces that entry by
/// another leader's; the membership stays.
///
/// Must hold: with the entry goes the membership.
///
/// # Errors
/// If it does not hold.
pub fn truncated_membership_stays_in_force(stage: &mut Stage<'_>) -> Told {
    uncommitted_change_on_two_of_five(stage)?;
    stage.heal();
    stage.run_for(5 * HEARTBEAT_US)?;
    for server in [1, 2] {
        let view = stage.view(server);
        must(
            view.voters == [1, 2, 3, 4, 5] && view.outgoing.is_empty() && view.learners == [6],
            format_args!("n{server} is back at {:?} {:?}", view.voters, view.outgoing),
        )?;
    }
    stage.commit_somewhere("X")
}

/// The first and the second server have a change in their logs that nobody else has; the third leads
/// the others.
fn uncommitted_change_on_two_of_five(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3, 4, 5]).learners(&[6]))?;
    stage.elect(1)?;
    stage.split(&[1, 2]);
    stage.change(1, &[Step::Promote(6)])?;
    stage.settle()?;
    must(stage.view(2).voters.contains(&6), "a membership is in force from its append on")?;
    stage.elect(3)
}

/// The membership is known to the state machine alone. After a restart, with the log compacted and
/// the state machine empty, the server counts quorums by the founders.
///
/// Must hold: snapshot and log tell the membership, whatever the host has kept.
///
/// # Errors
/// If it does not hold.
pub fn etcd_restart_without_the_applied_membership(stage: &mut Stage<'_>) -> Told {
    for is_compacted in [false, true] {
        stage.found(&Setup::figure_2(&[1, 2, 3]).learners(&[4]))?;
        stage.elect(1)?;
        stage.change(1, &[Step::Promote(4)])?;
        stage.settle()?;
        stage.commit(1, "X")?;
        if is_compacted {
            for server in [1, 2, 3, 4] {
                stage.input(server, &Input::Snapshot)?;
            }
        }
        for server in [1, 2, 3, 4] {
            stage.crash(server)?;
        }
        for server in [2, 3] {
            stage.restart(server)?;
            let voters = stage.view(server).voters;
            must(voters == [1, 2, 3, 4], format_args!("n{server} knows its peers: {voters:?}"))?;
        }
        stage.campaign(2)?;
        stage.settle()?;
        must(!stage.leads(2), "two of four elect nobody")?;
        stage.restart(4)?;
        stage.elect(2)?;
        stage.commit(2, "Y")?;
    }
    Ok(())
}

/// A leader that is being removed counts its own copy, and commits what a majority of those that
/// stay does not have.
///
/// Must hold: a leader counts itself where it has a vote, and nowhere else.
///
/// # Errors
/// If it does not hold.
pub fn etcd_removed_leader_counts_itself(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    stage.change(1, &[Step::Remove(1)])?;
    stage.deliver(|letter| letter.from == 1)?;
    stage.deliver(|letter| letter.to == 1)?;
    must(stage.view(1).voters == [2, 3], "the first server leads a group that it leaves")?;
    stage.isolate(3);
    stage.lose(|letter| letter.to == 3);
    let before = stage.commit_of(1);
    stage.propose(1, "bar")?;
    stage.settle()?;
    let after = stage.commit_of(1);
    must(after == before, format_args!("one of two commits nothing: {before}, then {after}"))?;
    stage.heal();
    stage.run_for(10 * ELECTION_TIMEOUT_US)?;
    must(stage.leader().is_some_and(|leader| leader != 1), "one of those that stay leads")?;
    let leader = stage.leader().unwrap_or_default();
    stage.commit(leader, "X")
}

/// A leader that removes itself stops as soon as its removal is in its log, and the group is left
/// with a change that nobody completes; or it stops before the others can know.
///
/// Must hold: it leads until its removal is committed, then it stops, and those that stay go on by
/// themselves, whatever of its last words arrives.
///
/// # Errors
/// If it does not hold.
pub fn ccf_premature_retirement(stage: &mut Stage<'_>) -> Told {
    for are_last_words_lost in [false, true] {
        stage.found(&Setup::complete(&[1, 2, 3]))?;
        stage.elect(1)?;
        stage.isolate(1);
        stage.change(1, &[Step::Remove(1)])?;
        stage.settle()?;
        must(stage.leads(1), "a removal that is not committed ends nothing")?;
        stage.heal();
        stage.input(1, &Input::Pass(HEARTBEAT_US))?;
        for _ in 0..20 {
            if stage.view(1).voters == [2, 3] && stage.view(1).outgoing.is_empty() {
                break;
            }
            stage.deliver(|_| true)?;
        }
        must(stage.leads(1), "nor does its last entry, while it is not committed")?;
        for _ in 0..20 {
            if !stage.leads(1) {
                break;
            }
            stage.deliver(|_| true)?;
        }
        must(!stage.leads(1), "a committed one ends its leadership")?;
        must(stage.view(1).voters == [2, 3], "and is complete")?;
        if are_last_words_lost {
            stage.lose(|_| true);
            stage.isolate(1);
        }
        stage.run_for(10 * ELECTION_TIMEOUT_US)?;
        must(stage.leader().is_some_and(|leader| leader != 1), "those that stay elect one")?;
        let leader = stage.leader().unwrap_or_default();
        stage.commit(leader, "X")?;
        must(stage.view(leader).outgoing.is_empty(), "the change is complete")?;
    }
    Ok(())
}

/// A server was removed while it was cut off. It does not know, campaigns again and again, and its
/// ever higher terms depose every leader.
///
/// Must hold: the group keeps its leader and its term.
///
/// # Errors
/// If it does not hold.
pub fn hashicorp_removed_server_storms(stage: &mut Stage<'_>) -> Told {
    storm(stage, &Setup::complete(&[1, 2, 3, 4]))?;
    // Followers that hear their leader are enough of a protection by themselves.
    storm(stage, &Setup { pre_vote: false, ..Setup::complete(&[1, 2, 3, 4]) })
}

fn storm(stage: &mut Stage<'_>, setup: &Setup) -> Told {
    stage.found(setup)?;
    stage.elect(1)?;
    stage.isolate(4);
    stage.change(1, &[Step::Remove(4)])?;
    stage.settle()?;
    must(stage.view(1).voters == [1, 2, 3], "the fourth server is removed")?;
    stage.run_for(5 * ELECTION_TIMEOUT_US)?;
    let term = stage.view(1).term;
    stage.heal();
    for _ in 0..10 {
        stage.run_for(2 * ELECTION_TIMEOUT_US)?;
        stage.commit(1, "X")?;
    }
    must(stage.view(1).term == term, "nobody was deposed")?;
    // Also while a leader is being looked for, the removed server's lack of a vote stops nobody.
    stage.crash(1)?;
    let is_led = |stage: &Stage<'_>| stage.leader().is_some();
    must(stage.run_until(20 * ELECTION_TIMEOUT_US, is_led)?, "the others elect one of them")?;
    must(!stage.leads(4), "and not the removed one")
}

/// A leader is handing over to a server when that server loses its vote. The leader waits for it to
/// campaign, and refuses every proposal until then.
///
/// Must hold: the transfer ends, and proposals are taken again.
///
/// # Errors
/// If it does not hold.
pub fn etcd_demoted_while_the_leadership_is_handed_over(stage: &mut Stage<'_>) -> Told {
    for is_transfer_first in [false, true] {
        stage.found(&Setup::complete(&[1, 2, 3]))?;
        stage.elect(1)?;
        stage.isolate(3);
        let transfer;
        if is_transfer_first {
            stage.propose(1, "unknown to the third")?;
            transfer = stage.transfer(1, 3)?;
            stage.change(1, &[Step::Demote(3)])?;
        } else {
            stage.change(1, &[Step::Demote(3)])?;
            transfer = stage.transfer(1, 3)?;
        }
        must(stage.outcome(transfer).is_none(), "the leadership is about to be handed over")?;
        stage.settle()?;
        if !is_transfer_first {
            must(stage.view(1).voters == [1, 2], "the successor has lost its vote meanwhile")?;
            must(stage.is_refused(transfer), "and the transfer has ended with it, at once")?;
        }
        stage.heal();
        let late = stage.keep_back(|letter| letter.kind == Kind::TimeoutNow);
        stage.run_for(4 * ELECTION_TIMEOUT_US)?;
        stage.commit_somewhere("X")?;
        let leader = stage.leader().unwrap_or_default();
        stage.change(leader, &[Step::Demote(3)])?;
        stage.settle()?;
        stage.deliver_kept(&late)?;
        stage.run_for(2 * ELECTION_TIMEOUT_US)?;
        if !is_transfer_first {
            must(!stage.leads(3), "a server without a vote does not lead")?;
        }
        stage.commit_somewhere("Y")?;
    }
    Ok(())
}

/// A sole voter promotes two learners. Where a promotion counts once it is applied, it takes the one
/// voter alone to commit it: a client is told so, and the only copy may be lost with its server.
///
/// Must hold: a promotion counts from its append on, at the leader and at everybody else: it takes a
/// majority of the new voters to commit it, and whatever comes after it, and to elect who has it.
///
/// # Errors
/// If it does not hold.
pub fn learner_promoted_when_applied_instead_of_when_appended(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1]).learners(&[2, 3]))?;
    stage.elect(1)?;
    stage.commit(1, "A")?;
    let before = stage.commit_of(1);
    let promotion = stage.change(1, &[Step::Promote(2), Step::Promote(3)])?;
    let after = stage.propose(1, "B")?;
    must(stage.view(1).voters == [1, 2, 3], "the new membership is in force")?;
    let told = [promotion, after].map(|ticket| stage.outcome(ticket));
    must(told == [None, None], format_args!("one of three commits nothing: {told:?}"))?;
    must(stage.commit_of(1) == before, "neither the promotion nor what comes after it")?;
    // The second server has it in its log, and nobody knows that it is committed.
    stage.deliver(|letter| letter.goes(1, 2))?;
    stage.lose(|_| true);
    must(stage.view(2).voters == [1, 2, 3], "it is in force there, too")?;
    must(stage.commit_of(2) == before, "though it is not committed")?;
    stage.crash(1)?;
    stage.campaign(2)?;
    stage.lose(|letter| letter.to == 3);
    stage.settle()?;
    must(!stage.leads(2), "one of three elects nobody")?;
    stage.restart(1)?;
    stage.run_for(10 * ELECTION_TIMEOUT_US)?;
    must(stage.leader().is_some(), "all three elect one of them")?;
    stage.commit_somewhere("C")?;
    let view = stage.view(3);
    must(view.voters == [1, 2, 3] && view.outgoing.is_empty(), "and all three vote")
}
