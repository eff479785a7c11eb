//! §7 and Figure 13: snapshots in place of a prefix of the log.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    AppendResult, Body, Effect, EntryId, Index, Message, Refused, Round, Rpc, Session,
    SnapshotMeta, Term,
};

use crate::peers::{
    append, end, found, genesis, heartbeat, lead, log, matched, one, plain, result, say, sent_by,
    terms,
};
use crate::support::{Cluster, member, membership};

/// A snapshot through `last`, as a leader of three would describe it.
fn snapshot(last: EntryId) -> Arc<SnapshotMeta> {
    Arc::new(SnapshotMeta { last, membership: membership(&[1, 2, 3], &[]) })
}

fn chunk(snapshot: &Arc<SnapshotMeta>, offset: u64, data: &'static [u8], done: bool) -> Rpc {
    let (session, round, data) = (Session(1), Round(0), Bytes::from_static(data));
    Rpc::InstallSnapshot { session, round, snapshot: Arc::clone(snapshot), offset, data, done }
}

fn staged(rpc: &Rpc) -> u64 {
    let Rpc::InstallSnapshotResponse { staged, .. } = rpc else {
        panic!("{rpc} says nothing about staged bytes")
    };
    *staged
}

fn restored(cluster: &Cluster, id: u64) -> Vec<Index> {
    let restored = |(at, effect): &(u64, Effect)| {
        let Effect::RestoreState { snapshot } = effect else { return None };
        (*at == id).then_some(snapshot.last.index)
    };
    cluster.trace.iter().filter_map(restored).collect()
}

/// InstallSnapshot 1 (Figure 13): a leader of an earlier term is refused at once.
#[test]
fn a_snapshot_of_an_earlier_term_is_refused() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 5, &[]);
    let snapshot = snapshot(end(&cluster, &[1, 2, 3]));
    let answers = say(&mut cluster, 1, 2, 4, chunk(&snapshot, 0, b"all", true));
    assert_eq!(answers[0].term, Term(5));
    assert_eq!(cluster.refusals(2), [Refused::StaleTerm { mine: Term(5), theirs: Term(4) }]);
    assert!(restored(&cluster, 2).is_empty());
}

/// InstallSnapshot 2 to 4 (Figure 13): the first chunk begins anew, each is written at its offset
/// and answered, and nothing else happens before the last one.
#[test]
fn chunks_are_staged_one_after_the_other() {
    let mut cluster = plain(&[1, 2, 3]);
    let snapshot = snapshot(end(&cluster, &[1, 2, 3]));
    for (offset, data) in [(0, b"abcd"), (4, b"efgh")] {
        let answers = say(&mut cluster, 1, 2, 3, chunk(&snapshot, offset, data, false));
        assert_eq!(staged(one(&answers)), offset + 4);
        assert_eq!(cluster.status(2).commit, Index(0), "there is more to come");
    }
    let answers = say(&mut cluster, 1, 2, 3, chunk(&snapshot, 8, b"ij", true));
    assert_eq!(result(&answers), matched(3));
    assert_eq!(cluster.server(2).staged, b"abcdefghij");
    assert_eq!(restored(&cluster, 2), [Index(3)]);
}

/// InstallSnapshot 3 (Figure 13): a chunk that does not follow what is staged is not written; the
/// answer says where to go on. So lost, late and repeated chunks do no harm.
#[test]
fn a_chunk_out_of_order_is_answered_with_what_is_staged() {
    let mut cluster = plain(&[1, 2, 3]);
    let snapshot = snapshot(end(&cluster, &[1, 2, 3]));
    say(&mut cluster, 1, 2, 3, chunk(&snapshot, 0, b"abcd", false));
    for offset in [0, 8] {
        let answers = say(&mut cluster, 1, 2, 3, chunk(&snapshot, offset, b"xxxx", true));
        assert_eq!(staged(one(&answers)), 4);
        assert_eq!(cluster.server(2).staged, b"abcd");
    }
}

