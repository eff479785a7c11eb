//! Segments that the log was cut off before: what is in them may be nowhere else.
//!
//! Where a file in the middle of the log is gone, or does not say any more what it is, the log ends before
//! it, and what follows is no part of it: nobody knows what was between. But the others may have lost what
//! is in there, and then it is the last good copy. So it is not removed: it gets another name,
//! `wal/lost-<first index>-<epoch>.wal`, and stays until nobody can need it any more. That is
//! * once the doubt about the end of the log is over: then the log is that of a leader again, and intact,
//!   through all that was committed;
//! * or, of a node without a doubt (one that was admitted again), once its log or a snapshot reaches behind
//!   every entry that the file has room for.
//!
//! Deliberately absent: to answer peers from these files. Until then it is for people, who find them listed
//! by an inspection.

use raft_core::Index;

use super::StorageOptions;
use super::error::{InFile, StorageError};
use super::segment::SegmentName;
use crate::disk::Disk;

/// The files that are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost {
    names: Vec<SegmentName>,
}

impl Lost {
    /// Those in a directory.
    pub(super) fn find(listed: &[String]) -> Self {
        Self { names: listed.iter().filter_map(|name| SegmentName::parse_lost(name)).collect() }
    }

    pub(super) fn names(&self) -> &[SegmentName] {
        &self.names
    }

    /// Keeps a segment that is no part of the log any more; the caller syncs the directory.
    pub(super) fn keep<D: Disk>(
        &mut self,
        disk: &mut D,
        name: SegmentName,
    ) -> Result<(), StorageError> {
        let path = name.path();
        disk.rename(&path, &name.lost_path()).in_file(&path)?;
        self.names.retain(|other| *other != name);
        self.names.push(name);
        Ok(())
    }

    /// Removes what nobody needs any more where the log, or a snapshot, reaches to `through`; how many files
    /// went.
    pub(super) fn sweep<D: Disk>(
        &mut self,
        disk: &mut D,
        options: &StorageOptions,
        through: Index,
    ) -> Result<usize, StorageError> {
        let room = u64::from(options.segment_slots);
        self.remove(disk, |name| name.first.0.saturating_add(room) <= through.0)
    }

    /// Removes all of them: the doubt is over.
    pub(super) fn clear<D: Disk>(&mut self, disk: &mut D) -> Result<usize, StorageError> {
        self.remove(disk, |_| true)
    }

    fn remove<D: Disk>(
        &mut self,
        disk: &mut D,
        is_over: impl Fn(&SegmentName) -> bool,
    ) -> Result<usize, StorageError> {
        let (over, kept): (Vec<SegmentName>, Vec<SegmentName>) =
            self.names.iter().copied().partition(|name| is_over(name));
        for name in &over {
            let path = name.lost_path();
            disk.remove(&path).in_file(&path)?;
        }
        self.names = kept;
        Ok(over.len())
    }
}
