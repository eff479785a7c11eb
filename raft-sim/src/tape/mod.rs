//! Choice tapes: everything that a run has left to chance, as a file.
//!
//! A seed is bound to the version of the program that draws from it; a tape is not. It holds the
//! options of a run, each strike of the nemesis as a line of its own, and the words that were drawn
//! for everything else, by the stream and the number of the draw. A word counts only as far as
//! something follows from it, and where nothing special follows it is left out: the absence of a
//! choice means that nothing happens (see [`CALM`](crate::rng::CALM)). So a tape is short, and to
//! take a line away is to take away what it did.
//!
//! The tape of a run gives the same digest as its seed. [`shrink`](crate::shrink) looks for the least
//! of it that still fails.
//!
//! Absent: what breaks the stack on purpose ([`Sabotage`](crate::sabotage::Sabotage)); it is no
//! part of any run that is worth keeping.

mod choices;
mod strikes;
mod text;

use std::collections::BTreeMap;
use std::rc::Rc;

pub(crate) use choices::Note;
pub use choices::{Choices, Recording};
pub use strikes::{Planned, When};
pub use text::TapeError;

use crate::options::Options;
use crate::rng::{Draws, Purpose};

/// Which stream: what it is for, and whose it is.
pub type Key = (Purpose, u64);

/// Everything that a run has left to chance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tape {
    /// The options.
    pub options: Options,
    /// What strikes, in the order in which it does.
    pub strikes: Rc<Vec<Planned>>,
    /// The draws that are not calm.
    pub draws: BTreeMap<Key, Rc<Draws>>,
}

impl Tape {
    /// A run with these options in which nothing special happens.
    #[must_use]
    pub fn calm(options: Options) -> Self {
        Self { options, strikes: Rc::default(), draws: BTreeMap::new() }
    }

    /// How many decisions are not calm, strikes not counted.
    #[must_use]
    pub fn draws_len(&self) -> usize {
        self.draws.values().map(|draws| draws.len()).sum()
    }
}
