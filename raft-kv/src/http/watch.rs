//! Changes as they happen, as server-sent events.
//!
//! A watcher pulls: the task of its connection takes the next page of changes from the node whenever
//! the applied index has moved on and the page before has gone out. So a slow watcher holds its
//! connection and one page, which is bounded in bytes; if it falls behind what the ring holds, it is told
//! so and must list again. One that reads nothing at all loses its connection (`super::patience`).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use raft_core::Index;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch::Receiver;

use super::list::{Value, text};
use super::problem::Problem;
use super::{App, told};
use crate::node::{Gone, Node, Published};
use crate::store::{Change, Page, TooOld};

/// What is sent at once. The last change may be longer than that; the next page waits until this one is out.
const PAGE: Page = Page { changes_max: 256, bytes_max: 256 << 10 };

/// A silent connection says now and then that it lives, so that whoever is between does not close it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The data of an event.
#[derive(Serialize)]
struct Told {
    key: String,
    #[serde(flatten)]
    value: Option<Value>,
    index: u64,
}

/// A watcher's place.
struct Place {
    node: Node,
    published: Receiver<Published>,
    prefix: Bytes,
    after: Index,
    is_over: bool,
    /// Whether the server ends: a watcher must not hold it up.
    closing: Receiver<bool>,
    /// Every watcher looks at every change, on the node's thread: there are so many of them at most.
    _place: OwnedSemaphorePermit,
}

/// Tells all changes after an index of keys with a prefix.
pub(super) async fn watch(app: &Arc<App>, prefix: String, from: u64) -> Result<Response, Problem> {
    let node = app.node()?;
    let free = Arc::clone(&app.watchers).try_acquire_owned().map_err(|_| Problem::busy())?;
    let published = node.published();
    let (prefix, after) = (Bytes::from(prefix), Index(from));
    let closing = app.closing.clone();
    let mut place = Place { node, published, prefix, after, is_over: false, closing, _place: free };
    // The first page is taken before the answer begins: later there is no status to say 410 with.
    let first = match place.page().await {
        Ok(Ok(page)) => page,
        Ok(Err(too_old)) => return Err(Problem::gone(too_old)),
        Err(gone) => return Err(Problem::unavailable("stopped", gone.to_string())),
    };
    let head = Bytes::from(format!(": changes after {from}\n\n"));
    let begin = Bytes::from([head, first].concat());
    let rest = stream::unfold(place, |mut place| async move {
        let next = place.next().await?;
        Some((Ok::<_, std::convert::Infallible>(next), place))
    });
    let body = stream::once(async move { Ok(begin) });
    let body = Body::from_stream(futures_util::StreamExt::chain(body, rest));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Place {
    /// The changes that have been made and not been told; none if there are none.
    async fn page(&mut self) -> Result<Result<Bytes, TooOld>, Gone> {
        let (after, prefix) = (self.after, self.prefix.clone());
        let found =
            self.node.inspect(move |view| view.store().changes(after, &prefix, PAGE)).await?;
        Ok(found.map(|(changes, through)| {
            self.after = through;
            Bytes::from(changes.iter().map(event).collect::<String>())
        }))
    }

    /// What to send next; `None`: the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        loop {
            self.published.borrow_and_update();
            match self.page().await.ok()? {
                Ok(page) if page.is_empty() => {}
                Ok(page) => return Some(page),
                Err(too_old) => {
                    self.is_over = true;
                    return Some(Bytes::from(format!("event: gone\ndata: {too_old}\n\n")));
                }
            }
            tokio::select! {
                changed = self.published.changed() => changed.ok()?,
                () = told(&mut self.closing) => return None,
                () = tokio::time::sleep(KEEP_ALIVE) => {
                    // Nothing is missing through here: who comes back need not begin with its last change.
                    let line = format!("id: {}\n: still here\n\n", self.after.0);
                    return Some(Bytes::from(line));
                }
            }
        }
    }
}

fn event(change: &Change) -> String {
    let told = Told {
        key: text(&change.key),
        value: change.value.as_ref().map(Value::of),
        index: change.index.0,
    };
    let kind = if change.value.is_some() { "put" } else { "delete" };
    let data = serde_json::to_string(&told).expect("strings and numbers always serialize");
    format!("id: {}\nevent: {kind}\ndata: {data}\n\n", change.index.0)
}
