//! What a call costs.

use ampoule_vmm::x86_64::shim;
use ampoule_vmm::{Counters, Hypervisor};

use crate::code::assemble;
use crate::failure::{Failure, expect};
use crate::guest::{Guest, READ, SOMEWHERE, pages_on};

pub(crate) fn a_warm_run_costs_one_call_into_the_kernel(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("2:", "call qword ptr [0x400ff8]", "jmp 2b"))?;
    guest.ring()?;
    let before = guest.vcpu.counters();
    for round in 0..10 {
        guest.set(|regs| regs.rbx = round);
        guest.ring()?;
    }
    expect("calls into the kernel", since(&guest, before), Counters { runs: 10, ioctls: 0 })
}

pub(crate) fn special_registers_that_are_asked_for_every_time_are_free(
    hypervisor: &dyn Hypervisor,
) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("2:", "call qword ptr [0x400ff8]", "jmp 2b"))?;
    guest.ring()?;
    guest.vcpu.special_regs()?;
    let before = guest.vcpu.counters();
    for _ in 0..10 {
        guest.ring()?;
        let special = guest.vcpu.special_regs()?;
        guest.vcpu.set_special_regs(&special)?;
    }
    expect("calls into the kernel", since(&guest, before), Counters { runs: 10, ioctls: 0 })
}

pub(crate) fn a_system_call_costs_one_run(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("2:", "syscall", "jmp 2b"))?;
    guest.system_call()?;
    let before = guest.vcpu.counters();
    for _ in 0..10 {
        let regs = guest.vcpu.regs();
        let resumed = shim::syscall_return(&guest.capabilities, &regs, 0);
        guest.vcpu.set_regs(&resumed.expect("the guest called from its own code"));
        guest.system_call()?;
    }
    expect("calls into the kernel", since(&guest, before), Counters { runs: 10, ioctls: 0 })
}

pub(crate) fn a_mended_page_fault_costs_one_run(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("2:", "mov rax, [rdi]", "add rdi, 4096", "jmp 2b");
    let mut guest = Guest::new(hypervisor, code)?;
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    guest.page_fault()?;
    let before = guest.vcpu.counters();
    for page in 0..10 {
        guest.map(pages_on(SOMEWHERE, page), page, READ);
        guest.page_fault()?;
    }
    expect("calls into the kernel", since(&guest, before), Counters { runs: 10, ioctls: 0 })
}

fn since(guest: &Guest, before: Counters) -> Counters {
    let after = guest.vcpu.counters();
    Counters { runs: after.runs - before.runs, ioctls: after.ioctls - before.ioctls }
}
