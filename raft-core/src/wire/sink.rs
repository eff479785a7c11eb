//! How numbers get into a buffer: gathered, and copied together.
//!
//! A message is a dozen numbers of one to ten bytes each, and to have every one of them ask the
//! buffer for room costs more than all else about it. Deliberately absent: a limit, for a growing
//! buffer takes everything.

use bytes::BufMut;
use postcard::ser_flavors::Flavor;

/// Nearly all messages without payloads fit.
const GATHERED_MAX: usize = 128;

/// The longest number, 64 bits in groups of seven.
const NUMBER_BYTES_MAX: usize = 10;

/// Appends numbers as postcard does: seven bits in a byte, the lowest first, and the highest bit
/// says that more follow. A struct of numbers looks no different.
pub(super) fn put_numbers<const N: usize>(out: &mut impl BufMut, numbers: [u64; N]) {
    const { assert!(N * NUMBER_BYTES_MAX <= GATHERED_MAX, "the longest numbers fit") };
    let (mut gathered, mut len) = ([0; GATHERED_MAX], 0);
    for mut number in numbers {
        while number >= 0x80 {
            gathered[len] = number.to_le_bytes()[0] | 0x80;
            len += 1;
            number >>= 7;
        }
        gathered[len] = number.to_le_bytes()[0];
        len += 1;
    }
    out.put_slice(&gathered[..len]);
}

/// Writes what postcard serializes to a buffer, which has everything once it is finished.
pub(super) struct Sink<'a, B> {
    out: &'a mut B,
    gathered: [u8; GATHERED_MAX],
    len: usize,
}

impl<'a, B: BufMut> Sink<'a, B> {
    pub(super) fn new(out: &'a mut B) -> Self {
        Self { out, gathered: [0; GATHERED_MAX], len: 0 }
    }

    #[cold]
    fn spill(&mut self) {
        self.out.put_slice(&self.gathered[..self.len]);
        self.len = 0;
    }
}

impl<B: BufMut> Flavor for Sink<'_, B> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.len == GATHERED_MAX {
            self.spill();
        }
        self.gathered[self.len] = byte;
        self.len += 1;
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() > NUMBER_BYTES_MAX {
            self.spill();
            self.out.put_slice(bytes);
            return Ok(());
        }
        bytes.iter().try_for_each(|byte| self.try_push(*byte))
    }

    fn finalize(self) -> postcard::Result<()> {
        self.out.put_slice(&self.gathered[..self.len]);
        Ok(())
    }
}
