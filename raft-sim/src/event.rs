//! What can come up in the queue.
//!
//! Events carry what tells whether they still mean something: a process has a *life* that every
//! start raises, deadlines and clients have a *generation* that every new one raises.

use bytes::Bytes;

/// The position of a node in the world; its id is one higher.
pub type NodeAt = usize;

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame reaches the end of a link.
    Frame {
        /// The link.
        link: u32,
        /// Its position among the frames of the link, to notice overtaking.
        sequence: u32,
        /// Whether it is the second copy of one.
        copy: bool,
        /// The breaks of the link's connection before it was sent; it is lost if there was one
        /// since.
        connection: u32,
        /// The bytes.
        frame: Bytes,
        /// Whether they are not those that were sent.
        is_changed: bool,
    },
    /// A node's deadline has passed.
    Deadline {
        /// The node.
        node: NodeAt,
        /// Stale unless it is the node's newest.
        generation: u32,
    },
    /// A node looks at what has arrived.
    Inbox {
        /// The node.
        node: NodeAt,
        /// The process that was woken.
        life: u32,
    },
    /// A node's disk is done with what it was doing.
    Disk {
        /// The node.
        node: NodeAt,
        /// The process that asked.
        life: u32,
    },
    /// A node looks through a part of its disk.
    Scrub {
        /// The node.
        node: NodeAt,
        /// The process that looks.
        life: u32,
    },
    /// A node's disk may have had nothing to write for a while.
    Rest {
        /// The node.
        node: NodeAt,
        /// The process that asked.
        life: u32,
    },
    /// The state that a node has frozen is encoded.
    Encoded {
        /// The node.
        node: NodeAt,
        /// The process that has frozen it.
        life: u32,
    },
    /// A node that was down starts.
    Start {
        /// The node.
        node: NodeAt,
        /// The life after which it starts.
        life: u32,
    },
    /// A process that was told to end looks whether somebody else leads by now.
    Leave {
        /// The node.
        node: NodeAt,
        /// The process that ends.
        life: u32,
    },
    /// A node that stood still goes on.
    Resume {
        /// The node.
        node: NodeAt,
        /// The process that stood still.
        life: u32,
    },
    /// A client acts: its pause is over, or it has waited long enough.
    Client {
        /// The client.
        client: usize,
        /// Stale unless it is the client's newest.
        generation: u32,
    },
    /// A node stands still, as the second part of a strike.
    Freeze {
        /// The node.
        node: NodeAt,
        /// For how long, in microseconds.
        lasts_us: u64,
    },
    /// An operator asks a node to campaign, as the second part of a strike.
    Urge {
        /// The node.
        node: NodeAt,
    },
    /// The nemesis strikes.
    Strike {
        /// Which of its classes.
        class: usize,
    },
    /// A partition ends.
    Mend {
        /// Which one.
        partition: usize,
    },
    /// A link is clogged, as the second part of a strike.
    Clog {
        /// The link.
        link: u32,
        /// For how long, in microseconds.
        lasts_us: u64,
    },
    /// A clogged link is released.
    Release {
        /// The link.
        link: u32,
    },
    /// A node that flaps is cut off, or comes back.
    Flap {
        /// The node.
        node: NodeAt,
        /// Whether it is cut off.
        cut: bool,
    },
    /// After the faults have ended, an operator looks after the membership.
    Operator,
    /// An operator looks after a server that the group has yet to admit again.
    Readmit {
        /// The server.
        node: NodeAt,
    },
    /// A sender learns that its connection broke.
    Unreachable {
        /// The link.
        link: u32,
        /// The sender's process.
        life: u32,
    },
}
