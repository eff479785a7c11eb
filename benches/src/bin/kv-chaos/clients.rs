//! Clients: one operation at a time each, at any server, and what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, StatusCode};
use raft_kv::client::{Answer, Ask, Client, ClientError, IDEMPOTENCY_KEY};
use tokio::task::JoinSet;

use super::dice::Dice;
use super::moment::Moment;
use super::{Mix, Options};

/// How many keys there are: few, so that clients meet.
const KEYS: u64 = 16;

/// How long a client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Who reads everything at the end: one for each server, from this number on.
const READERS: u64 = 1_000_000;

/// How often a command with a name is tried.
const TRIES: u64 = 8;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    /// By the leader's lease, which promises as much as a round of messages.
    LeasedGet,
    Put {
        value: String,
    },
    Delete,
    /// Only if the key is absent.
    Create {
        value: String,
    },
    /// Only if the key has this version.
    Swap {
        version: u64,
        /// What the key held in that version.
        from: String,
        value: String,
    },
}

impl Operation {
    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Get | Self::LeasedGet)
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The write took effect at this index of the log.
    Written { index: u64 },
    /// The condition did not hold: this version was there.
    Unmet { version: Option<u64> },
    /// The read: the version and the value, and the index through which the answer is complete.
    Read { found: Option<(u64, String)>, index: u64 },
    /// Certainly nothing was done.
    Nothing,
    /// It may have been done, or may yet be.
    Unknown,
}

/// An operation as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) client: u64,
    pub(crate) key: u64,
    pub(crate) operation: Operation,
    pub(crate) begin: Moment,
    pub(crate) end: Moment,
    pub(crate) outcome: Outcome,
}

/// All clients.
pub(crate) struct Clients {
    tasks: JoinSet<Vec<Record>>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Clients {
    pub(crate) fn start(urls: &[String], options: &Options, clients: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for id in 0..clients {
            let one = One {
                id,
                dice: Dice::new(options.seed, id + 1),
                servers: servers(urls),
                writes: match options.mix {
                    Mix::WriteHeavy => 90,
                    Mix::ReadHeavy => 10,
                    Mix::Chaos | Mix::Healthy | Mix::HighConcurrency => 50,
                },
                life: 0,
                serial: 0,
                seen: vec![None; usize::try_from(KEYS).unwrap_or(0)],
            };
            tasks.spawn(one.live(Arc::clone(&stop), Arc::clone(&count)));
        }
        Self { tasks, stop, count }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Lets every client finish, and returns all that they saw.
    pub(crate) async fn stop(mut self) -> Vec<Record> {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            history.extend(done.expect("clients do not panic"));
        }
        history
    }
}

fn servers(urls: &[String]) -> Vec<Client> {
    let client = |url: &String| {
        let mut client = Client::new(std::slice::from_ref(url));
        client.timeout = TIMEOUT;
        client
    };
    urls.iter().map(client).collect()
}

/// Every key, read at every server.
pub(crate) async fn read_all(urls: &[String], after: usize) -> Result<Vec<Record>, String> {
    let mut history = Vec::with_capacity(after.min(1024));
    for (client, server) in (READERS..).zip(&servers(urls)) {
        for key in 0..KEYS {
            let begin = Moment::now();
            let outcome =
                judge_answer(&Operation::Get, server.once(&ask(key, &Operation::Get)).await);
            let Outcome::Read { .. } = &outcome else {
                let at = client - READERS + 1;
                return Err(format!("server {at} does not answer a read: {outcome:?}"));
            };
            let (operation, end) = (Operation::Get, Moment::now());
            history.push(Record { client, key, operation, begin, end, outcome });
        }
    }
    Ok(history)
}

struct One {
    id: u64,
    dice: Dice,
    servers: Vec<Client>,
    writes: u64,
    /// How often it has had to choose another name.
    life: u64,
    serial: u64,
    /// The version of each key that it saw last, and its value.
    seen: Vec<Option<(u64, String)>>,
}

impl One {
    async fn live(mut self, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Vec<Record> {
        let mut history = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let key = self.dice.below(KEYS);
            let operation = self.choose(key, history.len());
            let begin = Moment::now();
            let outcome = self.perform(key, &operation).await;
            if let Outcome::Read { found, .. } = &outcome
                && let Some(seen) = usize::try_from(key).ok().and_then(|at| self.seen.get_mut(at))
            {
                seen.clone_from(found);
            }
            let end = Moment::now();
            history.push(Record { client: self.id, key, operation, begin, end, outcome });
            count.fetch_add(1, Ordering::Relaxed);
            // Slow enough that the judge's history stays short, fast enough to meet faults.
            tokio::time::sleep(Duration::from_millis(self.dice.below(10))).await;
        }
        history
    }

