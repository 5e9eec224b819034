//! Where values are read from, and the position in it.

use alloc::borrow::Cow;
use alloc::vec;

use serde::Deserialize;

use super::error::DecodeError;
use super::read::ValueReader;

/// Memory that holds values.
///
/// It is read by offset, so an implementation can stand for memory of which no `&[u8]` may exist because another party
/// can change it. The codec asks for the length once, then reads each byte at most once, in ascending order, and validates
/// what it was given: bytes that change in between are as good as any others.
///
/// `&'de [u8]` is a source from which values borrow.
pub trait Source<'de> {
    /// How many bytes there are.
    fn length(&self) -> usize;

    /// Copies the bytes from the offset `at` on to `buffer`. The codec keeps to `at + buffer.len() <= length`.
    fn read(&mut self, at: usize, buffer: &mut [u8]);

    /// Returns the `length` bytes from the offset `at` on, borrowed if they cannot change, otherwise copied. The codec
    /// keeps to `at + length` being within the source.
    ///
    /// Every string and byte buffer of more than no bytes comes through here.
    fn block(&mut self, at: usize, length: usize) -> Cow<'de, [u8]> {
        let mut bytes = vec![0; length];
        self.read(at, &mut bytes);
        Cow::Owned(bytes)
    }
}

impl<'de> Source<'de> for &'de [u8] {
    #[inline]
    fn length(&self) -> usize {
        self.len()
    }

    #[inline]
    fn read(&mut self, at: usize, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self[at..at + buffer.len()]);
    }

    #[inline]
    fn block(&mut self, at: usize, length: usize) -> Cow<'de, [u8]> {
        Cow::Borrowed(&self[at..at + length])
    }
}

/// Reads values one after another.
///
/// ```
/// use ampoule_abi::codec::{DecodeError, Decoder};
///
/// let mut arguments = Decoder::new(&[1, 0, 3, 0, 0, 0, b't', b'w', b'o'][..]);
/// assert_eq!(arguments.value::<u16>()?, 1);
/// assert_eq!(arguments.value::<&str>()?, "two");
/// arguments.finish()?;
/// # Ok::<(), DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Decoder<S> {
    source: S,
    length: usize,
    position: usize,
    /// How many elements may still be announced to visitors, which reserve memory for them.
    ///
    /// Each element takes a byte that is part of no element within it: its own, or one of the count that such an element
    /// belongs to. So the elements of all sequences together are never more than the bytes, and only a payload that
    /// turns out to be wrong can use this up.
    announceable: usize,
}

impl<'de, S: Source<'de>> Decoder<S> {
    /// Begins at the start of `source`.
    pub fn new(source: S) -> Self {
        let length = source.length();
        Self { source, length, position: 0, announceable: length }
    }

    /// Reads the next value.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] if the next bytes are no value of type `T`. The decoder then stands somewhere within the value
    /// and is of no more use.
    pub fn value<T: Deserialize<'de>>(&mut self) -> Result<T, DecodeError> {
        T::deserialize(ValueReader::new(self))
    }

    /// Ends reading.
    ///
    /// # Errors
    ///
    /// [`DecodeError::LeftOver`] if not all bytes have been read.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            bytes => Err(DecodeError::LeftOver { offset: self.position, bytes }),
        }
    }

    #[inline]
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Reads what has a fixed size.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let remaining = self.remaining();
        if N > remaining {
            return Err(DecodeError::UnexpectedEnd { offset: self.position, needed: N, remaining });
        }
        let mut bytes = [0; N];
        self.source.read(self.position, &mut bytes);
        self.position += N;
        Ok(bytes)
    }

    /// Whether nothing is left.
    #[inline]
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.remaining() == 0
    }

    /// Reads the count of elements of `size` bytes each, all of which follow.
    pub(super) fn elements(&mut self, size: usize) -> Result<usize, DecodeError> {
        let count = self.count()?;
        let remaining = self.remaining();
        let whole = remaining / size;
        if count > whole {
            let remaining = remaining % size;
            return Err(DecodeError::UnexpectedEnd { offset: self.length - remaining, needed: size, remaining });
        }
        Ok(count)
    }

    /// Reads bytes that are known to follow.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) {
        if !buffer.is_empty() {
            self.source.read(self.position, buffer);
            self.position += buffer.len();
        }
    }

    /// Reads a length or count, which at least as many bytes follow.
    #[inline]
    pub(super) fn count(&mut self) -> Result<usize, DecodeError> {
        let offset = self.position;
        let count = u32::from_le_bytes(self.array()?);
        let remaining = self.remaining();
        usize::try_from(count).ok().filter(|&count| count <= remaining).ok_or(DecodeError::CountTooLarge {
            offset,
            count,
            remaining,
        })
    }

    /// Reads a byte string.
    pub(super) fn block(&mut self) -> Result<Cow<'de, [u8]>, DecodeError> {
        let length = self.count()?;
        if length == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        let bytes = self.source.block(self.position, length);
        self.position += length;
        Ok(bytes)
    }

    /// How many of `count` elements a visitor may reserve memory for.
    pub(super) fn announce(&mut self, count: usize) -> usize {
        let announced = count.min(self.announceable);
        self.announceable -= announced;
        announced
    }

    #[inline]
    fn remaining(&self) -> usize {
        self.length - self.position
    }
}
