//! The signal that takes a thread out of its guest.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// A thread that can be sent a signal whose handler does nothing, and is never removed.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Kick {
    process: libc::pid_t,
    thread: libc::pid_t,
}

impl Kick {
    /// For the calling thread, which can get the signal from now on.
    pub(crate) fn to_this_thread() -> io::Result<Kick> {
        install()?;
        // SAFETY: neither has preconditions.
        let (process, thread) = unsafe { (libc::getpid(), libc::gettid()) };
        Ok(Kick { process, thread })
    }

    /// Sends the signal. When the thread has ended, nothing happens.
    pub(crate) fn send(self) {
        // SAFETY: has no preconditions; the numbers are passed as they are.
        unsafe { libc::syscall(libc::SYS_tgkill, self.process, self.thread, number()) };
    }
}

/// Returns when all signals that were sent to this thread before have been handled.
pub(crate) fn handle_pending() {
    // SAFETY: has no preconditions. Signals are handled before a system call returns; which one does not matter.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

fn install() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = on_signal;
    // SAFETY: a `sigaction` of zeros is valid: an empty mask, no flags, the default disposition.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    let mut set = MaybeUninit::uninit();
    // SAFETY: the handler is of the kind that the flags say, does nothing, and lives as long as the process. `set` is
    // initialized by `sigemptyset` before it is used.
    let installed = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), number());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
        libc::sigaction(number(), &raw const action, ptr::null_mut())
    };
    if installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_signal(_: libc::c_int) {}

fn number() -> libc::c_int {
    libc::SIGRTMIN() + OFFSET
}

/// From `SIGRTMIN` on; a different one from that of the crate `ampoule`.
const OFFSET: libc::c_int = 9;
