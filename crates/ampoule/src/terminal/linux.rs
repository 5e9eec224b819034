//! What the kernel is asked of a terminal (ioctl_tty(2)).

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use linux_raw_sys::general::{ICANON, VMIN, VTIME, termios, winsize};

/// How a terminal treats what is typed and printed: the kernel's `struct termios`, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes(pub(crate) [u8; size_of::<termios>()]);

/// The size of a terminal's window: the kernel's `struct winsize`, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowSize(pub(crate) [u8; size_of::<winsize>()]);

impl Attributes {
    /// How long a read waits at most where it need not give anything: only where lines are not put together.
    pub(super) fn patience(&self) -> Option<Duration> {
        // In tenths of a second.
        let limit = Duration::from_millis(100 * u64::from(self.character(VTIME)));
        (!self.is_canonical() && self.character(VMIN) == 0).then_some(limit)
    }

    /// Whether a read that has a byte waits some time for each further one.
    pub(super) fn waits_between_bytes(&self) -> bool {
        !self.is_canonical() && self.character(VMIN) != 0 && self.character(VTIME) != 0
    }

    /// Whether lines are put together.
    fn is_canonical(&self) -> bool {
        self.0[offset_of!(termios, c_lflag)] & ICANON as u8 != 0
    }

    fn character(&self, index: u32) -> u8 {
        self.0[offset_of!(termios, c_cc) + index as usize]
    }

    /// These, with what the others say of the line.
    pub(super) fn with_line_of(mut self, others: &Self) -> Self {
        for part in [CONTROL, LINE] {
            self.0[part.0..part.1].copy_from_slice(&others.0[part.0..part.1]);
        }
        self
    }
}

pub(super) fn attributes(terminal: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut bytes = [0; size_of::<termios>()];
    // SAFETY: `TCGETS` writes one `struct termios`, which has as many bytes.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TCGETS, &raw mut bytes) })?;
    Ok(Attributes(bytes))
}

/// At once: what is being printed does not hold up the host.
pub(super) fn set_attributes(terminal: BorrowedFd<'_>, Attributes(bytes): &Attributes) -> io::Result<()> {
    // SAFETY: `TCSETS` reads one `struct termios`, which has as many bytes and in which any are valid.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TCSETS, &raw const *bytes) })
}

pub(super) fn window_size(terminal: BorrowedFd<'_>) -> io::Result<WindowSize> {
    let mut bytes = [0; size_of::<winsize>()];
    // SAFETY: `TIOCGWINSZ` writes one `struct winsize`, which has as many bytes.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut bytes) })?;
    Ok(WindowSize(bytes))
}

pub(super) fn drop_input(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `TCFLSH` takes a number, and no memory.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TCFLSH, libc::TCIFLUSH) })
}

/// How many bytes wait to be read.
pub(super) fn held(terminal: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: `FIONREAD` writes one `int`.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// What is about the line, from where to where.
const CONTROL: (usize, usize) = (offset_of!(termios, c_cflag), offset_of!(termios, c_lflag));
const LINE: (usize, usize) = (offset_of!(termios, c_line), offset_of!(termios, c_cc));

const _: () = assert!(ICANON <= u8::MAX as u32, "it is in the first byte of its flags");
