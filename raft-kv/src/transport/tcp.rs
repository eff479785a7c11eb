//! Servers reach each other by TCP. Addresses are `host:port`; port 0 listens at any free one.
//!
//! A host that vanishes, or a firewall that begins to drop, says nothing: left to itself, the system
//! tries for a quarter of an hour, later and later. So a connection ends whose bytes nobody has taken
//! for a while, and one that is idle is asked now and then whether it still is one.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use super::{Arrival, BoxFuture, Connection, Listener, Transport};

/// How long the other side may take nothing of what is sent before the connection is over: ten election
/// timeouts by default, and some losses in a row on a slow line.
const UNHEARD: Duration = Duration::from_secs(3);

/// How long a connection is idle before it is asked, and how long until it is asked again.
const IDLE: Duration = Duration::from_secs(1);
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// TCP.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

impl Transport for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            prepare(&stream)?;
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

/// What both ends of a connection want of the system.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Frames are gathered before they are written; to wait for more only delays them.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(IDLE).with_interval(ASKED_AGAIN))?;
    // Elsewhere the system decides how long it tries.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNHEARD))?;
    Ok(())
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
            prepare(&stream)?;
            Ok(Arrival::ready(Some(from.ip()), Box::new(stream)))
        })
    }
}
