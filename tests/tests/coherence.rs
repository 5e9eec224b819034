//! What a guest finds in memory is what it wrote there, and what it may do with a page is what it was granted, whatever was
//! mapped at the page's address earlier, even before a restore. The processor's translations, and those of a hypervisor that
//! keeps page tables of its own beside the guest's, follow what the host writes into the page tables.

use ampoule::{CallError, FaultAccess, FaultKind, FaultTarget, Pool, Sandbox, Termination};
use ampoule_tests::{memory_builder, memory_sandbox};

#[test]
fn memory_mapped_where_a_page_table_was_before_is_fresh() {
    let mut sandbox = memory_sandbox();
    for _ in 0..3 {
        assert_eq!(fill(&mut sandbox, X, b'A'), 0);
        sandbox.reset().unwrap();
        assert_two_buffers_are_two(&mut sandbox);
        sandbox.reset().unwrap();
    }
}

#[test]
fn memory_mapped_where_a_page_table_was_before_is_fresh_also_without_a_reset() {
    let mut sandbox = memory_sandbox();
    for _ in 0..3 {
        assert_eq!(fill(&mut sandbox, X, b'A'), 0);
        unmap(&mut sandbox, X);
        assert_two_buffers_are_two(&mut sandbox);
        unmap(&mut sandbox, X);
        unmap(&mut sandbox, Y);
    }
}

#[test]
fn memory_mapped_where_a_page_table_was_before_is_fresh_for_the_next_tenant_of_a_pool() {
    let pool = pool();
    for _ in 0..3 {
        assert_eq!(fill(&mut pool.take().unwrap(), X, b'A'), 0);
        assert_two_buffers_are_two(&mut pool.take().unwrap());
    }
    assert_eq!(pool.stats().replaced, 0, "it is always the same virtual machine");
}

#[test]
fn two_snapshots_with_different_tables_do_not_show_each_others_memory() {
    let mut sandbox = memory_sandbox();
    let mut snapshot_with = |at, value| {
        sandbox.reset().unwrap();
        assert_eq!(fill(&mut sandbox, at, value), 0);
        sandbox.snapshot().unwrap()
    };
    let snapshots = [(X, Y, b'X', snapshot_with(X, b'X')), (Y, X, b'Y', snapshot_with(Y, b'Y'))];
    for _ in 0..3 {
        for (at, other, value, snapshot) in &snapshots {
            sandbox.restore(snapshot).unwrap();
            assert_eq!(others(&mut sandbox, *at, *value), 0);
            for page in [0, PAGES / 2, PAGES - 1] {
                assert_page_fault(&mut sandbox, FaultAccess::Read, other + page * PAGE, FaultTarget::Unmapped);
                sandbox.restore(snapshot).unwrap();
            }
        }
    }
}

#[test]
fn buffers_that_are_mapped_wherever_there_is_room_do_not_share_memory() {
    let mut sandbox = memory_sandbox();
    for sizes in [[1_u64, 2], [3, 1], [2, 5], [4, 3], [9, 8], [1, 1]] {
        let found: (u64, u64) = sandbox.call("fill_anywhere", (&sizes[..],)).unwrap();
        assert_eq!(found, (0, 0), "pages not fresh, and pages changed by others, for buffers of {sizes:?} MiB");
        sandbox.reset().unwrap();
    }
}

#[test]
fn an_ordinary_program_finds_what_it_wrote() {
    const KIB: u64 = 1 << 10;
    let mut sandbox = memory_builder().memory_limit(256 << 20).build().unwrap();
    for (largest, rounds) in [(KIB, 400_u64), (4 * KIB, 200), (12 * KIB, 100)] {
        for seed in 1..4_u64 {
            let wrong: u64 = sandbox.call("use_the_heap", (seed, rounds, largest)).unwrap();
            assert_eq!(wrong, 0, "words were not found, in blocks of up to {largest} KiB, with seed {seed}");
            sandbox.reset().unwrap();
        }
    }
}

#[test]
fn memory_unmapped_by_a_reset_cannot_be_read_or_written() {
    let mut sandbox = memory_sandbox();
    for toggles in HOW_OFTEN {
        let leave_buffer = |sandbox: &mut Sandbox| {
            fill(sandbox, X, b'A');
            toggle(sandbox, X + PAGE, toggles);
        };
        for page in SOME_PAGES {
            for access in [FaultAccess::Read, FaultAccess::Write, FaultAccess::Execute] {
                leave_buffer(&mut sandbox);
                sandbox.reset().unwrap();
                assert_page_fault(&mut sandbox, access, X + page * PAGE, FaultTarget::Unmapped);
                sandbox.reset().unwrap();
            }
        }
    }
}

