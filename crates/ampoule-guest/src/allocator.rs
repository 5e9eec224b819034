//! The allocator of a guest whose memory can be profiled.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::rt::allocations;

/// An allocator that reports to the host what it allocates, for as long as the host profiles the guest's memory
/// (`ampoule::Sandbox::profile_memory`).
///
/// [`main!`](crate::main!) makes one the program's allocator, over the system's. A program with an allocator of its own says so
/// to the macro, and puts it into one of these:
///
/// ```
/// # use std::alloc::System as MyAllocator;
/// use ampoule_guest::Profiled;
///
/// #[global_allocator]
/// static ALLOCATOR: Profiled<MyAllocator> = Profiled::new(MyAllocator);
///
/// ampoule_guest::main!(own_allocator);
/// ```
///
/// While the memory is not profiled, it costs a load and a branch for each allocation. While it is, each one takes the time to
/// walk up the stack, by the program's unwind tables and on the program's own stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Profiled<A = System> {
    allocator: A,
}

impl<A> Profiled<A> {
    /// One that has `allocator` do the work.
    pub const fn new(allocator: A) -> Self {
        Self { allocator }
    }
}

// SAFETY: blocks are the allocator's own, and so is what it promises. What is reported of them is never read back.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Profiled<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let block = unsafe { self.allocator.alloc(layout) };
        if allocations::are_recorded() {
            allocations::allocated(block, layout.size());
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let block = unsafe { self.allocator.alloc_zeroed(layout) };
        if allocations::are_recorded() {
            allocations::allocated(block, layout.size());
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if allocations::are_recorded() {
            allocations::freed(block);
        }
        // SAFETY: as the caller promises.
        unsafe { self.allocator.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        let grown = unsafe { self.allocator.realloc(block, layout, size) };
        if allocations::are_recorded() {
            allocations::reallocated(block, grown, size);
        }
        grown
    }
}
