//! What one step of one node means for the group, and the promises that its own disk can judge.

mod belief;
mod claims;
#[cfg(test)]
pub(crate) mod forbidden;

use std::sync::Arc;

use raft_core::{
    Effect, EntryId, HaltReason, Index, Member, Membership, Observation, Outcome, PersistBatch,
    RepairRpc, RoleName, Rpc, Status, Term, Ticket,
};

pub(crate) use belief::Belief;

use super::host::{Host, Input};
use crate::check::Invariant;
use crate::ideal_disk::{Disk, Loss};

/// Something that the history of the group must agree with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fact {
    /// The node has become the leader of its term.
    Leads,
    /// Entries have joined its log.
    Appends(Vec<EntryId>),
    /// Entries have left its log.
    Truncates(Vec<EntryId>),
    /// It holds everything through this entry for committed, as it was told or has found.
    Commits(EntryId),
    /// As the leader of its term it has found that everything through this entry is committed. It may
    /// have ceased to lead with that: if what is committed removes it.
    Counts { id: EntryId, quorum: Arc<Membership> },
    /// Its state machine has taken these entries.
    Applies(Vec<EntryId>),
    /// Its state machine has taken over a snapshot.
    Restores(EntryId),
    /// A client's command was accepted, as this entry.
    Proposes { ticket: Ticket, id: EntryId },
    /// A client was told that its command or change is committed here.
    Acknowledges { ticket: Ticket, term: Term, index: Index },
    /// A client was told that its command will never be committed.
    Supersedes(Ticket),
    /// A read was accepted.
    Asks(Ticket),
    /// A read is answered at this index.
    Answers { ticket: Ticket, index: Index },
    /// It may answer by a lease for a while.
    Lends,
    /// A request ends without an answer.
    Ends(Ticket),
    /// It starts again: what was open is forgotten.
    Restarts,
    /// Its disk has lost these entries, which were durable.
    Loses(Vec<EntryId>),
    /// It knows again that it has all that it ever acknowledged, since its log equals that of its
    /// term's leader through this index.
    Knows { through: Index },
    /// As a leader it holds this for acknowledged, and has not before.
    Believes(Vec<Belief>),
    /// Its disk no longer has, in the same life, what was durable there.
    Rewrites,
    /// As a leader it drops this entry, which is damaged here: so many of these voters never had it
    /// that it cannot be committed.
    Discards { id: EntryId, voters: Arc<[Member]> },
    /// The membership in force here may be another one: it changes, or the log names others, or it is
    /// found at a start.
    Reconfigures,
}

/// A promise that is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The invariant.
    pub id: &'static str,
    /// What contradicts it.
    pub what: String,
}

pub(crate) fn broken<T>(id: &'static str, what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { id, what: what.into() })
}

/// What is broken if the product panics. It is no invariant of Raft.
pub(crate) const PANIC: &str = "PANIC";

/// The product has panicked, with this message.
pub(crate) fn panicked(message: &str) -> Broken {
    Broken { id: PANIC, what: format!("the product panics: {message}") }
}

impl Broken {
    /// What the invariant says, in one sentence.
    pub(crate) fn meaning(&self) -> &'static str {
        let found = Invariant::ALL.into_iter().find(|invariant| invariant.id() == self.id);
        found.map_or("the product never panics", Invariant::meaning)
    }
}

/// Judges a step of one node by its own disk and its own past.
///
/// # Errors
/// The promise that the step breaks.
pub(crate) fn of_step(
    before: Option<&Host>,
    input: Option<&Input>,
    effects: &[Effect],
    after: &Host,
) -> Result<Vec<Fact>, Broken> {
    let status = after.raft.status();
    let mut facts = Vec::new();
    let is_restart = matches!(input, None | Some(Input::Crash { .. }));
    if is_restart {
        facts.push(Fact::Restarts);
    }
    if let (Some(before), Some(Input::Crash { loss: Some(Loss::Tail(from)), .. })) = (before, input)
    {
        facts.push(Fact::Loses(before.disk.ids().filter(|id| id.index >= *from).collect()));
    }
    if let Some(before) = before {
        moves(before, input, after, &status, &mut facts)?;
    }
    facts.extend(belief::new(before.filter(|_| !is_restart), after));
    if before.is_some_and(|before| !is_restart && rewrites(&before.disk, &after.disk)) {
        facts.push(Fact::Rewrites);
    }
    for effect in effects {
        judge(effect, before, input, after, &mut facts)?;
    }
    claims::denials(input, effects, after)?;
    claims::lease(input, effects, after)?;
    image(before, input, effects, after)?;
    hands_out(before.filter(|_| !is_restart), effects, after)?;
    if let Some(Input::Propose { number }) = input {
        let ticket = super::host::propose(*number);
        if !facts.contains(&Fact::Ends(ticket)) {
            facts.push(Fact::Proposes { ticket, id: status.last });
        }
    }
    if let Some(Input::Read { number }) = input {
        let ticket = super::host::read(*number);
        if !facts.contains(&Fact::Ends(ticket)) {
            // It was asked before anything that this step has answered.
            facts.insert(0, Fact::Asks(ticket));
        }
    }
    #[cfg(test)]
    forbidden::judge(&facts, after)?;
    Ok(facts)
}

