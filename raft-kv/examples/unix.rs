//! Another transport: servers reach each other through Unix sockets.
//!
//! ```text
//! cargo run -p raft-kv --example unix
//! ```
//!
//! runs a cluster of three in one process whose members speak through sockets in a temporary
//! directory, writes a key at one of them and reads it at another. All that a transport is, is here:
//! connect, listen, accept. What is said, and to whom, is the same over all of them.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper::Method;
use raft_core::NodeId;
use raft_kv::client::{Ask, Client};
use raft_kv::config::ServerConfig;
use raft_kv::server::Server;
use raft_kv::transport::{Arrival, BoxFuture, Connection, Listener, Transport};
use tokio::net::{UnixListener, UnixStream};

/// Unix sockets; an address is a path.
#[derive(Clone, Copy, Debug)]
struct Unix;

impl Transport for Unix {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let stream = UnixStream::connect(address).await?;
            Ok(Box::new(stream) as Connection)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = UnixListener::bind(address)?;
            let address = address.to_owned();
            Ok(Box::new(UnixServer { listener, address }) as Box<dyn Listener>)
        })
    }
}

struct UnixServer {
    listener: UnixListener,
    address: String,
}

impl Listener for UnixServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Arrival>> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            Ok(Arrival::ready(None, Box::new(stream)))
        })
    }
}

fn config(directory: &Path, id: u64) -> ServerConfig {
    let socket = |id: u64| directory.join(format!("{id}.sock")).display().to_string();
    let data = directory.join(format!("node{id}"));
    let mut config = ServerConfig::new(id, &socket(id), "127.0.0.1:0", data);
    let others = (1..=3).filter(|other| *other != id);
    config.peers = others.map(|other| (NodeId(other), socket(other))).collect();
    config.disk_reserve_bytes = 0;
    config
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let mut servers = Vec::new();
    for id in 1..=3 {
        servers.push(Server::start(config(directory.path(), id), Arc::new(Unix)).await?);
    }
    let client = |at: usize| Client::new(&[servers[at].client_address().to_string()]);
    let put = Ask::new(Method::PUT, "/kv/greeting").body("hello");
    let written = client(0).ask(&put).await?;
    let read = client(2).ask(&Ask::new(Method::GET, "/kv/greeting")).await?;
    show(&format!("written: {}, read elsewhere: {}", written.text(), read.text()));
    for server in servers {
        server.stop().await;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the example has to show")]
fn show(line: &str) {
    println!("{line}");
}
