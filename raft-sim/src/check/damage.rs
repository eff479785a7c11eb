//! DMG: what a node says of an entry that is damaged elsewhere is true, and nobody makes up what is
//! damaged (Alagappan et al., FAST'18, section 3.4).
//!
//! An answer does not repeat what was asked, so the ghost notes every question. A node that denies an
//! entry gives its word that it will never have acknowledged it: that is a promise like others, and
//! judged as PS. It may be on its disk still if a later leader's entries are about to take its place:
//! that leader was elected without it, so it was not committed before, and the term of the answer is
//! durable.
//!
//! Deliberately absent: who may be believed. What a leader drops on such answers is judged where it
//! drops it (CI, CQ).

use raft_core::{
    EntryId, EntryResult, Envelope, Index, PersistBatch, RepairId, RepairRpc, Rpc, SnapshotMeta,
};

use super::ghost::{Ghost, Node};
use super::violation::{Invariant, Violation};

/// What a node asks its peers for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    wanted: EntryId,
    /// Whether it is a snapshot through that entry.
    is_snapshot: bool,
}

/// A node says something about damage, its own or another one's.
pub(super) fn sent(ghost: &mut Ghost, slot: usize, envelope: &Envelope) -> Result<(), Violation> {
    let Rpc::Repair(rpc) = &envelope.rpc else { return Ok(()) };
    match rpc {
        RepairRpc::RequestEntry { id, wanted, is_snapshot } => {
            let question = Question { wanted: *wanted, is_snapshot: *is_snapshot };
            ghost.nodes[slot].questions.insert(*id, question);
            if let Some(asked) = ghost.find(envelope.to) {
                let asked = &mut ghost.nodes[asked];
                if asked.issued.log.at(wanted.index) != Some(*wanted) {
                    asked.lacked.insert((envelope.from, *id));
                }
            }
            Ok(())
        }
        RepairRpc::RequestEntryResponse { id, result } => {
            let node = &ghost.nodes[slot];
            let question = asked(ghost, envelope, *id).ok_or_else(|| {
                let predicted = format!("{} has asked for something by {id}", envelope.to);
                broken(node, predicted, "it is answered, and has not".to_owned())
            })?;
            // It may have come since, in the very step that answers or while the answer waited for a disk.
            let may_deny = node.lacked.contains(&(envelope.to, *id));
            answered(node, question.wanted, result, may_deny)
        }
        RepairRpc::Barrier
        | RepairRpc::BarrierResponse { .. }
        | RepairRpc::RequestSnapshot { .. }
        | RepairRpc::RequestSnapshotResponse { .. } => Ok(()),
    }
}

/// A node whose disk has lost nothing sends this message.
pub(super) fn sent_by_the_whole(
    ghost: &Ghost,
    slot: usize,
    envelope: &Envelope,
) -> Result<(), Violation> {
    let Rpc::Repair(RepairRpc::RequestEntryResponse { id, result: EntryResult::HaveDamaged }) =
        &envelope.rpc
    else {
        return Ok(());
    };
    let node = &ghost.nodes[slot];
    // Who is asked for a snapshot, and has none that reaches as far, says the same.
    let question = asked(ghost, envelope, *id).filter(|question| !question.is_snapshot);
    let entry = question.map(|question| question.wanted);
    let entry = entry.filter(|wanted| wanted.index > node.compacted);
    let has_it = |wanted: &EntryId| {
        let logs = [&node.durable.log, &node.issued.log];
        logs.iter().all(|log| log.at(wanted.index) == Some(*wanted))
    };
    let is_certain = !node.durable.hard_state.is_tail_unknown;
    match entry.filter(|wanted| is_certain && has_it(wanted)) {
        None => Ok(()),
        Some(wanted) => Err(broken(
            node,
            format!("its disk has {wanted}, and has lost nothing"),
            "it answers that it may have had it and cannot read it".to_owned(),
        )
        .at(wanted.index)),
    }
}

