//! Registers, costs and interruption of a vCPU.

use std::sync::atomic::{AtomicBool, Ordering};

use ampoule_vmm::Exit;
use ampoule_vmm::x86_64::shim::Trap;

use crate::guest::{CODE, Guest, RING, SOMEWHERE, load_and_ring};

#[test]
fn the_guest_has_the_register_state_that_the_capabilities_promise() {
    // cpuid; mov esi, eax; xor ecx, ecx; xgetbv; mov edi, eax; doorbell
    let code = [&[0x0f, 0xa2, 0x89, 0xc6, 0x31, 0xc9, 0x0f, 0x01, 0xd0, 0x89, 0xc7][..], &RING].concat();
    let mut guest = Guest::new(&code);
    let xcr0 = guest.capabilities.xcr0;
    assert_eq!(xcr0 & !7, 0, "nothing but x87, SSE and AVX");
    guest.with_regs(|regs| regs.rax = 0xd);
    if xcr0 == 0 {
        guest.exception(6);
        return;
    }
    assert_eq!(guest.trap(), Trap::Doorbell);
    assert_eq!(guest.vcpu.regs().rsi, xcr0, "by cpuid");
    assert_eq!(guest.vcpu.regs().rdi, xcr0, "by xgetbv");
}

#[test]
fn an_interrupt_requested_before_a_run_ends_it_until_it_is_cleared() {
    let mut guest = Guest::new(&RING);
    let interrupter = guest.vcpu.interrupter();
    interrupter.request();
    for _ in 0..2 {
        assert_eq!(guest.vcpu.run().unwrap(), Exit::Interrupted);
        assert_eq!(guest.vcpu.regs().rip, CODE.0);
    }
    interrupter.clear();
    assert_eq!(guest.trap(), Trap::Doorbell);
}

#[test]
fn a_signal_ends_a_run_that_would_never_end() {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: the handler does nothing, and no other test uses this signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    // jmp $
    let mut guest = Guest::new(&[0xeb, 0xfe]);
    let interrupter = guest.vcpu.interrupter();
    let done = AtomicBool::new(false);
    // SAFETY: has no preconditions.
    let runner = unsafe { libc::pthread_self() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            interrupter.request();
            // A signal that comes between the request and the run does no harm, and one is enough after that.
            while !done.load(Ordering::SeqCst) {
                // SAFETY: the runner waits for this thread before it ends.
                unsafe { libc::pthread_kill(runner, libc::SIGUSR1) };
                std::thread::yield_now();
            }
        });
        assert_eq!(guest.vcpu.run().unwrap(), Exit::Interrupted);
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(guest.vcpu.regs().rip, CODE.0);
}

#[test]
fn an_interrupter_outlives_its_vcpu() {
    let guest = Guest::new(&RING);
    let interrupter = guest.vcpu.interrupter();
    drop(guest);
    interrupter.request();
    interrupter.clear();
}

#[test]
fn a_warm_run_costs_one_call_into_the_kernel() {
    // doorbell; jmp to the start
    let code = [&RING[..], &[0xeb, (-(RING.len() as i8) - 2) as u8]].concat();
    let mut guest = Guest::new(&code);
    assert_eq!(guest.trap(), Trap::Doorbell);
    guest.vcpu.special_regs().unwrap();
    let before = guest.vcpu.counters();
    for _ in 0..10 {
        guest.with_regs(|regs| regs.rbx = 1);
        assert_eq!(guest.trap(), Trap::Doorbell);
        let special = guest.vcpu.special_regs().unwrap();
        assert_eq!(special.cs.selector, 0x33);
        guest.vcpu.set_special_regs(&special).unwrap();
    }
    let after = guest.vcpu.counters();
    assert_eq!(after.runs, before.runs + 10);
    assert_eq!(after.ioctls, before.ioctls);
}

#[test]
fn special_registers_are_right_whether_they_were_expected_or_not() {
    // mov rax, [rdi], again and again
    let mut guest = Guest::new(&load_and_ring());
    for (round, ask) in [true, false, false, true, true, false, true].iter().enumerate() {
        let address = SOMEWHERE.0 + 8 * round as u64;
        let special = guest.system.initial_special_regs(&guest.capabilities, guest.tables.root());
        guest.vcpu.set_special_regs(&special).unwrap();
        guest.go(CODE);
        guest.with_regs(|regs| regs.rdi = address);
        guest.exception(14);
        if *ask {
            assert_eq!(guest.vcpu.special_regs().unwrap().cr2, address);
        }
    }
}
