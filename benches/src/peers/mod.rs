//! The contestants: ours, and behind the feature `peers` three published libraries.

use crate::cells::{Cell, Effort, Reading};
use crate::contest::Contestant;
use crate::group::Group;

mod ours;

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
        vec![Self::of::<Group>()]
    }

    fn of<C: Contestant>() -> Self {
        Self { name: C::NAME, run: Cell::run::<C> }
    }
}
