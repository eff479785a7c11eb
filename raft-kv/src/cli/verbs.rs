//! The verbs of a client: `raft-kv put KEY VALUE` and so on, with `--endpoints`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use futures_util::future::try_join_all;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use raft_kv::backup;
use raft_kv::bootstrap::draw_lineage;
use raft_kv::client::{Answer, Ask, Client, IDEMPOTENCY_KEY};
use raft_kv::config::Token;
use raft_kv::tls::ClientFiles;
use tokio::runtime::Builder;

use super::{complain, watch::watch};

/// Keys keep what a path may hold.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// Where the servers are.
#[derive(Args, Debug)]
pub(super) struct Servers {
    /// Addresses of servers for clients
    #[arg(
        long,
        env = "RAFT_KV_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003"
    )]
    endpoints: Vec<String>,
    /// How long to try, in seconds, up to a day
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// The bearer token that they want
    #[arg(long = "auth", env = "RAFT_KV_AUTH", value_name = "TOKEN", hide_env_values = true)]
    auth: Option<Token>,
    /// The same, in a file
    #[arg(long, env = "RAFT_KV_AUTH_FILE", value_name = "FILE", conflicts_with = "auth")]
    auth_file: Option<PathBuf>,
    /// Who signs the servers' certificates: speak HTTPS
    #[arg(long, env = "RAFT_KV_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show, if they ask for one
    #[arg(long, env = "RAFT_KV_CERT", value_name = "FILE", requires = "key_file")]
    cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, env = "RAFT_KV_KEY_FILE", value_name = "FILE", requires = "cert")]
    key_file: Option<PathBuf>,
}

impl Servers {
    fn client(&self) -> Result<Client, String> {
        let cert = self.cert.clone().zip(self.key_file.clone());
        let files = ClientFiles { ca: self.ca.clone(), cert };
        let client = Client::with_tls(&self.endpoints, &files);
        let mut client = client.map_err(|error| error.to_string())?;
        if let Some(wrong) = client.bad_endpoint() {
            return Err(format!("--endpoints: {wrong} is no HOST:PORT and no URL"));
        }
        client.timeout = Duration::from_secs(self.timeout);
        let in_file = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).map_err(|error| in_file(path, &error))?;
            Ok::<_, String>(Token::from(text.trim().to_owned()))
        };
        let token = self.auth_file.as_ref().map(in_file).transpose()?.or(self.auth.clone());
        Ok(match token {
            Some(token) => client.with_token(token.secret()),
            None => client,
        })
    }

    /// Asks; who waits for an answer is told so.
    async fn ask(&self, ask: &Ask) -> Result<Answer, String> {
        good(patiently(self.client()?.ask(ask), self.timeout).await)
    }
}

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Write a value; without one, standard input is the value
    Put {
        /// The key
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        key: String,
        /// The value
        value: Option<String>,
        #[command(flatten)]
        servers: Servers,
    },
    /// Print a value
    Get {
        /// The key
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        key: String,
        /// linearizable, lease or stale
        #[arg(long)]
        consistency: Option<String>,
        #[command(flatten)]
        servers: Servers,
    },
    /// Remove a key
    Delete {
        /// The key
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        key: String,
        #[command(flatten)]
        servers: Servers,
    },
    /// Print the keys with a prefix
    List {
        /// The prefix
        #[arg(default_value = "")]
        prefix: String,
        #[command(flatten)]
        servers: Servers,
    },
    /// Print changes as they happen
    Watch {
        /// The prefix of the keys
        #[arg(default_value = "")]
        prefix: String,
        /// After this index; 0 is the beginning [default: from now on]
        #[arg(long)]
        from: Option<u64>,
        #[command(flatten)]
        servers: Servers,
    },
    /// Print what a server says of itself and of the cluster
    Status {
        #[command(flatten)]
        servers: Servers,
    },
    /// Look at the members, or change them
    #[command(subcommand)]
    Member(Member),
    /// Hand the leadership over
    Transfer {
        /// To this server; without it, to the one with the longest log, of those heard of late
        to: Option<u64>,
        #[command(flatten)]
        servers: Servers,
    },
    /// Save all keys in a file
    Backup {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        servers: Servers,
    },
    /// Write the keys of a backup into a cluster
    Restore {
        /// The file
        file: PathBuf,
        /// Replace what is there; without it, only keys that are absent are written
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        servers: Servers,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Member {
    /// Print the members
    List {
        #[command(flatten)]
        servers: Servers,
    },
    /// Add a server that runs and waits; it votes once it has caught up
    Add {
        /// Its number
        id: u64,
        /// Its address for other servers
        addr: String,
        /// Let it stay a learner
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        servers: Servers,
    },
    /// Remove a server
    Remove {
        /// Its number
        id: u64,
        #[command(flatten)]
        servers: Servers,
    },
    /// Let a server that runs and waits take the place of another, in one change
    Replace {
        /// Who leaves
        old: u64,
        /// Who comes
        new: u64,
        /// Its address for other servers
        addr: String,
        #[command(flatten)]
        servers: Servers,
    },
}

/// What went wrong, for people.
pub(super) type Outcome = Result<(), String>;

pub(super) fn run(verb: Verb) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(execute(verb)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            complain(what);
            ExitCode::FAILURE
        }
    }
}

