//! The HTTP side: what clients and operators see.
//!
//! Every handler ends in a response or in a [`Problem`], which becomes JSON that says what is wrong,
//! who leads, and when to try again. A request is bounded in time and in bytes before it reaches the
//! node; a connection in the time that its head may take; and all together in number.

mod cluster;
mod forward;
mod health;
mod kv;
mod list;
mod parse;
mod problem;
mod status;
mod watch;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{delete, get, post};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch as channel};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::bootstrap::Stage;
use crate::clock::Clock;
use crate::config::{ServerConfig, Token};
use crate::links::Links;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::patience::Patient;
use crate::tls::Identity;

pub(crate) use forward::{Forwarder, LeaderClient};
use problem::Problem;

/// With this many bytes of a head that has no end a connection reads no more, whatever the last read has
/// brought. No budget counts them, and there may be many connections.
const BUFFER_BYTES_MAX: usize = 32 << 10;

/// How long open requests may take once the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// After how many request timeouts without reading anything a client is cut off.
const STUCK: u32 = 6;

/// How many of those for whom there is no connection any more are told so at a time, and how long that may
/// take. Others are cut off without a word: even this needs a file.
const TURNED_AWAY: usize = 8;
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(1);

/// What the handlers share.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) clock: Clock,
    pub(crate) links: Links,
    pub(crate) metrics: Metrics,
    pub(crate) stage: channel::Receiver<Stage>,
    /// `None` until the server has found its place in a cluster.
    pub(crate) node: channel::Receiver<Option<Node>>,
    pub(crate) forwarder: Forwarder,
    /// What clients must show now: that of the configuration, or what its file held when it was read
    /// again.
    pub(crate) token: RwLock<Option<Token>>,
    /// Bytes of request bodies that may be in the server.
    pub(crate) body_budget: Arc<Semaphore>,
    /// A place for each watcher.
    pub(crate) watchers: Arc<Semaphore>,
    /// A place for each backup that may be under way.
    pub(crate) backups: Arc<Semaphore>,
    /// Whether a read is under way that only shall tell how old the state is.
    pub(crate) is_probing: AtomicBool,
    /// Whether the disk has room for what makes the state grow.
    pub(crate) has_room: AtomicBool,
    /// Whether the server ends: answers without an end are cut short.
    pub(crate) closing: channel::Receiver<bool>,
    /// The most connections of clients.
    pub(crate) connections_max: usize,
    /// What it shows to clients; `None`: they speak plain HTTP.
    pub(crate) identity: Option<Identity>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish_non_exhaustive()
    }
}

impl App {
    /// The node, once there is one.
    fn node(&self) -> Result<Node, Problem> {
        self.node.borrow().clone().ok_or_else(Problem::starting)
    }

    /// Whether a request shows the token, if one must be shown.
    fn admits(&self, request: &Request) -> bool {
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner);
        let Some(token) = token.as_ref() else { return true };
        let header = request.headers().get(hyper::header::AUTHORIZATION);
        let parts = header.and_then(|header| header.as_bytes().split_at_checked(7));
        let Some((scheme, given)) = parts else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && is_equal(given, token.secret().as_bytes())
    }

    /// What a handler has come to, as a response.
    fn respond(&self, result: Result<Response, Problem>) -> Response {
        result.unwrap_or_else(|problem| problem.respond(self))
    }
}

/// Answers requests until it is told to end, then finishes those that are open.
pub(crate) async fn serve(listener: TcpListener, app: Arc<App>) {
    let mut end = app.closing.clone();
    let shared = Arc::clone(&app);
    let free = Arc::new(Semaphore::new(app.connections_max));
    let door = Arc::new(Semaphore::new(TURNED_AWAY));
    let (turned_away, router) = (doorkeeper(Arc::clone(&app)), router(app));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut end) => break,
        };
        while connections.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                // Without files to spare, the next try fails at once.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        // A small answer must not wait for the next one.
        drop(stream.set_nodelay(true));
        let (app, end) = (Arc::clone(&shared), end.clone());
        if let Ok(place) = Arc::clone(&free).try_acquire_owned() {
            let router = router.clone();
            connections.spawn(async move {
                receive(&app, stream, router, end).await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&door).try_acquire_owned() {
            let router = turned_away.clone();
            connections.spawn(async move {
                let told = receive(&app, stream, router, end);
                // Who does not listen is not told.
                drop(tokio::time::timeout(TURNED_AWAY_WITHIN, told).await);
                drop(place);
            });
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    // Who is not done by then is cut off.
    drop(tokio::time::timeout(GRACE, finish).await);
}

async fn receive(app: &App, stream: TcpStream, router: Router, end: channel::Receiver<bool>) {
    let patience = app.config.request_timeout;
    let Some(identity) = &app.identity else {
        return converse(stream, router, patience, end).await;
    };
    match tokio::time::timeout(patience, identity.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, router, patience, end).await,
        Ok(Err(error)) => debug!(%error, "a client is not let in"),
        Err(_) => debug!("a client has not introduced itself in time"),
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    head_timeout: Duration,
    mut end: channel::Receiver<bool>,
) {
    let stream = TokioIo::new(Patient::new(stream, head_timeout * STUCK));
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_headers(64);
    builder.max_buf_size(BUFFER_BYTES_MAX);
    let connection = builder.serve_connection(stream, service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told(&mut end) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a client's connection has ended");
    }
}

/// Returns once the server ends.
pub(super) async fn told(end: &mut channel::Receiver<bool>) {
    // Who would tell is gone: that is the end as well.
    drop(end.wait_for(|end| *end).await);
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/kv", get(list::list))
        .route("/kv/", get(list::list))
        .route("/kv/{*key}", get(kv::get).put(kv::put).post(kv::post).delete(kv::delete))
        .route("/client/leader", get(status::leader))
        .route("/client/status", get(status::brief))
        .route("/status", get(status::status))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/cluster/members", get(cluster::members).post(cluster::add))
        .route("/cluster/members/replace", post(cluster::replace))
        .route("/cluster/members/{id}", delete(cluster::remove))
        .route("/cluster/transfer-leader", post(cluster::transfer))
        .route("/cluster/snapshot", get(cluster::snapshot))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), authorize))
        .with_state(app)
}

/// Answers where there is no place for who asks: nothing was done, and the next one may come in. The supervisor
/// gets its answer all the same.
fn doorkeeper(app: Arc<App>) -> Router {
    Router::new().route("/livez", get(health::livez)).fallback(crowded).with_state(app).layer(
        map_response(|mut response: Response| async move {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }),
    )
}

async fn crowded(State(app): State<Arc<App>>) -> Response {
    app.respond(Err(Problem::crowded()))
}

async fn unknown(State(app): State<Arc<App>>, request: Request) -> Response {
    app.respond(Err(Problem::unknown_path(request.uri().path())))
}

async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Response {
    app.respond(Err(Problem::wrong_method(request.method(), request.uri().path())))
}

/// Who has no token is told so, except where the system asks whether the server is well.
async fn authorize(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_open = matches!(request.uri().path(), "/livez" | "/readyz");
    if !is_open && !app.admits(&request) {
        return app.respond(Err(Problem::unauthorized()));
    }
    next.run(request).await
}

/// Compares in a time that does not tell where the difference is.
fn is_equal(given: &[u8], token: &[u8]) -> bool {
    let differences = given.iter().zip(token).fold(0, |seen, (a, b)| seen | (a ^ b));
    given.len() == token.len() && differences == 0
}
