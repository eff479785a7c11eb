//! What every implementation must be able to do in order to be measured.
//!
//! A [`Contestant`] is one whole group in one thread: its nodes, memory for disks, inboxes for a
//! network. Its host is written as well as its interface allows, ours and the others' alike: one
//! turn takes an inbox whole, with whatever disk and state machine have completed since the last
//! one, and then does all that was asked for; buffers are kept and shared by all its groups,
//! receivers are found by number, messages are moved and never cloned, nothing waits. A frame is
//! written into a buffer that is kept if the encoding can, and split off where the payloads that
//! are decoded share its memory. All are optimised together in one program; only ours keeps its
//! overflow checks there. No faults but a node that is cut off.

use bytes::Bytes;

/// What a group is made of, and of what it is asked to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Voters, from 1.
    pub servers: usize,
    /// The size of each command, in bytes.
    pub command_bytes: usize,
    /// How messages travel.
    pub link: Link,
    /// Whether a server drops the beginning of its log now and then, as one that runs for months.
    pub compaction: Compaction,
}

impl Shape {
    /// A fresh command, in memory of its own: what a client's request leaves behind when it has
    /// been read from a socket.
    #[must_use]
    pub fn command(&self) -> Bytes {
        const PATTERN: [u8; 4096] = [0x5a; 4096];
        Bytes::copy_from_slice(&PATTERN[..self.command_bytes])
    }
}

/// How a message reaches the other server's inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// As it is: servers share the memory of what it holds, if their types allow it.
    Direct,
    /// Encoded to bytes and decoded from them.
    Wire,
}

/// What becomes of applied entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// Every [`COMPACT_EVERY`] entries, those that are applied are dropped.
    Regular,
    /// All are kept.
    Off,
}

/// Entries that a server applies from one compaction to the next.
pub const COMPACT_EVERY: u64 = 4096;

/// Who no longer hears anything, nor is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nobody.
    Nobody,
    /// The last server.
    Last,
    /// Every server but the first.
    Followers,
}

impl Cut {
    /// Whether it separates the server at `position` of so many.
    #[must_use]
    pub fn hits(self, position: usize, servers: usize) -> bool {
        match self {
            Self::Nobody => false,
            Self::Last => position + 1 == servers,
            Self::Followers => position > 0,
        }
    }
}

/// A group in one thread; the first of its servers will lead.
pub trait Contestant: Sized {
    /// What the table calls it.
    const NAME: &'static str;

    /// The host's own buffers, which belong to no node: a host of many groups shares them.
    type Buffers: Default;

    /// How many idle groups are measured together: so many that no cache holds them.
    const IDLE_GROUPS: u64 = 10_000;

    /// Servers that know of each other, just started; none has ever led.
    fn cold(shape: Shape) -> Self;

    /// Has the first server elected, its first entry (if there is one) applied everywhere.
    fn elect(&mut self);

    /// Has so many commands committed, and applied by everybody within reach: so many are on their
    /// way at any time, handed over one by one.
    fn commit(&mut self, commands: u64, outstanding: u64);

    /// Has so many batches of `size` commands committed and applied, each handed over at once and
    /// after the one before.
    fn commit_batches(&mut self, batches: u64, size: u64);

    /// Appends so many commands at the leader, in batches of `size`, each durable there before the
    /// next comes. None can commit, for the followers are cut off.
    fn pile_up(&mut self, batches: u64, size: u64);

    /// Separates servers; the leader's transport is told.
    fn cut(&mut self, cut: Cut);

    /// Ends the cut, and brings everybody's state machine to where the leader's is.
    fn catch_up(&mut self);

    /// Exchanges the host's own buffers, which are empty now, for others.
    fn exchange(&mut self, buffers: &mut Self::Buffers);

    /// Gives back the host's own buffers.
    fn shed(&mut self) {
        self.exchange(&mut Self::Buffers::default());
    }

    /// Lets one heartbeat interval pass in a group that has nothing to do.
    fn idle(&mut self);

    /// The same in each of many groups of one host.
    fn idle_all(groups: &mut [Self], buffers: &mut Self::Buffers) {
        for group in groups {
            group.exchange(buffers);
            group.idle();
            group.exchange(buffers);
        }
    }
}
