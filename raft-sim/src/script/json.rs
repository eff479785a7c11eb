//! The steps of a story as JSON, for an independent specification of Raft to judge.
//!
//! One object a line. The first names the cluster; each later one is a step of one node with its
//! state afterwards, or the crash before a restart.
//!
//! ```text
//! {"ev":"meta","v":1,"nodes":["1",..],"voters":["1",..],"learners":[..],"seed":0}
//! {"n":"2","ev":E,"in":M?,"out":[M..],"app":[ENT..]?,"sync":bool,
//!  "st":{"term","role":"F|P|C|L|H","vote","commit","last","lt"}}
//! {"ev":"crash","n":"2"}
//! E   = recv ignore timeout prevote propose tick persist stepdown restart
//! M   = {"mt","term","from","to"} + voteReq{idx,lt} voteResp{ok} appReq{idx,lt,ents,commit}
//!       appResp{ok,match} hbReq{commit} hbResp{ok} snapReq{idx,lt}, or another mt and no more
//! ENT = {"t":term,"d":digest of the command, or "noop"} | {"t":term,"conf":{"voters",
//!       "outgoing","learners"}}
//! ```
//! `"-"` is no vote. `app` is what the node has appended as a leader in this step. `sync` says that
//! all it wrote is durable; otherwise a `persist` follows when it is. A `tick` is a step that Figure
//! 2 does not know: a timer without a campaign, a read, a transfer, a snapshot. Nothing is lost or
//! repeated by an act of the network: a message that is never received was lost.

use raft_core::{
    AppendResult, Effect, Entry, EntryId, Envelope, Member, Membership, Payload, RepairRpc,
    RoleName, Rpc,
};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::language::Setting;
use super::player::Taken;
use crate::explore::host::Input;

/// What opens a trace.
pub(super) fn head(setting: &Setting) -> Value {
    let names = |from: u8, through: u8| -> Vec<String> {
        (from..=through).map(|id| id.to_string()).collect()
    };
    let (voters, all) = (setting.voters, setting.voters + setting.learners);
    json!({
        "ev": "meta",
        "v": 1,
        "nodes": names(1, all),
        "voters": names(1, voters),
        "learners": names(voters + 1, all),
        "seed": 0,
    })
}

/// A step, after the crash before it if it is a restart.
pub(super) fn step(taken: &Taken) -> Vec<Value> {
    let status = taken.after.raft.status();
    let name = (taken.at + 1).to_string();
    let sent = taken.effects.iter().filter_map(|effect| match effect {
        Effect::Send(envelope) => Some(message(envelope)),
        Effect::Persist(_)
        | Effect::Apply { .. }
        | Effect::RestoreState { .. }
        | Effect::Outcome { .. }
        | Effect::ReadReady { .. }
        | Effect::Load(_)
        | Effect::ReadChunk(_)
        | Effect::StageChunk { .. }
        | Effect::Observe(_) => None,
    });
    let mut line = json!({
        "n": name,
        "ev": event(taken),
        "out": sent.collect::<Vec<Value>>(),
        "sync": taken.after.unsynced.is_empty(),
        "st": {
            "term": status.term.0,
            "role": role(status.role),
            "vote": status.vote.map_or("-".to_owned(), |vote| vote.id.0.to_string()),
            "commit": status.commit.0,
            "last": status.last.index.0,
            "lt": status.last.term.0,
        },
    });
    if let Input::Deliver(envelope) = &taken.input {
        line["in"] = message(envelope);
    }
    if status.role == RoleName::Leader {
        let written = taken.effects.iter().filter_map(|effect| {
            if let Effect::Persist(batch) = effect { Some(&batch.append) } else { None }
        });
        let appended: Vec<Value> = written.flat_map(|run| run.iter().map(entry)).collect();
        if !appended.is_empty() {
            line["app"] = appended.into();
        }
    }
    match taken.input {
        Input::Crash { .. } => vec![json!({ "ev": "crash", "n": name }), line],
        Input::Deliver(_)
        | Input::Fire
        | Input::Silence
        | Input::Patience
        | Input::Persist { .. }
        | Input::Propose { .. }
        | Input::Read { .. }
        | Input::Transfer { .. }
        | Input::Change { .. }
        | Input::Snapshot
        | Input::Campaign
        | Input::StepDown => vec![line],
    }
}

fn event(taken: &Taken) -> &'static str {
    match &taken.input {
        Input::Deliver(_) if *taken.before == *taken.after && !has_sent(taken) => "ignore",
        Input::Deliver(_) => "recv",
        Input::Fire | Input::Silence | Input::Patience | Input::Campaign => campaign(taken),
        Input::Persist { .. } => "persist",
        Input::Crash { .. } => "restart",
        Input::Propose { .. } | Input::Change { .. } => "propose",
        Input::Read { .. } | Input::Transfer { .. } | Input::Snapshot => "tick",
        Input::StepDown => "stepdown",
    }
}

/// What a timer has led to.
fn campaign(taken: &Taken) -> &'static str {
    let (before, after) = (taken.before.raft.status(), taken.after.raft.status());
    let is_again = taken.before.campaigns < taken.after.campaigns;
    match after.role {
        RoleName::Candidate | RoleName::Leader if after.term > before.term => "timeout",
        RoleName::PreCandidate if before.role != after.role || is_again => "prevote",
        RoleName::Follower if before.role == RoleName::Leader => "stepdown",
        RoleName::Follower
        | RoleName::PreCandidate
        | RoleName::Candidate
        | RoleName::Leader
        | RoleName::Halted => "tick",
    }
}

fn has_sent(taken: &Taken) -> bool {
    taken.effects.iter().any(|effect| matches!(effect, Effect::Send(_)))
}

fn role(role: RoleName) -> &'static str {
    match role {
        RoleName::Follower => "F",
        RoleName::PreCandidate => "P",
        RoleName::Candidate => "C",
        RoleName::Leader => "L",
        RoleName::Halted => "H",
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

fn message(envelope: &Envelope) -> Value {
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

fn entry(entry: &Entry) -> Value {
    let term = entry.term().0;
    match entry.payload() {
        Payload::Noop => json!({ "t": term, "d": "noop" }),
        Payload::Command(command) => {
            json!({ "t": term, "d": format!("{:016x}", xxh3_64(command)) })
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
