//! Members, leadership, backups: what operators change.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, stream};
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use raft_core::{Member, MemberStep, Membership, MembershipChange, NodeId, ReadMode};
use raft_replica::kv::KvQuery;
use raft_replica::request::{Reply, Request as ReplicaRequest};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::App;
use super::forward::at_leader;
use super::kv::{command, confirmed, unexpected};
use super::list::json;
use super::parse;
use super::problem::Problem;
use super::status::Members;
use crate::backup;
use crate::config::is_unspecified;
use crate::node::Node;
use crate::store::{Peer, StoreCommand};

/// The longest body of an operator's request, in bytes.
const BODY_MAX: usize = 16 << 10;

/// How long to wait before it is looked again whether a member speaks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// For how many election timeouts a member must be silent to be taken for lost.
const LISTENED: u32 = 6;

/// Whom to add.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Joiner {
    id: u64,
    addr: String,
    /// Whether it stays a learner.
    #[serde(default)]
    learner: bool,
    /// Whom it replaces, once it has caught up.
    replaces: Option<u64>,
}

/// Who takes whose place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replacement {
    old: u64,
    new: u64,
    addr: String,
}

/// Who shall lead.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Successor {
    to: Option<u64>,
}

#[derive(Serialize)]
struct MembersNow {
    membership: Members,
    members: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: u64,
    lineage: String,
    role: &'static str,
    address: Option<String>,
    url: Option<String>,
    /// What it is meant to become.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<&'static str>,
}

pub(super) async fn members(State(app): State<Arc<App>>) -> Response {
    let result = async { Ok(json(&members_now(&app.node()?).await?)) };
    app.respond(result.await)
}

async fn members_now(node: &Node) -> Result<MembersNow, Problem> {
    let look = node.inspect(|view| {
        let status = view.replica.status();
        let membership = &*status.membership;
        let noted = |id| view.store().peers().get(&id).map(|noted| &noted.peer);
        let row = |member: &Member| row(membership, *member, noted(member.id));
        MembersNow {
            membership: Members::of(membership),
            members: membership.members().iter().map(row).collect(),
        }
    });
    look.await.map_err(|gone| Problem::unavailable("stopped", gone.to_string()))
}

fn row(membership: &Membership, member: Member, peer: Option<&Peer>) -> Row {
    let peer = peer.filter(|peer| peer.member == member);
    let is_voter = membership.is_voter(member);
    let pending = match peer {
        Some(Peer { replaces: Some(_), .. }) if !is_voter => {
            Some("replaces a voter once caught up")
        }
        Some(Peer { shall_vote: true, .. }) if !is_voter => Some("votes once caught up"),
        Some(_) | None => None,
    };
    Row {
        id: member.id.0,
        lineage: format!("{:016x}", member.lineage.0),
        role: if is_voter { "voter" } else { "learner" },
        address: peer.map(|peer| peer.address.clone()),
        url: peer.map(|peer| peer.client_url.clone()),
        pending,
    }
}

pub(super) async fn add(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let result = async {
        let body = parse::body(&app, &parts.headers, body, BODY_MAX).await?.bytes;
        let joiner: Joiner = from_json(&body)?;
        join(&app, &parts, &body, joiner).await
    };
    app.respond(result.await)
}

pub(super) async fn replace(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let result = async {
        let body = parse::body(&app, &parts.headers, body, BODY_MAX).await?.bytes;
        let Replacement { old, new, addr } = from_json(&body)?;
        let joiner = Joiner { id: new, addr, learner: false, replaces: Some(old) };
        join(&app, &parts, &body, joiner).await
    };
    app.respond(result.await)
}

fn from_json<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Adds a learner; the leader of the day promotes it once it has caught up.
async fn join(app: &App, parts: &Parts, body: &Bytes, joiner: Joiner) -> Result<Response, Problem> {
    // Whether somebody has noted the wish, in this try or in one before.
    let is_noted = AtomicBool::new(false);
    at_leader(app, parts, body, &|node| {
        let (joiner, is_noted) = (joiner.clone(), &is_noted);
        let joined = async move {
            let mut peer = introduce(app, &joiner).await?;
            let membership = membership(&node).await?;
            let member = peer.member;
            may_come(app, &node, member, joiner.replaces.map(NodeId)).await?;
            peer.is_joining = !membership.is_member(member);
            command(app, &node, StoreCommand::SetPeer(peer.clone())).await?;
            is_noted.store(true, Ordering::Relaxed);
            if peer.is_joining {
                let mut steps = Vec::new();
                if membership.members().iter().any(|other| other.id == member.id) {
                    // The server has lost its disk: what it was leaves, and it comes as somebody new.
                    steps.push(MemberStep::Remove(member.id));
                }
                steps.push(MemberStep::AddLearner(member));
                let changed = reconfigure(app, &node, steps, membership).await;
                if changed.as_ref().is_err_and(Problem::is_conflict) {
                    forget(app, &node, member.id).await?;
                }
                changed?;
            }
            Ok(json(&members_now(&node).await?))
        };
        Box::pin(async move { joined.await.map_err(|problem| after(is_noted, problem)) })
    })
    .await
}

