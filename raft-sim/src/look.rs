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

/// Which state of a disk is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// What it shows.
    Present,
    /// What it shows after a power cut in which all slots under way were torn.
    Torn,
    /// What it shows after a power cut that takes all that no sync has made durable.
    Durable,
}

impl SimDisk {
    /// What a start would find.
    pub(crate) fn found(&self) -> Found {
        self.look(View::Present)
    }

    /// The same after a power cut in which all slots under way were torn.
    pub(crate) fn found_torn(&self) -> Found {
        self.look(View::Torn)
    }

    /// The same after a power cut that takes all that no sync has made durable.
    pub(crate) fn found_durable(&self) -> Found {
        if self.is_at_rest() { self.found() } else { self.look(View::Durable) }
    }

    fn look(&self, view: View) -> Found {
        if let Some(known) = self.known(view) {
            return known;
        }
        let look = |disk: &mut Self| inspect(disk).ok();
        let found = match view {
            View::Present => self.peek(look),
            View::Torn => self.peek_without_slots(look),
            View::Durable => self.peek_as_durable(look),
        };
        self.know(view, &found);
        found
    }
}
