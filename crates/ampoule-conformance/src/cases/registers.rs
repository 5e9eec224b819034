//! Registers, in and out.

use ampoule_vmm::x86_64::registers::{Regs, Segment};
use ampoule_vmm::x86_64::shim::{SYSTEM_BASE, Trap};
use ampoule_vmm::{Hypervisor, WriteTracking};

use crate::code::assemble;
use crate::failure::{Failure, expect, expect_regs, require};
use crate::guest::{CODE, Guest, READ, SOMEWHERE, SYSTEM_SLOT, WRITE, offset};
use crate::values::distinct_regs;

pub(crate) fn what_is_set_reads_back(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    let set = distinct_regs(&guest);
    guest.vcpu.set_regs(&set);
    expect_regs("before a run", &guest.vcpu.regs(), &set)?;
    let mut special = guest.vcpu.special_regs()?;
    (special.fs.base, special.gs.base, special.cr2) = (SOMEWHERE.0, CODE.0, 0x1234);
    guest.vcpu.set_special_regs(&special)?;
    expect("special registers before a run", guest.vcpu.special_regs()?, special)
}

pub(crate) fn every_general_register_travels_both_ways(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!(
        "not rax", "not rbx", "not rcx", "not rdx", "not rsi", "not rdi", "not rsp", "not rbp", "not r8", "not r9",
        "not r10", "not r11", "not r12", "not r13", "not r14", "not r15", "ud2",
    );
    let mut guest = Guest::new(hypervisor, code)?;
    let set = distinct_regs(&guest);
    guest.vcpu.set_regs(&set);
    let found = guest.registers_at_ud2()?;
    let expected = Regs {
        rax: !set.rax,
        rbx: !set.rbx,
        rcx: !set.rcx,
        rdx: !set.rdx,
        rsi: !set.rsi,
        rdi: !set.rdi,
        rsp: !set.rsp,
        rbp: !set.rbp,
        r8: !set.r8,
        r9: !set.r9,
        r10: !set.r10,
        r11: !set.r11,
        r12: !set.r12,
        r13: !set.r13,
        r14: !set.r14,
        r15: !set.r15,
        rip: CODE.0 + 16 * 3,
        rflags: set.rflags,
    };
    expect_regs("after each was inverted", &found, &expected)
}

pub(crate) fn registers_can_be_changed_at_every_exit(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("2:", "add rbx, rcx", "call qword ptr [0x400ff8]", "jmp 2b");
    let mut guest = Guest::new(hypervisor, code)?;
    for round in 0..20_u64 {
        guest.set(|regs| (regs.rbx, regs.rcx) = (1000 * round, round));
        expect("the sum", guest.ring()?.rbx, 1001 * round)?;
    }
    Ok(())
}

pub(crate) fn segment_bases_reach_the_guest(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("mov rbx, fs:[8]", "mov rcx, gs:[8]", "call qword ptr [0x400ff8]");
    let mut guest = Guest::new(hypervisor, code)?;
    guest.map_pages(SOMEWHERE, 0, 2, READ);
    guest.ram.write_u64(offset(0) + 8, 0xf5)?;
    guest.ram.write_u64(offset(1) + 8, 0x65)?;
    for swapped in [false, true] {
        let (fs, gs) = (SOMEWHERE.0, SOMEWHERE.0 + 0x1000);
        let (fs, gs) = if swapped { (gs, fs) } else { (fs, gs) };
        guest.vcpu.abandon()?;
        guest.restart(CODE)?;
        let mut special = guest.vcpu.special_regs()?;
        (special.fs.base, special.gs.base) = (fs, gs);
        guest.vcpu.set_special_regs(&special)?;
        let regs = guest.ring()?;
        let expected = if swapped { (0x65_u64, 0xf5_u64) } else { (0xf5, 0x65) };
        expect("what was loaded from fs and gs", (regs.rbx, regs.rcx), expected)?;
        let after = guest.vcpu.special_regs()?;
        expect("the bases after the run", (after.fs.base, after.gs.base), (fs, gs))?;
    }
    Ok(())
}

