//! What must be durable before what: §5.1, §5.2 and Figure 2's "respond to RPCs only after stable
//! storage has been updated", and what implementations have made of it.

use super::stage::Stage;
use super::story::{Story, Told, must, story};
use super::subject::{ELECTION_TIMEOUT_US, HEARTBEAT_US, Input, Kind, Letter, Role, Setup};

/// The chapter's stories.
pub const STORIES: &[Story] = &[
    story!(
        "1",
        Safety,
        etcd_async_storage_writes_candidate_not_durable,
        "etcd-io/raft with AsyncStorageWrites: MsgVote leaves before the vote is written"
    ),
    story!(
        "1b",
        Safety,
        tikv_sole_voter_replicates_before_its_vote_is_durable,
        "tikv raft-rs at aafb07c: campaign() and ready(); valkey pull request 3887 in review"
    ),
    story!(
        "2",
        Safety,
        candidate_claims_a_suffix_that_is_not_durable,
        "a variant of etcd-io/raft's; leading only once the own vote is durable does not help"
    ),
    story!("3", Safety, vote_answered_before_it_is_durable, "Figure 2, answered from memory"),
    story!(
        "4",
        Safety,
        openraft_append_acknowledged_before_fsync,
        "hiqlite issue 361; openraft issues 618 and 418"
    ),
    story!(
        "4b",
        Safety,
        duplicate_append_acknowledged_at_once,
        "asynchronous appends: a retransmission adds nothing, so it is answered from memory"
    ),
    story!(
        "5",
        Safety,
        openraft_entries_durable_before_their_term,
        "openraft docs/protocol/io_ordering.md"
    ),
    story!(
        "6",
        Safety,
        etcd_async_append_aba_race,
        "etcd-io/raft newStorageAppendRespMsg and async_storage_writes_append_aba_race"
    ),
    story!(
        "7",
        Safety,
        leader_counts_its_own_entry_before_it_is_durable,
        "what tikv raft-rs on_persist_entries and etcd-io/raft's self-acknowledgement prevent"
    ),
    story!(
        "10",
        Safety,
        ccf_vote_cleared_when_the_role_changes_within_a_term,
        "CCF 8094, camunda 5356, xraft 29, akka-raft 56"
    ),
    story!(
        "11",
        Safety,
        hashicorp_entries_stamped_with_a_term_never_led,
        "hashicorp/raft 695 and 701"
    ),
];

fn is_to(letter: &Letter, servers: &[u64]) -> bool {
    servers.contains(&letter.to)
}

/// With asynchronous storage writes, etcd-io/raft sends a candidate's requests at once. The
/// candidate wins term 1, replicates X to one follower, loses its power before anything of term 1
/// was on its disk, and wins term 1 again with the durable votes of the others. The follower holds
/// X at the index and term at which everybody else has Y, and believes that it has Y.
///
/// Must hold: no message of a term leaves its candidate before the vote for itself is durable.
///
/// # Errors
/// If it does not hold.
pub fn etcd_async_storage_writes_candidate_not_durable(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3, 4, 5]))?;
    stage.hold_disk(1);
    stage.campaign(1)?;
    let early = stage.letters(|letter| letter.from == 1 && letter.term >= 1);
    stage.deliver(|letter| is_to(letter, &[2, 3, 4]))?;
    stage.lose(|letter| is_to(letter, &[5]));
    stage.deliver(|letter| is_to(letter, &[1]))?;
    stage.propose(1, "X")?;
    stage.settle_if(|letter| is_to(letter, &[2]))?;
    stage.lose(|_| true);

    stage.reboot(1)?;
    stage.campaign(1)?;
    stage.settle_if(|letter| is_to(letter, &[1, 3, 4]))?;
    stage.propose(1, "Y")?;
    stage.settle()?;
    stage.propose(1, "Z")?;
    stage.settle()?;
    must(stage.view(2).has_applied("Y"), "the one command that was proposed to a leader counts")?;
    must(early.is_empty(), format_args!("nothing of term 1 leaves before its vote: {early:?}"))
}

