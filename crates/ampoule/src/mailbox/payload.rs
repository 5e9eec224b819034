//! Payloads in the mailbox, for the codec: written and read by offset, since no reference into guest memory may exist.
//!
//! The codec writes and reads a few bytes at a time, and each access to guest memory has its price. So both gather what adjoins
//! in a buffer of the host's: one access for each [`CHUNK`] bytes.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use ampoule_abi::codec::{Encoder, Sink, Source, decode};
use ampoule_vmm::Region;
use serde::de::DeserializeOwned;

use super::ProtocolViolation;

/// Where a payload is written. It is all there once the sink is dropped.
#[derive(Debug)]
pub(crate) struct PayloadSink<'mailbox> {
    region: &'mailbox Region,
    offset: usize,
    capacity: usize,
    /// How far the host has ever written here.
    written: &'mailbox AtomicUsize,
    behind: Chunk,
}

impl<'mailbox> PayloadSink<'mailbox> {
    /// These bytes of the region, which the caller knows to lie within it.
    pub(super) fn new(region: &'mailbox Region, bytes: Range<usize>, written: &'mailbox AtomicUsize) -> Self {
        Self { region, offset: bytes.start, capacity: bytes.len(), written, behind: Chunk::new() }
    }

    #[cold]
    fn put_elsewhere(&mut self, at: usize, bytes: &[u8]) {
        self.flush();
        self.behind = Chunk::new();
        if bytes.len() < CHUNK {
            self.behind.start = at;
            self.behind.append(bytes);
        } else {
            self.behind.start = at + bytes.len();
            self.write(at, bytes);
        }
    }

    fn flush(&self) {
        self.write(self.behind.start, self.behind.filled());
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        self.region.write(self.offset + at, bytes).expect("the codec keeps to the capacity");
        // Nobody else writes it: the mailbox lends itself to one sink at a time while a call is being made.
        self.written.store(self.written.load(Ordering::Relaxed).max(at + bytes.len()), Ordering::Relaxed);
    }
}

impl Sink for PayloadSink<'_> {
    fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if at == self.behind.end() && bytes.len() <= self.behind.room() {
            self.behind.append(bytes);
        } else {
            self.put_elsewhere(at, bytes);
        }
    }
}

impl Drop for PayloadSink<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Where a payload is read from. Every byte is copied out once, then validated.
#[derive(Debug)]
pub(crate) struct PayloadSource<'mailbox> {
    region: &'mailbox Region,
    offset: usize,
    length: usize,
    /// What has been copied out and not been read yet.
    ahead: RefCell<Chunk>,
}

impl<'mailbox> PayloadSource<'mailbox> {
    /// `length` bytes of the region, from `offset` on, which the caller knows to lie within it.
    pub(super) fn new(region: &'mailbox Region, offset: usize, length: usize) -> Self {
        Self { region, offset, length, ahead: RefCell::new(Chunk::new()) }
    }

    /// Decodes all of it as one text or record of the guest's.
    pub(crate) fn whole<T: DeserializeOwned>(self) -> Result<T, ProtocolViolation> {
        decode(self).map_err(|_| ProtocolViolation::Text)
    }

    #[cold]
    fn read_on(&self, at: usize, buffer: &mut [u8]) {
        let mut ahead = self.ahead.borrow_mut();
        let known = ahead.from(at);
        let (begun, rest) = buffer.split_at_mut(known.len().min(buffer.len()));
        begun.copy_from_slice(&known[..begun.len()]);
        let at = at + begun.len();
        let copy = |into: &mut [u8]| self.region.read(self.offset + at, into).expect("the codec keeps to the length");
        if rest.len() >= CHUNK {
            copy(rest);
        } else {
            ahead.start = at;
            ahead.len = CHUNK.min(self.length - at);
            let len = ahead.len;
            copy(&mut ahead.bytes[..len]);
            rest.copy_from_slice(&ahead.bytes[..rest.len()]);
        }
    }
}

impl<'de> Source<'de> for PayloadSource<'_> {
    fn length(&self) -> usize {
        self.length
    }

    #[inline]
    fn read(&self, at: usize, buffer: &mut [u8]) {
        if let Some(known) = self.ahead.borrow().from(at).get(..buffer.len()) {
            return buffer.copy_from_slice(known);
        }
        self.read_on(at, buffer);
    }
}

/// A copy of bytes of a payload that lie in a row.
#[derive(Debug)]
struct Chunk {
    /// Where in the payload the first of them is.
    start: usize,
    len: usize,
    bytes: [u8; CHUNK],
}

impl Chunk {
    fn new() -> Self {
        Self { start: 0, len: 0, bytes: [0; CHUNK] }
    }

    #[inline]
    fn end(&self) -> usize {
        self.start + self.len
    }

    #[inline]
    fn room(&self) -> usize {
        CHUNK - self.len
    }

    #[inline]
    fn filled(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Those from this offset of the payload on; none where it lies elsewhere.
    #[inline]
    fn from(&self, at: usize) -> &[u8] {
        at.checked_sub(self.start).and_then(|skip| self.filled().get(skip..)).unwrap_or(&[])
    }

    /// There is room for them.
    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// Writes a string, cut to what fits: how many bytes the payload has.
pub(super) fn encode_truncated(text: &str, mut sink: PayloadSink<'_>) -> usize {
    let most = sink.capacity().saturating_sub(STRING_HEADER_LEN);
    let cut = text.floor_char_boundary(most);
    let mut encoder = Encoder::new(&mut sink);
    encoder.value(&text[..cut]).and_then(|()| encoder.finish()).expect("the text was cut to what fits")
}

/// Enough for the price of an access not to show, and little enough for an empty payload not to pay for it.
const CHUNK: usize = 512;

/// Bytes of a string's length.
const STRING_HEADER_LEN: usize = 4;

#[cfg(test)]
mod tests;
