//! Small sets of numbers, as bits of a few words.

/// A set of numbers below `64 * W`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits<const W: usize>([u64; W]);

impl<const W: usize> Bits<W> {
    pub(super) const EMPTY: Self = Self([0; W]);

    #[inline]
    pub(super) fn has(&self, bit: u16) -> bool {
        self.0[usize::from(bit >> 6)] >> (bit & 63) & 1 != 0
    }

    #[inline]
    pub(super) fn insert(&mut self, bit: u16) {
        self.0[usize::from(bit >> 6)] |= 1 << (bit & 63);
    }

    #[inline]
    pub(super) fn remove(&mut self, bit: u16) {
        self.0[usize::from(bit >> 6)] &= !(1 << (bit & 63));
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    #[inline]
    pub(super) fn and(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
        self
    }

    #[inline]
    pub(super) fn or(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
        self
    }

    /// What is here and not there.
    #[inline]
    pub(super) fn minus(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
        self
    }

    /// The members, in order.
    #[inline]
    pub(super) fn iter(self) -> impl Iterator<Item = u16> {
        let mut base = 0_u16;
        self.0.into_iter().flat_map(move |word| {
            let low = base;
            base += 64;
            Ones(word).map(move |bit| low + bit)
        })
    }
}

/// The positions of the ones of a word.
struct Ones(u64);

impl Iterator for Ones {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(u16::try_from(bit).expect("a word has 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_order_over_all_words() {
        let mut bits = Bits::<3>::EMPTY;
        for bit in [190, 0, 64, 63, 127] {
            bits.insert(bit);
        }
        bits.remove(64);
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 63, 127, 190]);
        assert!(bits.has(63) && !bits.has(64));
    }
}
