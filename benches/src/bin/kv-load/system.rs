//! What is measured: a cluster of raft-kv, or one of etcd.

use std::io;

use super::{Options, connection, etcd};

/// A cluster.
#[derive(Clone, Debug)]
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) endpoints: Vec<String>,
    /// The processes whose processor time is read.
    pub(crate) pids: Vec<u32>,
    is_etcd: bool,
}

/// A connection to one of its servers.
pub(crate) enum Connection {
    Http(connection::Connection),
    Grpc(etcd::Connection),
}

impl System {
    pub(crate) fn all(options: &Options) -> Vec<Self> {
        let (endpoints, pids) = (options.endpoints.clone(), options.pids.clone());
        let mut systems = vec![Self { name: "raft-kv", endpoints, pids, is_etcd: false }];
        if !options.etcd.is_empty() {
            let (endpoints, pids) = (options.etcd.clone(), options.etcd_pids.clone());
            systems.push(Self { name: "etcd", endpoints, pids, is_etcd: true });
        }
        systems
    }

    pub(crate) async fn connect(&self, endpoint: &str) -> io::Result<Connection> {
        Ok(if self.is_etcd {
            Connection::Grpc(etcd::Connection::open(endpoint).await?)
        } else {
            Connection::Http(connection::Connection::open(endpoint).await?)
        })
    }

    /// The leader's address.
    pub(crate) async fn leader(&self) -> Result<String, String> {
        let mut last = "no server is named".to_owned();
        for endpoint in &self.endpoints {
            match self.leader_by(endpoint).await {
                Ok(Some(leader)) => return Ok(leader),
                Ok(None) => last = format!("{endpoint} knows no leader"),
                Err(error) => last = format!("{endpoint}: {error}"),
            }
        }
        Err(last)
    }

    async fn leader_by(&self, endpoint: &str) -> io::Result<Option<String>> {
        match self.connect(endpoint).await? {
            Connection::Http(mut connection) => {
                let (_, body) = connection.ask("GET", "/client/leader", b"").await?;
                let body = String::from_utf8_lossy(&body).into_owned();
                let url = body.split_once("\"url\":\"http://").map(|(_, rest)| rest);
                Ok(url.and_then(|url| url.split('"').next()).map(str::to_owned))
            }
            Connection::Grpc(mut connection) => {
                Ok(connection.is_leader().await?.then(|| endpoint.to_owned()))
            }
        }
    }
}

impl Connection {
    /// Writes a value; whether it was acknowledged.
    pub(crate) async fn put(&mut self, key: &str, value: &[u8]) -> io::Result<bool> {
        match self {
            Self::Http(connection) => {
                let (status, _) = connection.ask("PUT", &format!("/kv/{key}"), value).await?;
                Ok(status == 200)
            }
            Self::Grpc(connection) => connection.put(key, value).await,
        }
    }

    /// Reads a value, linearizably or as the server has it; whether it was answered.
    pub(crate) async fn get(&mut self, key: &str, is_stale: bool) -> io::Result<bool> {
        match self {
            Self::Http(connection) => {
                let query = if is_stale { "?consistency=stale" } else { "" };
                let (status, _) = connection.ask("GET", &format!("/kv/{key}{query}"), b"").await?;
                Ok([200, 404].contains(&status))
            }
            Self::Grpc(connection) => connection.get(key, is_stale).await,
        }
    }
}
