//! Access to memory that may be lost: pages of a file that somebody may cut short.
//!
//! Whoever touches such a page by a pointer gets a signal. So the kernel copies, and reports what is not there. That takes a
//! system call; where a region can have no such pages ([`Region::sure_end`]), nothing of this is used.

use std::io;

use crate::address::PAGE_SIZE;
use crate::linux::uninterrupted::uninterrupted;

use super::{OutOfRegion, Region};

/// Copies the bytes at an address into `into`, and returns how many there were before the first that is lost.
///
/// # Safety
///
/// There is a mapping of this many bytes, into which no reference exists.
pub(super) unsafe fn read(from: *const u8, into: &mut [u8]) -> usize {
    copy(from.cast_mut(), into.as_mut_ptr(), into.len(), |this, ours, theirs| {
        // SAFETY: `ours` is the buffer that is lent. `theirs` is the caller's; what a guest changes at the same time is copied
        // torn at worst. The kernel checks every page of both.
        unsafe { libc::process_vm_readv(this, ours, 1, theirs, 1, 0) }
    })
}

/// Copies `from` to the bytes at an address, and returns how many there were before the first that is lost.
///
/// # Safety
///
/// As for [`read`]; the bytes are the caller's to write.
pub(super) unsafe fn write(to: *mut u8, from: &[u8]) -> usize {
    copy(to, from.as_ptr().cast_mut(), from.len(), |this, ours, theirs| {
        // SAFETY: the kernel only reads `ours`, which is lent. `theirs` is the caller's to write. It checks every page of both.
        unsafe { libc::process_vm_writev(this, ours, 1, theirs, 1, 0) }
    })
}

/// Whether the kernel copies for this process at all. Where it does not, all memory would pass for lost.
///
/// # Errors
///
/// The kernel's refusal, of a seccomp filter's for example.
pub(super) fn check() -> io::Result<()> {
    let (mut byte, mut copy) = ([1], [0]);
    let there = byte.as_mut_ptr();
    // SAFETY: it is a byte of this function's, to which no other reference is used meanwhile.
    let is_copied = unsafe { read(there, &mut copy) == 1 && write(there, &copy) == 1 };
    if is_copied { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets the kernel copy as long as it copies anything.
fn copy(
    there: *mut u8,
    here: *mut u8,
    len: usize,
    transfer: impl Fn(libc::pid_t, *const libc::iovec, *const libc::iovec) -> libc::ssize_t,
) -> usize {
    // SAFETY: the call has no preconditions.
    let this = unsafe { libc::getpid() };
    let mut done = 0;
    while done < len {
        let ours = libc::iovec { iov_base: here.wrapping_add(done).cast(), iov_len: len - done };
        let theirs = libc::iovec { iov_base: there.wrapping_add(done).cast(), iov_len: len - done };
        let copied =
            uninterrupted(|| usize::try_from(transfer(this, &ours, &theirs)).map_err(|_| io::Error::last_os_error()));
        match copied {
            Ok(copied @ 1..) => done += copied,
            Ok(0) | Err(_) => break,
        }
    }
    done
}

/// The accesses of a region to bytes that it may have lost. Those that it has lost read as zeros, and what is written to them is
/// gone: whoever has cut the file short has changed what is in the guest, and the guest ends when it touches them itself.
impl Region {
    #[cold]
    pub(super) fn read_carefully(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRegion> {
        let from = self.bounded(offset, into.len())?;
        let mut done = 0;
        while done < into.len() {
            // SAFETY: `bounded` returned the start of this many mapped bytes; there is no reference into a region.
            done += unsafe { read(from.wrapping_add(done), &mut into[done..]) };
            let lost = done..page_end(offset, done, into.len());
            into[lost.clone()].fill(0);
            done = lost.end;
        }
        Ok(())
    }

    /// To be called while the region's lock is held for writing to it.
    #[cold]
    pub(super) fn write_carefully(&self, offset: usize, from: &[u8]) -> Result<(), OutOfRegion> {
        let to = self.bounded(offset, from.len())?;
        let mut done = 0;
        while done < from.len() {
            // SAFETY: as above; the bytes are writable as long as the caller holds the lock.
            done += unsafe { write(to.wrapping_add(done), &from[done..]) };
            done = page_end(offset, done, from.len());
        }
        Ok(())
    }

    /// As [`write_carefully`](Self::write_carefully), of zeros.
    #[cold]
    pub(super) fn zero_carefully(&self, offset: usize, len: usize) -> Result<(), OutOfRegion> {
        self.bounded(offset, len)?;
        (0..len)
            .step_by(PAGE_SIZE)
            .try_for_each(|at| self.write_carefully(offset + at, &ZEROS[..PAGE_SIZE.min(len - at)]))
    }
}

/// Where the page ends that holds the byte `at` of an access, or the access.
fn page_end(offset: usize, at: usize, len: usize) -> usize {
    if at == len { len } else { ((offset + at + 1).next_multiple_of(PAGE_SIZE) - offset).min(len) }
}

static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
