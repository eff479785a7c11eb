//! Whether there is room for a state that grows: on the disk, and in memory.
//!
//! A full disk found by a failed write would end the node. So growing writes are refused while there
//! is still a reserve: enough for the log of what makes room again, deletes and a snapshot. And who
//! leads meanwhile hands over: another one may have room.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raft_core::RoleName;
use raft_replica::request::{Reply, Request};
use tokio::time::Instant;
use tracing::warn;

use crate::config::ServerConfig;
use crate::http::App;

/// How often it is looked: within an election timeout, as that is by default.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long a leader that has handed over because of its disk keeps a leadership that came back: the
/// others' disks may be as full.
const KEEPS: Duration = Duration::from_secs(300);

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Disk,
    Memory,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "the disk is nearly full",
            Self::Memory => "the memory limit is reached",
        })
    }
}

/// Looks now and then, for ever.
pub(crate) async fn watch(app: Arc<App>) {
    let mut handed_over: Option<Instant> = None;
    loop {
        let lack = lack(&app.config);
        let had_room = app.has_room.swap(lack.is_none(), Ordering::Relaxed);
        if let Some(lack) = lack.filter(|_| had_room) {
            warn!("{lack}: growing writes are refused");
        }
        let is_due = handed_over.is_none_or(|at| at.elapsed() >= KEEPS);
        if lack == Some(Lack::Disk) && is_due && hand_over(&app).await {
            handed_over = Some(Instant::now());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Lets somebody lead whose disk may have room; whether this server led, and does not any more.
async fn hand_over(app: &App) -> bool {
    let node = app.node.borrow().clone();
    let Some(node) = node.filter(|node| node.now().role == RoleName::Leader) else { return false };
    let others = node.inspect(|view| {
        let status = view.replica.status();
        let voters = status.membership.incoming().iter();
        voters.filter(|voter| **voter != status.member && view.is_alive(**voter)).count()
    });
    if others.await.is_ok_and(|others| others == 0) {
        return false;
    }
    warn!("the disk is nearly full: handing over");
    let reply = node.ask(Request::TransferLeadership { to: None }).await;
    matches!(reply, Ok(Reply::Transferred { .. }))
}

/// What there is too little of.
fn lack(config: &ServerConfig) -> Option<Lack> {
    if free_bytes(&config.data_dir).is_some_and(|free| free < config.disk_reserve_bytes) {
        return Some(Lack::Disk);
    }
    let is_large = |max| resident_bytes().is_some_and(|resident| resident > max);
    config.memory_bytes_max.is_some_and(is_large).then_some(Lack::Memory)
}

fn free_bytes(path: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(path).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

/// What the system says the process has in memory; `None` where it does not say so.
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}
