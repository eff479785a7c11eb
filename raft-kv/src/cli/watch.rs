//! `raft-kv watch`: changes as they happen, at whichever server answers, for ever.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::header::HeaderName;
use hyper::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use raft_kv::client::{Ask, Client};
use tokio::time::{Instant, sleep};

use super::complain;
use super::verbs::{Outcome, good, print};

/// What browsers send when they come back, too.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How long to wait before the servers are asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Prints events until a server says that the changes are gone, or none answers for the client's time.
pub(super) async fn watch(client: &Client, prefix: &str, from: Option<u64>) -> Outcome {
    let mut after = match from {
        Some(from) => from,
        None => present(client).await?,
    };
    let prefix = utf8_percent_encode(prefix, NON_ALPHANUMERIC);
    let mut heard = Instant::now();
    loop {
        let ask = Ask::new(Method::GET, format!("/kv?prefix={prefix}&watch={after}"))
            .header(LAST_EVENT_ID, &after.to_string());
        let why = match client.open(&ask).await {
            Ok(response) if response.status().is_success() => {
                let seen = follow(response.into_body(), &mut after).await?;
                heard = if seen { Instant::now() } else { heard };
                "the connection has ended".to_owned()
            }
            Ok(response) => {
                let status = response.status();
                if status != StatusCode::SERVICE_UNAVAILABLE {
                    let body = response.into_body().collect().await;
                    let body = body.map_err(|error| error.to_string())?.to_bytes();
                    return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
                }
                status.to_string()
            }
            Err(error) => error.to_string(),
        };
        if heard.elapsed() > client.timeout {
            return Err(format!("{why}; go on with --from {after}"));
        }
        complain(format!("{why}: going on after index {after}"));
        sleep(PAUSE).await;
    }
}

/// The index of the last change that there is.
async fn present(client: &Client) -> Result<u64, String> {
    let ask = Ask::new(Method::GET, "/kv?limit=1&keys_only=true");
    let page = good(client.ask(&ask).await)?.body;
    let page: serde_json::Value =
        serde_json::from_slice(&page).map_err(|error| error.to_string())?;
    page["index"].as_u64().ok_or_else(|| "the server does not tell its index".to_owned())
}

/// Prints the events of one connection, whole ones only, and keeps the last index. Whether there was any.
async fn follow(mut body: hyper::body::Incoming, after: &mut u64) -> Result<bool, String> {
    let (mut text, mut seen) = (Vec::new(), false);
    // However the connection ends, the next one goes on from the last event.
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        text.extend_from_slice(&data);
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let rest = text.split_off(end + 2);
            let event = std::mem::replace(&mut text, rest);
            let index = index_of(&event);
            *after = index.unwrap_or(*after);
            seen = true;
            print(&event)?;
            if event.starts_with(b"event: gone") {
                return Err("the changes are gone: list the keys again".to_owned());
            }
        }
    }
    Ok(seen)
}

/// The index that an event carries as its id.
fn index_of(event: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(event).ok()?;
    text.lines().find_map(|line| line.strip_prefix("id: ")?.parse().ok())
}
