//! How commands are written: the same words as they are read by.

use std::fmt;

use raft_core::{MemberStep, MembershipChange};

use super::language::{Ask, Command, Filter, Name, Setting};
use crate::explore::bounds::position;
use crate::ideal_disk::Loss;

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(setting) => write!(f, "cluster{setting}"),
            Self::Ask(at, ask) => ask.show(f, at + 1),
            Self::Deliver { filter, is_round: false } => write!(f, "deliver{filter}"),
            Self::Deliver { filter, is_round: true } => write!(f, "round{filter}"),
            Self::Hand(name) => write!(f, "deliver {name}"),
            Self::Drop(filter) => write!(f, "drop{filter}"),
            Self::Pace { servers, is_slow } => {
                f.write_str(if *is_slow { "slow" } else { "fast" })?;
                show_servers(f, servers)
            }
            Self::Reach(what) => write!(f, "reach {what}"),
            Self::Network => f.write_str("network"),
            Self::Status(servers) => {
                f.write_str("status")?;
                show_servers(f, servers)
            }
            Self::Logs => f.write_str("logs"),
            Self::Quietly(command) => write!(f, "quietly {command}"),
        }
    }
}

fn show_servers(f: &mut fmt::Formatter<'_>, servers: &[usize]) -> fmt::Result {
    servers.iter().try_for_each(|at| write!(f, " {}", at + 1))
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { voters, learners, pre_vote, check_quorum, leases, is_slow, batch } = self;
        (1..=*voters).try_for_each(|id| write!(f, " {id}"))?;
        if *learners > 0 {
            f.write_str(" learners")?;
            (voters + 1..=voters + learners).try_for_each(|id| write!(f, " {id}"))?;
        }
        let options = [
            (!pre_vote, " pre_vote=off"),
            (!check_quorum, " check_quorum=off"),
            (*leases, " leases=on"),
            (*is_slow, " disk=slow"),
        ];
        for (is_set, text) in options {
            f.write_str(if is_set { text } else { "" })?;
        }
        batch.map_or(Ok(()), |entries| write!(f, " batch={entries}"))
    }
}

impl Ask {
    fn show(&self, f: &mut fmt::Formatter<'_>, id: usize) -> fmt::Result {
        match self {
            Self::Campaign => write!(f, "campaign {id}"),
            Self::StepDown => write!(f, "stepdown {id}"),
            Self::Pass { beats } => write!(f, "pass {id} {beats}"),
            Self::Fire => write!(f, "fire {id}"),
            Self::Silence => write!(f, "silence {id}"),
            Self::Patience => write!(f, "patience {id}"),
            Self::Propose => write!(f, "propose {id}"),
            Self::Read => write!(f, "read {id}"),
            Self::Transfer { to } => write!(f, "transfer {id} {}", to + 1),
            Self::Change(change) => {
                write!(f, "change {id}")?;
                show_change(f, change)
            }
            Self::Snapshot => write!(f, "snapshot {id}"),
            Self::Damage(index) => write!(f, "damage {id} {}", index.0),
            Self::Persist(None) => write!(f, "persist {id}"),
            Self::Persist(Some(batches)) => write!(f, "persist {id} {batches}"),
            Self::Crash { whole, pieces, loss, commit } => {
                match (whole, pieces) {
                    (0, 0) => write!(f, "crash {id}")?,
                    (whole, 0) => write!(f, "crash {id} keep {whole}")?,
                    (whole, pieces) => write!(f, "crash {id} keep {whole} {pieces}")?,
                }
                match loss {
                    None => {}
                    Some(Loss::Entry(index)) => write!(f, " damage {}", index.0)?,
                    Some(Loss::Snapshot) => write!(f, " damage snapshot")?,
                    Some(Loss::Tail(from)) => write!(f, " lose {}", from.0)?,
                }
                if commit.0 > 0 { write!(f, " commit {}", commit.0) } else { Ok(()) }
            }
        }
    }
}

/// What is told of something that a disk loses.
pub(super) fn told_loss(at: usize, loss: Loss) -> String {
    match loss {
        Loss::Entry(index) => format!("  n{} cannot read {index} any more", at + 1),
        Loss::Snapshot => format!("  n{} cannot read its snapshot any more", at + 1),
        Loss::Tail(from) => format!("  n{} loses its log from {from} on", at + 1),
    }
}

fn show_change(f: &mut fmt::Formatter<'_>, change: &MembershipChange) -> fmt::Result {
    let steps = match change {
        MembershipChange::LeaveJoint => return f.write_str(" leave"),
        MembershipChange::EnterJoint(steps) => {
            f.write_str(" joint")?;
            steps
        }
        MembershipChange::Steps(steps) => steps,
    };
    steps.iter().try_for_each(|step| match step {
        MemberStep::AddLearner(member) => write!(f, " add {}", position(*member) + 1),
        MemberStep::Promote(id) => write!(f, " promote {}", id.0),
        MemberStep::Demote(id) => write!(f, " demote {}", id.0),
        MemberStep::Remove(id) => write!(f, " remove {}", id.0),
        MemberStep::Replace { old, new } => write!(f, " replace {} {}", old.0, new.0),
    })
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ordinal > 1 {
            write!(f, "#{} ", self.ordinal)?;
        }
        f.write_str(&self.text)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (from, to) in &self.ends {
            let show = |end: &Option<u64>| end.map_or(String::new(), |id| id.to_string());
            write!(f, " {}->{}", show(from), show(to))?;
        }
        self.kinds.iter().try_for_each(|kind| write!(f, " {kind}"))
    }
}
