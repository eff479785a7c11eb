//! Servers of one process reach each other through pipes in memory. For tests, and for programs that
//! want a whole cluster inside: any string is an address, and links can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{copy_bidirectional, duplex};
use tokio::sync::{mpsc, watch};

use super::{Arrival, BoxFuture, Connection, Listener, Transport};

/// How many bytes a pipe holds before a writer waits.
const PIPE_BYTES: usize = 256 << 10;

/// A network in memory. Every server has an end of its own: [`Network::end`].
#[derive(Clone, Default)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<String, mpsc::Sender<Connection>>,
    /// Who is cut off from everybody.
    isolated: BTreeSet<String>,
    /// Told the number of cuts so far; whoever waits looks at the rules again.
    changes: watch::Sender<u64>,
}

impl Network {
    /// The end of the server that listens at `address`.
    #[must_use]
    pub fn end(&self, address: &str) -> Memory {
        Memory { network: self.clone(), from: address.to_owned() }
    }

    /// Cuts the server at `address` off from all others: connections break, and no new ones come
    /// about.
    pub fn isolate(&self, address: &str) {
        self.change(|state| state.isolated.insert(address.to_owned()));
    }

    /// Ends [`Network::isolate`].
    pub fn rejoin(&self, address: &str) {
        self.change(|state| state.isolated.remove(address));
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.lock();
        if change(&mut state) {
            state.changes.send_modify(|changes| *changes += 1);
        }
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        let state = self.lock();
        state.isolated.contains(from) || state.isolated.contains(to)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let listeners: Vec<_> = state.listeners.keys().collect();
        f.debug_struct("Network")
            .field("listeners", &listeners)
            .field("isolated", &state.isolated)
            .finish()
    }
}

/// One server's end of a [`Network`].
#[derive(Clone, Debug)]
pub struct Memory {
    network: Network,
    from: String,
}

impl Memory {
    /// Returns once the two are cut off from each other.
    async fn cut_off(&self, to: &str) {
        let mut changes = self.network.lock().changes.subscribe();
        while !self.network.is_cut(&self.from, to) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Transport for Memory {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let refused = || io::Error::from(ErrorKind::ConnectionRefused);
            if self.network.is_cut(&self.from, address) {
                return Err(ErrorKind::NetworkUnreachable.into());
            }
            let listener = self.network.lock().listeners.get(address).cloned();
            let listener = listener.ok_or_else(refused)?;
            let (near, mut near_half) = duplex(PIPE_BYTES);
            let (mut far_half, far) = duplex(PIPE_BYTES);
            listener.send(Box::new(far)).await.map_err(|_| refused())?;
            let (link, to) = (self.clone(), address.to_owned());
            // Ends with the connection, or breaks it.
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy_bidirectional(&mut near_half, &mut far_half) => {}
                    () = link.cut_off(&to) => {}
                }
            });
            Ok(Box::new(near) as Connection)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (sender, incoming) = mpsc::channel(64);
            let mut state = self.network.lock();
            let is_taken = state.listeners.get(address).is_some_and(|other| !other.is_closed());
            if is_taken {
                return Err(ErrorKind::AddrInUse.into());
            }
            state.listeners.insert(address.to_owned(), sender);
            let address = address.to_owned();
            Ok(Box::new(MemoryServer { incoming, address }) as Box<dyn Listener>)
        })
    }
}

struct MemoryServer {
    incoming: mpsc::Receiver<Connection>,
    address: String,
}

impl Listener for MemoryServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Arrival>> {
        Box::pin(async {
            let connection = self.incoming.recv().await.ok_or(ErrorKind::ConnectionAborted)?;
            Ok(Arrival::ready(None, connection))
        })
    }
}
