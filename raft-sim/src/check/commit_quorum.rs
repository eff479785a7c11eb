//! CQ: an entry is committed by a quorum's acknowledgements, under the term rule (§5.3, §5.4.2).
//!
//! Only a leader can know of a commit that nobody knew of before. When one shows a higher commit
//! index than any node has shown, this looks for what justifies it: an index at or above it whose
//! entry is of the leader's own term, through which a majority of every half of the leader's
//! membership has acknowledged its log, the leader itself by what is on its disk. What passes is
//! recorded, and is the truth from then on.

use raft_core::{AppendResult, Envelope, Index, Rpc, Term};

use super::commit_immutable;
use super::ghost::Ghost;
use super::violation::{Invariant, Violation};

/// A node acknowledges a leader's log; that it may do so is judged elsewhere.
pub(super) fn acknowledged(ghost: &mut Ghost, slot: usize, envelope: &Envelope) {
    let Rpc::AppendEntriesResponse { result: AppendResult::Matched { index }, .. } = envelope.rpc
    else {
        return;
    };
    let reign = ghost.reigns.get_mut(envelope.term);
    if let Some(reign) = reign.filter(|reign| reign.leader == envelope.to.id) {
        reign.acknowledge(slot, index);
    }
}

/// A node shows that it knows everything through `commit` to be committed.
pub(super) fn claimed(ghost: &mut Ghost, slot: usize, commit: Index) -> Result<(), Violation> {
    if commit <= ghost.nodes[slot].commit {
        return Ok(());
    }
    let known = ghost.committed.last();
    commit_immutable::claimed(ghost, slot, commit.min(known.index))?;
    if commit > known.index {
        let by = justify(ghost, slot, commit)?;
        let log = &ghost.nodes[slot].issued.log;
        for index in known.index.0 + 1..=commit.0 {
            let id = log.at(Index(index)).expect("a justified commit is in its leader's log");
            let membership = log.membership_at(id.index);
            ghost.committed.push(id, by, membership);
        }
    }
    ghost.nodes[slot].commit = commit;
    Ok(())
}

/// The term in which the node that leads may commit through `commit`.
fn justify(ghost: &Ghost, slot: usize, commit: Index) -> Result<Term, Violation> {
    let node = &ghost.nodes[slot];
    let broken = |predicted: String, actual: String| {
        Violation::new(Invariant::CommitQuorum, predicted, actual).on(node.member.id).at(commit)
    };
    let Some(reign) = node.led.and_then(|term| ghost.reigns.get(term)) else {
        return Err(broken(
            format!("a node that leads no term knows at most {}", ghost.committed.last_index()),
            format!("it knows {commit} to be committed"),
        ));
    };
    let log = &node.issued.log;
    let reached = |other: usize| {
        if other == slot { node.durable.log.agreement(log) } else { reign.acknowledged(other) }
    };
    let quorum = in_force_quorum(ghost, slot, reached);
    let Some(evidence) = log.at(quorum).filter(|_| commit <= quorum) else {
        let members = ghost.nodes.iter().enumerate();
        let reached: Vec<String> =
            members.map(|(slot, node)| format!("{}={}", node.member, reached(slot))).collect();
        return Err(broken(
            format!("in {} a quorum has acknowledged at most {quorum}", reign.term),
            format!("the leader has committed {commit}; acknowledged: {}", reached.join(" ")),
        ));
    };
    if evidence.term != reign.term {
        return Err(broken(
            format!("the leader of {0} commits through an entry of {0}", reign.term),
            format!("the last entry that a quorum has acknowledged is {evidence}"),
        ));
    }
    Ok(reign.term)
}

/// How far a quorum has got, by the membership in force.
///
/// What a replica does at once is more than one step of its core: the leader commits one membership
/// by its own rule, appends the next one, and may go on by that one's. So a membership that was
/// appended just now counts for what stands after the one before it.
fn in_force_quorum(ghost: &Ghost, slot: usize, reached: impl Fn(usize) -> Index + Copy) -> Index {
    let node = &ghost.nodes[slot];
    let memberships = node.issued.log.memberships();
    let [.., (since, before), (_, newest)] = memberships else {
        return ghost.quorum_index(node.issued.log.membership(), reached);
    };
    let by_newest = ghost.quorum_index(newest, reached);
    if !node.is_changing {
        return by_newest;
    }
    let by_older = ghost.quorum_index(before, reached);
    if by_older < *since { by_older } else { by_older.max(by_newest) }
}