/// raft-rs makes a sole voter the leader inside `campaign`, and its first append to a learner leaves
/// with the messages that are sent before the hard state is written. After a power failure it leads
/// the same term again, with another command in the slot that the learner has filled.
///
/// Must hold: a sole voter leads only once its vote is durable.
///
/// # Errors
/// If it does not hold.
pub fn tikv_sole_voter_replicates_before_its_vote_is_durable(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1]).learners(&[2]))?;
    stage.hold_disk(1);
    stage.campaign(1)?;
    stage.propose(1, "X")?;
    let early = stage.letters(|letter| letter.from == 1);
    stage.settle()?;

    stage.reboot(1)?;
    stage.campaign(1)?;
    stage.propose(1, "Y")?;
    stage.settle()?;
    must(stage.view(2).has_applied("Y"), "the learner has what its only voter has")?;
    must(early.is_empty(), format_args!("nothing of term 1 leaves before its vote: {early:?}"))
}

/// A follower that holds a committed entry in memory only campaigns, and its request advertises
/// that entry. It loses its power, and with it the entry, the term and the vote; it campaigns for
/// the same term with its shorter log, and the late answer to the first request makes it leader.
///
/// Must hold: a request for votes waits for the whole log that it advertises.
///
/// # Errors
/// If it does not hold.
pub fn candidate_claims_a_suffix_that_is_not_durable(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(3)?;
    stage.hold_disk(1);
    stage.commit(3, "X")?;
    stage.isolate(3);
    stage.campaign(1)?;
    stage.deliver(|letter| is_to(letter, &[2]))?;
    let late = stage.keep_back(|letter| letter.from == 2 && is_to(letter, &[1]));

    stage.reboot(1)?;
    must(stage.view(1).last_index() == 1, "the story needs a crash that loses the entry")?;
    stage.campaign(1)?;
    stage.deliver_kept(&late)?;
    stage.settle()?;
    must(!stage.leads(1), "a server without a committed entry does not lead")?;
    stage.campaign(2)?;
    stage.settle()?;
    stage.campaign(2)?;
    stage.settle()?;
    must(stage.leads(2), "the server that has it can")
}

/// A follower answers a candidate before its vote is written, loses its power, and gives the same
/// term's vote to somebody else.
///
/// Must hold: a vote is given once in a term, crashes included.
///
/// # Errors
/// If it does not hold.
pub fn vote_answered_before_it_is_durable(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.hold_disk(2);
    stage.campaign(1)?;
    stage.lose(|letter| is_to(letter, &[3]));
    stage.settle()?;
    let is_early = stage.leads(1);
    stage.lose(|_| true);
    stage.reboot(2)?;
    stage.campaign(3)?;
    stage.lose(|letter| is_to(letter, &[1]));
    stage.settle()?;
    must(stage.leads(3), "the only candidate that a durable vote was given to leads")?;
    must(!is_early, "a vote that is not durable elects nobody")
}

/// A follower acknowledges an entry that its disk does not have yet. The leader commits with it, the
/// follower loses its power, and the servers that never had the entry elect one of them.
///
/// Must hold: an acknowledgement of an append waits until the entries are durable.
///
/// # Errors
/// If it does not hold.
pub fn openraft_append_acknowledged_before_fsync(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    stage.isolate(3);
    stage.hold_disk(2);
    stage.propose(1, "X")?;
    stage.settle()?;
    must(stage.view(2).last_index() == 2, "the follower has the entry in memory")?;
    let early = stage.committed();
    lose_power_and_elect_the_third(stage)?;
    must(early == 1, "one durable copy of three commits nothing")
}

/// The same, through a retransmission: the first append is in memory and not yet durable; its
/// duplicate finds nothing to add, and is acknowledged at once.
///
/// Must hold: any acknowledgement waits for what it claims, whoever stored it.
///
/// # Errors
/// If it does not hold.
pub fn duplicate_append_acknowledged_at_once(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    stage.isolate(3);
    stage.hold_disk(2);
    stage.propose(1, "X")?;
    let copies = stage.copy(|letter| is_to(letter, &[2]));
    stage.settle()?;
    stage.deliver_kept(&copies)?;
    stage.settle()?;
    stage.input(1, &Input::Pass(HEARTBEAT_US))?; // The leader asks again by itself, too.
    stage.settle()?;
    let early = stage.committed();
    lose_power_and_elect_the_third(stage)?;
    must(early == 1, "one durable copy of three commits nothing, however often it is asked")
}

