//! Servers reach each other by TLS over TCP, and both sides show who they are ([`crate::tls`]).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tracing::debug;

use super::{BoxFuture, Connection, Listener, Transport};
use crate::tls::Identity;

/// How long who has connected may take to show its certificate.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// The most connections that are not yet known to be anybody's.
const STRANGERS_MAX: usize = 64;

/// TLS over TCP.
#[derive(Clone, Debug)]
pub struct Tls {
    identity: Arc<Identity>,
}

impl Tls {
    /// Servers that show this identity, and ask for one.
    #[must_use]
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity }
    }
}

impl Transport for Tls {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            self.identity.connect(stream, address).await
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?.to_string();
            let (identity, strangers) = (Arc::clone(&self.identity), JoinSet::new());
            let server = TlsServer { listener, address, identity, strangers };
            Ok(Box::new(server) as Box<dyn Listener>)
        })
    }
}

struct TlsServer {
    listener: TcpListener,
    address: String,
    identity: Arc<Identity>,
    /// Who is introducing itself: nobody waits for the slowest of them.
    strangers: JoinSet<io::Result<Connection>>,
}

impl Listener for TlsServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async {
            loop {
                tokio::select! {
                    known = self.strangers.join_next(), if !self.strangers.is_empty() => {
                        match flatten(known) {
                            Ok(connection) => return Ok(connection),
                            Err(error) => debug!(%error, "a stranger is not let in"),
                        }
                    }
                    accepted = self.listener.accept(),
                        if self.strangers.len() < STRANGERS_MAX =>
                    {
                        let (stream, _) = accepted?;
                        stream.set_nodelay(true)?;
                        let identity = Arc::clone(&self.identity);
                        self.strangers.spawn(async move {
                            timeout(HANDSHAKE, identity.accept(stream)).await?
                        });
                    }
                }
            }
        })
    }
}

fn flatten(known: Option<Result<io::Result<Connection>, JoinError>>) -> io::Result<Connection> {
    known.ok_or(io::ErrorKind::ConnectionAborted)?.map_err(io::Error::other)?
}
