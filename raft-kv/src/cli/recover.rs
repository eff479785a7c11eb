//! `raft-kv recover --as-single --accept-data-loss`: an operator's last resort, offline.
//!
//! The quorum is lost for good. This server's directory becomes a cluster of one, in a new cluster
//! epoch: servers of the old one that come back are refused and halt. What they had and this one lacks
//! is lost; what this one had and was never committed is kept.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use raft_core::{Membership, NodeId, Payload, RecoveredState, Slot, Time};
use raft_kv::bootstrap::DataDirectory;
use raft_kv::config::ServerConfig;
use raft_kv::spare::SpareDisk;
use raft_kv::store::Store;
use raft_replica::replica::Replica;
use raft_replica::request::{Input, Output, Reply, Request, RequestId};
use raft_replica::storage::{Storage, StorageOptions};

use super::complain;

/// More steps than any recovery takes.
const STEPS_MAX: usize = 10_000;

#[derive(Args, Debug)]
pub(super) struct Recover {
    /// The number of the server whose directory it is
    #[arg(long)]
    id: u64,
    /// Its data directory; the server must not run
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Make it a cluster of one
    #[arg(long, required = true)]
    as_single: bool,
    /// What only the lost servers had is lost
    #[arg(long)]
    accept_data_loss: bool,
}

pub(super) fn run(recover: &Recover) -> ExitCode {
    match execute(recover) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            complain(what);
            ExitCode::FAILURE
        }
    }
}

fn execute(recover: &Recover) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    if !recover.data_dir.is_dir() {
        return Err(format!("{} is no directory", recover.data_dir.display()));
    }
    let (id, path) = (NodeId(recover.id), &recover.data_dir);
    // Who has not agreed yet may have another use for the directory: until then it is only looked at.
    let looked = DataDirectory::look(path, id, &StorageOptions::default());
    let Some((member, settled, found)) = looked.map_err(|error| text(&error))? else {
        return Err("the directory belongs to no cluster: there is nothing to recover".to_owned());
    };
    let genesis = settled.genesis(member).map_err(|error| text(&error))?;
    complain(situation(&found.into_state(&genesis), id));
    if !recover.accept_data_loss {
        return Err("nothing was done; say --accept-data-loss".to_owned());
    }
    let mut directory = DataDirectory::open(path, id).map_err(|error| text(&error))?;
    let opened = directory.open_storage(StorageOptions::default());
    let (storage, found) = opened.map_err(|error| text(&error))?;
    let found = found.into_state(&genesis);
    let config = ServerConfig::new(recover.id, "", "", path.clone());
    let options = config.replica_options(settled.cluster, member.lineage);
    let mut out = Vec::new();
    let replica = Replica::start(options, found, Store::default(), Time(0), &mut out);
    let replica = replica.map_err(|error| text(&error))?;
    force(replica, storage, out)?;
    complain("done: start it, and add the others as new servers with empty directories");
    Ok(())
}

/// What there is to decide on.
fn situation(found: &RecoveredState, id: NodeId) -> String {
    let last = found.slots.last().map_or(found.before, Slot::id);
    let others: Vec<String> = newest_membership(found)
        .members()
        .iter()
        .filter(|other| other.id != id)
        .map(|other| other.id.0.to_string())
        .collect();
    let damaged = found.slots.iter().filter(|slot| matches!(slot, Slot::Damaged { .. })).count();
    let mut told = format!(
        "this log ends at index {} of term {}; it knows that everything through {} is committed.\n\
         What servers {} have committed after that, and this one has not, is lost.",
        last.index.0,
        last.term.0,
        found.commit.0,
        others.join(", "),
    );
    if found.hard_state.is_tail_unknown {
        told += "\nThe end of this log is unknown: it may have acknowledged more than it has.";
    }
    if damaged > 0 {
        told +=
            &format!("\n{damaged} entries of this log cannot be read, and nobody could heal them.");
    }
    if found.is_snapshot_damaged {
        told += "\nThe snapshot of this directory cannot be read, and nobody could heal it.";
    }
    told
}

/// The membership in force: the last one in the log, whether it is committed or not.
fn newest_membership(found: &RecoveredState) -> &Membership {
    let newest = found.slots.iter().rev().find_map(|slot| match slot {
        Slot::Resident { payload: Payload::Membership(membership), .. } => Some(membership),
        Slot::Resident { .. } | Slot::Cold { .. } | Slot::Damaged { .. } => None,
    });
    newest.map_or(&found.snapshot.membership, |membership| membership)
}

/// Drives the replica, the disk's work at once, until the new membership is durable.
fn force(
    mut replica: Replica<Store>,
    mut storage: Storage<SpareDisk>,
    mut out: Vec<Output<Store>>,
) -> Result<(), String> {
    let id = RequestId(1);
    let mut inputs = vec![Input::Request { id, request: Request::ForceMembership }];
    for _ in 0..STEPS_MAX {
        for output in out.drain(..) {
            match output {
                // The cluster is made first; the next start makes a snapshot when one is due.
                Output::Save { .. } => {}
                Output::Work(work) => {
                    let done = storage.write(work).map_err(|error| error.to_string())?;
                    inputs.extend(done.map(Input::Done));
                }
                Output::Reply { reply: Reply::MembershipChanged { .. }, .. } => {
                    // It may be long before it is started, on the only disk that is left.
                    return storage.rest().map_err(|error| error.to_string());
                }
                Output::Reply { reply: Reply::Failed(failure), .. } => {
                    return Err(failure.to_string());
                }
                Output::BadSnapshot { error, .. } => return Err(error.to_string()),
                Output::Reply { .. }
                | Output::Send { .. }
                | Output::Applied { .. }
                | Output::Restored { .. }
                | Output::Observe(_)
                | Output::BadFrame(_) => {}
            }
        }
        let done = storage.sync().map_err(|error| error.to_string())?;
        inputs.extend(done.map(Input::Done));
        replica.handle_batch(Time(0), inputs.drain(..), &mut out);
    }
    Err("the membership does not change".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use raft_core::{EntryId, Index, Member, Term};

    use super::*;

    fn membership(ids: &[u64]) -> Membership {
        Membership::new(ids.iter().map(|id| Member::new(*id, 7)).collect(), Vec::new()).unwrap()
    }

    #[test]
    fn who_decides_is_told_what_is_missing_and_who_the_others_were_last() {
        let mut found = RecoveredState::genesis(membership(&[1, 2, 3]));
        let told = situation(&found, NodeId(1));
        assert!(told.contains("What servers 2, 3 have committed"), "{told}");
        assert!(!told.contains("cannot be read") && !told.contains("is unknown"), "{told}");

        let id = |index| EntryId { index: Index(index), term: Term(4), ..EntryId::default() };
        let payload = Payload::Membership(Arc::new(membership(&[1, 4])));
        found.slots = vec![
            Slot::Resident { id: id(1), payload },
            Slot::Damaged { id: id(2), bytes: 9, is_membership: false },
        ];
        found.hard_state.is_tail_unknown = true;
        found.is_snapshot_damaged = true;
        let told = situation(&found, NodeId(1));
        for what in [
            "ends at index 2 of term 4",
            "What servers 4 have committed",
            "The end of this log is unknown",
            "1 entries of this log cannot be read",
            "The snapshot of this directory cannot be read",
        ] {
            assert!(told.contains(what), "{what} is not in {told}");
        }
    }
}
