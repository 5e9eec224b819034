//! Performing an operation.

use std::io;

use ampoule_memory_model::{Action, Contents, LARGE_AREAS, Protection};
use libc::c_long;

use super::{State, write_stamp};
use crate::PAGE;

impl State {
    /// Performs an action, and makes the model do the same.
    pub(super) fn perform(&mut self, action: &Action) {
        let returned = match *action {
            Action::Map { span, protection, replace } => {
                let placement = if replace { libc::MAP_FIXED } else { libc::MAP_FIXED_NOREPLACE };
                map(self.address(span.first()), span.len(), protection, placement).map(drop)
            }
            Action::Unmap { span } => unmap(self.address(span.first()), span.len()),
            Action::Protect { span, protection } => {
                let (at, len) = (self.address(span.first()), bytes(span.len()));
                call(libc::SYS_mprotect, [at, len, bits(protection), 0, 0]).map(drop)
            }
            Action::Discard { span } => {
                let (at, len) = (self.address(span.first()), bytes(span.len()));
                call(libc::SYS_madvise, [at, len, libc::MADV_DONTNEED as u64, 0, 0]).map(drop)
            }
            Action::Move { from, to } => {
                let (at, target) = (self.address(from.first()), self.address(to.first()));
                let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
                call(libc::SYS_mremap, [at, bytes(from.len()), bytes(to.len()), flags, target]).map(drop)
            }
            Action::Resize { span, pages } => {
                call(libc::SYS_mremap, [self.address(span.first()), bytes(span.len()), bytes(pages), 0, 0]).map(drop)
            }
            Action::Float { window, pages, protection } => {
                map(0, pages, protection, 0).map(|at| self.addresses[window.0] = at)
            }
            Action::Sink { window } => {
                let at = std::mem::take(&mut self.addresses[window.0]);
                unmap(at, self.model.float_len(window))
            }
            Action::Stretch { window, pages } => {
                let (at, old) = (self.addresses[window.0], self.model.float_len(window));
                call(libc::SYS_mremap, [at, bytes(old), bytes(pages), libc::MREMAP_MAYMOVE as u64, 0])
                    .map(|at| self.addresses[window.0] = at)
            }
            Action::Write { place, stamp } => {
                let filler = self.page(place).contents.filler;
                write_stamp(self.address(place), Contents { stamp, filler });
                Ok(())
            }
            Action::Check { place } => {
                self.compare(self.address(place), self.page(place).contents, action);
                Ok(())
            }
            Action::Large { area, pages, protection, stamp } => self.map_large(area, pages, protection, stamp),
            Action::GrowHeap { stamp } => {
                let page = grow_heap(2).next_multiple_of(PAGE);
                self.heap.push(page);
                write_stamp(page, Contents { stamp, ..Contents::ZERO });
                Ok(())
            }
            Action::SwellHeap { pages, stamp } => self.swell_heap(pages, stamp),
        };
        let expected = self.model.apply(action).map_err(|error| error as i32);
        if returned != expected {
            self.differs(format!("{action:?} returned {returned:?} instead of {expected:?}"));
        }
    }

    fn map_large(&mut self, area: usize, pages: usize, protection: Protection, stamp: Option<u64>) -> Result<(), i32> {
        let at = LARGE_AREAS[area];
        map(at, pages, protection, libc::MAP_FIXED_NOREPLACE)?;
        if let Some(stamp) = stamp {
            for page in [0, pages / 2, pages - 1] {
                let page = at + bytes(page);
                self.compare(page, Contents::ZERO, &"a large mapping, when it is new");
                write_stamp(page, Contents { stamp, ..Contents::ZERO });
                self.compare(page, Contents { stamp, ..Contents::ZERO }, &"a large mapping");
            }
        }
        unmap(at, pages)
    }

    /// Nothing may be allocated in between, since the C library's heap lies there too.
    fn swell_heap(&mut self, pages: usize, stamp: u64) -> Result<(), i32> {
        let contents = Contents { stamp, ..Contents::ZERO };
        let page = grow_heap(pages as isize + 1).next_multiple_of(PAGE) + bytes(pages - 1);
        self.compare(page, Contents::ZERO, &"the heap, when it has grown");
        write_stamp(page, contents);
        self.compare(page, contents, &"the heap");
        grow_heap(-(pages as isize + 1));
        Ok(())
    }
}

fn map(at: u64, pages: usize, protection: Protection, placement: i32) -> Result<u64, i32> {
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | placement) as u64;
    call(libc::SYS_mmap, [at, bytes(pages), bits(protection), flags, u64::MAX])
}

fn unmap(at: u64, pages: usize) -> Result<(), i32> {
    call(libc::SYS_munmap, [at, bytes(pages), 0, 0, 0]).map(drop)
}

/// Moves the break by pages, and says where it was.
fn grow_heap(pages: isize) -> u64 {
    // SAFETY: the memory above the old break is new, and that below the new one is not what the allocator has.
    let at = unsafe { libc::sbrk(pages * PAGE as isize) };
    assert_ne!(at as usize, usize::MAX, "{}", io::Error::last_os_error());
    at as u64
}

/// A system call on memory that nothing but the model uses.
fn call(number: c_long, [one, two, three, four, five]: [u64; 5]) -> Result<u64, i32> {
    // SAFETY: no memory of the program lies in the windows, or anywhere else where the callers map and unmap.
    let result = unsafe { libc::syscall(number, one, two, three, four, five, 0) };
    if result == -1 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(-1)) } else { Ok(result as u64) }
}

fn bits(protection: Protection) -> u64 {
    let bits = match protection {
        Protection::None => libc::PROT_NONE,
        Protection::Read => libc::PROT_READ,
        Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        Protection::ReadExecute => libc::PROT_READ | libc::PROT_EXEC,
    };
    bits as u64
}

fn bytes(pages: usize) -> u64 {
    pages as u64 * PAGE
}
