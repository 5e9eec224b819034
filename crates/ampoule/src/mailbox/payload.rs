//! Payloads in the mailbox, for the codec: written and read by offset, since no reference into guest memory may exist.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use ampoule_abi::codec::{Encoder, Sink, Source, decode};
use ampoule_vmm::Region;
use serde::de::DeserializeOwned;

use super::ProtocolViolation;

/// Where a payload is written.
#[derive(Debug)]
pub(crate) struct PayloadSink<'mailbox> {
    region: &'mailbox Region,
    offset: usize,
    capacity: usize,
    /// How far the host has ever written here.
    written: &'mailbox AtomicUsize,
}

impl<'mailbox> PayloadSink<'mailbox> {
    /// These bytes of the region, which the caller knows to lie within it.
    pub(super) fn new(region: &'mailbox Region, bytes: Range<usize>, written: &'mailbox AtomicUsize) -> Self {
        Self { region, offset: bytes.start, capacity: bytes.len(), written }
    }
}

impl Sink for PayloadSink<'_> {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.region.write(self.offset + at, bytes).expect("the codec keeps to the capacity");
        // Nobody else writes it: the mailbox lends itself to one sink at a time while a call is being made.
        self.written.store(self.written.load(Ordering::Relaxed).max(at + bytes.len()), Ordering::Relaxed);
    }
}

/// Where a payload is read from. Every byte is copied out once, then validated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PayloadSource<'mailbox> {
    region: &'mailbox Region,
    offset: usize,
    length: usize,
}

impl<'mailbox> PayloadSource<'mailbox> {
    /// `length` bytes of the region, from `offset` on, which the caller knows to lie within it.
    pub(super) fn new(region: &'mailbox Region, offset: usize, length: usize) -> Self {
        Self { region, offset, length }
    }

    /// Decodes all of it as one text or record of the guest's.
    pub(crate) fn whole<T: DeserializeOwned>(self) -> Result<T, ProtocolViolation> {
        decode(self).map_err(|_| ProtocolViolation::Text)
    }
}

impl<'de> Source<'de> for PayloadSource<'_> {
    fn length(&self) -> usize {
        self.length
    }

    fn read(&self, at: usize, buffer: &mut [u8]) {
        self.region.read(self.offset + at, buffer).expect("the codec keeps to the length");
    }
}

/// Writes a string, cut to what fits: how many bytes the payload has.
pub(super) fn encode_truncated(text: &str, mut sink: PayloadSink<'_>) -> usize {
    let most = sink.capacity().saturating_sub(STRING_HEADER_LEN);
    let cut = text.floor_char_boundary(most);
    let mut encoder = Encoder::new(&mut sink);
    encoder.value(&text[..cut]).and_then(|()| encoder.finish()).expect("the text was cut to what fits")
}

/// Bytes of a string's length.
const STRING_HEADER_LEN: usize = 4;
