//! A map that comes back from the parts of its snapshot.
//!
//! Each entry is copied out of the part in which it comes, so that a part is free as soon as it has been
//! read: the bytes of all of them beside the map would take as much memory again.

use bytes::Bytes;
use postcard::Error;
use raft_core::Index;
use serde::Deserialize;

use super::{Kv, KvError, SNAPSHOT_VERSION, Versioned, entry_bytes};
use crate::machine::Restore;

/// How many entries go into the map at once.
const BLOCK: usize = 1024;

/// What has been made of the parts of a [`Kv`]'s snapshot so far.
#[derive(Clone, Debug, Default)]
pub struct KvRestore {
    kv: Kv,
    /// How many entries are to come; `None` before the beginning has come.
    left: Option<u64>,
    /// Entries that have come and are not in the map yet, in the order of their keys.
    block: Vec<(Bytes, Versioned)>,
    /// What cannot be read before more has come; or, behind the last entry, what is no part of the map.
    rest: Vec<u8>,
}

/// An entry where it stands.
type Entry<'a> = (&'a [u8], Found<'a>);

#[derive(Deserialize)]
struct Found<'a> {
    value: &'a [u8],
    version: Index,
}

impl KvRestore {
    /// Takes the next bytes, of the map or behind it.
    ///
    /// # Errors
    /// [`KvError`] says what is wrong with them.
    pub fn take(&mut self, part: &[u8]) -> Result<(), KvError> {
        self.rest.extend_from_slice(part);
        let rest = std::mem::take(&mut self.rest);
        let mut unread = &rest[..];
        if self.left.is_none() {
            self.begin(&mut unread)?;
        }
        while self.left.is_some_and(|left| left > 0)
            && let Some((key, Found { value, version })) = next::<Entry<'_>>(&mut unread)?
        {
            let value = Bytes::copy_from_slice(value);
            self.add(key, Versioned { value, version })?;
        }
        let read = rest.len() - unread.len();
        self.rest = rest;
        self.rest.drain(..read);
        Ok(())
    }

    /// What has come behind the map and was not asked for yet, once all of the map is there.
    pub fn behind(&mut self) -> Option<Vec<u8>> {
        (self.left == Some(0)).then(|| std::mem::take(&mut self.rest))
    }

    fn begin(&mut self, unread: &mut &[u8]) -> Result<(), KvError> {
        let Some((&version, mut after)) = unread.split_first() else { return Ok(()) };
        if version != SNAPSHOT_VERSION {
            return Err(KvError::UnknownVersion(version));
        }
        self.left = next(&mut after)?;
        if self.left.is_some() {
            *unread = after;
        }
        Ok(())
    }

    fn add(&mut self, key: &[u8], found: Versioned) -> Result<(), KvError> {
        if self.block.last().is_some_and(|(before, _)| before >= key) {
            return Err(KvError::Malformed);
        }
        self.left = self.left.map(|left| left - 1);
        self.kv.bytes += entry_bytes(key.len(), &found.value);
        if self.block.len() == BLOCK {
            self.settle(1);
        }
        self.block.push((Bytes::copy_from_slice(key), found));
        Ok(())
    }

    /// Puts the block into the map, but for its last `kept` entries: the next key is compared with them.
    ///
    /// Keys that only rise would leave every node of the map half empty, as it splits behind the middle. So
    /// every second entry goes first, and the others fill the nodes up.
    fn settle(&mut self, kept: usize) {
        let entries = &mut self.kv.entries;
        let last = self.block.split_off(self.block.len() - kept);
        let mut second = Vec::with_capacity(BLOCK / 2);
        for (at, (key, value)) in std::mem::replace(&mut self.block, last).into_iter().enumerate() {
            if at % 2 == 1 {
                second.push((key, value));
                continue;
            }
            entries.insert(key, value);
        }
        entries.extend(second);
    }
}

/// Reads what comes next; `None` if not all of it is there yet.
fn next<'a, T: Deserialize<'a>>(unread: &mut &'a [u8]) -> Result<Option<T>, KvError> {
    match postcard::take_from_bytes(unread) {
        Ok((value, after)) => {
            *unread = after;
            Ok(Some(value))
        }
        Err(Error::DeserializeUnexpectedEnd) => Ok(None),
        Err(_) => Err(KvError::Malformed),
    }
}

impl Restore<Kv> for KvRestore {
    fn feed(&mut self, part: &[u8]) -> Result<(), KvError> {
        self.take(part)
    }

    fn finish(mut self, machine: &mut Kv) -> Result<(), KvError> {
        if self.behind().is_none_or(|behind| !behind.is_empty()) {
            return Err(KvError::Malformed);
        }
        self.settle(0);
        *machine = self.kv;
        Ok(())
    }
}
