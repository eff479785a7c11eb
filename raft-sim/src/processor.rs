//! How much processor time was spent, and how much memory. What it measures decides nothing: it is
//! told, and that is all.

#[cfg(unix)]
use rustix::time::{ClockId, clock_gettime};

/// Microseconds that this thread has spent on a processor.
pub(crate) fn of_thread_us() -> u64 {
    #[cfg(unix)]
    return read_us(ClockId::ThreadCPUTime);
    #[cfg(not(unix))]
    return wall_us();
}

/// Microseconds that all threads of this process have spent on processors.
pub(crate) fn of_process_us() -> u64 {
    #[cfg(unix)]
    return read_us(ClockId::ProcessCPUTime);
    #[cfg(not(unix))]
    return wall_us();
}

/// The most memory that this process has had at once, in MiB; 0 where nobody tells.
pub(crate) fn memory_max_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = most.and_then(|most| most.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default().div_ceil(1_024)
}

#[cfg(unix)]
fn read_us(clock: ClockId) -> u64 {
    let spent = clock_gettime(clock);
    let micros = i128::from(spent.tv_sec) * 1_000_000 + i128::from(spent.tv_nsec) / 1_000;
    u64::try_from(micros).unwrap_or_default()
}

/// Without a clock for it, the time on the wall stands in for processor time.
#[cfg(not(unix))]
#[expect(clippy::disallowed_types, reason = "what it measures decides nothing")]
fn wall_us() -> u64 {
    use std::time::SystemTime;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
