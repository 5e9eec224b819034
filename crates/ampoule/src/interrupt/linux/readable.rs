//! Waiting for a file, with a signal that can come only while the thread waits.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Whether reading from the file does not have to wait: there is something, or there will never be.
pub(crate) fn is_readable(file: BorrowedFd<'_>) -> bool {
    let mut wanted = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives until the call returns.
    unsafe { libc::poll(&mut wanted, 1, 0) > 0 }
}

/// Waits until the file is readable, or a signal comes that `mask` lets through: which of them is not said.
pub(in crate::interrupt) fn wait(file: BorrowedFd<'_>, mask: &libc::sigset_t) {
    let mut wanted = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry and a set of signals, which live until the call returns; without a time limit.
    unsafe { libc::ppoll(&mut wanted, 1, ptr::null(), mask) };
}
