//! Entries of the log (§5.3) and the chain that ties each to all before it.
//!
//! Every entry carries `chain = h(previous chain, term, index, kind, length, h(payload))`, with
//! XXH3-64 over little-endian words. It is computed once, where the entry is proposed, and checked
//! wherever entries come back from a wire or a disk: equal chains mean equal histories, so the Log
//! Matching Property (§5.3) is checked at run time instead of being assumed. A membership is
//! hashed field by field, so the chain depends on no codec.
//!
//! [`Entries`] is the currency: log, disk, network and state machine share slices of one
//! allocation. It can only be built by the constructor that computes the chain.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::Deref;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::membership::Membership;
use crate::types::{Chain, EntryId, Index, Term};

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// The entry by which a new leader learns what is committed (§8).
    Noop,
    /// A command for the state machine, opaque here.
    Command(Bytes),
    /// A membership, in force from the moment it is appended (thesis §4.1).
    Membership(Arc<Membership>),
}

impl Payload {
    /// The bytes that count against the limits of the configuration.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Noop => 0,
            Self::Command(command) => command.len(),
            Self::Membership(membership) => 16 * membership_members(membership),
        }
    }

    /// Whether it weighs nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn kind(&self) -> u64 {
        match self {
            Self::Noop => 0,
            Self::Command(_) => 1,
            Self::Membership(_) => 2,
        }
    }

    fn digest(&self) -> u64 {
        match self {
            Self::Noop => 0,
            Self::Command(command) => XxHash3_64::oneshot(command),
            Self::Membership(membership) => membership_digest(membership),
        }
    }
}

/// A short command that is text is shown; of others, the length.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TEXT_MAX: usize = 16;
        match self {
            Self::Noop => f.write_str("noop"),
            Self::Membership(membership) => write!(f, "<{membership}>"),
            Self::Command(command) => {
                let is_text = command.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
                match core::str::from_utf8(command) {
                    Ok(text) if is_text && text.len() <= TEXT_MAX => write!(f, "\"{text}\""),
                    Ok(_) | Err(_) => write!(f, "[{}B]", command.len()),
                }
            }
        }
    }
}

/// One entry of the log. Built by [`Entries`] alone, so its chain is right.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    id: EntryId,
    payload: Payload,
}

impl Entry {
    /// Where it stands.
    #[must_use]
    pub fn index(&self) -> Index {
        self.id.index
    }

    /// The term of the leader that created it.
    #[must_use]
    pub fn term(&self) -> Term {
        self.id.term
    }

    /// The checksum of the log through it.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.id.chain
    }

    /// Index, term and chain.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// What it says.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.id, self.payload)
    }
}

/// An immutable run of consecutive entries: one shared allocation and a range; no allocation when
/// it is empty. Cloning and slicing copy no entry.
///
/// Dereferences to `[Entry]`. Two runs are equal when their entries are.
#[derive(Clone, Default)]
pub struct Entries {
    run: Option<Arc<[Entry]>>,
    start: u32,
    end: u32,
    /// The chain before the allocation's first entry.
    before: Chain,
    /// The payload bytes of the entries in the range: log, window and limits all ask for them.
    bytes: usize,
}

impl Entries {
    /// A run of no entries.
    #[must_use]
    pub const fn empty() -> Self {
        Self { run: None, start: 0, end: 0, before: Chain(0), bytes: 0 }
    }

