//! The way of a call through this library takes no memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ampoule_guest::{HostError, export, generation, import, on_restore};

use crate::fake_host::{FIRST_GENERATION, FakeHost};

#[import]
fn double(value: u32) -> Result<u32, HostError>;

#[export]
fn sum_of_doubles(left: u32, text: &str) -> Result<u64, HostError> {
    Ok(u64::from(double(left)?) + text.len() as u64)
}

#[export]
fn allocations() -> u64 {
    ALLOCATIONS.get()
}

#[test]
fn a_call_with_a_host_call_allocates_nothing() {
    let mut host = FakeHost::start();
    let before: u64 = host.call("allocations", |_| ()).result();
    for _ in 0..3 {
        host.begin_call("sum_of_doubles", |arguments| {
            arguments.value(&20u32).unwrap();
            arguments.value("ab").unwrap();
        });
        host.reply(&40u32);
        assert_eq!(host.answer().result::<u64>(), 42);
    }
    let after: u64 = host.call("allocations", |_| ()).result();
    assert_eq!(after - before, 0);
}

#[test]
fn a_call_that_runs_hooks_allocates_nothing() {
    let mut host = FakeHost::start_with(|| on_restore(|| assert_ne!(generation(), FIRST_GENERATION)));
    let before: u64 = host.call("allocations", |_| ()).result();
    host.change_generation();
    let after: u64 = host.call("allocations", |_| ()).result();
    assert_eq!(after - before, 0);
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}
