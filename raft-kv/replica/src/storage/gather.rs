//! What the scans of the segments give together: the log as the core wants it.
//!
//! Payloads are let go as the scan goes on. What stays in memory is the identity of every entry, the
//! payloads of the newest entries up to a limit, memberships, and the last batch, which a start
//! writes again.

use std::collections::{BTreeMap, VecDeque};

use raft_core::{Chain, EntryId, Index, Payload, Slot, Term};

use super::batch::{BatchHeader, SlotRecord};
use super::heal::HealPlace;
use super::report::{Report, What};
use super::scan::{Body, Piece};
use super::segment::SegmentName;

/// The entries that were found, consecutive.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The entry before the first one.
    pub(super) before: EntryId,
    pub(super) ids: VecDeque<(Term, Chain)>,
    slots: Vec<Slot>,
    resident_bytes_max: usize,
    resident_bytes: usize,
    /// Payloads through this entry are not kept, memberships excepted: too many follow.
    not_kept: Index,
    /// Slots before this one are not resident any more, memberships excepted.
    demoted: usize,
    /// The last batch of which anything was found, as far as it was.
    pub(super) tail: Vec<(SlotRecord, Option<Payload>)>,
    tail_batch: Option<(SegmentName, u32)>,
    /// The entries of that batch that have no slot. The last batch has none yet.
    unslotted: Vec<EntryId>,
    /// Entries whose payloads are read from a healed copy.
    pub(super) healed: BTreeMap<Index, HealPlace>,
    /// Entries that can be read now and have to be kept a second time.
    pub(super) exposed: Vec<(EntryId, Payload)>,
    pub(super) damaged: u64,
    /// The highest index that some batch knew to be committed.
    pub(super) commit: Index,
    /// The highest generation of the hard state that was durable before some batch.
    pub(super) generation: u64,
    /// The highest term.
    pub(super) term: Term,
}

impl Gathered {
    pub(super) fn after(before: EntryId, resident_bytes_max: usize, not_kept: Index) -> Self {
        Self { before, resident_bytes_max, not_kept, ..Self::default() }
    }

    /// About so many entries will come: what grows entry by entry is copied again and again.
    pub(super) fn expect(&mut self, entries: usize) {
        self.ids.reserve(entries);
        self.slots.reserve(entries);
    }

    /// Begins again after `before`; evidence stays.
    pub(super) fn begin_again(&mut self, before: EntryId) {
        let Self { resident_bytes_max, not_kept, commit, generation, term, .. } = *self;
        let (mut ids, mut slots) =
            (core::mem::take(&mut self.ids), core::mem::take(&mut self.slots));
        // Emptied, they keep the room that was made for them.
        ids.clear();
        slots.clear();
        *self = Self {
            before,
            ids,
            slots,
            resident_bytes_max,
            not_kept,
            commit,
            generation,
            term,
            ..Self::default()
        };
    }

    /// The last entry.
    pub(super) fn last(&self) -> EntryId {
        let index = Index(self.before.index.0 + self.ids.len() as u64);
        self.ids.back().map_or(self.before, |(term, chain)| EntryId {
            index,
            term: *term,
            chain: *chain,
        })
    }

    /// Whether there is this entry, or it is the one before the first.
    pub(super) fn has(&self, id: EntryId) -> bool {
        let Some(steps) = id.index.0.checked_sub(self.before.index.0 + 1) else {
            return id == self.before;
        };
        let found = usize::try_from(steps).ok().and_then(|steps| self.ids.get(steps));
        found == Some(&(id.term, id.chain))
    }

    pub(super) fn heard(&mut self, header: &BatchHeader) {
        self.commit = self.commit.max(header.commit);
        self.generation = self.generation.max(header.generation);
    }

    /// The first entry of the last batch of this segment that cannot be read and has no slot: only a
    /// slot, a later batch, or the segment that was begun after it can prove that it was ever durable.
    pub(super) fn first_unproven(&self, newest: SegmentName) -> Option<SlotRecord> {
        self.tail_batch.filter(|(segment, _)| *segment == newest)?;
        let lost = |(slot, payload): &&(SlotRecord, Option<Payload>)| {
            payload.is_none() && self.unslotted.contains(&slot.id)
        };
        self.tail.iter().find(lost).map(|(slot, _)| *slot)
    }

