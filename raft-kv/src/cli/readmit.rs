//! `raft-kv readmit`: the way back for a server whose disk has lost what it had promised, offline.
//!
//! Its directory gets a new lineage, which has promised nothing to anybody, and keeps the log and the
//! snapshots: they may be the last good copies of something. The cluster lets it in as somebody new.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use raft_core::{NodeId, Slot};
use raft_kv::bootstrap::DataDirectory;
use raft_replica::storage::StorageOptions;

use super::complain;

#[derive(Args, Debug)]
pub(super) struct Readmit {
    /// The number of the server whose directory it is
    #[arg(long)]
    id: u64,
    /// Its data directory; the server must not run
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

pub(super) fn run(readmit: &Readmit) -> ExitCode {
    match execute(readmit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            complain(what);
            ExitCode::FAILURE
        }
    }
}

fn execute(readmit: &Readmit) -> Result<(), String> {
    let Readmit { id, data_dir } = readmit;
    if !data_dir.is_dir() {
        return Err(format!("{} is no directory", data_dir.display()));
    }
    let opened = DataDirectory::open(data_dir, NodeId(*id));
    let mut directory = opened.map_err(|error| error.to_string())?;
    let readmitted = directory.readmit(StorageOptions::default());
    let (member, found) = readmitted.map_err(|error| error.to_string())?;
    for finding in &found.report.findings {
        complain(finding);
    }
    let last = found.slots.last().map_or(found.before, Slot::id);
    let snapshot = found.snapshot.map_or(0, |snapshot| snapshot.last.index.0);
    complain(format!(
        "server {id} has the new lineage {:016x}; its snapshot ends at index {snapshot}, its log at \
         index {} of term {}.\nStart it, and let the cluster take it in: raft-kv member add {id} ADDR",
        member.lineage.0, last.index.0, last.term.0,
    ));
    Ok(())
}
