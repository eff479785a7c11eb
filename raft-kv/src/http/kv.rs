//! One key: GET, PUT, POST, DELETE.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use raft_core::{Index, ReadMode, Span};
use raft_replica::kv::{KvAnswer, KvCommand, KvQuery};
use raft_replica::machine::StateMachine as _;
use raft_replica::request::{Reply, Request as ReplicaRequest};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::App;
use super::forward::{at_leader, may_answer};
use super::parse::{self, Payload, etag};
use super::problem::Problem;
use crate::node::{Node, Share};
use crate::store::{Store, StoreCommand, StoreResponse};

/// The index that an answer takes into account.
pub(super) const INDEX: HeaderName = HeaderName::from_static("raft-kv-index");

/// An answer that may be old; how old is not always known.
const STALE: HeaderName = HeaderName::from_static("raft-kv-stale");

/// How old an answer may be that was asked to be stale, in milliseconds.
const AGE: HeaderName = HeaderName::from_static("raft-kv-age-ms");

/// What a read may ask for in its query.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ReadOptions {
    #[serde(default)]
    consistency: Consistency,
    max_stale_ms: Option<u64>,
    min_index: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Consistency {
    /// By a round of messages.
    #[default]
    Linearizable,
    /// By a lease, if the leader has one.
    Lease,
    /// What is here.
    Stale,
}

/// An answer and what it is worth.
pub(super) struct Found {
    pub(super) answer: KvAnswer,
    pub(super) index: Index,
    /// Whether it may be old; and how old, if that is known.
    pub(super) stale: Option<Option<Span>>,
}

impl Found {
    /// Says what the answer is worth.
    pub(super) fn label(&self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(INDEX, HeaderValue::from(self.index.0));
        let Some(age) = self.stale else { return };
        headers.insert(STALE, HeaderValue::from_static("true"));
        if let Some(age) = age {
            headers.insert(AGE, HeaderValue::from(age.0.div_ceil(1000)));
        }
    }
}

pub(super) async fn get(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    app.respond(read_key(&app, &parts).await)
}

async fn read_key(app: &Arc<App>, parts: &Parts) -> Result<Response, Problem> {
    let key = parse::key(app, parts.uri.path())?;
    let options: ReadOptions = parse::query(&parts.uri)?;
    let found = read(app, parts, KvQuery::Get { key }, &options).await?;
    let KvAnswer::Value(value) = &found.answer else {
        return Err(Problem::internal("a value was asked for"));
    };
    let Some(value) = value else {
        let mut response = Problem::no_such_key().respond(app);
        found.label(&mut response);
        return Ok(response);
    };
    let is_known = parse::has_version(&parts.headers, value.version);
    let body = if is_known { Body::empty() } else { Body::from(value.value.clone()) };
    let mut response = Response::new(body);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(ETAG, etag(value.version));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    found.label(&mut response);
    Ok(response)
}

/// Reads as the options ask.
pub(super) async fn read(
    app: &Arc<App>,
    parts: &Parts,
    query: KvQuery,
    options: &ReadOptions,
) -> Result<Found, Problem> {
    let node = app.node()?;
    let mode = match options.consistency {
        Consistency::Stale => return read_here(app, &node, query, options).await,
        Consistency::Linearizable => ReadMode::ReadIndex,
        Consistency::Lease => ReadMode::Lease,
    };
    may_answer(app, parts, &node)?;
    confirmed(app, &node, query, mode).await
}

/// A linearizable read, wherever the leader is.
pub(super) async fn confirmed(
    app: &App,
    node: &Node,
    query: KvQuery,
    mode: ReadMode,
) -> Result<Found, Problem> {
    let patience = Instant::now() + app.config.leader_patience();
    let deadline = Instant::now() + app.config.request_timeout;
    let mut published = node.published();
    loop {
        published.borrow_and_update();
        let request = ReplicaRequest::Query { query: query.clone(), mode };
        let reply = timeout_at(deadline, node.ask(request)).await;
        let failure = match reply {
            Ok(Ok(Reply::Answer { answer, index })) => {
                return Ok(Found { answer, index, stale: None });
            }
            Ok(Ok(Reply::Failed(failure))) => failure,
            Ok(Ok(_)) => return Err(Problem::internal("another reply than an answer")),
            Ok(Err(gone)) => return Err(Problem::unavailable("stopped", gone.to_string())),
            Err(_) => {
                return Err(Problem::unavailable("timeout", "no quorum has answered in time"));
            }
        };
        let problem = Problem::of_read(failure);
        if !problem.is_passing() || Instant::now() >= patience {
            return Err(problem);
        }
        // The next leader is announced by a change.
        drop(timeout_at(patience, published.changed()).await);
    }
}

