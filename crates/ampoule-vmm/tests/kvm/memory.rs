//! What a guest can reach, and how the host changes it.

use ampoule_vmm::x86_64::shim::{HOST_BASE, Trap};
use ampoule_vmm::{Exit, GuestPhys, GuestVirt, PAGE_SIZE};

use crate::guest::{
    CODE, EXECUTE, FETCH, Guest, PRESENT, READ, RING, SOMEWHERE, USER, WRITE, WRITING, data, load_and_ring,
    store_and_ring,
};

#[test]
fn a_page_fault_tells_address_and_cause() {
    let cases = [
        (load_and_ring(), None, USER),
        (store_and_ring(), None, USER | WRITING),
        (store_and_ring(), Some(READ), USER | WRITING | PRESENT),
        (store_and_ring(), Some(EXECUTE), USER | WRITING | PRESENT),
        // jmp rdi
        (vec![0xff, 0xe7], Some(WRITE), USER | FETCH | PRESENT),
        (vec![0xff, 0xe7], None, USER | FETCH),
    ];
    for (code, access, expected) in cases {
        let mut guest = Guest::new(&code);
        if let Some(access) = access {
            guest.map(SOMEWHERE, data(0), access);
        }
        let address = GuestVirt(SOMEWHERE.0 + 0x18);
        guest.with_regs(|regs| regs.rdi = address.0);
        assert_eq!(guest.page_fault(), (address, expected), "{access:?}");
    }
}

#[test]
fn what_belongs_to_ring_0_is_out_of_reach() {
    for page in 0..5 {
        let address = GuestVirt(HOST_BASE.0 + page * PAGE_SIZE as u64);
        for code in [load_and_ring(), store_and_ring(), vec![0xff, 0xe7]] {
            let mut guest = Guest::new(&code);
            guest.with_regs(|regs| regs.rdi = address.0);
            let (faulted, error) = guest.page_fault();
            assert_eq!(faulted, address);
            assert_eq!(error & (USER | PRESENT), USER | PRESENT);
        }
    }
}

#[test]
fn the_stubs_cannot_be_overwritten() {
    for page in [5, 6] {
        let mut guest = Guest::new(&store_and_ring());
        let address = GuestVirt(HOST_BASE.0 + page * PAGE_SIZE as u64);
        guest.with_regs(|regs| regs.rdi = address.0);
        assert_eq!(guest.page_fault(), (address, USER | WRITING | PRESENT));
    }
}

#[test]
fn a_fault_that_the_host_mends_is_retried() {
    // mov rbx, [rdi]; doorbell
    let mut guest = Guest::new(&[&[0x48, 0x8b, 0x1f][..], &RING].concat());
    guest.ram.write_u64(Guest::data_offset(0), 0xfeed).unwrap();
    guest.with_regs(|regs| {
        regs.rdi = SOMEWHERE.0;
        regs.r8 = 42;
    });
    let before = guest.vcpu.regs();
    assert_eq!(guest.page_fault(), (SOMEWHERE, USER));
    assert_eq!(guest.system.exception_frame(14).rsp, before.rsp);

    guest.map(SOMEWHERE, data(0), READ);
    assert_eq!(guest.trap(), Trap::Doorbell);
    let after = guest.vcpu.regs();
    assert_eq!(after.rbx, 0xfeed);
    assert_eq!((after.r8, after.rdi), (42, before.rdi));
}

#[test]
fn a_fault_that_nobody_mended_comes_again() {
    let mut guest = Guest::new(&load_and_ring());
    guest.with_regs(|regs| regs.rdi = SOMEWHERE.0);
    for _ in 0..3 {
        assert_eq!(guest.page_fault(), (SOMEWHERE, USER));
    }
}