/// A step of a request may have come about before the rest of it could not.
fn after(a_step: &AtomicBool, problem: Problem) -> Problem {
    if a_step.load(Ordering::Relaxed) { problem.begun() } else { problem }
}

/// Refuses what would take a place from somebody who is well, or would do nothing.
async fn may_come(
    app: &App,
    node: &Node,
    new: Member,
    replaces: Option<NodeId>,
) -> Result<(), Problem> {
    let membership = membership(node).await?;
    let refused = |what: String| Err(Problem::conflict("refused", what));
    if let Some(old) = replaces {
        if old == new.id {
            return refused(format!("{} cannot replace itself: add it", old.0));
        }
        if !membership.incoming().iter().any(|voter| voter.id == old) {
            return refused(format!("{} is no voter", old.0));
        }
        if membership.is_voter(new) {
            return refused(format!("{} votes already: remove {} instead", new.id.0, old.0));
        }
    }
    let of_id = |member: &&Member| member.id == new.id && **member != new;
    let Some(was) = membership.members().iter().find(of_id).copied() else { return Ok(()) };
    if speaks(app, was).await {
        return refused(format!(
            "{} is a member and answers, and the new server is another one: remove it first, or give \
             the new one another number",
            new.id.0
        ));
    }
    // It has lost its disk: what it was goes, if the rest can do without.
    may_go(node, new.id).await.map(drop)
}

/// Whether a member is heard from now on: what it said before, it may have said just before it lost its disk.
async fn speaks(app: &App, member: Member) -> bool {
    let began = Instant::now();
    let patience = app.config.election_timeout * LISTENED;
    let is_heard = || {
        let silence = app.links.silence_of(member);
        silence.is_some_and(|silence| Duration::from_micros(silence.0) < began.elapsed())
    };
    while began.elapsed() < patience {
        if member == app.links.me().member || is_heard() {
            return true;
        }
        sleep(LOOK_AGAIN).await;
    }
    false
}

/// Asks the server that is to join who it is.
async fn introduce(app: &App, joiner: &Joiner) -> Result<Peer, Problem> {
    let Joiner { id, addr, learner, replaces } = joiner.clone();
    if is_unspecified(&addr) {
        let message = format!("{addr} is every address of a machine: name one");
        return Err(Problem::bad_request(message));
    }
    let hello = app.links.ask(&addr).await.map_err(|error| {
        Problem::conflict("unreachable", format!("no server answers at {addr}: {error}"))
    })?;
    if hello.member.id.0 != id {
        let found = hello.member.id.0;
        let message = format!("the server at {addr} is {found}, not {id}");
        return Err(Problem::conflict("refused", message));
    }
    if hello.cluster != app.links.cluster() {
        let message = match hello.cluster {
            Some(other) => format!("the server at {addr} belongs to cluster {other}"),
            None => format!("the server at {addr} does not know this cluster yet"),
        };
        return Err(Problem::conflict("refused", message));
    }
    Ok(Peer {
        member: hello.member,
        address: addr,
        client_url: hello.client_url,
        shall_vote: !learner,
        replaces: replaces.map(NodeId),
        is_joining: true,
    })
}

/// Forgets somebody who was to join and does not; false: there is nobody like that.
async fn forget(app: &App, node: &Node, id: NodeId) -> Result<bool, Problem> {
    let look = node.inspect(move |view| {
        let noted = view.store().peers().get(&id).filter(|noted| noted.peer.is_joining)?;
        let is_member = view.replica.status().membership.is_member(noted.peer.member);
        (!is_member).then_some(noted.since)
    });
    let look = look.await.map_err(|gone| Problem::unavailable("stopped", gone.to_string()))?;
    let Some(since) = look else { return Ok(false) };
    command(app, node, StoreCommand::RemovePeer { id, since }).await?;
    Ok(true)
}

