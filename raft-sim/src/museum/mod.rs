//! The bug museum: bugs that real implementations of Raft have had, as stories that can be told
//! again, about this one or any other.
//!
//! Raft is easy to state and easy to get wrong between the lines of Figure 2. Most of what goes
//! wrong has gone wrong before, in public, with the schedule that shows it. Here each of those
//! schedules is a function: it founds a cluster, delivers, loses, delays, crashes and restarts
//! exactly what the bug needs, and says what must hold.
//!
//! Stories are told on a [`stage::Stage`] about a [`subject::Subject`], a small trait in the words of
//! the paper. [`ours::Ours`] implements it for `raft_core`; whoever implements it for another library
//! can tell that library the same stories:
//!
//! ```
//! use raft_sim::museum::{self, ours::Ours};
//!
//! for story in museum::stories() {
//!     if let Err(untold) = story.tell(&mut Ours::default()) {
//!         panic!("{} {} ({}): {untold}", story.number, story.name, story.origin);
//!     }
//! }
//! ```
//!
//! Besides what a story says itself, the stage looks at every server after every step: one leader in
//! a term, one vote in a term, terms and commit indices that only rise, one command at an index,
//! leaders that have all that was committed, reads that see what was acknowledged.
//!
//! Deliberately absent: chance. What a random schedule finds is the simulator's affair; a story is
//! the one schedule that matters.

pub mod durability;
pub mod elections;
pub mod identity;
pub mod joint;
pub mod leases;
pub mod liveness;
pub mod log_and_commit;
pub mod membership;
pub mod ours;
pub mod reads;
pub mod restarts;
pub mod snapshots;
pub mod stage;
pub mod story;
pub mod subject;
mod watch;

pub use stage::Stage;
pub use story::{Guards, Story, Told, Untold};

/// All stories, chapter by chapter.
pub fn stories() -> impl Iterator<Item = &'static Story> {
    let chapters = [
        durability::STORIES,
        restarts::STORIES,
        elections::STORIES,
        log_and_commit::STORIES,
        membership::STORIES,
        identity::STORIES,
        joint::STORIES,
        snapshots::STORIES,
        reads::STORIES,
        leases::STORIES,
        liveness::STORIES,
    ];
    chapters.into_iter().flatten()
}
