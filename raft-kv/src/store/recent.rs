//! The last changes, for who watches: a ring with a bound in number and in bytes.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use raft_core::Index;

/// The most changes that are kept.
const CHANGES_MAX: usize = 64 << 10;

/// The most bytes of keys and values in them. They are shared with the map where they still stand.
const BYTES_MAX: usize = 16 << 20;

/// A key that was written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The index of the log entry that did it.
    pub index: Index,
    /// The key.
    pub key: Bytes,
    /// The value; `None`: removed.
    pub value: Option<Bytes>,
}

/// How much is told at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The most changes, at least one.
    pub changes_max: usize,
    /// With the change that takes keys and values to this many bytes the page ends.
    pub bytes_max: usize,
}

impl Change {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Changes are asked for that are not kept any more, or were never made here one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// From here on nothing is missing.
    pub oldest: Index,
}

impl fmt::Display for TooOld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "changes are kept after index {} only", self.oldest.0)
    }
}

/// The ring.
///
/// Invariant: every change after `from` is in it, in the order of the indices.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    from: Index,
    changes: VecDeque<Change>,
    bytes: usize,
}

impl Recent {
    pub(super) fn beginning_at(from: Index) -> Self {
        Self { from, ..Self::default() }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.changes.push_back(change);
        while self.changes.len() > CHANGES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.from = oldest.index;
        }
    }

    pub(super) fn after(
        &self,
        after: Index,
        prefix: &[u8],
        page: Page,
        last: Index,
    ) -> Result<(Vec<Change>, Index), TooOld> {
        if after < self.from {
            return Err(TooOld { oldest: self.from });
        }
        let start = self.changes.partition_point(|change| change.index <= after);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for change in self.changes.range(start..) {
            if change.key.starts_with(prefix) {
                found.push(change.clone());
                bytes += change.bytes();
                if found.len() >= page.changes_max || bytes >= page.bytes_max {
                    return Ok((found, change.index));
                }
            }
        }
        Ok((found, last.max(after)))
    }
}
