//! Reads without log entries: thesis §6.4.

use super::stage::Stage;
use super::story::{Story, Told, must, story};
use super::subject::{HEARTBEAT_US, Input, Kind, Letter, Setup};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "57",
        Safety,
        etcd_read_at_a_new_leader_before_its_first_commit,
        "etcd 7331; tikv 6340, 9208"
    ),
    story!(
        "58",
        Safety,
        etcd_read_confirmed_by_answers_to_an_earlier_one,
        "etcd 20418, 21399; etcd-io/raft pull request 397"
    ),
    story!(
        "63",
        Safety,
        tikv_forwarded_read_answered_by_an_old_leader,
        "tikv raft-rs test_raw_node_read_index_to_old_leader"
    ),
];

/// A new leader does not know yet what its predecessor has committed; a read that it answers at its
/// own commit index misses acknowledged writes.
///
/// Must hold: a leader answers no read before an entry of its own term is committed.
///
/// # Errors
/// If it does not hold.
pub fn etcd_read_at_a_new_leader_before_its_first_commit(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    stage.propose(1, "X")?;
    stage.deliver(|letter| letter.from == 1)?;
    stage.deliver(|letter| letter.to == 1)?;
    stage.lose(|_| true); // Nobody else hears that it is committed.
    must(stage.committed() == 2 && stage.commit_of(2) < 2, "only the first server knows")?;
    stage.isolate(1);
    stage.campaign(2)?;
    stage.deliver(|letter| letter.goes(2, 3))?;
    stage.deliver(|letter| letter.goes(3, 2))?;
    must(stage.leads(2), "the second server leads")?;
    let read = stage.read(2, false)?;
    must(stage.answer(read).is_none(), "and has nothing to answer with")?;
    // Heartbeats and their answers alone confirm that it leads, and that is not enough.
    let appends = stage.keep_back(|letter| letter.goes(2, 3));
    stage.input(2, &Input::Pass(HEARTBEAT_US))?;
    stage.deliver(|letter| letter.goes(2, 3))?;
    stage.lose(|letter| letter.goes(2, 3));
    stage.deliver(|letter| letter.goes(3, 2))?;
    must(stage.answer(read).is_none(), "not even when it is known to lead")?;
    stage.deliver_kept(&appends)?;
    stage.settle()?;
    let answer = stage.answer(read).map(|answer| answer.index);
    must(answer.is_some_and(|index| index >= 2), format_args!("then it reads all: {answer:?}"))
}

/// Answers to the heartbeats of an earlier read are still on their way when the leader is cut off
/// and another one is elected. They arrive when the old leader has been asked for a new read, and
/// confirm it; or when it leads again and its rounds have the same numbers as before.
///
/// Must hold: an answer confirms only what was asked before it was given, in the same term.
///
/// # Errors
/// If it does not hold.
pub fn etcd_read_confirmed_by_answers_to_an_earlier_one(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    let first = stage.read(1, false)?;
    stage.deliver(|letter| letter.from == 1)?;
    let late = stage.copy(|letter| letter.to == 1);
    must(late.len() == 2, "both followers confirm the first read")?;
    stage.settle()?;
    must(stage.answer(first).is_some(), "it is answered")?;
    stage.isolate(1);
    stage.elect(2)?;
    stage.commit(2, "X")?;
    let second = stage.read(1, false)?;
    stage.settle()?;
    stage.deliver_kept(&late)?;
    must(stage.answer(second).is_none(), "a leader without a quorum answers nothing")?;

    // The first server crashes, leads a later term, and counts its rounds from the beginning.
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    stage.read(1, false)?;
    stage.deliver(|letter| letter.from == 1)?;
    let late = stage.keep_back(|letter| letter.to == 1);
    stage.lose(|_| true);
    stage.reboot(1)?;
    stage.elect(1)?;
    stage.isolate(1);
    stage.elect(2)?;
    stage.commit(2, "X")?;
    let read = stage.read(1, false)?;
    stage.deliver_kept(&late)?;
    stage.settle()?;
    must(stage.answer(read).is_none(), "answers of an earlier term confirm nothing")
}

/// A follower asks its leader where to read. The answer is late: meanwhile another leader was
/// elected and has committed more, and a read that was asked of it is taken to be answered; or the
/// follower has restarted and counts its questions from the beginning.
///
/// Must hold: a forwarded read is answered by the leader of the term in which it was asked, for the
/// question that was asked.
///
/// # Errors
/// If it does not hold.
pub fn tikv_forwarded_read_answered_by_an_old_leader(stage: &mut Stage<'_>) -> Told {
    for is_restarted in [false, true] {
        stage.found(&Setup::figure_2(&[1, 2, 3]).learners(&[4]))?;
        stage.elect(1)?;
        stage.commit(1, "A")?;
        stage.run_for(3 * HEARTBEAT_US)?;
        for reader in [2, 4] {
            let read = stage.read(reader, false)?;
            stage.settle()?;
            let is_answered = stage.answer(read).is_some();
            must(is_answered, format_args!("n{reader} reads by way of the leader"))?;
        }
        let first = stage.read(2, false)?;
        let is_answer = |letter: &Letter| letter.kind == Kind::ReadIndexAnswer;
        stage.settle_if(|letter| !is_answer(letter))?;
        let late = stage.keep_back(is_answer);
        must(!late.is_empty() && stage.answer(first).is_none(), "the answer is late")?;
        stage.isolate(1);
        stage.elect(3)?;
        stage.commit(3, "X")?;
        if is_restarted {
            stage.reboot(2)?;
            stage.run_for(3 * HEARTBEAT_US)?;
        }
        stage.isolate(2); // The new leader answers nothing yet.
        let second = stage.read(2, false)?;
        stage.deliver_kept(&late)?;
        must(stage.answer(second).is_none(), "an old leader's answer answers nothing new")?;
        // An old leader that is asked now cannot tell that it still leads.
        stage.heal();
        stage.cut(1, 3);
        stage.cut(1, 2);
        let third = stage.read(1, false)?;
        stage.run_for(5 * HEARTBEAT_US)?;
        must(stage.answer(third).is_none(), "nor does it answer its own clients")?;
        let fourth = stage.read(2, false)?;
        stage.run_for(3 * HEARTBEAT_US)?;
        must(stage.answer(fourth).is_some(), "the leader of the term does")?;
    }
    answer_to_an_earlier_life(stage)
}

/// The follower has restarted within the term, and numbers its questions anew.
fn answer_to_an_earlier_life(stage: &mut Stage<'_>) -> Told {
    let is_answer = |letter: &Letter| letter.kind == Kind::ReadIndexAnswer;
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    stage.read(2, false)?;
    stage.settle_if(|letter| !is_answer(letter))?;
    let late = stage.keep_back(is_answer);
    must(late.len() == 1, "the answer is late")?;
    stage.reboot(2)?;
    stage.run_for(3 * HEARTBEAT_US)?;
    stage.cut(1, 2);
    stage.commit(1, "X")?;
    let read = stage.read(2, false)?;
    stage.deliver_kept(&late)?;
    must(stage.answer(read).is_none(), "an answer to an earlier life answers nothing")
}
