//! What a start found on the disk, for people, tests and counters.
//!
//! Nothing here decides anything. What is listed as repaired has been repaired once
//! [`crate::storage::Storage::open`] has returned; an inspection lists the same and repairs nothing.

use core::fmt;

use raft_core::EntryId;

/// What was found, in the order in which it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each thing that is not as a clean stop leaves it.
    pub findings: Vec<Finding>,
}

/// One thing that was found, and in which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the data directory.
    pub file: String,
    /// What about it.
    pub what: What,
}

/// What may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A copy of a record cannot be read, or the other one was to be written over it; now it is.
    BadCopy {
        /// Which record, and which of its copies, from 0.
        record: &'static str,
        /// The copy.
        copy: u32,
    },
    /// An entry is intact, its slot is not; the slot is written again.
    BadSlot {
        /// The entry.
        entry: EntryId,
    },
    /// A payload and its slot are intact, the header between them is not; the entry is kept a second
    /// time.
    BadHeader {
        /// The entry.
        entry: EntryId,
    },
    /// A payload cannot be read; it has been healed before, or is a membership that is kept apart.
    Healed {
        /// The entry.
        entry: EntryId,
    },
    /// A payload cannot be read, its identity can.
    Damaged {
        /// The entry.
        entry: EntryId,
    },
    /// The log was cut here: what follows was being written when the machine went down, and nothing
    /// says that it was ever durable.
    Torn {
        /// The last entry that stays.
        after: EntryId,
        /// How many entries after it have left a trace.
        entries: u64,
    },
    /// The log was cut here, and may once have reached further.
    TailUnknown {
        /// The last entry that stays.
        after: EntryId,
        /// How many entries after it were given up although something of them could be read.
        entries: u64,
        /// What says that the log reached further.
        why: String,
    },
    /// A snapshot's bytes cannot be read.
    SnapshotDamaged {
        /// What it covers.
        snapshot: EntryId,
        /// Whether an older one takes its place.
        replaced: bool,
    },
}

impl What {
    /// What kind of a thing it is, in a word for counters; one of [`What::KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BadCopy { .. } => "bad_copy",
            Self::BadSlot { .. } => "bad_slot",
            Self::BadHeader { .. } => "bad_header",
            Self::Healed { .. } => "healed",
            Self::Damaged { .. } => "damaged",
            Self::Torn { .. } => "torn",
            Self::TailUnknown { .. } => "tail_unknown",
            Self::SnapshotDamaged { .. } => "snapshot_damaged",
        }
    }

    /// Whether something is lost here, that other members may have. All else was repaired, or is what a
    /// power loss leaves.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::TailUnknown { .. } | Self::SnapshotDamaged { .. } => true,
            Self::BadCopy { .. }
            | Self::BadSlot { .. }
            | Self::BadHeader { .. }
            | Self::Healed { .. }
            | Self::Torn { .. } => false,
        }
    }

    /// All kinds.
    pub const KINDS: [&'static str; 8] = [
        "bad_copy",
        "bad_slot",
        "bad_header",
        "healed",
        "damaged",
        "torn",
        "tail_unknown",
        "snapshot_damaged",
    ];
}

impl Report {
    /// Whether all is as a clean stop leaves it.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// The entries whose payloads cannot be read, oldest first.
    pub fn damaged(&self) -> impl Iterator<Item = EntryId> {
        self.findings.iter().filter_map(|finding| match &finding.what {
            What::Damaged { entry } => Some(*entry),
            What::BadCopy { .. }
            | What::BadSlot { .. }
            | What::BadHeader { .. }
            | What::Healed { .. }
            | What::Torn { .. }
            | What::TailUnknown { .. }
            | What::SnapshotDamaged { .. } => None,
        })
    }

    pub(super) fn add(&mut self, file: impl Into<String>, what: What) {
        self.findings.push(Finding { file: file.into(), what });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadCopy { record, copy } => {
                write!(f, "copy {copy} of the {record} cannot be read, the other one can")
            }
            Self::BadSlot { entry } => write!(f, "{entry} is intact, its slot is not"),
            Self::BadHeader { entry } => write!(f, "{entry} is intact, its header is not"),
            Self::Healed { entry } => write!(f, "{entry} cannot be read here; it is kept apart"),
            Self::Damaged { entry } => write!(f, "the payload of {entry} cannot be read"),
            Self::Torn { after, entries } => {
                write!(f, "torn after {after}, {entries} more were being written")
            }
            Self::TailUnknown { after, entries, why } => {
                write!(f, "ends at {after} and may have reached further: {why}; {entries} given up")
            }
            Self::SnapshotDamaged { snapshot, replaced: false } => {
                write!(f, "the bytes of snapshot {snapshot} cannot be read")
            }
            Self::SnapshotDamaged { snapshot, replaced: true } => {
                write!(f, "the bytes of snapshot {snapshot} cannot be read; an older one is used")
            }
        }
    }
}
