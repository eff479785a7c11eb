//! The server as its clients see it: real HTTP, three servers in one process, pipes between them.
#![expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]

mod bootstrap;
mod conditions;
mod ends;
mod keys;
mod limits;
mod members;
mod names;
mod recorder;
mod support;
mod trouble;
mod watch;
