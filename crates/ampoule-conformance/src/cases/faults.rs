//! Exceptions: how they arrive, and how the guest continues.

use ampoule_vmm::x86_64::capabilities::PortAccess;
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{ExceptionFrame, Trap};
use ampoule_vmm::{GuestVirt, Hypervisor};

use crate::code::assemble;
use crate::failure::{Failure, differs, expect, expect_regs, require};
use crate::guest::{CODE, Guest, READ, RESUME, SOMEWHERE, STACK_TOP, USER, WRITE, WRITING, offset};
use crate::values::distinct_regs;

pub(crate) fn exceptions_arrive_by_their_vectors(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    guest.map(SOMEWHERE, 0, READ);
    guest.ram.write(offset(0), &UNMASKED_DIVISION.to_le_bytes())?;
    // Code, vector, error code, and how far behind the start the frame's instruction pointer is.
    let cases: [(&[u8], u8, Option<u64>, u64); 6] = [
        (assemble!("div ecx"), 0, None, 0),
        (assemble!("int3"), 3, None, 1),
        (assemble!("ud2"), 6, None, 0),
        (assemble!("mov rax, [rdi]"), 13, Some(0), 0),
        (assemble!("mov rax, [rsi + 0x1000]"), 14, Some(USER), 0),
        (assemble!("fninit", "fldcw [rsi]", "fldz", "fldz", "fdivp", "fwait"), 16, None, 10),
    ];
    for (code, vector, error_code, behind) in cases {
        guest.load(code)?;
        guest.set(|regs| {
            (regs.rdi, regs.rsi) = (NOT_CANONICAL, SOMEWHERE.0);
        });
        let frame = guest.exception(vector)?;
        let found = (frame.rip, frame.error_code);
        expect(format_args!("instruction and error code of exception {vector}"), found, (CODE.0 + behind, error_code))?;
    }
    Ok(())
}

pub(crate) fn a_stray_stack_pointer_is_a_fault(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    for code in [assemble!("mov rax, [rbp]"), assemble!("push rax")] {
        let mut guest = Guest::new(hypervisor, code)?;
        guest.set(|regs| (regs.rbp, regs.rsp) = (NOT_CANONICAL, NOT_CANONICAL));
        // A stack fault according to the manual; emulators know only general protection.
        let trap = guest.trap()?;
        let Trap::Exception(vector @ (12 | 13)) = trap else {
            return Err(differs("the trap", "a stack fault".to_owned(), format!("{trap:?}")));
        };
        let frame = guest.system.exception_frame(vector);
        expect("the fault", (frame.rip, frame.rsp, frame.error_code), (CODE.0, NOT_CANONICAL, Some(0_u64)))?;
    }
    Ok(())
}

pub(crate) fn alignment_and_simd_exceptions_have_theirs(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("mov rax, [rsp - 9]"))?;
    guest.set(|regs| regs.rflags |= ALIGNMENT_CHECK);
    let frame = guest.exception(17)?;
    expect("the alignment check", (frame.rip, frame.error_code), (CODE.0, Some(0_u64)))?;

    guest.load(assemble!("push 0", "ldmxcsr [rsp]", "divss xmm0, xmm0"))?;
    let frame = guest.exception(19)?;
    expect("the SIMD exception", (frame.rip, frame.error_code), (CODE.0 + 6, None::<u64>))
}

pub(crate) fn a_frame_holds_what_was_interrupted(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("ud2"))?;
    let set = distinct_regs(&guest);
    guest.vcpu.set_regs(&set);
    let frame = guest.exception(6)?;
    let expected = ExceptionFrame {
        error_code: None,
        rip: set.rip,
        cs: USER_CODE,
        rflags: frame.rflags,
        rsp: set.rsp,
        ss: USER_DATA,
    };
    expect("the frame", frame, expected)?;
    // A fault may or may not set the resume flag in the frame.
    expect("flags in the frame", frame.rflags & !RESUME, set.rflags)?;
    let regs = guest.vcpu.regs();
    let general = Regs { rip: regs.rip, rsp: regs.rsp, rflags: regs.rflags, ..set };
    expect_regs("registers in the stub", &regs, &general)
}

pub(crate) fn a_retried_instruction_finds_all_registers(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    // The load at the start faults, is retried once the page is mapped, and leads on to `ud2`.
    let mut guest = Guest::new(hypervisor, assemble!("mov rax, [rdi]", "ud2"))?;
    let set = Regs { rdi: SOMEWHERE.0, ..distinct_regs(&guest) };
    guest.vcpu.set_regs(&set);
    guest.page_fault()?;
    guest.map(SOMEWHERE, 0, READ);
    guest.ram.write_u64(offset(0), 0xfeed)?;
    let found = guest.registers_at_ud2()?;
    expect_regs("after the retry", &found, &Regs { rax: 0xfeed, rip: CODE.0 + 3, ..set })
}

pub(crate) fn an_exception_needs_none_of_the_guests_stack(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("push rax"))?;
    guest.set(|regs| regs.rsp = SOMEWHERE.0);
    expect("the fault", guest.page_fault()?, (SOMEWHERE.0 - 8, USER | WRITING))
}

