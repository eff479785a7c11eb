//! Finds the log again after a restart.
//!
//! A segment holds the entries from its first one to the one before the first of the next newer
//! segment; whatever else is in it was truncated. So the names say which segments count, and they are
//! read from the oldest to the newest. Then the last batch is copied into a segment of a new epoch,
//! synced before the node speaks:
//! * what was read may be in the page cache only, if a sync failed before the restart;
//! * a batch that was torn, and its leftovers, stay in the old epoch, where nothing looks again;
//! * no sector that was ever acknowledged is written a second time, except slots.

use std::collections::BTreeMap;

use raft_core::{EntryId, Index, Payload, Slot, SnapshotMeta};

use super::StorageOptions;
use super::batch::{BATCH_HEADER, ENTRY_HEADER, entry_bytes};
use super::error::{InFile, StorageError, remove_found};
use super::frame::Owner;
use super::gather::Gathered;
use super::heal::{self, HealLog, Heals};
use super::log::{Log, remove};
use super::lost::Lost;
use super::read::Window;
use super::report::{Report, What};
use super::resident;
use super::ring::Kept;
use super::scan::{Ending, Piece, Scan};
use super::segment::{self, BatchSize, DIR, OpenSegment, SCRATCH, Segment, SegmentName, open_head};
use super::spares::Spares;
use crate::disk::Disk;

/// The log as it was found; nothing has been changed yet.
#[derive(Debug)]
pub(super) struct FoundLog<F> {
    owner: Owner,
    /// Oldest first; the first follows `entries.before`, each follows the one before it.
    pub(super) live: Vec<Live<F>>,
    /// Segments that hold nothing any more.
    pub(super) dead: Vec<SegmentName>,
    /// Segments that hold something, and the log was cut off before them.
    given_up: Vec<SegmentName>,
    /// Those that earlier starts have kept.
    lost: Lost,
    pub(super) entries: Gathered,
    heals: Heals,
    /// Whether a segment was being made.
    scratch: bool,
    /// The highest epoch of any segment; once it has been judged, of one that is gone as well. What has
    /// been healed names its segment, so that no other may be called the same.
    pub(super) epoch: u64,
    /// Why the log may have reached further than what was found.
    pub(super) cut: Option<String>,
}

/// A segment that holds something.
#[derive(Debug)]
pub(super) struct Live<F> {
    pub(super) name: SegmentName,
    pub(super) path: String,
    file: F,
    repairs: Vec<(u64, Vec<u8>)>,
    /// For people: its last entry, its batches, and where they end of how much.
    pub(super) last: Index,
    pub(super) batches: u32,
    pub(super) data_end: u32,
    pub(super) file_bytes: u32,
}

/// What a start looks for, and how.
#[derive(Debug)]
pub(super) struct Search {
    /// Whose log it is.
    pub(super) owner: Owner,
    /// The entry that the newest snapshot covers last.
    pub(super) snapshot: EntryId,
    pub(super) ring: Vec<Kept>,
    pub(super) resident_bytes_max: usize,
    /// Whether a segment that does not say what it is counts as lost. It is amnesia otherwise.
    pub(super) is_readmission: bool,
}

impl<F> FoundLog<F> {
    /// Reads the log.
    ///
    /// # Errors
    /// Amnesia, a later version, or a disk error.
    pub(super) fn read<D: Disk<File = F>>(
        disk: &mut D,
        search: Search,
        report: &mut Report,
    ) -> Result<Self, StorageError> {
        let Search { owner, snapshot, ring, resident_bytes_max, is_readmission } = search;
        let listed = disk.list(DIR).in_file(DIR)?;
        let scratch = listed.iter().any(|name| SCRATCH.strip_prefix("wal/") == Some(name));
        let lost = Lost::find(&listed);
        let (names, dead, epoch) = order(&listed);
        let epoch = lost.names().iter().fold(epoch, |epoch, name| epoch.max(name.epoch));
        let spares = Spares { ring, heals: Heals::read(disk, owner, &listed)? };
        let not_kept = resident::not_kept_through(disk, owner, &names, resident_bytes_max)?;
        let mut entries = Gathered::after(snapshot, resident_bytes_max, not_kept);
        entries.expect(promised(&names));
        let heals = Heals::default();
        let (live, given_up, cut) = (Vec::new(), Vec::new(), None);
        let mut log =
            Self { owner, live, dead, given_up, lost, entries, heals, scratch, epoch, cut };
        let mut window = Window::default();
        for (at, (name, limit)) in names.iter().enumerate() {
            let segment = match open_head(disk, owner, *name)? {
                Ok(segment) => segment,
                Err(_) if is_readmission => {
                    log.given_up.push(*name);
                    continue;
                }
                Err(what) => return Err(StorageError::amnesia(&name.path(), what)),
            };
            if !log.follows(&segment, snapshot) {
                log.cut_before(*name, &names[at..], report);
                break;
            }
            let scan = Scan::begin(disk, *name, *limit, segment, window)?;
            // What a snapshot covers may have been removed, in any order: then the next segment that
            // is there is not the one that was begun after this one.
            let is_followed = limit.is_some_and(|limit| limit.prev() > snapshot.index);
            window = log.read_segment(disk, scan, (*limit, is_followed), &spares, report)?;
            if log.cut.is_some() {
                break;
            }
        }
        log.heals = spares.heals;
        Ok(log)
    }

