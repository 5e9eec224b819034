//! What system calls have changed, and what a guest leaves in case it ends.

use ampoule::{CallError, FaultKind, Sandbox, Snapshot, Termination};
use ampoule_tests::{tenant_builder, tenant_sandbox};

use crate::{WAYS_TO_THE_NEXT, end};

#[test]
fn all_that_system_calls_have_changed_goes_back() {
    let mut tenant = tenant_sandbox();
    let before = describe(&mut tenant);
    let snapshot = tenant.snapshot().unwrap();
    for way_to_next in WAYS_TO_THE_NEXT {
        tenant.call::<()>("change_process", ()).unwrap();
        let changed = describe(&mut tenant);
        for (was, is) in before.iter().zip(&changed) {
            assert_ne!(was, is);
        }
        way_to_next(&mut tenant, &snapshot);
        assert_eq!(describe(&mut tenant), before);
    }
}

#[test]
fn changes_before_a_snapshot_are_in_it() {
    let mut tenant = tenant_sandbox();
    let fresh = describe(&mut tenant);
    tenant.call::<()>("change_process", ()).unwrap();
    let changed = describe(&mut tenant);
    let snapshot = tenant.snapshot().unwrap();
    tenant.reset().unwrap();
    assert_eq!(describe(&mut tenant), fresh);
    for way_to_next in WAYS_TO_THE_NEXT {
        way_to_next(&mut tenant, &snapshot);
        assert_eq!(describe(&mut tenant), changed);
    }
}

#[test]
fn memory_that_was_used_up_can_be_used_up_again() {
    let mut tenant = tenant_builder().memory_limit(8 << 20).build().unwrap();
    let snapshot = tenant.snapshot().unwrap();
    let all = take_all(&mut tenant);
    assert!(all > 1000 && take_all(&mut tenant) == 0);
    for way_to_next in WAYS_TO_THE_NEXT {
        way_to_next(&mut tenant, &snapshot);
        assert_eq!(take_all(&mut tenant), all);
    }
    let full = tenant.snapshot().unwrap();
    tenant.restore(&snapshot).unwrap();
    tenant.restore(&full).unwrap();
    assert_eq!(take_all(&mut tenant), 0);
}

#[test]
fn a_stack_that_has_grown_is_small_again() {
    let mut tenant = tenant_builder().memory_limit(8 << 20).build().unwrap();
    let snapshot = tenant.snapshot().unwrap();
    let all = take_all(&mut tenant);
    for way_to_next in WAYS_TO_THE_NEXT {
        way_to_next(&mut tenant, &snapshot);
        tenant.call::<u64>("recurse", (500u32,)).unwrap();
        let rest = take_all(&mut tenant);
        assert!(rest + 300 < all, "{rest} of {all} pages");
        way_to_next(&mut tenant, &snapshot);
        assert_eq!(take_all(&mut tenant), all);
    }
    way_to_grow_again(&mut tenant, &snapshot);
}

fn way_to_grow_again(tenant: &mut Sandbox, snapshot: &Snapshot) {
    tenant.restore(snapshot).unwrap();
    let grown = tenant.call::<u64>("recurse", (500u32,)).unwrap();
    tenant.restore(snapshot).unwrap();
    assert_eq!(tenant.call::<u64>("recurse", (500u32,)).unwrap(), grown);
}

#[test]
fn mappings_and_their_protection_go_back() {
    let mut tenant = tenant_sandbox();
    let writable = map_page(&mut tenant, READ | WRITE);
    let readable = map_page(&mut tenant, READ);
    let snapshot = tenant.snapshot().unwrap();
    for way_to_next in WAYS_TO_THE_NEXT {
        // Everything the other way round; and a new page, which must be gone afterwards.
        assert!(protect(&mut tenant, writable, READ) && protect(&mut tenant, readable, READ | WRITE));
        tenant.call::<()>("write_byte", (readable, 1u8)).unwrap();
        let new = map_page(&mut tenant, READ | WRITE);
        way_to_next(&mut tenant, &snapshot);
        assert!(!tenant.call::<bool>("is_mapped", (new,)).unwrap());
        tenant.call::<()>("write_byte", (writable, 1u8)).unwrap();
        assert_eq!(read(&mut tenant, readable), 0x5a);
        end(tenant.call::<()>("write_byte", (readable, 1u8)));

        way_to_next(&mut tenant, &snapshot);
        assert_eq!(read(&mut tenant, writable), 0x5a);
        assert!(tenant.call::<bool>("unmap_page", (writable,)).unwrap());
        end(tenant.call::<()>("write_byte", (writable, 1u8)));
        way_to_next(&mut tenant, &snapshot);
        tenant.call::<()>("write_byte", (writable, 1u8)).unwrap();
        assert_eq!((read(&mut tenant, writable), read(&mut tenant, writable + 1)), (1, 0x5a));
    }
}

#[test]
fn each_of_two_snapshots_has_its_protections() {
    let mut tenant = tenant_sandbox();
    let pages = [map_page(&mut tenant, READ | WRITE), map_page(&mut tenant, READ)];
    let snapshots = [tenant.snapshot().unwrap(), {
        assert!(protect(&mut tenant, pages[0], READ) && protect(&mut tenant, pages[1], READ | WRITE));
        tenant.snapshot().unwrap()
    }];
    for _ in 0..2 {
        for (index, snapshot) in snapshots.iter().enumerate() {
            tenant.restore(snapshot).unwrap();
            tenant.call::<()>("write_byte", (pages[index], 1u8)).unwrap();
            end(tenant.call::<()>("write_byte", (pages[1 - index], 1u8)));
        }
    }
}

#[test]
fn the_text_of_a_panic_is_not_taken_for_a_later_one() {
    let mut tenant = tenant_sandbox();
    let snapshot = tenant.snapshot().unwrap();
    for panicking in ["panic", "abort_with"] {
        for way_to_next in WAYS_TO_THE_NEXT {
            let error = tenant.call::<()>(panicking, ("the first tenant's secret",)).unwrap_err();
            assert!(error.to_string().contains("secret"), "{error}");
            way_to_next(&mut tenant, &snapshot);
            let error = tenant.call::<()>("abort", ()).unwrap_err();
            let CallError::Terminated { cause: Termination::Fault(fault), .. } = &error else { panic!("{error}") };
            assert!(matches!(fault.kind(), FaultKind::Aborted { .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
            way_to_next(&mut tenant, &snapshot);
        }
    }
}

fn describe(tenant: &mut Sandbox) -> Vec<(String, u64)> {
    tenant.call("describe_process", ()).unwrap()
}

fn take_all(tenant: &mut Sandbox) -> u64 {
    tenant.call("take_all_memory", ()).unwrap()
}

fn map_page(tenant: &mut Sandbox, protection: i32) -> u64 {
    tenant.call("map_page", (protection,)).unwrap()
}

fn protect(tenant: &mut Sandbox, page: u64, protection: i32) -> bool {
    tenant.call("protect_page", (page, protection)).unwrap()
}

fn read(tenant: &mut Sandbox, at: u64) -> u8 {
    tenant.call("read_byte", (at,)).unwrap()
}

// Linux's `include/uapi/asm-generic/mman-common.h`.
const READ: i32 = 1;
const WRITE: i32 = 2;
