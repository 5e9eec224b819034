//! A warm call allocates nothing on the host beyond its values, and a warm restore nothing. The tests have a process of their own,
//! whose allocations they count.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ampoule_tests::calls_sandbox;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_call_allocates_nothing_beyond_its_values() {
    let mut sandbox = calls_sandbox();
    let count = sandbox.typed_fn::<(u32,), u32>("count_on_host").unwrap();
    let make = sandbox.typed_fn::<(u32,), Vec<u8>>("make_bytes").unwrap();
    let print = sandbox.typed_fn::<(u32,), ()>("print_lines").unwrap();
    for _ in 0..3 {
        print.call(&mut sandbox, (50,)).unwrap();
        count.call(&mut sandbox, (2,)).unwrap();
        sandbox.call::<u32>("divide", (6u32, 3u32)).unwrap();
    }

    assert_eq!(allocations(&mut || assert_eq!(count.call(&mut sandbox, (5,)).unwrap(), 5)), 0);
    assert_eq!(allocations(&mut || assert_eq!(sandbox.call::<u32>("divide", (6u32, 3u32)).unwrap(), 2)), 0);
    assert_eq!(allocations(&mut || print.call(&mut sandbox, (50,)).unwrap()), 0);
    assert_eq!(allocations(&mut || drop(make.call(&mut sandbox, (1000,)).unwrap())), 1, "the result itself");
}

#[test]
fn a_warm_restore_allocates_nothing() {
    let mut sandbox = calls_sandbox();
    let print = sandbox.typed_fn::<(u32,), ()>("print_lines").unwrap();
    let snapshot = sandbox.snapshot().unwrap();
    let mut turn = || {
        print.call(&mut sandbox, (50,)).unwrap();
        allocations(&mut || sandbox.restore(&snapshot).unwrap())
    };
    for _ in 0..3 {
        turn();
    }
    assert_eq!((0..20).map(|_| turn()).sum::<usize>(), 0);
}

/// How many allocations of this thread something makes.
fn allocations(action: &mut dyn FnMut()) -> usize {
    let before = ALLOCATIONS.get();
    action();
    ALLOCATIONS.get() - before
}
