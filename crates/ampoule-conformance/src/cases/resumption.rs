//! How a guest continues after an exit: where it was, or wherever the host puts it.

use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{self, DOORBELL};
use ampoule_vmm::{Exit, GuestPhys, GuestVirt, Hypervisor, PAGE_SIZE, Region, WriteTracking};

use crate::canceller::{Canceller, LONGEST_DELAY};
use crate::code::assemble;
use crate::failure::{Failure, expect, expect_regs, require};
use crate::guest::{CODE, FREE_RAM, FREE_SLOT, Guest, RAM_PAGES, READ, SOMEWHERE, SUPERVISOR, WRITE};
use crate::values::distinct_regs;

pub(crate) fn settling_finishes_the_out_and_nothing_else(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("2:", "inc rbx", "call qword ptr [0x400ff8]", "jmp 2b"))?;
    for rung in 1..=5_u64 {
        let exit = guest.ring()?;
        for _ in 0..2 {
            guest.vcpu.settle()?;
            let expected = Regs { rip: DOORBELL.0 + OUT_SIZE, ..exit };
            expect_regs("after settling", &guest.vcpu.regs(), &expected)?;
        }
        expect("how often the guest has rung", exit.rbx, rung)?;
    }
    Ok(())
}

pub(crate) fn settling_leaves_no_request_behind(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("call qword ptr [0x400ff8]", "call qword ptr [0x400ff8]"))?;
    guest.vcpu.settle()?;
    guest.ring()?;
    guest.vcpu.settle()?;
    guest.ring().map(drop)
}

pub(crate) fn a_settled_guest_goes_on_in_another_machine(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code =
        assemble!("push 77", "inc rbx", "call qword ptr [0x400ff8]", "pop rcx", "inc rbx", "call qword ptr [0x400ff8]");
    let mut from = Guest::new(hypervisor, code)?;
    from.ring()?;
    from.vcpu.settle()?;
    let (regs, special, fpu) = (from.vcpu.regs(), from.vcpu.special_regs()?, from.vcpu.fpu()?);

    for used in [false, true] {
        let mut to = Guest::new(hypervisor, assemble!("call qword ptr [0x400ff8]"))?;
        if used {
            to.ring()?;
        }
        let mut memory = vec![0; RAM_PAGES * PAGE_SIZE];
        from.ram.read(0, &mut memory)?;
        to.ram.write(0, &memory)?;
        to.vcpu.abandon()?;
        to.vcpu.set_special_regs(&special)?;
        to.vcpu.set_regs(&regs);
        to.vcpu.set_fpu(&fpu)?;
        let went_on = to.ring()?;
        expect("what the guest counted, and popped", (went_on.rbx, went_on.rcx), (2_u64, 77_u64))?;
    }
    expect("what the first guest counts", from.ring()?.rbx, 2_u64)
}

pub(crate) fn an_out_is_over_when_the_guest_is_put_elsewhere(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    for (what, provoke) in OUTS {
        let mut guest = Guest::new(hypervisor, &[])?;
        provoke(&mut guest)?;
        go_elsewhere(&mut guest, what)?;
    }
    Ok(())
}

pub(crate) fn an_abandoned_exit_touches_nothing(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    for (what, provoke) in OUTS.into_iter().chain(OTHER_EXITS) {
        let mut guest = Guest::new(hypervisor, &[])?;
        provoke(&mut guest)?;
        guest.vcpu.abandon()?;
        go_elsewhere(&mut guest, what)?;
    }
    Ok(())
}

pub(crate) fn an_abandoned_instruction_can_be_executed_again(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    for _ in 0..3 {
        forged_out(&mut guest)?;
    }
    absent_load(&mut guest)?;
    let region = Region::anonymous(PAGE_SIZE)?;
    region.write_u64(0, 0xfeed)?;
    guest.vm.map(FREE_SLOT, FREE_RAM, region, WriteTracking::Off)?;
    guest.vcpu.abandon()?;
    guest.restart(CODE)?;
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    expect("what was loaded by the second attempt", guest.ring()?.rbx, 0xfeed_u64)
}

pub(crate) fn a_vcpu_can_be_abandoned_before_it_has_run(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("call qword ptr [0x400ff8]"))?;
    guest.vcpu.abandon()?;
    guest.restart(CODE)?;
    guest.ring().map(drop)
}

