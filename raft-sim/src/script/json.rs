//! The steps of a story as JSON, for an independent specification of Raft to judge.
//!
//! One object a line. The first names the cluster; each later one is a step of one node with its
//! state afterwards, or the crash before a restart.
//!
//! ```text
//! {"ev":"meta","v":1,"nodes":["1",..],"voters":["1",..],"learners":[..],"seed":0}
//! {"n":"2","ev":E,"in":M?,"out":[M..],"app":[ENT..]?,"sync":bool,"st":{..}}
//! {"ev":"crash","n":"2"}
//! E   = recv ignore timeout prevote propose tick persist stepdown restart
//! ```
//! Messages, entries and states are those of [`crate::trace::json`]. `app` is what the node has
//! appended as a leader in this step. `sync` says that all it wrote is durable; otherwise a
//! `persist` follows when it is. A `tick` is a step that Figure 2 does not know: a timer without a
//! campaign, a read, a transfer, a snapshot. Nothing is lost or repeated by an act of the network: a
//! message that is never received was lost.

use raft_core::{Effect, RoleName};
use serde_json::{Value, json};

use super::language::Setting;
use super::player::Taken;
use crate::explore::host::Input;
use crate::trace::json::{entry, message, state};

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
        "st": state(&status),
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
        | Input::Damage { .. }
        | Input::Snapshot
        | Input::Campaign
        | Input::StepDown
        | Input::Pass { .. } => vec![line],
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
        Input::Read { .. }
        | Input::Transfer { .. }
        | Input::Snapshot
        | Input::Damage { .. }
        | Input::Pass { .. } => "tick",
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
