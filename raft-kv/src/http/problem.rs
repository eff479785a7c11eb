//! What is wrong, as clients are told.
//!
//! One rule matters most: 503 says that certainly nothing was done, 504 that it may have been done or
//! may yet be. A client that gets a 504 for a write must look, or try again with an Idempotency-Key.

use axum::body::Body;
use axum::response::Response;
use hyper::header::{
    CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Method, StatusCode};
use raft_core::{Index, Member, Rejection};
use raft_replica::request::Failure;
use serde::Serialize;

use super::App;
use super::parse::etag;
use crate::client::{NOT_THE_LEADER, Said};
use crate::store::TooOld;

/// What servers tell each other of a request with several steps of which not all have come about. No
/// client sees it.
const PARTLY_DONE: &str = "partly_done";

/// What a leader may say of itself with a 503 that is passed on as it is.
const LEADERS_CODES: [&str; 14] = [
    "crowded",
    "halted",
    "no_leader",
    "not_a_member",
    "not_leader",
    "not_ready",
    PARTLY_DONE,
    "repairing",
    "session_expired",
    "starting",
    "stopped",
    "superseded",
    "transferring",
    "unavailable",
];

/// When to try again after something that passes by itself.
const RETRY_AFTER_MS: u64 = 100;

/// Why a request does not get what it asked for.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after_ms: Option<u64>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The body is the message alone.
    is_plain: bool,
}

/// The body of an error.
#[derive(Serialize)]
struct Told<'a> {
    code: &'a str,
    message: &'a str,
    leader: Option<Leader>,
    term: Option<u64>,
    node: u64,
    reachable: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// Who leads, as far as it is known.
#[derive(Serialize)]
pub(super) struct Leader {
    id: u64,
    url: Option<String>,
    /// How long ago it was heard; null where it leads itself, or was not heard yet.
    heard_ms_ago: Option<u64>,
}