/// InstallSnapshot 5 (Figure 13): a newer snapshot takes the place of a partial older one.
#[test]
fn a_newer_snapshot_replaces_a_partial_one() {
    let mut cluster = plain(&[1, 2, 3]);
    let older = snapshot(end(&cluster, &[1, 2, 3]));
    let newer = snapshot(end(&cluster, &[1, 2, 3, 3]));
    say(&mut cluster, 1, 2, 3, chunk(&older, 0, b"abcd", false));
    say(&mut cluster, 1, 2, 3, chunk(&newer, 0, b"wxyz", true));
    assert_eq!(cluster.server(2).staged, b"wxyz");
    assert_eq!(restored(&cluster, 2), [Index(4)]);
    assert_eq!(cluster.status(2).snapshot, newer.last);
}

/// InstallSnapshot 6 (Figure 13): if the log has the snapshot's last entry, what follows it stays,
/// and the snapshot is acknowledged.
#[test]
fn entries_after_the_snapshot_stay_if_the_log_has_its_last_entry() {
    let mut cluster = plain(&[1, 2, 3]);
    found(&mut cluster, 2, 3, &[1, 2, 3, 3, 3]);
    let snapshot = snapshot(end(&cluster, &[1, 2, 3]));
    let answers = say(&mut cluster, 1, 2, 3, chunk(&snapshot, 0, b"all", true));
    assert_eq!(result(&answers), matched(3));
    assert_eq!(cluster.status(2).last.index, Index(5));
    assert_eq!(cluster.status(2).commit, Index(3), "what a snapshot covers is committed");
}

/// InstallSnapshot 7 and 8 (Figure 13): otherwise the whole log goes, and the state machine is that
/// of the snapshot, with its membership.
#[test]
fn the_whole_log_goes_if_it_lacks_the_snapshots_last_entry() {
    for mine in [&[1, 1][..], &[1, 1, 1, 1, 1], &[1, 2]] {
        let mut cluster = plain(&[1, 2, 3]);
        found(&mut cluster, 2, 2, mine);
        let last = end(&cluster, &[1, 2, 3]);
        let answers = say(&mut cluster, 1, 2, 3, chunk(&snapshot(last), 0, b"all", true));
        assert_eq!(result(&answers), matched(3));
        let status = cluster.status(2);
        assert_eq!((status.base, status.last), (last, last), "nothing of {mine:?} is left");
        assert_eq!((status.commit, status.applied), (Index(3), Index(3)));
        assert_eq!(restored(&cluster, 2), [Index(3)]);
        assert_eq!(*status.membership, membership(&[1, 2, 3], &[]));
    }
}

/// §7: the snapshot's last index and term take the place of the entry before the first one, so the
/// consistency check goes on working.
#[test]
fn appends_meet_the_log_at_the_snapshots_last_entry() {
    let mut cluster = plain(&[1, 2, 3]);
    let last = end(&cluster, &[1, 2, 3]);
    say(&mut cluster, 1, 2, 3, chunk(&snapshot(last), 0, b"all", true));
    let whole = log(&cluster, &[1, 2, 3, 3]);
    let next = whole.slice(Index(4), Index(5));
    assert_eq!(result(&say(&mut cluster, 1, 2, 3, append(last, next, 4))), matched(4));
    // An append that begins before the snapshot is taken from there on.
    let start = genesis(&cluster);
    assert_eq!(result(&say(&mut cluster, 1, 2, 3, append(start, whole, 4))), matched(4));
    assert_eq!(terms(&cluster, 2), [3]);
}

/// §7: a server makes snapshots by itself, of what it has applied and of nothing else.
#[test]
fn a_snapshot_covers_what_is_applied() {
    let mut cluster = plain(&[1, 2, 3]);
    let (prev, entries) = (genesis(&cluster), log(&cluster, &[1, 1, 1]));
    say(&mut cluster, 1, 2, 1, append(prev, entries, 2));
    let raft = &cluster.server(2).raft;
    assert!(raft.snapshot_at(Index(3)).is_none(), "not committed, so not applied");
    let described = raft.snapshot_at(Index(2)).expect("it is applied");
    assert_eq!(described.last, end(&cluster, &[1, 1]));
    assert_eq!(described.membership, membership(&[1, 2, 3], &[]), "with the membership there");
    let too_far = snapshot(end(&cluster, &[1, 1, 1]));
    cluster.step(2, Body::SnapshotTaken { snapshot: Arc::clone(&too_far) });
    assert_eq!(cluster.refusals(2), [Refused::UnknownSnapshot { snapshot: too_far.last }]);
    cluster.step(2, Body::SnapshotTaken { snapshot: described });
    assert_eq!(terms(&cluster, 2), [1], "the log through it goes, followers need no leader for it");
}

