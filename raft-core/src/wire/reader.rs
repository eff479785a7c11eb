//! How numbers and bytes come out of a frame, the counterpart of [`super::sink`].

use bytes::Bytes;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::WireError;
use super::sink::NUMBER_BYTES_MAX;

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
        let is_right = *self.checksum == xxh3_64(covered).to_le_bytes();
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
    let mut number = 0;
    for (place, &byte) in bytes.iter().take(NUMBER_BYTES_MAX).enumerate() {
        let (bits, shift) = (u64::from(byte & 0x7f), 7 * place);
        number |= bits << shift;
        if byte < 0x80 {
            // The tenth byte has room for one bit.
            let is_whole = number >> shift == bits;
            return if is_whole {
                Ok((number, &bytes[place + 1..]))
            } else {
                Err(WireError::Malformed)
            };
        }
    }
    Err(WireError::Malformed)
}
