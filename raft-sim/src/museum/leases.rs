//! Reads without asking: leases, thesis §6.4.1, and everything that may end one early.

use super::stage::Stage;
use super::story::{Story, Told, must, story};
use super::subject::{ELECTION_TIMEOUT_US, HEARTBEAT_US, Input, Kind, Letter, Setup, Step, View};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "13",
        Safety,
        sailing_lease_promise_forgotten_at_a_restart,
        "sailing, the vote fence; any lease whose promises are in memory alone"
    ),
    story!(
        "59",
        Safety,
        etcd_lease_goes_on_while_the_leadership_is_handed_over,
        "etcd 12704; etcd-io/raft 99; openraft 1747, 1748, 1749"
    ),
    story!(
        "60",
        Safety,
        tikv_lease_checked_before_a_pause,
        "tikv 964; nebula 2723, 3111; d-engine 391"
    ),
    story!(
        "60b",
        Safety,
        tikv_lease_by_a_clock_that_goes_back,
        "tikv 964; nebula 2723, 3111; d-engine 391: the wall clock, set back"
    ),
    story!(
        "61",
        Safety,
        tikv_lease_counted_by_a_quorum_that_has_changed,
        "tikv raft-rs test_read_when_quorum_becomes_less"
    ),
    story!(
        "62",
        Safety,
        etcd_forget_leader_breaks_the_lease,
        "etcd-io/raft forget_leader_read_only_lease_based"
    ),
];

/// How long a lease lasts, and with the drift of clocks that is allowed for, the promise of it.
const LEASE_US: u64 = ELECTION_TIMEOUT_US;
const DRIFTED_US: u64 = LEASE_US + LEASE_US / 10;

fn leased(voters: &[u64]) -> Setup {
    Setup { lease_us: LEASE_US, ..Setup::complete(voters) }
}

/// The first server leads, and everybody has just promised to elect nobody else.
fn lead_with_a_lease(stage: &mut Stage<'_>, setup: &Setup) -> Told {
    stage.found(setup)?;
    stage.elect(1)?;
    stage.run_for(3 * HEARTBEAT_US)?;
    let read = stage.read(1, true)?;
    must(stage.answer(read).is_some(), "a leader with a lease answers without a message")
}

/// One server is elected without the first, and commits X; then the first is asked by lease. The
/// stage sees to it that no answer is stale; whether there is one.
fn overtake_and_read(stage: &mut Stage<'_>, candidate: u64) -> Result<bool, super::Untold> {
    stage.campaign(candidate)?;
    stage.settle()?;
    if stage.leads(candidate) {
        stage.commit(candidate, "X")?;
    }
    let read = stage.read(1, true)?;
    Ok(stage.answer(read).is_some())
}

/// A follower has promised its leader to elect nobody else for a while. It restarts, remembers
/// nothing of it, and votes.
///
/// Must hold: every start waits out the longest promise that may still be relied upon.
///
/// # Errors
/// If it does not hold.
pub fn sailing_lease_promise_forgotten_at_a_restart(stage: &mut Stage<'_>) -> Told {
    lead_with_a_lease(stage, &leased(&[1, 2, 3]))?;
    stage.isolate(1);
    stage.reboot(2)?;
    stage.reboot(3)?;
    let answered = overtake_and_read(stage, 3)?;
    must(answered && !stage.leads(3), "while the lease lasts, nobody else is elected")?;
    stage.run_idle(LEASE_US / 2)?;
    stage.reboot(3)?;
    overtake_and_read(stage, 2)?;
    overtake_and_read(stage, 3)?;
    must(!stage.leads(2) && !stage.leads(3), "nor later, while it lasts")?;
    stage.run_for(10 * ELECTION_TIMEOUT_US)?;
    must(stage.leader().is_some_and(|leader| leader != 1), "once it is over, somebody is")?;
    let leader = stage.leader().unwrap_or_default();
    stage.commit(leader, "Y")?;
    let read = stage.read(1, true)?;
    must(stage.answer(read).is_none(), "and the old leader answers nothing")
}

