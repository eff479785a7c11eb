//! The contestants: ours, and behind the feature `peers` three published libraries.

use crate::cells::{Cell, Effort, Reading};
use crate::contest::Contestant;
use crate::group::Group;

mod ours;

#[cfg(feature = "peers")]
mod omnipaxos;
#[cfg(feature = "peers")]
mod openraft;
#[cfg(feature = "peers")]
mod raft;

/// One column of the table.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// What the table and the command line call it.
    pub name: &'static str,
    /// Measures a cell in this process.
    pub run: fn(&Cell, Effort) -> Reading,
}

impl Peer {
    /// All columns; ours comes first, for the others are compared with it.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![
            Self::of::<Group>(),
            #[cfg(feature = "peers")]
            Self::of::<raft::Group>(),
            #[cfg(feature = "peers")]
            Self::of::<omnipaxos::Group>(),
            #[cfg(feature = "peers")]
            Self::of::<openraft::Group>(),
        ]
    }

    fn of<C: Contestant>() -> Self {
        Self { name: C::NAME, run: Cell::run::<C> }
    }
}
