//! Many keys: a page of them as JSON, or their changes as they happen.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use raft_replica::kv::{KvAnswer, KvQuery, SCAN_ENTRIES_MAX};
use serde::{Deserialize, Serialize};

use super::kv::{ReadOptions, read};
use super::parse;
use super::problem::Problem;
use super::{App, watch};

/// How many keys a page has if nothing is said.
const LIMIT: u32 = 100;

/// What a list may ask for in its query.
#[derive(Debug, Deserialize)]
struct Options {
    #[serde(default)]
    prefix: String,
    limit: Option<u32>,
    after: Option<String>,
    #[serde(default)]
    keys_only: bool,
    watch: Option<u64>,
}

/// A page.
#[derive(Serialize)]
struct Page {
    keys: Vec<Entry>,
    /// The index that the page takes into account: where to watch from.
    index: u64,
    /// What to give as `after` to get the next page; null at the end.
    next: Option<String>,
}

/// A key. A value that is text is there as text, another one in base64.
#[derive(Serialize)]
pub(super) struct Entry {
    key: String,
    #[serde(flatten)]
    value: Option<Value>,
    version: u64,
}

/// A value as JSON can hold it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Value {
    Value(String),
    ValueBase64(String),
}

impl Value {
    pub(super) fn of(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Value(text.to_owned()),
            Err(_) => Self::ValueBase64(STANDARD.encode(bytes)),
        }
    }
}

pub(super) fn text(key: &Bytes) -> String {
    String::from_utf8_lossy(key).into_owned()
}

pub(super) async fn list(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    app.respond(answer(&app, &parts).await)
}

async fn answer(app: &Arc<App>, parts: &Parts) -> Result<Response, Problem> {
    let options: Options = parse::query(&parts.uri)?;
    if let Some(from) = options.watch {
        // Who was cut off says what it has seen.
        let from = parse::last_event(&parts.headers)?.unwrap_or(from);
        return watch::watch(app, options.prefix, from).await;
    }
    let limit = options.limit.unwrap_or(LIMIT);
    if limit == 0 || limit > SCAN_ENTRIES_MAX {
        return Err(Problem::bad_request(format!("limit is 1 to {SCAN_ENTRIES_MAX}")));
    }
    let after = options.after.map(Bytes::from);
    let query = KvQuery::Scan { prefix: Bytes::from(options.prefix), after, limit };
    let read_options: ReadOptions = parse::query(&parts.uri)?;
    let found = read(app, parts, query, &read_options).await?;
    let KvAnswer::Page { entries, more } = &found.answer else {
        return Err(Problem::internal("a page was asked for"));
    };
    let entry = |(key, found): &(Bytes, raft_replica::kv::Versioned)| Entry {
        key: text(key),
        value: (!options.keys_only).then(|| Value::of(&found.value)),
        version: found.version.0,
    };
    let page = Page {
        keys: entries.iter().map(entry).collect(),
        index: found.index.0,
        next: entries.last().filter(|_| *more).map(|(key, _)| text(key)),
    };
    let mut response = json(&page);
    found.label(&mut response);
    Ok(response)
}

/// A response in JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    let body = serde_json::to_vec(value).expect("strings and numbers always serialize");
    let mut response = Response::new(Body::from(body));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
