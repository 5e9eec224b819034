//! What guests print and images say, on a terminal.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use ampoule_abi::text::printable_lines;

/// Standard output or standard error for what a guest prints. On a terminal, which escape sequences of a guest could play with,
/// these are shown and not obeyed; elsewhere, what the guest prints arrives as it is.
pub(crate) struct GuestText {
    to: Box<dyn Write + Send>,
    is_terminal: bool,
}

impl GuestText {
    pub(crate) fn stdout() -> Self {
        Self { to: unbuffered(io::stdout()), is_terminal: io::stdout().is_terminal() }
    }

    pub(crate) fn stderr() -> Self {
        Self { to: unbuffered(io::stderr()), is_terminal: io::stderr().is_terminal() }
    }
}

/// A stream without the buffer that the standard library gives it, if there is a descriptor left for it: whoever prints finds an
/// error at once, and nothing is lost at the end.
fn unbuffered(stream: impl AsFd + Write + Send + 'static) -> Box<dyn Write + Send> {
    match stream.as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(stream),
    }
}

impl Write for GuestText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_terminal {
            self.to.write_all(printable_lines(&String::from_utf8_lossy(bytes)).to_string().as_bytes())?;
        } else {
            self.to.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A number of bytes with the largest unit that it has: `1.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| count >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", count as f64 / f64::from(1u32 << shift)),
        None => format!("{count} bytes"),
    }
}
