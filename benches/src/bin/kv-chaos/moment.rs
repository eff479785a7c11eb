//! When something was: its place in one order for all clients, and the time for people.
//!
//! Clocks have a grain: an end and a beginning that follows it may bear the same time, and whoever sorts
//! by time alone must guess which came first. A place is drawn before a request is sent and after its
//! answer has come, so an end with a lower place than a beginning really was before it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A moment. No two are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// Decides what is earlier.
    pub(crate) place: u64,
    /// What the clock said.
    pub(crate) at: Instant,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { place: NEXT.fetch_add(1, Ordering::SeqCst), at: Instant::now() }
    }
}
