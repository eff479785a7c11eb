//! What is left of a log beside a wound, read off the raw bytes.
//!
//! A start that finds less than there was must have a reason, and a wound that meets the only copy of
//! something must be noticed. Whether that is so must not be asked of those who are judged by it: here are
//! names of segments, places of slots, beginnings of batches, and payloads as they were written, and
//! nothing is decoded.

use std::ops::Range;

use bytes::Bytes;
use raft_core::EntryId;

use super::{Platter, SECTOR_BYTES, TABLE, Wound, batches, numbers};

/// How long a slot is.
const SLOT: usize = 64;
/// How long the header of a batch is, and where it says which entry is its first.
const HEADER: usize = 64;
const FIRST: usize = 24;
/// Shorter payloads may stand anywhere by chance.
const PAYLOAD_MIN: usize = 16;

/// A segment by its name: its epoch, its first entry, its file.
type Segment = (u64, u64, usize);

/// What tells that a log went on to these entries, and is not hurt, neither by this wound nor by an `earlier`
/// one: nothing, if they have left no trace.
pub(crate) fn trace_of(
    platter: &Platter,
    wound: &Wound,
    earlier: &[Wound],
    lost: Range<u64>,
) -> Option<String> {
    if wound.is_removal() {
        return Some("its newest file is gone".to_owned());
    }
    let newest = segments(platter).last().copied();
    if let Some((_, first, _)) = newest.filter(|(_, first, _)| *first > lost.start) {
        return Some(format!("a segment begins at i{first}"));
    }
    let is_whole = |inode: usize, span: Range<usize>| {
        !touches(wound, inode, &span) && !meet(earlier, inode, &span)
    };
    let mut slots = lost.clone().filter_map(|index| Some((index, slot(platter, index)?)));
    if let Some((index, _)) = slots.find(|(_, (inode, span))| is_whole(*inode, span.clone())) {
        return Some(format!("the slot of i{index} is there"));
    }
    let (_, _, inode) = newest?;
    let data = &platter.inodes[inode].data;
    let mut later = batches(&platter.inodes[inode]).into_iter().filter_map(|at| {
        let first = data.get(at + FIRST..at + FIRST + 8)?;
        let first = u64::from_le_bytes(first.try_into().expect("eight bytes"));
        (first > lost.start && is_whole(inode, at..at + HEADER)).then_some(first)
    });
    later.next().map(|first| format!("the batch from i{first} on is there"))
}

/// The last entry that has a slot, unless a wound has met the slot of one before it: then nothing may lead
/// there.
pub(crate) fn slots_through(
    platter: &Platter,
    wounds: &[Wound],
    entries: Range<u64>,
) -> Option<u64> {
    let is_whole = |index: &u64| {
        slot_place(platter, *index).is_none_or(|(inode, span)| !meet(wounds, inode, &span))
    };
    entries.take_while(is_whole).filter(|index| slot(platter, *index).is_some()).last()
}

/// Whether one of these wounds has met the place of an entry's slot, or there is none.
pub(crate) fn has_met_slot(platter: &Platter, wounds: &[&Wound], index: u64) -> bool {
    slot_place(platter, index)
        .is_none_or(|(inode, span)| wounds.iter().any(|wound| touches(wound, inode, &span)))
}

/// Whether a wound has hurt nothing but where the batches of a segment stand.
pub(crate) fn is_of_payloads(platter: &Platter, wound: &Wound) -> bool {
    super::part_of(platter, wound) == Some(crate::fault::Part::Payload)
        && super::file_of(platter, wound).is_some()
}

/// Whether a wound is a sector that cannot be read, and nobody has written to.
pub(crate) fn is_unwritten(platter: &Platter, wound: &Wound) -> bool {
    let is_blank = |(inode, sector): (usize, usize)| {
        let data = platter.inodes[inode].data.iter().skip(sector * SECTOR_BYTES);
        data.take(SECTOR_BYTES).all(|byte| *byte == 0)
    };
    wound.is_unreadable() && wound.bad.is_some_and(is_blank)
}

