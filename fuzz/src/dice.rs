//! Choices from a seed: a few bits that differ are enough here.

/// Chooses by a linear congruential generator (Knuth's constants), or always the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice {
    state: Option<u64>,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: Some(seed) }
    }

    /// Dice that always show the first face.
    pub(crate) fn unused() -> Self {
        Self { state: None }
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    /// A number below `end`, which is small.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let Some(state) = &mut self.state else { return 0 };
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*state >> 40).expect("24 bits") % end
    }

    pub(crate) fn shuffled<const N: usize>(&mut self, mut items: [usize; N]) -> [usize; N] {
        for at in 0..N {
            // The first of the rest stays in its place if the dice are unused.
            let other = at + self.below(N - at);
            items.swap(at, other);
        }
        items
    }
}
