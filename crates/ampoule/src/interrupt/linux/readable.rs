//! Waiting for a file, with a signal that can come only while the thread waits.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// Whether reading from the file does not have to wait: there is something, or there will never be.
pub(crate) fn is_readable(file: BorrowedFd<'_>) -> bool {
    let mut wanted = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives until the call returns.
    unsafe { libc::poll(&mut wanted, 1, 0) > 0 }
}

/// Waits until the file is readable, a signal comes that `mask` lets through, or so much time has passed: which of them is not
/// said.
pub(in crate::interrupt) fn wait(file: BorrowedFd<'_>, mask: &libc::sigset_t, limit: Option<Duration>) {
    let mut wanted = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs().min(LONGEST) as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: one entry, a set of signals and a time limit or none, which live until the call returns.
    unsafe { libc::ppoll(&mut wanted, 1, limit, mask) };
}

/// The longest wait, in seconds: a hundred years.
const LONGEST: u64 = 100 * 365 * 86_400;
