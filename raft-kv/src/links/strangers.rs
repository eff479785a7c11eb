//! Who has connected to the peers' port and has not said yet who it is.
//!
//! Anybody who reaches the port can connect and say nothing. So strangers have few places, and little
//! time; and when there is no place left, it is not the newcomer who goes, who may be a peer, but a
//! stranger who was here before: the oldest from the same address if that has its share, else the oldest
//! of all. A peer says who it is within a round trip, so it leaves this list before anybody can push
//! it out who is not much faster.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// The most strangers.
const PLACES: usize = 64;

/// The most strangers from one address.
const SHARE: usize = 16;

/// Whether somebody has said who it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<AtomicBool>);

impl Known {
    /// It is no stranger any more.
    pub(super) fn settle(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Stranger {
    from: Option<IpAddr>,
    known: Known,
    task: AbortHandle,
}

impl Stranger {
    fn is_over(&self) -> bool {
        self.known.0.load(Ordering::Relaxed) || self.task.is_finished()
    }
}

/// All strangers, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    waiting: VecDeque<Stranger>,
}

impl Strangers {
    /// One more, who is heard by this task; perhaps another one has to go.
    pub(super) fn admit(&mut self, from: Option<IpAddr>, known: Known, task: AbortHandle) {
        self.waiting.retain(|stranger| !stranger.is_over());
        if let Some(at) = self.superfluous(from)
            && let Some(stranger) = self.waiting.remove(at)
        {
            stranger.task.abort();
        }
        self.waiting.push_back(Stranger { from, known, task });
    }

    /// Who has to go so that somebody from this address can come.
    fn superfluous(&self, from: Option<IpAddr>) -> Option<usize> {
        let is_neighbour = |stranger: &Stranger| from.is_some() && stranger.from == from;
        if self.waiting.iter().filter(|stranger| is_neighbour(stranger)).count() >= SHARE {
            return self.waiting.iter().position(is_neighbour);
        }
        (self.waiting.len() >= PLACES).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::net::Ipv4Addr;

    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(Ipv4Addr::new(10, 0, 0, last).into())
    }

    #[tokio::test]
    async fn who_comes_from_one_address_pushes_out_its_like_and_nobody_else() {
        let mut strangers = Strangers::default();
        let mut come = |from| {
            let task = tokio::spawn(pending::<()>());
            strangers.admit(from, Known::default(), task.abort_handle());
            task
        };
        let peer = come(address(1));
        let mut crowd: Vec<_> = (0..SHARE + 3).map(|_| come(address(2))).collect();
        let rest = crowd.split_off(3);
        for pushed_out in crowd {
            assert!(pushed_out.await.unwrap_err().is_cancelled());
        }
        assert!(!peer.is_finished() && rest.iter().all(|task| !task.is_finished()));
    }

    #[tokio::test]
    async fn who_has_said_who_it_is_is_never_pushed_out() {
        let mut strangers = Strangers::default();
        let (peer, known) = (tokio::spawn(pending::<()>()), Known::default());
        strangers.admit(address(1), known.clone(), peer.abort_handle());
        let oldest = tokio::spawn(pending::<()>());
        strangers.admit(None, Known::default(), oldest.abort_handle());
        known.settle();
        let mut tasks = Vec::new();
        for n in 0..=PLACES {
            let task = tokio::spawn(pending::<()>());
            let from = address(u8::try_from(n).unwrap());
            strangers.admit(from, Known::default(), task.abort_handle());
            tasks.push(task);
        }
        assert!(oldest.await.unwrap_err().is_cancelled());
        assert!(tasks.swap_remove(0).await.unwrap_err().is_cancelled(), "then the next one");
        assert!(!peer.is_finished() && tasks.iter().all(|task| !task.is_finished()));
    }
}
