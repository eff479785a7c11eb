//! The one random decision of the protocol: election jitter (§5.2).
//!
//! A draw is keyed by what it is for, so there is no generator state to store, to replay or to
//! share by accident: two nodes with the same seed still draw differently.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::types::{NodeId, Term};

/// A number below `bound` for the `attempt`-th election timer of `node` in `term`.
///
/// # Panics
/// If `bound` is zero; the configuration does not allow it.
pub(crate) fn jitter(seed: u64, node: NodeId, term: Term, attempt: u64, bound: u64) -> u64 {
    assert!(bound > 0, "a draw has a range");
    let mut key = [0u8; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, node.0, term.0, attempt]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let draw = u128::from(ChaCha8Rng::from_seed(key).next_u64());
    let scaled = (draw * u128::from(bound)) >> 64;
    u64::try_from(scaled).expect("a product of 64-bit numbers, shifted by 64, fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_by_each_part_of_the_key_and_stay_in_range() {
        let base = jitter(1, NodeId(2), Term(3), 4, 1 << 40);
        assert_eq!(base, jitter(1, NodeId(2), Term(3), 4, 1 << 40), "a draw can be repeated");
        assert_ne!(base, jitter(2, NodeId(2), Term(3), 4, 1 << 40));
        assert_ne!(base, jitter(1, NodeId(3), Term(3), 4, 1 << 40));
        assert_ne!(base, jitter(1, NodeId(2), Term(4), 4, 1 << 40));
        assert_ne!(base, jitter(1, NodeId(2), Term(3), 5, 1 << 40));
        assert!((0..1000).all(|attempt| jitter(7, NodeId(1), Term(1), attempt, 3) < 3));
    }
}
