//! What must have been seen where disks lose what was durable.

use raft_core::{
    AppendResult, EntryResult, Envelope, Observation, Refused, RepairRpc, RoleName, Rpc, RpcKind,
};

use super::{Bounds, Fact, Host, Input, Landmark, Taken, refuses, step};

/// What disks lose although it was durable, and how it comes back.
pub(super) const ALL: &[Landmark] = &[
    step("a hole is healed by an append", is_healable, |taken| {
        let is_append = |envelope: &Envelope| matches!(envelope.rpc, Rpc::AppendEntries { .. });
        heals(taken) && taken.letter().is_some_and(is_append)
    }),
    step("a hole is healed by the answer of a peer", is_healable, |taken| {
        heals(taken) && taken.is.role != RoleName::Leader && is_answered(taken)
    }),
    step(
        "a leader heals its log by the answer of a peer, and then appends",
        |bounds| is_healable(bounds) && bounds.terms >= 2,
        |taken| heals(taken) && taken.is.role == RoleName::Leader && is_answered(taken),
    ),
    step(
        "a leader discards an entry that a quorum never had",
        |bounds| is_healable(bounds) && bounds.terms >= 2,
        |taken| taken.observes(|seen| matches!(seen, Observation::EntryDiscarded { .. })),
    ),
    step(
        "a crash comes between the healing of a hole and its durability",
        |bounds| is_healable(bounds) && bounds.crashes >= 2,
        |taken| {
            let is_healing = taken.before.unsynced.iter().any(|batch| !batch.heal.is_empty());
            taken.is_crash() && is_healing && taken.is.damaged > 0
        },
    ),
    step(
        "a server that is asked for an entry has it damaged, which is no denial",
        // Two losses take a story: nobody has seen the end of them from the founding on.
        |_| false,
        |taken| {
            let is_no_denial = |rpc: &Rpc| {
                let is_damaged = |result: &EntryResult| *result == EntryResult::HaveDamaged;
                matches!(rpc, Rpc::Repair(RepairRpc::RequestEntryResponse { result, .. })
                    if is_damaged(result))
            };
            taken.is.damaged > 0 && taken.sends(is_no_denial)
        },
    ),
    step("an acknowledgement ends before a hole", is_healable, |taken| {
        let claims = |rpc: &Rpc| {
            let Rpc::AppendEntriesResponse { result: AppendResult::Matched { index }, .. } = rpc
            else {
                return false;
            };
            taken.is.first_damaged.is_some_and(|first| index.next() == first)
        };
        taken.sends(claims)
    }),
    step("who is asked for a snapshot hears what is committed", is_missable, |taken| {
        let is_it = |envelope: &Envelope| {
            matches!(envelope.rpc, Rpc::Repair(RepairRpc::RequestEntry { is_snapshot: true, .. }))
        };
        taken.letter().is_some_and(is_it) && taken.is.commit > taken.was.commit
    }),
    step(
        "a server leads although its snapshot is damaged",
        |bounds| is_missable(bounds) && bounds.terms >= 2,
        |taken| taken.is_fact(|fact| *fact == Fact::Leads) && taken.is.is_snapshot_damaged,
    ),
    step("a peer that was asked for a snapshot gives its own", is_replaceable, |taken| {
        let is_part = |envelope: &Envelope| envelope.rpc.kind() == RpcKind::RequestSnapshotResponse;
        let is_installed = taken.was.is_snapshot_damaged && !taken.is.is_snapshot_damaged;
        is_installed && taken.letter().is_some_and(is_part)
    }),
    step("a damaged snapshot is replaced", is_replaceable, |taken| {
        let is_damaged = |host: &Host| host.disk.is_snapshot_damaged();
        is_damaged(taken.before) && !is_damaged(taken.after)
    }),
    step("an entry that is found damaged is written again", is_rotting, |taken| {
        heals(taken) && matches!(taken.input, Input::Damage { .. })
    }),
    step(
        "a crash comes before an entry that was found damaged is durable again",
        |bounds| is_rotting(bounds) && bounds.crashes >= 1,
        |taken| taken.is_crash() && !taken.before.found.is_empty() && taken.is.damaged > 0,
    ),
    step(
        "a vote is refused because the end of the log is unknown",
        |bounds| is_doubtful(bounds) && bounds.terms >= 2,
        |taken| refuses(taken, RpcKind::RequestVote, |r| matches!(r, Refused::TailUnknown)),
    ),
    step(
        "a doubt is ended by the barrier",
        |bounds| is_doubtful(bounds) && bounds.heartbeats >= 1,
        |taken| taken.observes(|seen| matches!(seen, Observation::TailCertain)),
    ),
    step(
        "a doubt outlives a crash",
        |bounds| is_doubtful(bounds) && bounds.crashes >= 2,
        |taken| taken.is_crash() && taken.was.is_tail_unknown && taken.is.is_tail_unknown,
    ),
];

/// Whether an entry that is damaged can be healed, by whom it was sent to.
fn is_healable(bounds: &Bounds) -> bool {
    bounds.damages >= 1 && bounds.crashes >= 1 && bounds.nodes >= 2
}

/// Whether entries are damaged while servers run.
fn is_rotting(bounds: &Bounds) -> bool {
    bounds.damages >= 1 && bounds.rot
}

/// Whether a snapshot that is damaged can be missed, and somebody asked for another one.
fn is_missable(bounds: &Bounds) -> bool {
    bounds.crashes >= 1 && bounds.damages >= 1 && bounds.snapshots >= 1 && bounds.nodes >= 2
}

/// Whether somebody else has such a snapshot, since it takes one too, or has sent the only one.
fn is_replaceable(bounds: &Bounds) -> bool {
    let is_sent = bounds.nodes >= 3 && bounds.heartbeats >= 1;
    is_missable(bounds) && (bounds.snapshots >= 2 || is_sent)
}

/// Whether a quorum goes on while one server is in doubt.
fn is_doubtful(bounds: &Bounds) -> bool {
    bounds.lost_tails >= 1 && bounds.nodes >= 3
}

fn heals(taken: &Taken<'_>) -> bool {
    taken.observes(|seen| matches!(seen, Observation::Healed { .. }))
}

fn is_answered(taken: &Taken<'_>) -> bool {
    let is_answer = |envelope: &Envelope| envelope.rpc.kind() == RpcKind::RequestEntryResponse;
    taken.letter().is_some_and(is_answer)
}
