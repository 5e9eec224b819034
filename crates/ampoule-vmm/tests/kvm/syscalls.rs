//! The `syscall` instruction, there and back.

use ampoule_vmm::GuestVirt;
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{self, HOST_BASE, Trap};

use crate::guest::{CODE, Guest, RING};

#[test]
fn a_system_call_returns_with_its_result_and_all_other_registers() {
    // syscall; syscall; doorbell
    let mut guest = Guest::new(&[&[0x0f, 0x05, 0x0f, 0x05][..], &RING].concat());
    let arguments = Regs {
        rax: 39,
        rbx: 1,
        rdx: 2,
        rsi: 3,
        rdi: 4,
        rbp: 5,
        r8: 6,
        r9: 7,
        r10: 8,
        r12: 9,
        r13: 10,
        r14: 11,
        r15: 12,
        ..guest.vcpu.regs()
    };
    guest.vcpu.set_regs(&arguments);
    for call in 1..=2 {
        assert_eq!(guest.trap(), Trap::SystemCall);
        let exit = guest.vcpu.regs();
        let behind = CODE.0 + 2 * call;
        assert_eq!(exit.rcx, behind);
        let expected = Regs {
            rax: if call == 1 { 39 } else { 101 },
            rcx: behind,
            r11: exit.r11,
            rip: exit.rip,
            rflags: exit.rflags,
            ..arguments
        };
        assert_eq!(exit, expected);
        assert_eq!(exit.r11 & 0x202, 0x202);
        let resumed = shim::syscall_return(&guest.capabilities, &exit, 100 + call).unwrap();
        guest.vcpu.set_regs(&resumed);
    }
    assert_eq!(guest.trap(), Trap::Doorbell);
    assert_eq!(guest.vcpu.regs().rbx, 1);
    let special = guest.vcpu.special_regs().unwrap();
    assert_eq!((special.cs.selector, special.ss.selector), (0x33, 0x2b));
}

#[test]
fn a_system_call_keeps_the_flags_that_are_the_guests() {
    // stc; std; syscall; pushfq; pop rbx; cld; doorbell
    let code = [&[0xf9, 0xfd, 0x0f, 0x05, 0x9c, 0x5b, 0xfc][..], &RING].concat();
    let mut guest = Guest::new(&code);
    assert_eq!(guest.trap(), Trap::SystemCall);
    let exit = guest.vcpu.regs();
    let resumed = shim::syscall_return(&guest.capabilities, &exit, 0).unwrap();
    guest.vcpu.set_regs(&resumed);
    assert_eq!(guest.trap(), Trap::Doorbell);
    let (carry, direction) = (1, 1 << 10);
    let flags = guest.vcpu.regs().rbx;
    assert_eq!(flags & (carry | direction), carry | direction);
}

#[test]
fn a_forged_jump_into_the_syscall_stub_gains_nothing() {
    // mov rdx, LSTAR; mov rcx, -4096; jmp rdx
    let lstar = GuestVirt(HOST_BASE.0 + 0x5000);
    let code =
        [&[0x48, 0xba][..], &lstar.0.to_le_bytes(), &[0x48, 0xc7, 0xc1, 0x00, 0xf0, 0xff, 0xff, 0xff, 0xe2]].concat();
    let mut guest = Guest::new(&code);
    assert_eq!(guest.trap(), Trap::SystemCall);
    let exit = guest.vcpu.regs();
    let error = shim::syscall_return(&guest.capabilities, &exit, 0).unwrap_err();
    assert_eq!(error.rip, -4096_i64 as u64);
}
