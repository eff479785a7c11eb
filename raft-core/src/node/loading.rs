//! Where payloads are: handed to the state machine, evicted from memory, and accepted back from the
//! host's `Loaded`.

use alloc::sync::Arc;

use super::Node;
use crate::config::Config;
use crate::effect::{Effect, Refused, emit};
use crate::entry::{Entries, Entry, Payload};
use crate::membership::Membership;
use crate::message::LoadRequest;
use crate::types::Index;

impl Node {
    /// Drops payloads from memory: durable and applied ones beyond `resident_bytes_max`, and ones that are
    /// durable but wait for a slow state machine beyond that and `unapplied_bytes_max` together.
    pub(crate) fn evict(&mut self) {
        let applied_max = self.config.resident_bytes_max;
        if self.log.resident_bytes() > applied_max {
            self.log.evict(self.applied.min(self.gate.durable_index()), applied_max);
            let durable_max = applied_max.saturating_add(self.config.unapplied_bytes_max);
            self.log.evict(self.gate.written_index(), durable_max);
        }
    }

    /// Hands entries of the log that follow the last ones handed out to the host, through `through`
    /// and within the limits; at least one.
    #[inline(always)] // Its only caller has just found that there are some.
    pub(crate) fn apply_read(&mut self, through: Index, bytes_max: usize, entries_max: usize) {
        match self.log.newest_run(self.handed_out, through, bytes_max, entries_max) {
            Some(run) => {
                // Nearly always, so the copy is made where it stays.
                self.handed_out = run.end_after(self.handed_out);
                self.unapplied_bytes += run.bytes();
                emit(&mut self.effects, || Effect::Apply { entries: run.clone() });
            }
            None => self.apply(self.log.read(self.handed_out, through, bytes_max, entries_max)),
        }
    }

    /// Hands entries that follow the last ones handed out to the host.
    pub(crate) fn apply(&mut self, entries: Entries) {
        assert!(
            !entries.is_empty(),
            "entries between the last one handed out and the commit index exist"
        );
        self.handed_out = entries.end_after(self.handed_out);
        self.unapplied_bytes += entries.bytes();
        emit(&mut self.effects, || Effect::Apply { entries });
    }

    /// Whether the disk is full, or so much waits for it that no command and no entry is taken. A group
    /// commits without its leader's disk, so its quota of uncommitted bytes says nothing about what that
    /// disk has yet to write.
    #[inline]
    pub(crate) fn is_overfull(&self) -> bool {
        let Config { resident_bytes_max, unapplied_bytes_max, uncommitted_bytes_max, .. } =
            self.config;
        let bytes_max = resident_bytes_max.saturating_add(unapplied_bytes_max);
        self.is_disk_full
            || self.gate.is_full()
            || self.log.resident_bytes() > bytes_max.saturating_add(uncommitted_bytes_max)
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

    /// Memberships are always known before they are loaded, for they have been in force ever since.
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
