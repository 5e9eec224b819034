//! Bytes that the host gives piece by piece.

use std::fmt;
use std::io::{self, BufRead, Read};

use serde::{Deserialize, Deserializer};

use super::GATHERED;
use crate::rt::stream;

/// Bytes that the host gives while the function runs, as a parameter: the host passes an `ampoule::Reader`.
///
/// ```
/// use std::io::{self, BufRead};
///
/// use ampoule_guest::{Reader, export};
///
/// #[export]
/// fn longest_line(text: Reader<'_>) -> io::Result<usize> {
///     let mut longest = 0;
///     for line in text.lines() {
///         longest = longest.max(line?.len());
///     }
///     Ok(longest)
/// }
///
/// ampoule_guest::main!();
/// # assert_eq!(longest_line(Reader::new(&b"one\nthree\ntwo"[..])).unwrap(), 5);
/// ```
///
/// Nothing is read on the host before it is asked for here. It is buffered: where few bytes are read at a time, up to 64 KiB come
/// at once, each time with one exit of the guest. Reads of more go past the buffer, and `read_to_end` takes as much at once as
/// the host gives, 1 MiB at most. A read may give less than there is room for, as everywhere.
///
/// What fails on the host is an error of the same kind with the same text. A reader that is dropped early leaves the rest
/// unread. It ends with the call, so it cannot be kept.
pub struct Reader<'call> {
    source: Source<'call>,
    buffer: Vec<u8>,
    /// How many bytes of the buffer were taken.
    taken: usize,
}

enum Source<'call> {
    /// The host's, of this number.
    Host(u64),
    Own(Box<dyn Read + 'call>),
}

impl<'call> Reader<'call> {
    /// What gives the bytes of something of the program's own, for tests without a host.
    pub fn new(reader: impl Read + 'call) -> Self {
        Self::of(Source::Own(Box::new(reader)))
    }

    fn of(source: Source<'call>) -> Self {
        Self { source, buffer: Vec::new(), taken: 0 }
    }

    fn take_buffered(&mut self, most: usize) -> &[u8] {
        let start = self.taken;
        self.taken = (start + most).min(self.buffer.len());
        &self.buffer[start..self.taken]
    }
}

impl Source<'_> {
    /// Adds the next bytes, `most` at most: how many.
    fn read_more(&mut self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        match self {
            Self::Host(number) => stream::read(*number, most, |bytes| {
                buffer.extend_from_slice(bytes);
                bytes.len()
            }),
            Self::Own(reader) => reader.by_ref().take(most.min(GATHERED) as u64).read_to_end(buffer),
        }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() && buffer.len() >= GATHERED {
            return match &mut self.source {
                Source::Host(number) => stream::read(*number, buffer.len(), |bytes| {
                    buffer[..bytes.len()].copy_from_slice(bytes);
                    bytes.len()
                }),
                Source::Own(reader) => reader.read(buffer),
            };
        }
        self.fill_buf()?;
        let bytes = self.take_buffered(buffer.len());
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let before = buffer.len();
        buffer.extend_from_slice(self.take_buffered(usize::MAX - self.taken));
        while self.source.read_more(buffer, usize::MAX)? > 0 {}
        Ok(buffer.len() - before)
    }
}

impl BufRead for Reader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
            self.source.read_more(&mut self.buffer, GATHERED)?;
        }
        Ok(&self.buffer[self.taken..])
    }

    fn consume(&mut self, amount: usize) {
        self.take_buffered(amount);
    }
}

impl<'de> Deserialize<'de> for Reader<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|number| Self::of(Source::Host(number)))
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("buffered", &(self.buffer.len() - self.taken)).finish_non_exhaustive()
    }
}
