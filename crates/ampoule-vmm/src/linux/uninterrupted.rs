//! Calls into the kernel that have to succeed although a signal makes them fail, and work that no signal may interrupt.
//!
//! The kernel refuses to create a virtual machine, among other things, as long as a signal is pending for the thread. One
//! that comes at each attempt would keep it from succeeding forever, so only the first attempt is left open to signals.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Calls until the answer is another than that a signal came in. From the second attempt on signals wait until it is over.
pub(crate) fn uninterrupted<T, E: Answer>(mut call: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let first = call();
    if !is_interruption(&first) {
        return first;
    }
    without_signals(|| {
        loop {
            // What still makes the kernel stop, a debugger for example, is over when the call returns.
            let answer = call();
            if !is_interruption(&answer) {
                return answer;
            }
        }
    })
}

/// Works with all signals kept from this thread. A handler that was kept waiting runs when the work is over.
pub(crate) fn without_signals<T>(work: impl FnOnce() -> T) -> T {
    let _blocked = SignalsBlocked::new();
    work()
}

/// An error of the kernel's.
pub(crate) trait Answer {
    fn errno(&self) -> Option<i32>;
}

impl Answer for io::Error {
    fn errno(&self) -> Option<i32> {
        self.raw_os_error()
    }
}

impl Answer for kvm_ioctls::Error {
    fn errno(&self) -> Option<i32> {
        Some(kvm_ioctls::Error::errno(*self))
    }
}

fn is_interruption<T, E: Answer>(answer: &Result<T, E>) -> bool {
    answer.as_ref().is_err_and(|error| error.errno() == Some(libc::EINTR))
}

/// Keeps signals from this thread until it is dropped.
struct SignalsBlocked {
    before: libc::sigset_t,
}

impl SignalsBlocked {
    fn new() -> SignalsBlocked {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: `sigfillset` initializes `all`, and `pthread_sigmask` `before`; it fails for an unknown first argument only.
        let before = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        SignalsBlocked { before }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that this thread had; the type is created and dropped in one function, so on one thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests;
