//! A log and a state machine in memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    EmptyNode, Entry, EntryPayload, LogId, LogState, OptionalSend, RaftLogReader,
    RaftSnapshotBuilder, RaftTypeConfig, Snapshot, SnapshotMeta, StorageError, StoredMembership,
    Vote,
};

use super::Types;
use super::network::Hub;

type Stored<T> = Result<T, StorageError<u64>>;

/// The log of one server; all copies are the same log.
#[derive(Clone)]
pub(super) struct Log {
    hub: Rc<Hub>,
    position: usize,
    disk: Rc<RefCell<Disk>>,
}

#[derive(Default)]
struct Disk {
    vote: Option<Vote<u64>>,
    committed: Option<LogId<u64>>,
    purged: Option<LogId<u64>>,
    /// Consecutive, after `purged`.
    entries: VecDeque<Entry<Types>>,
}

impl Disk {
    /// The index of the first entry, or of the one that will be.
    fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    /// Where the entry at `index` lies, at most the end.
    fn offset(&self, index: u64) -> usize {
        let offset = usize::try_from(index.saturating_sub(self.first()));
        offset.unwrap_or(usize::MAX).min(self.entries.len())
    }
}

impl Log {
    pub(super) fn new(hub: Rc<Hub>, position: usize) -> Self {
        Self { hub, position, disk: Rc::default() }
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Stored<Vec<Entry<Types>>> {
        let disk = self.disk.borrow();
        let start = match range.start_bound() {
            Bound::Included(&index) => index,
            Bound::Excluded(&index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&index) => index + 1,
            Bound::Excluded(&index) => index,
            Bound::Unbounded => u64::MAX,
        };
        Ok(disk.entries.range(disk.offset(start)..disk.offset(end)).cloned().collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Stored<LogState<Types>> {
        let disk = self.disk.borrow();
        let last = disk.entries.back().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: disk.purged, last_log_id: last.or(disk.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Stored<()> {
        self.disk.borrow_mut().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote<u64>>> {
        Ok(self.disk.borrow().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Stored<()> {
        self.disk.borrow_mut().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Stored<Option<LogId<u64>>> {
        Ok(self.disk.borrow().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Stored<()>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut disk = self.disk.borrow_mut();
        disk.entries.extend(entries);
        if let Some(last) = disk.entries.back() {
            self.hub.on_appended(self.position, last.log_id.index);
        }
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Stored<()> {
        let mut disk = self.disk.borrow_mut();
        let offset = disk.offset(from.index);
        disk.entries.truncate(offset);
        Ok(())
    }

    async fn purge(&mut self, through: LogId<u64>) -> Stored<()> {
        let mut disk = self.disk.borrow_mut();
        let offset = disk.offset(through.index + 1);
        disk.entries.drain(..offset);
        disk.purged = Some(through);
        Ok(())
    }
}

/// A state machine that does nothing, at once.
pub(super) struct Machine {
    hub: Rc<Hub>,
    position: usize,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, EmptyNode>,
    snapshot: Rc<RefCell<Option<Snapshot<Types>>>>,
}

impl Machine {
    pub(super) fn new(hub: Rc<Hub>, position: usize) -> Self {
        Self {
            hub,
            position,
            applied: None,
            membership: StoredMembership::default(),
            snapshot: Rc::default(),
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Stored<(Option<LogId<u64>>, StoredMembership<u64, EmptyNode>)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Stored<Vec<()>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            answers.push(());
        }
        let index = self.applied.map_or(0, |applied| applied.index);
        self.hub.on_applied(self.position, index);
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: String::new(),
        };
        Builder { meta, kept: Rc::clone(&self.snapshot) }
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Stored<Box<<Types as RaftTypeConfig>::SnapshotData>> {
        unreachable!("nobody lags behind a snapshot")
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<u64, EmptyNode>,
        _snapshot: Box<<Types as RaftTypeConfig>::SnapshotData>,
    ) -> Stored<()> {
        unreachable!("nobody lags behind a snapshot")
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<Types>>> {
        Ok(self.snapshot.borrow().clone())
    }
}

/// Makes a snapshot of nothing.
pub(super) struct Builder {
    meta: SnapshotMeta<u64, EmptyNode>,
    kept: Rc<RefCell<Option<Snapshot<Types>>>>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Stored<Snapshot<Types>> {
        let snapshot = Snapshot { meta: self.meta.clone(), snapshot: Box::new(()) };
        *self.kept.borrow_mut() = Some(snapshot.clone());
        Ok(snapshot)
    }
}