/// Terms, votes, roles, logs and commit indexes, before and after.
fn moves(
    before: &Host,
    input: Option<&Input>,
    after: &Host,
    status: &Status,
    facts: &mut Vec<Fact>,
) -> Result<(), Broken> {
    let is_restart = matches!(input, None | Some(Input::Crash { .. }));
    let old = before.raft.status();
    let (was, is) = (before.disk.hard_state(), after.disk.hard_state());
    if is.term < was.term || (is.term == was.term && was.vote.is_some() && is.vote != was.vote) {
        return broken("MT", format!("{was} on the disk becomes {is}"));
    }
    if !is_restart && status.term < old.term {
        return broken("MT", format!("{} becomes {}", old.term, status.term));
    }
    if !is_restart && status.term == old.term && old.vote.is_some() && status.vote != old.vote {
        return broken("ES", format!("the vote of {} is given twice", status.term));
    }
    let is_given = status.vote.is_some() && (status.term, status.vote) != (old.term, old.vote);
    if !is_restart && old.is_tail_unknown && status.is_tail_unknown && is_given {
        return broken(
            "PS",
            format!("who does not know the end of its log votes in {}", status.term),
        );
    }
    if status.role == RoleName::Leader && (old.role != RoleName::Leader || old.term < status.term) {
        facts.push(Fact::Leads);
    }
    let log = |host: &Host, status: &Status| -> Vec<EntryId> {
        let span = status.base.index.0 + 1..=status.last.index.0;
        span.filter_map(|index| host.raft.entry_id(Index(index))).collect()
    };
    if old.last != status.last || old.base != status.base {
        let (old_log, log) = (log(before, &old), log(after, status));
        let lost = old_log.iter().filter(|id| {
            id.index > status.base.index && after.raft.entry_id(id.index) != Some(**id)
        });
        let lost: Vec<EntryId> = lost.copied().collect();
        // What a crash loses was not durable; nobody was promised anything of it.
        if !lost.is_empty() && !is_restart {
            facts.push(Fact::Truncates(lost));
        }
        let new = log.iter().filter(|id| before.raft.entry_id(id.index) != Some(**id));
        let new: Vec<EntryId> = new.copied().collect();
        if !new.is_empty() {
            if !is_restart && status.role == RoleName::Leader && after.is_hurt() {
                return broken(
                    "DMG",
                    format!("{} appends as a leader, and is damaged", status.member),
                );
            }
            facts.push(Fact::Appends(new));
        }
    }
    if !is_restart && status.commit < old.commit {
        return broken(
            "CI",
            format!("the commit index falls from {} to {}", old.commit, status.commit),
        );
    }
    if status.commit > old.commit || is_restart {
        facts.extend(commits(before, input, after, status));
    }
    // A node that does not follow its log says so by nothing that it tells of itself.
    if is_restart
        || status.membership != old.membership
        || before.memberships() != after.memberships()
    {
        facts.push(Fact::Reconfigures);
    }
    Ok(())
}

/// What is committed as this server knows now: counted by the leader of the term, or told.
fn commits(before: &Host, input: Option<&Input>, after: &Host, status: &Status) -> Vec<Fact> {
    let is_restart = matches!(input, None | Some(Input::Crash { .. }));
    let old = before.raft.status();
    let is_leader =
        [&old, status].iter().any(|one| one.role == RoleName::Leader && one.term == status.term);
    let is_counted = is_leader && !is_restart && told(input) != Some(status.commit);
    let Some(id) = after.raft.entry_id(status.commit) else { return Vec::new() };
    // Which membership that is the log says, whatever the node holds for its membership.
    let newest = if is_counted { before.memberships().pop() } else { None };
    let Some((since, quorum)) = newest else { return vec![Fact::Commits(id)] };
    if let Some((left, next)) = leaves((since, &quorum), old.commit, after, status) {
        let left = Fact::Counts { id: left, quorum };
        return vec![left, Fact::Counts { id, quorum: next }];
    }
    vec![Fact::Counts { id, quorum }]
}

