//! Files that grow, under the process's limit of a file's size (`RLIMIT_FSIZE`, `ulimit -f`).
//!
//! Files without a name count, too. Beyond the limit the kernel does not only refuse: it sends the thread a signal that ends
//! the process where nobody handles it. An application whose sandbox takes a snapshot knows of no file, and a guest chooses how
//! much is to be saved. So the limit is looked at first, and a signal that comes all the same, because the limit was lowered in
//! the meantime, is kept from the application.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use super::advice::errno;

/// Makes a file grow to `len` bytes, by whatever `grow` does.
///
/// # Errors
///
/// A [`FileSizeLimit`], where the process has one that is less; otherwise what `grow` reports. No signal comes of either.
pub(crate) fn grow<T>(len: u64, grow: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    check(len)?;
    let signal = SignalWithheld::new();
    let result = grow();
    if let Err(error) = &result
        && errno(error) == Some(libc::EFBIG)
    {
        signal.consume();
        check(len)?;
    }
    result
}

/// A file would become larger than the process may make one.
#[derive(Debug, thiserror::Error)]
#[error("a file of {needed} bytes is needed, and the process may make files of {limit} bytes (RLIMIT_FSIZE)")]
pub(crate) struct FileSizeLimit {
    needed: u64,
    limit: u64,
}

fn check(needed: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is writable. Where the call is refused it stays as it is, and the kernel has the last word.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    let limit = limit.rlim_cur;
    if limit == libc::RLIM_INFINITY || needed <= limit {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, FileSizeLimit { needed, limit }))
}

/// Keeps the signal from this thread until it is dropped.
struct SignalWithheld {
    before: libc::sigset_t,
    was_pending: bool,
}

impl SignalWithheld {
    fn new() -> SignalWithheld {
        let signal = only_signal();
        let (mut before, mut pending) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: `pthread_sigmask` and `sigpending` initialize what they are given, and fail for no argument that they get here.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signal, before.as_mut_ptr());
            libc::sigpending(pending.as_mut_ptr());
            let was_pending = libc::sigismember(pending.as_ptr(), libc::SIGXFSZ) == 1;
            SignalWithheld { before: before.assume_init(), was_pending }
        }
    }

    /// Takes the signal that the kernel has just sent to this thread. One that was there before is the application's, and stands
    /// for both: of this signal no second one waits.
    fn consume(&self) {
        if !self.was_pending {
            let (signal, at_once) = (only_signal(), libc::timespec { tv_sec: 0, tv_nsec: 0 });
            // SAFETY: both live during the call, and nobody asks for details.
            unsafe { libc::sigtimedwait(&raw const signal, ptr::null_mut(), &raw const at_once) };
        }
    }
}

impl Drop for SignalWithheld {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that this thread had; the type is created and dropped in one function, so on one thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

fn only_signal() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initializes the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGXFSZ);
        set.assume_init()
    }
}

#[cfg(test)]
mod tests;
