//! Frames over TCP: one connection to each peer, one way, made when there is something to say.
//!
//! ```text
//! | length 4B LE | frame of `raft_core::wire` |  ...
//! ```
//!
//! Deliberately absent: TLS, and any care for what is lost. The protocol expects losses; it only
//! likes to be told when a connection breaks, so that it need not wait for a heartbeat.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use raft_core::{Body, Member, wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Keeps a connection to one peer while there is something to say.
pub(crate) async fn speak(
    address: SocketAddr,
    peer: Member,
    mut frames: mpsc::Receiver<Bytes>,
    node: mpsc::Sender<Body>,
) {
    while let Some(first) = frames.recv().await {
        let Err(_) = pour(address, first, &mut frames).await else { return };
        // What was on its way may be lost: the core starts over with this peer.
        if node.send(Body::PeerUnreachable { peer }).await.is_err() {
            return;
        }
    }
}

async fn pour(
    address: SocketAddr,
    first: Bytes,
    frames: &mut mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufWriter::new(stream);
    let mut next = Some(first);
    while let Some(frame) = next {
        stream.write_u32_le(u32::try_from(frame.len()).map_err(io::Error::other)?).await?;
        stream.write_all(&frame).await?;
        if frames.is_empty() {
            stream.flush().await?;
        }
        next = frames.recv().await;
    }
    Ok(())
}

/// Hears everybody who connects.
pub(crate) async fn listen(listener: TcpListener, node: mpsc::Sender<Body>, limits: wire::Limits) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(hear(stream, node.clone(), limits));
    }
}

/// Reads frames until the connection ends, or until one makes no sense: then nothing that follows
/// can be trusted, and the peer will connect again.
async fn hear(stream: TcpStream, node: mpsc::Sender<Body>, limits: wire::Limits) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let length = usize::try_from(stream.read_u32_le().await?).map_err(io::Error::other)?;
        if length > limits.bytes_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut frame = vec![0; length];
        stream.read_exact(&mut frame).await?;
        let envelope = wire::decode(Bytes::from(frame), &limits).map_err(io::Error::other)?;
        node.send(Body::Peer(envelope)).await.map_err(io::Error::other)?;
    }
}
