//! The parts that need no servers.

#[expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]
mod client;
#[expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]
mod directory;
#[expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]
mod links;
#[expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]
mod log_thread;
mod store;
#[cfg(feature = "tls")]
#[expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]
mod tls;