    /// Gives up the entries from this one of the last batch on; how many.
    pub(super) fn cut_back(&mut self, from: Index, report: &mut Report) -> u64 {
        let kept = usize::try_from(from.prev().0 - self.before.index.0).expect("in memory");
        let given_up = (self.ids.len() - kept) as u64;
        self.ids.truncate(kept);
        self.slots.truncate(kept);
        self.tail.retain(|(slot, _)| slot.id.index < from);
        self.healed.retain(|index, _| *index < from);
        self.exposed.retain(|(id, _)| id.index < from);
        report.findings.retain(|finding| match &finding.what {
            What::Damaged { entry } | What::BadHeader { entry } | What::Healed { entry } => {
                entry.index < from
            }
            What::BadCopy { .. }
            | What::BadSlot { .. }
            | What::Torn { .. }
            | What::TailUnknown { .. }
            | What::SnapshotDamaged { .. } => true,
        });
        self.damaged = report.damaged().count() as u64;
        given_up
    }

    /// Takes the next entry; what is left of `piece` is of no use.
    pub(super) fn push(
        &mut self,
        segment: SegmentName,
        path: &str,
        piece: &mut Piece,
        report: &mut Report,
    ) {
        let (id, is_membership) = (piece.slot.id, piece.is_membership());
        let Piece { slot, body, is_slot_bad } = piece;
        let body = core::mem::take(body);
        self.ids.push_back((id.term, id.chain));
        self.term = self.term.max(id.term);
        if self.tail_batch != Some((segment, slot.batch)) {
            let of = self.tail_batch.replace((segment, slot.batch)).map(|(of, _)| of.path());
            self.tail.clear();
            for entry in self.unslotted.drain(..) {
                report.add(of.as_deref().unwrap_or(path), What::BadSlot { entry });
            }
        }
        if *is_slot_bad {
            self.unslotted.push(id);
        }
        let payload = match body {
            Body::Intact(payload) => Some(payload),
            Body::Exposed(payload) => {
                report.add(path, What::BadHeader { entry: id });
                self.exposed.push((id, payload.clone()));
                Some(payload)
            }
            Body::Healed(payload, place) => {
                report.add(path, What::Healed { entry: id });
                self.healed.insert(id.index, place);
                Some(payload)
            }
            Body::Damaged => {
                report.add(path, What::Damaged { entry: id });
                self.damaged += 1;
                None
            }
        };
        let is_kept = is_membership || id.index > self.not_kept;
        match &payload {
            Some(_) if !is_kept => self.slots.push(Slot::Cold { id, bytes: slot.len as usize }),
            Some(_) | None => self.remember(slot, payload.clone(), is_membership),
        }
        self.tail.push((*slot, payload));
    }

    /// The slots as the core wants them: those before a hole are cold.
    fn remember(&mut self, slot: &SlotRecord, payload: Option<Payload>, is_membership: bool) {
        let (id, bytes) = (slot.id, slot.len as usize);
        let Some(payload) = payload else {
            self.slots.push(Slot::Damaged { id, bytes, is_membership });
            self.demote(0);
            return;
        };
        if !is_membership {
            self.resident_bytes += bytes;
        }
        self.slots.push(Slot::Resident { id, payload });
        self.demote(self.resident_bytes_max);
    }

    fn demote(&mut self, bytes_max: usize) {
        while self.resident_bytes > bytes_max || (bytes_max == 0 && self.demoted < self.slots.len())
        {
            let slot = &mut self.slots[self.demoted];
            let bytes = match slot {
                Slot::Resident { payload: Payload::Noop | Payload::Command(_), id } => {
                    let cold = (*id, slot_bytes(slot));
                    *slot = Slot::Cold { id: cold.0, bytes: cold.1 };
                    cold.1
                }
                Slot::Resident { payload: Payload::Membership(_), .. }
                | Slot::Cold { .. }
                | Slot::Damaged { .. } => 0,
            };
            self.resident_bytes -= bytes;
            self.demoted += 1;
        }
    }

    /// The entries as the core wants them.
    pub(super) fn take_slots(&mut self) -> Vec<Slot> {
        core::mem::take(&mut self.slots)
    }
}

fn slot_bytes(slot: &Slot) -> usize {
    match slot {
        Slot::Resident { payload, .. } => payload.len(),
        Slot::Cold { bytes, .. } | Slot::Damaged { bytes, .. } => *bytes,
    }
}
