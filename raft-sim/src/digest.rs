//! The rolling digest of a run: XXH3 over all events and effects.
//!
//! Two runs of one seed must agree on it, on every machine and in every build. What is fed is
//! gathered into blocks, and each block's hash is keyed by the hash of all blocks before it.

use twox_hash::XxHash3_64;

const BLOCK_BYTES: usize = 4096;

/// A rolling 64-bit digest.
#[derive(Clone, Debug)]
pub struct Digest {
    state: u64,
    block: Vec<u8>,
}

impl Digest {
    /// The digest of nothing, keyed by the seed of the run.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed, block: Vec::with_capacity(BLOCK_BYTES + 256) }
    }

    /// Feeds a number.
    pub fn word(&mut self, word: u64) {
        self.block.extend_from_slice(&word.to_le_bytes());
        self.fold_full();
    }

    /// Feeds bytes, with their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.block.extend_from_slice(bytes);
        self.fold_full();
    }

    /// The digest of all that was fed.
    #[must_use]
    pub fn value(&self) -> u64 {
        XxHash3_64::oneshot_with_seed(self.state, &self.block)
    }

    fn fold_full(&mut self) {
        if self.block.len() >= BLOCK_BYTES {
            self.state = self.value();
            self.block.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_length_and_seed_matter() {
        let digest = |seed, feed: &[&[u8]]| {
            let mut digest = Digest::new(seed);
            feed.iter().for_each(|bytes| digest.bytes(bytes));
            digest.value()
        };
        assert_eq!(digest(1, &[b"a", b"bc"]), digest(1, &[b"a", b"bc"]));
        assert_ne!(digest(1, &[b"a", b"bc"]), digest(1, &[b"ab", b"c"]));
        assert_ne!(digest(1, &[b"a"]), digest(2, &[b"a"]));
    }

    #[test]
    fn blocks_are_chained() {
        let run = |first: u64| {
            let mut digest = Digest::new(0);
            digest.word(first);
            (0..2_000).for_each(|word| digest.word(word));
            digest.value()
        };
        assert_ne!(run(1), run(2), "what a full block held still counts");
    }
}