pub(crate) fn an_exception_leaves_the_red_zone_alone(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("int3", "int3"))?;
    guest.map(SOMEWHERE, 0, WRITE);
    let pattern = [0xa5; 256];
    guest.ram.write(offset(0), &pattern)?;
    guest.set(|regs| regs.rsp = SOMEWHERE.0 + 192);
    for _ in 0..2 {
        guest.exception(3)?;
    }
    let mut found = [0; 256];
    guest.ram.read(offset(0), &mut found)?;
    expect("memory around the stack pointer", found, pattern)
}

pub(crate) fn software_interrupts_reach_no_gate_but_that_of_breakpoints(
    hypervisor: &dyn Hypervisor,
) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    for number in (0x00..=0xff).filter(|number| !matches!(number, 3 | 4)) {
        guest.load(&[INT, number])?;
        let trap = guest.trap()?;
        // A general-protection fault at the instruction, according to the manual. Some hypervisors raise an invalid opcode
        // instead, or for some numbers a fault behind the instruction; but none may raise the exception of that number.
        let Trap::Exception(vector @ (6 | 13 | 14)) = trap else {
            return Err(differs(format_args!("int {number:#x}"), "a refusal".to_owned(), format!("{trap:?}")));
        };
        let refused = vector != number || guest.system.exception_frame(vector).rip == CODE.0;
        require(format_args!("int {number:#x}"), refused, "a refusal", format_args!("the exception of that number"))?;
    }
    Ok(())
}

pub(crate) fn privileged_instructions_are_refused(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    guest.map(SOMEWHERE, 0, READ);
    let with_ports: [&[u8]; 2] = [assemble!("cli"), assemble!("sti")];
    let for_ring_0 = [
        assemble!("hlt"),
        assemble!("mov rax, cr0"),
        assemble!("mov rax, cr3"),
        assemble!("mov cr3, rax"),
        assemble!("mov cr4, rax"),
        assemble!("mov rax, dr7"),
        assemble!("mov dr7, rax"),
        assemble!("lgdt [rdi]"),
        assemble!("lidt [rdi]"),
        assemble!("lldt ax"),
        assemble!("ltr ax"),
        assemble!("lmsw ax"),
        assemble!("clts"),
        assemble!("invlpg [rdi]"),
        assemble!("wbinvd"),
        assemble!("rdmsr"),
        assemble!("wrmsr"),
        assemble!("swapgs"),
        assemble!("sysretq"),
        assemble!("iretq"),
    ];
    // Where ring 3 may use all ports, it may change the interrupt flag too, which has no effect here.
    let open = guest.capabilities.ports == PortAccess::PrivilegeLevel;
    for code in with_ports.into_iter().filter(|_| !open).chain(for_ring_0) {
        guest.load(code)?;
        // `iretq` finds a frame of zeros.
        guest.set(|regs| (regs.rdi, regs.rsp) = (SOMEWHERE.0, STACK_TOP.0 - 64));
        let frame = guest.exception(13)?;
        expect(format_args!("fault of {code:x?}"), (frame.rip, frame.error_code), (CODE.0, Some(0_u64)))?;
    }
    Ok(())
}

pub(crate) fn single_steps_arrive_and_can_be_resumed(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("nop", "nop", "nop"))?;
    guest.set(|regs| regs.rflags |= TRAP_FLAG);
    for step in 1..=3_u64 {
        expect("rip after a step", guest.exception(1)?.rip, CODE.0 + step)?;
    }
    Ok(())
}

pub(crate) fn a_guest_goes_on_where_the_host_puts_it(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("ud2", "call qword ptr [0x400ff8]"))?;
    for _ in 0..3 {
        guest.exception(6)?;
        guest.restart(GuestVirt(CODE.0 + 2))?;
        guest.ring()?;
        guest.go(CODE);
    }
    Ok(())
}

pub(crate) fn a_fault_within_a_string_instruction_can_be_resumed(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("rep stosb", "call qword ptr [0x400ff8]"))?;
    guest.map(SOMEWHERE, 0, WRITE);
    guest.set(|regs| (regs.rdi, regs.rcx, regs.rax) = (SOMEWHERE.0 + 0xff0, 0x20, 0x77));
    expect("the fault", guest.page_fault()?, (SOMEWHERE.0 + 0x1000, USER | WRITING))?;
    let regs = guest.vcpu.regs();
    expect("what is left to do", (regs.rdi, regs.rcx), (SOMEWHERE.0 + 0x1000, 0x10_u64))?;
    guest.map(GuestVirt(SOMEWHERE.0 + 0x1000), 1, WRITE);
    expect("rcx at the end", guest.ring()?.rcx, 0_u64)?;
    let mut found = [0; 0x21];
    guest.ram.read(offset(0) + 0xff0, &mut found)?;
    expect("what was stored", found[..0x20] == [0x77; 0x20] && found[0x20] == 0, true)
}

/// `int imm8`
const INT: u8 = 0xcd;

const NOT_CANONICAL: u64 = 0x8000_0000_0000_0000;

/// An x87 control word that leaves only division by zero and invalid operations unmasked.
const UNMASKED_DIVISION: u16 = 0x037a;

/// Selectors that `System` gives to user code.
const USER_CODE: u64 = 0x33;
const USER_DATA: u64 = 0x2b;

// Flags.
const TRAP_FLAG: u64 = 1 << 8;
const ALIGNMENT_CHECK: u64 = 1 << 18;
