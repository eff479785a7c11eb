//! A measurement: clients that ask one after the other until the time is over.

use std::fs;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::connection::Connection;
use super::{Operation, Options};

/// What a measurement found.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    latencies_us: Vec<u32>,
    errors: u64,
    /// Processor time of the servers, in microseconds.
    cpu_us: Option<u64>,
}

/// The leader's address.
pub(crate) async fn leader(endpoints: &[String]) -> Result<String, String> {
    let mut last = "no server is named".to_owned();
    for endpoint in endpoints {
        match ask_leader(endpoint).await {
            Ok(leader) => return Ok(leader),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn ask_leader(endpoint: &str) -> Result<String, String> {
    let fail = |error: std::io::Error| format!("{endpoint}: {error}");
    let mut connection = Connection::open(endpoint).await.map_err(fail)?;
    let (_, body) = connection.ask("GET", "/client/leader", b"").await.map_err(fail)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let url = body.split_once("\"url\":\"http://").and_then(|(_, rest)| rest.split('"').next());
    url.map(str::to_owned).ok_or_else(|| format!("{endpoint} knows no leader"))
}

/// Measures one operation with so many clients.
pub(crate) async fn run(
    options: &Options,
    operation: Operation,
    clients: usize,
    endpoints: &[String],
) -> Result<Measured, String> {
    let mut connections = Vec::new();
    for client in 0..clients {
        let endpoint = &endpoints[client % endpoints.len()];
        let connection = Connection::open(endpoint).await;
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
    let before = cpu_us(&options.pids);
    tokio::time::sleep_until(end.into()).await;
    let after = cpu_us(&options.pids);
    let mut found = Measured {
        cpu_us: after.zip(before).map(|(after, before)| after - before),
        ..Measured::default()
    };
    while let Some(done) = tasks.join_next().await {
        let (latencies, errors) = done.map_err(|error| error.to_string())?;
        found.latencies_us.extend(latencies);
        found.errors += errors;
    }
    found.latencies_us.sort_unstable();
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
            let answer = match self.operation {
                Operation::Put => self.put(&mut connection, key).await,
                Operation::Mixed if turn % 10 == 0 => self.put(&mut connection, key).await,
                Operation::Read | Operation::Mixed => get(&mut connection, key, "").await,
                Operation::Stale => get(&mut connection, key, "?consistency=stale").await,
            };
            match answer {
                Ok((200 | 404, _)) if asked >= begin => {
                    latencies.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                Ok((200 | 404, _)) => {}
                Ok(_) => errors += 1,
                Err(_) => {
                    errors += 1;
                    break;
                }
            }
        }
        (latencies, errors)
    }

    async fn put(&self, connection: &mut Connection, key: u64) -> std::io::Result<(u16, Vec<u8>)> {
        connection.ask("PUT", &format!("/kv/key-{key:012}"), &self.value).await
    }
}

async fn get(
    connection: &mut Connection,
    key: u64,
    query: &str,
) -> std::io::Result<(u16, Vec<u8>)> {
    connection.ask("GET", &format!("/kv/key-{key:012}{query}"), b"").await
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
    /// A row of the table.
    pub(crate) fn row(&self, operation: Operation, clients: usize, time: Duration) -> String {
        let count = self.latencies_us.len() as u64;
        let at = |per_mille: u64| {
            let position = usize::try_from(count * per_mille / 1000).unwrap_or(usize::MAX);
            self.latencies_us
                .get(position.min(self.latencies_us.len().saturating_sub(1)))
                .copied()
                .unwrap_or(0)
        };
        let rate = count / time.as_secs().max(1);
        let cpu = self.cpu_us.map_or("-".to_owned(), |cpu| (cpu / count.max(1)).to_string());
        format!(
            "{:<8}{clients:>8}{rate:>12}{:>10}{:>10}{:>10}{cpu:>12}{:>8}",
            format!("{operation:?}").to_lowercase(),
            at(500),
            at(990),
            at(999),
            self.errors,
        )
    }
}
