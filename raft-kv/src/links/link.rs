//! The way to one peer: a connection that is made, filled with frames, and made again when it breaks.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use raft_core::{Member, NodeId};
use tokio::sync::{mpsc, watch};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tracing::{info, warn};

use super::addresses::Addresses;
use super::{BACK_OFF_MIN, Links, News};
use crate::patience::Patient;
use crate::transport::Connection;

/// How long a peer may take nothing of what is written. What it takes slowly it takes, however long that is.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
/// Frames are gathered until there are this many bytes of them, and then written to their end.
const GATHER_BYTES: usize = 256 << 10;

/// The task that keeps one link.
pub(super) struct Link {
    links: Links,
    id: NodeId,
    addresses: watch::Receiver<Addresses>,
    /// The address that is in use, or tried.
    address: String,
    /// What was last complained about at each address, so that it is not repeated at every try.
    complaints: BTreeMap<String, String>,
}

impl Link {
    pub(super) fn new(links: Links, id: NodeId, addresses: watch::Receiver<Addresses>) -> Self {
        Self { links, id, addresses, address: String::new(), complaints: BTreeMap::new() }
    }

    /// Runs until the link is over: nobody sends frames any more.
    pub(super) async fn keep(mut self, mut frames: mpsc::Receiver<Bytes>) {
        let mut back_off = BACK_OFF_MIN;
        loop {
            self.choose();
            match self.connect().await {
                Ok((connection, peer)) => {
                    back_off = BACK_OFF_MIN;
                    self.complaints.clear();
                    info!(peer = self.id.0, address = self.address, "connected");
                    let error = self.pour(connection, &mut frames).await;
                    self.set_connected(false);
                    if error.kind() == ErrorKind::NotConnected {
                        return;
                    }
                    info!(peer = self.id.0, address = self.address, %error, "the connection has ended");
                    if let Some(on_news) = self.links.on_news() {
                        on_news(News::Unreachable(peer));
                    }
                }
                Err(error) => {
                    self.complain(&error);
                    self.move_on();
                }
            }
            if !self.wait(back_off, &mut frames).await {
                return;
            }
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    /// Stays at an address that somebody still names; otherwise begins with the first one.
    fn choose(&mut self) {
        let candidates = self.addresses.borrow_and_update().candidates();
        self.complaints.retain(|address, _| candidates.contains(address));
        if !candidates.contains(&self.address) {
            self.address = candidates.into_iter().next().unwrap_or_default();
        }
        if let Some(peer) = self.links.lock().get_mut(&self.id) {
            peer.info.address.clone_from(&self.address);
        }
    }

    /// The next address is tried after this one.
    fn move_on(&mut self) {
        let candidates = self.addresses.borrow().candidates();
        let at = candidates.iter().position(|candidate| *candidate == self.address);
        let next = at.map_or(0, |at| (at + 1) % candidates.len());
        self.address = candidates.into_iter().nth(next).unwrap_or_default();
    }

    async fn connect(&self) -> io::Result<(Connection, Member)> {
        let (connection, theirs) = self.links.dial(&self.address).await?;
        let (peer, cluster) = (theirs.member, theirs.cluster);
        let mine = self.links.me();
        if peer.id != self.id {
            let what = format!("it says that it is server {}", peer.id.0);
            return Err(io::Error::other(what));
        }
        let foreign = mine.cluster.zip(cluster).filter(|(mine, theirs)| mine != theirs);
        // Who has moved out of an address cannot help who moves in; who the operator sends there can.
        let is_told = self.addresses.borrow().is_told(&self.address);
        if (foreign.is_none() || is_told)
            && let Some(peer) = self.links.lock().get_mut(&self.id)
        {
            peer.said(theirs);
        }
        if let Some((mine, theirs)) = foreign {
            if is_told {
                self.links.look_for_foreigners(mine, theirs);
            }
            return Err(io::Error::other(format!(
                "it belongs to cluster {theirs}, the data directory here to cluster {mine}"
            )));
        }
        match cluster {
            None => Err(io::Error::other("it belongs to no cluster yet")),
            Some(_) => {
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
        let connection = Patient::new(connection, WRITE_TIMEOUT);
        let mut framed = Framed::new(connection, self.links.codec());
        framed.set_backpressure_boundary(GATHER_BYTES);
        loop {
            tokio::select! {
                frame = frames.recv() => {
                    let Some(frame) = frame else { return ErrorKind::NotConnected.into() };
                    tokio::select! {
                        written = write(&mut framed, frame, frames) => match written {
                            Ok(()) => {}
                            Err(error) => return error,
                        },
                        end = self.unwanted() => return end,
                    }
                }
                // Nothing is ever sent back: whatever comes is the end.
                answer = framed.next() => return match answer {
                    Some(Err(error)) => error,
                    Some(Ok(_)) => ErrorKind::InvalidData.into(),
                    None => ErrorKind::ConnectionReset.into(),
                },
                end = self.unwanted() => return end,
            }
        }
    }

    /// Returns once nobody names the address that is in use, or the link is over; and says which.
    async fn unwanted(&mut self) -> io::Error {
        loop {
            match self.addresses.changed().await {
                Ok(()) if self.is_named() => {}
                Ok(()) => return ErrorKind::AddrNotAvailable.into(),
                Err(_) => return ErrorKind::NotConnected.into(),
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
                changed = self.addresses.changed() => return changed.is_ok(),
            }
        }
    }

    fn set_connected(&self, is_connected: bool) {
        if let Some(peer) = self.links.lock().get_mut(&self.id) {
            peer.info.is_connected = is_connected;
        }
    }

    /// Whether somebody names the address that is in use.
    fn is_named(&mut self) -> bool {
        self.addresses.borrow_and_update().candidates().contains(&self.address)
    }

    fn complain(&mut self, error: &io::Error) {
        let complaint = error.to_string();
        if self.complaints.get(&self.address) != Some(&complaint) {
            warn!(
                peer = self.id.0,
                address = self.address,
                error = complaint,
                "cannot reach the peer"
            );
            self.complaints.insert(self.address.clone(), complaint);
        }
    }
}

/// Writes a frame, and some of those that wait behind it: not those that come for as long as it takes.
async fn write(
    framed: &mut Framed<Patient<Connection>, LengthDelimitedCodec>,
    first: Bytes,
    frames: &mut mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let mut gathered = first.len();
    framed.feed(first).await?;
    while gathered < GATHER_BYTES
        && let Ok(frame) = frames.try_recv()
    {
        gathered += frame.len();
        framed.feed(frame).await?;
    }
    SinkExt::<Bytes>::flush(framed).await
}
