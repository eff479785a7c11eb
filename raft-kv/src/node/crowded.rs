//! More single names at once than a leader lets through.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use raft_core::{Member, RoleName};
use raft_replica::kv::KvCommand;
use raft_replica::request::{Failure, Reply};

use super::Gone;
use super::stalled::{One, until};
use crate::store::{Condition, Once, Store, StoreCommand};
use crate::transport::memory::Network;

fn named(once: Once) -> StoreCommand {
    let write = KvCommand::Delete { key: Bytes::from_static(b"k") };
    StoreCommand::Write { once: Some(once), condition: Condition::Always, write }
}

fn single(n: u64) -> StoreCommand {
    named(Once::Single { name: n.to_string().into() })
}

fn is_busy(reply: &Result<Reply<Store>, Gone>) -> bool {
    matches!(reply, Ok(Reply::Failed(Failure::Busy)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_does_not_begin_with_a_burst() {
    let (directory, network) = (tempfile::tempdir().unwrap(), Network::default());
    let me = Member::new(1, 11);
    let one = One::start(me, &[me], &network, directory.path()).await;
    let mut began = Instant::now();
    until("it leads", async || {
        let before = Instant::now();
        let leads = one.node.now().role == RoleName::Leader;
        if !leads {
            began = before;
        }
        leads
    })
    .await;
    let replies = join_all((0..4096).map(|n| one.node.write(single(n)))).await;
    let passed = replies.iter().filter(|reply| !is_busy(reply)).count();
    // What has come together since it leads passes as well, and a step may have lasted.
    let allowed = 4 + 4096 * (began.elapsed() + Duration::from_millis(50)).as_millis() / 1000;
    assert!(passed as u128 <= allowed, "{passed}, but {allowed} may");
    assert!(passed > 0 && !is_busy(&replies[0]), "who has waited passes: {:?}", replies[0]);
    one.node.stop();
    one.thread.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_come_too_fast_to_be_remembered_are_refused() {
    let (directory, network) = (tempfile::tempdir().unwrap(), Network::default());
    let me = Member::new(1, 11);
    let one = One::start(me, &[me], &network, directory.path()).await;
    until("it serves", async || matches!(one.write().await, Reply::Response { .. })).await;
    let began = Instant::now();
    until("a pause", async || began.elapsed() > Duration::from_secs(1)).await;
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
