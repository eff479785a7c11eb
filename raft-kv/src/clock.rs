//! The one clock that decides anything: monotonic, in microseconds since the process began.
//!
//! It goes on while the machine is suspended, where the system has such a clock (Linux and Android): a
//! lease, and the promise that it rests on, are over for everybody when they are over.

use std::time::Duration;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use std::time::Instant;

use raft_core::Time;

/// A monotonic clock. Copies of it agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Moment);

#[cfg(any(target_os = "linux", target_os = "android"))]
type Moment = Duration;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
type Moment = Instant;

impl Clock {
    /// A clock that begins at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self(moment())
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Time {
        Time(u64::try_from(since(self.0).as_micros()).unwrap_or(u64::MAX))
    }

    /// How long it is until `moment`; zero if it has passed.
    #[must_use]
    pub fn until(&self, moment: Time) -> Duration {
        Duration::from_micros(moment.since(self.now()).0)
    }
}

/// The time since the machine was started, suspensions included.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn moment() -> Moment {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn moment() -> Moment {
    Instant::now()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn since(begun: Moment) -> Duration {
    moment().saturating_sub(begun)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn since(begun: Moment) -> Duration {
    begun.elapsed()
}
