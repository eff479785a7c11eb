//! Servers reach each other by TLS over TCP, and both sides show who they are ([`crate::tls`]).

use std::io;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::tcp::prepare;
use super::{Arrival, BoxFuture, Connection, Listener, Transport};
use crate::tls::Identity;

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
            prepare(&stream)?;
            self.identity.connect(stream, address).await
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?.to_string();
            let server = TlsServer { listener, address, identity: Arc::clone(&self.identity) };
            Ok(Box::new(server) as Box<dyn Listener>)
        })
    }
}

struct TlsServer {
    listener: TcpListener,
    address: String,
    identity: Arc<Identity>,
}

impl Listener for TlsServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Arrival>> {
        Box::pin(async {
            let (stream, from) = self.listener.accept().await?;
            prepare(&stream)?;
            let identity = Arc::clone(&self.identity);
            let connection = Box::pin(async move { identity.accept(stream).await });
            Ok(Arrival { from: Some(from.ip()), connection })
        })
    }
}
