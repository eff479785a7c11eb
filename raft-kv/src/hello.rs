//! What two servers say before anything else: who they are, and what they know of the founding.
//!
//! The dialer of a connection speaks first, the other one answers; after that frames of the protocol
//! go one way, from the dialer. Whoever belongs to another cluster gets an answer too, so that both
//! can say what is wrong.

use std::io::{self, ErrorKind};
use std::time::Duration;

use raft_core::{ClusterId, Member, NodeId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::transport::Connection;

/// What a connection begins with: a name, and a version that changes with the format.
const MAGIC: [u8; 8] = *b"raftkv\x00\x02";

/// The longest introduction, in bytes: garbage is not waited for.
const BYTES_MAX: u32 = 16 << 10;

/// How long the other side may take.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The server and the lineage of its data directory.
    pub member: Member,
    /// Its address for other servers.
    pub address: String,
    /// The base of its URLs for clients.
    pub client_url: String,
    /// The cluster that it belongs to; `None` before it was founded.
    pub cluster: Option<ClusterId>,
    /// The founders: with a cluster those who founded it, before that everybody whom this server
    /// has met so far, itself included.
    pub founders: Vec<Member>,
    /// The servers that its operator names as founders, itself included, in their order.
    pub configured: Vec<NodeId>,
}

impl Hello {
    /// Whom it names as the founder of this id.
    #[must_use]
    pub fn founder(&self, id: NodeId) -> Option<Member> {
        self.founders.iter().find(|member| member.id == id).copied()
    }
}

/// Introduces the dialer; returns who answered.
///
/// # Errors
/// The connection broke, or what is there speaks something else.
pub async fn introduce(connection: &mut Connection, hello: &Hello) -> io::Result<Hello> {
    let exchange = async {
        write(connection, hello).await?;
        read(connection).await
    };
    tokio::time::timeout(TIMEOUT, exchange).await?
}

/// Hears who has dialed, and answers.
///
/// # Errors
/// As for [`introduce`].
pub async fn answer(connection: &mut Connection, hello: impl Fn() -> Hello) -> io::Result<Hello> {
    let exchange = async {
        let theirs = read(connection).await?;
        write(connection, &hello()).await?;
        Ok(theirs)
    };
    tokio::time::timeout(TIMEOUT, exchange).await?
}

async fn write(connection: &mut Connection, hello: &Hello) -> io::Result<()> {
    let body = postcard::to_allocvec(hello).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(body.len() + 12);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    connection.write_all(&bytes).await?;
    connection.flush().await
}

async fn read(connection: &mut Connection) -> io::Result<Hello> {
    let mut magic = [0; MAGIC.len()];
    connection.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(io::Error::new(ErrorKind::InvalidData, "not a raft-kv server of this version"));
    }
    let length = connection.read_u32_le().await?;
    if length > BYTES_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "the introduction is too long"));
    }
    let mut body = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    connection.read_exact(&mut body).await?;
    match postcard::take_from_bytes(&body) {
        Ok((hello, [])) => Ok(hello),
        Ok(_) | Err(_) => {
            Err(io::Error::new(ErrorKind::InvalidData, "the introduction makes no sense"))
        }
    }
}
