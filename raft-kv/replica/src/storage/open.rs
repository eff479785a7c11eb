//! From a directory to a running storage: format, look, settle, adopt.
//!
//! Everything is read, and judged, before anything is written. Then what was found is made durable,
//! in an order in which a crash at any point leaves a directory that says the same: first the promises
//! (identity, hard state, the flag of an unknown tail), then the snapshots, then the log.

use raft_core::{EntryId, HardState, Index, Member, SnapshotMeta};

use super::error::{InFile, StorageError};
use super::found::Found;
use super::hard_state::{self, HardStateFiles, LogMark};
use super::identity::{self, Identity, IdentityFile};
use super::recover::{FoundLog, Search};
use super::report::{Report, What};
use super::ring::Ring;
use super::snapshots::Snapshots;
use super::{Storage, StorageOptions, manifest, segment};
use crate::disk::{Disk, DiskError};

/// A directory that has been read, and not been changed.
#[derive(Debug)]
pub(super) struct Examined<F> {
    pub(super) identity_file: IdentityFile<F>,
    pub(super) identity: Identity,
    pub(super) hard_state: HardStateFiles<F>,
    /// The memberships that are kept a second time.
    ring: Ring,
    pub(super) snapshots: Snapshots<F>,
    pub(super) log: FoundLog<F>,
    /// Where the newest usable snapshot ends.
    pub(super) end: EntryId,
    /// Whether the log may have reached further.
    pub(super) is_tail_unknown: bool,
    pub(super) report: Report,
}

impl<D: Disk> Storage<D> {
    /// Makes an empty directory the data directory of `identity`. An explicit act: a node that
    /// lost its directory must not start as if it were new.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`]; [`StorageError::NoSpace`], and nothing has been made if the disk
    /// knows that beforehand; or whatever the disk reports. A directory whose formatting was
    /// interrupted is not empty and no data directory; remove what is in it.
    pub fn format(disk: &mut D, identity: Identity) -> Result<(), StorageError> {
        if let Some(file) = disk.list("").in_file("")?.into_iter().next() {
            return Err(StorageError::NotEmpty { file });
        }
        if !disk.has_room(2 * hard_state::FILE_BYTES + identity::BYTES) {
            return Err(StorageError::NoSpace { file: identity::FILE.to_owned() });
        }
        for dir in [segment::DIR, manifest::DIR] {
            disk.create_dir(dir).in_file(dir)?;
        }
        HardStateFiles::format(disk, identity.owner())?;
        disk.sync_dir("").in_file("")?;
        // Its name is what makes the directory a data directory, so it comes last.
        identity::create(disk, &identity)
    }

    /// Opens a data directory, of `expect` if it is given, and makes durable what it found.
    ///
    /// Damage is no error: what cannot be read any more is found as damaged, and where the log may
    /// have reached further, the hard state says so, durably, before anything is written again.
    ///
    /// # Errors
    /// The directory is missing something, belongs to somebody else, was written by a later
    /// version, or has lost what the node has promised ([`StorageError::Amnesia`]); each names the
    /// file, and nothing has been modified. Nor has it if the disk says that there is no room for what a
    /// start makes ([`StorageError::NoSpace`]). Or whatever the disk reports.
    pub fn open(
        mut disk: D,
        options: StorageOptions,
        expect: Option<Identity>,
    ) -> Result<(Self, Found), StorageError> {
        options.validate()?;
        let examined = examine(&mut disk, &options, expect, false)?;
        Self::adopt(disk, options, examined)
    }

