//! Pages that an application owns and can let guests see.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::slice;

use crate::address::PAGE_SIZE;
use crate::linux::advice::named;
use crate::linux::uninterrupted::uninterrupted;

use super::frozen::create_file;

/// Bytes in a file without a name, which nobody but the owner changes: guests see the [file](Self::file) through private
/// mappings.
#[derive(Debug)]
pub struct OwnedPages {
    file: File,
    view: NonNull<u8>,
    /// How many bytes are the owner's. Behind them are zeros up to the end of the page.
    len: usize,
}

impl OwnedPages {
    /// `len` bytes that are zero.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for none, and for more than can be mapped; what the host reports when it has no memory or descriptor for
    /// them.
    pub fn new(len: usize) -> io::Result<OwnedPages> {
        let whole = len.checked_next_multiple_of(PAGE_SIZE).filter(|whole| (1..=MAX_LEN).contains(whole));
        let whole = whole.ok_or(io::ErrorKind::InvalidInput)?;
        let file = create_file(whole, Ok)?;
        let sealed = uninterrupted(|| {
            let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
            // SAFETY: the descriptor is open; the call touches no memory of this process.
            let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
            if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
        named("fcntl", sealed)?;
        let view = uninterrupted(|| {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
            let view = unsafe { libc::mmap(ptr::null_mut(), whole, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
            if view == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(view) }
        })?;
        let view = NonNull::new(view.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(OwnedPages { file: file.into(), view, len })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self` and has these bytes, since the seals keep the file's size. Nobody writes
        // them while `self` is borrowed: nobody else has a descriptor of the file that is not only mapped privately.
        unsafe { slice::from_raw_parts(self.view.as_ptr(), self.len) }
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`; the borrow is the only one. Guests that see the file have no reference that Rust knows of.
        unsafe { slice::from_raw_parts_mut(self.view.as_ptr(), self.len) }
    }

    /// The file, to be mapped privately and not to be written.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for OwnedPages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, exactly this long, and no borrow of it is left.
        unsafe { libc::munmap(self.view.as_ptr().cast(), self.len.next_multiple_of(PAGE_SIZE)) };
    }
}

// SAFETY: the mapping belongs to no thread, and is accessed through borrows of `self` only.
unsafe impl Send for OwnedPages {}
// SAFETY: as above.
unsafe impl Sync for OwnedPages {}

/// As for a guest's memory.
const MAX_LEN: usize = 1 << 46;
