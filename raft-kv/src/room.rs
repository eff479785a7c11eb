//! Whether there is room for a state that grows: on the disk, and in memory.
//!
//! A full disk found by a failed write would end the node. So growing writes are refused while there
//! is still a reserve: enough for the log of what makes room again, deletes and a snapshot.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::warn;

use crate::config::ServerConfig;
use crate::http::App;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks now and then, for ever.
pub(crate) async fn watch(app: Arc<App>) {
    loop {
        let lack = lack(&app.config);
        let had_room = app.has_room.swap(lack.is_none(), Ordering::Relaxed);
        if let Some(lack) = lack.filter(|_| had_room) {
            warn!("{lack}: growing writes are refused");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What there is too little of.
fn lack(config: &ServerConfig) -> Option<&'static str> {
    if free_bytes(&config.data_dir).is_some_and(|free| free < config.disk_reserve_bytes) {
        return Some("the disk is nearly full");
    }
    let is_large = |max| resident_bytes().is_some_and(|resident| resident > max);
    config.memory_bytes_max.is_some_and(is_large).then_some("the memory limit is reached")
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
