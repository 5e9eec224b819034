//! What the program allocates: records in the output area, while the host asks for them (`docs/abi.md`, section 4, "Allocation
//! records").
//!
//! This runs within the allocator. So it takes no memory from it, and whatever is called here has to do without, too.

mod callers;

use std::cell::Cell;

use ampoule_abi::layout::{
    ALLOCATION_HEADER_LEN, AllocationHeader, AllocationKind, CALLERS_MISSING, MAX_CALLERS, OutputKind,
    RECORD_ALLOCATIONS,
};

use super::mailbox::Mailbox;

/// Whether the host asks for records of this thread.
#[inline]
pub(crate) fn are_recorded() -> bool {
    ARE_RECORDED.get()
}

/// Takes note of what the host asks for.
pub(super) fn set_asked(asked: u32) {
    ARE_RECORDED.set(asked & RECORD_ALLOCATIONS != 0);
}

/// Records a block that was allocated, unless there was no memory for it.
#[cold]
#[inline(never)]
pub(crate) fn allocated(block: *const u8, size: usize) {
    let Some(mailbox) = Mailbox::current().filter(|_| !block.is_null()) else { return };
    let mut content = [0; LONGEST];
    let (start, rest) = content.split_at_mut(ALLOCATION_HEADER_LEN);
    let (room, _) = rest.as_chunks_mut();
    let callers = callers::find(room, mailbox.stack_base());
    let header = AllocationHeader {
        kind: AllocationKind::Allocated as u32,
        flags: if callers.are_missing { CALLERS_MISSING } else { 0 },
        address: block.addr() as u64,
        size: size as u64,
    };
    start.copy_from_slice(&header.to_bytes());
    put(&content[..ALLOCATION_HEADER_LEN + CALLER_LEN * callers.count]);
}

/// Records a block that is being freed.
#[cold]
#[inline(never)]
pub(crate) fn freed(block: *const u8) {
    let address = block.addr() as u64;
    let header = AllocationHeader { kind: AllocationKind::Freed as u32, address, ..AllocationHeader::default() };
    put(&header.to_bytes());
}

/// Records a block that has become another one, unless there was no memory for that.
#[cold]
#[inline(never)]
pub(crate) fn reallocated(before: *const u8, block: *const u8, size: usize) {
    if !block.is_null() {
        freed(before);
        allocated(block, size);
    }
}

/// Puts a record into the output area.
fn put(content: &[u8]) {
    if let Some(area) = Mailbox::current().and_then(Mailbox::output) {
        // The area of a host that asks has room for the longest record once it has taken what waits.
        area.append_or_wait(OutputKind::Allocation, content);
    }
}

thread_local! {
    /// Needs neither code to set it up nor a destructor, both of which might allocate.
    static ARE_RECORDED: Cell<bool> = const { Cell::new(false) };
}

/// Bytes of a return address in a record.
const CALLER_LEN: usize = 8;

/// Bytes of the longest content of a record.
const LONGEST: usize = ALLOCATION_HEADER_LEN + CALLER_LEN * MAX_CALLERS;