async fn execute(verb: Verb) -> Outcome {
    match verb {
        Verb::Put { key, value, servers } => {
            let value = value.map_or_else(read_stdin, |value| Ok(value.into_bytes()))?;
            write(&servers, Ask::new(hyper::Method::PUT, path(&key)).body(value)).await
        }
        Verb::Get { key, consistency, servers } => {
            let query = consistency.map_or(String::new(), |how| format!("?consistency={how}"));
            let ask = Ask::new(hyper::Method::GET, path(&key) + &query);
            print(&servers.ask(&ask).await?.body)
        }
        Verb::Delete { key, servers } => {
            write(&servers, Ask::new(hyper::Method::DELETE, path(&key))).await
        }
        Verb::List { prefix, servers } => list(&servers, &prefix).await,
        Verb::Watch { prefix, from, servers } => watch(&servers.client()?, &prefix, from).await,
        Verb::Status { servers } => show(&servers, Ask::new(hyper::Method::GET, "/status")).await,
        Verb::Member(member) => change_members(member).await,
        Verb::Transfer { to, servers } => {
            let body = serde_json::json!({ "to": to }).to_string();
            let ask = Ask::new(hyper::Method::POST, "/cluster/transfer-leader").body(body);
            show(&servers, ask).await
        }
        Verb::Backup { file, servers } => {
            let ask = Ask::new(hyper::Method::GET, "/cluster/snapshot");
            let bytes = servers.ask(&ask).await?.body;
            let found = backup::decode(&bytes).map_err(|error| error.to_string())?;
            save(&file, &bytes).map_err(|error| in_file(&file, &error))?;
            let line = format!("{} keys through index {}\n", found.kv.len(), found.index.0);
            print(line.as_bytes())
        }
        Verb::Restore { file, overwrite, servers } => {
            restore(&servers.client()?, &file, overwrite).await
        }
    }
}

async fn change_members(member: Member) -> Outcome {
    let members = "/cluster/members";
    let (ask, servers) = match member {
        Member::List { servers } => (Ask::new(hyper::Method::GET, members), servers),
        Member::Add { id, addr, learner, servers } => {
            let body = serde_json::json!({ "id": id, "addr": addr, "learner": learner });
            (Ask::new(hyper::Method::POST, members).body(body.to_string()), servers)
        }
        Member::Remove { id, servers } => {
            (Ask::new(hyper::Method::DELETE, format!("{members}/{id}")), servers)
        }
        Member::Replace { old, new, addr, servers } => {
            let body = serde_json::json!({ "old": old, "new": new, "addr": addr });
            let path = format!("{members}/replace");
            (Ask::new(hyper::Method::POST, path).body(body.to_string()), servers)
        }
    };
    show(&servers, ask).await
}

fn path(key: &str) -> String {
    format!("/kv/{}", utf8_percent_encode(key, KEPT))
}

fn read_stdin() -> Result<Vec<u8>, String> {
    let mut value = Vec::new();
    io::stdin().read_to_end(&mut value).map_err(|error| error.to_string())?;
    Ok(value)
}

/// Sends a write that may be tried again: it has a name of its own.
async fn write(servers: &Servers, ask: Ask) -> Outcome {
    let client = draw_lineage().map_err(|error| error.to_string())?;
    let ask = ask.header(IDEMPOTENCY_KEY, &format!("cli-{client:x}"));
    let answer = servers.ask(&ask).await?;
    print(&[&answer.body[..], b"\n"].concat())
}

async fn show(servers: &Servers, ask: Ask) -> Outcome {
    let answer = servers.ask(&ask).await?;
    let shown = serde_json::from_slice::<serde_json::Value>(&answer.body)
        .and_then(|value| serde_json::to_string_pretty(&value));
    print(format!("{}\n", shown.unwrap_or_else(|_| answer.text())).as_bytes())
}

async fn list(servers: &Servers, prefix: &str) -> Outcome {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut after: Option<String> = None;
    loop {
        let mut path = format!("/kv?keys_only=true&limit=1000&prefix={}", encode(prefix));
        if let Some(after) = &after {
            path += &format!("&after={}", encode(after));
        }
        let answer = servers.ask(&Ask::new(hyper::Method::GET, path)).await?;
        let page: serde_json::Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        let keys = page["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let lines: String =
            keys.iter().filter_map(|entry| Some(format!("{}\n", entry["key"].as_str()?))).collect();
        print(lines.as_bytes())?;
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(()),
        }
    }
}