/// A leader hands over, and goes on to answer by its lease. The successor is elected at once, for
/// its request passes every promise; or much later, when the message that asks it to campaign
/// arrives long after the transfer was given up.
///
/// Must hold: a leader that has asked another one to campaign answers nothing by lease in that term
/// any more.
///
/// # Errors
/// If it does not hold.
pub fn etcd_lease_goes_on_while_the_leadership_is_handed_over(stage: &mut Stage<'_>) -> Told {
    for is_late in [false, true] {
        lead_with_a_lease(stage, &leased(&[1, 2, 3]))?;
        let before = stage.read(1, true)?;
        stage.transfer(1, 3)?;
        // A leader may wait with it until no answer that it has given out may be used any more.
        let is_asked = |letter: &Letter| letter.kind == Kind::TimeoutNow;
        for _ in 0..80 {
            if !stage.letters(is_asked).is_empty() {
                break;
            }
            stage.run_idle(HEARTBEAT_US / 4)?;
            stage.settle_if(|letter| !is_asked(letter))?;
        }
        let asked = stage.keep_back(is_asked);
        must(asked.len() == 1, "the third server is asked to campaign")?;
        if is_late {
            stage.run_for(4 * ELECTION_TIMEOUT_US)?;
            must(stage.leads(1), "the transfer is given up")?;
            stage.commit(1, "W")?;
        }
        let read = stage.read(1, true)?;
        must(stage.answer(read).is_none(), "there is no lease any more")?;
        stage.isolate(1);
        stage.deliver_kept(&asked)?;
        stage.settle()?;
        must(stage.leads(3), "the successor's request passes every promise")?;
        stage.commit(3, "X")?;
        must(stage.answer(before).is_none(), "what was given out before is not used any more")?;
        let read = stage.read(1, true)?;
        must(stage.answer(read).is_none(), "the old leader answers nothing")?;
    }
    Ok(())
}

/// A leader finds its lease valid, is paused, and answers when it wakes up; or its clock is slow and
/// its followers' clocks are fast.
///
/// Must hold: an answer by lease says until when it may be given, and followers keep their promise
/// for longer than that by any clock that is allowed for.
///
/// # Errors
/// If it does not hold.
pub fn tikv_lease_checked_before_a_pause(stage: &mut Stage<'_>) -> Told {
    lead_with_a_lease(stage, &leased(&[1, 2, 3]))?;
    let read = stage.read(1, true)?;
    must(stage.answer(read).is_some(), "the answer may be given now")?;
    stage.isolate(1);
    stage.input(1, &Input::Pause(3 * ELECTION_TIMEOUT_US))?;
    for server in [2, 3] {
        stage.input(server, &Input::Pass(DRIFTED_US + HEARTBEAT_US))?;
    }
    stage.settle()?;
    stage.campaign(3)?;
    stage.settle()?;
    let other = stage.leader().filter(|leader| *leader != 1).or(stage.leads(3).then_some(3));
    must(other.is_some() || stage.leads(2), "the others elect one of them after the lease")?;
    must(stage.answer(read).is_none(), "after a pause the answer may not be given any more")?;
    let read = stage.read(1, true)?;
    must(stage.answer(read).is_none(), "nor a new one")?;

    // The followers' clocks run a tenth faster than the leader's.
    lead_with_a_lease(stage, &leased(&[1, 2, 3]))?;
    stage.input(1, &Input::Pass(HEARTBEAT_US))?;
    stage.settle()?;
    stage.isolate(1);
    let read = stage.read(1, true)?;
    let valid = stage.answer(read).and_then(|answer| answer.valid_until_us).unwrap_or_default();
    let left = valid.saturating_sub(stage.view(1).clock_us);
    must(left > LEASE_US / 2, format_args!("the story needs a lease: {left} left"))?;
    stage.input(1, &Input::Pause(left - 1))?;
    for server in [2, 3] {
        stage.input(server, &Input::Pause((left - 1) / 10 * 11))?;
    }
    for candidate in [2, 3] {
        stage.campaign(candidate)?;
        stage.settle()?;
        must(!stage.leads(candidate), "the promise lasts as long as the lease by any clock")?;
    }
    must(stage.answer(read).is_some(), "up to its last moment")
}

/// A leader's lease was confirmed by a majority of three. The group grows to five; the leader counts
/// its two confirmations on, and the other three elect somebody. Or the group shrinks while a read
/// waits for a majority that need not be so large any more.
///
/// Must hold: confirmations are counted by the membership of the moment at which they are counted.
///
/// # Errors
/// If it does not hold.
pub fn tikv_lease_counted_by_a_quorum_that_has_changed(stage: &mut Stage<'_>) -> Told {
    lead_with_a_lease(stage, &leased(&[1, 2, 3]).learners(&[4, 5]))?;
    stage.change(1, &[Step::Promote(4), Step::Promote(5)])?;
    stage.run_for(4 * ELECTION_TIMEOUT_US)?;
    let has_grown = |view: View| view.voters == [1, 2, 3, 4, 5] && view.outgoing.is_empty();
    must([1, 3, 4, 5].iter().all(|server| has_grown(stage.view(*server))), "the group has grown")?;
    let read = stage.read(1, true)?;
    must(stage.answer(read).is_some(), "and has a lease by more confirmations")?;
    for server in [3, 4, 5] {
        stage.cut(1, server);
        stage.cut(2, server);
    }
    for _ in 0..13 {
        for server in [1, 2] {
            stage.input(server, &Input::Pass(HEARTBEAT_US))?;
        }
        for server in [3, 4, 5] {
            stage.input(server, &Input::Pause(HEARTBEAT_US))?;
        }
        stage.settle()?;
    }
    let answered = overtake_and_read(stage, 3)?;
    must(stage.leads(3), "three of five elect one of them")?;
    must(!answered, "and two of five confirm no lease")?;

    stage.found(&Setup::figure_2(&[1, 2]))?;
    stage.elect(1)?;
    stage.commit(1, "A")?;
    let read = stage.read(1, false)?;
    stage.lose(|_| true);
    must(stage.answer(read).is_none(), "the read waits for the second server")?;
    stage.change(1, &[Step::Remove(2)])?;
    stage.settle()?;
    must(stage.view(1).voters == [1], "which is removed")?;
    stage.run_for(3 * HEARTBEAT_US)?;
    must(stage.answer(read).is_some(), "the read does not wait for ever")
}

