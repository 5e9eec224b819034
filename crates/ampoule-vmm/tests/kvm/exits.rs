//! What leaves a guest, and that nothing else does.

use ampoule_vmm::x86_64::capabilities::PortAccess;
use ampoule_vmm::x86_64::shim::Trap;
use ampoule_vmm::{Exit, GuestVirt};

use crate::guest::{CODE, Guest, RING, SOMEWHERE, STACK_TOP, USER, WRITING};

#[test]
fn the_doorbell_reaches_the_host_and_returns() {
    // mov ebx, 7; doorbell; inc ebx; doorbell
    let code = [&[0xbb, 7, 0, 0, 0][..], &RING, &[0xff, 0xc3], &RING].concat();
    let mut guest = Guest::new(&code);
    assert_eq!(guest.trap(), Trap::Doorbell);
    assert_eq!(guest.vcpu.regs().rbx, 7);
    assert_eq!(guest.vcpu.regs().rsp, STACK_TOP.0 - 8);
    assert_eq!(guest.trap(), Trap::Doorbell);
    assert_eq!(guest.vcpu.regs().rbx, 8);
}

#[test]
fn an_out_of_the_guests_own_is_seen_as_a_forgery() {
    // out 0x11, al
    let mut guest = Guest::new(&[0xe6, 0x11]);
    let exit = guest.vcpu.run().unwrap();
    assert_eq!(exit, Exit::IoOut { port: 0x11, data: &[0] });
    assert!(Trap::identify(0x11, guest.vcpu.regs().rip).is_err());
}

#[test]
fn every_other_port_is_denied() {
    for code in [
        &[0xe6, 0x12][..], // out 0x12, al
        &[0xe6, 0x2e],     // out 0x2e, al: the page fault's port
        &[0xe6, 0xff],     // out 0xff, al
        &[0xe4, 0x60],     // in al, 0x60
        &[0xe7, 0x11],     // out 0x11, eax: four ports, three of them denied
        &[0xee],           // out dx, al with dx = 0
        &[0xfa],           // cli
        &[0xf4],           // hlt
    ] {
        let mut guest = Guest::new(code);
        assert_ne!(guest.capabilities.ports, PortAccess::PrivilegeLevel);
        let frame = guest.exception(13);
        assert_eq!(frame.rip, CODE.0, "{code:x?}");
        assert_eq!(frame.error_code, Some(0), "{code:x?}");
    }
}

#[test]
fn exceptions_arrive_by_their_vector() {
    let cases: [(&[u8], u8, u64); 5] = [
        (&[0x0f, 0x0b], 6, 0),             // ud2
        (&[0x31, 0xc9, 0xf7, 0xf1], 0, 2), // xor ecx, ecx; div ecx
        (&[0xcc], 3, 1),                   // int3: reported behind the instruction
        (&[0x48, 0xcf], 13, 0),            // iretq to a stack of zeros
        (&[0x0f, 0x20, 0xd8], 13, 0),      // mov rax, cr3
    ];
    for (code, vector, offset) in cases {
        let mut guest = Guest::new(code);
        // Room for what `iretq` reads.
        guest.with_regs(|regs| regs.rsp -= 64);
        let frame = guest.exception(vector);
        assert_eq!(frame.rip, CODE.0 + offset, "{code:x?}");
        assert_eq!(frame.rsp, STACK_TOP.0 - 64, "{code:x?}");
        assert_eq!(frame.error_code.is_some(), vector == 13);
    }
}

#[test]
fn software_interrupts_reach_no_gate_but_that_of_breakpoints() {
    for number in [0x00, 0x02, 0x08, 0x0e, 0x1f, 0x20, 0x80, 0xff] {
        let mut guest = Guest::new(&[0xcd, number]); // int n
        let trap = guest.trap();
        // General protection by the manual; some hypervisors say that there is no such instruction.
        let refused = [Trap::Exception(13), Trap::Exception(6)].contains(&trap);
        assert!(refused, "int {number:#x}: {trap:?}");
    }
}

#[test]
fn single_steps_arrive_as_debug_exceptions_and_can_be_resumed() {
    // nop; nop; nop
    let mut guest = Guest::new(&[0x90, 0x90, 0x90]);
    let trap_flag = 1 << 8;
    guest.with_regs(|regs| regs.rflags |= trap_flag);
    for step in 1..=3 {
        let frame = guest.exception(1);
        assert_eq!(frame.rip, CODE.0 + step);
    }
}

#[test]
fn an_exception_needs_none_of_the_guests_stack() {
    // push rax, with a stack pointer that leads nowhere
    let mut guest = Guest::new(&[0x50]);
    guest.with_regs(|regs| regs.rsp = SOMEWHERE.0);
    let address = GuestVirt(SOMEWHERE.0 - 8);
    assert_eq!(guest.page_fault(), (address, USER | WRITING));
}

#[test]
fn a_guest_goes_on_after_an_exception_where_the_host_puts_it() {
    let code = [&[0x0f, 0x0b][..], &RING].concat(); // ud2; doorbell
    let mut guest = Guest::new(&code);
    for _ in 0..2 {
        guest.exception(6);
        let special = guest.system.initial_special_regs(&guest.capabilities, guest.tables.root());
        guest.vcpu.set_special_regs(&special).unwrap();
        guest.go(GuestVirt(CODE.0 + 2));
        assert_eq!(guest.trap(), Trap::Doorbell);
        guest.go(CODE);
    }
}