#[test]
fn a_permission_that_was_narrowed_and_revoked_is_gone() {
    let mut guest = Guest::new(&store_and_ring());
    guest.map(SOMEWHERE, data(0), WRITE);
    guest.with_regs(|regs| {
        regs.rdi = SOMEWHERE.0;
        regs.rax = 7;
    });
    assert_eq!(guest.trap(), Trap::Doorbell);
    assert_eq!(guest.ram.read_u64(Guest::data_offset(0)).unwrap(), 7);

    guest.map(SOMEWHERE, data(0), READ);
    guest.ram.revoke(Guest::data_offset(0), PAGE_SIZE).unwrap();
    guest.go(CODE);
    guest.with_regs(|regs| {
        regs.rdi = SOMEWHERE.0;
        regs.rax = 8;
    });
    assert_eq!(guest.page_fault(), (SOMEWHERE, USER | WRITING | PRESENT));
    assert_eq!(guest.ram.read_u64(Guest::data_offset(0)).unwrap(), 7);

    guest.map(SOMEWHERE, data(0), WRITE);
    assert_eq!(guest.trap(), Trap::Doorbell, "widening needs no revocation");
    assert_eq!(guest.ram.read_u64(Guest::data_offset(0)).unwrap(), 8);
}

#[test]
fn a_page_that_was_unmapped_and_discarded_is_gone() {
    let mut guest = Guest::new(&load_and_ring());
    guest.ram.write_u64(Guest::data_offset(0), 7).unwrap();
    guest.map(SOMEWHERE, data(0), READ);
    guest.with_regs(|regs| regs.rdi = SOMEWHERE.0);
    assert_eq!(guest.trap(), Trap::Doorbell);

    guest.unmap(SOMEWHERE);
    guest.ram.discard(Guest::data_offset(0), PAGE_SIZE).unwrap();
    guest.go(CODE);
    guest.with_regs(|regs| regs.rdi = SOMEWHERE.0);
    assert_eq!(guest.page_fault(), (SOMEWHERE, USER));
}

#[test]
fn a_table_that_is_used_again_elsewhere_does_not_show_at_its_old_place() {
    let elsewhere = GuestVirt(0x5_5555_5000 & !0x1f_ffff | SOMEWHERE.0 & 0x1f_ffff);
    let mut guest = Guest::new(&load_and_ring());
    guest.map(SOMEWHERE, data(0), READ);
    guest.with_regs(|regs| regs.rdi = SOMEWHERE.0);
    assert_eq!(guest.trap(), Trap::Doorbell);

    guest.unmap(SOMEWHERE);
    guest.ram.discard(Guest::data_offset(0), PAGE_SIZE).unwrap();
    guest.map(elsewhere, data(1), READ);
    guest.go(CODE);
    guest.with_regs(|regs| regs.rdi = elsewhere.0);
    assert_eq!(guest.trap(), Trap::Doorbell);
    guest.go(CODE);
    guest.with_regs(|regs| regs.rdi = SOMEWHERE.0);
    assert_eq!(guest.page_fault(), (SOMEWHERE, USER));
}

#[test]
fn discarded_memory_reads_as_zero_in_the_guest() {
    // mov rbx, [rdi]; doorbell
    let mut guest = Guest::new(&[&[0x48, 0x8b, 0x1f][..], &RING].concat());
    guest.map(SOMEWHERE, data(0), READ);
    guest.ram.write_u64(Guest::data_offset(0), 7).unwrap();
    for expected in [7, 0] {
        guest.go(CODE);
        guest.with_regs(|regs| regs.rdi = SOMEWHERE.0);
        assert_eq!(guest.trap(), Trap::Doorbell);
        assert_eq!(guest.vcpu.regs().rbx, expected);
        guest.ram.discard(Guest::data_offset(0), PAGE_SIZE).unwrap();
    }
}

#[test]
fn unmapped_physical_memory_is_reported_with_its_address() {
    let mut guest = Guest::new(&load_and_ring());
    let nowhere = GuestPhys(0x8_0000_0000);
    guest.map(SOMEWHERE, nowhere, READ);
    guest.with_regs(|regs| regs.rdi = SOMEWHERE.0 + 16);
    let at = nowhere.checked_add(16).unwrap();
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::MmioRead { at, len: 8 });
}
