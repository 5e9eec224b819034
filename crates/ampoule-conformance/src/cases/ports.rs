//! What leaves a guest, and that nothing else does.

use std::fmt;

use ampoule_vmm::x86_64::capabilities::PortAccess;
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{self, DOORBELL, Trap};
use ampoule_vmm::{Exit, Hypervisor};

use crate::code::assemble;
use crate::failure::{Failure, expect, expect_regs, require};
use crate::guest::{CODE, Guest, READ, SOMEWHERE, offset};
use crate::values::distinct_regs;

pub(crate) fn the_doorbell_reaches_the_host_and_returns(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest =
        Guest::new(hypervisor, assemble!("mov ebx, 7", "2:", "call qword ptr [0x400ff8]", "inc ebx", "jmp 2b"))?;
    for expected in 7..12_u64 {
        expect("rbx", guest.ring()?.rbx, expected)?;
    }
    Ok(())
}

pub(crate) fn the_doorbell_changes_no_register(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("call qword ptr [0x400ff8]", "ud2"))?;
    let set = Regs { rip: CODE.0, ..distinct_regs(&guest) };
    guest.vcpu.set_regs(&set);
    let exit = guest.ring()?;
    expect_regs("at the exit", &exit, &Regs { rip: exit.rip, rsp: set.rsp - 8, ..set })?;
    let back = guest.registers_at_ud2()?;
    expect_regs("after the return", &back, &Regs { rip: CODE.0 + CALL_SIZE, ..set })
}

pub(crate) fn an_out_of_the_guests_own_is_seen_as_a_forgery(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    for port in [shim::DOORBELL_PORT, shim::SYSCALL_PORT] {
        for (code, size) in [(&[0xe6, port as u8][..], 2), (assemble!("out dx, al"), 1)] {
            guest.load(code)?;
            guest.set(|regs| (regs.rax, regs.rdx) = (0x5a, port.into()));
            guest.expect_exit(&Exit::IoOut { port, data: &[0x5a] })?;
            let rip = guest.vcpu.regs().rip;
            require("rip at the exit", [CODE.0, CODE.0 + size].contains(&rip), "the guest's own `out`", rip)?;
            require(
                "what it is taken for",
                Trap::identify(port, rip).is_err(),
                "a forgery",
                Trap::identify(port, rip),
            )?;
        }
    }
    Ok(())
}

pub(crate) fn a_string_of_outs_does_not_pass_for_a_stub(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("rep outsb"))?;
    guest.map(SOMEWHERE, 0, READ);
    guest.ram.write(offset(0), b"four")?;
    let port = shim::DOORBELL_PORT;
    guest.set(|regs| (regs.rsi, regs.rcx, regs.rdx) = (SOMEWHERE.0, 4, port.into()));
    let exit = guest.vcpu.run()?;
    let left = matches!(exit, Exit::IoOut { port: found, .. } if found == port) || is_refusal(&exit);
    require("the exit", left, "an `out` to the doorbell's port, or a general-protection fault", exit)?;
    let rip = guest.vcpu.regs().rip;
    require("rip", Trap::identify(port, rip).is_err(), "not that of the doorbell", rip)
}

pub(crate) fn input_leaves_as_input_or_not_at_all(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    for port in [shim::DOORBELL_PORT, shim::SYSCALL_PORT] {
        guest.load(assemble!("in al, dx"))?;
        guest.set(|regs| regs.rdx = port.into());
        let exit = guest.vcpu.run()?;
        let as_input = exit == Exit::IoIn { port, len: 1 } || is_refusal(&exit);
        require("the exit", as_input, "input from that port, or a general-protection fault", exit)?;
    }
    Ok(())
}

pub(crate) fn every_other_port_is_denied(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    let allowed = [shim::SYSCALL_PORT, shim::DOORBELL_PORT];
    let low = (0..0x100).filter(|port| !allowed.contains(port));
    for port in low.chain([0x100, 0x3f8, 0x510, 0xcf8, 0x8000, 0xffff]) {
        guest.load(assemble!("out dx, al"))?;
        refused(&mut guest, format_args!("out to port {port:#x}"), port)?;
    }
    for port in [0x00, 0x0f, 0x12, 0x20, 0x2e, 0x60, 0x3f8, 0xffff] {
        guest.load(assemble!("in al, dx"))?;
        refused(&mut guest, format_args!("in from port {port:#x}"), port)?;
    }
    Ok(())
}

pub(crate) fn a_wide_out_needs_all_its_ports(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    for (code, port) in [
        (assemble!("out dx, ax"), shim::DOORBELL_PORT),
        (assemble!("out dx, eax"), shim::DOORBELL_PORT),
        (assemble!("out dx, eax"), shim::SYSCALL_PORT),
        (assemble!("out dx, ax"), shim::SYSCALL_PORT - 1),
    ] {
        guest.load(code)?;
        refused(&mut guest, format_args!("{code:x?} to port {port:#x}"), port)?;
    }
    Ok(())
}

pub(crate) fn a_run_goes_on_behind_the_doorbells_out(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    // Without an interruption, the same `out` is never made twice.
    let mut guest = Guest::new(hypervisor, assemble!("2:", "inc rbx", "call qword ptr [0x400ff8]", "jmp 2b"))?;
    for rung in 1..=100_u64 {
        let regs = guest.ring()?;
        expect("how often the guest has rung", regs.rbx, rung)?;
        let here = [DOORBELL.0, DOORBELL.0 + OUT_SIZE].contains(&regs.rip);
        require("rip", here, "at or behind the doorbell's `out`", regs.rip)?;
    }
    Ok(())
}

/// Makes sure that an access is refused, or, where the capabilities say that none is, that its exit reports the port.
#[track_caller]
fn refused(guest: &mut Guest, what: impl fmt::Display, port: u16) -> Result<(), Failure> {
    guest.set(|regs| regs.rdx = port.into());
    if guest.capabilities.ports == PortAccess::PrivilegeLevel {
        let exit = guest.vcpu.run()?;
        let told = matches!(exit, Exit::IoOut { port: found, .. } | Exit::IoIn { port: found, .. } if found == port);
        require(what, told, "an exit with that port", exit)?;
        let rip = guest.vcpu.regs().rip;
        return require("rip", Trap::identify(port, rip).is_err(), "the guest's own", rip);
    }
    let frame = guest.exception(13)?;
    expect(what, (frame.rip, frame.error_code), (CODE.0, Some(0_u64)))
}

fn is_refusal(exit: &Exit<'_>) -> bool {
    matches!(exit, Exit::IoOut { port, .. } if Trap::from_port(*port) == Some(Trap::Exception(13)))
}

/// The size of `call qword ptr [0x400ff8]`.
const CALL_SIZE: u64 = 7;

/// The size of `out imm8, al`.
const OUT_SIZE: u64 = 2;
