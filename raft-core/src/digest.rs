//! The canonical hasher behind [`crate::Raft::digest`].
//!
//! Derived `Hash` feeds integers in the machine's own width and byte order. Here each of them
//! arrives as 64 bits, little-endian, so that a digest means the same on every machine.

use core::hash::Hasher;

use twox_hash::xxhash3_64::{RawHasher, SecretBuffer};

/// XXH3-64 over everything hashed, integers as little-endian 64-bit words.
pub(crate) struct CanonicalHasher {
    inner: RawHasher<&'static [u8; DEFAULT_SECRET_BYTES]>,
}

/// The length of the secret that XXH3 uses where it is given none.
const DEFAULT_SECRET_BYTES: usize = 192;

impl Default for CanonicalHasher {
    fn default() -> Self {
        Self { inner: RawHasher::new(SecretBuffer::default()) }
    }
}

impl CanonicalHasher {
    fn word(&mut self, word: u64) {
        self.inner.write(&word.to_le_bytes());
    }
}

impl Hasher for CanonicalHasher {
    fn finish(&self) -> u64 {
        self.inner.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        self.inner.write(bytes);
    }

    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.word(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.inner.write(&value.to_le_bytes());
    }

    fn write_usize(&mut self, value: usize) {
        self.word(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        // Derived `Hash` writes the discriminant of an enum as an isize; it is never negative.
        self.word(value.unsigned_abs() as u64);
    }
}