    /// Whether a segment goes on where the log ends so far. What a snapshot covers may have been
    /// removed, in any order: a gap in it is none.
    fn follows(&mut self, segment: &OpenSegment<F>, snapshot: EntryId) -> bool {
        let before = segment.head.before;
        if before == self.entries.last() && !self.live.is_empty() {
            return true;
        }
        if before.index > snapshot.index {
            return false;
        }
        self.dead.extend(self.live.drain(..).map(|live| live.name));
        self.entries.begin_again(before);
        true
    }

    /// The log ends before the segment `name`: what is between was durable and is gone.
    fn cut_before(
        &mut self,
        name: SegmentName,
        rest: &[(SegmentName, Option<Index>)],
        report: &mut Report,
    ) {
        let after = self.entries.last();
        let why = format!("a segment begins at {}", name.first);
        // How many entries the others hold, nobody has looked.
        let entries = rest.last().map_or(0, |(last, _)| last.first.0.saturating_sub(name.first.0));
        report.add(name.path(), What::TailUnknown { after, entries, why: why.clone() });
        self.given_up.extend(rest.iter().map(|(name, _)| *name));
        self.cut = Some(why);
    }

    fn read_segment<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        mut scan: Scan<F>,
        (limit, is_followed): (Option<Index>, bool),
        spares: &Spares,
        report: &mut Report,
    ) -> Result<Window, StorageError> {
        let is_wanted = |last: EntryId| limit.is_none_or(|limit| last.index.next() < limit);
        if let Some(copy) = scan.bad_copy() {
            report.add(scan.path.as_str(), What::BadCopy { record: "segment's head", copy });
        }
        let (mut is_cut, mut piece) = (false, Piece::default());
        while is_wanted(self.entries.last()) {
            if !scan.next(disk, self.entries.last(), spares, &mut piece)? {
                is_cut = true;
                break;
            }
            self.entries.push(scan.name, &scan.path, &mut piece, report);
        }
        if let Some(torn) = self.entries.first_unproven(scan.name).filter(|_| !is_followed)
            && !scan.is_proven(disk, &torn)?
        {
            let entries = self.entries.cut_back(torn.id.index, report);
            report.add(scan.path.as_str(), What::Torn { after: self.entries.last(), entries });
        } else if is_cut && limit.is_none() {
            self.end(scan.ending(disk, self.entries.last())?, &scan.path, report);
        }
        scan.headers.iter().for_each(|header| self.entries.heard(header));
        let (repairs, name) = (scan.repairs(limit.is_none()), scan.name);
        let (batches, data_end) = (scan.batch(), scan.data_end());
        let (file_bytes, last) = (scan.head.file_bytes, self.entries.last().index);
        let (file, path, window) = scan.into_parts();
        let live = Live { name, path, file, repairs, last, batches, data_end, file_bytes };
        self.live.push(live);
        Ok(window)
    }

    fn end(&mut self, ending: Ending, path: &str, report: &mut Report) {
        let after = self.entries.last();
        match ending {
            Ending::Clean => {}
            Ending::Torn(entries) => report.add(path, What::Torn { after, entries }),
            Ending::Cut(entries) => {
                self.cut_after(path, entries, "a later batch has left a trace", report);
            }
            Ending::Unread(entries) => {
                self.cut_after(path, entries, "what follows cannot be read", report);
            }
        }
    }

    /// The log ends in the segment at `path`, and did not always.
    fn cut_after(&mut self, path: &str, entries: u64, why: &str, report: &mut Report) {
        let (after, why) = (self.entries.last(), why.to_owned());
        report.add(path, What::TailUnknown { after, entries, why: why.clone() });
        self.cut = Some(why);
    }

    /// The last entry.
    pub(super) fn last(&self) -> EntryId {
        self.entries.last()
    }

    /// Whether there is no segment at all, nor a trace of one.
    pub(super) fn is_blank(&self) -> bool {
        let names = [&self.dead[..], &self.given_up, self.lost.names()];
        self.live.is_empty() && names.iter().all(|names| names.is_empty())
    }

    /// Files that are no part of the log and hold something.
    pub(super) fn lost(&self) -> Vec<String> {
        let kept = self.lost.names().iter().map(|name| name.lost_path());
        kept.chain(self.given_up.iter().map(|name| name.path())).collect()
    }

    /// Whether the log goes on where the snapshot ends. If it does not, a crash came between the
    /// installation of the snapshot and the removal of the log, or the log was cut before it.
    pub(super) fn continues(&self, snapshot: EntryId) -> bool {
        self.entries.has(snapshot)
    }

    /// How much [`FoundLog::adopt`] makes, at most.
    ///
    /// # Errors
    /// The last batch does not fit into a segment.
    pub(super) fn bytes_to_adopt(&self, options: &StorageOptions) -> Result<u64, StorageError> {
        if self.is_blank() && self.heals.files.is_empty() {
            return Ok(0);
        }
        let exposed = self.entries.exposed.iter().map(|(_, payload)| entry_bytes(payload));
        let newest = self.heals.files.last();
        let healed = self.entries.healed.values().filter(|place| Some(&place.file) == newest);
        let apart = exposed.chain(healed.map(|place| u64::from(place.shape().0)));
        Ok(segment::file_bytes(options, self.tail_size())? + heal::file_bytes(apart))
    }

    /// Removes what an earlier process was making.
    pub(super) fn drop_scratch<D: Disk>(&mut self, disk: &mut D) -> Result<(), StorageError> {
        (self.scratch, self.heals.scratch) = (false, false);
        [SCRATCH, heal::SCRATCH].into_iter().try_for_each(|path| remove_found(disk, path))
    }

    /// What the new segment must have room for: the last batch, and one entry more.
    fn tail_size(&self) -> BatchSize {
        let batch = &self.entries.tail;
        let bytes = batch.iter().map(|(slot, _)| u64::from(ENTRY_HEADER + slot.len)).sum::<u64>();
        let entries = u32::try_from(batch.len()).expect("a batch has fewer than 2^16 entries");
        BatchSize { entries: entries + 1, bytes: bytes + u64::from(BATCH_HEADER) }
    }

    /// The entry before the first, the index of the last, and all as the core wants them, where the newest
    /// snapshot ends with `snapshot`.
    pub(super) fn into_slots(mut self, snapshot: EntryId) -> (EntryId, Index, Vec<Slot>) {
        if !self.continues(snapshot) {
            self.entries.begin_again(snapshot);
        }
        let slots = self.entries.take_slots();
        (self.entries.before, self.last().index, slots)
    }

    /// Makes what was found durable and writable, after everything that does not belong to it is
    /// gone, or is kept elsewhere; with the entries as the core wants them.
    pub(super) fn adopt<D: Disk<File = F>>(
        mut self,
        disk: &mut D,
        options: StorageOptions,
        snapshot: Option<&SnapshotMeta>,
        is_in_doubt: bool,
    ) -> Result<(Log<F>, Vec<Slot>), StorageError> {
        let last = snapshot.map_or(EntryId::default(), |snapshot| snapshot.last);
        for (is_there, scratch) in [(self.scratch, SCRATCH), (self.heals.scratch, heal::SCRATCH)] {
            if is_there {
                disk.remove(scratch).in_file(scratch)?;
            }
        }
        let files = core::mem::take(&mut self.heals.files);
        let was_absent = self.is_blank() && files.is_empty();
        if !self.continues(last) {
            self.dead.extend(self.live.drain(..).map(|live| live.name));
            self.entries.begin_again(last);
        }
        let mut log = Log::empty(self.owner, options, self.entries.before);
        if was_absent {
            // Nothing is left that could name a segment.
            return Ok((log, Vec::new()));
        }
        log.epoch = self.epoch;
        let healed = core::mem::take(&mut self.entries.healed);
        log.heals = HealLog::new(self.owner, files, healed);
        self.repair(disk)?;
        log.ids = core::mem::take(&mut self.entries.ids);
        log.end = log.durable();
        self.keep_apart(disk, &mut log)?;
        self.take_up(disk, &mut log)?;
        log.lost = core::mem::take(&mut self.lost);
        for name in core::mem::take(&mut self.given_up) {
            log.lost.keep(disk, name)?;
        }
        for name in core::mem::take(&mut self.dead) {
            // An earlier start may have come no further than to cut the log off.
            if is_in_doubt && name.first > log.end.index {
                log.lost.keep(disk, name)?;
            } else {
                remove(disk, name)?;
            }
        }
        if !is_in_doubt {
            log.lost.sweep(disk, &log.options, log.end.index)?;
        }
        log.heals.sweep(disk)?;
        disk.sync_dir(DIR).in_file(DIR)?;
        Ok((log, self.entries.take_slots()))
    }

    /// Writes again what could not be read and is known nevertheless.
    fn repair<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), StorageError> {
        for Live { path, file, repairs, .. } in &self.live {
            for (offset, bytes) in repairs {
                disk.write(file, *offset, bytes).in_file(path)?;
            }
            if !repairs.is_empty() {
                disk.sync(file).in_file(path)?;
            }
        }
        Ok(())
    }

    /// Where the last batch begins.
    pub(super) fn tail(&self, end: EntryId) -> Index {
        self.entries.tail.first().map_or(end.index.next(), |(slot, _)| slot.id.index)
    }

    /// Writes what cannot stay where it is to a file of healed entries: what has no other place, and
    /// what an earlier process may have left unsynced there.
    fn keep_apart<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        log: &mut Log<F>,
    ) -> Result<(), StorageError> {
        let tail = self.tail(log.end);
        let mut all: BTreeMap<Index, (EntryId, Payload)> = BTreeMap::new();
        let exposed = core::mem::take(&mut self.entries.exposed);
        all.extend(exposed.into_iter().map(|(id, payload)| (id.index, (id, payload))));
        for (index, place) in log.heals.newest() {
            let ids = log.id(index).zip(log.id(index.prev()));
            let (id, before) = ids.expect("what is healed is in the log");
            if let Some(payload) = place.read(disk, id, before)? {
                all.insert(index, (id, payload));
            }
        }
        // The last batch is copied as a whole.
        all.retain(|index, _| *index < tail);
        // The segment of an entry is the last one that does not begin after it.
        let segment_of = |index: Index| {
            let begins_after = self.live.partition_point(|live| live.name.first <= index);
            self.live[begins_after.checked_sub(1).expect("it is in a segment")].name
        };
        let all: Vec<_> =
            all.values().map(|(id, payload)| (*id, segment_of(id.index), payload)).collect();
        log.heals.write(disk, &all)
    }

    /// Begins the segment of the new epoch with a copy of the last batch.
    fn take_up<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        log: &mut Log<F>,
    ) -> Result<(), StorageError> {
        let (first, size) = (self.tail(log.end), self.tail_size());
        let batch = core::mem::take(&mut self.entries.tail);
        log.epoch += 1;
        let before = log.id(first.prev()).expect("the tail is in the log");
        let mut segment = Segment::begin(disk, &log.options, log.home(log.epoch), before, size)?;
        if !batch.is_empty() {
            let (place, room) = (segment.place(), segment.room());
            log.writer.begin();
            for (slot, payload) in &batch {
                let fits = match payload {
                    Some(payload) => log.writer.push(place, slot.id, payload, room),
                    None => log.writer.push_hole(place, slot, room),
                };
                assert!(fits, "the segment was made for this batch");
            }
            let (commit, generation) = (self.entries.commit, self.entries.generation);
            log.writer.finish(place, before, commit.min(before.index), generation);
            segment.write(disk, &mut log.writer, first)?;
            segment.write_slots(disk)?;
        }
        segment.publish(disk)?;
        log.active = Some(segment);
        log.heals.keep(Index::ZERO, first);
        for live in &self.live {
            if live.name.first < first {
                log.sealed.push_back(live.name);
            } else if self.cut.is_some() {
                // More may stand in it than the batch that was copied.
                self.given_up.push(live.name);
            } else {
                self.dead.push(live.name);
            }
        }
        Ok(())
    }
}

