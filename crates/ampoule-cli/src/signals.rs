//! The signals of the terminal, passed on to the program that it is lent to.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread;

use ampoule::{InterruptHandle, TerminalHandle, TerminalSignal};

/// Signals that wait to be taken by whoever [passes them on](Self::pass_on), in this thread and those that it makes.
pub(crate) struct HeldSignals(libc::sigset_t);

impl HeldSignals {
    /// Holds the signals by which a terminal tells its programs something, and those that end a process that could not put the
    /// terminal's settings back then.
    pub(crate) fn new() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` fills the set.
        let mut set: libc::sigset_t = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGWINCH, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: the set is one, and the number that of a signal.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        // SAFETY: the set is one, and what was blocked before is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) } {
            0 => Ok(Self(set)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Passes them on to a program from now on, until this process ends.
    pub(crate) fn pass_on(self, terminal: TerminalHandle, program: InterruptHandle) -> io::Result<()> {
        let pass_on = move || {
            loop {
                match self.take() {
                    libc::SIGINT => terminal.send(TerminalSignal::Interrupt),
                    libc::SIGQUIT => terminal.send(TerminalSignal::Quit),
                    libc::SIGWINCH => terminal.send(TerminalSignal::Resized),
                    _ => drop(program.kill()),
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(pass_on).map(drop)
    }

    /// Waits for the next one.
    fn take(&self) -> libc::c_int {
        let mut signal = 0;
        loop {
            // SAFETY: reads the set, and writes one number.
            if unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } == 0 {
                return signal;
            }
        }
    }
}
