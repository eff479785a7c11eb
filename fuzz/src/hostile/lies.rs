//! What peers tell a node, true or not.

use std::sync::Arc;

use raft_core::{
    AppendResult, ClusterId, EntryId, EntryResult, Envelope, Epoch, GroupId, Incarnation, Index,
    ReadId, RepairId, RepairRpc, Round, Rpc, Session, SnapshotMeta, Span, Term,
};

use super::Target;
use crate::script::Script;

impl Target {
    /// An entry that the node has, or any other.
    pub(super) fn entry_id(&self, script: &mut Script<'_>) -> EntryId {
        let any = script.entry_id();
        let known = self.raft.entry_id(any.index);
        known.filter(|_| script.flag()).unwrap_or(any)
    }

    pub(super) fn snapshot(&self, script: &mut Script<'_>) -> Arc<SnapshotMeta> {
        let last = self.entry_id(script);
        let described = self.raft.snapshot_at(last.index);
        let membership = if script.flag() { script.membership() } else { self.founders.clone() };
        described
            .filter(|_| script.flag())
            .unwrap_or_else(|| Arc::new(SnapshotMeta { last, membership }))
    }

    /// Mostly addressed well, so that it comes past the door.
    pub(super) fn envelope(&self, script: &mut Script<'_>) -> Envelope {
        let well = |script: &mut Script<'_>| script.below(16) != 0;
        let me = self.config.member();
        let status = self.raft.status();
        let term = status.term;
        Envelope {
            cluster: ClusterId(u64::from(well(script))),
            group: GroupId(1),
            from: script.member(),
            to: if well(script) { me } else { script.member() },
            epoch: if well(script) { status.epoch } else { Epoch(script.number()) },
            incarnation: Incarnation(if well(script) { 1 } else { script.number() }),
            term: if script.flag() { term } else { Term(script.number()) },
            rpc: self.rpc(script),
        }
    }

    /// What nodes say to each other about damage.
    fn repair_rpc(&self, script: &mut Script<'_>) -> RepairRpc {
        let id = repair_id(script);
        match script.below(6) {
            0 => RepairRpc::Barrier,
            1 => {
                let incarnation = Incarnation(script.number());
                RepairRpc::BarrierResponse { incarnation, index: Index(script.number()) }
            }
            2 => {
                let (wanted, is_snapshot) = (self.entry_id(script), script.flag());
                RepairRpc::RequestEntry { id, wanted, is_snapshot }
            }
            3 => {
                let result = match script.below(4) {
                    0 => {
                        let before = self.entry_id(script);
                        EntryResult::Have { entries: script.entries(before) }
                    }
                    1 => EntryResult::HaveSnapshot { snapshot: self.snapshot(script) },
                    2 => EntryResult::DontHave,
                    _ => EntryResult::HaveDamaged,
                };
                RepairRpc::RequestEntryResponse { id, result }
            }
            4 => {
                let (snapshot, offset) = (self.entry_id(script), script.number());
                RepairRpc::RequestSnapshot { id, snapshot, offset }
            }
            _ => {
                let (snapshot, offset) = (self.snapshot(script), script.number());
                let (data, done) = (script.command(), script.flag());
                RepairRpc::RequestSnapshotResponse { id, snapshot, offset, data, done }
            }
        }
    }

    fn rpc(&self, script: &mut Script<'_>) -> Rpc {
        let (session, round) = (Session(script.number()), Round(script.number()));
        match script.below(22) {
            0 => Rpc::RequestPreVote { last: self.entry_id(script), attempt: script.number() },
            1 => {
                let (attempt, granted) = (script.number(), script.flag());
                Rpc::RequestPreVoteResponse { attempt, granted }
            }
            2 => Rpc::RequestVote { last: self.entry_id(script), is_forced: script.flag() },
            3 => Rpc::RequestVoteResponse { granted: script.flag() },
            4..=6 => {
                let prev = self.entry_id(script);
                let from = if script.below(8) == 0 { script.entry_id() } else { prev };
                let (entries, commit) = (script.entries(from), Index(script.number()));
                Rpc::AppendEntries { session, round, prev, entries, commit }
            }
            7 => Rpc::AppendEntriesResponse { session, round, result: append_result(script) },
            8 => {
                let (commit, lease) = (Index(script.number()), Span(script.number()));
                Rpc::Heartbeat { session, round, commit, lease }
            }
            9 => Rpc::HeartbeatResponse { session, round },
            10 => {
                let (snapshot, offset) = (self.snapshot(script), script.number());
                let (data, done) = (script.command(), script.flag());
                Rpc::InstallSnapshot { session, round, snapshot, offset, data, done }
            }
            11 => Rpc::Commit { session, commit: Index(script.number()) },
            12 => Rpc::TimeoutNow,
            13 => Rpc::ReadIndex { id: read_id(script) },
            14 => {
                let (id, index) = (read_id(script), Index(script.number()));
                Rpc::ReadIndexResponse { id, index }
            }
            15..=20 => Rpc::Repair(self.repair_rpc(script)),
            _ => {
                let (snapshot, staged) = (self.entry_id(script), script.number());
                Rpc::InstallSnapshotResponse { session, round, snapshot, staged }
            }
        }
    }
}

pub(super) fn repair_id(script: &mut Script<'_>) -> RepairId {
    RepairId { incarnation: Incarnation(script.number()), n: script.number() }
}

fn read_id(script: &mut Script<'_>) -> ReadId {
    ReadId { incarnation: Incarnation(script.number()), n: script.number() }
}

fn append_result(script: &mut Script<'_>) -> AppendResult {
    let index = Index(script.number());
    match script.below(5) {
        0 => AppendResult::Diverged { index },
        4 => AppendResult::Blank,
        1 => AppendResult::Conflict {
            rejected: index,
            hint: Index(script.number()),
            hint_term: Term(script.number()),
        },
        _ => AppendResult::Matched { index },
    }
}
