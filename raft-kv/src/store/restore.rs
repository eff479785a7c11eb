//! A state that comes back from the parts of its snapshot: the map entry by entry, the rest at once.

use raft_replica::kv::KvRestore;
use raft_replica::machine::Restore;

use super::recent::Recent;
use super::{SNAPSHOT_VERSION, Store, StoreError, TRAILER_BYTES, Tail};

/// What has been made of the parts of a [`Store`]'s snapshot so far.
#[derive(Clone, Debug, Default)]
pub struct StoreRestore {
    map: KvRestore,
    /// What has come behind the map; where that cannot be read, what has come last.
    tail: Vec<u8>,
    /// What is wrong with the map. The version, which comes last, may say more.
    failed: Option<StoreError>,
}

impl Restore<Store> for StoreRestore {
    fn feed(&mut self, part: &[u8]) -> Result<(), StoreError> {
        if self.failed.is_none() {
            match self.map.take(part) {
                Ok(()) => self.tail.extend(self.map.behind().unwrap_or_default()),
                Err(error) => self.failed = Some(StoreError::Map(error)),
            }
        }
        if self.failed.is_some() {
            self.tail.extend_from_slice(part);
            self.tail.drain(..self.tail.len().saturating_sub(TRAILER_BYTES));
        }
        Ok(())
    }

    fn finish(self, store: &mut Store) -> Result<(), StoreError> {
        let Self { map, tail, failed } = self;
        let (tail, trailer) =
            tail.split_last_chunk::<TRAILER_BYTES>().ok_or(StoreError::Malformed)?;
        let [length @ .., version] = *trailer;
        if version != SNAPSHOT_VERSION {
            return Err(StoreError::UnknownVersion(version));
        }
        failed.map_or(Ok(()), Err)?;
        if tail.len() as u64 != u64::from(u32::from_le_bytes(length)) {
            return Err(StoreError::Malformed);
        }
        let (tail, rest): (Tail, _) =
            postcard::take_from_bytes(tail).map_err(|_| StoreError::Malformed)?;
        let Tail { last, clients, peers } = tail;
        let clients = clients.indexed(last).filter(|_| rest.is_empty());
        let clients = clients.ok_or(StoreError::Malformed)?;
        map.finish(&mut store.kv).map_err(StoreError::Map)?;
        store.clients = clients;
        store.peers = peers;
        store.last = last;
        store.recent = Recent::beginning_at(last);
        Ok(())
    }
}
