//! Bytes that a guest reads.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};

use super::{Direction, HostStream, Wait};

/// An argument that a guest reads while it runs, as its own `Reader<'_>`: a file, a connection, a decoder.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// use std::fs::File;
///
/// use ampoule::Reader;
///
/// // In the guest: fn digest(input: Reader<'_>) -> io::Result<u64>
/// let digest: u64 = sandbox.call("digest", (Reader::new(File::open("large.iso")?),))?;
/// # Ok(()) }
/// ```
///
/// It is an argument of its own, not a part of another value. It is read on the thread of the call, when the guest asks, by as
/// many bytes as the guest wants and the mailbox ([`Builder::mailbox_size`](crate::Builder::mailbox_size)) has room for, 1 MiB at
/// most; each such piece is one exit of the guest. So what the guest does not ask for is not read, and no more than one piece is
/// in memory. A piece is what one `read` gives: where that has only little, the guest gets it at once.
///
/// An error reaches the guest as an [`io::Error`] of the same kind with the same text. To read is like a host function in all
/// else: it counts to [`Limits::host_calls`](crate::Limits::host_calls), a panic poisons the sandbox, and a kill or a deadline
/// takes effect when it returns. Where it may wait for long, give it a time limit of its own, or make it
#[cfg_attr(feature = "tokio", doc = "[asynchronous](Self::asynchronous).")]
#[cfg_attr(not(feature = "tokio"), doc = "asynchronous (with the feature `tokio`).")]
pub struct Reader<'data>(RefCell<Box<dyn Source + 'data>>);

/// What gives bytes.
pub(super) trait Source {
    /// Reads as `Read::read` does.
    fn read(&mut self, buffer: &mut [u8], waiter: &mut dyn Wait) -> io::Result<usize>;
}

impl<'data> Reader<'data> {
    /// What this reads.
    pub fn new(reader: impl Read + 'data) -> Self {
        Self::of_source(Blocking(reader))
    }

    pub(super) fn of_source(source: impl Source + 'data) -> Self {
        Self(RefCell::new(Box::new(source)))
    }
}

struct Blocking<R>(R);

impl<R: Read> Source for Blocking<R> {
    fn read(&mut self, buffer: &mut [u8], _: &mut dyn Wait) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl HostStream for Reader<'_> {
    fn read(&self, buffer: &mut Vec<u8>, most: usize, waiter: &mut dyn Wait) -> io::Result<usize> {
        let most = most.min(MOST_AT_ONCE);
        if buffer.len() < most {
            buffer.resize(most, 0);
        }
        let mut source = self.0.borrow_mut();
        loop {
            match source.read(&mut buffer[..most], waiter) {
                Ok(read) if read > most => {
                    return Err(io::Error::other(format!("the reader gave {read} bytes where {most} were wanted")));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn write(&self, _: &[u8], _: bool, _: &mut dyn Wait) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn direction(&self) -> Direction {
        Direction::Read
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// How many bytes are read at once at most. Measured on a KVM in software (`ampoule-bench streams`): a stream of pieces of 1 MiB takes
/// 1.6 times as long as a `memcpy`, and one of larger pieces longer, since the processor's caches no longer hold them.
const MOST_AT_ONCE: usize = 1 << 20;
