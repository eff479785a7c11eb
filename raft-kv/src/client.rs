//! A client of the HTTP interface: knows several servers, tries them until one answers.
//!
//! It follows the one rule of the answers: after a 503 certainly nothing was done, so any request is
//! tried again elsewhere; after a 504, a broken connection, or a 503 that no server of ours has written, a
//! write is tried again only if it carries an `Idempotency-Key`. What a later try did not do says nothing of
//! such an earlier one: only an answer that is that of all tries ends the doubt.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::tls::{self, ClientFiles, Connector, TlsError};

/// Names a client and its command.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How long to wait before the servers are asked once more.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one of several servers may be silent before the next one is asked what may be asked twice.
const TRY: Duration = Duration::from_secs(2);

/// How long a command under a single name is tried again after a try that may have been executed. Servers
/// remember the name for 15 seconds; a try that has left them may take a while until it is executed.
const SINGLE_NAME: Duration = Duration::from_secs(10);

/// What a server that was told to leave others' work to others says, instead of an error in JSON.
pub(crate) const NOT_THE_LEADER: &str = "not the leader";

/// What a server says is wrong.
#[derive(Debug, Deserialize)]
pub(crate) struct Said {
    /// The kind.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
}

impl Said {
    /// `None`: it was no server of ours that said so, but somebody between, who cannot know whether the
    /// request arrived.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        if body == NOT_THE_LEADER.as_bytes() {
            let (code, message) = ("not_leader".to_owned(), NOT_THE_LEADER.to_owned());
            return Some(Self { code, message });
        }
        serde_json::from_slice(body).ok()
    }
}

/// A client.
#[derive(Clone)]
pub struct Client {
    http: hyper_util::client::legacy::Client<Connector, Full<Bytes>>,
    endpoints: Vec<String>,
    headers: HeaderMap,
    /// How long a request may take until its answer begins, all tries together; and how long an answer may
    /// be silent in its middle.
    pub timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// A request, without the server that it goes to.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// What goes with it.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Ask {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// The same with a body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The same with a header; one that cannot be printed is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Whether a second try does no harm.
    fn is_repeatable(&self) -> bool {
        self.is_read() || self.headers.contains_key(IDEMPOTENCY_KEY)
    }

    fn is_read(&self) -> bool {
        self.method == Method::GET
    }

