//! The way to one peer: a connection that is made, filled with frames, and made again when it breaks.

use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use raft_core::{Member, NodeId};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::codec::Framed;
use tracing::{info, warn};

use super::{BACK_OFF_MIN, Links, News};
use crate::transport::Connection;

const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
/// Frames are gathered until there are this many bytes of them.
const GATHER_BYTES: usize = 256 << 10;

/// The task that keeps one link.
pub(super) struct Link {
    links: Links,
    id: NodeId,
    address: watch::Receiver<String>,
    /// What was last complained about, so that it is not repeated at every try.
    complaint: Option<String>,
}

impl Link {
    pub(super) fn new(links: Links, id: NodeId, address: watch::Receiver<String>) -> Self {
        Self { links, id, address, complaint: None }
    }

    /// Runs until the link is over: nobody sends frames any more.
    pub(super) async fn keep(mut self, mut frames: mpsc::Receiver<Bytes>) {
        let mut back_off = BACK_OFF_MIN;
        loop {
            let address = self.address.borrow_and_update().clone();
            match self.connect(&address).await {
                Ok((connection, peer)) => {
                    back_off = BACK_OFF_MIN;
                    self.complaint = None;
                    info!(peer = self.id.0, address, "connected");
                    let error = self.pour(connection, &mut frames).await;
                    self.set_connected(false);
                    if error.kind() == ErrorKind::NotConnected {
                        return;
                    }
                    info!(peer = self.id.0, address, %error, "the connection has ended");
                    if let Some(on_news) = self.links.on_news() {
                        on_news(News::Unreachable(peer));
                    }
                }
                Err(error) => self.complain(&address, &error),
            }
            if !self.wait(back_off, &mut frames).await {
                return;
            }
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    async fn connect(&self, address: &str) -> io::Result<(Connection, Member)> {
        let (connection, theirs) = self.links.dial(address).await?;
        let (peer, cluster) = (theirs.member, theirs.cluster);
        let mine = self.links.me();
        if peer.id != self.id {
            let what = format!("it says that it is server {}", peer.id.0);
            return Err(io::Error::other(what));
        }
        if let Some(peer) = self.links.lock().get_mut(&self.id) {
            peer.info.hello = Some(theirs);
        }
        match (mine.cluster, cluster) {
            (Some(mine), Some(theirs)) if mine != theirs => {
                self.links.look_for_foreigners(mine, theirs);
                Err(io::Error::other(format!(
                    "it belongs to cluster {theirs}, the data directory here to cluster {mine}"
                )))
            }
            (_, None) => Err(io::Error::other("it belongs to no cluster yet")),
            (_, Some(_)) => {
                self.set_connected(true);
                Ok((connection, peer))
            }
        }
    }

    /// Sends frames until the connection breaks, and says why; `NotConnected`: the link is over.
    async fn pour(
        &mut self,
        connection: Connection,
        frames: &mut mpsc::Receiver<Bytes>,
    ) -> io::Error {
        let mut framed = Framed::new(connection, self.links.codec());
        framed.set_backpressure_boundary(GATHER_BYTES);
        loop {
            tokio::select! {
                frame = frames.recv() => {
                    let Some(frame) = frame else { return ErrorKind::NotConnected.into() };
                    let write = async {
                        framed.feed(frame).await?;
                        while let Ok(frame) = frames.try_recv() {
                            framed.feed(frame).await?;
                        }
                        SinkExt::<Bytes>::flush(&mut framed).await
                    };
                    match timeout(WRITE_TIMEOUT, write).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return error,
                        Err(elapsed) => return elapsed.into(),
                    }
                }
                // Nothing is ever sent back: whatever comes is the end.
                answer = framed.next() => return match answer {
                    Some(Err(error)) => error,
                    Some(Ok(_)) => ErrorKind::InvalidData.into(),
                    None => ErrorKind::ConnectionReset.into(),
                },
                changed = self.address.changed() => return match changed {
                    Ok(()) => ErrorKind::AddrNotAvailable.into(),
                    Err(_) => ErrorKind::NotConnected.into(),
                },
            }
        }
    }

    /// Lets frames go that cannot be sent now. False: the link is over.
    async fn wait(&mut self, back_off: Duration, frames: &mut mpsc::Receiver<Bytes>) -> bool {
        let over = tokio::time::sleep(back_off);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return true,
                frame = frames.recv() => if frame.is_none() { return false },
                changed = self.address.changed() => return changed.is_ok(),
            }
        }
    }

    fn set_connected(&self, is_connected: bool) {
        if let Some(peer) = self.links.lock().get_mut(&self.id) {
            peer.info.is_connected = is_connected;
        }
    }

    fn complain(&mut self, address: &str, error: &io::Error) {
        let complaint = error.to_string();
        if self.complaint.as_ref() != Some(&complaint) {
            warn!(peer = self.id.0, address, error = complaint, "cannot reach the peer");
            self.complaint = Some(complaint);
        }
    }
}
