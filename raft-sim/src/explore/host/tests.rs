//! Servers made by hand: when they fall silent, what hurries, and what a crash leaves.

use raft_core::{AppendResult, Entries, Payload, RepairRpc, Rpc, SnapshotMeta};

use super::super::by_hand::{deliver, leader, letter, noop, sync, voters, with_log};
use super::*;

fn contact() -> Envelope {
    let last = leader(1, 1, &[]).raft.status().last;
    let rpc = Rpc::AppendEntries {
        session: Session(1),
        round: raft_core::Round::ZERO,
        prev: last,
        entries: Entries::empty(),
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
        host.take(&Input::Crash { whole, pieces: 0, loss: None, commit: Index::ZERO });
        host.disk.image(last).map(<[u8]>::to_vec)
    };
    assert_eq!(crash(whole), Some(Host::image_of(last)));
    assert_eq!(crash(0), None);
}

/// One that the log reaches behind has another one before it.
#[test]
fn a_snapshot_is_lost_where_the_log_begins_and_then_its_peers_are_asked() {
    let mut host = leader(0, 1, &[]);
    sync(&mut host);
    let result = AppendResult::Matched { index: Index(1) };
    let (session, round) = (Session(1), raft_core::Round::ZERO);
    deliver(&mut host, letter(1, 0, 1, Rpc::AppendEntriesResponse { session, round, result }));
    host.take(&Input::Propose { number: 1 });
    host.take(&Input::Snapshot);
    let ends = |whole| host.left(whole, 0).losses().contains(&Loss::Snapshot);
    assert_eq!((host.unsynced.len(), ends(0), ends(1), ends(2)), (2, false, false, true));
    let (loss, commit) = (Some(Loss::Snapshot), Index(1));
    let effects = host.take(&Input::Crash { whole: 2, pieces: 0, loss, commit });
    let is_given =
        |effect: &Effect| matches!(effect, Effect::RestoreState { .. } | Effect::Apply { .. });
    assert!(!effects.iter().any(is_given), "there is no state to begin with");
    assert!(
        host.raft.status().is_snapshot_damaged && host.disk.image(host.disk.snapshot()).is_none()
    );
    let kept = host.disk.last();
    assert_eq!((kept.index, host.disk.has_intact(kept)), (Index(2), true));
    assert!(!host.disk.has_intact(host.disk.snapshot()) && host.may_be_impatient());
    host.take(&Input::Patience);
    let asks = |effect: &Effect| {
        matches!(effect, Effect::Send(letter)
        if matches!(letter.rpc, Rpc::Repair(RepairRpc::RequestEntry { is_snapshot: true, .. })))
    };
    assert_eq!(sync(&mut host).iter().filter(|effect| asks(effect)).count(), 2);
    assert!(!host.may_be_impatient(), "once is enough");
}

#[test]
fn an_entry_that_is_found_damaged_is_known_to_be_until_it_is_durable_again() {
    let mut host = with_log(0, 1, &[noop(1)]);
    let first = Input::Damage { index: Index(1) };
    assert_eq!(host.finds().collect::<Vec<_>>(), std::slice::from_ref(&first));
    host.take(&first);
    assert_eq!((host.found.len(), host.finds().count(), host.disk.is_whole()), (1, 0, false));
    let crash = |whole| {
        let mut host = host.clone();
        host.take(&Input::Crash { whole, pieces: 0, loss: None, commit: Index::ZERO });
        (host.raft.status().damaged, host.found.len())
    };
    assert_eq!((crash(0), crash(1)), ((1, 0), (0, 0)), "it is written again by one batch");
    sync(&mut host);
    assert!(host.found.is_empty() && host.disk.is_whole());
}

/// Where a real process starts its state machine is in memory, and its disk knows of some commit index.
#[test]
fn a_start_applies_from_the_beginning_and_knows_of_what_its_disk_says() {
    let mut host = leader(0, 1, &[]);
    sync(&mut host);
    let result = AppendResult::Matched { index: Index(1) };
    let (session, round) = (Session(1), raft_core::Round::ZERO);
    deliver(&mut host, letter(1, 0, 1, Rpc::AppendEntriesResponse { session, round, result }));
    host.take(&Input::Propose { number: 1 });
    let commits = |host: &Host| {
        let all = host.crashes().filter_map(|crash| {
            let Input::Crash { whole, commit, .. } = crash else { return None };
            Some((whole, commit.0))
        });
        all.collect::<Vec<_>>()
    };
    assert_eq!(commits(&host), [(0, 0), (0, 1), (1, 0), (1, 1)], "i2 is not committed");
    let crash = |host: &Host, commit| {
        let mut host = host.clone();
        let effects =
            host.take(&Input::Crash { whole: 0, pieces: 0, loss: None, commit: Index(commit) });
        let is_restored = |effect: &Effect| matches!(effect, Effect::RestoreState { .. });
        let status = host.raft.status();
        (status.commit.0, status.applied.0, effects.iter().any(is_restored))
    };
    assert_eq!(crash(&host, 0), (0, 0, false));
    assert_eq!(crash(&host, 1), (1, 1, false));
    host.take(&Input::Snapshot);
    assert_eq!(commits(&host)[0], (0, 1), "the snapshot says as much");
    assert_eq!(crash(&host, 1), (1, 1, true));
}

/// What was committed is not what stands there until a write is completed.
#[test]
fn a_disk_that_still_has_another_entry_does_not_know_that_the_index_is_committed() {
    let mut host = with_log(0, 1, &[noop(1)]);
    let newer = with_log(1, 2, &[noop(2)]);
    let (session, round, commit) = (Session(1), raft_core::Round::ZERO, Index(1));
    let prev = newer.disk.snapshot();
    let entries = Entries::after(prev, [(Term(2), Payload::Noop)]);
    let append = Rpc::AppendEntries { session, round, prev, entries, commit };
    deliver(&mut host, letter(1, 0, 2, append));
    assert_eq!((host.raft.status().commit, host.raft.status().last.term), (commit, Term(2)));
    let known = |whole| {
        let left = host.left(whole, 0);
        host.commits(&left, None).map(|commit| commit.0).collect::<Vec<_>>()
    };
    assert_eq!((known(0), known(host.unsynced.len())), (vec![0], vec![0, 1]));
}