    /// The entries that follow `before`, each given by its term and payload.
    ///
    /// The only way to make entries of payloads: it numbers them and computes their chains.
    /// ([`Entries::concat`] joins runs that follow each other, [`Entries::slice`] takes a part.)
    ///
    /// # Panics
    /// If there are 2^32 items or more; every caller bounds a run far below.
    #[must_use]
    pub fn after(before: EntryId, items: impl IntoIterator<Item = (Term, Payload)>) -> Self {
        let (mut last, mut bytes) = (before, 0usize);
        let run: Arc<[Entry]> = items
            .into_iter()
            .map(|(term, payload)| {
                let index = last.index.next();
                let chain = chain_after(last.chain, term, index, &payload);
                last = EntryId { index, term, chain };
                bytes = bytes.saturating_add(payload.len());
                Entry { id: last, payload }
            })
            .collect();
        if run.is_empty() {
            return Self::empty();
        }
        let end = u32::try_from(run.len()).expect("a run is bounded far below 2^32 entries");
        Self { run: Some(run), start: 0, end, before: before.chain, bytes }
    }

    /// The one entry that follows `before`: what [`Entries::after`] makes of one item, for less.
    pub(crate) fn just(before: EntryId, term: Term, payload: Payload) -> Self {
        let index = before.index.next();
        let chain = chain_after(before.chain, term, index, &payload);
        let bytes = payload.len();
        let run: Arc<[Entry]> = Arc::new([Entry { id: EntryId { index, term, chain }, payload }]);
        Self { run: Some(run), start: 0, end: 1, before: before.chain, bytes }
    }

    /// One run with the entries of several that follow each other; copies entries, not payloads.
    ///
    /// # Panics
    /// If a run does not follow its predecessor, or there are 2^32 entries or more.
    #[must_use]
    pub fn concat(runs: &[Self]) -> Self {
        let mut parts = runs.iter().filter(|run| !run.is_empty());
        let Some(first) = parts.next() else { return Self::empty() };
        let mut last = first;
        for part in parts {
            assert!(last[last.len() - 1].chain() == part.chain_before(), "runs follow each other");
            last = part;
        }
        let count = runs.iter().map(|run| run.len()).sum();
        let bytes = runs.iter().map(Self::bytes).fold(0, usize::saturating_add);
        let mut entries = runs.iter().flat_map(|run| run.iter());
        // A counted range tells the length, so the entries are written once, to where they stay.
        let run: Arc<[Entry]> =
            (0..count).map(|_| entries.next().expect("counted above").clone()).collect();
        let end = u32::try_from(count).expect("a run is bounded far below 2^32 entries");
        Self { run: Some(run), start: 0, end, before: first.chain_before(), bytes }
    }

    /// How many entries there are; found without a look at them.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The entries with `from <= index < to`; what lies outside of the run is left out.
    #[must_use]
    pub fn slice(&self, from: Index, to: Index) -> Self {
        let Some(first) = self.first() else { return Self::empty() };
        let offset = |index: Index| {
            let steps = index.0.saturating_sub(first.index().0);
            u32::try_from(steps)
                .map_or(self.end, |steps| self.end.min(self.start.saturating_add(steps)))
        };
        let (start, end) = (offset(from), offset(to));
        if start >= end {
            return Self::empty();
        }
        if (start, end) == (self.start, self.end) {
            return self.clone();
        }
        Self { start, end, ..self.clone() }.weighed()
    }

    /// The same range, once its ends have moved.
    fn weighed(mut self) -> Self {
        self.bytes = self.iter().map(|entry| entry.payload().len()).fold(0, usize::saturating_add);
        self
    }

    /// The index of the first entry.
    #[inline]
    pub(crate) fn first_index(&self) -> Option<Index> {
        Some(self.run.as_ref()?[self.start as usize].index())
    }

    /// Whether it has entries at or before `index`.
    #[inline]
    pub(crate) fn starts_by(&self, index: Index) -> bool {
        self.first_index().is_some_and(|first| first <= index)
    }

    /// The index of the last entry of a run that follows `before`; `before` if it is empty.
    #[inline]
    pub(crate) fn end_after(&self, before: Index) -> Index {
        Index(before.0 + u64::from(self.end - self.start))
    }

    /// Whether it has the entries after `after` through `last`, and no others.
    #[inline]
    pub(crate) fn is_just(&self, after: Index, last: Index) -> bool {
        self.end_after(after) == last && self.first_index() == Some(after.next())
    }

