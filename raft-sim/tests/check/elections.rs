//! Stories about elections and hard state: ES, MT, LC, and the promises of candidates and voters.

use crate::story::{Story, broken, hard_state};
use raft_core::{
    Entries, HardState, Member, MemberStep, Membership, MembershipChange, NodeId, Payload, Rpc,
    Term,
};
use raft_sim::check::Invariant;

#[test]
fn a_term_has_one_leader() {
    let mut story = Story::new(3);
    story.elect(1, 1, &[1, 2]).unwrap();
    story.hard_state(3, 1, None).unwrap();
    story.sync(3).unwrap();
    broken(story.heartbeat(3, 2, 0), Invariant::ElectionSafety, Some(3));

    let mut twin = Story::new(3);
    twin.elect(1, 1, &[1, 2]).unwrap();
    twin.elect(3, 2, &[3, 2]).unwrap();
    twin.heartbeat(3, 2, 0).unwrap();
    twin.heartbeat(1, 2, 0).unwrap();
    assert_eq!(twin.checker.leader(Term(2)), Some(NodeId(3)));
}

#[test]
fn a_leader_has_the_votes_of_a_quorum() {
    let mut story = Story::new(4);
    broken(story.elect(1, 1, &[1, 2]), Invariant::ElectionSafety, Some(1));
    Story::new(4).elect(1, 1, &[1, 2, 3]).unwrap();
}

#[test]
fn a_leader_that_is_deposed_at_once_was_elected_by_the_log_that_it_had_then() {
    // Two of four voters become learners. n1 wins term 2 under the entry that completes this, with
    // the two votes that are a majority from then on. In the same step the leader of term 3, which
    // was elected without that entry, takes it away again.
    let mut story = Story::new(4);
    story.elect(1, 1, &[1, 2, 3]).unwrap();
    let demoted = [3, 4].map(|id| MemberStep::Demote(NodeId(id)));
    let joint = story.founders.changed(&MembershipChange::Steps(demoted.into())).unwrap();
    let left = joint.left();
    let changes = [joint, left].map(|membership| Payload::Membership(membership.into()));
    story.propose(1, 1, changes.into()).unwrap();
    story.sync(1).unwrap();
    story.vote(1, 2, 1).unwrap();
    story.vote(2, 2, 1).unwrap();
    story.noop(1, 2).unwrap();
    let before = story.at(1, 1);
    story.hard_state(1, 3, None).unwrap();
    story.write(1, Some(2), &Entries::after(before, [(Term(3), Payload::Noop)])).unwrap();

    // What was in force in that step justifies nothing in a later one.
    let mut late = story.clone();
    late.commit(1, 0).unwrap();
    broken(late.checker.became_leader(NodeId(1), Term(2)), Invariant::ElectionSafety, Some(1));
    // And nothing in another term.
    let mut other = story.clone();
    broken(other.checker.became_leader(NodeId(1), Term(3)), Invariant::ElectionSafety, Some(1));
    story.checker.became_leader(NodeId(1), Term(2)).unwrap();
}

#[test]
fn a_leader_that_has_restarted_leads_its_term_no_more() {
    let mut story = Story::new(3);
    story.elect(1, 1, &[1, 2]).unwrap();
    let kept = story.actor(1).hard_state;
    story.crash(1, kept, 0).unwrap();
    broken(story.checker.became_leader(NodeId(1), Term(1)), Invariant::ElectionSafety, Some(1));
    story.elect(1, 2, &[1, 2]).unwrap();
}

#[test]
fn a_node_votes_once_in_a_term_across_a_restart() {
    let mut story = Story::new(3);
    story.vote(2, 1, 1).unwrap();
    let kept = story.actor(2).hard_state;
    story.crash(2, kept, 0).unwrap();
    story.grant(2, 1).unwrap();
    broken(story.grant(2, 3), Invariant::ElectionSafety, Some(2));
}

#[test]
fn a_candidate_votes_for_itself() {
    let mut story = Story::new(3);
    story.vote(2, 1, 1).unwrap();
    let last = story.last(2);
    broken(
        story.send(2, 3, Rpc::RequestVote { last, is_forced: false }),
        Invariant::ElectionSafety,
        Some(2),
    );
    story.hard_state(2, 2, Some(2)).unwrap();
    story.sync(2).unwrap();
    story.send(2, 3, Rpc::RequestVote { last, is_forced: false }).unwrap();
}

#[test]
fn a_vote_is_durable_before_it_is_told() {
    let mut story = Story::new(3);
    story.hard_state(2, 1, None).unwrap();
    story.sync(2).unwrap();
    story.hard_state(2, 1, Some(1)).unwrap();
    broken(story.grant(2, 1), Invariant::PromiseDurability, Some(2));
    story.sync(2).unwrap();
    story.grant(2, 1).unwrap();
}

#[test]
fn in_doubt_only_the_vote_that_was_given_before_is_said_again() {
    let mut story = Story::new(3);
    story.hard_state(2, 1, Some(1)).unwrap();
    story.sync(2).unwrap();
    let kept = HardState { is_tail_unknown: true, ..story.actor(2).hard_state };
    story.crash(2, kept, 0).unwrap();
    story.grant(2, 1).unwrap();

    broken(story.hard_state(2, 2, Some(3)), Invariant::PromiseDurability, Some(2));
    story.hard_state(2, 2, None).unwrap();
    broken(story.hard_state(2, 2, Some(3)), Invariant::PromiseDurability, Some(2));
}

