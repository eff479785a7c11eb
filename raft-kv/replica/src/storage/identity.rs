//! Whose data directory it is: one file with two copies of one record. It is read first: no other record
//! can be read by who does not know whose it is.

use core::cmp::Ordering;
use core::fmt;

use raft_core::{ClusterId, GroupId, Member};

use super::batch::PAGE;
use super::error::{InFile, StorageError, create_fresh, open_found};
use super::frame::{Flaw, Owner, VERSION, seal, unseal};
use super::hard_state::HardStateFiles;
use super::read::read_framed;
use super::record::{put_u32, put_u64};
use crate::disk::{Disk, DiskError};

pub(super) const FILE: &str = "IDENTITY";
const SCRATCH: &str = "IDENTITY.tmp";
/// How long the file is.
pub(super) const BYTES: u64 = 2 * PAGE as u64;

/// Whose data directory it is. Written by an explicit act, and changed only by another one: a node
/// that has lost its promises goes on under a new lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The server, with the lineage that was drawn when the directory was formatted.
    pub member: Member,
}

impl Identity {
    /// The file that says so, in the data directory. It is written last: where it is, the directory is
    /// finished, and may hold what a node has promised.
    pub const FILE: &str = FILE;

    /// Whose records the others are in this directory.
    pub(super) fn owner(&self) -> Owner {
        Owner::new(self.cluster, self.group, self.member.id)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, group, member } = self;
        write!(f, "{}/{} of {cluster} {group}", member.id, member.lineage)
    }
}

const MAGIC: &[u8; 8] = b"raft-id\0";

/// Makes the file, durable on return; it takes the place of one that is there.
pub(super) fn create<D: Disk>(disk: &mut D, identity: &Identity) -> Result<(), StorageError> {
    if open_found(disk, SCRATCH)?.is_some() {
        disk.remove(SCRATCH).in_file(SCRATCH)?;
    }
    let file = create_fresh(disk, SCRATCH, BYTES)?;
    for copy in 0..2 {
        let record = encode(identity, copy);
        disk.write(&file, u64::from(copy * PAGE), &record).in_file(SCRATCH)?;
    }
    disk.sync(&file).in_file(SCRATCH)?;
    disk.rename(SCRATCH, FILE).in_file(FILE)?;
    disk.sync_dir("").in_file("")
}

/// The file as it was found.
#[derive(Debug)]
pub(super) struct IdentityFile<F> {
    file: F,
    /// The copy that cannot be read.
    bad: Option<u32>,
}

impl<F> IdentityFile<F> {
    /// Reads whose directory it is.
    ///
    /// # Errors
    /// There is no such file, none of its copies can be read, or two contradict each other and the hard
    /// state is of neither ([`StorageError::Amnesia`]), or it is not of `expect`.
    pub(super) fn open<D: Disk<File = F>>(
        disk: &mut D,
        expect: Option<Identity>,
    ) -> Result<(Self, Identity), StorageError> {
        let name = || FILE.to_owned();
        let file = disk.open(FILE).map_err(|error| {
            if error == DiskError::NotFound {
                StorageError::Missing { file: name() }
            } else {
                StorageError::Disk { file: name(), error }
            }
        })?;
        let (mut copies, mut record) = ([None; 2], Vec::new());
        for (copy, found) in (0u32..).zip(&mut copies) {
            let (offset, space) = (u64::from(copy * PAGE), PAGE as usize);
            read_framed(disk, &file, FILE, offset, space, &mut record)?;
            match decode(&record, copy) {
                Ok(identity) => *found = Some(identity),
                Err(Flaw::Zero | Flaw::Bad) => {}
                Err(Flaw::Newer(found)) => {
                    let (file, supported) = (name(), VERSION);
                    return Err(StorageError::NewerFormat { file, found, supported });
                }
            }
        }
        let (found, bad) = match copies {
            [Some(first), Some(second)] if first == second => (first, None),
            [Some(first), Some(second)] => settle(disk, first, second)?,
            [Some(first), None] => (first, Some(1)),
            [None, Some(second)] => (second, Some(0)),
            [None, None] => {
                return Err(StorageError::amnesia(FILE, "no copy of it can be read"));
            }
        };
        match expect {
            Some(expected) if expected != found => {
                Err(StorageError::OtherNode { file: name(), found, expected })
            }
            Some(_) | None => Ok((Self { file, bad }, found)),
        }
    }

    /// The copy that cannot be read.
    pub(super) fn bad(&self) -> Option<u32> {
        self.bad
    }

    /// Writes the copy again that cannot be read.
    pub(super) fn repair<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        identity: &Identity,
    ) -> Result<(), StorageError> {
        let Some(copy) = self.bad else { return Ok(()) };
        let record = encode(identity, copy);
        disk.write(&self.file, u64::from(copy * PAGE), &record).in_file(FILE)?;
        disk.sync(&self.file).in_file(FILE)
    }
}

/// Which of two copies that contradict each other is right, and the number of the other one: a sector of
/// another server may have come here, and one of its hard state, but not as many as there are of this one's.
fn settle<D: Disk>(
    disk: &mut D,
    first: Identity,
    second: Identity,
) -> Result<(Identity, Option<u32>), StorageError> {
    let [of_first, of_second] =
        [first, second].map(|identity| HardStateFiles::copies(disk, identity.owner()));
    match of_first?.cmp(&of_second?) {
        Ordering::Greater => Ok((first, Some(1))),
        Ordering::Less => Ok((second, Some(0))),
        Ordering::Equal => Err(StorageError::amnesia(FILE, "its copies contradict each other")),
    }
}

fn encode(identity: &Identity, copy: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(36);
    put_u32(&mut body, copy);
    put_u64(&mut body, identity.cluster.0);
    put_u64(&mut body, identity.group.0);
    put_u64(&mut body, identity.member.id.0);
    put_u64(&mut body, identity.member.lineage.0);
    seal(MAGIC, Owner::ANY, &body)
}

fn decode(bytes: &[u8], copy: u32) -> Result<Identity, Flaw> {
    let mut body = unseal(MAGIC, Owner::ANY, bytes)?;
    let mut read = || {
        if body.u32()? != copy {
            return None;
        }
        Some(Identity {
            cluster: ClusterId(body.u64()?),
            group: GroupId(body.u64()?),
            member: Member::new(body.u64()?, body.u64()?),
        })
    };
    read().ok_or(Flaw::Bad)
}