/// The second server, whose disk was slow, loses its power; then it elects the third one, which had
/// been cut off.
fn lose_power_and_elect_the_third(stage: &mut Stage<'_>) -> Told {
    stage.reboot(2)?;
    stage.heal();
    stage.isolate(1);
    stage.lose(|_| true);
    stage.elect(3)?;
    stage.commit(3, "Y")?;
    stage.heal();
    stage.run_for(5 * ELECTION_TIMEOUT_US)?;
    must(stage.view(1).has_applied("Y"), "the deposed leader has what was committed without it")
}

/// Term and vote go to one file, entries to another, and nothing orders the two. Entries of a new
/// term are durable, the term is not; after a crash the server is in its old term with entries of a
/// term that it has never heard of, and lets the old leader overwrite them.
///
/// Must hold, wherever a crash tears the writes: a server knows the term of its last entry.
///
/// # Errors
/// If it does not hold.
pub fn openraft_entries_durable_before_their_term(stage: &mut Stage<'_>) -> Told {
    let mut pieces = 0;
    loop {
        stage.found(&Setup::figure_2(&[1, 2, 3, 4, 5]))?;
        stage.elect(1)?;
        stage.commit(1, "X")?;
        stage.hold_disk(2);
        stage.campaign(3)?;
        stage.lose(|letter| is_to(letter, &[2]));
        stage.settle_if(|letter| !is_to(letter, &[2]))?;
        must(stage.leads(3), "three votes of five elect")?;
        stage.settle()?; // The term and its first entry reach the second server together.
        let all: usize = stage.writes(2).iter().sum();
        must(all >= 2, "the second server is about to learn of a term and its entry")?;
        stage.crash_keeping(2, pieces)?;
        stage.restart(2)?;
        stage.release_disk(2)?;
        stage.propose(3, "Y")?;
        stage.run_for(3 * HEARTBEAT_US)?;
        must(stage.view(2).has_applied("Y"), "it catches up from whatever was left")?;
        if pieces == all {
            return Ok(());
        }
        pieces += 1;
    }
}

/// A follower's disk is slow. Entries of term 1 are being written when a new leader replaces them at
/// the same indices; the late completion of the first write is taken for that of the second, and
/// the new entries are acknowledged while they are in memory only.
///
/// Must hold: a completion vouches for what was written, not for whatever is at its index by now.
///
/// # Errors
/// If it does not hold.
pub fn etcd_async_append_aba_race(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3, 4, 5]))?;
    stage.elect(1)?;
    stage.hold_disk(2);
    stage.split(&[1, 2]);
    stage.propose(1, "A")?;
    stage.propose(1, "B")?;
    stage.settle()?;
    stage.heal();
    stage.isolate(1);
    let first = stage.writes(2).len();
    stage.campaign(3)?;
    stage.deliver(|letter| is_to(letter, &[2]))?; // The new term is known before its entries are.
    let term = stage.writes(2).len();
    must(term > first, "the new term is something to be written")?;
    stage.settle()?;
    must(stage.leads(3), "three votes of five elect")?;
    stage.split(&[2, 3]);
    stage.propose(3, "C")?;
    stage.settle()?;
    must(stage.writes(2).len() > term, "the second server replaces what it has")?;
    stage.write(2, term)?;
    let claims = stage.letters(|letter| {
        letter.from == 2 && matches!(letter.kind, Kind::Matched { index } if index > 1)
    });
    must(claims.is_empty(), format_args!("nothing unwritten is claimed: {claims:?}"))?;
    stage.reboot(2)?;
    stage.heal();
    stage.run_for(5 * ELECTION_TIMEOUT_US)?;
    must(stage.view(2).has_applied("C"), "in the end it has the new entries")
}

