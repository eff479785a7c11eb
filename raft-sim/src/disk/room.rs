//! How much room there is on a disk, and who gets it.

use raft_replica::disk::DiskError;

use super::{Lie, Platter};

impl Platter {
    /// Whether so many bytes more fit. A file that is removed takes no room, as `df` counts.
    pub(super) fn has_room(&self, more: u64) -> bool {
        let used = || self.names.values().map(|&inode| self.bytes_of(inode)).sum::<u64>();
        !self.is_full
            && self.capacity.is_none_or(|capacity| used().saturating_add(more) <= capacity)
    }

    /// Takes room for so many bytes more. A power loss may bring back a file that was removed, but not
    /// to a place that somebody else has got: before that its removal is durable, and so is, as in a
    /// journal, every change of a name before it.
    pub(super) fn take_room(&mut self, more: u64) -> Result<(), DiskError> {
        if !self.has_room(more) {
            return Err(DiskError::NoSpace);
        }
        let Some(capacity) = self.capacity else { return Ok(()) };
        let held = (0..self.inodes.len()).map(|inode| self.bytes_of(inode)).sum::<u64>();
        if held.saturating_add(more) > capacity && self.lie != Lie::AllSyncs {
            self.make_names_durable(|_| true);
        }
        Ok(())
    }

    fn bytes_of(&self, inode: usize) -> u64 {
        self.inodes[inode].data.len() as u64
    }
}