/// A node asks its storage to make a batch durable; the ghost still has what was before it.
pub(super) fn written(node: &Node, batch: &PersistBatch) -> Result<(), Violation> {
    for entry in batch.heal.iter().flat_map(|run| run.iter()) {
        let id = entry.id();
        if node.issued.log.at(id.index) != Some(id) {
            let predicted = format!("what heals is {}", node.issued.log.show(id.index));
            return Err(broken(node, predicted, format!("{id} takes its place")).at(id.index));
        }
    }
    let is_there = |index: &Index| node.issued.log.at(*index) == node.durable.log.at(*index);
    let stays = |index: &Index| batch.truncate_from.is_none_or(|from| *index < from);
    let mut damaged = node.damaged.iter().filter(|index| is_there(index) && stays(index));
    let Some(first) = damaged.next() else { return Ok(()) };
    match batch.append.iter().find(|entry| node.led == Some(entry.term())) {
        None => Ok(()),
        Some(own) => Err(broken(
            node,
            format!("a leader appends nothing before {first}, which is damaged, is whole or gone"),
            format!("it appends {}", own.id()),
        )
        .at(*first)),
    }
}

/// A node has applied entries through `last`.
pub(super) fn applied(node: &Node, last: EntryId) -> Result<(), Violation> {
    match node.damaged.first().filter(|damaged| **damaged <= last.index) {
        None => Ok(()),
        Some(damaged) => Err(broken(
            node,
            format!("it applies what is before {damaged}, which its disk has lost"),
            format!("it has applied {last}"),
        )
        .at(*damaged)),
    }
}

/// What the receiver of an answer has asked for under this name.
fn asked(ghost: &Ghost, envelope: &Envelope, id: RepairId) -> Option<Question> {
    let asker = ghost.find(envelope.to)?;
    ghost.nodes[asker].questions.get(&id).copied()
}

fn answered(
    node: &Node,
    wanted: EntryId,
    result: &EntryResult,
    may_deny: bool,
) -> Result<(), Violation> {
    match result {
        EntryResult::Have { entries } => {
            if entries.len() == 1 && entries[0].id() == wanted {
                return Ok(());
            }
            let found: Vec<String> = entries.iter().map(|entry| entry.id().to_string()).collect();
            let predicted = format!("it was asked for {wanted}");
            Err(broken(node, predicted, format!("it gives {}", found.join(" "))).at(wanted.index))
        }
        EntryResult::HaveSnapshot { snapshot } => covered(node, wanted.index, snapshot),
        EntryResult::DontHave => denied(node, wanted, may_deny),
        EntryResult::HaveDamaged => Ok(()),
    }
}

/// It may be on its way to the disk: who offers a snapshot promises nothing, and nobody counts on it
/// before all of it has come.
fn covered(node: &Node, wanted: Index, snapshot: &SnapshotMeta) -> Result<(), Violation> {
    if snapshot.last.index >= wanted && node.issued.log.holds(snapshot.last) {
        return Ok(());
    }
    let predicted = format!("it has a snapshot that covers {wanted}");
    Err(broken(node, predicted, format!("it names {snapshot}")).at(wanted))
}

/// `may_deny`: it did not have the entry when it was asked.
fn denied(node: &Node, wanted: EntryId, may_deny: bool) -> Result<(), Violation> {
    let actual = if node.durable.hard_state.is_tail_unknown {
        "its disk says that it may have acknowledged more than it holds".to_owned()
    } else if wanted.index <= node.issued.log.base().index {
        format!("its log begins with a snapshot through {}", node.issued.log.base())
    } else if !may_deny && node.issued.log.at(wanted.index) == Some(wanted) {
        format!("its log has {wanted}")
    } else {
        return Ok(());
    };
    let predicted = format!("who denies {wanted} has it not, and would know if it ever had");
    let broken = Violation::new(Invariant::PromiseDurability, predicted, actual);
    Err(broken.on(node.member.id).at(wanted.index))
}

fn broken(node: &Node, predicted: String, actual: String) -> Violation {
    Violation::new(Invariant::Damage, predicted, actual).on(node.member.id)
}
