//! How much room there is on a disk, and who gets it.

use raft_replica::disk::DiskError;

use super::{Lie, Platter, SimDisk};

impl SimDisk {
    /// All files together have no more bytes than this from now on. What is removed makes room.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.borrow_mut().capacity = Some(bytes);
    }

    /// Somebody else fills the disk: there is room for so many bytes more than now, and for what is
    /// removed; or for nothing, whatever is removed.
    pub fn fill(&self, room: Option<u64>) {
        let platter = &mut *self.0.borrow_mut();
        match room {
            None => platter.is_full = true,
            Some(room) => {
                let limit = platter.used().saturating_add(room);
                platter.squeezed_to = Some(platter.squeezed_to.map_or(limit, |old| old.min(limit)));
            }
        }
    }

    /// Somebody else makes space.
    pub fn make_space(&self) {
        let platter = &mut *self.0.borrow_mut();
        (platter.is_full, platter.squeezed_to) = (false, None);
    }

    /// Whether somebody else has filled the disk.
    pub(crate) fn is_filled(&self) -> bool {
        let platter = self.0.borrow();
        platter.is_full || platter.squeezed_to.is_some()
    }

    /// Whether a call may find no space.
    pub(crate) fn may_refuse(&self) -> bool {
        self.is_filled() || self.0.borrow().capacity.is_some()
    }
}

impl Platter {
    /// Whether so many bytes more fit. A file that is removed takes no room, as `df` counts.
    pub(super) fn has_room(&self, more: u64) -> bool {
        let fits = |limit| self.used().saturating_add(more) <= limit;
        !self.is_full && self.limit().is_none_or(fits)
    }

    /// How many bytes all files may have now, if that is limited.
    fn limit(&self) -> Option<u64> {
        [self.capacity, self.squeezed_to].into_iter().flatten().min()
    }

    fn used(&self) -> u64 {
        self.names.values().map(|&inode| self.bytes_of(inode)).sum()
    }

    /// Takes room for so many bytes more. A power loss may bring back a file that was removed, but not
    /// to a place that somebody else has got: before that its removal is durable, and so is, as in a
    /// journal, every change of a name before it.
    pub(super) fn take_room(&mut self, more: u64) -> Result<(), DiskError> {
        if !self.has_room(more) {
            return Err(DiskError::NoSpace);
        }
        let Some(limit) = self.limit() else { return Ok(()) };
        let held = (0..self.inodes.len()).map(|inode| self.bytes_of(inode)).sum::<u64>();
        if held.saturating_add(more) > limit && self.lie != Lie::AllSyncs {
            self.make_names_durable(|_| true);
        }
        Ok(())
    }

    fn bytes_of(&self, inode: usize) -> u64 {
        self.inodes[inode].data.len() as u64
    }
}