/// §7: the log and any older snapshot may go once the new one is written, and no earlier: the host
/// says so, and a restart finds a log that goes on from the snapshot.
#[test]
fn the_log_goes_only_after_the_snapshot_is_durable() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    let snapshot = cluster.server(1).raft.snapshot_at(Index(2)).expect("it is applied");
    assert_eq!(terms(&cluster, 1), [1, 1], "describing a snapshot drops nothing");
    cluster.step(1, Body::SnapshotTaken { snapshot: Arc::clone(&snapshot) });
    assert!(terms(&cluster, 1).is_empty());
    let server = cluster.servers.get_mut(&1).expect("n1 is there");
    server.disk.snapshot = snapshot;
    cluster.crash(1);
    assert_eq!(cluster.status(1).last.index, Index(2));
    assert_eq!(restored(&cluster, 1), [Index(2)], "the state machine starts from it");
}

/// §7: a leader sends its snapshot to a follower whose next entry it has dropped.
#[test]
fn a_follower_that_needs_a_dropped_entry_gets_the_snapshot() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    for ticket in 1..=3 {
        cluster.propose(1, ticket, "x");
        cluster.deliver_if(|sent| sent.to != member(3));
    }
    let snapshot = cluster.server(1).raft.snapshot_at(Index(3)).expect("it is applied");
    cluster.step(1, Body::SnapshotTaken { snapshot });
    let mut kinds = Vec::new();
    for _ in 0..3 {
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| {
            if sent.to == member(3) {
                kinds.push(sent.rpc.kind());
            }
            true
        });
    }
    assert!(kinds.contains(&raft_core::RpcKind::InstallSnapshot));
    assert_eq!(restored(&cluster, 3), [Index(3)]);
    assert_eq!(cluster.status(3).applied, Index(4), "and the entries after it");
}

/// §7: a snapshot that comes again, or by mistake, takes nothing away.
#[test]
fn an_older_snapshot_takes_nothing_away() {
    let mut cluster = plain(&[1, 2, 3]);
    let (prev, entries) = (genesis(&cluster), log(&cluster, &[1, 2, 3]));
    say(&mut cluster, 1, 2, 3, append(prev, entries, 3));
    let older = snapshot(end(&cluster, &[1, 2]));
    let answers = say(&mut cluster, 1, 2, 3, chunk(&older, 0, b"all", true));
    assert!(matches!(result(&answers), AppendResult::Matched { .. }));
    assert_eq!(terms(&cluster, 2), [1, 2, 3]);
    assert_eq!(cluster.status(2).applied, Index(3));
    assert!(restored(&cluster, 2).is_empty());
}

/// §7: chunks are signs of life: a follower that is being sent a snapshot does not campaign.
#[test]
fn chunks_put_the_election_off() {
    let mut cluster = plain(&[1, 2, 3]);
    let snapshot = snapshot(end(&cluster, &[1, 2, 3]));
    say(&mut cluster, 1, 2, 3, heartbeat(0));
    cluster.now.0 += 900;
    say(&mut cluster, 1, 2, 3, chunk(&snapshot, 0, b"abcd", false));
    let deadline = cluster.server(2).raft.next_deadline().expect("a follower has a timer");
    assert!((1_900..2_900).contains(&deadline.0));
}

/// §7, with §5.4's promise of durability: a snapshot is acknowledged, and the state machine takes
/// it over, only once its installation is on disk.
#[test]
fn a_snapshot_is_acknowledged_when_it_is_durable() {
    let mut cluster = plain(&[1, 2, 3]);
    say(&mut cluster, 1, 2, 3, heartbeat(0));
    cluster.is_disk_immediate = false;
    let snapshot = snapshot(end(&cluster, &[1, 2, 3]));
    assert!(say(&mut cluster, 1, 2, 3, chunk(&snapshot, 0, b"all", true)).is_empty());
    assert!(restored(&cluster, 2).is_empty());
    cluster.sync(2);
    assert_eq!(result(&sent_by(&mut cluster, 2)), matched(3));
    assert_eq!(restored(&cluster, 2), [Index(3)]);
    let now = cluster.now;
    let server = cluster.servers.get_mut(&2).expect("n2 is there");
    assert!(server.raft.step(Message { now, body: Body::Tick }).is_empty());
}