/// Of these entries, those of whose payloads a wound has met a copy.
pub(crate) fn met<'a>(
    platter: &Platter,
    wound: &Wound,
    entries: impl Iterator<Item = (EntryId, &'a Bytes)>,
) -> Vec<EntryId> {
    let sector = wound.bad.map(|(inode, sector)| {
        (inode, sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES, &[][..])
    });
    let patches = wound.patches.iter().map(|patch| {
        (patch.inode, patch.start..patch.start + patch.before.len(), &patch.before[..])
    });
    let entries: Vec<_> = entries.filter(|(_, bytes)| bytes.len() >= PAYLOAD_MIN).collect();
    let longest = entries.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or_default();
    let mut found = Vec::new();
    for (inode, span, before) in patches.chain(sector) {
        let data = &platter.inodes[inode].data;
        let from = span.start.saturating_sub(longest);
        let mut around = data[from..data.len().min(span.end + longest)].to_vec();
        around[span.start - from..][..before.len()].copy_from_slice(before);
        for (id, bytes) in &entries {
            // It ends behind the beginning of the wound, and begins before its end.
            let low = (span.start - from).saturating_sub(bytes.len() - 1);
            let high = around.len().min(span.end - from + bytes.len() - 1);
            if occurs(&around[low.min(high)..high], bytes).next().is_some() {
                found.push(*id);
            }
        }
    }
    found
}

/// Whether these bytes can be read anywhere in the log.
pub(crate) fn is_left(platter: &Platter, bytes: &[u8]) -> bool {
    let is_of_log = |path: &str| path.starts_with("wal/") && !path.starts_with("wal/lost-");
    let files = platter.names.iter().filter(|(path, _)| is_of_log(path));
    files.map(|(_, &at)| &platter.inodes[at]).any(|inode| {
        let is_bad = |at: usize| {
            let sectors = at / SECTOR_BYTES..=(at + bytes.len() - 1) / SECTOR_BYTES;
            inode.bad.range(sectors).next().is_some()
        };
        occurs(&inode.data, bytes).any(|at| !is_bad(at))
    })
}

/// Where bytes occur in others.
pub(super) fn occurs<'a>(all: &'a [u8], bytes: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let head = bytes.first_chunk::<8>();
    let starts = all.windows(bytes.len().max(8)).enumerate();
    starts
        .filter(move |(_, there)| there.first_chunk() == head && *there == bytes)
        .map(|(at, _)| at)
}

/// The segments, in the order of their making.
fn segments(platter: &Platter) -> Vec<Segment> {
    let named = platter.names.iter();
    let mut segments: Vec<Segment> = named
        .filter_map(|(path, &at)| numbers(path).map(|(epoch, first)| (epoch, first, at)))
        .collect();
    segments.sort_unstable();
    segments
}

/// The file and the place of an entry's slot, if anything is written there.
fn slot(platter: &Platter, index: u64) -> Option<(usize, Range<usize>)> {
    let (inode, span) = slot_place(platter, index)?;
    let bytes = platter.inodes[inode].data.get(span.clone())?;
    // Where the table is longer than its entries, the guard gap and the batches follow.
    let is_slot = bytes[..8] == index.to_le_bytes();
    is_slot.then_some((inode, span))
}

/// The file and the place of an entry's slot: the newest segment that begins before it is the one that has
/// it.
fn slot_place(platter: &Platter, index: u64) -> Option<(usize, Range<usize>)> {
    let segments = segments(platter);
    let (_, first, inode) = segments.into_iter().rfind(|(_, first, _)| *first <= index)?;
    let number = usize::try_from(index - first).ok()?;
    let start = number.checked_mul(SLOT)?.checked_add(TABLE)?;
    Some((inode, start..start + SLOT))
}

/// Whether any of these wounds touches a part of a file.
fn meet(wounds: &[Wound], inode: usize, span: &Range<usize>) -> bool {
    wounds.iter().any(|wound| touches(wound, inode, span))
}

fn touches(wound: &Wound, inode: usize, span: &Range<usize>) -> bool {
    let meets = |start: usize, end: usize| start < span.end && span.start < end;
    let is_patched = wound
        .patches
        .iter()
        .any(|patch| patch.inode == inode && meets(patch.start, patch.start + patch.before.len()));
    let is_bad = wound.bad.is_some_and(|(file, sector)| {
        file == inode && meets(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
    });
    is_patched || is_bad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_wherever_they_stand() {
        let all = *b"abcdefghijklmnop-abcdefghijklmnop";
        let found: Vec<usize> = occurs(&all, b"abcdefghijklmnop").collect();
        assert_eq!(found, [0, 17]);
        assert_eq!(occurs(&all, b"abcdefghijklmnoq").count(), 0);
        assert_eq!(occurs(&all[..4], b"abcdefghijklmnop").count(), 0);
    }
}
