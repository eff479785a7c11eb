//! Servers reach each other by TCP. Addresses are `host:port`; port 0 listens at any free one.

use std::io;

use tokio::net::{TcpListener, TcpStream};

use super::{Arrival, BoxFuture, Connection, Listener, Transport};

/// TCP.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

impl Transport for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            // Frames are gathered before they are written; to wait for more only delays them.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Connection)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?.to_string();
            Ok(Box::new(TcpServer { listener, address }) as Box<dyn Listener>)
        })
    }
}

struct TcpServer {
    listener: TcpListener,
    address: String,
}

impl Listener for TcpServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Arrival>> {
        Box::pin(async {
            let (stream, from) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Arrival::ready(Some(from.ip()), Box::new(stream)))
        })
    }
}
