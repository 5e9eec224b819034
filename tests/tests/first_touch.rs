//! What the first writes to memory cost a guest, in exits and in memory of the host.

use ampoule::Sandbox;
use ampoule_tests::memory_sandbox;

#[test]
fn memory_that_is_written_from_end_to_end_is_fresh_and_costs_a_page_a_page() {
    let mut sandbox = memory_sandbox();
    let snapshot = sandbox.snapshot().unwrap();
    for mut sandbox in [sandbox, snapshot.spawn().unwrap()] {
        let before = owned_pages(&mut sandbox);
        for _ in 0..3 {
            assert_eq!(sandbox.call::<u64>("fill", (FAR, MANY, 1_u8)).unwrap(), 0, "pages that were not zero");
            assert_eq!(sandbox.call::<u64>("count_others", (FAR, MANY, 1_u8)).unwrap(), 0);
            let owned = owned_pages(&mut sandbox) - before;
            assert!((MANY..=MANY + FEW).contains(&owned), "{owned} pages for {MANY}");
            sandbox.reset().unwrap();
        }
    }
}

#[test]
fn a_guest_that_stops_half_way_owns_little_more_than_it_has_written() {
    for written in [100, 448, 1000, 3000] {
        let mut sandbox = memory_sandbox();
        sandbox.call::<()>("map", (FAR, MANY, READ_WRITE)).unwrap();
        let before = owned_pages(&mut sandbox);
        sandbox.call::<()>("touch_again", (FAR, written, 1_u8)).unwrap();
        let most = if written < LEAST_LISTED { written } else { 2 * written + HUGE_PAGE };
        let owned = owned_pages(&mut sandbox) - before;
        assert!((written..=most + FEW).contains(&owned), "{owned} pages for {written}");
        let dirty = sandbox.stats().unwrap().dirty_pages;
        assert!((written..=written + FEW).contains(&dirty), "{dirty} dirty pages for {written}");
    }
}

#[test]
fn a_guest_that_writes_here_and_there_owns_what_it_has_written() {
    const APART: u64 = 16;
    let mut sandbox = memory_sandbox();
    sandbox.call::<()>("map", (FAR, MANY, READ_WRITE)).unwrap();
    let before = owned_pages(&mut sandbox);
    // More than the hypervisor can list.
    for offset in [0, 2, 4, 6, 8] {
        for page in (0..MANY).step_by(APART as usize) {
            sandbox.call::<()>("probe_write", (FAR + (page + offset) * 4096, 1_u8)).unwrap();
        }
    }
    let owned = owned_pages(&mut sandbox) - before;
    let written = MANY / APART * 5;
    assert!((written..=written + FEW).contains(&owned), "{owned} pages for {written}");
}

#[test]
fn the_first_writes_to_many_pages_cost_an_exit_for_every_448_at_most() {
    let mut sandbox = memory_sandbox();
    sandbox.call::<()>("map", (FAR, MANY, READ_WRITE)).unwrap();
    let mut exits = || {
        let before = sandbox.stats().unwrap().exits;
        sandbox.call::<()>("touch_again", (FAR, MANY, 1_u8)).unwrap();
        sandbox.stats().unwrap().exits - before
    };
    let first = exits();
    assert!((2..=2 + MANY / LEAST_LISTED).contains(&first), "{first} exits");
    assert_eq!(exits(), 1);
}

/// Pages of memory that the sandbox has to itself.
fn owned_pages(sandbox: &mut Sandbox) -> u64 {
    sandbox.stats().unwrap().owned_bytes / 4096
}

/// For `mmap`.
const READ_WRITE: i32 = 3;

/// Where the guest maps nothing else.
const FAR: u64 = 0x10_0000_0000;

/// 16 MiB.
const MANY: u64 = 4096;

/// What a call writes beside that: its stack, its messages.
const FEW: u64 = 24;

/// A guest writes this many pages at least before it leaves for them, as `docs/specification.md` says.
const LEAST_LISTED: u64 = 448;

/// 2 MiB.
const HUGE_PAGE: u64 = 512;
