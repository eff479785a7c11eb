//! CF: which memberships may follow each other, when, and which is in force (§6, thesis §4).
//!
//! The newest membership in a log is in force, committed or not; of those that can be read, if a disk
//! has lost both copies of one, and then the node does not lead. Every two that follow each other
//! in a log have no disjoint quorums; that is looked for among all sets of their voters, not taken
//! from the rule that joint memberships are made by. A leader appends one only after an entry of
//! its own term is committed (Ongaro's correction of 2015), once the one before it is, and with
//! nobody as a new voter who still lacks too much.

use std::sync::Arc;

use raft_core::{Index, Member, Membership, Payload, PersistBatch, Term};

use super::ghost::Ghost;
use super::violation::{Invariant, Violation};

/// A node appends entries to its log, which is as the rest of the batch has left it.
pub(super) fn appended(
    ghost: &mut Ghost,
    slot: usize,
    batch: &PersistBatch,
) -> Result<(), Violation> {
    let mut before = ghost.nodes[slot].issued.log.membership();
    let mut is_changing = false;
    for entry in batch.append.iter() {
        let Payload::Membership(membership) = entry.payload() else { continue };
        may_follow(before, membership)
            .and_then(|()| have_caught_up(ghost, slot, (before, membership), entry.term()))
            .map_err(|broken| broken.on(ghost.nodes[slot].member.id).at(entry.index()))?;
        before = membership;
        is_changing = true;
    }
    ghost.nodes[slot].is_changing |= is_changing;
    Ok(())
}

/// No decision by the one passes by the other.
fn may_follow(before: &Membership, membership: &Membership) -> Result<(), Violation> {
    let Some(quorum) = disjoint_quorum(before, membership) else { return Ok(()) };
    let shown: Vec<String> = quorum.iter().map(ToString::to_string).collect();
    Err(Violation::new(
        Invariant::Configuration,
        format!("every quorum of {before} meets every quorum of the next membership"),
        format!("[{}] decides the one, the others decide {membership}", shown.join(" ")),
    ))
}

/// Whoever becomes a voter has come near enough to what its leader knows to be committed (thesis
/// §4.2.1). The leader was told so by the member, so it knows of no more than its disk has ever had.
fn have_caught_up(
    ghost: &Ghost,
    slot: usize,
    (before, membership): (&Membership, &Membership),
    term: Term,
) -> Result<(), Violation> {
    let leader = &ghost.nodes[slot];
    if leader.led != Some(term) || leader.issued.hard_state.term != term {
        return Ok(());
    }
    let needed = Index(leader.commit.0.saturating_sub(ghost.promotion_lag_max));
    let voters = membership.incoming().iter().copied();
    for voter in voters.filter(|voter| !before.is_voter(*voter) && *voter != leader.member) {
        let reached = ghost.find(voter).map_or(Index::ZERO, |at| ghost.nodes[at].reached);
        if reached < needed {
            return Err(Violation::new(
                Invariant::Configuration,
                format!("{voter} becomes a voter when its log has come to {needed}"),
                format!("its disk never had more than through {reached}"),
            ));
        }
    }
    Ok(())
}

/// The membership that a node shows at the end of a step, with its commit index known.
pub(super) fn in_force(
    ghost: &mut Ghost,
    slot: usize,
    membership: &Arc<Membership>,
) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    let newest_first = node.issued.log.memberships().iter().rev();
    let mut read = newest_first.filter(|(at, _)| !node.unread.contains(at));
    let (_, newest) = read.next().expect("the base has a membership");
    if !Arc::ptr_eq(newest, membership) && newest != membership {
        return Err(Violation::new(
            Invariant::Configuration,
            format!("the newest membership in its log is in force: {newest}"),
            format!("it goes by {membership}"),
        )
        .on(node.member.id));
    }
    if node.is_changing {
        is_in_turn(ghost, slot)?;
        ghost.nodes[slot].is_changing = false;
    }
    Ok(())
}

