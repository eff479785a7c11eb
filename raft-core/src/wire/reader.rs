//! How numbers and bytes come out of a frame, the counterpart of [`super::sink`].

use bytes::Bytes;
use serde::Deserialize;
use twox_hash::XxHash3_64;

use super::WireError;

/// A frame, its checksum, and the part before that which is not read yet.
pub(super) struct Reader<'a> {
    pub(super) frame: &'a Bytes,
    pub(super) checksum: &'a [u8],
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take<T: Deserialize<'a>>(&mut self) -> Result<T, WireError> {
        let (value, rest) =
            postcard::take_from_bytes(self.rest).map_err(|_| WireError::Malformed)?;
        self.rest = rest;
        Ok(value)
    }

    /// The next numbers of a row.
    #[inline]
    pub(super) fn numbers<const N: usize>(&mut self) -> Result<[u64; N], WireError> {
        let (mut numbers, mut rest) = ([0; N], self.rest);
        for number in &mut numbers {
            (*number, rest) = take_number(rest)?;
        }
        self.rest = rest;
        Ok(numbers)
    }

    /// The next numbers of a row that have eight bytes each.
    #[inline]
    pub(super) fn random<const N: usize>(&mut self) -> Result<[u64; N], WireError> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            let (bytes, rest) = self.rest.split_first_chunk().ok_or(WireError::Malformed)?;
            *number = u64::from_le_bytes(*bytes);
            self.rest = rest;
        }
        Ok(numbers)
    }

    /// A part of the frame, which shares its memory.
    pub(super) fn share(&self, part: &[u8]) -> Bytes {
        self.frame.slice_ref(part)
    }

    pub(super) fn byte(&mut self) -> Result<u8, WireError> {
        let (&byte, rest) = self.rest.split_first().ok_or(WireError::Malformed)?;
        self.rest = rest;
        Ok(byte)
    }

    /// A flag is a byte, 0 or 1.
    pub(super) fn flag(&mut self) -> Result<bool, WireError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Malformed),
        }
    }

    /// Bytes, before which stands how many they are.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let [length] = self.numbers()?;
        let length = usize::try_from(length).map_err(|_| WireError::Malformed)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(WireError::Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Whether the checksum is that of all that was read.
    pub(super) fn check_read(&self) -> Result<(), WireError> {
        let read = self.frame.len() - self.checksum.len() - self.rest.len();
        self.check(&self.frame[..read])
    }

    /// Whether the checksum is that of these bytes.
    pub(super) fn check(&self, covered: &[u8]) -> Result<(), WireError> {
        let is_right = *self.checksum == XxHash3_64::oneshot(covered).to_le_bytes();
        if is_right { Ok(()) } else { Err(WireError::Checksum) }
    }

    pub(super) fn finish(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::TrailingBytes) }
    }
}

/// The number at the beginning, and what follows it. Most numbers have one byte.
#[inline]
fn take_number(bytes: &[u8]) -> Result<(u64, &[u8]), WireError> {
    match bytes.split_first() {
        Some((&byte, rest)) if byte < 0x80 => Ok((u64::from(byte), rest)),
        Some(_) | None => take_long_number(bytes),
    }
}

#[inline(never)]
fn take_long_number(bytes: &[u8]) -> Result<(u64, &[u8]), WireError> {
    let (mut number, mut shift) = (0, 0);
    for (place, &byte) in bytes.iter().enumerate() {
        if shift == 63 && byte > 1 {
            break; // The tenth byte has room for one bit, and no number is longer.
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((number, &bytes[place + 1..]));
        }
        shift += 7;
    }
    Err(WireError::Malformed)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_number_is_read_as_postcard_writes_it() {
        for bit in 0..64 {
            for number in [1 << bit, (1 << bit) - 1, u64::MAX >> bit] {
                let mut bytes = postcard::to_extend(&number, Vec::new()).expect("a vector grows");
                bytes.push(7);
                assert_eq!(take_number(&bytes), Ok((number, &[7][..])), "{number}");
            }
        }
    }

    #[test]
    fn what_ends_too_soon_or_has_more_than_64_bits_is_no_number() {
        let long = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(take_number(&long), Ok((u64::MAX, &[][..])));
        for length in 0..long.len() {
            assert_eq!(take_number(&long[..length]), Err(WireError::Malformed), "{length} bytes");
        }
        for last in 2..=u8::MAX {
            let mut longer = [[0x80; 9].as_slice(), &[last, 0]].concat();
            assert_eq!(take_number(&longer), Err(WireError::Malformed), "{last}");
            longer.remove(0);
            assert!(last >= 0x80 || take_number(&longer).is_ok(), "{last}");
        }
    }
}