/// A host tells followers that their leader is gone. They forget it, and with it what they had
/// promised: they elect another one while the leader answers by lease.
///
/// Must hold: only time ends a promise.
///
/// # Errors
/// If it does not hold.
pub fn etcd_forget_leader_breaks_the_lease(stage: &mut Stage<'_>) -> Told {
    lead_with_a_lease(stage, &leased(&[1, 2, 3]))?;
    stage.isolate(1);
    for follower in [2, 3] {
        stage.input(follower, &Input::ForgetLeader)?;
    }
    let answered = overtake_and_read(stage, 3)?;
    must(answered && !stage.leads(3), "while the lease lasts, nobody else is elected")?;
    for server in [1, 2, 3] {
        stage.input(server, &Input::Pause(DRIFTED_US))?;
    }
    stage.heal();
    stage.isolate(1);
    let answered = overtake_and_read(stage, 2)?;
    must(stage.leads(2) && !answered, "once it is over, a forgotten leader hinders nobody")
}

/// A leader measures its lease by a clock that is set back: the lease that was over is valid again,
/// or lasts as much longer as the clock has lost.
///
/// Must hold: time that has passed has passed, and a leader whose clock goes back has no lease any
/// more. Nor does anybody come to harm: what is late because of it comes about.
///
/// # Errors
/// If it does not hold.
pub fn tikv_lease_by_a_clock_that_goes_back(stage: &mut Stage<'_>) -> Told {
    let patient = Setup { check_quorum: false, ..leased(&[1, 2, 3]) };
    for lost in [1, HEARTBEAT_US, LEASE_US / 2, LEASE_US, 100 * LEASE_US] {
        // The lease is over.
        lead_with_a_lease(stage, &patient)?;
        stage.isolate(1);
        for server in [1, 2, 3] {
            stage.input(server, &Input::Pass(DRIFTED_US))?;
        }
        must(stage.leads(1), "it does not know that nobody hears it")?;
        stage.input(1, &Input::SetBack(lost))?;
        let answered = overtake_and_read(stage, 3)?;
        must(stage.leads(3), "another one is elected")?;
        must(!answered, format_args!("no lease comes back when a clock loses {lost}us"))?;
    }
    for lost in [2 * HEARTBEAT_US, LEASE_US / 2, LEASE_US, 100 * LEASE_US] {
        // It is not, and would last as much longer.
        lead_with_a_lease(stage, &patient)?;
        stage.isolate(1);
        for server in [1, 2, 3] {
            stage.input(server, &Input::Pass(LEASE_US / 2))?;
        }
        stage.input(1, &Input::SetBack(lost))?;
        stage.read(1, true)?;
        for server in [1, 2, 3] {
            stage.input(server, &Input::Pass(DRIFTED_US - LEASE_US / 2))?;
        }
        let answered = overtake_and_read(stage, 3)?;
        must(stage.leads(3), "another one is elected")?;
        must(!answered, format_args!("no lease lasts longer when a clock loses {lost}us"))?;
        stage.heal();
        stage.run_for(10 * ELECTION_TIMEOUT_US)?;
        stage.commit_somewhere("Y")?;
    }
    // Everybody's clock goes back, again and again, and the group goes on.
    stage.found(&leased(&[1, 2, 3]))?;
    for round in 0..12 {
        let is_led = |stage: &Stage<'_>| stage.leader().is_some();
        must(stage.run_until(20 * ELECTION_TIMEOUT_US, is_led)?, "there is a leader")?;
        let leader = stage.leader().unwrap_or_default();
        stage.input(round % 3 + 1, &Input::SetBack((round + 1) * HEARTBEAT_US))?;
        let read = stage.read(leader, true)?;
        stage.run_for(6 * ELECTION_TIMEOUT_US)?;
        let is_over = stage.view(leader).reads.contains_key(&read) || stage.is_refused(read);
        must(is_over, format_args!("round {round}: a read is answered, if not by the lease"))?;
    }
    stage.commit_somewhere("Z")
}
