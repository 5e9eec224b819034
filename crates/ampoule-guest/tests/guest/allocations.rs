//! The way of a call through this library takes no memory, and what the program takes is reported to a host that asks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use ampoule_abi::layout::{AllocationRecord, InfoPage, OutputKind, RECORD_ALLOCATIONS};
use ampoule_guest::{HostError, Profiled, export, generation, import, on_restore};

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

/// Allocates a block, gives it another size, and frees it: where it was before and after.
#[export]
fn use_block() -> (u64, u64) {
    let layout = Layout::new::<[u64; 4]>();
    // SAFETY: the layouts are those of the block, which is used no more once it is freed.
    unsafe {
        let first = std::alloc::alloc(layout);
        let second = std::alloc::realloc(first, layout, 4000);
        let addresses = (first as u64, second as u64);
        std::alloc::dealloc(black_box(second), Layout::new::<[u64; 500]>());
        addresses
    }
}

/// What a record says: address, size, and how many callers it has. A block that is freed has neither size nor callers.
fn take_allocations(host: &mut FakeHost) -> Vec<(u64, u64, usize)> {
    let allocation = |(kind, content): (OutputKind, Vec<u8>)| {
        assert_eq!(kind, OutputKind::Allocation);
        match AllocationRecord::from_bytes(&content).expect("a record") {
            AllocationRecord::Allocated { address, size, callers } => (address, size, callers.addresses().len()),
            AllocationRecord::Freed { address } => (address, 0, 0),
        }
    };
    host.take_records().into_iter().map(allocation).collect()
}

#[test]
fn allocations_are_recorded_in_calls_that_ask_for_it_and_in_no_others() {
    let mut host = FakeHost::start();
    host.call("use_block", |_| ()).result::<(u64, u64)>();
    assert_eq!(take_allocations(&mut host), []);
    host.ask(RECORD_ALLOCATIONS);
    let (first, second) = host.call("use_block", |_| ()).result();
    let records = take_allocations(&mut host);
    let expected = [(first, 32), (first, 0), (second, 4000), (second, 0)];
    assert_eq!(records.iter().map(|(address, size, _)| (*address, *size)).collect::<Vec<_>>(), expected);
    // At least the function, its shim, and what serves calls.
    assert!(records.iter().all(|(_, size, callers)| (*callers > 3) == (*size > 0)), "{records:?}");
    host.ask(0);
    host.call("use_block", |_| ()).result::<(u64, u64)>();
    assert_eq!(take_allocations(&mut host), []);
}

#[test]
fn a_host_can_ask_for_the_allocations_of_the_guests_start() {
    let prepare = || drop(black_box(vec![0u8; 777]));
    let sizes = |host: &mut FakeHost| take_allocations(host).into_iter().filter(|record| record.1 == 777).count();
    let mut host = FakeHost::start_asking(InfoPage::ALLOCATION_MINOR, RECORD_ALLOCATIONS, prepare);
    assert_eq!(sizes(&mut host), 1);
    // In the page of an older host there is something else.
    let mut host = FakeHost::start_asking(InfoPage::ALLOCATION_MINOR - 1, RECORD_ALLOCATIONS, prepare);
    assert_eq!(sizes(&mut host), 0);
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
static ALLOCATOR: Profiled<Counting> = Profiled::new(Counting);

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}