/// In the step that commits a joint membership its leader leaves it, and what stands behind it is
/// counted by the next one from then on (§6: a server uses the newest in its log). So the joint one
/// must have been counted by its own quorums, through the first entry of this term that commits it,
/// and only the rest by the next one: what both are, if there is such a rest.
fn leaves(
    (since, joint): (Index, &Membership),
    known: Index,
    after: &Host,
    status: &Status,
) -> Option<(EntryId, Arc<Membership>)> {
    if !joint.is_joint() || known >= since {
        return None;
    }
    let (at, next) = after.memberships().pop()?;
    if at <= since {
        return None;
    }
    let mut behind = (since.0..status.commit.0).filter_map(|at| after.raft.entry_id(Index(at)));
    behind.find(|id| id.term == status.term).map(|id| (id, next))
}

/// Through where all is committed as somebody says, of whom a leader believes it too: it misses a
/// snapshot through there, or has one.
fn told(input: Option<&Input>) -> Option<Index> {
    let Some(Input::Deliver(letter)) = input else { return None };
    let Rpc::Repair(rpc) = &letter.rpc else { return None };
    match rpc {
        RepairRpc::RequestEntry { wanted, is_snapshot: true, .. } => Some(wanted.index),
        RepairRpc::RequestSnapshotResponse { snapshot, .. } => Some(snapshot.last.index),
        RepairRpc::RequestEntry { is_snapshot: false, .. }
        | RepairRpc::RequestEntryResponse { .. }
        | RepairRpc::RequestSnapshot { .. }
        | RepairRpc::Barrier
        | RepairRpc::BarrierResponse { .. } => None,
    }
}

/// Whether anything is gone from a disk that could be read there: to be covered by a snapshot is not
/// to be gone.
fn rewrites(before: &Disk, after: &Disk) -> bool {
    before.ids().any(|id| before.has_intact(id) && !after.has_intact(id))
}

/// How far the log of a server had to equal the leader's so that its doubt could end with this input.
fn barrier(before: Option<&Host>, input: Option<&Input>) -> Index {
    let known = before.and_then(|host| host.raft.status().barrier);
    let told = if let Some(Input::Deliver(letter)) = input
        && let Rpc::Repair(RepairRpc::BarrierResponse { index, .. }) = letter.rpc
    {
        Some(index)
    } else {
        None
    };
    let lowest = known.into_iter().chain(told).min();
    lowest.expect("a doubt ends by an answer")
}

fn judge(
    effect: &Effect,
    before: Option<&Host>,
    input: Option<&Input>,
    after: &Host,
    facts: &mut Vec<Fact>,
) -> Result<(), Broken> {
    match effect {
        Effect::Send(envelope) => claims::durable(envelope, after),
        Effect::Persist(batch) => persists(batch, before, input, after),
        Effect::Apply { entries } => {
            let ids: Vec<EntryId> = entries.iter().map(raft_core::Entry::id).collect();
            if let Some(id) = ids.iter().find(|id| !after.disk.has_intact(**id)) {
                return broken("PS", format!("{id} is applied and not durable here"));
            }
            facts.push(Fact::Applies(ids));
            Ok(())
        }
        Effect::RestoreState { snapshot } => {
            if after.disk.snapshot() != snapshot.last {
                return broken("PS", format!("{snapshot} is restored and not durable here"));
            }
            facts.push(Fact::Restores(snapshot.last));
            Ok(())
        }
        Effect::Outcome { ticket, outcome } => {
            match *outcome {
                Outcome::Committed { term, index } => {
                    facts.push(Fact::Acknowledges { ticket: *ticket, term, index });
                }
                Outcome::Superseded => facts.push(Fact::Supersedes(*ticket)),
                Outcome::Unknown
                | Outcome::Transferred { .. }
                | Outcome::Refused(_)
                | Outcome::Halted => {}
            }
            facts.push(Fact::Ends(*ticket));
            Ok(())
        }
        Effect::ReadReady { ticket, index, valid_until } => {
            facts.extend(valid_until.map(|_| Fact::Lends));
            facts.push(Fact::Answers { ticket: *ticket, index: *index });
            Ok(())
        }
        Effect::Observe(Observation::Violation(violation)) => {
            broken("LM", format!("the node sees {violation:?}"))
        }
        Effect::Observe(Observation::TailCertain) => {
            facts.push(Fact::Knows { through: barrier(before, input) });
            Ok(())
        }
        Effect::Observe(Observation::EntryDiscarded { id }) => {
            let known = before.map(Host::memberships).unwrap_or_default();
            let in_force = known.iter().rfind(|(index, _)| *index <= id.index);
            let voters = in_force.map(|(_, known)| known.incoming().into()).unwrap_or_default();
            facts.push(Fact::Discards { id: *id, voters });
            Ok(())
        }
        Effect::Observe(Observation::Halted {
            reason: reason @ HaltReason::CommittedLost { .. },
        }) => {
            // It would be dropped if the node had not heard that it is committed.
            broken("CI", format!("a committed entry was ruled out: {reason:?}"))
        }
        Effect::Load(_) | Effect::ReadChunk(_) | Effect::StageChunk { .. } | Effect::Observe(_) => {
            Ok(())
        }
    }
}

