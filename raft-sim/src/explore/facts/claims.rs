//! What a message says of its sender must be true of the sender's disk.

use raft_core::{AppendResult, Effect, EntryResult, Envelope, RepairRpc, Rpc, Span};

use super::{Broken, broken};
use crate::explore::host::{Host, Input};

/// Who says that it never had an entry, has it not, damaged or not, and would know if it ever had
/// acknowledged it. It may still be on its disk if a later leader's entries are about to take its
/// place. (A server that must wait for its disk before it says so is not looked at: what it was asked
/// for is in an earlier step.)
pub(super) fn denials(
    input: Option<&Input>,
    effects: &[Effect],
    after: &Host,
) -> Result<(), Broken> {
    let Some(Input::Deliver(letter)) = input else { return Ok(()) };
    let Rpc::Repair(RepairRpc::RequestEntry { id: asked, wanted, .. }) = letter.rpc else {
        return Ok(());
    };
    let is_nack = |effect: &Effect| {
        let Effect::Send(envelope) = effect else { return false };
        let Rpc::Repair(RepairRpc::RequestEntryResponse { id, result }) = &envelope.rpc else {
            return false;
        };
        *id == asked && *result == EntryResult::DontHave
    };
    if !effects.iter().any(is_nack) {
        return Ok(());
    }
    let is_covered = wanted.index <= after.raft.status().base.index;
    if is_covered || after.raft.entry_id(wanted.index) == Some(wanted) {
        return broken("PS", format!("{wanted} is denied, and in the log"));
    }
    if after.disk.hard_state().is_tail_unknown {
        return broken("PS", format!("{wanted} is denied by who does not know the end of its log"));
    }
    Ok(())
}

/// Promise durability: what a message says of its sender is on the sender's disk.
pub(super) fn durable(envelope: &Envelope, sender: &Host) -> Result<(), Broken> {
    let disk = &sender.disk;
    let hard_state = disk.hard_state();
    let ps = |what: &str| broken("PS", format!("{what} is not durable: {envelope}"));
    if hard_state.term < envelope.term {
        return ps("the term");
    }
    if hard_state.incarnation < envelope.incarnation {
        return ps("the incarnation");
    }
    // A vote that is overtaken by a later term is not told any more.
    let is_present = hard_state.term == envelope.term;
    // In doubt a vote that was given before is said again, and that is all.
    let is_said_again = sender.raft.status().is_tail_unknown
        && matches!(envelope.rpc, Rpc::RequestVoteResponse { .. });
    if hard_state.is_tail_unknown && is_election(&envelope.rpc) && !is_said_again {
        return broken("PS", format!("who does not know the end of its log votes: {envelope}"));
    }
    match &envelope.rpc {
        Rpc::RequestVote { last, is_forced: _ } => {
            if !is_present || hard_state.vote != Some(envelope.from) {
                return ps("the own vote");
            }
            if !disk.holds(*last) {
                return ps("the log that is advertised");
            }
        }
        Rpc::RequestVoteResponse { granted: true } => {
            if !is_present || hard_state.vote != Some(envelope.to) {
                return ps("the vote");
            }
        }
        Rpc::AppendEntriesResponse { result: AppendResult::Matched { index }, .. } => {
            let mine = sender.raft.entry_id(*index);
            let is_there = match mine {
                Some(id) => disk.holds(id),
                None => *index <= disk.last().index,
            };
            if !is_there || !disk.is_intact_through(*index) {
                return ps("what is acknowledged");
            }
        }
        Rpc::RequestVoteResponse { granted: false }
        | Rpc::AppendEntriesResponse { .. }
        | Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::AppendEntries { .. }
        | Rpc::Commit { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => {}
    }
    Ok(())
}

/// Who answers a heartbeat that asks for a lease promises to elect nobody for a while, and the longest
/// such promise is on its disk when the answer leaves. (An answer that has to wait for its disk is not
/// looked at: what it was asked for is in an earlier step.)
pub(super) fn lease(input: Option<&Input>, effects: &[Effect], after: &Host) -> Result<(), Broken> {
    let Some(Input::Deliver(letter)) = input else { return Ok(()) };
    let Rpc::Heartbeat { session: asked, round: of, lease, commit: _ } = letter.rpc else {
        return Ok(());
    };
    let is_promise = |effect: &Effect| {
        let Effect::Send(envelope) = effect else { return false };
        let Rpc::HeartbeatResponse { session, round } = envelope.rpc else { return false };
        (session, round) == (asked, of) && envelope.term == letter.term
    };
    let promised = after.disk.hard_state().promise;
    let is_short = lease > Span(0) && promised < after.promise(lease);
    if is_short && effects.iter().any(is_promise) {
        return broken("PS", format!("the promise of {lease} is not durable: {promised} is"));
    }
    Ok(())
}

/// Whether a message asks for a vote or gives one.
fn is_election(rpc: &Rpc) -> bool {
    match rpc {
        Rpc::RequestVoteResponse { granted } | Rpc::RequestPreVoteResponse { granted, .. } => {
            *granted
        }
        Rpc::RequestVote { .. } | Rpc::RequestPreVote { .. } => true,
        Rpc::AppendEntries { .. }
        | Rpc::AppendEntriesResponse { .. }
        | Rpc::Commit { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => false,
    }
}