/// The newest membership of a log came after a commit of its term, and after the commit of the one
/// before it.
fn is_in_turn(ghost: &Ghost, slot: usize) -> Result<(), Violation> {
    let node = &ghost.nodes[slot];
    let log = &node.issued.log;
    let [.., (previous, _), (index, _)] = log.memberships() else { return Ok(()) };
    let broken = |predicted: String, actual: String| {
        Err(Violation::new(Invariant::Configuration, predicted, actual)
            .on(node.member.id)
            .at(*index))
    };
    if *previous > ghost.committed.last_index() {
        return broken(
            format!("a membership follows the one at {previous} once that is committed"),
            format!("the log is committed through {}", ghost.committed.last_index()),
        );
    }
    let term = log.at(*index).map(|id| id.term);
    let committed = log.at(node.commit).map(|id| id.term);
    // One that it loses and gets back from a later leader is not its change any more.
    if term == node.led && committed < term {
        let term = term.unwrap_or_default();
        return broken(
            format!("the leader of {term} changes the membership after a commit of {term}"),
            format!("it knows its log to be committed through {}", node.commit),
        );
    }
    Ok(())
}

/// A quorum of `one` whose complement contains a quorum of `other`, if there is any.
fn disjoint_quorum(one: &Membership, other: &Membership) -> Option<Vec<Member>> {
    let mut voters: Vec<Member> =
        [one.incoming(), one.outgoing(), other.incoming(), other.outgoing()]
            .into_iter()
            .flatten()
            .copied()
            .collect();
    voters.sort_unstable();
    voters.dedup();
    if one.is_empty() || other.is_empty() {
        return None;
    }
    let halves = |membership: &Membership| {
        [mask(&voters, membership.incoming()), mask(&voters, membership.outgoing())]
    };
    let (one, other) = (halves(one), halves(other));
    let all = (1u64 << voters.len()) - 1;
    let set = (0..=all).find(|set| decides(one, *set) && decides(other, all & !*set))?;
    let is_in = |position: usize| set >> position & 1 == 1;
    Some((0..voters.len()).filter(|&at| is_in(at)).map(|at| voters[at]).collect())
}

/// The positions of `members` among `voters`, as bits.
fn mask(voters: &[Member], members: &[Member]) -> u64 {
    let is_in = |voter: &Member| u64::from(members.contains(voter));
    voters.iter().rev().fold(0, |mask, voter| mask << 1 | is_in(voter))
}

/// Whether a set of voters has a majority of every half; an empty half has no say.
fn decides(halves: [u64; 2], set: u64) -> bool {
    halves.iter().all(|half| (half & set).count_ones() * 2 > half.count_ones() || *half == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[u64]) -> Vec<Member> {
        ids.iter().map(|&id| Member::new(id, id)).collect()
    }

    fn simple(ids: &[u64]) -> Membership {
        Membership::new(members(ids), vec![]).unwrap()
    }

    #[test]
    fn one_voter_more_or_less_keeps_quorums_meeting_and_two_do_not() {
        assert_eq!(disjoint_quorum(&simple(&[1, 2, 3]), &simple(&[1, 2, 3, 4])), None);
        assert_eq!(disjoint_quorum(&simple(&[1, 2, 3]), &simple(&[1, 2])), None);
        let apart = disjoint_quorum(&simple(&[1, 2, 3]), &simple(&[1, 4, 5])).unwrap();
        assert_eq!(apart, members(&[1, 2]));
        assert!(disjoint_quorum(&simple(&[1, 2, 3]), &simple(&[1, 2, 3, 4, 5])).is_some());
    }

    #[test]
    fn a_joint_membership_meets_both_of_its_neighbours() {
        use raft_core::{MemberStep, MembershipChange};
        let learners = members(&[4, 5, 6]);
        let before = Membership::new(members(&[1, 2, 3]), learners.clone()).unwrap();
        let replace = |(old, new): (u64, &Member)| MemberStep::Replace {
            old: raft_core::NodeId(old),
            new: new.id,
        };
        let steps: Vec<MemberStep> = (1..=3).zip(&learners).map(replace).collect();
        let joint = before.changed(&MembershipChange::Steps(steps)).unwrap();
        assert_eq!(disjoint_quorum(&before, &joint), None);
        assert_eq!(disjoint_quorum(&joint, &joint.left()), None);
        assert!(disjoint_quorum(&before, &joint.left()).is_some());
    }
}
