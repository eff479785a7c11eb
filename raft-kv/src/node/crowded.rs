//! More single names at once than a leader lets through.

use bytes::Bytes;
use futures_util::future::join_all;
use raft_core::Member;
use raft_replica::kv::KvCommand;
use raft_replica::request::{Failure, Reply};

use super::stalled::{One, until};
use crate::store::{Condition, Once, StoreCommand};
use crate::transport::memory::Network;

fn named(once: Once) -> StoreCommand {
    let write = KvCommand::Delete { key: Bytes::from_static(b"k") };
    StoreCommand::Write { once: Some(once), condition: Condition::Always, write }
}

fn single(n: u64) -> StoreCommand {
    named(Once::Single { name: n.to_string().into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_come_too_fast_to_be_remembered_are_refused() {
    let (directory, network) = (tempfile::tempdir().unwrap(), Network::default());
    let me = Member::new(1, 11);
    let one = One::start(me, &[me], &network, directory.path()).await;
    until("it serves", async || matches!(one.write().await, Reply::Response { .. })).await;
    let is_busy = |reply: &Result<Reply<_>, _>| matches!(reply, Ok(Reply::Failed(Failure::Busy)));
    // All of a burst are there before the first one is answered. How many a slow machine gets through
    // meanwhile is its own affair, so there may have to be a larger one.
    let (mut burst, mut names, mut passed) = (15_000, 0.., 0);
    loop {
        let writes = names.by_ref().take(burst).map(|n| one.node.write(single(n)));
        let replies = join_all(writes).await;
        let refused = replies.iter().filter(|reply| is_busy(reply)).count();
        assert!(passed > 0 || !is_busy(&replies[0]), "a burst passes: {:?}", replies[0]);
        passed += replies.len() - refused;
        if refused > 0 {
            break;
        }
        burst *= 2;
    }
    assert!(passed >= 4000, "and all of it: {passed}");
    // Who is known, and who counts, is not concerned.
    let again = one.node.write(single(0)).await;
    assert!(matches!(again, Ok(Reply::Response { .. })), "{again:?}");
    let (client, serial) = (Bytes::from_static(b"alice"), 1);
    let counted = one.node.write(named(Once::Next { client, serial })).await;
    assert!(matches!(counted, Ok(Reply::Response { .. })), "{counted:?}");
    one.node.stop();
    one.thread.join().unwrap();
}