/// Writes a file beside the one that there may be, and puts it in its place when it is durable: to where a
/// link leads, and for the same readers. What is no file, such as a device, is not replaced.
fn save(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let found = match std::fs::metadata(file) {
        Ok(found) if !found.is_file() => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(found) => Some(found.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let file = if found.is_some() { std::fs::canonicalize(file)? } else { file.to_owned() };
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let written = File::create(&beside).and_then(|mut next| {
        if let Some(permissions) = found {
            next.set_permissions(permissions)?;
        }
        next.write_all(bytes)?;
        next.sync_all()
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(&beside, &file)) {
        drop(std::fs::remove_file(&beside)); // What is half written is of no use, and takes room.
        return Err(error);
    }
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// How many keys are written at a time.
const RESTORED_AT_ONCE: u64 = 32;

/// What a server that has too much to do asks to wait for, unless it says how long.
const BUSY: Duration = Duration::from_millis(100);

async fn restore(client: &Client, file: &Path, overwrite: bool) -> Outcome {
    let bytes = std::fs::read(file).map_err(|error| in_file(file, &error))?;
    let backup = backup::decode(&bytes);
    let backup = backup.map_err(|error| format!("{}: {error}", file.display()))?;
    drop(bytes);
    let name = draw_lineage().map_err(|error| error.to_string())?;
    let keys = Mutex::new(backup.kv.iter());
    // Few clients with many commands each: a name for every key would make the servers forget the
    // names of everybody else.
    let lane = |lane: u64| {
        let keys = &keys;
        async move {
            let (mut written, mut kept) = (0u64, 0u64);
            loop {
                let next = keys.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((key, found)) = next else {
                    return Ok::<_, String>((written, kept));
                };
                let key = std::str::from_utf8(key).map_err(|error| error.to_string())?;
                let serial = written + kept + 1;
                let mut ask = Ask::new(hyper::Method::PUT, path(key))
                    .body(found.value.clone())
                    .header(IDEMPOTENCY_KEY, &format!("restore-{name:x}-{lane}/{serial}"));
                if !overwrite {
                    ask = ask.header(hyper::header::IF_NONE_MATCH, "*");
                }
                let answer = unless_busy(client, &ask).await?;
                if answer.status == hyper::StatusCode::PRECONDITION_FAILED {
                    kept += 1;
                } else {
                    good(Ok(answer))?;
                    written += 1;
                }
            }
        }
    };
    let lanes: Vec<(u64, u64)> = try_join_all((1..=RESTORED_AT_ONCE).map(lane)).await?;
    let (written, kept) = lanes.iter().fold((0, 0), |sum, lane| (sum.0 + lane.0, sum.1 + lane.1));
    print(format!("{written} keys written, {kept} were there and kept\n").as_bytes())
}

/// Asks, and asks again while the servers have too much to do: then nothing was done. As long as a
/// request may take, and no longer.
async fn unless_busy(client: &Client, ask: &Ask) -> Result<Answer, String> {
    let began = Instant::now();
    loop {
        let answer = client.ask(ask).await.map_err(|error| error.to_string())?;
        let is_busy = answer.status == hyper::StatusCode::TOO_MANY_REQUESTS;
        if !is_busy || began.elapsed() >= client.timeout {
            return Ok(answer);
        }
        let told = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
        let pause = told.and_then(|told| told["retry_after_ms"].as_u64());
        tokio::time::sleep(pause.map_or(BUSY, Duration::from_millis).min(client.timeout)).await;
    }
}

fn in_file(file: &Path, error: &io::Error) -> String {
    format!("{}: {error}", file.display())
}

/// Waits for an answer, and says so if it takes its time.
async fn patiently<T>(answer: impl Future<Output = T>, seconds: u64) -> T {
    let mut answer = pin!(answer);
    match tokio::time::timeout(Duration::from_secs(1), answer.as_mut()).await {
        Ok(answer) => answer,
        Err(_) => {
            complain(format!("no answer yet; trying for {seconds} s"));
            answer.await
        }
    }
}

/// The answer, if it is a success.
pub(super) fn good(answer: Result<Answer, raft_kv::client::ClientError>) -> Result<Answer, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    let told = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
    let message = told.as_ref().and_then(|told| told["message"].as_str());
    Err(message.map_or_else(|| format!("{}: {}", answer.status, answer.text()), str::to_owned))
}

/// A reader that closes a pipe early is no error.
pub(super) fn print(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("standard output: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