/// About how many entries these segments hold, told by their names alone. It need not be true: memory
/// that is asked for and not used costs nothing, and names cannot ask for much.
fn promised(names: &[(SegmentName, Option<Index>)]) -> usize {
    const OF_A_SEGMENT_MAX: u64 = 1 << 16;
    let of = |(name, limit): &(SegmentName, Option<Index>)| {
        let entries = limit.map_or(0, |limit| limit.0 - name.first.0);
        usize::try_from(entries.min(OF_A_SEGMENT_MAX)).unwrap_or(0)
    };
    // The newest segment, which no name ends, has as much room as the fullest one.
    names.iter().map(of).sum::<usize>() + names.iter().map(of).max().unwrap_or(0)
}

/// The segments that count, oldest first, each with the first entry of the next one; those that do
/// not; and the highest epoch.
#[expect(clippy::type_complexity, reason = "three lists of names, used in one place")]
fn order(listed: &[String]) -> (Vec<(SegmentName, Option<Index>)>, Vec<SegmentName>, u64) {
    let mut names: Vec<_> = listed.iter().filter_map(|name| SegmentName::parse(name)).collect();
    names.sort_unstable();
    let epoch = names.last().map_or(0, |name| name.epoch);
    let (mut live, mut dead, mut limit) = (Vec::new(), Vec::new(), None);
    for name in names.into_iter().rev() {
        if limit.is_some_and(|limit| name.first >= limit) {
            dead.push(name);
        } else {
            live.push((name, limit));
            limit = Some(name.first);
        }
    }
    live.reverse();
    (live, dead, epoch)
}
