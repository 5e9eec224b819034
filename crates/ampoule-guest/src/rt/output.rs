//! Printed text, log records and allocation records: they wait in the output area until the guest leaves the processor anyway (`docs/abi.md`,
//! section 4).
//!
//! Whatever `std` prints ends in the C library's function `write`, and what C's streams print (`printf`) in that function by
//! its other name. This module defines both in place of the C library's, which the linker leaves out: they put text for the
//! two standard streams into the area, if there is room, and make the system call otherwise. The host takes what waits before
//! it serves a system call, so all text arrives in the order in which it was written, whichever way it went.
//!
//! What differs from the system call: text for a descriptor that was closed is lost without an error, and an address that
//! cannot be read is a fault. What `writev` writes, and the streams of a C library that has no such names (musl), goes by
//! system calls as before.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use ampoule_abi::layout::{OUTPUT_HEADER_LEN, OutputHeader, OutputKind, OutputStream, PRINTED_OFFSET};

use super::held_text::{self, HeldText};
use super::mailbox::Mailbox;

/// The output area of a mailbox.
#[derive(Debug)]
pub(super) struct OutputArea {
    start: *mut u8,
    len: usize,
    /// How many bytes from the start hold records. The host makes it 0 while the guest is in the doorbell or in a system call,
    /// and at no other time.
    printed: &'static AtomicU32,
}

impl OutputArea {
    /// The area of `len` bytes at `start`, for whose records the line at `guest_line` has the number.
    ///
    /// # Safety
    ///
    /// Both are as `docs/abi.md` defines them, exist as long as the program, and are used by nothing else in it, except that
    /// messages are written into the line.
    pub(super) unsafe fn new(start: u64, len: u64, guest_line: u64) -> Self {
        let printed = ptr::with_exposed_provenance_mut::<u32>(guest_line as usize + PRINTED_OFFSET);
        Self {
            start: ptr::with_exposed_provenance_mut(start as usize),
            len: len as usize,
            // SAFETY: the number is aligned, as the line is, and part of no message. The caller promises that nothing else
            // touches it but the host.
            printed: unsafe { AtomicU32::from_ptr(printed) },
        }
    }

    /// Appends a record, after the host has taken what waits if there is no room for it otherwise: whether it has room.
    pub(super) fn append_or_wait(&self, kind: OutputKind, content: &[u8]) -> bool {
        // SAFETY: the slice can be read.
        let append = || unsafe { self.append(kind, content.as_ptr(), content.len()) };
        if append() {
            return true;
        }
        if OUTPUT_HEADER_LEN + content.len() > self.len {
            return false;
        }
        // SAFETY: this system call has no arguments, and touches no memory.
        unsafe { libc::syscall(libc::SYS_getpid) };
        append()
    }

    /// Appends a record, if there is room for it.
    ///
    /// # Safety
    ///
    /// `count` bytes at `content` can be read.
    unsafe fn append(&self, kind: OutputKind, content: *const u8, count: usize) -> bool {
        let used = self.printed.load(Ordering::Relaxed) as usize;
        let (Ok(length), Some(room)) = (u16::try_from(count), self.len.checked_sub(used)) else {
            return false;
        };
        if OUTPUT_HEADER_LEN + count > room {
            return false;
        }
        let header = OutputHeader { stream: kind.number(), length };
        // SAFETY: the record ends within the area, which nothing else in this program uses, so that the content is not part of
        // it. The caller promises that the content can be read.
        unsafe {
            let record = self.start.add(used);
            record.cast::<[u8; OUTPUT_HEADER_LEN]>().write(header.to_bytes());
            ptr::copy_nonoverlapping(content, record.add(OUTPUT_HEADER_LEN), count);
        }
        // Comes last: a guest that is stopped before has printed nothing of this.
        self.printed.store((used + OUTPUT_HEADER_LEN + count) as u32, Ordering::Release);
        true
    }
}

/// Prints what the program's standard output holds back in memory: the start of a line in Rust's, a whole block in C's. The
/// host would find it in front of what a later call prints, and a restore would take it away. Where nothing is held back, this
/// writes no memory.
pub(super) fn flush(held: &HeldText) {
    held.flush();
    // SAFETY: the C library has made the stream, and lets everyone read how much it holds back. The program has one thread,
    // which is not within a function of the stream.
    unsafe {
        if __fpending(stdout) > 0 {
            libc::fflush(stdout);
        }
    }
}

unsafe extern "C" {
    /// C's standard output.
    static stdout: *mut libc::FILE;

    /// How many bytes a stream holds back (`stdio_ext.h`).
    fn __fpending(stream: *mut libc::FILE) -> usize;
}

/// The C library's `write`.
///
/// # Safety
///
/// As for the C library's: `count` bytes at `text` can be read.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, text: *const c_void, count: usize) -> isize {
    if held_text::is_trial() {
        return count as isize;
    }
    if let Some(area) = Mailbox::current().and_then(Mailbox::output)
        && let Some(stream) = standard_stream(descriptor)
        // SAFETY: as the caller promises.
        && unsafe { area.append(OutputKind::Text(stream), text.cast(), count) }
    {
        return count as isize;
    }
    // SAFETY: as the caller promises; the system call takes these arguments, and sets `errno` where it fails.
    unsafe { libc::syscall(libc::SYS_write, descriptor, text, count) as isize }
}

/// The GNU C library's own name of `write`, by which its streams call it.
///
/// # Safety
///
/// As for `write`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __write(descriptor: c_int, text: *const c_void, count: usize) -> isize {
    // SAFETY: as the caller promises.
    unsafe { write(descriptor, text, count) }
}

fn standard_stream(descriptor: c_int) -> Option<OutputStream> {
    u16::try_from(descriptor).ok().and_then(OutputStream::from_u16)
}