    /// What [`Storage::open`] would find in a directory, of `expect` if it is given. Nothing is changed, so
    /// the disk may be one that is only read.
    ///
    /// # Errors
    /// As for [`Storage::open`], but for what a start would make.
    pub fn look(
        disk: &mut D,
        options: &StorageOptions,
        expect: Option<Identity>,
    ) -> Result<Found, StorageError> {
        options.validate()?;
        let Examined { identity, hard_state, snapshots, log, end, is_tail_unknown, report, .. } =
            examine(disk, options, expect, false)?;
        let record = hard_state.record();
        let commit = log.entries.commit.max(record.commit);
        let (before, last, slots) = log.into_slots(end);
        Ok(Found {
            identity,
            hard_state: HardState { is_tail_unknown, ..record.state },
            snapshot: snapshots.newest().cloned(),
            is_snapshot_damaged: snapshots.is_damaged(),
            slots,
            before,
            commit: known(commit, is_tail_unknown, (end.index, last)),
            report,
        })
    }

    /// Opens the directory of a node that has lost its identity or its hard state, as another one: the
    /// same server under a new lineage, which has promised nothing to anybody. The log and the
    /// snapshots stay, for they may be the last good copies of something. An explicit act, like
    /// [`Storage::format`]: the group admits the new lineage as a learner, or not.
    ///
    /// # Errors
    /// [`StorageError::OtherNode`] if the directory can still say whose it is, and that is neither
    /// this server nor is the lineage a new one. [`StorageError::Damaged`] if it cannot, and nothing in it
    /// was written by this server: as somebody else it could read none of it. Otherwise as
    /// [`Storage::open`].
    pub fn readmit(
        mut disk: D,
        options: StorageOptions,
        identity: Identity,
    ) -> Result<(Self, Found), StorageError> {
        options.validate()?;
        let is_named = match IdentityFile::open(&mut disk, None) {
            Ok((_, found)) => {
                let is_same_server = Identity {
                    member: Member { lineage: identity.member.lineage, ..found.member },
                    ..found
                } == identity;
                // With its old lineage it would go on as if it had never voted.
                if !is_same_server || found.member.lineage == identity.member.lineage {
                    let file = identity::FILE.to_owned();
                    return Err(StorageError::OtherNode { file, found, expected: identity });
                }
                true
            }
            Err(StorageError::Missing { .. } | StorageError::Amnesia { .. }) => {
                if !has_life(&mut disk)? {
                    return Err(StorageError::Missing { file: identity::FILE.to_owned() });
                }
                false
            }
            Err(error) => return Err(error),
        };
        let mut report = Report::default();
        let owner = identity.owner();
        let mut snapshots = Snapshots::open(&mut disk, owner, options.chunk_bytes, &mut report)?;
        let snapshot = snapshots.newest().map_or(EntryId::default(), |meta| meta.last);
        let search = Search {
            owner,
            snapshot,
            ring: Vec::new(),
            resident_bytes_max: 0,
            is_readmission: true,
        };
        let mut log = FoundLog::read(&mut disk, search, &mut report)?;
        let has_any = !log.live.is_empty() || snapshots.newest().is_some();
        if !is_named && !has_any && HardStateFiles::copies(&mut disk, owner)? == 0 {
            let what = format!("nothing that can be read here was written by {identity}");
            return Err(StorageError::damaged(identity::FILE, what));
        }
        disk.may_change("").in_file(".")?;
        let apart = 2 * hard_state::FILE_BYTES + identity::BYTES;
        make_room(&mut disk, &options, (&mut snapshots, &mut log), apart)?;
        let term = log.entries.term.max(snapshot.term);
        let state = HardState { term, ..HardState::default() };
        let generation = log.entries.generation;
        // The new lineage first: a fresh hard state under the old one would be a forgotten vote.
        identity::create(&mut disk, &identity)?;
        HardStateFiles::replace(&mut disk, owner, state, generation)?;
        let examined = examine(&mut disk, &options, Some(identity), true)?;
        Self::adopt(disk, options, examined)
    }

