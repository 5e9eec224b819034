//! Where values are written, and the position in it.

use alloc::vec::Vec;

use serde::Serialize;

use super::error::EncodeError;
use super::write::ValueWriter;

/// Memory of a fixed size that values are written to.
///
/// It is written by offset, so an implementation can stand for memory of which no `&mut [u8]` may exist. The codec asks
/// for the capacity once and then puts each byte once, in ascending order. The count of a sequence whose length was not
/// known beforehand it puts again.
pub trait Sink {
    /// How many bytes fit.
    fn capacity(&self) -> usize;

    /// Writes `bytes` to the offset `at`. The codec keeps to `at + bytes.len() <= capacity`.
    fn put(&mut self, at: usize, bytes: &[u8]);

    /// Writes `bytes` to the offset `at` instead of those that were put there.
    #[inline]
    fn put_again(&mut self, at: usize, bytes: &[u8]) {
        self.put(at, bytes);
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    #[inline]
    fn capacity(&self) -> usize {
        (**self).capacity()
    }

    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        (**self).put(at, bytes);
    }

    #[inline]
    fn put_again(&mut self, at: usize, bytes: &[u8]) {
        (**self).put_again(at, bytes);
    }
}

/// A slice does not grow: its length is its capacity.
impl Sink for [u8] {
    #[inline]
    fn capacity(&self) -> usize {
        self.len()
    }

    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A vector grows as far as it is written. Writing begins at its start; bytes that it already holds are overwritten.
impl Sink for Vec<u8> {
    #[inline]
    fn capacity(&self) -> usize {
        isize::MAX.unsigned_abs()
    }

    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.len() < end {
            self.resize(end, 0);
        }
        self[at..end].copy_from_slice(bytes);
    }
}

/// Writes values one after another.
///
/// ```
/// use ampoule_abi::codec::{EncodeError, Encoder};
///
/// let mut payload = [0; 4];
/// let mut arguments = Encoder::new(&mut payload[..]);
/// arguments.value(&1u16)?;
/// arguments.value("two")?;
/// assert_eq!(arguments.finish(), Err(EncodeError::TooLarge { needed: 9, capacity: 4 }));
/// # Ok::<(), EncodeError>(())
/// ```
#[derive(Debug)]
pub struct Encoder<S> {
    sink: S,
    capacity: usize,
    /// Goes on counting beyond the capacity, so that the size is known in the end.
    position: usize,
}

impl<S: Sink> Encoder<S> {
    /// Begins at the start of `sink`.
    pub fn new(sink: S) -> Self {
        Self { capacity: sink.capacity(), sink, position: 0 }
    }

    /// Writes `value` behind those before it. Whether all of them fit shows in [`Encoder::finish`].
    ///
    /// # Errors
    ///
    /// An [`EncodeError`] other than [`EncodeError::TooLarge`] if the value has no encoding. The encoder then holds a
    /// part of it and is of no more use.
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(ValueWriter::new(self))
    }

    /// Returns the size in bytes of all that was written.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] if that is more than fits. What the sink holds is then unspecified.
    pub fn finish(self) -> Result<usize, EncodeError> {
        if self.position > self.capacity {
            return Err(EncodeError::TooLarge { needed: self.position, capacity: self.capacity });
        }
        Ok(self.position)
    }

    #[inline]
    pub(super) fn position(&self) -> usize {
        self.position
    }

    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.position.saturating_add(bytes.len());
        if end <= self.capacity {
            self.sink.put(self.position, bytes);
        }
        self.position = end;
    }

    /// Writes a length or count.
    #[inline]
    pub(super) fn put_count(&mut self, count: usize) -> Result<(), EncodeError> {
        self.put(&encode_count(count)?);
        Ok(())
    }

    /// Replaces the length or count at the offset `at`, which has been passed.
    pub(super) fn replace_count(&mut self, at: usize, count: usize) -> Result<(), EncodeError> {
        let count = encode_count(count)?;
        if at.saturating_add(count.len()) <= self.capacity {
            self.sink.put_again(at, &count);
        }
        Ok(())
    }

    /// Writes `count` elements that take these bytes.
    #[inline]
    pub(super) fn put_block(&mut self, count: usize, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put_count(count)?;
        self.put(bytes);
        Ok(())
    }
}

#[inline]
fn encode_count(count: usize) -> Result<[u8; 4], EncodeError> {
    u32::try_from(count).map(u32::to_le_bytes).map_err(|_| EncodeError::TooLong { length: count })
}
