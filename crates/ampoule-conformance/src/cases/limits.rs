//! How much, how many, and what is refused.

use std::sync::Arc;

use ampoule_vmm::{GuestPhys, Hypervisor, HypervisorError, PAGE_SIZE, Region, WriteTracking};

use crate::code::assemble;
use crate::failure::{Failure, expect, require};
use crate::guest::{CODE, FREE_RAM, FREE_SLOT, Guest, RAM, RAM_SLOT, SOMEWHERE, WRITE, offset, pages_on};

pub(crate) fn sixty_four_slots_can_be_in_use(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    // Stores its number to every page, which is a slot of its own. Every other physical page stays empty.
    let code = assemble!("2:", "mov [rdi], rcx", "add rdi, 4096", "dec rcx", "jnz 2b", "call qword ptr [0x400ff8]");
    let mut guest = Guest::new(hypervisor, code)?;
    let slots = SLOTS - FREE_SLOT as usize;
    let mut regions = Vec::new();
    for index in 0..slots {
        let at = GuestPhys(FREE_RAM.0 + (2 * index * PAGE_SIZE) as u64);
        let region = Region::anonymous(PAGE_SIZE)?;
        guest.vm.map(FREE_SLOT + index as u32, at, region.clone(), WriteTracking::Off)?;
        guest.map_physical(pages_on(SOMEWHERE, index), at, 1, WRITE);
        regions.push(region);
    }
    guest.set(|regs| (regs.rdi, regs.rcx) = (SOMEWHERE.0, slots as u64));
    guest.ring()?;
    for (index, region) in regions.iter().enumerate() {
        expect(format_args!("what slot {index} holds"), region.read_u64(0)?, (slots - index) as u64)?;
    }
    Ok(())
}

pub(crate) fn a_slot_can_be_gigabytes(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("mov [rdi], rbx", "mov [rsi], rcx", "call qword ptr [0x400ff8]"))?;
    let region = Region::anonymous(GIGABYTES)?;
    guest.vm.map(FREE_SLOT, FREE_RAM, region.clone(), WriteTracking::Off)?;
    let last = GIGABYTES - PAGE_SIZE;
    guest.map_physical(SOMEWHERE, FREE_RAM, 1, WRITE);
    guest.map_physical(pages_on(SOMEWHERE, 1), GuestPhys(FREE_RAM.0 + last as u64), 1, WRITE);
    guest.set(|regs| {
        (regs.rdi, regs.rsi) = (SOMEWHERE.0, pages_on(SOMEWHERE, 2).0 - 8);
        (regs.rbx, regs.rcx) = (1, 2);
    });
    guest.ring()?;
    let found = (region.read_u64(0)?, region.read_u64(GIGABYTES - 8)?);
    expect("the first and the last word", found, (1_u64, 2_u64))
}

pub(crate) fn a_slot_holds_one_region_until_it_is_unmapped(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    let region = Region::anonymous(PAGE_SIZE)?;
    let again = guest.vm.map(RAM_SLOT, FREE_RAM, region.clone(), WriteTracking::On);
    let told = matches!(again, Err(HypervisorError::SlotInUse { slot: RAM_SLOT }));
    require("a slot that is in use", told, "SlotInUse", again)?;
    let empty = guest.vm.unmap(FREE_SLOT);
    require("an empty slot", matches!(empty, Err(HypervisorError::SlotEmpty { slot: FREE_SLOT })), "SlotEmpty", empty)?;
    for _ in 0..2 {
        guest.vm.map(FREE_SLOT, FREE_RAM, region.clone(), WriteTracking::On)?;
        guest.vm.unmap(FREE_SLOT)?;
    }
    Ok(())
}

pub(crate) fn a_mapping_that_cannot_be_is_refused_without_a_trace(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("mov rbx, [rdi]", "call qword ptr [0x400ff8]"))?;
    let region = Region::anonymous(2 * PAGE_SIZE)?;
    let page = PAGE_SIZE as u64;
    for (what, at) in [
        ("all of another slot's", RAM.0),
        ("the beginning of another slot's", RAM.0 - page),
        ("the middle of another slot's", RAM.0 + page),
        ("no whole pages", FREE_RAM.0 + 8),
        ("beyond all addresses", u64::MAX - 2 * page + 1),
    ] {
        let refused = guest.vm.map(FREE_SLOT, GuestPhys(at), region.clone(), WriteTracking::Off);
        require(what, matches!(refused, Err(HypervisorError::Refused { .. })), "Refused", refused)?;
        expect("holders of the region", Arc::strong_count(&region), 1)?;
        let empty = guest.vm.unmap(FREE_SLOT);
        let told = matches!(empty, Err(HypervisorError::SlotEmpty { slot: FREE_SLOT }));
        require("the slot", told, "still empty", empty)?;
    }
    guest.set(|regs| regs.rdi = CODE.0);
    guest.ring().map(drop)
}

pub(crate) fn many_machines_live_side_by_side(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("2:", "add [rdi], rbx", "call qword ptr [0x400ff8]", "jmp 2b");
    let mut guests = Vec::new();
    for number in 0..MACHINES {
        let mut guest = Guest::new(hypervisor, code)?;
        guest.map(SOMEWHERE, 0, WRITE);
        guest.set(|regs| (regs.rdi, regs.rbx) = (SOMEWHERE.0, number));
        guests.push(guest);
    }
    for round in 1..=3 {
        for (guest, number) in guests.iter_mut().zip(0..) {
            guest.ring()?;
            let sum = guest.ram.read_u64(offset(0))?;
            expect(format_args!("the sum of machine {number}"), sum, number * round)?;
        }
    }
    Ok(())
}

const SLOTS: usize = 64;

const GIGABYTES: usize = 4 << 30;

const MACHINES: u64 = 16;