    fn adopt(
        mut disk: D,
        options: StorageOptions,
        examined: Examined<D::File>,
    ) -> Result<(Self, Found), StorageError> {
        let Examined { identity_file, identity, mut hard_state, mut snapshots, mut log, .. } =
            examined;
        make_room(&mut disk, &options, (&mut snapshots, &mut log), 0)?;
        let Examined { end, is_tail_unknown, report, ring, .. } = examined;
        let commit = log.entries.commit.max(hard_state.record().commit);
        identity_file.repair(&mut disk, &identity)?;
        hard_state.settle(&mut disk)?;
        let record = *hard_state.record();
        let state = HardState { is_tail_unknown, ..record.state };
        let last = log.last().index;
        let log_through = if log.continues(end) { last } else { end.index };
        if state != record.state || record.log_through > log_through {
            // What is gone is not missed from here on, and what it means for the node is not
            // forgotten.
            let log_through = record.log_through.min(log_through);
            let commit = commit.min(log_through);
            let mark = LogMark { log_through, commit, log_epoch: record.log_epoch };
            hard_state.write(&mut disk, state, mark)?;
        }
        ring.repair(&mut disk, hard_state.files())?;
        snapshots.adopt(&mut disk)?;
        let is_snapshot_damaged = snapshots.is_damaged();
        let snapshot = snapshots.newest().cloned();
        let (log, slots) =
            log.adopt(&mut disk, options, snapshot.as_deref(), state.is_tail_unknown)?;
        ring.refill(&mut disk, hard_state.files(), &slots)?;
        let last = log.durable().index;
        let known = known(commit, state.is_tail_unknown, (end.index, last));
        let before = log.before;
        // From here on, all that was found is missed if it goes.
        let mark = LogMark { log_through: last, commit: known, log_epoch: log.epoch };
        hard_state.write(&mut disk, state, mark)?;
        let found = Found {
            identity,
            hard_state: state,
            snapshot,
            is_snapshot_damaged,
            slots,
            before,
            commit: known,
            report,
        };
        Ok((Self::new(disk, identity, hard_state, log, snapshots, known), found))
    }
}

/// Of what was heard to be committed, what is: with its newest file a log may have lost that its end was
/// replaced, and show the old one. The snapshot and the log end at these indices.
fn known(commit: Index, is_tail_unknown: bool, (snapshot, last): (Index, Index)) -> Index {
    if is_tail_unknown { snapshot } else { commit.min(last) }
}

/// Before anything is changed: whether what a start makes, and so many bytes `apart` from it, may be made and
/// will fit, as far as the disk can tell. What an earlier process was making holds nothing, and goes first if
/// it stands in the way.
fn make_room<D: Disk>(
    disk: &mut D,
    options: &StorageOptions,
    (snapshots, log): (&mut Snapshots<D::File>, &mut FoundLog<D::File>),
    apart: u64,
) -> Result<(), StorageError> {
    for dir in [segment::DIR, manifest::DIR] {
        disk.may_change(dir).in_file(dir)?;
    }
    let need = snapshots.bytes_to_adopt() + log.bytes_to_adopt(options)? + apart;
    if disk.has_room(need) {
        return Ok(());
    }
    snapshots.drop_scratch(disk)?;
    log.drop_scratch(disk)?;
    if disk.has_room(need) {
        return Ok(());
    }
    Err(StorageError::NoSpace { file: segment::SCRATCH.to_owned() })
}