pub(crate) fn segment_bases_are_the_guests_to_set_if_promised(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("wrfsbase rdi", "wrgsbase rsi", "rdfsbase rbx", "rdgsbase rcx", "call qword ptr [0x400ff8]");
    let mut guest = Guest::new(hypervisor, code)?;
    guest.set(|regs| (regs.rdi, regs.rsi) = (SOMEWHERE.0, 0x7777));
    // Even where it is not promised, the processor may execute it.
    let trap = guest.trap()?;
    if trap == Trap::Exception(6) && !guest.capabilities.fsgsbase {
        return Ok(());
    }
    require("the trap", trap == Trap::Doorbell, "that of the doorbell", format_args!("{trap:?}"))?;
    let regs = guest.vcpu.regs();
    expect("what the guest reads back", (regs.rbx, regs.rcx), (SOMEWHERE.0, 0x7777_u64))?;
    let special = guest.vcpu.special_regs()?;
    expect("what the host sees", (special.fs.base, special.gs.base), (SOMEWHERE.0, 0x7777_u64))
}

pub(crate) fn the_host_sees_the_bases_of_segments_that_the_guest_loads(
    hypervisor: &dyn Hypervisor,
) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("mov fs, eax", "mov gs, eax", "call qword ptr [0x400ff8]"))?;
    let mut special = guest.vcpu.special_regs()?;
    (special.fs.base, special.gs.base) = (SOMEWHERE.0, SOMEWHERE.0);
    guest.vcpu.set_special_regs(&special)?;
    guest.set(|regs| regs.rax = USER_DATA.into());
    guest.ring()?;
    let special = guest.vcpu.special_regs()?;
    expect("bases of fs and gs", (special.fs.base, special.gs.base), (0_u64, 0_u64))
}

pub(crate) fn the_hosts_segments_replace_the_guests(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("mov ds, ecx", "mov fs, ecx", "call qword ptr [0x400ff8]"))?;
    guest.ring()?;
    let special = guest.vcpu.special_regs()?;
    // Some hypervisors leave these selectors to the processor and know nothing of them. Only the bases matter.
    let are_known = (special.ds.selector, special.fs.selector) == (0, 0);

    guest.load(assemble!("mov eax, ds", "mov ebx, fs", "mov rdx, fs:[8]", "call qword ptr [0x400ff8]"))?;
    guest.map(SOMEWHERE, 0, READ);
    guest.ram.write_u64(offset(0) + 8, 0xf5)?;
    let mut special = guest.vcpu.special_regs()?;
    special.fs.base = SOMEWHERE.0;
    guest.vcpu.set_special_regs(&special)?;
    let regs = guest.ring()?;
    expect("what fs leads to", regs.rdx, 0xf5_u64)?;
    if are_known {
        let expected = (u64::from(USER_DATA), u64::from(USER_DATA));
        expect("selectors of ds and fs", (regs.rax, regs.rbx), expected)?;
    }
    Ok(())
}

pub(crate) fn other_page_tables_take_effect(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("mov rbx, [rdi]", "call qword ptr [0x400ff8]");
    let (mut one, mut other) = (Guest::new(hypervisor, code)?, Guest::new(hypervisor, code)?);
    // The other guest's tables lie at the same addresses, and lead from the same address to another page.
    one.map(SOMEWHERE, 0, READ);
    other.map(SOMEWHERE, 1, READ);
    one.ram.write_u64(offset(0), 0xa)?;
    one.ram.write_u64(offset(1), 0xb)?;
    one.set(|regs| regs.rdi = SOMEWHERE.0);
    expect("through the first tables", one.ring()?.rbx, 0xa_u64)?;
    one.vm.unmap(SYSTEM_SLOT)?;
    one.vm.map(SYSTEM_SLOT, SYSTEM_BASE, other.system.region().clone(), WriteTracking::Off)?;
    one.restart(CODE)?;
    one.set(|regs| regs.rdi = SOMEWHERE.0);
    expect("through the other tables", one.ring()?.rbx, 0xb_u64)
}

