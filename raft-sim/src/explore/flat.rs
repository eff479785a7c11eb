//! A table from pairs of names to small values.
//!
//! A worker looks names up several times for every step, in tables that no cache holds. So a key
//! stands beside its value, and nearly every look-up touches one line of memory.

/// Values by key.
#[derive(Debug)]
pub(crate) struct Flat<V> {
    /// A power of two of them, or none.
    slots: Vec<(u64, V)>,
    len: usize,
}

/// No pair of names.
const NONE: u64 = u64::MAX;

/// The slots of the smallest table.
const LEAST: usize = 16;

/// 2^64 divided by the golden ratio: products with it are spread evenly in their high bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl<V> Default for Flat<V> {
    fn default() -> Self {
        Self { slots: Vec::new(), len: 0 }
    }
}

impl<V: Copy + Default> Flat<V> {
    pub(crate) fn get(&self, key: u64) -> Option<V> {
        let (found, value) = *self.slots.get(self.place(key))?;
        (found == key).then_some(value)
    }

    /// Adds a value under a key that has none.
    pub(crate) fn insert(&mut self, key: u64, value: V) {
        assert!(key != NONE, "names are smaller");
        // A third of the slots is empty, so that most searches are short.
        if 3 * (self.len + 1) > 2 * self.slots.len() {
            self.grow();
        }
        let place = self.place(key);
        assert!(self.slots[place].0 == NONE, "the key is new");
        self.slots[place] = (key, value);
        self.len += 1;
    }

    /// Where a key is, or belongs.
    fn place(&self, key: u64) -> usize {
        let Some(mask) = self.slots.len().checked_sub(1) else { return 0 };
        let bits = self.slots.len().trailing_zeros();
        let high = key.wrapping_mul(GOLDEN) >> (u64::BITS - bits);
        let mut place = usize::try_from(high).expect("it is smaller than the table");
        while self.slots[place].0 != key && self.slots[place].0 != NONE {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        let size = LEAST.max(2 * self.slots.len());
        let old = std::mem::replace(&mut self.slots, vec![(NONE, V::default()); size]);
        for (key, value) in old.into_iter().filter(|(key, _)| *key != NONE) {
            let place = self.place(key);
            self.slots[place] = (key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_nothing_else() {
        let mut flat = Flat::default();
        assert_eq!(flat.get(0), None);
        for key in 0..1_000 {
            flat.insert(key << 32 | 7, key);
        }
        assert!((0..1_000).all(|key| flat.get(key << 32 | 7) == Some(key)));
        assert!((0..1_000).all(|key| flat.get(key << 32 | 8).is_none()));
    }
}