    /// Whether it goes by a name that no other command has.
    fn has_single_name(&self) -> bool {
        let name = self.headers.get(IDEMPOTENCY_KEY);
        name.is_some_and(|name| !name.as_bytes().contains(&b'/'))
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// What came with it.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether it holds for every try of a command that has a name: what it came to is kept under that
    /// name, or it is said that it is not kept.
    fn is_of_all_tries(&self) -> bool {
        let is_kept = [StatusCode::PRECONDITION_FAILED, StatusCode::CONFLICT];
        self.status.is_success() || is_kept.contains(&self.status)
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// A client of the servers at these base URLs; without a scheme, `http://` is meant.
    #[must_use]
    pub fn new(endpoints: &[String]) -> Self {
        Self::with_tls(endpoints, &ClientFiles::default()).expect("no file is named")
    }

    /// The same with certificates; without a scheme, `https://` is meant if there is an authority to
    /// believe.
    ///
    /// # Errors
    /// A file cannot be read or used, or this build has no TLS.
    pub fn with_tls(endpoints: &[String], files: &ClientFiles) -> Result<Self, TlsError> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_connect_timeout(Some(Duration::from_secs(1)));
        let connector = tls::connector(http, files)?;
        let http =
            hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        let scheme = if files.ca.is_some() { "https" } else { "http" };
        let base = |endpoint: &String| {
            let endpoint = endpoint.trim_end_matches('/');
            let is_whole = endpoint.contains("://");
            if is_whole { endpoint.into() } else { format!("{scheme}://{endpoint}") }
        };
        let endpoints = endpoints.iter().map(base).collect();
        let timeout = Duration::from_secs(10);
        Ok(Self { http, endpoints, headers: HeaderMap::new(), timeout })
    }

    /// An endpoint that is no address.
    #[must_use]
    pub fn bad_endpoint(&self) -> Option<&str> {
        let is_bad = |base: &&String| {
            let uri = base.parse::<hyper::Uri>();
            !uri.is_ok_and(|uri| {
                let has_port = uri.port().is_some() || uri.scheme_str() == Some("https");
                uri.host().is_some_and(|host| !host.is_empty()) && has_port
            })
        };
        self.endpoints.iter().find(is_bad).map(|base| base.rsplit("://").next().unwrap_or(base))
    }

    /// The same with a bearer token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}")) {
            self.headers.insert(AUTHORIZATION, value);
        }
        self
    }

    /// Asks the servers one after the other until one gives an answer that is worth something.
    ///
    /// # Errors
    /// None did in time, or one may have done what was asked.
    pub async fn ask(&self, ask: &Ask) -> Result<Answer, ClientError> {
        let mut tries = Tries::new(ask, Instant::now() + self.timeout);
        loop {
            for endpoint in &self.endpoints {
                let began = Instant::now();
                if began >= tries.deadline {
                    return Err(tries.end());
                }
                let patience = self.patience(ask, tries.deadline);
                let tried = self.try_at(endpoint, ask, patience).await;
                if let Some(outcome) = tries.note(began, tried) {
                    return outcome;
                }
            }
            if Instant::now() >= tries.deadline {
                return Err(tries.end());
            }
            sleep_until(tries.deadline.min(Instant::now() + PAUSE)).await;
        }
    }

    /// Asks the first server once, and returns whatever it answers.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn once(&self, ask: &Ask) -> Result<Answer, ClientError> {
        let endpoint = self.endpoints.first();
        let nobody = || ClientError::Unreachable("no server is named".to_owned());
        let deadline = Instant::now() + self.timeout;
        let patience = Patience { deadline, silence: self.timeout };
        self.try_at(endpoint.ok_or_else(nobody)?, ask, patience).await
    }

    /// Asks one server, once, and returns its answer as it begins: for bodies without an end.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn open(&self, ask: &Ask) -> Result<Response<Incoming>, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let mut last = ClientError::Unreachable("no server is named".to_owned());
        for endpoint in &self.endpoints {
            match self.send(endpoint, ask, self.patience(ask, deadline)).await {
                Ok(response) => return Ok(response),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// One server that hangs must not take the time of all, where another one may be asked as well.
    fn patience(&self, ask: &Ask, deadline: Instant) -> Patience {
        let may_move_on = self.endpoints.len() > 1 && ask.is_repeatable();
        Patience { deadline, silence: if may_move_on { TRY } else { self.timeout } }
    }

    async fn send(
        &self,
        endpoint: &str,
        ask: &Ask,
        patience: Patience,
    ) -> Result<Response<Incoming>, ClientError> {
        let uri = format!("{endpoint}{}", ask.path);
        let mut request = Request::builder().method(ask.method.clone()).uri(uri.as_str());
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
            headers.extend(ask.headers.clone());
        }
        let request = request
            .body(Full::new(ask.body.clone()))
            .map_err(|error| ClientError::Unreachable(format!("{uri}: {error}")))?;
        match timeout_at(patience.end(), self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => {
                let why = reason(&error);
                Err(ClientError::Unreachable(format!("{endpoint} cannot be reached: {why}")))
            }
            Ok(Err(error)) => Err(ClientError::Unknown(format!("{endpoint}: {error}"))),
            Err(_) => Err(ClientError::Unknown(format!("{endpoint} has not answered in time"))),
        }
    }

    async fn try_at(
        &self,
        endpoint: &str,
        ask: &Ask,
        patience: Patience,
    ) -> Result<Answer, ClientError> {
        let response = self.send(endpoint, ask, patience).await?;
        let (parts, mut rest) = response.into_parts();
        let unknown = |what: &str| ClientError::Unknown(format!("{endpoint}: {what}"));
        let mut body = BytesMut::new();
        loop {
            // What comes slowly comes, for as long as it does; only silence is not waited for.
            match timeout(self.timeout, rest.frame()).await {
                Ok(Some(Ok(frame))) => body.extend(frame.into_data()),
                Ok(Some(Err(_))) => return Err(unknown("the answer broke off")),
                Ok(None) => break,
                Err(_) => return Err(unknown("the answer did not come in time")),
            }
        }
        let (status, headers) = (parts.status, parts.headers);
        Ok(Answer { status, headers, body: body.freeze() })
    }
}