    /// Whether it is what a read of the entries after `after` through `last` gives: all of them, and
    /// within the limits, which admit one entry of any size.
    #[inline]
    pub(crate) fn is_whole_read(
        &self,
        after: Index,
        last: Index,
        bytes_max: usize,
        entries_max: usize,
    ) -> bool {
        self.is_just(after, last)
            && (self.len() == 1 || (self.len() <= entries_max && self.bytes <= bytes_max))
    }

    /// The first `count` entries, or all if there are fewer.
    pub(crate) fn take(mut self, count: usize) -> Self {
        if count == 0 {
            return Self::empty();
        }
        if count >= self.len() {
            return self;
        }
        self.end = self.start + u32::try_from(count).expect("less than its length");
        self.weighed()
    }

    /// Leaves out the first `count` entries, of more than that.
    pub(crate) fn skip(&mut self, count: usize) {
        assert!(count < self.len(), "what is left is not empty");
        let skipped = self[..count].iter().map(|entry| entry.payload().len());
        self.bytes = skipped.fold(self.bytes, usize::saturating_sub);
        self.start += u32::try_from(count).expect("a run is bounded far below 2^32 entries");
    }

    /// The chain before the first entry; meaningless for an empty run.
    #[must_use]
    #[inline(always)]
    pub fn chain_before(&self) -> Chain {
        match &self.run {
            Some(run) if self.start > 0 => run[self.start as usize - 1].chain(),
            Some(_) | None => self.before,
        }
    }

    /// The payload bytes of all entries; found without a look at them.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        match &self.run {
            Some(run) => &run[self.start as usize..self.end as usize],
            None => &[],
        }
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Entries {}

impl Hash for Entries {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A few entries are listed; of more, the ends and the number are shown.
impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LISTED_MAX: usize = 4;
        let (Some(first), Some(last)) = (self.first(), self.last()) else {
            return f.write_str("none");
        };
        if self.len() > LISTED_MAX {
            return write!(f, "{}..{} ({})", first.id(), last.id(), self.len());
        }
        for (position, entry) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { " " };
            write!(f, "{separator}{entry}")?;
        }
        Ok(())
    }
}

/// The chain of an entry, given the chain before it.
#[must_use]
pub fn chain_after(before: Chain, term: Term, index: Index, payload: &Payload) -> Chain {
    let length = payload.len() as u64;
    Chain(hash_words([before.0, term.0, index.0, payload.kind(), length, payload.digest()]))
}

/// The chain at index 0: the founders' membership, so that nodes founded apart never match.
#[must_use]
pub fn genesis_chain(founders: &Membership) -> Chain {
    Chain(hash_words([u64::from_le_bytes(*b"genesis0"), membership_digest(founders)]))
}

/// What stands before the first entry of a log, as its founders know it.
pub(crate) fn genesis_id(founders: &Membership) -> EntryId {
    EntryId { chain: genesis_chain(founders), ..EntryId::default() }
}

fn membership_digest(membership: &Membership) -> u64 {
    let lists = [
        membership.incoming(),
        membership.outgoing(),
        membership.learners(),
        membership.learners_next(),
    ];
    let mut words = Vec::with_capacity(5 + 2 * membership_members(membership));
    words.push(u64::from(membership.auto_leave()));
    for list in lists {
        words.push(list.len() as u64);
        words.extend(list.iter().flat_map(|member| [member.id.0, member.lineage.0]));
    }
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    XxHash3_64::oneshot(&bytes)
}

fn membership_members(membership: &Membership) -> usize {
    membership.incoming().len()
        + membership.outgoing().len()
        + membership.learners().len()
        + membership.learners_next().len()
}

fn hash_words<const N: usize>(words: [u64; N]) -> u64 {
    XxHash3_64::oneshot(words.map(u64::to_le_bytes).as_flattened())
}
