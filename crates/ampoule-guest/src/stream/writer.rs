//! Bytes that the host takes piece by piece.

use std::fmt;
use std::io::{self, Write};

use serde::{Deserialize, Deserializer};

use super::GATHERED;
use crate::rt::stream;

/// Takes bytes to the host while the function runs, as a parameter: the host passes an `ampoule::Writer`.
///
/// ```
/// use std::io::{self, Write};
///
/// use ampoule_guest::{Writer, export};
///
/// #[export]
/// fn multiples(of: u64, mut table: Writer<'_>) -> io::Result<()> {
///     for factor in 1..=3 {
///         writeln!(table, "{}", factor * of)?;
///     }
///     table.flush()
/// }
///
/// ampoule_guest::main!();
/// # let mut table = Vec::new();
/// # multiples(7, Writer::new(&mut table)).unwrap();
/// # assert_eq!(table, b"7\n14\n21\n");
/// ```
///
/// It is buffered: what is written gathers until it is 64 KiB, and goes to the host with one exit of the guest. Writes of more go
/// past the buffer, as much at once as the mailbox has room for. The program continues when the host has taken it.
///
/// What fails on the host is an error of the same kind with the same text. Dropping it sends what has gathered, and nobody sees an
/// error then: [`flush`](Write::flush) shows it, and flushes the host's end. It ends with the call, so it cannot be kept.
pub struct Writer<'call> {
    destination: Destination<'call>,
    buffer: Vec<u8>,
}

enum Destination<'call> {
    /// The host's, of this number.
    Host(u64),
    Own(Box<dyn Write + 'call>),
}

impl<'call> Writer<'call> {
    /// What takes bytes to something of the program's own, for tests without a host.
    pub fn new(writer: impl Write + 'call) -> Self {
        Self::of(Destination::Own(Box::new(writer)))
    }

    fn of(destination: Destination<'call>) -> Self {
        Self { destination, buffer: Vec::new() }
    }

    /// Sends what has gathered. Where that fails, what the host has not taken is lost, so that nothing is sent twice.
    fn send(&mut self, flush: bool) -> io::Result<()> {
        let sent = self.destination.write_all(&self.buffer, flush);
        self.buffer.clear();
        sent
    }
}

impl Destination<'_> {
    fn write_all(&mut self, mut bytes: &[u8], flush: bool) -> io::Result<()> {
        while !bytes.is_empty() || flush {
            bytes = &bytes[self.write(bytes, flush)?..];
            if bytes.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Writes as many bytes as go at once: how many. Where these are all, what was written is flushed.
    fn write(&mut self, bytes: &[u8], flush: bool) -> io::Result<usize> {
        match self {
            Self::Host(number) => stream::write(*number, bytes, flush),
            Self::Own(writer) => {
                writer.write_all(bytes)?;
                if flush {
                    writer.flush()?;
                }
                Ok(bytes.len())
            }
        }
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > GATHERED {
            self.send(false)?;
        }
        if bytes.len() >= GATHERED {
            return self.destination.write(bytes, false);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send(true)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // An error is seen by who flushes.
        let _ = self.send(false);
    }
}

impl<'de> Deserialize<'de> for Writer<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|number| Self::of(Destination::Host(number)))
    }
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("gathered", &self.buffer.len()).finish_non_exhaustive()
    }
}
