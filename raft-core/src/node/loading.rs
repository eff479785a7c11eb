//! Payloads that leave memory, and what a host reads when they are wanted again.

use alloc::sync::Arc;

use super::Node;
use crate::effect::Refused;
use crate::entry::{Entries, Entry, Payload};
use crate::membership::Membership;
use crate::message::LoadRequest;
use crate::types::Index;

impl Node {
    /// Lets go of payloads that are durable and applied, beyond what shall stay in memory.
    pub(crate) fn evict(&mut self) {
        let bytes_max = self.config.resident_bytes_max;
        if self.log.is_heavier_than(bytes_max) {
            self.log.evict(self.applied.min(self.gate.durable_index()), bytes_max);
        }
    }

    /// Whether what the host has read is what was asked for.
    pub(crate) fn check_loaded(
        &self,
        request: &LoadRequest,
        entries: &Entries,
    ) -> Result<(), Refused> {
        match entries.last() {
            Some(last) if last.index() > request.through => Err(Refused::UnknownLoad),
            Some(_) if self.log.has(request.after, entries) => {
                self.check_loaded_memberships(entries)
            }
            Some(_) => Err(Refused::BrokenChain),
            None => Err(Refused::UnknownLoad),
        }
    }

    /// A membership that a disk gives back late would have been in force all along.
    fn check_loaded_memberships(&self, entries: &Entries) -> Result<(), Refused> {
        let is_known = |index: Index, membership: &Arc<Membership>| {
            index <= self.snapshot.last.index
                || self.memberships.iter().any(|(at, known)| *at == index && known == membership)
        };
        let is_unknown = |entry: &Entry| match entry.payload() {
            Payload::Membership(membership) => !is_known(entry.index(), membership),
            Payload::Noop | Payload::Command(_) => false,
        };
        if entries.iter().any(is_unknown) { Err(Refused::InvalidMembership) } else { Ok(()) }
    }
}
