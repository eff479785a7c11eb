//! Whether the server is well: for supervisors, load balancers and Prometheus.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use raft_core::{NodeId, ReadMode, RoleName};
use raft_replica::kv::KvQuery;
use tokio::sync::Semaphore;

use super::App;
use super::kv::confirmed;
use super::problem::Problem;
use crate::bootstrap::Stage;
use crate::links::PeerInfo;
use crate::metrics::{Levels, PeerLevels};
use crate::node::View;
use crate::room::resident_bytes;
use crate::spare::free_bytes;

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
    let peers = app.links.peers();
    let levels = node.inspect(move |view| {
        let status = view.replica.status();
        let membership = &status.membership;
        let (names, forgotten_clients) = view.store().names();
        let voters = membership.incoming().iter().chain(membership.outgoing());
        Levels {
            term: status.term.0,
            commit: status.commit.0,
            applied: view.applied().0,
            last: status.last.index.0,
            log_entries: status.last.index.0.saturating_sub(status.base.index.0),
            snapshot: status.snapshot.index.0,
            is_leader: status.role == RoleName::Leader,
            has_leader: status.leader.is_some(),
            voters: voters.collect::<BTreeSet<_>>().len() as u64,
            learners: membership.learners().len() as u64,
            requests_open: view.replica.requests_open() as u64,
            keys: view.store().kv().len() as u64,
            state_bytes: view.store().kv().bytes(),
            damaged_entries: status.damaged as u64,
            is_snapshot_damaged: status.is_snapshot_damaged,
            is_tail_unknown: status.is_tail_unknown,
            names: names as u64,
            forgotten_clients,
            peers: peers.iter().map(|(id, info)| peer(view, *id, info)).collect(),
            ..Levels::default()
        }
    });
    page(&app, levels.await.unwrap_or_default())
}

fn peer(view: &View<'_>, id: NodeId, info: &PeerInfo) -> PeerLevels {
    let last = view.replica.status().last.index.0;
    let progress = view.replica.raft().peers().into_iter().find(|peer| peer.member.id == id);
    PeerLevels {
        id: id.0,
        is_connected: info.is_connected,
        lag: progress.map(|peer| last.saturating_sub(peer.match_index.0)),
        silence_ms: view.silence(id).map(|silence| silence.0 / 1000),
    }
}

/// The page, with what is no matter of the node.
fn page(app: &App, levels: Levels) -> Response {
    let config = &app.config;
    let taken = |of: usize, left: &Semaphore| of.saturating_sub(left.available_permits()) as u64;
    let levels = Levels {
        inflight_bytes: taken(config.inflight_bytes_max, &app.body_budget),
        watchers: taken(config.watchers_max, &app.watchers),
        resident_bytes: resident_bytes().unwrap_or_default(),
        disk_free_bytes: free_bytes(&config.data_dir).unwrap_or_default(),
        is_full: !app.has_room.load(Ordering::Relaxed),
        ..levels
    };
    let mut response = Response::new(Body::from(app.metrics.page(&levels)));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn text(text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