#[test]
fn memory_of_one_tenant_of_a_pool_cannot_be_read_or_written_by_the_next() {
    let pool = pool();
    for toggles in HOW_OFTEN {
        for page in SOME_PAGES {
            for access in [FaultAccess::Read, FaultAccess::Write] {
                let mut tenant = pool.take().unwrap();
                fill(&mut tenant, X, b'A');
                toggle(&mut tenant, X + PAGE, toggles);
                drop(tenant);
                assert_page_fault(&mut pool.take().unwrap(), access, X + page * PAGE, FaultTarget::Unmapped);
            }
        }
    }
    assert_eq!(pool.stats().replaced, 0, "it is always the same virtual machine");
}

#[test]
fn what_one_tenant_wrote_does_not_reach_the_buffers_of_the_next() {
    let pool = pool();
    for toggles in HOW_OFTEN {
        let mut tenant = pool.take().unwrap();
        fill(&mut tenant, X, b'A');
        toggle(&mut tenant, X + PAGE, toggles);
        drop(tenant);
        assert_two_buffers_are_two(&mut pool.take().unwrap());
    }
}

#[test]
fn code_that_was_writable_for_one_tenant_is_not_for_the_next() {
    let mut sandbox = memory_sandbox();
    let code: u64 = sandbox.call("code", ()).unwrap();
    let pool = pool();
    for toggles in HOW_OFTEN {
        for page in 0..4_u64 {
            let at = code + page * PAGE;
            sandbox.call::<()>("make_code_writable", (toggles,)).unwrap();
            sandbox.reset().unwrap();
            let replaced = sandbox.call::<u32>("replace_code", (page,)).map(drop);
            assert_is_page_fault(replaced, FaultAccess::Write, at, CODE);
            sandbox.reset().unwrap();

            pool.take().unwrap().call::<()>("make_code_writable", (toggles,)).unwrap();
            assert_page_fault(&mut pool.take().unwrap(), FaultAccess::Write, at, CODE);
        }
    }
}

#[test]
fn constants_that_were_writable_for_one_tenant_are_not_for_the_next() {
    let mut sandbox = memory_sandbox();
    let constants: u64 = sandbox.call("constants", ()).unwrap();
    let pool = pool();
    for toggles in HOW_OFTEN {
        for page in 0..6 {
            let at = constants + page * PAGE;
            sandbox.call::<()>("make_constants_writable", (toggles,)).unwrap();
            sandbox.reset().unwrap();
            assert_eq!(sandbox.call::<u8>("probe_read", (at,)).unwrap(), b'c');
            assert_page_fault(&mut sandbox, FaultAccess::Write, at, CONSTANT);
            sandbox.reset().unwrap();

            pool.take().unwrap().call::<()>("make_constants_writable", (toggles,)).unwrap();
            assert_page_fault(&mut pool.take().unwrap(), FaultAccess::Write, at, CONSTANT);
        }
    }
}

#[test]
fn memory_that_is_read_only_in_a_snapshot_is_so_after_its_restore() {
    let mut sandbox = memory_sandbox();
    fill(&mut sandbox, X, b'A');
    protect(&mut sandbox, X, PAGES, READ);
    let snapshot = sandbox.snapshot().unwrap();
    for toggles in HOW_OFTEN {
        for page in SOME_PAGES {
            protect(&mut sandbox, X, PAGES, READ | WRITE);
            toggle(&mut sandbox, X + PAGE, toggles);
            for page in SOME_PAGES {
                sandbox.call::<()>("probe_write", (X + page * PAGE, b'B')).unwrap();
            }
            sandbox.restore(&snapshot).unwrap();
            assert_eq!(others(&mut sandbox, X, b'A'), 0);
            assert_page_fault(&mut sandbox, FaultAccess::Write, X + page * PAGE, CONSTANT);
            sandbox.restore(&snapshot).unwrap();
        }
    }
}

#[test]
fn memory_that_was_never_touched_costs_a_reset_nothing() {
    for bytes in [64_u64 << 20, 1 << 30] {
        let mut sandbox = memory_builder().memory_limit((1 << 30) + (64 << 20)).build().unwrap();
        let after_nothing = pages_restored(&mut sandbox, |sandbox| sandbox.call("empty", ()).unwrap());
        let after_much = pages_restored(&mut sandbox, |sandbox| sandbox.call("map_and_unmap", (bytes,)).unwrap());
        assert!(after_much <= after_nothing + 8, "{after_much} pages for {bytes} bytes, {after_nothing} for none");
    }
}

