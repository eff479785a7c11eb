//! How a record of storage is framed: `magic | version | length | body | checksum`.
//!
//! The checksum is XXH3-64 over all before it, so a record is there whole or not at all. Every body
//! says where it belongs (its copy, its file's epoch), so that a record which the disk put in the
//! wrong place does not pass for the one that belongs there. And every checksum is seeded with whose
//! the record is ([`Owner`]): on the disk of another server, or in the directory of another group, the
//! same places have the same names. The frame itself never changes: a later version is recognised, and
//! refused, by name.

use raft_core::{ClusterId, GroupId, NodeId};
use twox_hash::XxHash3_64;

/// The version of every framed record that this program writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;

/// What stands before the body.
pub(super) const HEAD: usize = 8 + 4 + 4;

/// What stands behind it.
pub(super) const CHECKSUM: usize = 8;

/// What a frame adds to its body.
pub(super) const OVERHEAD: usize = HEAD + CHECKSUM;

/// Whose records they are: XXH3-64 of cluster, group and server, 8 bytes each. The seed of the checksums of
/// all records but the identity itself, which tells it.
///
/// The lineage is no part of it: a server that is admitted again under a new one goes on with its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner(pub(super) u64);

impl Owner {
    /// Of the record that says whose the others are.
    pub(super) const ANY: Self = Self(0);

    pub(super) fn new(cluster: ClusterId, group: GroupId, node: NodeId) -> Self {
        let mut bytes = [0; 24];
        let words = bytes.as_chunks_mut::<8>().0.iter_mut();
        for (place, word) in words.zip([cluster.0, group.0, node.0]) {
            *place = word.to_le_bytes();
        }
        Self(XxHash3_64::oneshot(&bytes))
    }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Nothing was ever written here.
    Zero,
    /// Not this record, or not all of it, or somebody else's.
    Bad,
    /// A whole record of this later version.
    Newer(u32),
}

/// A framed record.
pub(super) fn seal(magic: &[u8; 8], owner: Owner, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("records are bounded far below 4 GiB");
    let mut bytes = Vec::with_capacity(OVERHEAD + body.len());
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(body);
    let checksum = XxHash3_64::oneshot_with_seed(owner.0, &bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The body of the record at the beginning of `bytes`; what follows the record is not looked at.
pub(super) fn unseal<'a>(
    magic: &[u8; 8],
    owner: Owner,
    bytes: &'a [u8],
) -> Result<Reader<'a>, Flaw> {
    let mut head = Reader(bytes);
    if head.take(8).ok_or(Flaw::Bad)? != magic {
        return Err(if is_zero(bytes) { Flaw::Zero } else { Flaw::Bad });
    }
    let version = head.u32().ok_or(Flaw::Bad)?;
    let length = head.u32().ok_or(Flaw::Bad)? as usize;
    let body = head.take(length).ok_or(Flaw::Bad)?;
    let checksum = head.u64().ok_or(Flaw::Bad)?;
    if XxHash3_64::oneshot_with_seed(owner.0, &bytes[..16 + length]) != checksum {
        return Err(Flaw::Bad);
    }
    if version != VERSION {
        return Err(Flaw::Newer(version));
    }
    Ok(Reader(body))
}

/// How long the record is that begins like this; whatever it says, if it is none.
pub(super) fn framed_bytes(bytes: &[u8]) -> usize {
    let length = bytes.get(12..).and_then(|bytes| Reader(bytes).u32());
    length.map_or(0, |length| OVERHEAD.saturating_add(length as usize))
}

/// Whether nothing was ever written here. Looks at many bytes at once: places are mostly empty.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    let none_in = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte) == 0;
    chunks.iter().all(|chunk| none_in(chunk)) && none_in(rest)
}

/// Reads little-endian integers from the front of some bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
