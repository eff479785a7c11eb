//! A measurement: clients that ask one after the other until the time is over.

use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::system::{Connection, System};
use super::{Operation, Options};

/// What a measurement found.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    latencies_us: Vec<u32>,
    errors: u64,
    /// How long it took, in seconds.
    seconds: u64,
    /// Processor time of the servers, in microseconds; zero if it is not known.
    cpu_us: u64,
}

/// What the columns of a row are.
pub(crate) static HEAD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{:<8}{:<8}{:>8}{:>12}{:>10}{:>10}{:>10}{:>12}{:>8}",
        "system", "what", "clients", "ops/s", "p50 us", "p99 us", "p99.9 us", "cpu us/op", "errors"
    )
});

/// Measures one operation with so many clients.
pub(crate) async fn run(
    options: &Options,
    system: &System,
    operation: Operation,
    clients: usize,
    endpoints: &[String],
) -> Result<Measured, String> {
    let mut connections = Vec::new();
    for client in 0..clients {
        let endpoint = &endpoints[client % endpoints.len()];
        let connection = system.connect(endpoint).await;
        connections.push(connection.map_err(|error| format!("{endpoint}: {error}"))?);
    }
    let begin = Instant::now() + Duration::from_secs(options.warm_up);
    let end = begin + Duration::from_secs(options.seconds);
    let mut tasks = JoinSet::new();
    for (client, connection) in (0..).zip(connections) {
        let work = Work { operation, keys: options.keys, value: vec![b'x'; options.value_bytes] };
        tasks.spawn(work.repeat(connection, client, begin, end));
    }
    tokio::time::sleep_until(begin.into()).await;
    let before = cpu_us(&system.pids);
    tokio::time::sleep_until(end.into()).await;
    let after = cpu_us(&system.pids);
    let cpu_us = after.zip(before).map_or(0, |(after, before)| after.saturating_sub(before));
    let mut found = Measured { cpu_us, seconds: options.seconds, ..Measured::default() };
    while let Some(done) = tasks.join_next().await {
        let (latencies, errors) = done.map_err(|error| error.to_string())?;
        found.latencies_us.extend(latencies);
        found.errors += errors;
    }
    Ok(found)
}

struct Work {
    operation: Operation,
    keys: u64,
    value: Vec<u8>,
}

impl Work {
    /// Latencies in microseconds, and how many answers were none.
    async fn repeat(
        self,
        mut connection: Connection,
        client: u64,
        begin: Instant,
        end: Instant,
    ) -> (Vec<u32>, u64) {
        let (mut latencies, mut errors) = (Vec::new(), 0);
        // A fixed sequence for each client: nothing that is measured depends on what is drawn.
        let mut draw = client.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for turn in 0u64.. {
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            let key = draw % self.keys;
            let asked = Instant::now();
            if asked >= end {
                break;
            }
            let key = format!("key-{key:012}");
            let answer = match self.operation {
                Operation::Put => connection.put(&key, &self.value).await,
                Operation::Mixed if turn % 10 == 0 => connection.put(&key, &self.value).await,
                Operation::Read | Operation::Mixed => connection.get(&key, false).await,
                Operation::Stale => connection.get(&key, true).await,
            };
            match answer {
                Ok(true) if asked >= begin => {
                    latencies.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                Ok(true) => {}
                Ok(false) => errors += 1,
                Err(_) => {
                    errors += 1;
                    break;
                }
            }
        }
        (latencies, errors)
    }
}

/// The processor time of processes so far; `None` if there are none, or the system does not say.
fn cpu_us(pids: &[u32]) -> Option<u64> {
    if pids.is_empty() {
        return None;
    }
    // The system counts in hundredths of a second.
    const TICK_US: u64 = 10_000;
    let of = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some((user + system) * TICK_US)
    };
    pids.iter().map(of).sum()
}

impl Measured {
    /// Adds another round.
    pub(crate) fn merge(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.latencies_us.sort_unstable();
        self.errors += other.errors;
        self.seconds += other.seconds;
        self.cpu_us += other.cpu_us;
    }

    fn count(&self) -> u64 {
        self.latencies_us.len() as u64
    }

    fn rate(&self) -> u64 {
        self.count() / self.seconds.max(1)
    }

    /// The latency that so many of a thousand stay below.
    fn at(&self, per_mille: u64) -> u32 {
        let position = usize::try_from(self.count() * per_mille / 1000).unwrap_or(usize::MAX);
        let last = self.latencies_us.len().saturating_sub(1);
        self.latencies_us.get(position.min(last)).copied().unwrap_or(0)
    }

    /// Processor time of an operation, in hundredths of a microsecond.
    fn cpu_centi(&self) -> u64 {
        self.cpu_us * 100 / self.count().max(1)
    }

    /// A row of the table.
    pub(crate) fn row(&self, system: &str, operation: Operation, clients: usize) -> String {
        let cpu = if self.cpu_us == 0 { "-".to_owned() } else { centi(self.cpu_centi()) };
        format!(
            "{system:<8}{:<8}{clients:>8}{:>12}{:>10}{:>10}{:>10}{cpu:>12}{:>8}",
            format!("{operation:?}").to_lowercase(),
            self.rate(),
            self.at(500),
            self.at(990),
            self.at(999),
            self.errors,
        )
    }

    /// This system's figures as multiples of the other's.
    pub(crate) fn ratios(&self, other: &Self) -> String {
        let ratio = |mine: u64, theirs: u64| centi(mine * 100 / theirs.max(1));
        let at = |per_mille| ratio(self.at(per_mille).into(), other.at(per_mille).into());
        format!(
            "{:<24}{:>12}{:>10}{:>10}{:>10}{:>12}",
            "  ratio",
            ratio(self.rate(), other.rate()),
            at(500),
            at(990),
            at(999),
            ratio(self.cpu_centi(), other.cpu_centi()),
        )
    }
}

/// Hundredths, as a decimal number.
fn centi(number: u64) -> String {
    format!("{}.{:02}", number / 100, number % 100)
}
