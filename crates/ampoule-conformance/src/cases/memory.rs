//! What a guest finds at its addresses.

use std::sync::Arc;

use ampoule_vmm::{Exit, GuestPhys, Hypervisor, PAGE_SIZE, Region, WriteTracking};

use crate::code::assemble;
use crate::failure::{Failure, expect, require};
use crate::guest::{
    CODE, EXECUTE, FETCH, FREE_RAM, FREE_SLOT, Guest, PRESENT, READ, SOMEWHERE, USER, WRITE, WRITING, offset, pages_on,
};

pub(crate) fn a_page_fault_tells_address_and_cause(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    let address = SOMEWHERE.0 + 0x18;
    for (code, access, expected) in [
        (load(), None, USER),
        (store(), None, USER | WRITING),
        (jump(), None, USER | FETCH),
        (store(), Some(READ), USER | WRITING | PRESENT),
        (store(), Some(EXECUTE), USER | WRITING | PRESENT),
        (jump(), Some(WRITE), USER | FETCH | PRESENT),
    ] {
        guest.unmap(SOMEWHERE);
        guest.ram.revoke(offset(0), PAGE_SIZE)?;
        if let Some(access) = access {
            guest.map(SOMEWHERE, 0, access);
        }
        guest.load(code)?;
        guest.set(|regs| regs.rdi = address);
        expect(format_args!("address and error code with {access:?}"), guest.page_fault()?, (address, expected))?;
    }
    Ok(())
}

pub(crate) fn a_fault_that_the_host_mends_is_retried(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, load())?;
    guest.ram.write_u64(offset(0), 0xfeed)?;
    guest.set(|regs| (regs.rdi, regs.r8) = (SOMEWHERE.0, 42));
    expect("the fault", guest.page_fault()?, (SOMEWHERE.0, USER))?;
    guest.map(SOMEWHERE, 0, READ);
    let regs = guest.ring()?;
    expect("what was loaded", regs.rbx, 0xfeed_u64)?;
    expect("other registers", (regs.rdi, regs.r8), (SOMEWHERE.0, 42))
}

pub(crate) fn a_fault_that_nobody_mends_comes_again(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, load())?;
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    for _ in 0..3 {
        expect("the fault", guest.page_fault()?, (SOMEWHERE.0, USER))?;
    }
    Ok(())
}

pub(crate) fn a_page_that_was_unmapped_and_discarded_is_gone(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, load())?;
    guest.ram.write_u64(offset(0), 7)?;
    guest.map(SOMEWHERE, 0, READ);
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    expect("what was loaded", guest.ring()?.rbx, 7_u64)?;
    guest.unmap(SOMEWHERE);
    guest.ram.discard(offset(0), PAGE_SIZE)?;
    guest.go(CODE);
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    expect("the fault", guest.page_fault()?, (SOMEWHERE.0, USER))
}

pub(crate) fn discarded_memory_reads_as_zero(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, load())?;
    guest.map(SOMEWHERE, 0, READ);
    guest.ram.write_u64(offset(0), 7)?;
    for expected in [7_u64, 0] {
        guest.go(CODE);
        guest.set(|regs| regs.rdi = SOMEWHERE.0);
        expect("what was loaded", guest.ring()?.rbx, expected)?;
        guest.ram.discard(offset(0), PAGE_SIZE)?;
    }
    Ok(())
}

pub(crate) fn host_and_guest_see_each_others_writes(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(
        hypervisor,
        assemble!("2:", "mov rbx, [rdi]", "inc qword ptr [rdi]", "call qword ptr [0x400ff8]", "jmp 2b"),
    )?;
    guest.map(SOMEWHERE, 0, WRITE);
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    for value in [5_u64, 1 << 40, u64::MAX] {
        guest.ram.write_u64(offset(0), value)?;
        expect("what the guest loaded", guest.ring()?.rbx, value)?;
        expect("what the guest stored", guest.ram.read_u64(offset(0))?, value.wrapping_add(1))?;
    }
    Ok(())
}

pub(crate) fn physical_memory_that_is_not_there_is_reported(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, load())?;
    guest.map_physical(SOMEWHERE, NOWHERE, 1, WRITE);
    let at = GuestPhys(NOWHERE.0 + 16);
    guest.set(|regs| regs.rdi = SOMEWHERE.0 + 16);
    guest.expect_exit(&Exit::MmioRead { at, len: 8 })?;
    guest.load(store())?;
    guest.set(|regs| (regs.rdi, regs.rbx) = (SOMEWHERE.0 + 16, 0x1122));
    guest.expect_exit(&Exit::MmioWrite { at, data: &0x1122_u64.to_le_bytes() })
}

