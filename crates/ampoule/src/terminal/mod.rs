//! Terminals of the host that are lent to programs.

mod linux;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use linux_raw_sys::general::{SIGINT, SIGQUIT, SIGWINCH};

use crate::interrupt::{Reason, TakeOut};

pub(crate) use linux::{Attributes, WindowSize};

/// A terminal of the host that is lent to a program; see [`Program::terminal`](crate::Program::terminal).
///
/// The program reads what is typed, and what it prints reaches the terminal as it is, so that an editor, a pager or the prompt of
/// an interpreter works. It learns the size of the window, and changes how the terminal treats lines, echo and control
/// characters, as far as that is not about the line to the host. When this is dropped and the program is gone, the terminal has
/// the settings back that it had before, and what was typed and not read is dropped.
///
/// # What that grants
///
/// A terminal obeys escape sequences, and so whatever a program prints. It can clear the screen, imitate a shell, change the
/// title, with some terminals set the clipboard, and make the terminal answer as if the user had typed. So lend one only where
/// the user knows that what is on the screen is the program's. Nothing else of the host is reached by it: the program cannot put
/// anything into the terminal's input (`TIOCSTI`), and knows no other processes of its session.
pub struct Terminal(Arc<Lent>);

/// Tells the program of a [`Terminal`] what its user wants of it, from any thread; made by [`Terminal::handle`].
#[derive(Clone, Debug)]
pub struct TerminalHandle(Arc<Signals>);

/// What a terminal tells a program by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TerminalSignal {
    /// The user interrupts it, by Ctrl+C as a rule (`SIGINT`).
    Interrupt,
    /// The user wants it to quit, by Ctrl+\ as a rule (`SIGQUIT`).
    Quit,
    /// The window has another size (`SIGWINCH`).
    Resized,
}

#[derive(Debug)]
struct Lent {
    file: File,
    before: Attributes,
    signals: Arc<Signals>,
}

#[derive(Debug, Default)]
struct Signals {
    /// Those that the program has not been sent yet, as a set of bits: one for each, by its number minus one.
    sent: AtomicU32,
    /// What makes the program notice them.
    take_out: OnceLock<TakeOut>,
}

impl Terminal {
    /// A terminal that is open for reading and writing.
    ///
    /// # Errors
    /// What the system reports where it is none (`ENOTTY`).
    pub fn new(file: impl Into<OwnedFd>) -> io::Result<Self> {
        let file = File::from(file.into());
        let before = linux::attributes(file.as_fd())?;
        Ok(Self(Arc::new(Lent { file, before, signals: Arc::default() })))
    }

    /// The terminal that is the standard input of this process.
    ///
    /// # Errors
    /// What the system reports where it is none (`ENOTTY`), or where it cannot be duplicated.
    pub fn inherit() -> io::Result<Self> {
        Self::new(io::stdin().as_fd().try_clone_to_owned()?)
    }

    /// A handle by which the program is sent the terminal's signals. The system sends them to the processes of the host that
    /// belong to the terminal, so whoever is to pass them on catches them there.
    pub fn handle(&self) -> TerminalHandle {
        TerminalHandle(Arc::clone(&self.0.signals))
    }

    /// The same terminal for another who uses it for the same program.
    pub(crate) fn shared(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// What takes the program out that is about to use it.
    pub(crate) fn used_by(&self, take_out: TakeOut) {
        // A terminal is lent once.
        let _ = self.0.signals.take_out.set(take_out);
    }

    /// Takes the signals that were sent since the last time, as a set of bits.
    #[inline]
    pub(crate) fn take_signals(&self) -> u32 {
        let sent = &self.0.signals.sent;
        if sent.load(Ordering::Relaxed) == 0 { 0 } else { sent.swap(0, Ordering::Relaxed) }
    }

    /// How it treats what is typed and printed.
    pub(crate) fn attributes(&self) -> io::Result<Attributes> {
        linux::attributes(self.as_fd())
    }

    /// Changes that, but for what is about the line to the terminal: its speed and its bits.
    pub(crate) fn set_attributes(&self, wanted: &Attributes) -> io::Result<()> {
        linux::set_attributes(self.as_fd(), &wanted.with_line_of(&self.attributes()?))
    }

    /// How long a read waits at most that finds nothing, where it does not wait for anything to come.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.attributes().ok()?.patience()
    }

    pub(crate) fn window_size(&self) -> io::Result<WindowSize> {
        linux::window_size(self.as_fd())
    }

    /// Drops what was typed and not read.
    pub(crate) fn drop_input(&self) -> io::Result<()> {
        linux::drop_input(self.as_fd())
    }

    /// How many bytes can be read at once; one at least where a read does not wait, since it may give the end.
    pub(crate) fn held(&self) -> usize {
        let is_readable = crate::interrupt::is_readable(self.as_fd());
        if is_readable { linux::held(self.as_fd()).unwrap_or(0).max(1) } else { 0 }
    }
}

impl TerminalHandle {
    /// Sends the program a signal: at once where it runs or waits, and otherwise when it next does. A program that has no handler
    /// dies by an interrupt and by a quit.
    pub fn send(&self, signal: TerminalSignal) {
        let number = match signal {
            TerminalSignal::Interrupt => SIGINT,
            TerminalSignal::Quit => SIGQUIT,
            TerminalSignal::Resized => SIGWINCH,
        };
        self.0.sent.fetch_or(1 << (number - 1), Ordering::Relaxed);
        if let Some(take_out) = self.0.take_out.get() {
            take_out.now(Reason::BreakIn);
        }
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }
}

impl Read for Terminal {
    /// Takes what is there. A terminal that has a time between bytes would wait for more of them, which nothing could end.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let waits_between_bytes = self.attributes().is_ok_and(|attributes| attributes.waits_between_bytes());
        let most = if waits_between_bytes { into.len().min(self.held()) } else { into.len() };
        (&self.0.file).read(&mut into[..most])
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0.file).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Terminal").field(&self.0.file).finish()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Where it is gone, nobody misses anything.
        let _ = linux::drop_input(self.file.as_fd());
        let _ = linux::set_attributes(self.file.as_fd(), &self.before);
    }
}
