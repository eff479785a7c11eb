//! What a start would find on a disk, found once for as long as nothing changes there.
//!
//! The oracle of damage asks this of every disk that was ever hurt, and often: before each wound, and
//! before each change of the membership. Most disks have not changed since it last asked. A disk names
//! its state by a number that every call raises which may change what a start would read; what was
//! found in one state is believed only in that state.

use raft_replica::storage::{Inspection, inspect};

use crate::disk::SimDisk;

/// What a start would find; nothing if it could not start.
pub(crate) type Found = Option<Inspection>;

/// What was found in a state of the disk.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) state: u64,
    pub(crate) found: Found,
}

impl SimDisk {
    /// What a start would find.
    pub(crate) fn found(&self) -> Found {
        self.look(false)
    }

    /// The same after a power cut in which all slots under way were torn.
    pub(crate) fn found_torn(&self) -> Found {
        self.look(true)
    }

    fn look(&self, is_torn: bool) -> Found {
        if let Some(known) = self.known(is_torn) {
            return known;
        }
        let look = |disk: &mut Self| inspect(disk).ok();
        let found = if is_torn { self.peek_without_slots(look) } else { self.peek(look) };
        self.know(is_torn, &found);
        found
    }
}
