//! The words of a trace for other programs: what a node is and what a message says, as JSON.
//!
//! ```text
//! M   = {"mt","term","from","to"} + voteReq{idx,lt} voteResp{ok} appReq{idx,lt,ents,commit}
//!       appResp{ok,match} hbReq{commit} hbResp{ok} snapReq{idx,lt}, or another mt and no more
//! ENT = {"t":term,"d":digest of the command, or "noop"} | {"t":term,"conf":{"voters",
//!       "outgoing","learners"}}
//! st  = {"term","role":"F|P|C|L","vote","commit","last","lt"}
//! ```
//! Nodes are named by strings, `"-"` is no vote, and nothing is null.

use raft_core::{
    AppendResult, Entry, EntryId, Envelope, Member, Membership, Payload, RepairRpc, RoleName, Rpc,
    Status,
};
use serde_json::{Value, json};
use twox_hash::XxHash3_64;

/// The state of a node after a step.
pub(crate) fn state(status: &Status) -> Value {
    json!({
        "term": status.term.0,
        "role": role(status.role),
        "vote": status.vote.map_or("-".to_owned(), |vote| vote.id.0.to_string()),
        "commit": status.commit.0,
        "last": status.last.index.0,
        "lt": status.last.term.0,
    })
}

fn role(role: RoleName) -> &'static str {
    match role {
        // Who has halted says nothing any more: to others a follower that is silent.
        RoleName::Follower | RoleName::Halted => "F",
        RoleName::PreCandidate => "P",
        RoleName::Candidate => "C",
        RoleName::Leader => "L",
    }
}

fn at(id: &EntryId) -> Value {
    json!({ "idx": id.index.0, "lt": id.term.0 })
}

fn about_damage(rpc: &RepairRpc) -> (&'static str, Value) {
    match rpc {
        RepairRpc::Barrier => ("barrierReq", json!({})),
        RepairRpc::BarrierResponse { index, .. } => ("barrierResp", json!({ "idx": index.0 })),
        RepairRpc::RequestEntry { wanted, .. } => ("entryReq", at(wanted)),
        RepairRpc::RequestEntryResponse { .. } => ("entryResp", json!({})),
        RepairRpc::RequestSnapshot { snapshot, .. } => ("partReq", at(snapshot)),
        RepairRpc::RequestSnapshotResponse { snapshot, .. } => ("partResp", at(&snapshot.last)),
    }
}

/// A message.
pub(crate) fn message(envelope: &Envelope) -> Value {
    let (name, more) = match &envelope.rpc {
        Rpc::RequestPreVote { last, .. } => ("preVoteReq", at(last)),
        Rpc::RequestPreVoteResponse { granted, .. } => ("preVoteResp", json!({ "ok": granted })),
        Rpc::RequestVote { last, .. } => ("voteReq", at(last)),
        Rpc::RequestVoteResponse { granted } => ("voteResp", json!({ "ok": granted })),
        Rpc::AppendEntries { prev, entries, commit, .. } => {
            let entries: Vec<Value> = entries.iter().map(entry).collect();
            let more = json!({
                "idx": prev.index.0, "lt": prev.term.0, "ents": entries, "commit": commit.0,
            });
            ("appReq", more)
        }
        Rpc::AppendEntriesResponse { result, .. } => ("appResp", answer(result)),
        Rpc::Commit { commit, .. } => ("commit", json!({ "commit": commit.0 })),
        Rpc::Heartbeat { commit, .. } => ("hbReq", json!({ "commit": commit.0 })),
        Rpc::HeartbeatResponse { .. } => ("hbResp", json!({ "ok": true })),
        Rpc::InstallSnapshot { snapshot, .. } => ("snapReq", at(&snapshot.last)),
        Rpc::InstallSnapshotResponse { .. } => ("snapResp", json!({})),
        Rpc::TimeoutNow => ("timeoutNow", json!({})),
        Rpc::ReadIndex { .. } => ("readReq", json!({})),
        Rpc::ReadIndexResponse { .. } => ("readResp", json!({})),
        Rpc::Repair(rpc) => about_damage(rpc),
    };
    let mut line = more;
    line["mt"] = name.into();
    line["term"] = envelope.term.0.into();
    line["from"] = envelope.from.id.0.to_string().into();
    line["to"] = envelope.to.id.0.to_string().into();
    line
}

/// `match` is the last index that matches, or the last that may.
fn answer(result: &AppendResult) -> Value {
    match result {
        AppendResult::Matched { index } => json!({ "ok": true, "match": index.0 }),
        AppendResult::Conflict { hint, .. } => json!({ "ok": false, "match": hint.0 }),
        AppendResult::Blank => json!({ "ok": false, "match": 0 }),
        AppendResult::Diverged { index } => json!({ "ok": false, "match": index.prev().0 }),
    }
}

/// An entry.
pub(crate) fn entry(entry: &Entry) -> Value {
    let term = entry.term().0;
    match entry.payload() {
        Payload::Noop => json!({ "t": term, "d": "noop" }),
        Payload::Command(command) => {
            json!({ "t": term, "d": format!("{:016x}", XxHash3_64::oneshot(command)) })
        }
        Payload::Membership(membership) => json!({ "t": term, "conf": conf(membership) }),
    }
}

/// All of a membership: it may change several members at once.
fn conf(membership: &Membership) -> Value {
    let names = |members: &[Member]| -> Vec<String> {
        members.iter().map(|member| member.id.0.to_string()).collect()
    };
    json!({
        "voters": names(membership.incoming()),
        "outgoing": names(membership.outgoing()),
        "learners": names(membership.learners()),
    })
}
