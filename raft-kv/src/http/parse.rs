//! What a request says: key, condition, number of a try, query, body. All of it comes from outside.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use percent_encoding::percent_decode_str;
use raft_core::Index;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::App;
use super::problem::Problem;
use crate::node::Share;
use crate::store::{Condition, Once};

/// Names a client and its command, `CLIENT/SEQ`, or a command alone, `NAME`.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The index of the last change that a watcher has seen; browsers send it by themselves.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The longest name of a client or a command, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// The key in a path: all behind `/kv/`, decoded. It is UTF-8, so that JSON can name it.
pub(super) fn key(app: &App, path: &str) -> Result<Bytes, Problem> {
    let encoded = path.strip_prefix("/kv/").unwrap_or_default();
    let key = percent_decode_str(encoded).decode_utf8();
    let key = key.map_err(|_| Problem::bad_request("the key is not UTF-8"))?;
    if key.is_empty() {
        return Err(Problem::bad_request("the key is empty"));
    }
    if key.len() > app.config.key_bytes_max {
        return Err(Problem::too_large("key", app.config.key_bytes_max));
    }
    Ok(Bytes::copy_from_slice(key.as_bytes()))
}

/// The tag of a version.
pub(super) fn etag(version: Index) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{}\"", version.0)).expect("digits and quotes are printable")
}

/// What must be so before a write.
pub(super) fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let (if_match, if_none_match) = (headers.get(IF_MATCH), headers.get(IF_NONE_MATCH));
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Always),
        (Some(tags), None) if tags == "*" => Ok(Condition::Present),
        (Some(tags), None) => Ok(Condition::VersionIn(versions(tags)?)),
        (None, Some(tags)) if tags == "*" => Ok(Condition::Absent),
        (None, Some(_)) => Err(Problem::bad_request("If-None-Match of a write is * here")),
        (Some(_), Some(_)) => Err(Problem::bad_request("If-Match and If-None-Match together")),
    }
}

/// Whether the reader has this version already.
pub(super) fn has_version(headers: &HeaderMap, version: Index) -> bool {
    let tags = headers.get(IF_NONE_MATCH);
    tags.is_some_and(|tags| {
        tags == "*" || versions(tags).is_ok_and(|versions| versions.contains(&version))
    })
}

/// A list of tags. A weak one, or one that is none of ours, is no version: it matches nothing.
fn versions(tags: &HeaderValue) -> Result<Vec<Index>, Problem> {
    let tags = tags.to_str().map_err(|_| Problem::bad_request("the tags are not printable"))?;
    let version = |tag: &str| tag.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok();
    Ok(tags.split(',').filter_map(version).map(Index).collect())
}

/// Which try of which command this is.
pub(super) fn once(headers: &HeaderMap) -> Result<Option<Once>, Problem> {
    let Some(header) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let wrong = || {
        Problem::bad_request(
            "Idempotency-Key is CLIENT/SEQ, SEQ a number from 1, or a NAME without /",
        )
    };
    let text = header.to_str().map_err(|_| wrong())?;
    let name = text.rsplit_once('/').map_or(text, |(client, _)| client);
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(wrong());
    }
    let name = Bytes::copy_from_slice(name.as_bytes());
    let Some((_, serial)) = text.rsplit_once('/') else { return Ok(Some(Once::Single { name })) };
    let serial = serial.parse().ok().filter(|serial| *serial > 0).ok_or_else(wrong)?;
    Ok(Some(Once::Next { client: name, serial }))
}

/// The last event that a watcher has seen before it was cut off.
pub(super) fn last_event(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(header) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let index = header.to_str().ok().and_then(|text| text.parse().ok());
    index.map(Some).ok_or_else(|| Problem::bad_request("Last-Event-ID is an index"))
}

/// The query of a URI.
pub(super) fn query<T: DeserializeOwned>(uri: &hyper::Uri) -> Result<T, Problem> {
    axum::extract::Query::try_from_uri(uri)
        .map(|query| query.0)
        .map_err(|error| Problem::bad_request(error.body_text()))
}

/// A body, and its share of what may be under way.
pub(super) struct Payload {
    pub(super) bytes: Bytes,
    pub(super) share: Option<Share>,
}

/// Reads a body of at most `max` bytes. What has come takes its share; what is only announced takes
/// nothing, or who announces much and sends nothing would keep everybody else out.
pub(super) async fn body(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    max: usize,
) -> Result<Payload, Problem> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > max) {
        return Err(Problem::too_large("value", max));
    }
    let limit: Duration = app.config.request_timeout;
    let gathered = tokio::time::timeout(limit, gather(&app.body_budget, body, max)).await;
    gathered.unwrap_or_else(|_| Err(Problem::slow_body()))
}

async fn gather(budget: &Arc<Semaphore>, mut body: Body, max: usize) -> Result<Payload, Problem> {
    let mut share: Option<OwnedSemaphorePermit> = None;
    let (mut parts, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::bad_request("the body broke off"))?;
        let Ok(part) = frame.into_data() else { continue };
        length += part.len();
        if length > max {
            return Err(Problem::too_large("value", max));
        }
        let bytes = u32::try_from(part.len()).map_err(|_| Problem::too_large("value", max))?;
        let more = Arc::clone(budget).try_acquire_many_owned(bytes);
        let more = more.map_err(|_| Problem::busy())?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        parts.push(part);
    }
    let bytes = match &mut parts[..] {
        [part] => std::mem::take(part),
        parts => parts.concat().into(),
    };
    Ok(Payload { bytes, share: share.map(Share::new) })
}