/// A leader commits with its own copy and one follower's, but its own is still being written; it
/// answers its client and loses its power. The entry's only durable copy is cut off; the others
/// elect a leader that has never seen it.
///
/// Must hold: a leader counts itself once its disk has the entry.
///
/// # Errors
/// If it does not hold.
pub fn leader_counts_its_own_entry_before_it_is_durable(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3]))?;
    stage.elect(1)?;
    stage.hold_disk(1);
    stage.isolate(3);
    let ticket = stage.propose(1, "X")?;
    stage.settle()?;
    let early = stage.outcome(ticket);
    stage.reboot(1)?;
    stage.heal();
    stage.isolate(2);
    stage.elect(3)?;
    stage.commit(3, "Y")?;
    must(early.is_none(), format_args!("one durable copy of three commits nothing: {early:?}"))
}

/// A candidate hears the leader of its term and follows it, and clears its vote with the change of
/// role; asked by a third candidate of the same term it votes again.
///
/// Must hold: a vote changes only when the term rises, whatever becomes of the role.
///
/// # Errors
/// If it does not hold.
pub fn ccf_vote_cleared_when_the_role_changes_within_a_term(stage: &mut Stage<'_>) -> Told {
    stage.found(&Setup::figure_2(&[1, 2, 3, 4, 5]))?;
    for candidate in [1, 2, 3] {
        stage.campaign(candidate)?;
    }
    stage.lose(|letter| letter.from == 1);
    let late = stage.keep_back(|letter| letter.from == 3 && is_to(letter, &[1]));
    let repeated = stage.copy(|letter| letter.from == 2 && is_to(letter, &[1]));
    stage.lose(|letter| letter.from == 3);
    stage.settle()?;
    must(stage.leads(2) && stage.view(1).role == Role::Follower, "the first follows the second")?;
    stage.deliver_kept(&late)?;
    let mut answers = stage.letters(|letter| letter.from == 1);
    must(stage.view(1).vote == Some(1), "it has voted for itself, and still has")?;
    stage.reboot(1)?;
    must(stage.view(1).vote == Some(1), "also after a restart, which forgets the leader")?;
    stage.deliver_kept(&repeated)?;
    answers.extend(stage.letters(|letter| letter.from == 1));
    let granted = Kind::Vote { granted: true };
    must(answers.iter().all(|answer| answer.kind != granted), "nobody else gets its vote")
}

/// One part of a library raises the term when a heartbeat arrives, another part stamps a client's
/// command with the term that it then finds, and the entry claims a term that its author never led.
///
/// Must hold: entries are of terms that had a leader. The stage looks at that after every step; the
/// story brings a later term to a leader that is busy proposing.
///
/// # Errors
/// If it does not hold.
pub fn hashicorp_entries_stamped_with_a_term_never_led(stage: &mut Stage<'_>) -> Told {
    for by_heartbeat in [false, true] {
        stage.found(&Setup::figure_2(&[1, 2, 3]))?;
        stage.elect(1)?;
        stage.hold_disk(1);
        let before = stage.propose(1, "before")?;
        stage.lose(|_| true);
        stage.campaign(2)?;
        if by_heartbeat {
            stage.settle_if(|letter| !is_to(letter, &[1]))?;
            must(stage.leads(2), "the third server's vote elects the second")?;
            stage.lose(|letter| matches!(letter.kind, Kind::RequestVote { .. }));
        }
        stage.deliver(|letter| is_to(letter, &[1]))?;
        let after = stage.propose(1, "after")?;
        stage.release_disk(1)?;
        must(!stage.leads(1), "a later term deposes")?;
        must(stage.is_refused(after), "a deposed leader appends nothing")?;
        stage.settle()?;
        stage.run_for(5 * ELECTION_TIMEOUT_US)?;
        stage.commit_somewhere("in the end")?;
        must(stage.outcome(before).is_some(), "what was accepted before it has an outcome")?;
    }
    Ok(())
}
