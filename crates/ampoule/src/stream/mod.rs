//! Streams: arguments of a call that a guest reads or writes piece by piece, while it runs.
//!
//! A stream is the application's from beginning to end. The guest has a number, which means something for as long as the call
//! takes, and asks for each piece: so nothing is read before the guest wants it, and no more is in memory than one piece. What
//! asks for a piece runs on the thread of the call, like a host function.

#[cfg(feature = "tokio")]
mod asynchronous;
mod error;
mod items;
mod reader;
mod sink;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io;
use std::pin::Pin;

pub use items::Items;
pub use reader::Reader;
pub use sink::Sink;
pub use writer::Writer;

pub(crate) use error::kind_number;

/// The application's end of a stream. Of the two directions it has one.
pub(crate) trait HostStream {
    /// Puts the next bytes at the beginning of the buffer, `most` at most, which the buffer need not have yet: how many. None are
    /// the end.
    fn read(&self, buffer: &mut Vec<u8>, most: usize, waiter: &mut dyn Wait) -> io::Result<usize>;

    /// Takes these bytes, all of them. With `flush` they are to go where they belong, and those of before.
    fn write(&self, bytes: &[u8], flush: bool, waiter: &mut dyn Wait) -> io::Result<()>;

    fn direction(&self) -> Direction;
}

/// What a guest does with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// Waits for what the application has not got yet.
pub(crate) trait Wait {
    /// Polls a future until it is ready, or the call is to end, after which what the stream answers does not matter.
    fn until_ready(&mut self, future: Pin<&mut dyn Future<Output = ()>>);
}

/// The streams of one call, with the numbers by which the guest knows them.
#[doc(hidden)]
pub struct Streams<'call> {
    /// The number of the first one.
    first: u64,
    streams: Vec<&'call dyn HostStream>,
    /// What is on its way. One buffer serves all of them, since the guest asks for one piece after the other.
    pub(crate) buffer: Vec<u8>,
}

impl<'call> Streams<'call> {
    /// None yet, for the call of this number.
    pub(crate) fn of_call(call: u64) -> Self {
        // The number of a call is far below the bits that are lost.
        Self { first: call << MOST_BITS, streams: Vec::new(), buffer: Vec::new() }
    }

    /// Adds a stream: the number that the guest is given.
    pub(crate) fn add(&mut self, stream: &'call dyn HostStream) -> u64 {
        self.streams.push(stream);
        self.first + (self.streams.len() - 1) as u64
    }

    /// The stream that the guest knows by this number, if it may use it in this direction, and the buffer for what passes.
    pub(crate) fn get(&mut self, number: u64, direction: Direction) -> Option<(&'call dyn HostStream, &mut Vec<u8>)> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let stream = self.streams.get(index).copied().filter(|stream| stream.direction() == direction)?;
        Some((stream, &mut self.buffer))
    }
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("first", &self.first).field("count", &self.streams.len()).finish()
    }
}

/// A call has fewer streams than this many bits can count: it has 32 arguments at most.
const MOST_BITS: u32 = 8;
