//! The node of a server, from the moment at which its thread begins: whoever ends the server ends it, at
//! whatever moment that is.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use raft_core::RoleName;
use raft_replica::request::{Reply, Request};
use tokio::time::timeout;
use tracing::info;

use crate::bootstrap::DataDirectory;
use crate::node::{Event, Node, Parts};

/// How long a leader that ends waits for its successor, its own node included.
const HAND_OVER: Duration = Duration::from_secs(2);

/// A node that runs, or may yet begin.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Whether the server has ended: a node that begins after that ends at once.
    is_over: AtomicBool,
    /// Locked while it begins.
    begun: Mutex<Option<(Node, JoinHandle<()>)>>,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, Option<(Node, JoinHandle<()>)>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Starts the node, as [`Node::start`] does, unless the server has ended.
    pub(super) fn start(
        &self,
        make: impl FnOnce(Sender<Event>) -> io::Result<(Parts, DataDirectory)> + Send + 'static,
    ) -> io::Result<Node> {
        let mut begun = self.lock();
        if self.is_over() {
            return Err(io::Error::other("the server has ended"));
        }
        let (node, thread) = Node::start(make)?;
        *begun = Some((node.clone(), thread));
        drop(begun);
        // Who gave up meanwhile did not wait to see it.
        if self.is_over() {
            node.stop();
        }
        Ok(node)
    }

    /// Ends the node, and waits until it has ended; if it is just beginning, for that as well.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        let begun = self.lock().take();
        if let Some((node, thread)) = begun {
            node.stop();
            // A panic there has been printed.
            drop(thread.join());
        }
    }

    /// Ends the node, and waits for nothing.
    pub(super) fn give_up(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Where it is locked, whoever begins looks once more after that.
        if let Ok(begun) = self.begun.try_lock()
            && let Some((node, _)) = &*begun
        {
            node.stop();
        }
    }
}

/// A leader asks the best follower to lead, and waits for it.
pub(super) async fn hand_over(node: &Node) {
    let handing_over = async {
        let alone =
            node.inspect(|view| view.replica.status().membership.incoming().len() < 2).await;
        if node.now().role != RoleName::Leader || alone != Ok(false) {
            return None;
        }
        Some(node.ask(Request::TransferLeadership { to: None }).await)
    };
    match timeout(HAND_OVER, handing_over).await {
        Ok(None) => {}
        Ok(Some(Ok(Reply::Transferred { term }))) => info!(term = term.0, "handed over"),
        Ok(Some(Ok(reply))) => info!(?reply, "nobody takes over"),
        Ok(Some(Err(_))) | Err(_) => info!("nobody took over in time"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use raft_core::Member;

    use super::*;
    use crate::node::View;
    use crate::node::stalled::One;
    use crate::transport::memory::Network;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_answer_does_not_hold_up_the_end() {
        let (directory, network) = (tempfile::tempdir().unwrap(), Network::default());
        let me = Member::new(1, 11);
        let one = One::start(me, &[me], &network, directory.path()).await;
        let (go_on, wait) = mpsc::channel::<()>();
        // It ends in an error, as soon as nobody could say anything.
        let look = Box::new(move |_: &View<'_>| _ = wait.recv());
        one.node.tell(Event::Inspect(look)).unwrap();
        let ended = timeout(HAND_OVER * 2, hand_over(&one.node)).await;
        assert!(ended.is_ok(), "it waits for a node that stands still");
        drop(go_on);
        one.node.stop();
        one.thread.join().unwrap();
    }
}