    fn choose(&mut self, key: u64, turn: usize) -> Operation {
        if !self.dice.percent(self.writes) {
            let by_lease = self.dice.below(3) == 0;
            return if by_lease { Operation::LeasedGet } else { Operation::Get };
        }
        // Every value is written by one operation only.
        let value = format!("{}.{turn}", self.id);
        let seen = usize::try_from(key).ok().and_then(|at| self.seen.get(at).cloned().flatten());
        match (self.dice.below(10), seen) {
            (0, _) => Operation::Delete,
            (1, _) => Operation::Create { value },
            (2..5, Some((version, from))) => Operation::Swap { version, from, value },
            (_, _) => Operation::Put { value },
        }
    }

    async fn perform(&mut self, key: u64, operation: &Operation) -> Outcome {
        let mut ask = ask(key, operation);
        if operation.is_read() || self.dice.percent(50) {
            let server = self.server();
            return judge_answer(operation, server.once(&ask).await);
        }
        self.serial += 1;
        ask = ask
            .header(IDEMPOTENCY_KEY, &format!("client-{}-{}/{}", self.id, self.life, self.serial));
        let mut last = Outcome::Nothing;
        for _ in 0..TRIES {
            let answer = self.server().once(&ask).await;
            if answer.as_ref().is_ok_and(is_forgotten) {
                // Its first command did not come about, as far as is known: nobody has its name.
                (self.life, self.serial) = (self.life + 1, 0);
                return last;
            }
            match judge_answer(operation, answer) {
                // This try did nothing; an earlier one may have.
                Outcome::Nothing => {}
                Outcome::Unknown => last = Outcome::Unknown,
                told @ (Outcome::Written { .. } | Outcome::Unmet { .. } | Outcome::Read { .. }) => {
                    return told;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if last == Outcome::Nothing {
            // Nobody has used the number.
            self.serial -= 1;
        }
        last
    }

    fn server(&mut self) -> Client {
        let at = self.dice.below(self.servers.len() as u64);
        self.servers[usize::try_from(at).unwrap_or(0)].clone()
    }
}

fn ask(key: u64, operation: &Operation) -> Ask {
    let put = |value: &String| Ask::new(Method::PUT, format!("/kv/key-{key}")).body(value.clone());
    match operation {
        Operation::Get => Ask::new(Method::GET, format!("/kv/key-{key}")),
        Operation::LeasedGet => Ask::new(Method::GET, format!("/kv/key-{key}?consistency=lease")),
        Operation::Put { value } => put(value),
        Operation::Delete => Ask::new(Method::DELETE, format!("/kv/key-{key}")),
        Operation::Create { value } => put(value).header(IF_NONE_MATCH, "*"),
        Operation::Swap { version, value, .. } => {
            put(value).header(IF_MATCH, &format!("\"{version}\""))
        }
    }
}

fn is_forgotten(answer: &Answer) -> bool {
    answer.status == StatusCode::CONFLICT && answer.text().contains("\"forgotten\"")
}

fn judge_answer(operation: &Operation, answer: Result<Answer, ClientError>) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(ClientError::Unreachable(_) | ClientError::Unavailable(_)) => return Outcome::Nothing,
        Err(ClientError::Unknown(_)) => return Outcome::Unknown,
    };
    let number = |name: HeaderName| {
        let text = answer.headers.get(name)?.to_str().ok()?;
        text.trim_matches('"').parse::<u64>().ok()
    };
    let (etag, index) =
        (number(hyper::header::ETAG), number(HeaderName::from_static("raft-kv-index")));
    match (operation, answer.status, index) {
        (Operation::Get | Operation::LeasedGet, StatusCode::OK, Some(index)) => {
            Outcome::Read { found: etag.map(|version| (version, answer.text())), index }
        }
        (Operation::Get | Operation::LeasedGet, StatusCode::NOT_FOUND, Some(index)) => {
            Outcome::Read { found: None, index }
        }
        (_, StatusCode::OK, Some(index)) => Outcome::Written { index },
        (_, StatusCode::PRECONDITION_FAILED, _) => Outcome::Unmet { version: etag },
        (
            _,
            StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::CONFLICT
            | StatusCode::INSUFFICIENT_STORAGE
            | StatusCode::REQUEST_TIMEOUT,
            _,
        ) => Outcome::Nothing,
        (_, _, _) => Outcome::Unknown,
    }
}