async fn membership(node: &Node) -> Result<Arc<Membership>, Problem> {
    let look = node.inspect(|view| view.replica.status().membership);
    look.await.map_err(|gone| Problem::unavailable("stopped", gone.to_string()))
}

async fn reconfigure(
    app: &App,
    node: &Node,
    steps: Vec<MemberStep>,
    seen: Arc<Membership>,
) -> Result<(), Problem> {
    let change = MembershipChange::Steps(steps);
    let request = ReplicaRequest::ChangeMembership { change, expect: Some(seen) };
    match timeout(app.config.request_timeout, node.ask(request)).await {
        Ok(Ok(Reply::MembershipChanged { .. })) => Ok(()),
        Ok(Ok(Reply::Failed(failure))) => Err(Problem::of_write(failure)),
        Ok(Ok(other)) => Err(unexpected(&other)),
        Ok(Err(gone)) => Err(Problem::unknown_outcome(gone.to_string())),
        Err(_) => Err(Problem::unknown_outcome("the change is not committed in time")),
    }
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let result = async {
        let id: u64 = id
            .parse()
            .map_err(|_| Problem::bad_request(format!("{id} is no number of a server")))?;
        let is_removed = AtomicBool::new(false);
        at_leader(&app, &parts, &Bytes::new(), &|node| {
            let (app, is_removed) = (&app, &is_removed);
            let removed = async move {
                // Who was announced and never came is no member; to remove it is to withdraw that.
                let is_withdrawn = forget(app, &node, NodeId(id)).await?;
                is_removed.fetch_or(is_withdrawn, Ordering::Relaxed);
                if !is_removed.load(Ordering::Relaxed) {
                    let seen = may_go(&node, NodeId(id)).await?;
                    reconfigure(app, &node, vec![MemberStep::Remove(NodeId(id))], seen).await?;
                    is_removed.store(true, Ordering::Relaxed);
                    // Whoever leads forgets it otherwise.
                    drop(forget(app, &node, NodeId(id)).await);
                }
                Ok(json(&members_now(&node).await?))
            };
            Box::pin(async move { removed.await.map_err(|problem| after(is_removed, problem)) })
        })
        .await
    };
    app.respond(result.await)
}

/// Refuses a removal after which the voters that answer would be no quorum.
async fn may_go(node: &Node, id: NodeId) -> Result<Arc<Membership>, Problem> {
    let look = node.inspect(move |view| {
        let status = view.replica.status();
        let rest: Vec<Member> =
            status.membership.incoming().iter().filter(|voter| voter.id != id).copied().collect();
        let alive = rest.iter().filter(|voter| view.is_alive(**voter)).count();
        (Arc::clone(&status.membership), rest.len(), alive)
    });
    let (membership, voters, alive) =
        look.await.map_err(|gone| Problem::unavailable("stopped", gone.to_string()))?;
    if !membership.members().iter().any(|member| member.id == id) {
        return Err(Problem::conflict("refused", format!("{} is no member", id.0)));
    }
    if voters > 0 && alive > voters / 2 {
        return Ok(membership);
    }
    let message = format!("of the {voters} voters that remain, only {alive} answer: no quorum");
    Err(Problem::conflict("quorum_at_risk", message))
}

pub(super) async fn transfer(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let result = async {
        let body = parse::body(&app, &parts.headers, body, BODY_MAX).await?.bytes;
        let successor: Successor =
            if body.is_empty() { Successor::default() } else { from_json(&body)? };
        let to = successor.to.map(NodeId);
        at_leader(&app, &parts, &body, &|node| {
            let app = &app;
            Box::pin(async move { hand_over(app, &node, to).await })
        })
        .await
    };
    app.respond(result.await)
}

async fn hand_over(app: &App, node: &Node, to: Option<NodeId>) -> Result<Response, Problem> {
    if to == Some(app.config.id) {
        return Ok(json(&serde_json::json!({ "term": node.now().term.0 })));
    }
    let request = ReplicaRequest::TransferLeadership { to };
    match timeout(app.config.request_timeout, node.ask(request)).await {
        Ok(Ok(Reply::Transferred { term })) => Ok(json(&serde_json::json!({ "term": term.0 }))),
        // Unlike a write it may have had an effect, so it is not tried again by itself.
        Ok(Ok(Reply::Failed(failure))) => Err(Problem::conflict("refused", failure.to_string())),
        Ok(Ok(other)) => Err(unexpected(&other)),
        Ok(Err(gone)) => Err(Problem::unknown_outcome(gone.to_string())),
        Err(_) => Err(Problem::unknown_outcome("the transfer has not ended in time")),
    }
}

