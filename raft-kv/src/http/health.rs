//! Whether the server is well: for supervisors, load balancers and Prometheus.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use raft_core::{ReadMode, RoleName};
use raft_replica::kv::KvQuery;

use super::App;
use super::kv::confirmed;
use super::problem::Problem;
use crate::bootstrap::Stage;
use crate::metrics::Levels;

/// The process lives. Depends on nobody else: a supervisor that restarted a server because others are
/// away would only make it worse.
pub(super) async fn livez() -> Response {
    text("ok")
}

/// This server can answer a linearizable read now.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let stage = app.stage.borrow().clone();
    let ready = async {
        let node = match (app.node(), stage) {
            (Ok(node), _) => node,
            (Err(_), Stage::Founding { contradiction: Some(what), .. }) => {
                return Err(Problem::unavailable("founding", what));
            }
            (Err(_), Stage::Founding { missing, contradiction: None }) => {
                let missing: Vec<String> = missing.iter().map(|id| id.0.to_string()).collect();
                let message = format!("waiting for the founders {}", missing.join(", "));
                return Err(Problem::unavailable("founding", message));
            }
            (Err(_), Stage::NoRoom) => {
                let message = "the disk is full: waiting for room";
                return Err(Problem::unavailable("no_room", message));
            }
            (Err(problem), Stage::Settled) => return Err(problem),
        };
        let published = node.now();
        if !published.is_member && published.leader.is_none() {
            let message = "not a member of the cluster: waiting to be added";
            return Err(Problem::unavailable("not_a_member", message));
        }
        if published.role == RoleName::Halted {
            return Err(Problem::unavailable("halted", "the node has halted"));
        }
        let query = KvQuery::Get { key: Bytes::new() };
        confirmed(&app, &node, query, ReadMode::ReadIndex).await?;
        Ok(text("ok"))
    };
    app.respond(ready.await)
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let Ok(node) = app.node() else { return page(&app, Levels::default()) };
    let levels = node.inspect(|view| {
        let status = view.replica.status();
        let (names, forgotten_clients) = view.store().names();
        Levels {
            term: status.term.0,
            commit: status.commit.0,
            applied: view.applied().0,
            is_leader: status.role == RoleName::Leader,
            keys: view.store().kv().len() as u64,
            names: names as u64,
            forgotten_clients,
        }
    });
    page(&app, levels.await.unwrap_or_default())
}

fn page(app: &App, levels: Levels) -> Response {
    let mut response = Response::new(Body::from(app.metrics.page(levels)));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn text(text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
