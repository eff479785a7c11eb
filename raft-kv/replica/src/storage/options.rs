//! The sizes that storage works with.

use super::StorageError;

/// The sizes of what storage creates. What is on the disk already says its own sizes, so they may
/// change from one start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StorageOptions {
    /// Entries per segment of the log, at least 1.
    pub segment_slots: u32,
    /// Bytes for the batches of a segment, rounded up to pages. A larger batch gets a larger
    /// segment. A segment stays below 2 GiB.
    pub segment_bytes: u32,
    /// The gap between the slots and the batches of a segment, rounded up to pages: a misplaced
    /// write does not hit both.
    pub guard_bytes: u32,
    /// The unit in which a snapshot is checked, in bytes, at least 1.
    pub chunk_bytes: u32,
    /// The payload bytes of the newest entries that a start keeps in memory; the payloads of the
    /// others are read when they are asked for.
    pub resident_bytes: u64,
}

impl StorageOptions {
    /// Sizes for simulations and tests: segments are cheap and roll often. A server takes the default.
    #[must_use]
    pub const fn small() -> Self {
        Self {
            segment_slots: 64,
            segment_bytes: 64 << 10,
            guard_bytes: 0,
            chunk_bytes: 4 << 10,
            resident_bytes: 64 << 10,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`StorageError::Options`] names the first option that is out of range.
    pub fn validate(&self) -> Result<(), StorageError> {
        let checks = [
            (self.segment_slots == 0, "segment_slots is at least 1"),
            (self.segment_slots > 1 << 20, "segment_slots is at most 2^20"),
            (self.segment_bytes > 1 << 30, "segment_bytes is at most 1 GiB"),
            (self.guard_bytes > 1 << 28, "guard_bytes is at most 256 MiB"),
            (self.chunk_bytes == 0, "chunk_bytes is at least 1"),
            (self.chunk_bytes > 1 << 30, "chunk_bytes is at most 1 GiB"),
        ];
        match checks.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, what)) => Err(StorageError::Options { what }),
            None => Ok(()),
        }
    }
}

impl Default for StorageOptions {
    /// Sizes for production.
    fn default() -> Self {
        Self {
            segment_slots: 16 << 10,
            segment_bytes: 16 << 20,
            guard_bytes: 1 << 20,
            chunk_bytes: 64 << 10,
            resident_bytes: 16 << 20,
        }
    }
}
