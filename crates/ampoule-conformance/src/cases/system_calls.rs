//! The `syscall` instruction, there and back.

use ampoule_vmm::Hypervisor;
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{self, BadReturn, HOST_BASE};

use crate::code::assemble;
use crate::failure::{Failure, differs, expect, expect_regs};
use crate::guest::{CODE, Guest, RESUME, pages_on};
use crate::values::distinct_regs;

pub(crate) fn a_system_call_arrives_with_its_arguments(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("syscall"))?;
    let set = distinct_regs(&guest);
    guest.vcpu.set_regs(&set);
    let exit = guest.system_call()?;
    let expected = Regs { rcx: CODE.0 + 2, r11: set.rflags, rip: exit.rip, rflags: exit.rflags, ..set };
    expect_regs("in the stub", &exit, &expected)
}

pub(crate) fn a_system_call_returns_with_its_result_and_all_other_registers(
    hypervisor: &dyn Hypervisor,
) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("syscall", "syscall", "ud2"))?;
    let set = distinct_regs(&guest);
    guest.vcpu.set_regs(&set);
    for call in 1..=2 {
        guest.system_call()?;
        answer(&mut guest, 100 + call)?;
    }
    let found = guest.registers_at_ud2()?;
    let behind = CODE.0 + 4;
    expect_regs("after two calls", &found, &Regs { rax: 102, rcx: behind, r11: set.rflags, rip: behind, ..set })?;
    let frame = guest.system.exception_frame(6);
    expect("code and stack segments", (frame.cs, frame.ss), (0x33_u64, 0x2b_u64))
}

pub(crate) fn the_stub_runs_with_the_flags_that_it_needs(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("syscall"))?;
    let set = guest.start().rflags | CARRY | DIRECTION | ALIGNMENT_CHECK;
    guest.set(|regs| regs.rflags = set);
    let exit = guest.system_call()?;
    expect("flags in r11", exit.r11, set)?;
    // Emulated processors differ in the other flags; nobody relies on those.
    expect("flags that are to be clear", exit.rflags & (TRAP_FLAG | INTERRUPT | DIRECTION | ALIGNMENT_CHECK), 0_u64)
}

pub(crate) fn the_guest_keeps_its_flags_over_a_system_call(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("syscall", "ud2"))?;
    for flags in [0, CARRY, DIRECTION, ALIGNMENT_CHECK, IDENTIFICATION, 0x8d5 | DIRECTION | IDENTIFICATION] {
        guest.vcpu.abandon()?;
        guest.restart(CODE)?;
        let set = guest.start().rflags | flags;
        guest.set(|regs| regs.rflags = set);
        guest.system_call()?;
        answer(&mut guest, 0)?;
        expect(format_args!("flags {flags:#x}"), guest.exception(6)?.rflags & !RESUME, set)?;
    }
    Ok(())
}

pub(crate) fn a_single_stepped_guest_makes_its_system_call(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("nop", "syscall", "nop", "nop"))?;
    guest.set(|regs| regs.rflags |= TRAP_FLAG);
    expect("rip after a step", guest.exception(1)?.rip, CODE.0 + 1)?;
    let exit = guest.system_call()?;
    expect("rcx", exit.rcx, CODE.0 + 3)?;
    expect("the trap flag in r11", exit.r11 & TRAP_FLAG, TRAP_FLAG)?;
    answer(&mut guest, 0)?;
    // The first step may end right behind the return or one instruction later.
    let mut rip = guest.exception(1)?.rip;
    if rip == CODE.0 + 3 {
        rip = guest.exception(1)?.rip;
    }
    expect("rip after the step behind the call", rip, CODE.0 + 4)?;
    expect("rip after one more", guest.exception(1)?.rip, CODE.0 + 5)
}

pub(crate) fn a_jump_into_the_stub_gains_nothing(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("jmp rdx"))?;
    let stub = guest.system.syscall_entry().lstar;
    for address in [HOST_BASE.0, pages_on(HOST_BASE, 3).0, 0x8000_0000_0000, 0xffff_ffff_ffff_f000] {
        guest.vcpu.abandon()?;
        guest.restart(CODE)?;
        guest.set(|regs| (regs.rdx, regs.rcx) = (stub, address));
        let exit = guest.system_call()?;
        let refused = shim::syscall_return(&guest.capabilities, &exit, 0);
        expect(format_args!("a return to {address:#x}"), refused, Err::<Regs, _>(BadReturn { rip: address }))?;
    }
    Ok(())
}

pub(crate) fn many_system_calls_are_each_seen_once(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code =
        assemble!("mov ebx, 50", "2:", "mov rax, rbx", "syscall", "dec ebx", "jnz 2b", "call qword ptr [0x400ff8]");
    let mut guest = Guest::new(hypervisor, code)?;
    for number in (1..=50_u64).rev() {
        expect("the call's number", guest.system_call()?.rax, number)?;
        answer(&mut guest, 0)?;
    }
    guest.ring().map(drop)
}

/// Answers the system call that has arrived.
fn answer(guest: &mut Guest, result: u64) -> Result<(), Failure> {
    let resumed = shim::syscall_return(&guest.capabilities, &guest.vcpu.regs(), result);
    let resumed =
        resumed.map_err(|bad| differs("the return address", "one of the guest's".to_owned(), bad.to_string()))?;
    guest.vcpu.set_regs(&resumed);
    Ok(())
}

// Flags.
const CARRY: u64 = 1;
const TRAP_FLAG: u64 = 1 << 8;
const INTERRUPT: u64 = 1 << 9;
const DIRECTION: u64 = 1 << 10;
const ALIGNMENT_CHECK: u64 = 1 << 18;
const IDENTIFICATION: u64 = 1 << 21;