/// What this server has, as it is; if the age that is asked for is not known to hold, a linearizable
/// read finds out.
async fn read_here(
    app: &Arc<App>,
    node: &Node,
    query: KvQuery,
    options: &ReadOptions,
) -> Result<Found, Problem> {
    // Before its first entry a server has no state to be stale: after a start it comes from a snapshot.
    let min = options.min_index.unwrap_or(1).max(1);
    let mut published = node.published();
    let deadline = Instant::now() + app.config.request_timeout;
    let reached = published.wait_for(|published| published.applied.0 >= min);
    if !matches!(timeout_at(deadline, reached).await, Ok(Ok(_))) {
        return Err(Problem::unavailable("too_stale", "the state has not come so far in time"));
    }
    let asked = query.clone();
    let look = node.inspect(move |view| Found {
        answer: view.store().query(&asked),
        index: view.applied(),
        stale: Some(view.age()),
    });
    let found = look.await.map_err(|gone| Problem::unavailable("stopped", gone.to_string()))?;
    let age_ms = found.stale.flatten().map(|age| age.0.div_ceil(1000));
    if options.max_stale_ms.is_some_and(|max| age_ms.is_none_or(|age| age > max)) {
        // As of when it was asked for, nothing is missing: no limit is broken.
        let asked = Instant::now();
        let fresh = confirmed(app, node, query, ReadMode::ReadIndex).await?;
        let age = Span(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
        return Ok(Found { stale: Some(Some(age)), ..fresh });
    }
    if age_ms.is_none_or(|age| age > 1000) {
        probe(app, node);
    }
    Ok(found)
}

/// Finds out, for later readers, how old the state is.
fn probe(app: &Arc<App>, node: &Node) {
    if app.is_probing.swap(true, Ordering::Relaxed) {
        return;
    }
    let (app, node) = (Arc::clone(app), node.clone());
    tokio::spawn(async move {
        let query = KvQuery::Get { key: Bytes::new() };
        let mode = ReadMode::ReadIndex;
        // Only that it was answered matters, and the node has seen that.
        drop(node.ask(ReplicaRequest::Query { query, mode }).await);
        app.is_probing.store(false, Ordering::Relaxed);
    });
}

pub(super) async fn put(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let result = async {
        let key = parse::key(&app, parts.uri.path())?;
        let max = app.config.value_bytes_max;
        let body = parse::body(&app, &parts.headers, body, max).await?;
        let value = body.bytes.clone();
        change(&app, &parts, body, KvCommand::Put { key, value }).await
    };
    app.respond(result.await)
}

/// A value in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    value: String,
}

pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let result = async {
        let key = parse::key(&app, parts.uri.path())?;
        // Every byte of a value may be escaped as six.
        let max = app.config.value_bytes_max.saturating_mul(6).saturating_add(64);
        let body = parse::body(&app, &parts.headers, body, max).await?;
        let posted: Posted = serde_json::from_slice(&body.bytes).map_err(|error| {
            Problem::bad_request(format!("not {{\"value\": \"...\"}}: {error}"))
        })?;
        if posted.value.len() > app.config.value_bytes_max {
            return Err(Problem::too_large("value", app.config.value_bytes_max));
        }
        let value = Bytes::from(posted.value);
        change(&app, &parts, body, KvCommand::Put { key, value }).await
    };
    app.respond(result.await)
}

pub(super) async fn delete(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let result = async {
        let key = parse::key(&app, parts.uri.path())?;
        let nothing = Payload { bytes: Bytes::new(), share: None };
        change(&app, &parts, nothing, KvCommand::Delete { key }).await
    };
    app.respond(result.await)
}

/// Makes a change where the leader is.
async fn change(
    app: &App,
    parts: &Parts,
    body: Payload,
    write: KvCommand,
) -> Result<Response, Problem> {
    let condition = parse::condition(&parts.headers)?;
    let once = parse::once(&parts.headers)?;
    let grows = matches!(write, KvCommand::Put { .. });
    at_leader(app, parts, &body.bytes, &|node| {
        let (once, condition, write) = (once.clone(), condition.clone(), write.clone());
        let (command, share) = (StoreCommand::Write { once, condition, write }, body.share.clone());
        Box::pin(async move {
            if grows && !app.has_room.load(Ordering::Relaxed) {
                return Err(Problem::no_room());
            }
            written(&execute(app, &node, command, share).await?)
        })
    })
    .await
}

/// Has a command executed by this server, which leads.
pub(super) async fn command(
    app: &App,
    node: &Node,
    command: StoreCommand,
) -> Result<StoreResponse, Problem> {
    execute(app, node, command, None).await
}

async fn execute(
    app: &App,
    node: &Node,
    command: StoreCommand,
    share: Option<Share>,
) -> Result<StoreResponse, Problem> {
    let write = node.write_with(command, share);
    let reply = tokio::time::timeout(app.config.request_timeout, write).await;
    match reply {
        Ok(Ok(Reply::Response { response, .. })) => Ok(response),
        Ok(Ok(Reply::Failed(failure))) => Err(Problem::of_write(failure)),
        Ok(Ok(other)) => Err(unexpected(&other)),
        Ok(Err(gone)) => Err(Problem::unknown_outcome(gone.to_string())),
        Err(_) => Err(Problem::unknown_outcome("no quorum has answered in time")),
    }
}

pub(super) fn unexpected(reply: &Reply<Store>) -> Problem {
    Problem::internal(format!("an unexpected reply: {reply:?}"))
}

fn written(response: &StoreResponse) -> Result<Response, Problem> {
    match *response {
        StoreResponse::Written { version, .. } => {
            let mut response = Response::new(Body::from("ok"));
            let headers = response.headers_mut();
            headers.insert(ETAG, etag(version));
            headers.insert(INDEX, HeaderValue::from(version.0));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            Ok(response)
        }
        StoreResponse::Unmet { found } => Err(Problem::unmet(found)),
        StoreResponse::KeyTooLong => {
            Err(Problem::too_large("key", raft_replica::kv::KEY_BYTES_MAX))
        }
        StoreResponse::Overtaken => Err(Problem::conflict(
            "overtaken",
            "the client has had a later command executed; what became of this one is not kept",
        )),
        StoreResponse::Forgotten => Err(Problem::conflict(
            "forgotten",
            "the client is not known, and this is not its first command: it was not executed now, and \
             whether it was before is not known any more; look, and go on under another name",
        )),
        StoreResponse::Noted => Err(Problem::internal("a write was answered as a note")),
    }
}
