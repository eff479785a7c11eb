//! The disk is full: it is told in time, and what makes room goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use bytes::Bytes;
use raft_core::{
    ClusterId, Entries, EntryId, GroupId, HardState, Incarnation, Index, Member, Membership,
    Payload, PersistBatch, PersistSeq, RecoveredState, SnapshotMeta, Term,
};
use raft_kv::clock::Clock;
use raft_kv::log_thread::{DiskNews, LogThread};
use raft_kv::metrics::Metrics;
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Identity, Storage, StorageOptions};

use super::rigged::{Rig, Rigged, used};

/// The length of a part in which a snapshot is saved.
const PART: usize = 512 << 10;
/// Two of these do not fit into one segment.
const LARGE: usize = 40 << 10;
/// Less than a segment takes.
const LITTLE: u64 = 16 << 10;

/// A log thread on a disk whose size is known, and what plays the core to it.
pub(crate) struct Rigging {
    directory: tempfile::TempDir,
    rig: Arc<Rig>,
    log: LogThread,
    told: Receiver<DiskNews>,
    seq: PersistSeq,
    last: EntryId,
    membership: Membership,
}

impl Rigging {
    /// A node with three segments.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rig = Arc::new(Rig::default());
        let mut disk = Rigged::new(directory.path(), &rig);
        let member = Member::new(1, 7);
        let identity = Identity { cluster: ClusterId(1), group: GroupId(1), member };
        Storage::format(&mut disk, identity).unwrap();
        let (storage, _) = Storage::open(disk, StorageOptions::small(), None).unwrap();
        let (news, told) = mpsc::channel();
        let tell = move |news_| news.send(news_).is_ok();
        let log = LogThread::start(storage, Clock::start(), Metrics::new(), 0, tell).unwrap();
        let seq = PersistSeq { incarnation: Incarnation(1), n: 0 };
        let membership = Membership::new(vec![member], vec![]).unwrap();
        let last = EntryId::default();
        let mut rigging = Self { directory, rig, log, told, seq, last, membership };
        let genesis = RecoveredState::genesis(rigging.membership.clone()).snapshot;
        rigging.last = genesis.last;
        rigging.ask(|batch| {
            batch.hard_state = Some(hard_state(1));
            batch.install = Some(genesis);
        });
        rigging.is_persisted();
        for _ in 0..3 {
            rigging.append(LARGE);
            rigging.is_persisted();
        }
        rigging
    }

    /// Ends the thread; the directory, and the entry that was appended last.
    pub(crate) fn end(self) -> (tempfile::TempDir, EntryId) {
        drop(self.log);
        (self.directory, self.last)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// From now on there is room for so many bytes more.
    fn leave(&self, bytes: u64) {
        self.rig.space.store(used(self.path()) + bytes, Ordering::SeqCst);
    }

    fn ask(&mut self, fill: impl FnOnce(&mut PersistBatch)) {
        self.seq.n += 1;
        let mut batch = PersistBatch {
            seq: self.seq,
            hard_state: None,
            install: None,
            truncate_from: None,
            heal: Vec::new(),
            append: Entries::empty(),
            compact_to: None,
        };
        fill(&mut batch);
        self.log.ask(Work::Persist { batch, commit: Index::ZERO });
    }

    pub(crate) fn append(&mut self, bytes: usize) {
        let payload = Payload::Command(Bytes::from(vec![7; bytes]));
        let entries = Entries::after(self.last, [(Term(1), payload)]);
        self.last = entries[0].id();
        self.ask(|batch| batch.append = entries);
    }

    /// Begins to save a snapshot of all that there is; the next part is written once the other end
    /// is told so, or is gone.
    fn save(&self, bytes: usize) -> Sender<()> {
        let (written, seen) = mpsc::channel();
        let (go_on, wait) = mpsc::channel();
        *self.rig.parts.lock().unwrap() = Some((written, wait));
        let meta = SnapshotMeta { last: self.last, membership: self.membership.clone() };
        let data = Bytes::from(vec![9; bytes]);
        self.log.ask(Work::SaveSnapshot { snapshot: Arc::new(meta), data });
        seen.recv_timeout(Duration::from_secs(30)).expect("a part is written");
        go_on
    }

    fn next(&self) -> DiskNews {
        self.told.recv_timeout(Duration::from_secs(30)).expect("it goes on")
    }

    pub(crate) fn is_persisted(&self) {
        self.is_persisted_but(0);
    }

    /// All batches but the last few are durable.
    fn is_persisted_but(&self, few: u64) {
        let news = self.next();
        let DiskNews::Done(Done::Persisted { seq }) = news else { panic!("{news:?}") };
        assert_eq!(seq.n, self.seq.n - few);
    }

    fn is_full(&self, expected: bool) {
        let news = self.next();
        let DiskNews::Full(is_full) = news else { panic!("{news:?}") };
        assert_eq!(is_full, expected);
    }

    fn is_saved(&self) {
        let news = self.next();
        assert!(matches!(news, DiskNews::Done(Done::SnapshotSaved { .. })), "{news:?}");
    }
}

