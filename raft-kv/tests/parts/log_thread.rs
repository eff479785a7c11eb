//! The log thread: answers what it was asked in order, and nothing more after a failure.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use raft_core::{ClusterId, Config, GroupId, Member, Membership, Time};
use raft_kv::clock::Clock;
use raft_kv::log_thread::{DiskNews, LogThread};
use raft_kv::metrics::Metrics;
use raft_kv::store::Store;
use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;
use raft_replica::replica::{Replica, ReplicaOptions};
use raft_replica::request::{Input, Output};
use raft_replica::storage::work::{Done, Work};
use raft_replica::storage::{Identity, Storage, StorageError, StorageOptions};

/// Real files whose syncs fail, or panic, once somebody says so.
struct Failing {
    disk: FileDisk,
    fails: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
}

impl Disk for Failing {
    type File = File;

    fn open(&mut self, path: &str) -> Result<File, DiskError> {
        self.disk.open(path)
    }

    fn create(&mut self, path: &str, len: u64) -> Result<File, DiskError> {
        self.disk.create(path, len)
    }

    fn len(&mut self, file: &File) -> Result<u64, DiskError> {
        self.disk.len(file)
    }

    fn read(&mut self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read(file, offset, buffer)
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.disk.write(file, offset, data)
    }

    fn sync(&mut self, file: &File) -> Result<(), DiskError> {
        assert!(!self.panics.load(Ordering::SeqCst), "a panic that a test has asked for");
        if self.fails.load(Ordering::SeqCst) {
            return Err(DiskError::Failed("the cable is out".to_owned()));
        }
        self.disk.sync(file)
    }

    fn create_dir(&mut self, path: &str) -> Result<(), DiskError> {
        self.disk.create_dir(path)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.disk.remove(path)
    }

    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.disk.list(dir)
    }

    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError> {
        self.disk.sync_dir(dir)
    }
}

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
    fn start(fails: &Arc<AtomicBool>, panics: &Arc<AtomicBool>) -> Self {
        let directory = tempfile::tempdir().expect("it works");
        let (fails, panics) = (Arc::clone(fails), Arc::clone(panics));
        let mut disk =
            Failing { disk: FileDisk::new(directory.path()).expect("it works"), fails, panics };
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
    let fails = Arc::new(AtomicBool::new(false));
    let node = Voting::start(&fails, &Arc::default());
    fails.store(true, Ordering::SeqCst);
    node.campaign();
    let DiskNews::Failed(StorageError::Disk { error, .. }) = next(&node.told) else {
        panic!("it fails")
    };
    assert_eq!(error, DiskError::Failed("the cable is out".to_owned()));
    fails.store(false, Ordering::SeqCst);
    node.campaign();
    drop(node.log);
    assert!(node.told.recv().is_err(), "nothing is told after the failure");
}

#[test]
fn a_panic_of_the_thread_is_told_for_nobody_may_wait_for_it() {
    let panics = Arc::new(AtomicBool::new(false));
    let node = Voting::start(&Arc::default(), &panics);
    panics.store(true, Ordering::SeqCst);
    node.campaign();
    let news = next(&node.told);
    assert!(matches!(news, DiskNews::Panicked), "{news:?}");
    drop(node.log);
    assert!(node.told.recv().is_err(), "nothing is told after that");
}
