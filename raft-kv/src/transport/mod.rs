//! How servers reach each other: byte streams between addresses, whatever carries them.
//!
//! A [`Transport`] connects and listens; everything that makes peers of two ends (who they are,
//! frames, time limits, back-off) is in [`crate::links`] and the same for all of them. There are
//! three: [`tcp`], [`tls`] over it, and [`memory`] for servers of one process. An address is a string
//! that the transport understands.

pub mod memory;
pub mod tcp;
pub mod tls;

use std::fmt::{self, Debug};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Both directions of one connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, whatever it is made of.
pub type Connection = Box<dyn Stream>;

/// What carries bytes between servers.
pub trait Transport: Debug + Send + Sync + 'static {
    /// Connects to the server that listens at `address`. The caller sets the time limit.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>>;

    /// Begins to listen at `address`.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Somebody who has connected.
pub struct Arrival {
    /// Where it comes from; `None`: the transport cannot tell. One address does not get all places.
    pub from: Option<IpAddr>,
    /// Its connection, as soon as it can be used. It may never come about, so the caller sets the time
    /// limit, and waits for nobody before it takes the next one.
    pub connection: BoxFuture<'static, io::Result<Connection>>,
}

impl Arrival {
    /// One whose connection can be used at once.
    #[must_use]
    pub fn ready(from: Option<IpAddr>, connection: Connection) -> Self {
        Self { from, connection: Box::pin(async { Ok(connection) }) }
    }
}

impl Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Takes connections.
pub trait Listener: Send + 'static {
    /// The address at which it listens; where a port was left open, with the port.
    fn address(&self) -> String;

    /// The next one who connects. An error concerns one connection; the next call may succeed.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Arrival>>;
}