#[test]
fn every_message_has_its_term_and_incarnation_on_disk() {
    let refusal = Rpc::RequestVoteResponse { granted: false };
    let mut story = Story::new(3);
    story.hard_state(2, 4, None).unwrap();
    broken(story.send(2, 1, refusal.clone()), Invariant::PromiseDurability, Some(2));
    story.sync(2).unwrap();
    story.send(2, 1, refusal.clone()).unwrap();

    story.actor(2).hard_state.incarnation.0 += 1;
    broken(story.send(2, 1, refusal), Invariant::PromiseDurability, Some(2));
}

#[test]
fn a_candidate_has_the_log_that_it_advertises_on_disk() {
    // The batches are asked for in the wrong order, and only the first one is durable yet.
    let mut story = Story::led();
    story.noop(1, 1).unwrap();
    story.vote(2, 2, 2).unwrap();
    story.follow(2, 1, 2).unwrap();
    let last = story.last(2);
    let end = story.send(2, 3, Rpc::RequestVote { last, is_forced: false });
    broken(end, Invariant::PromiseDurability, Some(2));

    let mut twin = Story::led();
    twin.noop(1, 1).unwrap();
    twin.follow(2, 1, 2).unwrap();
    twin.vote(2, 2, 2).unwrap();
    twin.send(2, 3, Rpc::RequestVote { last, is_forced: false }).unwrap();
}

#[test]
fn hard_state_never_regresses_in_a_batch() {
    let cases = [(4, Some(1), true), (5, Some(2), true), (5, None, true), (6, None, false)];
    for (term, vote, is_broken) in cases {
        let mut story = Story::new(3);
        story.vote(2, 5, 1).unwrap();
        let end = story.hard_state(2, term, vote);
        if is_broken {
            broken(end, Invariant::MonotonicTerms, Some(2));
        } else {
            end.unwrap();
        }
    }
}

#[test]
fn hard_state_never_regresses_across_a_crash() {
    let candidate = Member::new(1, 101);
    let lost = [
        hard_state(4, 1, None),
        hard_state(5, 1, None),
        hard_state(5, 1, Some(Member::new(3, 103))),
        hard_state(5, 0, Some(candidate)),
    ];
    for kept in lost {
        let mut story = Story::new(3);
        story.vote(2, 5, 1).unwrap();
        broken(story.crash(2, kept, 0), Invariant::MonotonicTerms, Some(2));
    }
    let mut twin = Story::new(3);
    twin.vote(2, 5, 1).unwrap();
    twin.crash(2, hard_state(5, 1, Some(candidate)), 0).unwrap();
}

#[test]
fn a_start_has_an_incarnation_of_its_own() {
    let mut story = Story::new(3);
    let found = story.found(2);
    story.checker.crashed(NodeId(2));
    story.checker.recovered(NodeId(2), &found).unwrap();
    let mut twin = story.clone();
    // The batches of a life that has not raised it would continue those of the life before.
    broken(story.hard_state(2, 1, None), Invariant::MonotonicTerms, Some(2));
    twin.raise_incarnation(2);
    twin.hard_state(2, 1, None).unwrap();
}

#[test]
fn a_leader_has_all_that_was_committed_before_its_term() {
    let mut story = Story::led();
    story.noop(1, 1).unwrap();
    story.sync(1).unwrap();
    story.replicate(1, 2, 2).unwrap();
    story.commit(1, 2).unwrap();
    // n3 has only the first entry; a voter that does not compare logs elects it.
    broken(story.elect(3, 2, &[3, 2]), Invariant::LeaderCompleteness, Some(3));

    let mut twin = Story::led();
    twin.noop(1, 1).unwrap();
    twin.sync(1).unwrap();
    twin.replicate(1, 2, 2).unwrap();
    twin.commit(1, 2).unwrap();
    twin.elect(2, 2, &[3, 2]).unwrap();
}

#[test]
fn a_leader_that_learns_late_of_its_election_owes_nothing_of_later_terms() {
    let mut story = Story::new(3);
    story.vote(1, 1, 1).unwrap();
    story.vote(2, 1, 1).unwrap();
    story.elect(3, 2, &[3, 2]).unwrap();
    story.noop(3, 2).unwrap();
    story.sync(3).unwrap();
    story.replicate(3, 2, 1).unwrap();
    story.commit(3, 1).unwrap();
    // Only now the old vote arrives: n1 leads term 1, with an empty log, and can do no harm.
    story.checker.became_leader(NodeId(1), Term(1)).unwrap();
    story.noop(1, 1).unwrap();
    story.sync(1).unwrap();
    broken(story.commit(1, 1), Invariant::CommitImmutable, Some(1));
}

#[test]
fn nobody_becomes_a_voter_who_lacks_too_much() {
    let added = |lag_max: u64| {
        let mut story = Story::led();
        story.checker.expect_promotion(lag_max);
        story.propose(1, 1, vec![Payload::Noop; 4]).unwrap();
        story.sync(1).unwrap();
        story.replicate(1, 2, 2).unwrap();
        story.commit(1, 5).unwrap();
        let mut voters = story.founders.incoming().to_vec();
        voters.push(Member::new(4, 104));
        let larger = Membership::new(voters, vec![]).unwrap();
        story.propose(1, 1, vec![Payload::Membership(larger.into())])
    };
    // The new one has nothing at all, and five entries are committed.
    broken(added(4), Invariant::Configuration, Some(1));
    added(5).unwrap();
}
