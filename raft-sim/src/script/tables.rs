//! What a story shows when it is asked: the servers, and their logs side by side.

use std::sync::Arc;

use raft_core::{Index, Status};

use crate::explore::host::Host;

/// A line for each of these servers, or for all if none is named.
pub(super) fn status(hosts: &[Arc<Host>], servers: &[usize]) -> Vec<String> {
    let all = hosts.iter().enumerate();
    let wanted = all.filter(|(at, _)| servers.is_empty() || servers.contains(at));
    wanted.map(|(_, host)| format!("  {}", host.raft.status())).collect()
}

/// The logs as the paper draws them: the term of each entry below its index; `*` marks what the
/// server knows to be committed, `.` what only its snapshot has.
pub(super) fn logs(hosts: &[Arc<Host>]) -> Vec<String> {
    let statuses: Vec<Status> = hosts.iter().map(|host| host.raft.status()).collect();
    let last = statuses.iter().map(|status| status.last.index.0).max().unwrap_or(0);
    let head: String = (1..=last).map(|index| format!(" {index:>3} ")).collect();
    let mut rows = vec![format!("    {head}")];
    for (host, status) in hosts.iter().zip(&statuses) {
        let cell = |index: Index| {
            let mark = if index <= status.commit { '*' } else { ' ' };
            let term = host.raft.entry_id(index).map_or(".".to_owned(), |id| id.term.to_string());
            format!(" {term:>3}{mark}")
        };
        let row: String = (1..=status.last.index.0).map(Index).map(cell).collect();
        rows.push(format!("  {}{row}", status.member));
    }
    rows.into_iter().map(|row| row.trim_end().to_owned()).collect()
}
