//! The door: a message is validated whole before any state changes.
//!
//! What a correct peer cannot send is refused with its reason, never asserted. What passes has
//! numbers below [`LIMIT`], so nothing computed from them can overflow, and entries that follow
//! each other and their `prev`.

use crate::config::{ELECTION_TIMEOUT_LIMIT, MESSAGE_BYTES_MAX, MESSAGE_ENTRIES_MAX};
use crate::durable::SnapshotMeta;
use crate::effect::Refused;
use crate::entry::{Entries, Entry, Payload, genesis_id};
use crate::membership::Membership;
use crate::message::{AppendResult, EntryResult, Envelope, RepairRpc, Rpc};
use crate::node::Node;
use crate::types::{EntryId, Index, LIMIT, Round, Session, Span, Term};

/// Whether the message can be for this node and from a correct peer.
pub(crate) fn check(node: &Node, envelope: &Envelope) -> Result<(), Refused> {
    if envelope.cluster != node.config.cluster || envelope.group != node.config.group {
        return Err(Refused::OtherGroup);
    }
    if envelope.to != node.member() {
        return Err(Refused::NotForMe);
    }
    if envelope.from.id == node.config.id {
        return Err(Refused::FromMyself);
    }
    let Envelope { epoch, incarnation, term, .. } = *envelope;
    check_numbers([epoch.0, incarnation.0, term.0])?;
    check_rpc(term, &envelope.rpc)?;
    let mine = node.hard_state().epoch;
    if epoch < mine {
        return Err(Refused::StaleEpoch { mine, theirs: epoch });
    }
    Ok(())
}

#[inline(always)] // Its caller is about to ask for the kind of message as well.
fn check_rpc(term: Term, rpc: &Rpc) -> Result<(), Refused> {
    match rpc {
        Rpc::RequestPreVote { last, attempt } => {
            check_number(*attempt)?;
            check_id(term, *last)
        }
        Rpc::RequestPreVoteResponse { attempt, .. } => check_number(*attempt),
        Rpc::RequestVote { last, .. } => check_id(term, *last),
        Rpc::RequestVoteResponse { .. } | Rpc::TimeoutNow => Ok(()),
        Rpc::AppendEntries { session, round, prev, entries, commit } => {
            check_numbers([session.0, round.0, commit.0, prev.index.0])?;
            if prev.term > term {
                return Err(Refused::Impossible);
            }
            check_entries(term, prev, entries)
        }
        Rpc::AppendEntriesResponse { session, round, result } => {
            check_stream(*session, *round)?;
            match *result {
                AppendResult::Matched { index } | AppendResult::Diverged { index } => {
                    check_index(index)
                }
                AppendResult::Conflict { rejected, hint, hint_term } => {
                    check_index(rejected)?;
                    check_index(hint)?;
                    check_number(hint_term.0)
                }
                AppendResult::Blank => Ok(()),
            }
        }
        Rpc::Commit { session, commit } => check_numbers([session.0, commit.0]),
        Rpc::Heartbeat { session, round, commit, lease } => {
            check_numbers([session.0, round.0, commit.0])?;
            // No correct leader asks for more than the longest election timeout.
            if *lease < Span(ELECTION_TIMEOUT_LIMIT) { Ok(()) } else { Err(Refused::OutOfBounds) }
        }
        Rpc::HeartbeatResponse { session, round } => check_stream(*session, *round),
        Rpc::InstallSnapshot { session, round, snapshot, offset, data, .. } => {
            check_stream(*session, *round)?;
            check_snapshot(term, snapshot)?;
            check_bytes(*offset, data.len())
        }
        Rpc::InstallSnapshotResponse { session, round, snapshot, staged } => {
            check_stream(*session, *round)?;
            check_id(term, *snapshot)?;
            check_bytes(*staged, 0)
        }
        Rpc::ReadIndex { id } => check_numbers([id.incarnation.0, id.n]),
        Rpc::ReadIndexResponse { id, index } => {
            check_numbers([id.incarnation.0, id.n])?;
            check_index(*index)
        }
        Rpc::Repair(rpc) => check_repair_rpc(term, rpc),
    }
}

