//! Payloads in the mailbox, for the codec: written and read by offset, since no reference into guest memory may exist.
//!
//! The codec writes and reads a few bytes at a time. These accesses are inlined where values are encoded and decoded, and
//! are little more than a comparison and a move.

use std::ops::Range;

use ampoule_abi::codec::{Encoder, Sink, Source, decode};
use ampoule_vmm::{PartReader, TrackedRegion, TrackedWriter};
use serde::de::DeserializeOwned;

use super::ProtocolViolation;

/// Where a payload can be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PayloadArea<'mailbox> {
    region: &'mailbox TrackedRegion,
    start: usize,
    capacity: usize,
}

impl<'mailbox> PayloadArea<'mailbox> {
    /// These bytes of the region, which the caller knows to lie within it.
    #[inline]
    pub(super) fn new(region: &'mailbox TrackedRegion, bytes: Range<usize>) -> Self {
        Self { region, start: bytes.start, capacity: bytes.len() }
    }

    /// Begins to write a payload. Until the sink is dropped, the region does not change what it shows.
    #[inline]
    pub(crate) fn sink(self) -> PayloadSink<'mailbox> {
        let area = self.region.part_writer(self.start, self.capacity).expect("the mailbox lies in the region");
        PayloadSink { area, capacity: self.capacity }
    }
}

/// Where a payload is written.
#[derive(Debug)]
pub(crate) struct PayloadSink<'mailbox> {
    area: TrackedWriter<'mailbox>,
    capacity: usize,
}

impl Sink for PayloadSink<'_> {
    #[inline]
    fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.area.write(at, bytes);
    }

    #[inline]
    fn put_again(&mut self, at: usize, bytes: &[u8]) {
        self.area.write_again(at, bytes);
    }
}

/// Where a payload is read from. Every byte is copied out once, then validated.
#[derive(Debug)]
pub(crate) struct PayloadSource<'mailbox> {
    area: PartReader<'mailbox>,
    length: usize,
}

impl<'mailbox> PayloadSource<'mailbox> {
    /// `length` bytes of the region, from `offset` on, which the caller knows to lie within it.
    pub(super) fn new(region: &'mailbox TrackedRegion, offset: usize, length: usize) -> Self {
        Self { area: region.part_reader(offset, length).expect("the mailbox lies in the region"), length }
    }

    /// Decodes all of it as one text or record of the guest's.
    pub(crate) fn whole<T: DeserializeOwned>(self) -> Result<T, ProtocolViolation> {
        decode(self).map_err(|_| ProtocolViolation::Text)
    }
}

impl<'de> Source<'de> for PayloadSource<'_> {
    #[inline]
    fn length(&self) -> usize {
        self.length
    }

    #[inline]
    fn read(&mut self, at: usize, buffer: &mut [u8]) {
        self.area.read(at, buffer);
    }
}

/// Writes a string, cut to what fits, and returns how many bytes the payload has.
pub(super) fn encode_truncated(text: &str, mut sink: PayloadSink<'_>) -> usize {
    let most = sink.capacity().saturating_sub(STRING_HEADER_LEN);
    let cut = text.floor_char_boundary(most);
    let mut encoder = Encoder::new(&mut sink);
    encoder.value(&text[..cut]).and_then(|()| encoder.finish()).expect("the text was cut to what fits")
}

/// Bytes of a string's length.
const STRING_HEADER_LEN: usize = 4;

#[cfg(test)]
mod tests;