pub(crate) fn special_registers_are_right_whether_expected_or_not(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("mov rax, [rdi]"))?;
    for (round, ask) in [true, false, false, true, true, false, true].into_iter().enumerate() {
        let address = SOMEWHERE.0 + 8 * round as u64;
        guest.restart(CODE)?;
        guest.set(|regs| regs.rdi = address);
        guest.exception(14)?;
        if ask {
            expect("the fault's address", guest.vcpu.special_regs()?.cr2, address)?;
        }
    }
    Ok(())
}

pub(crate) fn user_code_runs_in_user_segments(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("mov eax, cs", "mov ebx, ss", "call qword ptr [0x400ff8]"))?;
    let set = guest.vcpu.special_regs()?;
    let regs = guest.ring()?;
    expect("cs and ss by the guest", (regs.rax, regs.rbx), (u64::from(set.cs.selector), u64::from(set.ss.selector)))?;
    let after = guest.vcpu.special_regs()?;
    let essence = |segment: Segment| (segment.selector, segment.privilege, segment.long);
    expect("cs and ss by the host", [after.cs, after.ss].map(essence), [set.cs, set.ss].map(essence))
}

pub(crate) fn the_guest_has_the_register_state_that_is_promised(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!(
        "mov eax, 13",
        "xor ecx, ecx",
        "cpuid",
        "mov esi, eax",
        "xor ecx, ecx",
        "xgetbv",
        "mov edi, eax",
        "call qword ptr [0x400ff8]",
    );
    let mut guest = Guest::new(hypervisor, code)?;
    let xcr0 = guest.capabilities.xcr0;
    expect("state beyond x87, SSE and AVX", xcr0 & !7, 0_u64)?;
    if xcr0 == 0 {
        return guest.exception(6).map(drop);
    }
    let regs = guest.ring()?;
    let (found, own) = ((regs.rsi, regs.rdi), this_processors_state());
    if found == own {
        // This hypervisor can set neither, and lets the processor answer, which has what is promised, and more.
        return expect("XCR0 by xgetbv, of what is promised", found.1 & xcr0, xcr0);
    }
    expect("XCR0 by cpuid and by xgetbv", found, (xcr0, xcr0))
}

/// XCR0 as `cpuid` and `xgetbv` report it in this process.
fn this_processors_state() -> (u64, u64) {
    if !std::arch::is_x86_feature_detected!("xsave") {
        return (0, 0);
    }
    // SAFETY: the processor has XSAVE, and the system has enabled it.
    let enabled = unsafe { std::arch::x86_64::_xgetbv(0) };
    (std::arch::x86_64::__cpuid_count(13, 0).eax.into(), enabled)
}

pub(crate) fn vcpus_of_different_machines_have_their_own_registers(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("2:", "add [rdi], rbx", "mov rcx, [rdi]", "call qword ptr [0x400ff8]", "jmp 2b");
    let mut guests = [Guest::new(hypervisor, code)?, Guest::new(hypervisor, code)?];
    for (guest, step) in guests.iter_mut().zip([3_u64, 5]) {
        guest.map(SOMEWHERE, 0, WRITE);
        guest.set(|regs| (regs.rdi, regs.rbx) = (SOMEWHERE.0, step));
    }
    for round in 1..=5_u64 {
        for (guest, step) in guests.iter_mut().zip([3_u64, 5]) {
            let regs = guest.ring()?;
            expect("the guest's own sum", (regs.rbx, regs.rcx), (step, step * round))?;
        }
    }
    Ok(())
}

/// The selector that `System` gives to user data.
const USER_DATA: u16 = 0x2b;

pub(crate) fn the_time_stamp_counter_goes_on_in_a_later_machine(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("rdtsc", "call qword ptr [0x400ff8]", "rdtsc", "call qword ptr [0x400ff8]");
    let count = |guest: &mut Guest| guest.ring().map(|regs| regs.rdx << 32 | regs.rax);
    let mut last = 0;
    for machine in 0..3 {
        let mut guest = Guest::new(hypervisor, code)?;
        for _ in 0..2 {
            let now = count(&mut guest)?;
            require(format!("the counter of machine {machine}"), now > last, format!("more than {last:x}"), now)?;
            last = now;
        }
    }
    Ok(())
}
