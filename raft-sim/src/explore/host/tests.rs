//! Servers made by hand: when they fall silent, what hurries, and what a crash leaves.

use raft_core::{Rpc, SnapshotMeta};

use super::super::by_hand::{deliver, leader, letter, noop, voters, with_log};
use super::*;

fn contact() -> Envelope {
    let last = leader(1, 1, &[]).raft.status().last;
    let rpc = Rpc::AppendEntries {
        session: Session(1),
        round: raft_core::Round::ZERO,
        prev: last,
        entries: raft_core::Entries::empty(),
        commit: Index::ZERO,
    };
    letter(1, 0, 1, rpc)
}

#[test]
fn a_follower_is_silent_once_between_two_words_of_its_leader() {
    let mut host = with_log(0, 1, &[noop(1)]);
    deliver(&mut host, contact());
    for _ in 0..3 {
        assert!(host.may_be_silent());
        host.take(&Input::Silence);
        assert!(!host.may_be_silent(), "the next one would be an election");
        deliver(&mut host, contact());
    }
    assert_eq!(host.raft.status().term.0, 1);
    assert!(!leader(0, 1, &[]).may_be_silent());
}

#[test]
fn terms_and_votes_hurry_and_entries_do_not() {
    let mut host = with_log(0, 1, &[]);
    assert_eq!(host.hurried(), None);
    host.take(&Input::Fire);
    assert_eq!(host.hurried(), Some(Input::Persist { batches: 1 }));
    let leader = leader(0, 1, &[]);
    assert!(leader.hurried().is_none() && !leader.unsynced.is_empty());
}

#[test]
fn a_crash_leaves_the_bytes_of_a_snapshot_that_was_installed() {
    let last = with_log(1, 1, &[noop(1)]).raft.status().last;
    let snapshot = Arc::new(SnapshotMeta { last, membership: voters(&[0, 1, 2]) });
    let data = Bytes::from(Host::image_of(last));
    let (session, round, offset, done) = (Session(1), raft_core::Round::ZERO, 0, true);
    let mut host = with_log(0, 1, &[]);
    let install = Rpc::InstallSnapshot { session, round, snapshot, offset, data, done };
    deliver(&mut host, letter(1, 0, 1, install));
    let whole = host.unsynced.len();
    assert!(host.unsynced.iter().any(|batch| batch.install.is_some()), "it is on its way");
    let crash = |whole| {
        let mut host = host.clone();
        host.take(&Input::Crash { whole, pieces: 0, loss: None });
        host.disk.image(last).map(<[u8]>::to_vec)
    };
    assert_eq!(crash(whole), Some(Host::image_of(last)));
    assert_eq!(crash(0), None);
}
