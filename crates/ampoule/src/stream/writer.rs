//! Bytes that a guest writes.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};

use super::{Direction, HostStream, Wait};

/// An argument that a guest writes to while it runs, as its own `Writer<'_>`: a result that is too large for the mailbox, or is
/// wanted while it is made.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// use std::fs::File;
///
/// use ampoule::{Reader, Writer};
///
/// // In the guest: fn compress(input: Reader<'_>, output: Writer<'_>) -> io::Result<()>
/// let (input, mut output) = (File::open("log")?, Vec::new());
/// let () = sandbox.call("compress", (Reader::new(input), Writer::new(&mut output)))?;
/// # Ok(()) }
/// ```
///
/// What has been said of a [`Reader`](crate::Reader) holds for it too. A piece is what the guest has gathered, at most as much as
/// the mailbox has room for, and is written as a whole before the guest continues. Where the guest flushes its end, this one is
/// flushed. A call that fails may have written a part.
pub struct Writer<'data>(RefCell<Box<dyn Destination + 'data>>);

/// What takes bytes.
pub(super) trait Destination {
    /// Writes as `Write::write_all` does.
    fn write_all(&mut self, bytes: &[u8], waiter: &mut dyn Wait) -> io::Result<()>;

    fn flush(&mut self, waiter: &mut dyn Wait) -> io::Result<()>;
}

impl<'data> Writer<'data> {
    /// What writes to this.
    pub fn new(writer: impl Write + 'data) -> Self {
        Self::of_destination(Blocking(writer))
    }

    pub(super) fn of_destination(destination: impl Destination + 'data) -> Self {
        Self(RefCell::new(Box::new(destination)))
    }
}

struct Blocking<W>(W);

impl<W: Write> Destination for Blocking<W> {
    fn write_all(&mut self, bytes: &[u8], _: &mut dyn Wait) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn flush(&mut self, _: &mut dyn Wait) -> io::Result<()> {
        self.0.flush()
    }
}

impl HostStream for Writer<'_> {
    fn read(&self, _: &mut Vec<u8>, _: usize, _: &mut dyn Wait) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write(&self, bytes: &[u8], flush: bool, waiter: &mut dyn Wait) -> io::Result<()> {
        let mut destination = self.0.borrow_mut();
        destination.write_all(bytes, waiter)?;
        if flush { destination.flush(waiter) } else { Ok(()) }
    }

    fn direction(&self) -> Direction {
        Direction::Write
    }
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
