//! What lies between the servers: a listener for each, through which all others reach it.
//!
//! A connection begins with who dials, so every pair has a rule of its own in each direction: pass,
//! pass late, cut, or swallow. A rule holds for connections that stand as well.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raft_core::NodeId;
use raft_kv::hello::Hello;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The bytes before the introduction: its magic and its length.
const HEAD: usize = 12;

/// What becomes of bytes on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rule {
    /// They pass.
    #[default]
    Pass,
    /// They pass so much later.
    Late(Duration),
    /// The connection breaks, and no new one comes about.
    Cut,
    /// They are taken and lost, and nobody is told: neither that they did not come, nor that a side has
    /// gone. What has lost some can only break, once the rule is over.
    Swallow,
}

/// The rules of all links, by who dials and who is dialed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    rules: Arc<Mutex<BTreeMap<(u64, u64), Rule>>>,
    changed: watch::Sender<u64>,
}

impl Rules {
    pub(crate) fn set(&self, from: u64, to: u64, rule: Rule) {
        self.lock().insert((from, to), rule);
        self.changed.send_modify(|changes| *changes += 1);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Returns once another rule holds for a pair than this one.
    async fn no_longer(&self, (from, to): (u64, u64), rule: Rule) {
        let mut changed = self.changed.subscribe();
        while self.of(from, to) == rule && changed.changed().await.is_ok() {}
    }

    fn of(&self, from: u64, to: u64) -> Rule {
        self.lock().get(&(from, to)).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes on who connects to the server `to`, which really listens at `address`.
pub(crate) async fn serve(listener: TcpListener, to: u64, address: String, rules: Rules) {
    while let Ok((stream, _)) = listener.accept().await {
        let (address, rules) = (address.clone(), rules.clone());
        tokio::spawn(async move {
            // A link that ends is one of the things that happen.
            drop(link(stream, to, &address, rules).await);
        });
    }
}

async fn link(mut dialer: TcpStream, to: u64, address: &str, rules: Rules) -> io::Result<()> {
    let mut head = vec![0; HEAD];
    dialer.read_exact(&mut head).await?;
    let length = head.last_chunk::<4>().copied().map_or(0, u32::from_le_bytes);
    let mut body = vec![0; usize::try_from(length.min(1 << 20)).map_err(io::Error::other)?];
    dialer.read_exact(&mut body).await?;
    let hello: Hello = postcard::from_bytes(&body).map_err(io::Error::other)?;
    let NodeId(from) = hello.member.id;
    let mut changed = rules.changed.subscribe();
    match rules.of(from, to) {
        Rule::Pass | Rule::Late(_) => {}
        Rule::Cut => return Ok(()),
        Rule::Swallow => {
            rules.no_longer((from, to), Rule::Swallow).await;
            return Ok(());
        }
    }
    let mut server = TcpStream::connect(address).await?;
    server.write_all(&head).await?;
    server.write_all(&body).await?;
    let (mut from_dialer, mut to_dialer) = dialer.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let until_cut =
        async { while rules.of(from, to) != Rule::Cut && changed.changed().await.is_ok() {} };
    // The word that a side has gone is lost with the rest.
    let until_heard = async |result: io::Result<()>| {
        rules.no_longer((from, to), Rule::Swallow).await;
        result
    };
    let there = async {
        until_heard(carry(&mut from_dialer, &mut to_server, &rules, (from, to)).await).await
    };
    let back = async { until_heard(back(&mut from_server, &mut to_dialer).await).await };
    tokio::select! {
        result = there => result,
        result = back => result,
        () = until_cut => Ok(()),
    }
}

/// Carries bytes, late if the rule says so: what is late holds up what follows.
async fn carry(
    source: &mut OwnedReadHalf,
    sink: &mut OwnedWriteHalf,
    rules: &Rules,
    (from, to): (u64, u64),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut has_lost = false;
    loop {
        let count = source.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        match rules.of(from, to) {
            Rule::Swallow => has_lost = true,
            Rule::Pass | Rule::Late(_) | Rule::Cut if has_lost => return Ok(()),
            Rule::Late(by) => {
                tokio::time::sleep(by).await;
                sink.write_all(&buffer[..count]).await?;
            }
            Rule::Pass | Rule::Cut => sink.write_all(&buffer[..count]).await?,
        }
    }
}

/// The way back has the introduction of the other side and nothing else.
async fn back(source: &mut OwnedReadHalf, sink: &mut OwnedWriteHalf) -> io::Result<()> {
    copy(source, sink).await.map(|_| ())
}
