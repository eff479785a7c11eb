//! The log thread: answers what it was asked in order, and nothing more after a failure.

mod full;
mod rigged;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use raft_core::{ClusterId, Config, GroupId, Member, Membership, Time};
use raft_kv::clock::Clock;
use raft_kv::log_thread::{DiskNews, LogThread};
use raft_kv::metrics::Metrics;
use raft_kv::store::Store;
use raft_replica::disk::DiskError;
use raft_replica::file_disk::FileDisk;
use raft_replica::replica::{Replica, ReplicaOptions};
use raft_replica::request::{Input, Output};
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Identity, Storage, StorageError, StorageOptions, What, inspect};

use full::Rigging;
use rigged::{Rig, Rigged};

fn works(out: &mut Vec<Output<Store>>) -> Vec<Work> {
    let works = out.drain(..).filter_map(|output| match output {
        Output::Work(work) => Some(work),
        Output::Save { snapshot, state } => {
            Some(Work::SaveSnapshot { snapshot, data: state.encode() })
        }
        Output::Send { .. }
        | Output::Reply { .. }
        | Output::Applied { .. }
        | Output::Restored { .. }
        | Output::Observe(_)
        | Output::BadFrame(_)
        | Output::BadSnapshot { .. } => None,
    });
    works.collect()
}

/// A node of one member and its log thread, up to its first vote.
struct Voting {
    log: LogThread,
    told: mpsc::Receiver<DiskNews>,
    /// What it wants of the disk.
    campaign: Vec<Work>,
    _directory: tempfile::TempDir,
}

impl Voting {
    fn start(rig: &Arc<Rig>) -> Self {
        let directory = tempfile::tempdir().expect("it works");
        let mut disk = Rigged::new(directory.path(), rig);
        let member = Member::new(1, 7);
        let identity = Identity { cluster: ClusterId(1), group: GroupId(1), member };
        Storage::format(&mut disk, identity).expect("it works");
        let options = StorageOptions::small();
        let (storage, found) = Storage::open(disk, options, Some(identity)).expect("it works");

        let founders = Membership::new(vec![member], vec![]).expect("it works");
        let options = ReplicaOptions::new(Config::new(ClusterId(1), GroupId(1), member));
        let (mut out, found) = (Vec::new(), found.into_state(&founders));
        let replica = Replica::start(options, found, Store::default(), Time(0), &mut out);
        let mut replica = replica.expect("it works");
        let (news, told) = mpsc::channel();
        let tell = move |news_| news.send(news_).is_ok();
        let log =
            LogThread::start(storage, Clock::start(), Metrics::new(), 0, tell).expect("it works");
        for work in works(&mut out) {
            log.ask(work);
        }
        let DiskNews::Done(done @ Done::Persisted { .. }) = next(&told) else { panic!("it works") };
        replica.handle_batch(Time(1), [Input::Done(done), Input::Campaign], &mut out);
        let campaign = works(&mut out);
        assert!(!campaign.is_empty(), "a vote must be durable");
        Self { log, told, campaign, _directory: directory }
    }

    fn campaign(&self) {
        for work in self.campaign.clone() {
            self.log.ask(work);
        }
    }
}

fn next(told: &mpsc::Receiver<DiskNews>) -> DiskNews {
    told.recv_timeout(Duration::from_secs(30)).expect("it answers")
}

#[test]
fn a_failed_sync_is_told_once_and_nothing_is_acknowledged_after_it() {
    let rig = Arc::new(Rig::default());
    let node = Voting::start(&rig);
    rig.fails.store(true, Ordering::SeqCst);
    node.campaign();
    let DiskNews::Failed(StorageError::Disk { error, .. }) = next(&node.told) else {
        panic!("it fails")
    };
    assert_eq!(error, DiskError::Failed("the cable is out".to_owned()));
    rig.fails.store(false, Ordering::SeqCst);
    node.campaign();
    drop(node.log);
    assert!(node.told.recv().is_err(), "nothing is told after the failure");
}

#[test]
fn a_panic_of_the_thread_is_told_for_nobody_may_wait_for_it() {
    let rig = Arc::new(Rig::default());
    let node = Voting::start(&rig);
    rig.panics.store(true, Ordering::SeqCst);
    node.campaign();
    let news = next(&node.told);
    assert!(matches!(news, DiskNews::Panicked), "{news:?}");
    drop(node.log);
    assert!(node.told.recv().is_err(), "nothing is told after that");
}

/// Of what was acknowledged last, a bit rots while the server is away.
#[test]
fn a_thread_that_ends_leaves_nothing_that_could_pass_for_torn() {
    let mut rigging = Rigging::new();
    rigging.append(1000);
    rigging.is_persisted();
    let (directory, last) = rigging.end();
    let look = || inspect(&mut FileDisk::read_only(directory.path()).unwrap()).unwrap();
    let found = look();
    assert!(found.report.is_clean() && found.last == last, "{found}");
    let newest = found.segments.last().unwrap();
    let path = directory.path().join(&newest.file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[newest.data_end as usize - 1] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let found = look();
    let findings: Vec<_> = found.report.findings.iter().map(|finding| &finding.what).collect();
    assert_eq!(findings, [&What::Damaged { entry: last }]);
    assert_eq!(found.last, last);
}