/// How long a part of a backup, a quarter of a MiB, may wait until it is read. As long as a backup lasts,
/// it has the only place, and what changes is kept twice.
const SLOWEST: Duration = Duration::from_secs(60);

/// Whether a part was taken in time.
async fn hand_out<T>(parts: &mpsc::Sender<T>, part: T, limit: Duration) -> bool {
    matches!(timeout(limit, parts.send(part)).await, Ok(Ok(())))
}

/// What is handed out, and an error unless all of it was: an end without a word would look like the end.
fn until_whole<T>(
    taken: mpsc::Receiver<T>,
    is_whole: Arc<AtomicBool>,
) -> impl Stream<Item = io::Result<T>> {
    stream::unfold(Some(taken), move |taken| {
        let is_whole = Arc::clone(&is_whole);
        async move {
            let mut taken = taken?;
            match taken.recv().await {
                Some(part) => Some((Ok(part), Some(taken))),
                None if is_whole.load(Ordering::Acquire) => None,
                None => {
                    let slow = "the backup is read too slowly, or could not be made";
                    Some((Err(io::Error::new(io::ErrorKind::TimedOut, slow)), None))
                }
            }
        }
    })
}

/// All keys as of a moment after the question, in a file that proves that it is whole. It is made as it is
/// read, one at a time: what changes meanwhile is kept twice.
pub(super) async fn snapshot(State(app): State<Arc<App>>) -> Response {
    let result = async {
        let node = app.node()?;
        let place = Arc::clone(&app.backups).try_acquire_owned().map_err(|_| Problem::busy())?;
        let query = KvQuery::Get { key: Bytes::new() };
        confirmed(&app, &node, query, ReadMode::ReadIndex).await?;
        let look = node.inspect(|view| (view.applied(), view.store().kv().clone()));
        let (index, kv) =
            look.await.map_err(|gone| Problem::unavailable("stopped", gone.to_string()))?;
        let cluster = app.links.cluster();
        let (parts, taken) = mpsc::channel(2);
        let is_whole = Arc::new(AtomicBool::new(false));
        let made_whole = Arc::clone(&is_whole);
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let take = |part| runtime.block_on(hand_out(&parts, part, SLOWEST));
            let mut is_taken = true;
            backup::encode(cluster, index, &kv, |part| {
                is_taken = take(part);
                is_taken
            });
            drop((kv, place));
            made_whole.store(is_taken, Ordering::Release);
        });
        let mut response = Response::new(Body::from_stream(until_whole(taken, is_whole)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let name = HeaderValue::from_static("attachment; filename=\"raft-kv.backup\"");
        headers.insert(CONTENT_DISPOSITION, name);
        Ok(response)
    };
    app.respond(result.await)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn what_nobody_takes_is_not_offered_for_ever() {
        let (parts, mut taken) = mpsc::channel(1);
        let long = Duration::from_secs(60);
        assert!(hand_out(&parts, 1, long).await, "there is room");
        assert!(!hand_out(&parts, 2, Duration::from_millis(1)).await, "nobody reads");
        let (third, first) = tokio::join!(hand_out(&parts, 3, long), taken.recv());
        assert_eq!((third, first), (true, Some(1)), "what was taken back is not there");
        assert_eq!(taken.recv().await, Some(3));
        drop(taken);
        assert!(!hand_out(&parts, 4, long).await, "nobody is there");
    }

    #[tokio::test]
    async fn what_does_not_come_whole_ends_in_an_error() {
        for is_whole in [true, false] {
            let (parts, taken) = mpsc::channel(2);
            parts.send(1).await.unwrap();
            drop(parts);
            let parts = until_whole(taken, Arc::new(AtomicBool::new(is_whole)));
            let parts: Vec<Result<u8, io::ErrorKind>> =
                parts.map(|part| part.map_err(|error| error.kind())).collect().await;
            let whole: &[_] = &[Ok(1)];
            let cut: &[_] = &[Ok(1), Err(io::ErrorKind::TimedOut)];
            assert_eq!(parts, if is_whole { whole } else { cut });
        }
    }
}