pub(crate) fn a_slot_that_was_unmapped_is_not_there(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, load())?;
    let region = Region::anonymous(PAGE_SIZE)?;
    region.write_u64(0, 7)?;
    guest.vm.map(FREE_SLOT, FREE_RAM, region.clone(), WriteTracking::Off)?;
    guest.map_physical(SOMEWHERE, FREE_RAM, 1, WRITE);
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    expect("what was loaded", guest.ring()?.rbx, 7_u64)?;

    guest.vm.unmap(FREE_SLOT)?;
    guest.load(store())?;
    guest.set(|regs| (regs.rdi, regs.rbx) = (SOMEWHERE.0, 8));
    guest.expect_exit(&Exit::MmioWrite { at: FREE_RAM, data: &8_u64.to_le_bytes() })?;
    guest.load(load())?;
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    guest.expect_exit(&Exit::MmioRead { at: FREE_RAM, len: 8 })?;
    expect("the region's memory", region.read_u64(0)?, 7_u64)
}

pub(crate) fn slots_are_found_side_by_side(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    // Two pages of memory that lie the other way round in the host, and a load of four bytes of each.
    let mut guest = Guest::new(hypervisor, load())?;
    let (first, second) = (Region::anonymous(PAGE_SIZE)?, Region::anonymous(PAGE_SIZE)?);
    first.write(PAGE_SIZE - 4, &[1; 4])?;
    second.write(0, &[2; 4])?;
    let behind = GuestPhys(FREE_RAM.0 + PAGE_SIZE as u64);
    guest.vm.map(FREE_SLOT + 1, behind, second, WriteTracking::Off)?;
    guest.vm.map(FREE_SLOT, FREE_RAM, first, WriteTracking::On)?;
    guest.map_physical(SOMEWHERE, FREE_RAM, 2, READ);
    guest.set(|regs| regs.rdi = pages_on(SOMEWHERE, 1).0 - 4);
    expect("what was loaded", guest.ring()?.rbx, 0x0202_0202_0101_0101_u64)
}

pub(crate) fn memory_lives_as_long_as_the_guest(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let Guest { vm, vcpu, .. } = Guest::new(hypervisor, load())?;
    drop(vcpu);
    drop(vm);

    let mut guest = Guest::new(hypervisor, load())?;
    guest.map(SOMEWHERE, 0, READ);
    guest.ram.write_u64(offset(0), 7)?;
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    let Guest { vm, mut vcpu, ram, system, tables, .. } = guest;
    drop((vm, ram, system, tables));
    let exit = vcpu.run()?;
    require("the exit", matches!(exit, Exit::IoOut { .. }), "that of the doorbell", exit)?;
    expect("what was loaded", vcpu.regs().rbx, 7_u64)
}

pub(crate) fn memory_that_no_guest_can_reach_is_given_back(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, load())?;
    let (unmapped, dropped) = (Region::anonymous(PAGE_SIZE)?, Region::anonymous(PAGE_SIZE)?);
    guest.vm.map(FREE_SLOT, FREE_RAM, unmapped.clone(), WriteTracking::Off)?;
    guest.vm.unmap(FREE_SLOT)?;
    expect("holders of an unmapped slot's memory", Arc::strong_count(&unmapped), 1)?;
    guest.vm.map(FREE_SLOT, FREE_RAM, dropped.clone(), WriteTracking::Off)?;
    drop(guest);
    expect("holders of a dropped machine's memory", Arc::strong_count(&dropped), 1)
}

pub(crate) fn machines_do_not_see_each_others_memory(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("xchg rbx, [rdi]", "call qword ptr [0x400ff8]", "mov rbx, [rdi]", "call qword ptr [0x400ff8]");
    let mut guests = [Guest::new(hypervisor, code)?, Guest::new(hypervisor, code)?];
    for (guest, value) in guests.iter_mut().zip([1_u64, 2]) {
        guest.map(SOMEWHERE, 0, WRITE);
        guest.set(|regs| (regs.rdi, regs.rbx) = (SOMEWHERE.0, value));
        expect("what the guest found", guest.ring()?.rbx, 0_u64)?;
    }
    for (guest, value) in guests.iter_mut().zip([1_u64, 2]) {
        expect("what the guest left", guest.ring()?.rbx, value)?;
    }
    Ok(())
}

fn load() -> &'static [u8] {
    assemble!("mov rbx, [rdi]", "call qword ptr [0x400ff8]")
}

fn store() -> &'static [u8] {
    assemble!("mov [rdi], rbx", "call qword ptr [0x400ff8]")
}

fn jump() -> &'static [u8] {
    assemble!("jmp rdi")
}

/// Where no slot is.
const NOWHERE: GuestPhys = GuestPhys(0x8_0000_0000);
