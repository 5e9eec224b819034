use super::*;
use crate::x86_64::capabilities::{Paging, PortAccess, SyscallRing};
use crate::x86_64::registers::Regs;

const ORDINARY: Capabilities = Capabilities {
    ports: PortAccess::Bitmap,
    syscall: SyscallRing::Ring0,
    fsgsbase: true,
    base_instructions: true,
    umip: true,
    paging: Paging::Nested,
    protection_keys: false,
    counter: true,
    xcr0: 7,
    baseline: None,
};

const SOFTWARE: Capabilities = Capabilities { syscall: SyscallRing::Ring3, ..ORDINARY };

fn no_state() -> FpuState {
    FpuState(Box::new([0; 1024]))
}

fn bytes<const N: usize>(system: &System, offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    system.region().read(offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn the_descriptor_table_holds_no_32_bit_code() {
    let (system, _) = System::new(16).unwrap();
    let table: [u8; descriptors::GDT_LIMIT as usize + 1] = bytes(&system, GDT);
    for descriptor in table[..0x40].chunks_exact(8) {
        let [.., access, flags, _] = *descriptor else { unreachable!() };
        let is_code = access & 0x98 == 0x98;
        let is_long = flags & 0x20 != 0;
        assert!(!is_code || is_long, "{descriptor:x?}");
    }
}

#[test]
fn the_bitmap_allows_two_ports() {
    let (system, _) = System::new(16).unwrap();
    let segment: [u8; 0x68 + 33] = bytes(&system, TSS);
    let allowed: Vec<u16> =
        (0..256).filter(|port| segment[0x68 + port / 8] & 1 << (port % 8) == 0).map(|port| port as u16).collect();
    assert_eq!(allowed, [SYSCALL_PORT, DOORBELL_PORT]);
    assert_eq!(segment[0x68 + 32], 0xff, "the bitmap ends with a byte of ones");
}

#[test]
fn every_gate_leads_to_the_stub_of_its_vector_on_the_interrupt_stack() {
    let (system, _) = System::new(16).unwrap();
    for vector in 0..32 {
        let gate: [u8; 16] = bytes(&system, IDT + 16 * vector);
        let handler = u64::from_le_bytes([gate[0], gate[1], gate[6], gate[7], gate[8], gate[9], gate[10], gate[11]]);
        let offset = (handler - HOST_BASE.0) as usize;
        let out: [u8; 2] = bytes(&system, offset);
        assert_eq!(out, [0xe6, EXCEPTION_PORT as u8 + vector as u8]);
        assert_eq!(gate[4], 1, "the first interrupt stack");
        let from_ring_3 = gate[5] & 0x60 == 0x60;
        assert_eq!(from_ring_3, vector == 3 || vector == 4);
    }
}

#[test]
fn the_guest_may_execute_the_stubs_made_for_it_and_read_the_state_to_resume_with() {
    let (_, tables) = System::new(16).unwrap();
    let (mut executable, mut readable) = (Vec::new(), Vec::new());
    for page in (0..TABLES + 16 * PAGE_SIZE).step_by(PAGE_SIZE) {
        if let Some((to, access)) = tables.translate(virt(page)) {
            assert_eq!(to.0, page as u64);
            assert!(!(access.write && access.execute));
            if access.user {
                assert!(!access.write);
                if access.execute { executable.push(page) } else { readable.push(page) }
            }
        }
        assert!(page < TABLES || tables.translate(virt(page)).is_none());
    }
    assert_eq!(executable, [LSTAR, GATE]);
    assert_eq!(readable, [STATE, STATE + 0x1000, STATE + 0x2000]);
}

#[test]
fn the_page_of_the_doorbell_leaves_by_no_other_instruction() {
    let (system, _) = System::new(16).unwrap();
    let page: [u8; PAGE_SIZE] = bytes(&system, GATE);
    assert_eq!(page[..2], [0xe6, DOORBELL_PORT as u8]);
    // The first bytes of `outs`, `out`, `int` and `syscall`, at whatever offset the guest jumps into the page.
    let leaving =
        page[1..].iter().filter(|byte| matches!(byte, 0x6e | 0x6f | 0xe6 | 0xe7 | 0xee | 0xef | 0xcd)).count();
    assert_eq!(leaving, 0);
    assert!(!page.windows(2).any(|pair| pair == [0x0f, 0x05]));
}

#[test]
fn a_system_needs_its_own_tables() {
    assert!(System::new(OWN_TABLES - 1).is_err());
    let (_, tables) = System::new(OWN_TABLES).unwrap();
    assert_eq!(tables.free_tables(), 0);
    assert!(System::new(usize::MAX / PAGE_SIZE).is_err());
}

#[test]
fn every_trap_is_told_by_its_port() {
    let traps = [Trap::SystemCall, Trap::Doorbell].into_iter().chain((0..32).map(Trap::Exception));
    for trap in traps {
        assert_eq!(Trap::from_port(trap.port()), Some(trap));
    }
    for port in [0, 0xf, 0x12, 0x1f, 0x40, 0x11f, 0x220, u16::MAX] {
        assert_eq!(Trap::from_port(port), None);
    }
}

#[test]
fn an_exit_counts_as_a_trap_only_from_its_stub() {
    for rip in [DOORBELL.0, DOORBELL.0 + 2] {
        assert_eq!(Trap::identify(DOORBELL_PORT, rip), Ok(Trap::Doorbell));
        let port = SYSCALL_PORT;
        assert_eq!(Trap::identify(port, rip), Err(Forgery { port, rip }));
    }
    let page_fault = virt(STUBS).0 + 14 * 8;
    assert_eq!(Trap::identify(0x2e, page_fault), Ok(Trap::Exception(14)));
    assert!(Trap::identify(0x2d, page_fault).is_err());
    for rip in [0x40_1000, DOORBELL.0 + 1, DOORBELL.0 + 3, RESUME_STUB.0, RESUME_STUB.0 + 2, u64::MAX] {
        for port in [SYSCALL_PORT, DOORBELL_PORT, EXCEPTION_PORT] {
            assert!(Trap::identify(port, rip).is_err());
        }
    }
}

#[test]
fn a_system_call_returns_behind_the_instruction() {
    let exit = Regs { rax: 1, rcx: 0x40_1002, r11: 0x246, rip: SYSCALL_STUB.0 + 2, rflags: 2, ..Regs::default() };
    let by_sysret = syscall_return(&ORDINARY, &exit, 7).unwrap();
    assert_eq!(by_sysret, Regs { rax: 7, ..exit });

    let by_host = syscall_return(&SOFTWARE, &exit, 7).unwrap();
    assert_eq!(by_host, Regs { rax: 7, rip: 0x40_1002, rflags: 0x246, ..exit });
}

#[test]
fn a_system_call_returns_with_no_flag_that_is_not_the_guests() {
    let exit = Regs { rcx: 0x40_1002, r11: u64::MAX, ..Regs::default() };
    // All but IOPL, NT, RF, VM, VIF, VIP and the bits that are always zero.
    let allowed = 0x24_0fd7;
    let resumed = syscall_return(&ORDINARY, &exit, 0).unwrap();
    assert_eq!(resumed.r11, allowed);
    let resumed = syscall_return(&SOFTWARE, &exit, 0).unwrap();
    assert_eq!(resumed.rflags, allowed);

    let cleared = Regs { r11: 0, ..exit };
    assert_eq!(syscall_return(&ORDINARY, &cleared, 0).unwrap().r11, 0x202);

    let by_privilege = Capabilities { ports: PortAccess::PrivilegeLevel, ..ORDINARY };
    let resumed = syscall_return(&by_privilege, &cleared, 0).unwrap();
    assert_eq!(resumed.r11, 0x3202);
}

#[test]
fn a_system_call_cannot_return_into_the_hosts_half_or_to_no_address_at_all() {
    for rip in [HOST_BASE.0, DOORBELL.0, 1 << 47, u64::MAX] {
        let exit = Regs { rcx: rip, ..Regs::default() };
        assert_eq!(syscall_return(&ORDINARY, &exit, 0), Err(BadReturn { rip }));
        assert_eq!(syscall_return(&SOFTWARE, &exit, 0), Err(BadReturn { rip }));
    }
}

#[test]
fn features_are_switched_on_only_where_the_processor_has_them() {
    let (system, tables) = System::new(16).unwrap();
    let full = system.initial_special_regs(&ORDINARY, tables.root());
    assert_eq!(full.cr4, 0x5_0e20);
    let bare = Capabilities { fsgsbase: false, umip: false, xcr0: 0, ..ORDINARY };
    assert_eq!(system.initial_special_regs(&bare, tables.root()).cr4, 0x620);
    assert_eq!(full.cr3, tables.root().0);
}

#[test]
fn resuming_begins_in_the_stub_with_all_other_registers() {
    let (system, _) = System::new(16).unwrap();
    let regs = Regs { rax: 1, rdx: 2, rip: 3, rbx: 4, rsp: 5, rflags: 0xcd7, ..Regs::default() };
    let mut special = SpecialRegs::default();
    (special.fs.base, special.gs.base) = (6, 7);
    let resumption = system.set_resume_state(&ORDINARY, &no_state(), &regs, &special).unwrap();
    let start = Regs { rip: RESUME_STUB.0, ..regs };
    assert_eq!(resumption, Resumption { regs: start, loads_bases: true });
    let without_bases = Capabilities { base_instructions: false, ..ORDINARY };
    let resumption = system.set_resume_state(&without_bases, &no_state(), &regs, &special).unwrap();
    let later = Regs { rip: RESUME_STUB.0 + resume_stub().without_bases, ..regs };
    assert_eq!(resumption, Resumption { regs: later, loads_bases: false });
    let loaded: [u8; 40] = bytes(&system, STATE + resume::STATE_SIZE - 40);
    let words: Vec<u64> = loaded.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [6, 7, regs.rax, regs.rdx, regs.rip]);
}

#[test]
fn what_cannot_be_resumed_changes_nothing() {
    let (system, _) = System::new(16).unwrap();
    let regs = Regs { rax: 1, ..Regs::default() };
    let state = no_state();
    let special = SpecialRegs::default();
    system.set_resume_state(&ORDINARY, &state, &regs, &special).unwrap();
    let before: [u8; resume::STATE_SIZE] = bytes(&system, STATE);
    let without_xsave = Capabilities { xcr0: 0, ..ORDINARY };
    let other = Regs { rax: 2, ..regs };
    assert_eq!(system.set_resume_state(&without_xsave, &state, &other, &special), Err(ResumeError::NoXsave));
    let with_keys = Capabilities { protection_keys: true, ..ORDINARY };
    assert_eq!(system.set_resume_state(&with_keys, &state, &other, &special), Err(ResumeError::ProtectionKeys));
    let stepping = Regs { rflags: 0x102, ..other };
    assert_eq!(system.set_resume_state(&ORDINARY, &state, &stepping, &special), Err(ResumeError::SingleStep));
    for rsp in [1 << 47, 1 << 63, 0xffff_7fff_ffff_ffff] {
        let nowhere = Regs { rsp, ..other };
        assert_eq!(
            system.set_resume_state(&ORDINARY, &state, &nowhere, &special),
            Err(ResumeError::StackPointer { rsp })
        );
    }
    for base in [1 << 47, u64::MAX >> 1] {
        let mut special = special;
        special.gs.base = base;
        let refused = system.set_resume_state(&ORDINARY, &state, &other, &special);
        assert_eq!(refused, Err(ResumeError::SegmentBase { base }));
    }
    let after: [u8; resume::STATE_SIZE] = bytes(&system, STATE);
    assert!(before == after);
}