pub(crate) fn exceptions_in_delivery_are_abandoned(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    // The task state segment, which holds the exception's stack, leads to memory that is not there: the delivery cannot be
    // finished. Some hypervisors retry forever, so the run is ended from outside.
    let mut guest = Guest::new(hypervisor, assemble!("ud2"))?;
    guest.map_physical(SOMEWHERE, FREE_RAM, 1, SUPERVISOR);
    for _ in 0..2 {
        let mut special = guest.vcpu.special_regs()?;
        special.tr.base = SOMEWHERE.0;
        guest.vcpu.set_special_regs(&special)?;
        let canceller = Canceller::new(&guest, LONG_ENOUGH)?;
        canceller.strike_during(|_| {
            let exit = guest.vcpu.run()?;
            let arrived = matches!(exit, Exit::IoOut { .. });
            require("the exit", !arrived, "not that of a stub", exit)
        })?;
        guest.vcpu.interrupter().clear();
        guest.vcpu.abandon()?;
        go_elsewhere(&mut guest, "an exception that could not be delivered")?;
        guest.load(assemble!("ud2"))?;
    }
    Ok(())
}

/// Makes the guest exit in some way.
type Provoke = fn(&mut Guest) -> Result<(), Failure>;

/// Exits by `out`.
const OUTS: [(&str, Provoke); 5] = [
    ("the doorbell", |guest| {
        guest.load(assemble!("call qword ptr [0x400ff8]"))?;
        guest.ring().map(drop)
    }),
    ("a system call", |guest| {
        guest.load(assemble!("syscall"))?;
        guest.system_call().map(drop)
    }),
    ("an exception", |guest| {
        guest.load(assemble!("ud2"))?;
        guest.exception(6).map(drop)
    }),
    ("a page fault", |guest| {
        guest.load(assemble!("mov rax, [rdi]"))?;
        guest.page_fault().map(drop)
    }),
    ("an `out` of the guest's own", forged_out),
];

const OTHER_EXITS: [(&str, Provoke); 4] = [
    ("input", |guest| {
        guest.load(assemble!("in al, dx"))?;
        guest.set(|regs| regs.rdx = shim::DOORBELL_PORT.into());
        guest.vcpu.run().map(drop).map_err(Failure::from)
    }),
    ("a load from memory that is not there", absent_load),
    ("a load across two pages of memory that is not there", |guest| {
        guest.map_physical(SOMEWHERE, FREE_RAM, 2, READ);
        guest.load(assemble!("mov rbx, [rdi]"))?;
        guest.set(|regs| regs.rdi = SOMEWHERE.0 + PAGE_SIZE as u64 - 4);
        guest.expect_exit(&Exit::MmioRead { at: GuestPhys(FREE_RAM.0 + PAGE_SIZE as u64 - 4), len: 4 })
    }),
    ("a store to memory that is not there", |guest| {
        guest.map_physical(SOMEWHERE, FREE_RAM, 1, WRITE);
        guest.load(assemble!("mov [rdi], rax"))?;
        guest.set(|regs| regs.rdi = SOMEWHERE.0);
        guest.expect_exit(&Exit::MmioWrite { at: FREE_RAM, data: &[0; 8] })
    }),
];

fn forged_out(guest: &mut Guest) -> Result<(), Failure> {
    guest.load(assemble!("out dx, al"))?;
    guest.set(|regs| regs.rdx = shim::DOORBELL_PORT.into());
    guest.expect_exit(&Exit::IoOut { port: shim::DOORBELL_PORT, data: &[0] })
}

fn absent_load(guest: &mut Guest) -> Result<(), Failure> {
    guest.map_physical(SOMEWHERE, FREE_RAM, 1, READ);
    guest.load(assemble!("mov rbx, [rdi]", "call qword ptr [0x400ff8]"))?;
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    guest.expect_exit(&Exit::MmioRead { at: GuestPhys(FREE_RAM.0), len: 8 })
}

/// Continues at an instruction that faults at once: all registers have to be those that were set.
#[track_caller]
fn go_elsewhere(guest: &mut Guest, after: &str) -> Result<(), Failure> {
    guest.ram.write(ELSEWHERE.page_offset(), assemble!("ud2"))?;
    guest.restart(ELSEWHERE)?;
    let set = Regs { rip: ELSEWHERE.0, ..distinct_regs(guest) };
    guest.vcpu.set_regs(&set);
    let found = guest.registers_at_ud2()?;
    expect_regs(format_args!("elsewhere, after {after}"), &found, &set)
}

/// For [`Canceller`]: longer than it takes to enter a guest.
const LONG_ENOUGH: u64 = 10 * LONGEST_DELAY;

/// In the page of code, behind all code.
const ELSEWHERE: GuestVirt = GuestVirt(CODE.0 + 0x800);

/// The size of `out imm8, al`.
const OUT_SIZE: u64 = 2;
