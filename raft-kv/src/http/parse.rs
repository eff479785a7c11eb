//! What a request says: key, condition, number of a try, query, body. All of it comes from outside.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
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
    if !is_percent_encoded(encoded) {
        return Err(Problem::bad_request("the key has a % that no two hexadecimal digits follow"));
    }
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

/// Whether every `%` begins an encoded byte: what is written otherwise names more than one key, or none.
fn is_percent_encoded(text: &str) -> bool {
    let is_byte = |digits: &str| {
        digits.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).all(is_byte)
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
///
/// # Errors
/// Something in it is no tag at all.
fn versions(tags: &HeaderValue) -> Result<Vec<Index>, Problem> {
    let wrong = || Problem::bad_request("a tag stands in double quotes, as in \"45\"");
    let tags = tags.to_str().map_err(|_| Problem::bad_request("the tags are not printable"))?;
    let opaque = |tag: &str| {
        let tag = tag.trim();
        let strong = tag.strip_prefix("W/").unwrap_or(tag);
        let opaque = strong.strip_prefix('"')?.strip_suffix('"')?;
        Some(if strong == tag { opaque.parse().ok() } else { None })
    };
    let versions: Option<Vec<Option<u64>>> = tags.split(',').map(opaque).collect();
    Ok(versions.ok_or_else(wrong)?.into_iter().flatten().map(Index).collect())
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
    let mut whole = Gathered::Nothing;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::bad_request("the body broke off"))?;
        let Ok(part) = frame.into_data() else { continue };
        if whole.len() + part.len() > max {
            return Err(Problem::too_large("value", max));
        }
        let bytes = u32::try_from(part.len()).map_err(|_| Problem::too_large("value", max))?;
        let more = Arc::clone(budget).try_acquire_many_owned(bytes);
        let more = more.map_err(|_| Problem::busy())?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        whole.add(part);
    }
    Ok(Payload { bytes: whole.bytes(), share: share.map(Share::new) })
}

/// What has come of a body. One part stays as it is; several are copied together as they come, for each
/// of them holds what it was read with, and may be a single byte.
enum Gathered {
    Nothing,
    One(Bytes),
    Several(BytesMut),
}

impl Gathered {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(part) => part.len(),
            Self::Several(parts) => parts.len(),
        }
    }

    fn add(&mut self, part: Bytes) {
        *self = match std::mem::replace(self, Self::Nothing) {
            Self::Nothing => Self::One(part),
            Self::One(first) => {
                let mut parts = BytesMut::with_capacity(2 * (first.len() + part.len()));
                parts.extend_from_slice(&first);
                parts.extend_from_slice(&part);
                Self::Several(parts)
            }
            Self::Several(mut parts) => {
                parts.extend_from_slice(&part);
                Self::Several(parts)
            }
        };
    }

    fn bytes(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(part) => part,
            Self::Several(parts) => parts.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;

    use super::*;

    /// A part of a body that is counted as long as it is held.
    struct Held(Arc<AtomicUsize>);

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            b"x"
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_body_of_single_bytes_takes_no_more_than_its_length() {
        const LENGTH: usize = 100_000;
        let (held, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (now, seen) = (Arc::clone(&held), Arc::clone(&most));
        let part = move |_| {
            seen.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_owner(Held(Arc::clone(&now))))
        };
        let body = Body::from_stream(stream::iter((0..LENGTH).map(part)));
        let budget = Arc::new(Semaphore::new(LENGTH));
        let payload = gather(&budget, body, LENGTH).await.ok().unwrap();
        assert_eq!(payload.bytes, vec![b'x'; LENGTH]);
        assert_eq!(budget.available_permits(), 0, "every byte is counted");
        assert!(
            most.load(Ordering::Relaxed) <= 3,
            "{} parts are held",
            most.load(Ordering::Relaxed)
        );
        drop(payload);
        assert_eq!((budget.available_permits(), held.load(Ordering::Relaxed)), (LENGTH, 0));
    }
}