#[test]
fn memory_that_was_touched_here_and_there_costs_a_reset_those_pages() {
    const LEN: u64 = 64 << 20;
    let mut sandbox = memory_builder().memory_limit(256 << 20).build().unwrap();
    let restored = pages_restored(&mut sandbox, |sandbox| {
        sandbox.call::<()>("map", (X, LEN / PAGE, READ | WRITE)).unwrap();
        for at in (X..X + LEN).step_by(1 << 20) {
            sandbox.call::<()>("probe_write", (at, 1u8)).unwrap();
        }
        sandbox.call::<()>("unmap", (X, LEN / PAGE)).unwrap();
    });
    assert!(restored <= 64 + 16, "{restored} pages");
}

/// Pages that a reset writes back after this.
fn pages_restored(sandbox: &mut Sandbox, work: impl FnOnce(&mut Sandbox)) -> u64 {
    sandbox.reset().unwrap();
    let before = sandbox.stats().unwrap().pages_restored;
    work(sandbox);
    sandbox.reset().unwrap();
    sandbox.stats().unwrap().pages_restored - before
}

/// Two new buffers hold zeros, and each holds what is written to it whatever is written to the other.
fn assert_two_buffers_are_two(sandbox: &mut Sandbox) {
    for (at, value) in [(Y, b'Y'), (X, b'x')] {
        assert_eq!(fill(sandbox, at, value), 0, "pages that are not fresh, at {at:#x}");
    }
    assert_eq!(others(sandbox, Y, b'Y'), 0, "pages that were changed by writing others");
    assert_eq!(others(sandbox, X, b'x'), 0, "pages that were changed by writing others");
}

fn fill(sandbox: &mut Sandbox, at: u64, value: u8) -> u64 {
    sandbox.call("fill", (at, PAGES, value)).unwrap()
}

fn others(sandbox: &mut Sandbox, at: u64, value: u8) -> u64 {
    sandbox.call("count_others", (at, PAGES, value)).unwrap()
}

fn toggle(sandbox: &mut Sandbox, at: u64, times: u64) {
    sandbox.call("toggle", (at, times)).unwrap()
}

fn protect(sandbox: &mut Sandbox, at: u64, pages: u64, protection: i32) {
    sandbox.call("protect", (at, pages, protection)).unwrap()
}

fn unmap(sandbox: &mut Sandbox, at: u64) {
    sandbox.call("unmap", (at, PAGES)).unwrap()
}

/// A pool of one sandbox, so that each tenant follows the one before.
fn pool() -> Pool {
    Pool::new(&memory_sandbox().snapshot().unwrap(), 1).unwrap()
}

/// The guest must not access this address in this way.
fn assert_page_fault(sandbox: &mut Sandbox, access: FaultAccess, at: u64, target: FaultTarget) {
    let touched = match access {
        FaultAccess::Read => sandbox.call::<u8>("probe_read", (at,)).map(drop),
        FaultAccess::Write => sandbox.call("probe_write", (at, 1u8)),
        FaultAccess::Execute => sandbox.call("probe_execute", (at,)),
    };
    assert_is_page_fault(touched, access, at, target);
}

fn assert_is_page_fault(touched: Result<(), CallError>, access: FaultAccess, at: u64, target: FaultTarget) {
    match touched {
        Err(CallError::Terminated { cause: Termination::Fault(fault), .. }) => {
            assert_eq!(*fault.kind(), FaultKind::PageFault { address: at, access, target });
        }
        other => panic!("{access} {target} {at:#x} did not fault: {other:?}"),
    }
}

/// Addresses that share no tables except the upper two.
const X: u64 = 0x1_0000_0000;
const Y: u64 = 0x2_0000_0000;

/// A buffer's.
const PAGES: u64 = 100;
const PAGE: u64 = 4096;

/// Some of a buffer's pages; the one whose protection is changed often is the second.
const SOME_PAGES: [u64; 5] = [0, 1, 2, 50, PAGES - 1];

/// How often the protection of a page changes: never, and more often than a host may care to remember one by one.
const HOW_OFTEN: [u64; 2] = [0, 200];

const READ: i32 = 1;
const WRITE: i32 = 2;

const CODE: FaultTarget = FaultTarget::Protected { writable: false, executable: true, readable: true };
const CONSTANT: FaultTarget = FaultTarget::Protected { writable: false, executable: false, readable: true };
