//! Servers that end by themselves, and what servers have on their conscience.

use std::process::ExitStatus;
use std::time::Duration;

use hyper::Method;
use raft_kv::client::{Ask, Client};

use super::{Cluster, State};
use crate::tell;
use crate::witness::{self, Excuse};

impl Cluster {
    /// What has become of servers that have ended by themselves since the last look.
    ///
    /// # Errors
    /// One has ended without an excuse.
    pub(crate) fn departed(&mut self) -> Result<Vec<&'static str>, String> {
        let mut seen = Vec::new();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            let Some(child) = &mut node.child else { continue };
            let Some(status) = child.try_wait().map_err(|error| error.to_string())? else {
                continue;
            };
            (node.child, node.state) = (None, State::Down);
            let id = node.id;
            seen.push(self.excused(id, status)?);
        }
        Ok(seen)
    }

    /// What has become of a server that has ended by itself.
    pub(super) fn excused(&mut self, id: u64, status: ExitStatus) -> Result<&'static str, String> {
        let said = self.said(id);
        let was_full = self.nodes.iter().any(|node| node.id == id && node.was_full);
        let what = format!("server {id} has ended ({status}): {}", witness::last_line(&said));
        tell(&what);
        let excuse = witness::excuse(&said, was_full, self.hurt == Some(id));
        match excuse.filter(|_| status.code() == Some(1)) {
            Some(Excuse::DiskFailed) => Ok("disk failed"),
            Some(Excuse::Refused) => {
                // It comes back as somebody new, like one who has lost its disk.
                self.wipe(id)?;
                self.hurt = None;
                Ok("refused")
            }
            None => Err(what),
        }
    }

    /// How often a server has seen an assumption of the protocol broken, if it answers: never.
    pub(super) async fn broken_assumptions(
        &self,
        id: u64,
        timeout: Duration,
    ) -> Result<bool, String> {
        let Some(node) = self.nodes.iter().find(|node| node.id == id) else { return Ok(false) };
        let mut client = Client::new(std::slice::from_ref(&node.client));
        client.timeout = timeout;
        let Ok(answer) = client.once(&Ask::new(Method::GET, "/metrics")).await else {
            return Ok(false);
        };
        match witness::violations(&answer.text()) {
            Some(0) => Ok(true),
            Some(count) => Err(format!("server {id} has seen {count} broken assumptions")),
            None => Err(format!("server {id} does not count broken assumptions")),
        }
    }

    /// Whether any server has something on its conscience: in what it counts, or in its log.
    ///
    /// # Errors
    /// What.
    pub(crate) async fn last_words(&mut self) -> Result<(), String> {
        self.departed()?;
        for id in self.ids() {
            if !self.broken_assumptions(id, Duration::from_secs(3)).await? {
                return Err(format!("server {id} does not tell what it has counted"));
            }
            if let Some(line) = witness::confession(&self.log(id)) {
                return Err(format!("server {id} has said: {line}"));
            }
        }
        Ok(())
    }
}
