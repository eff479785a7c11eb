//! Whether there is room for a state that grows: on the disk, and in memory.
//!
//! A disk that is full altogether takes no entry of the log, and so no delete that would make room
//! again. So growing writes are refused while there is still a reserve: enough for the log of what makes
//! room, deletes and a snapshot. And who leads meanwhile hands over: another one may have room.
//!
//! Of memory, the keys and values are counted: a process seldom gives back what it has had, and whoever
//! deletes must see that it helps. What the process has beyond that counts only if much of it is theirs.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raft_core::RoleName;
use raft_replica::request::{Reply, Request};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::http::App;
use crate::node::Gone;
use crate::spare::free_bytes;

/// How often it is looked: within an election timeout, as that is by default.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long a leader that has handed over because of its disk keeps a leadership that came back: the
/// others' disks may be as full.
const KEEPS: Duration = Duration::from_secs(300);

/// How long a leader that nobody wanted to succeed waits before it asks again: while it asks, it takes
/// no writes, and who did not take over will not do so a moment later.
const BACK_OFF: Duration = Duration::from_secs(10);

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
    let (mut pace, mut is_too_much) = (Pace::default(), false);
    loop {
        let lack = lack(&app, &mut is_too_much).await;
        let had_room = app.has_room.swap(lack.is_none(), Ordering::Relaxed);
        if let Some(lack) = lack.filter(|_| had_room) {
            warn!("{lack}: growing writes are refused");
        }
        if lack == Some(Lack::Disk)
            && pace.is_due(Instant::now())
            && let Some(attempt) = hand_over(&app).await
        {
            pace.attempted(attempt, Instant::now());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What has come of asking somebody else to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Somebody else leads.
    HandedOver,
    /// Nobody took over, or not in time.
    Failed,
}

/// When somebody else is asked again.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Not before this, after an attempt.
    due: Option<Instant>,
}

impl Pace {
    fn is_due(self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    fn attempted(&mut self, attempt: Attempt, now: Instant) {
        let pause = match attempt {
            Attempt::HandedOver => KEEPS,
            Attempt::Failed => BACK_OFF,
        };
        self.due = Some(now + pause);
    }
}

/// Lets somebody lead whose disk may have room; `None`: this server does not lead, or there is nobody
/// else.
async fn hand_over(app: &App) -> Option<Attempt> {
    let node = app.node.borrow().clone();
    let node = node.filter(|node| node.now().role == RoleName::Leader)?;
    if node.inspect(|view| view.has_heir()).await.is_ok_and(|has_heir| !has_heir) {
        return None;
    }
    warn!("the disk is nearly full: handing over");
    let reply = node.ask(Request::TransferLeadership { to: None }).await;
    if matches!(reply, Ok(Reply::Transferred { .. })) {
        return Some(Attempt::HandedOver);
    }
    warn!("nobody takes over: asking again in {} s", BACK_OFF.as_secs());
    Some(Attempt::Failed)
}

/// What there is too little of. Whether keys and values were too much when they were last counted is kept.
async fn lack(app: &App, is_too_much: &mut bool) -> Option<Lack> {
    let config = &app.config;
    if free_bytes(&config.data_dir).is_some_and(|free| free < config.disk_reserve_bytes) {
        return Some(Lack::Disk);
    }
    let max = config.memory_bytes_max?;
    let node = app.node.borrow().clone()?;
    let held = node.inspect(|view| view.store().kv().bytes());
    let resident = resident_bytes().unwrap_or_default();
    *is_too_much = judged(held, |held| exceeds(held, resident, max), *is_too_much).await;
    is_too_much.then_some(Lack::Memory)
}

/// What comes of a look at the node. One that does not answer must not keep the disk from being looked at,
/// and says nothing new: the last verdict holds.
async fn judged<T>(
    look: impl Future<Output = Result<T, Gone>>,
    judge: impl FnOnce(T) -> bool,
    last: bool,
) -> bool {
    match timeout(INTERVAL, look).await {
        Ok(Ok(found)) => judge(found),
        Ok(Err(Gone)) | Err(_) => last,
    }
}

/// Whether keys and values take so much, or the process does and half of the limit is theirs.
fn exceeds(held: u64, resident: u64, max: u64) -> bool {
    held > max || (resident > max && held > max / 2)
}

/// What the system says the process has in memory; `None` where it does not say so.
pub(crate) fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_large_for_another_reason_takes_keys() {
        assert!(!exceeds(100, 1000, 200), "deletes have helped");
        assert!(exceeds(101, 201, 200));
        assert!(!exceeds(101, 200, 200));
        assert!(exceeds(201, 0, 200), "where the system does not say it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_answer_has_neither_more_room_nor_less() {
        for last in [true, false] {
            let silent = std::future::pending::<Result<u64, Gone>>();
            assert_eq!(judged(silent, |_| !last, last).await, last);
            assert_eq!(judged(async { Err::<u64, _>(Gone) }, |_| !last, last).await, last);
            assert!(judged(async { Ok(7) }, |held| held == 7, last).await);
            assert!(!judged(async { Ok(7) }, |held| held == 8, last).await);
        }
    }

    #[test]
    fn whoever_was_asked_in_vain_is_not_asked_again_at_once() {
        let (mut pace, zero) = (Pace::default(), Instant::now());
        assert!(pace.is_due(zero), "the first attempt waits for nothing");
        for (attempt, pause) in [(Attempt::Failed, 10), (Attempt::HandedOver, 300)] {
            pace.attempted(attempt, zero);
            assert!(!pace.is_due(zero + INTERVAL), "{attempt:?}");
            assert!(!pace.is_due(zero + Duration::from_secs(pause - 1)), "{attempt:?}");
            assert!(pace.is_due(zero + Duration::from_secs(pause)), "{attempt:?}");
        }
    }
}
