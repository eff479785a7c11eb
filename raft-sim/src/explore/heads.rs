//! A table of places by hash: where the chain of states with certain servers begins.
//!
//! A slot holds a half of the hash beside the place, so that a look-up that fails touches nothing
//! else, and one that succeeds hardly anything else.

/// Places by hash.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// A power of two of them, or none: the high half of a hash, then a place.
    slots: Vec<u64>,
    len: usize,
}

/// No place: there are fewer.
const NONE: u64 = u64::MAX;

/// The slots of the smallest table.
const LEAST: usize = 16;

impl Heads {
    /// The place with a hash that is the one that is looked for.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = self.slot(hash);
        loop {
            let slot = self.slots[at];
            if slot == NONE {
                return None;
            }
            if slot >> 32 == hash >> 32 && is_it(low(slot)) {
                return Some(low(slot));
            }
            at = (at + 1) & mask;
        }
    }

    /// The first place that may be the one with a hash. Reads nothing but the table.
    pub(crate) fn guess(&self, hash: u64) -> Option<u32> {
        let slot = *self.slots.get(self.slot(hash))?;
        (slot >> 32 == hash >> 32 && slot != NONE).then(|| low(slot))
    }

    /// Adds a place that is not there.
    pub(crate) fn insert(&mut self, hash: u64, place: u32) {
        assert!(place < u32::MAX, "a place is smaller");
        if 3 * (self.len + 1) > 2 * self.slots.len() {
            self.grow();
        }
        self.put(hash >> 32 << 32 | u64::from(place));
        self.len += 1;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    /// Where a search for a hash begins: its high half decides, which is all that a slot knows.
    fn slot(&self, hash: u64) -> usize {
        let bits = self.slots.len().max(LEAST).trailing_zeros();
        let high = hash >> (u64::BITS - bits);
        usize::try_from(high).expect("it is smaller than the table")
    }

    fn put(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = self.slot(slot);
        while self.slots[at] != NONE {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let size = LEAST.max(2 * self.slots.len());
        let old = std::mem::replace(&mut self.slots, vec![NONE; size]);
        for slot in old.into_iter().filter(|slot| *slot != NONE) {
            self.put(slot);
        }
    }
}

fn low(slot: u64) -> u32 {
    u32::try_from(slot & u64::from(u32::MAX)).expect("it is the low half")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_nothing_else() {
        let mut heads = Heads::default();
        assert_eq!(heads.find(7, |_| true), None);
        let hash = |place: u32| u64::from(place % 100) << 40;
        for place in 0..1_000 {
            heads.insert(hash(place), place);
        }
        assert!((0..1_000).all(|place| heads.find(hash(place), |at| at == place) == Some(place)));
        assert_eq!(heads.find(hash(3), |at| at % 100 != 3), None);
        assert_eq!(heads.find(1 << 63, |_| true), None);
    }
}