/// Reads a directory.
pub(super) fn examine<D: Disk>(
    disk: &mut D,
    options: &StorageOptions,
    expect: Option<Identity>,
    is_readmission: bool,
) -> Result<Examined<D::File>, StorageError> {
    let mut report = Report::default();
    let opened = IdentityFile::open(disk, expect);
    let (identity_file, identity) = match opened {
        Err(StorageError::Missing { file }) if has_life(disk)? => {
            return Err(StorageError::amnesia(&file, "it is missing"));
        }
        Err(StorageError::Amnesia { file, .. }) if !has_life(disk)? => {
            return Err(StorageError::damaged(
                &file,
                "it is none of ours, and nothing else is here",
            ));
        }
        opened => opened?,
    };
    if let Some(copy) = identity_file.bad() {
        report.add(identity::FILE, What::BadCopy { record: "identity", copy });
    }
    let owner = identity.owner();
    let hard_state = HardStateFiles::open(disk, owner)?;
    for (copy, file) in hard_state.bad_copies(disk)? {
        report.add(file, What::BadCopy { record: "hard state", copy });
    }
    let ring = Ring::read(disk, hard_state.files(), owner)?;
    for (copy, file) in ring.bad_copies() {
        report.add(file, What::BadCopy { record: "membership in the ring", copy });
    }
    let mut snapshots = Snapshots::open(disk, owner, options.chunk_bytes, &mut report)?;
    let newest = snapshots.newest().map_or(EntryId::default(), |meta| meta.last);
    let search = Search {
        owner,
        snapshot: newest,
        ring: ring.kept.clone(),
        resident_bytes_max: usize::try_from(options.resident_bytes).unwrap_or(usize::MAX),
        is_readmission,
    };
    let mut log = FoundLog::read(disk, search, &mut report)?;
    snapshots.settle_for_older(disk, |snapshot| log.continues(snapshot), &mut report)?;
    let end = snapshots.newest().map_or(EntryId::default(), |meta| meta.last);
    check(&hard_state, &log, snapshots.newest().map(|meta| &**meta))?;
    let missing = missing(&hard_state, &log);
    log.epoch = log.epoch.max(hard_state.record().log_epoch);
    if let Some(why) = missing.clone().filter(|_| log.cut.is_none()) {
        let what = What::TailUnknown { after: log.last(), entries: 0, why };
        report.add(segment::DIR, what);
    }
    let is_new = missing.is_some() || log.cut.is_some();
    let is_tail_unknown = hard_state.record().state.is_tail_unknown || (is_new && !is_readmission);
    Ok(Examined {
        identity_file,
        identity,
        hard_state,
        ring,
        snapshots,
        log,
        end,
        is_tail_unknown,
        report,
    })
}

/// Whether anything has ever been written here by a node. A directory without an identity is no data
/// directory otherwise, and a node is made by formatting one, not by being started.
fn has_life<D: Disk>(disk: &mut D) -> Result<bool, StorageError> {
    for dir in [segment::DIR, manifest::DIR] {
        match disk.list(dir) {
            Ok(names) if names.iter().any(|name| !name.ends_with(".tmp")) => return Ok(true),
            Ok(_) | Err(DiskError::NotFound) => {}
            Err(error) => return Err(StorageError::Disk { file: dir.to_owned(), error }),
        }
    }
    Ok(false)
}

/// Compares what the files say about each other: neither a crash nor one fault leaves this.
fn check<F>(
    hard_state: &HardStateFiles<F>,
    log: &FoundLog<F>,
    snapshot: Option<&SnapshotMeta>,
) -> Result<(), StorageError> {
    let record = hard_state.record();
    if snapshot.is_none() && !log.is_blank() {
        // Genesis is installed, as a snapshot, before the first entry is written.
        return Err(StorageError::damaged(manifest::DIR, "the log has no snapshot to begin from"));
    }
    if log.entries.generation > record.generation || log.entries.term > record.state.term {
        let what = "the log was written under a later hard state than the one that is found";
        return Err(StorageError::amnesia(hard_state::FILES[0], what));
    }
    Ok(())
}

/// What says that the log has been longer than it is. A snapshot that reaches further says nothing
/// against it: who has made it has the log as well, and who was given it forgets its old log with a
/// word to the hard state.
fn missing<F>(hard_state: &HardStateFiles<F>, log: &FoundLog<F>) -> Option<String> {
    let record = hard_state.record();
    let reach = log.last().index;
    let (through, epoch) = (record.log_through, record.log_epoch);
    if through > reach {
        return Some(format!("it was durable through {through}"));
    }
    let commit = record.commit.max(log.entries.commit);
    if commit > reach {
        return Some(format!("it was committed through {commit}"));
    }
    (log.epoch < epoch).then(|| format!("a segment of epoch {epoch} is gone"))
}