/// What the tries of one request have come to so far.
#[derive(Debug)]
struct Tries<'a> {
    ask: &'a Ask,
    /// No try begins after this.
    deadline: Instant,
    /// Why a write may have been executed, or may yet be, since some try.
    doubt: Option<String>,
    last: ClientError,
}

impl<'a> Tries<'a> {
    fn new(ask: &'a Ask, deadline: Instant) -> Self {
        let last = ClientError::Unreachable("no server is named".to_owned());
        Self { ask, deadline, doubt: None, last }
    }

    /// Takes note of a try. The outcome of all of them, if there is no use in another one.
    fn note(
        &mut self,
        began: Instant,
        tried: Result<Answer, ClientError>,
    ) -> Option<Result<Answer, ClientError>> {
        let failure = match tried {
            Err(error) => error,
            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                let is_certain = self.ask.is_read() || Said::of(&answer.body).is_some();
                let kind = if is_certain { ClientError::Unavailable } else { ClientError::Unknown };
                kind(answer.text())
            }
            Ok(answer)
                if answer.status == StatusCode::GATEWAY_TIMEOUT && self.ask.is_repeatable() =>
            {
                ClientError::Unknown(answer.text())
            }
            Ok(answer) if self.doubt.is_none() || answer.is_of_all_tries() => {
                return Some(Ok(answer));
            }
            // This try did nothing, and the next one may find out what became of the other.
            Ok(answer) => ClientError::Unavailable(answer.text()),
        };
        if let ClientError::Unknown(why) = &failure
            && !self.ask.is_read()
        {
            if !self.ask.is_repeatable() {
                return Some(Err(failure));
            }
            if self.doubt.is_none() && self.ask.has_single_name() {
                self.deadline = self.deadline.min(began + SINGLE_NAME);
            }
            self.doubt.get_or_insert_with(|| why.clone());
        }
        self.last = failure;
        None
    }

    /// Why none of them has ended it.
    fn end(self) -> ClientError {
        self.doubt.map_or(self.last, ClientError::Unknown)
    }
}

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// The answer begins by then.
    deadline: Instant,
    /// The longest time without anything.
    silence: Duration,
}

impl Patience {
    fn end(self) -> Instant {
        self.deadline.min(Instant::now() + self.silence)
    }
}

/// The last cause of an error: what the system, or the other side, has said.
fn reason(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// Nobody was there: nothing was done.
    Unreachable(String),
    /// Nobody could do it: nothing was done.
    Unavailable(String),
    /// It may have been done, or not.
    Unknown(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(what) => write!(f, "nothing was done: {what}"),
            Self::Unavailable(what) => write!(f, "nothing was done: {what}"),
            Self::Unknown(what) => write!(f, "the outcome is not known: {what}"),
        }
    }
}

impl std::error::Error for ClientError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str) -> Ask {
        Ask::new(Method::PUT, "/kv/k").header(IDEMPOTENCY_KEY, name)
    }

    #[test]
    fn a_single_name_is_tried_again_only_while_it_is_remembered() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let lost = || Err(ClientError::Unknown("lost".to_owned()));
        let deadline = begin + 60 * second;
        for (name, left) in [("cli-7", 8 * second + SINGLE_NAME), ("alice/7", 60 * second)] {
            let ask = put(name);
            let mut tries = Tries::new(&ask, deadline);
            // As long as nothing was done, it is not there to be forgotten.
            let nobody = Err(ClientError::Unreachable("nobody".to_owned()));
            assert!(tries.note(begin, nobody).is_none() && tries.deadline == deadline);
            assert!(tries.note(begin + 8 * second, lost()).is_none());
            assert!(tries.note(begin + 9 * second, lost()).is_none());
            assert_eq!(tries.deadline - begin, left, "{name}");
            assert_eq!(tries.end(), ClientError::Unknown("lost".to_owned()));
        }
    }
}