fn hard_state(term: u64) -> HardState {
    HardState { term: Term(term), incarnation: Incarnation(1), ..HardState::default() }
}

/// Who is told in time accepts nothing more, and what it had accepted has its place: so a vote that
/// comes afterwards waits for nothing.
#[test]
fn it_is_told_while_what_was_accepted_still_fits_and_a_vote_does_not_wait() {
    let mut rigging = Rigging::new();
    rigging.leave(LITTLE);
    rigging.append(1000);
    // It is looked now and then, and whenever something was written.
    let mut news = [rigging.next(), rigging.next()];
    news.sort_by_key(|news| matches!(news, DiskNews::Full(_)));
    assert!(
        matches!(news, [DiskNews::Done(Done::Persisted { .. }), DiskNews::Full(true)]),
        "{news:?}"
    );
    rigging.append(1000);
    rigging.is_persisted();
    rigging.ask(|batch| batch.hard_state = Some(hard_state(2)));
    rigging.is_persisted();
    rigging.rig.space.store(u64::MAX, Ordering::SeqCst);
    rigging.is_full(false);
}

/// An entry waits for a segment; the rest of the snapshot fits, and once it is there the log that it
/// covers may go.
#[test]
fn a_snapshot_is_finished_where_only_that_makes_room() {
    let mut rigging = Rigging::new();
    let go_on = rigging.save(PART + LARGE);
    rigging.leave(LARGE as u64 + LITTLE);
    let through = rigging.last.index;
    rigging.append(LARGE);
    drop(go_on);
    rigging.is_full(true);
    rigging.is_saved();
    rigging.ask(|batch| batch.compact_to = Some(through));
    rigging.is_persisted_but(1);
    rigging.is_full(false);
    rigging.is_persisted();
}

/// An entry waits for a segment, and half a snapshot has what it needs.
#[test]
fn a_snapshot_is_given_up_where_only_that_makes_room() {
    let mut rigging = Rigging::new();
    let go_on = rigging.save(4 * PART);
    rigging.leave(LITTLE);
    rigging.append(LARGE);
    drop(go_on);
    rigging.is_full(true);
    rigging.is_persisted();
    rigging.is_full(false);
    assert!(!rigging.path().join("snap/save.data").exists(), "it does not fit: it is not begun");
    // It is not forgotten.
    rigging.rig.space.store(u64::MAX, Ordering::SeqCst);
    rigging.is_saved();
}

/// Batches that wait for a segment, and one behind them which lets go of what takes its room.
#[test]
fn a_log_that_may_go_goes_before_what_waits_for_its_room() {
    let mut rigging = Rigging::new();
    drop(rigging.save(PART + 1));
    rigging.is_saved();
    *rigging.rig.parts.lock().unwrap() = None;
    let through = rigging.last.index;
    rigging.leave(LITTLE);
    rigging.append(LARGE);
    rigging.is_full(true);
    rigging.ask(|batch| batch.compact_to = Some(through));
    rigging.is_persisted_but(1);
    rigging.is_full(false);
    rigging.is_persisted();
}
