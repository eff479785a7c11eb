//! Who is asked for what only the leader can do.
//!
//! By default a follower passes the request on, body and all, over a connection that it keeps; the
//! client need not know who leads. While nobody leads, or the leader is changing, it waits a little:
//! most elections are over before a client would have asked again. It tries again only after an answer
//! that says that certainly nothing was done.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use raft_core::Member;
use tokio::time::{Instant, timeout, timeout_at};

use super::App;
use super::parse::IDEMPOTENCY_KEY;
use super::problem::Problem;
use crate::config::{OnFollower, ServerConfig};
use crate::node::Node;
use crate::tls::{self, ClientFiles, Connector, TlsError};

/// Marks a request that a server has passed on: it is not passed on again.
const FORWARDED: HeaderName = HeaderName::from_static("raft-kv-forwarded");

/// The longest wait before it is looked again who leads.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// The most bytes that are read of why a leader does not do something.
const SAID_MAX: usize = 16 << 10;

/// The headers that travel along.
const HEADERS: [HeaderName; 5] =
    [AUTHORIZATION, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, IDEMPOTENCY_KEY];

/// What a handler does where the leader is.
pub(super) type Local<'a> = dyn Fn(Node) -> Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send + 'a>>
    + Send
    + Sync
    + 'a;

/// What speaks to the leader.
pub(crate) type LeaderClient = Client<Connector, Full<Bytes>>;

/// Passes requests on to the leader.
pub(crate) struct Forwarder {
    client: RwLock<LeaderClient>,
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}

impl Forwarder {
    /// Believes the servers whose certificates are signed as this one's, and shows them its own.
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, TlsError> {
        Ok(Self { client: RwLock::new(client(config)?) })
    }

    /// Reads the certificates again; nothing changes until what they hold is adopted.
    pub(crate) fn read_again(config: &ServerConfig) -> Result<LeaderClient, TlsError> {
        client(config)
    }

