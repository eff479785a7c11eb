//! The one clock that decides anything: monotonic, in microseconds since the process began.

use std::time::{Duration, Instant};

use raft_core::Time;

/// A monotonic clock. Copies of it agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Time {
        Time(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// How long it is until `moment`; zero if it has passed.
    #[must_use]
    pub fn until(&self, moment: Time) -> Duration {
        Duration::from_micros(moment.since(self.now()).0)
    }
}