fn check_repair_rpc(term: Term, rpc: &RepairRpc) -> Result<(), Refused> {
    match rpc {
        RepairRpc::Barrier => Ok(()),
        RepairRpc::BarrierResponse { incarnation, index } => {
            check_number(incarnation.0)?;
            check_index(*index)
        }
        RepairRpc::RequestEntry { id, wanted, is_snapshot: _ } => {
            check_numbers([id.incarnation.0, id.n])?;
            check_id(term, *wanted)
        }
        RepairRpc::RequestEntryResponse { id, result } => {
            check_numbers([id.incarnation.0, id.n])?;
            check_entry_result(term, result)
        }
        RepairRpc::RequestSnapshot { id, snapshot, offset } => {
            check_numbers([id.incarnation.0, id.n])?;
            check_id(term, *snapshot)?;
            check_bytes(*offset, 0)
        }
        RepairRpc::RequestSnapshotResponse { id, snapshot, offset, data, done: _ } => {
            check_numbers([id.incarnation.0, id.n])?;
            check_snapshot(term, snapshot)?;
            check_bytes(*offset, data.len())
        }
    }
}

fn check_entry_result(term: Term, result: &EntryResult) -> Result<(), Refused> {
    match result {
        EntryResult::Have { entries } => {
            let Some(entry) = entries.first() else { return Err(Refused::Impossible) };
            check_id(term, entry.id())?;
            let index = entry.index().prev();
            check_entries(
                term,
                &EntryId { index, term: Term::ZERO, chain: entries.chain_before() },
                entries,
            )
        }
        EntryResult::HaveSnapshot { snapshot } => check_snapshot(term, snapshot),
        EntryResult::DontHave | EntryResult::HaveDamaged => Ok(()),
    }
}

#[inline(always)] // A part of the door for every append.
fn check_entries(term: Term, prev: &EntryId, entries: &Entries) -> Result<(), Refused> {
    let run: &[Entry] = entries;
    let ([first, ..], [.., last]) = (run, run) else { return Ok(()) };
    if run.len() > MESSAGE_ENTRIES_MAX || entries.bytes() > MESSAGE_BYTES_MAX {
        return Err(Refused::Oversized);
    }
    if first.index() != prev.index.next() || first.term() < prev.term || last.term() > term {
        return Err(Refused::NotConsecutive);
    }
    if run.windows(2).any(|pair| pair[0].term() > pair[1].term()) {
        return Err(Refused::NotConsecutive);
    }
    if entries.chain_before() != prev.chain {
        return Err(Refused::BrokenChain);
    }
    check_index(last.index())?;
    for entry in run {
        if let Payload::Membership(membership) = entry.payload() {
            check_membership(membership)?;
        }
    }
    Ok(())
}

#[cold]
fn check_membership(membership: &Membership) -> Result<(), Refused> {
    if membership.is_empty() || membership.validate().is_err() {
        return Err(Refused::InvalidMembership);
    }
    Ok(())
}

fn check_snapshot(term: Term, snapshot: &SnapshotMeta) -> Result<(), Refused> {
    check_id(term, snapshot.last)?;
    check_membership(&snapshot.membership)?;
    // Nothing precedes the first entry but the genesis, which says who the founders are.
    let is_first = snapshot.last.index == Index::ZERO;
    if is_first && snapshot.last != genesis_id(&snapshot.membership) {
        return Err(Refused::Impossible);
    }
    Ok(())
}

fn check_id(term: Term, id: EntryId) -> Result<(), Refused> {
    check_index(id.index)?;
    if id.term > term { Err(Refused::Impossible) } else { Ok(()) }
}

fn check_index(index: Index) -> Result<(), Refused> {
    if index.is_valid() { Ok(()) } else { Err(Refused::OutOfBounds) }
}

/// Checks that no number reaches [`LIMIT`], a power of two: if one does, so does their bitwise union.
#[inline]
fn check_numbers<const N: usize>(numbers: [u64; N]) -> Result<(), Refused> {
    const { assert!(LIMIT.is_power_of_two()) };
    check_number(numbers.into_iter().fold(0, |union, number| union | number))
}

fn check_number(number: u64) -> Result<(), Refused> {
    if number < LIMIT { Ok(()) } else { Err(Refused::OutOfBounds) }
}

fn check_stream(session: Session, round: Round) -> Result<(), Refused> {
    check_numbers([session.0, round.0])
}

fn check_bytes(offset: u64, len: usize) -> Result<(), Refused> {
    if len > MESSAGE_BYTES_MAX {
        return Err(Refused::Oversized);
    }
    if offset < LIMIT { Ok(()) } else { Err(Refused::OutOfBounds) }
}
