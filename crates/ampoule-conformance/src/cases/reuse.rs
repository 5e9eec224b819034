//! Machines that continue after the worst, and in other places.

use std::thread;

use ampoule_vmm::x86_64::shim;
use ampoule_vmm::{Exit, GuestPhys, GuestVirt, Hypervisor, PAGE_SIZE, Region, WriteTracking};

use crate::canceller::{Canceller, LONGEST_DELAY};
use crate::code::assemble;
use crate::failure::{Failure, expect, require};
use crate::guest::{EXECUTE, FREE_RAM, FREE_SLOT, Guest, READ, SOMEWHERE, USER, WRITE, WRITING, offset};

pub(crate) fn a_machine_works_after_a_triple_fault(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    for _ in 0..2 {
        guest.load(assemble!("ud2"))?;
        let mut special = guest.vcpu.special_regs()?;
        special.idt.limit = 0;
        guest.vcpu.set_special_regs(&special)?;
        guest.expect_exit(&Exit::Shutdown)?;
        works(&mut guest)?;
    }
    Ok(())
}

pub(crate) fn a_machine_works_after_what_the_hypervisor_cannot_handle(
    hypervisor: &dyn Hypervisor,
) -> Result<(), Failure> {
    // Code in memory that is not there. Hypervisors answer with an error of their own, with some exception, or retry
    // forever, so the run is ended from outside.
    let mut guest = Guest::new(hypervisor, &[])?;
    guest.map_physical(SOMEWHERE, FREE_RAM, 1, EXECUTE);
    for _ in 0..2 {
        guest.load(assemble!("jmp rdi"))?;
        guest.set(|regs| regs.rdi = SOMEWHERE.0);
        let canceller = Canceller::new(&guest, LONGEST_DELAY)?;
        canceller.strike_during(|_| {
            let exit = guest.vcpu.run()?;
            let went_on = matches!(exit, Exit::IoOut { port: shim::DOORBELL_PORT | shim::SYSCALL_PORT, .. });
            require("the exit", !went_on, "an error or an exception", exit)
        })?;
        guest.vcpu.interrupter().clear();
        works(&mut guest)?;
    }
    Ok(())
}

pub(crate) fn a_machine_works_after_registers_that_were_refused(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("call qword ptr [0x400ff8]"))?;
    let mut special = guest.vcpu.special_regs()?;
    // Long mode without physical-address extension is not a valid state.
    special.cr4 = 0;
    let refused = match guest.vcpu.set_special_regs(&special) {
        Ok(()) => guest.vcpu.run().map_or(true, |exit| !matches!(exit, Exit::IoOut { .. })),
        Err(_) => true,
    };
    require("special registers that are no valid state", refused, "an error", "a run")?;
    let valid = guest.system.initial_special_regs(&guest.capabilities, guest.tables.root());
    guest.vcpu.set_special_regs(&valid)?;
    works(&mut guest)
}

pub(crate) fn a_slot_can_hold_other_memory(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    let load = assemble!("mov rbx, [rdi]", "call qword ptr [0x400ff8]");
    for (round, pages) in [1, 4, 2, 1].into_iter().enumerate() {
        let at = GuestPhys(FREE_RAM.0 + (round % 2 * PAGE_SIZE) as u64);
        let region = Region::anonymous(pages * PAGE_SIZE)?;
        region.write_u64((pages - 1) * PAGE_SIZE, 100 + round as u64)?;
        guest.vm.map(FREE_SLOT, at, region, WriteTracking::Off)?;
        let last = GuestPhys(at.0 + ((pages - 1) * PAGE_SIZE) as u64);
        guest.map_physical(SOMEWHERE, last, 1, READ);
        guest.load(load)?;
        guest.set(|regs| regs.rdi = SOMEWHERE.0);
        expect("what was loaded from the slot's last page", guest.ring()?.rbx, 100 + round as u64)?;
        guest.unmap(SOMEWHERE);
        guest.vm.unmap(FREE_SLOT)?;
    }
    Ok(())
}

pub(crate) fn a_vcpu_moves_between_threads(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("2:", "inc rbx", "call qword ptr [0x400ff8]", "jmp 2b"))?;
    for round in 1..=10_u64 {
        let run = |guest: &mut Guest| expect("rounds", guest.ring()?.rbx, round);
        if round % 3 == 0 {
            run(&mut guest)?;
            continue;
        }
        thread::scope(|scope| {
            let runner = thread::Builder::new().spawn_scoped(scope, || run(&mut guest))?;
            runner.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
        })?;
    }
    Ok(())
}

pub(crate) fn machines_can_be_made_and_dropped_on_any_thread(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    for _ in 0..3 {
        let guest = thread::scope(|scope| {
            let maker = thread::Builder::new().spawn_scoped(scope, || Guest::new(hypervisor, &[]))?;
            maker.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
        });
        works(&mut guest?)?;
    }
    Ok(())
}

/// Makes sure that all ways to and from the host work as in a new machine. [`ELSEWHERE`] is mapped neither before nor after.
#[track_caller]
fn works(guest: &mut Guest) -> Result<(), Failure> {
    let code = assemble!(
        "call qword ptr [0x400ff8]",
        "mov eax, 39",
        "syscall",
        "mov rbx, rax",
        "movq xmm0, rbx",
        "movq rcx, xmm0",
        "mov [rdi], rbx",
        "call qword ptr [0x400ff8]",
    );
    guest.load(code)?;
    guest.set(|regs| regs.rdi = ELSEWHERE.0);
    guest.ring()?;
    let exit = guest.system_call()?;
    expect("the system call's number", exit.rax, 39_u64)?;
    let resumed = shim::syscall_return(&guest.capabilities, &exit, 40);
    guest.vcpu.set_regs(&resumed.expect("the guest called from its own code"));
    expect("the fault", guest.page_fault()?, (ELSEWHERE.0, USER | WRITING))?;
    guest.map(ELSEWHERE, 0, WRITE);
    let regs = guest.ring()?;
    expect(
        "the system call's result, and what came through a vector register",
        (regs.rbx, regs.rcx),
        (40_u64, 40_u64),
    )?;
    expect("what was stored", guest.ram.read_u64(offset(0))?, 40_u64)?;
    guest.unmap(ELSEWHERE);
    Ok(guest.ram.discard(offset(0), PAGE_SIZE)?)
}

const ELSEWHERE: GuestVirt = GuestVirt(0x5_5555_5000);