impl Leader {
    pub(super) fn of(app: &App, leader: Member) -> Self {
        let id = leader.id;
        let me = app.config.id;
        let url =
            if id == me { Some(app.config.client_url()) } else { app.links.client_url(leader) };
        let heard_ms_ago = app.links.silence_of(leader).map(|silence| silence.0 / 1000);
        Self { id: id.0, url, heard_ms_ago }
    }
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let (message, headers) = (message.into(), Vec::new());
        Self { status, code, message, retry_after_ms: None, headers, is_plain: false }
    }

    fn passing(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { retry_after_ms: Some(RETRY_AFTER_MS), ..Self::new(status, code, message) }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn unauthorized() -> Self {
        let message = "a bearer token is needed";
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
        problem.headers.push((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        problem
    }

    pub(super) fn unknown_path(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_path", format!("there is nothing at {path}"))
    }

    pub(super) fn wrong_method(method: &Method, path: &str) -> Self {
        let message = format!("{method} is nothing that {path} understands");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
    }

    pub(super) fn no_such_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "the key is absent")
    }

    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    pub(super) fn unmet(found: Option<Index>) -> Self {
        let message = match found {
            Some(index) => format!("the precondition does not hold: the version is {}", index.0),
            None => "the precondition does not hold: the key is absent".to_owned(),
        };
        let mut problem =
            Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", message);
        problem.headers.extend(found.map(|found| (ETAG, etag(found))));
        problem
    }

    pub(super) fn too_large(what: &str, max: usize) -> Self {
        let message = format!("the {what} is larger than {max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn busy() -> Self {
        let message = "too much is under way; nothing was done";
        Self::passing(StatusCode::TOO_MANY_REQUESTS, "busy", message)
    }

    pub(super) fn no_room() -> Self {
        let message = "there is no room for more; reads and deletes work";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_room", message)
    }

    pub(super) fn gone(error: TooOld) -> Self {
        Self::new(StatusCode::GONE, "too_old", error.to_string())
    }

    pub(super) fn slow_body() -> Self {
        let message = "the body did not come in time; nothing was done";
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message)
    }

    pub(super) fn starting() -> Self {
        let message = "the server has no place in a cluster yet";
        Self::passing(StatusCode::SERVICE_UNAVAILABLE, "starting", message)
    }

    pub(super) fn crowded() -> Self {
        Self::unavailable("crowded", "all connections are taken; nothing was done")
    }

    /// Nothing was done, and it is worth another try.
    pub(super) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::passing(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    pub(super) fn unknown_outcome(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "unknown_outcome", message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// The answer of a server that was told to leave others' work to others.
    pub(super) fn refused() -> Self {
        Self { is_plain: true, ..Self::unavailable("not_leader", NOT_THE_LEADER) }
    }

    pub(super) fn redirect(to: &str) -> Self {
        let mut problem =
            Self::new(StatusCode::TEMPORARY_REDIRECT, "not_leader", "the leader is elsewhere");
        problem.headers.extend(HeaderValue::from_str(to).map(|to| (LOCATION, to)));
        problem
    }

    /// What a failure of the replica means for a write.
    pub(super) fn of_write(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::NotLeader { .. } => Self::unavailable("not_leader", message),
            Failure::Transferring => Self::unavailable("transferring", message),
            Failure::Superseded => Self::unavailable("superseded", message),
            Failure::Expired => Self::unavailable("session_expired", message),
            Failure::Busy => Self::busy(),
            Failure::TooLarge => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the command is too large")
            }
            Failure::Refused(reason) => Self::of_rejection(reason),
            Failure::Malformed => Self::internal(message),
            Failure::Unknown | Failure::StaleSerial | Failure::Halted | _ => {
                Self::unknown_outcome(message)
            }
        }
    }

    /// What a failure of the replica means for a read: nothing was done in any case.
    pub(super) fn of_read(failure: Failure) -> Self {
        match Self::of_write(failure) {
            problem if problem.status == StatusCode::GATEWAY_TIMEOUT => {
                Self::unavailable("unavailable", problem.message)
            }
            problem => problem,
        }
    }

    /// Nothing was done. What does not fit the cluster is the asker's affair; all else passes.
    fn of_rejection(reason: Rejection) -> Self {
        let message = reason.to_string();
        match reason {
            Rejection::UnknownMember
            | Rejection::MembershipPending
            | Rejection::MembershipDiffers
            | Rejection::InvalidMembership(_)
            | Rejection::NoChange
            | Rejection::NotJoint
            | Rejection::NotCaughtUp { .. }
            | Rejection::NotHeard { .. }
            | Rejection::NotReplicating { .. }
            | Rejection::TransferAborted => Self::conflict("refused", message),
            Rejection::DiskFull => Self::no_room(),
            Rejection::Busy => Self::busy(),
            Rejection::TooLarge => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the command is too large")
            }
            Rejection::NotLeader { .. } => Self::unavailable("not_leader", message),
            Rejection::Transferring => Self::unavailable("transferring", message),
            Rejection::NoOwnCommit => Self::unavailable("not_ready", message),
            Rejection::Damaged { .. } => Self::unavailable("repairing", message),
            Rejection::Halted => Self::unavailable("halted", message),
            Rejection::Exhausted | _ => Self::unavailable("unavailable", message),
        }
    }

    /// Whether nothing was done, and another server, or this one a little later, may do it.
    pub(super) fn is_passing(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE && self.retry_after_ms.is_some()
    }

    /// The same after a step of the request that did come about. Servers tell each other so, and try again:
    /// what else says that nothing was done, and may pass, would not be true any more.
    pub(super) fn begun(self) -> Self {
        let is_passing = self.is_passing()
            || [StatusCode::TOO_MANY_REQUESTS, StatusCode::INSUFFICIENT_STORAGE]
                .contains(&self.status);
        if is_passing { Self::unavailable(PARTLY_DONE, self.message) } else { self }
    }

    /// Whether a step of the request did come about.
    pub(super) fn is_begun(&self) -> bool {
        self.code == PARTLY_DONE
    }

    /// The same for a client: of what was begun nobody can say that nothing was done.
    pub(super) fn ended(self) -> Self {
        if self.is_begun() {
            return Self::unknown_outcome(format!(
                "a part of it was done, and then: {}",
                self.message
            ));
        }
        self
    }

    /// What another server's answer with 503 says.
    pub(super) fn of_leader(body: &[u8]) -> Self {
        let Some(said) = Said::of(body) else {
            // Somebody between has answered for a leader that may have the request.
            return Self::unknown_outcome("it was not the leader that has answered");
        };
        match LEADERS_CODES.into_iter().find(|code| *code == said.code) {
            Some(code) => Self::unavailable(code, said.message),
            None => Self::unavailable("not_leader", "the leader is changing; nothing was done"),
        }
    }

    /// Whether the request does not fit the cluster: nothing was done, and nothing will be.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == StatusCode::CONFLICT
    }

    pub(super) fn respond(self, app: &App) -> Response {
        let body = if self.is_plain {
            self.message.clone().into_bytes()
        } else {
            let published = app.node.borrow().as_ref().map(crate::node::Node::now);
            let leader = published.as_ref().and_then(|published| published.leader);
            let peers = app.links.peers();
            let told = Told {
                code: self.code,
                message: &self.message,
                leader: leader.map(|leader| Leader::of(app, leader)),
                term: published.map(|published| published.term.0),
                node: app.config.id.0,
                reachable: peers
                    .iter()
                    .filter(|(_, peer)| peer.is_connected)
                    .map(|(id, _)| id.0)
                    .collect(),
                retry_after_ms: self.retry_after_ms,
            };
            serde_json::to_vec(&told).expect("strings and numbers always serialize")
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let kind = if self.is_plain { "text/plain" } else { "application/json" };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.retry_after_ms.is_some() {
            // The header knows seconds only.
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        headers.extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_step_nothing_is_certain_any_more() {
        let begun = Problem::unavailable("not_leader", "another one leads").begun();
        assert!(begun.is_passing() && begun.is_begun(), "another try may end it");
        let told = format!(r#"{{"code":"{}","message":"another one leads"}}"#, begun.code);
        assert!(Problem::of_leader(told.as_bytes()).is_begun(), "also through another server");
        let after = begun.ended();
        assert_eq!((after.status, after.code), (StatusCode::GATEWAY_TIMEOUT, "unknown_outcome"));
        assert!(after.message.contains("another one leads") && !after.is_passing());
        for refusal in [Problem::busy(), Problem::no_room()] {
            let begun = refusal.begun();
            assert!(begun.is_passing() && begun.is_begun(), "{}", begun.message);
        }
        let refused = Problem::conflict("refused", "no").begun().ended();
        assert_eq!(refused.status, StatusCode::CONFLICT, "what is certain stays");
        let nothing = Problem::unavailable("not_leader", "another one leads").ended();
        assert_eq!(nothing.status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn what_a_leader_says_of_itself_is_passed_on() {
        let said = |body: &str| Problem::of_leader(body.as_bytes());
        let repairing = said(r#"{"code":"repairing","message":"later","term":7}"#);
        assert_eq!((repairing.code, &*repairing.message), ("repairing", "later"));
        assert!(repairing.is_passing(), "and it is worth another try");
        for other in ["not the leader", r#"{"code":"strange","message":"later"}"#] {
            assert_eq!(said(other).code, "not_leader", "{other}");
        }
    }

    #[test]
    fn what_somebody_between_says_for_the_leader_is_no_certainty() {
        for body in ["", "<html>no healthy upstream</html>", r#"{"error":"busy"}"#, "null"] {
            let told = Problem::of_leader(body.as_bytes());
            assert_eq!((told.status.as_u16(), told.code), (504, "unknown_outcome"), "{body}");
            assert!(!told.is_passing(), "it is not passed on once more");
        }
    }
}
