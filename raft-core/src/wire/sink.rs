//! How numbers get into a buffer: gathered, and copied together.
//!
//! A message is a dozen numbers of one to ten bytes each, and to have every one of them ask the
//! buffer for room costs more than all else about it. Deliberately absent: a limit, for a growing
//! buffer takes everything.

use bytes::BufMut;
use postcard::ser_flavors::Flavor;

/// The longest number, 64 bits in groups of seven.
const NUMBER_BYTES_MAX: usize = 10;

/// The longest row: version and kind, nine numbers of a header, eight of a body.
const ROW_BYTES_MAX: usize = 2 + (9 + 8) * NUMBER_BYTES_MAX;

/// What postcard writes is copied in parts of so many bytes.
const GATHERED_MAX: usize = 128;

/// Numbers as postcard writes them: seven bits in a byte, the lowest first, and the highest bit says
/// that more follow. A struct of numbers looks no different.
pub(super) struct Row {
    bytes: [u8; ROW_BYTES_MAX],
    len: usize,
}

impl Row {
    /// A row that begins with these bytes.
    pub(super) fn new(first: [u8; 2]) -> Self {
        let mut bytes = [0; ROW_BYTES_MAX];
        bytes[..2].copy_from_slice(&first);
        Self { bytes, len: 2 }
    }

    /// Adds numbers at the end.
    ///
    /// # Panics
    /// If the row becomes longer than that of any message.
    #[inline]
    pub(super) fn put<const N: usize>(&mut self, numbers: [u64; N]) {
        let (bytes, mut len) = (&mut self.bytes, self.len);
        for mut number in numbers {
            while number >= 0x80 {
                bytes[len] = number.to_le_bytes()[0] | 0x80;
                len += 1;
                number >>= 7;
            }
            bytes[len] = number.to_le_bytes()[0];
            len += 1;
        }
        self.len = len;
    }

    /// Adds numbers that are as likely to be large as small: eight bytes each, the lowest first.
    ///
    /// # Panics
    /// If the row becomes longer than that of any message.
    #[inline]
    pub(super) fn put_random<const N: usize>(&mut self, numbers: [u64; N]) {
        for number in numbers {
            self.bytes[self.len..self.len + 8].copy_from_slice(&number.to_le_bytes());
            self.len += 8;
        }
    }

    /// Copies the numbers to the end of a buffer; the row is empty then.
    #[inline]
    pub(super) fn flush(&mut self, out: &mut impl BufMut) {
        out.put_slice(&self.bytes[..self.len]);
        self.len = 0;
    }
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