/// The bytes of a snapshot are the state that it says: looked at when they come to be the newest ones
/// on the disk, or take the place of what cannot be read, and when a state machine takes them. A host
/// makes them of the chain of the last entry.
fn image(
    before: Option<&Host>,
    input: Option<&Input>,
    effects: &[Effect],
    after: &Host,
) -> Result<(), Broken> {
    let last = after.disk.snapshot();
    let is_restored = effects.iter().any(|effect| matches!(effect, Effect::RestoreState { .. }));
    let is_same = |before: &Host| {
        let is_damaged = |host: &Host| host.disk.is_snapshot_damaged();
        before.disk.snapshot() == last && is_damaged(before) == is_damaged(after)
    };
    let is_lost = matches!(input, Some(Input::Crash { loss: Some(Loss::Snapshot), .. }));
    let is_new = !is_lost && !before.is_some_and(is_same);
    let right = if last.index == Index::ZERO { Vec::new() } else { Host::image_of(last) };
    if (is_new || is_restored) && after.disk.image(last) != Some(&right) {
        return broken("SM", format!("the bytes of the snapshot through {last} are not its state"));
    }
    Ok(())
}

/// In one life the state machine is handed every index once, in order; it begins with the snapshot on
/// the disk, if there is one. The host applies at once, so what the node holds for applied is what
/// was handed out before.
fn hands_out(before: Option<&Host>, effects: &[Effect], after: &Host) -> Result<(), Broken> {
    let mut applied = match before {
        Some(before) => before.raft.status().applied,
        None => Index::ZERO,
    };
    for effect in effects {
        if let Effect::RestoreState { snapshot } = effect {
            if snapshot.last.index < applied {
                return broken("SM", format!("{snapshot} is restored, and {applied} is applied"));
            }
            applied = snapshot.last.index;
        }
        let Effect::Apply { entries } = effect else { continue };
        for entry in entries.iter() {
            if entry.index() != applied.next() {
                return broken("SM", format!("{} is applied after {applied}", entry.id()));
            }
            applied = entry.index();
        }
    }
    let known = after.raft.status().applied;
    if known == applied {
        Ok(())
    } else {
        broken("SM", format!("{known} counts as applied, and {applied} was handed out"))
    }
}

/// What is to be written never takes back a term or a vote that is on its way or durable.
fn persists(
    batch: &PersistBatch,
    before: Option<&Host>,
    input: Option<&Input>,
    after: &Host,
) -> Result<(), Broken> {
    let (Some(new), Some(before)) = (batch.hard_state, before) else { return Ok(()) };
    let is_restart = matches!(input, None | Some(Input::Crash { .. }));
    let on_its_way = before.unsynced.iter().rev().find_map(|batch| batch.hard_state);
    let old = on_its_way.filter(|_| !is_restart).unwrap_or_else(|| after.disk.hard_state());
    let is_vote_lost = new.term == old.term && old.vote.is_some() && new.vote != old.vote;
    if new.term < old.term || is_vote_lost || new.incarnation < old.incarnation {
        return broken("MT", format!("{old} is to be replaced by {new}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
