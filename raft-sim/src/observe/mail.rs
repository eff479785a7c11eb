//! Which message each frame carries, on its way and in the inbox of its receiver.

use std::collections::{BTreeMap, VecDeque};

use crate::event::NodeAt;

/// A copy of a message: its number, and whether it is the second one.
pub(super) type Copied = (u64, bool);

/// All messages that are under way.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// How many messages there were.
    sent: u64,
    /// By link and position.
    flying: BTreeMap<(u32, u32), u64>,
    /// What a clogged link holds, oldest first.
    held: BTreeMap<u32, VecDeque<u64>>,
    /// What has reached a node and was not read, in the order in which it came.
    inboxes: BTreeMap<NodeAt, VecDeque<Copied>>,
}

impl Mail {
    /// A new message.
    pub(super) fn number(&mut self) -> u64 {
        self.sent += 1;
        self.sent - 1
    }

    /// A message has a position on its link.
    pub(super) fn flies(&mut self, link: u32, sequence: u32, message: u64) {
        self.flying.insert((link, sequence), message);
    }

    /// The message at a position of a link. It stays known, since a second copy may follow.
    pub(super) fn at(&self, link: u32, sequence: u32) -> Option<u64> {
        self.flying.get(&(link, sequence)).copied()
    }

    pub(super) fn hold(&mut self, link: u32, message: u64) {
        self.held.entry(link).or_default().push_back(message);
    }

    /// A clogged link lets the oldest message go that it holds.
    pub(super) fn release(&mut self, link: u32) -> Option<u64> {
        self.held.get_mut(&link).and_then(VecDeque::pop_front)
    }

    /// A clogged link loses what it holds.
    pub(super) fn forget(&mut self, link: u32) -> VecDeque<u64> {
        self.held.remove(&link).unwrap_or_default()
    }

    pub(super) fn arrive(&mut self, node: NodeAt, copied: Copied) {
        self.inboxes.entry(node).or_default().push_back(copied);
    }

    /// A node reads the oldest frame of its inbox.
    pub(super) fn read(&mut self, node: NodeAt) -> Option<Copied> {
        self.inboxes.get_mut(&node).and_then(VecDeque::pop_front)
    }

    /// A node's inbox is lost.
    pub(super) fn unread(&mut self, node: NodeAt) -> VecDeque<Copied> {
        self.inboxes.remove(&node).unwrap_or_default()
    }
}