    /// From now on requests are passed on by this one.
    pub(crate) fn adopt(&self, next: LeaderClient) {
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn client(&self) -> LeaderClient {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn client(config: &ServerConfig) -> Result<LeaderClient, TlsError> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.set_connect_timeout(Some(Duration::from_secs(1)));
    let files = config.client_tls.as_ref().map(|files| ClientFiles {
        ca: Some(files.ca.clone()),
        cert: Some((files.cert.clone(), files.key.clone())),
    });
    let connector = tls::connector(http, &files.unwrap_or_default())?;
    let mut builder = Client::builder(TokioExecutor::new());
    // The other side ends what is idle for as long as a request may take; to meet that end is a 504.
    let idle = (config.request_timeout / 2).min(Duration::from_secs(30));
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(idle);
    Ok(builder.build(connector))
}

/// Does something where the leader is: here, or there.
///
/// `local` is called again only after it has said that nothing was done.
pub(super) async fn at_leader(
    app: &App,
    parts: &Parts,
    body: &Bytes,
    local: &Local<'_>,
) -> Result<Response, Problem> {
    let node = app.node()?;
    let mut published = node.published();
    let patience = Instant::now() + app.config.leader_patience();
    let deadline = Instant::now() + app.config.request_timeout;
    let me = app.config.id;
    // Whether a step of it has come about in any of the tries.
    let mut is_begun = false;
    loop {
        let leader = published.borrow_and_update().leader;
        let problem = match leader {
            Some(leader) if leader.id == me => match local(node.clone()).await {
                Err(problem) if problem.is_passing() => problem,
                result => return ending(result, is_begun),
            },
            Some(leader) => {
                let url = app.links.client_url(leader);
                match pass_on(app, parts, body, url, deadline).await {
                    Err(problem) if problem.is_passing() => problem,
                    result => return ending(result, is_begun),
                }
            }
            None => no_leader(),
        };
        is_begun |= problem.is_begun();
        if parts.headers.contains_key(FORWARDED) {
            return Err(problem);
        }
        if Instant::now() >= patience {
            return Err(if is_begun { problem.begun().ended() } else { problem });
        }
        // An answer to whoever asked too early comes with the next change, or there is none.
        drop(timeout(LOOK_AGAIN, published.changed()).await);
    }
}

/// What the last try has ended with. That it does not fit the cluster means that nothing was done, unless an
/// earlier try has begun it: then that may be the very reason.
fn ending(result: Result<Response, Problem>, is_begun: bool) -> Result<Response, Problem> {
    let is_conflict = match &result {
        Ok(response) => response.status() == StatusCode::CONFLICT,
        Err(problem) => problem.is_conflict(),
    };
    if is_begun && is_conflict {
        let message = "a part of it was done, and what is left does not fit the cluster any more";
        return Err(Problem::unknown_outcome(message));
    }
    result
}

/// Whether a read is to be answered here although this server does not lead.
pub(super) fn may_answer(app: &App, parts: &Parts, node: &Node) -> Result<(), Problem> {
    let leader = node.now().leader;
    match (app.config.on_follower, leader) {
        (OnFollower::Forward, _) => Ok(()),
        (_, Some(leader)) if leader.id == app.config.id => Ok(()),
        (OnFollower::Redirect, Some(leader)) => Err(redirect(app, parts, leader)),
        (OnFollower::Redirect, None) => Err(no_leader()),
        (OnFollower::Refuse, _) => Err(Problem::refused()),
    }
}

pub(super) fn no_leader() -> Problem {
    Problem::unavailable("no_leader", "no leader is known; nothing was done")
}

async fn pass_on(
    app: &App,
    parts: &Parts,
    body: &Bytes,
    url: Option<String>,
    deadline: Instant,
) -> Result<Response, Problem> {
    match app.config.on_follower {
        OnFollower::Refuse => return Ok(Problem::refused().respond(app)),
        OnFollower::Redirect | OnFollower::Forward => {}
    }
    if parts.headers.contains_key(FORWARDED) {
        return Err(Problem::unavailable("not_leader", "not the leader; nothing was done"));
    }
    let Some(url) = url else {
        return Err(Problem::unavailable("not_leader", "the leader's address is not known yet"));
    };
    let target = target(&url, parts);
    if app.config.on_follower == OnFollower::Redirect {
        return Err(Problem::redirect(&target));
    }
    let request = request(parts, body, &target)?;
    let sent = timeout_at(deadline, app.forwarder.client().request(request)).await;
    let response = match sent {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if error.is_connect() => {
            return Err(Problem::unavailable("not_leader", "the leader cannot be reached"));
        }
        Ok(Err(_)) => return Err(Problem::unknown_outcome("the leader has not answered")),
        Err(_) => return Err(Problem::unknown_outcome("the leader has not answered in time")),
    };
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        let said = Limited::new(response.into_body(), SAID_MAX).collect();
        let said = timeout_at(deadline, said).await;
        // What did not come whole may have said that a part of it was done.
        let said = said.ok().and_then(Result::ok).map(Collected::to_bytes);
        let broken = || Problem::unknown_outcome("the leader's answer did not come whole");
        return Err(said.map_or_else(broken, |said| Problem::of_leader(&said)));
    }
    Ok(response.map(Body::new))
}

fn redirect(app: &App, parts: &Parts, leader: Member) -> Problem {
    match app.links.client_url(leader) {
        Some(url) => Problem::redirect(&target(&url, parts)),
        None => Problem::unavailable("not_leader", "the leader's address is not known yet"),
    }
}

fn target(url: &str, parts: &Parts) -> String {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    format!("{}{path}", url.trim_end_matches('/'))
}

fn request(parts: &Parts, body: &Bytes, target: &str) -> Result<Request<Full<Bytes>>, Problem> {
    let mut request = Request::builder()
        .method(parts.method.clone())
        .uri(target)
        .header(FORWARDED, HeaderValue::from_static("1"));
    for name in HEADERS {
        if let Some(value) = parts.headers.get(&name) {
            request = request.header(name, value);
        }
    }
    request
        .body(Full::new(body.clone()))
        .map_err(|error| Problem::internal(format!("the leader's URL makes no sense: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_begun_cannot_be_told_that_nothing_was_done() {
        let here = || Err(Problem::conflict("refused", "3 is no member"));
        let there = || {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::CONFLICT;
            Ok(response)
        };
        for result in [here, there as fn() -> Result<Response, Problem>] {
            let unknown = ending(result(), true).expect_err("nobody knows");
            assert!(!unknown.is_conflict() && !unknown.is_passing());
        }
        assert!(ending(here(), false).is_err_and(|problem| problem.is_conflict()));
        assert!(ending(there(), false).is_ok_and(|told| told.status() == StatusCode::CONFLICT));
        let done = ending(Ok(Response::new(Body::empty())), true);
        assert!(done.is_ok_and(|told| told.status() == StatusCode::OK), "it was done after all");
    }
}
