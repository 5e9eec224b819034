//! Ending a run from outside, at every moment.
//!
//! No case looks at a clock. A lost request shows because the guest, once the signal is on its way, has only a limited
//! number of instructions left before it rings.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ampoule_vmm::{Exit, Hypervisor, PAGE_SIZE, Region};

use crate::canceller::{Canceller, FLAG, LONGEST_DELAY};
use crate::code::assemble;
use crate::failure::{Failure, expect, require};
use crate::guest::{CODE, Guest, SOMEWHERE, WRITE, offset};
use crate::signal::{self, Kick};
use crate::values::Numbers;

pub(crate) fn a_request_before_a_run_ends_it_until_it_is_cleared(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(
        hypervisor,
        assemble!("inc rbx", "call qword ptr [0x400ff8]", "inc rbx", "call qword ptr [0x400ff8]"),
    )?;
    let interrupter = guest.vcpu.interrupter();
    for rung in 0..2_u64 {
        interrupter.request();
        for _ in 0..3 {
            guest.expect_exit(&Exit::Interrupted)?;
            expect("what the guest has counted", guest.vcpu.regs().rbx, rung)?;
        }
        interrupter.clear();
        expect("what the guest has counted", guest.ring()?.rbx, rung + 1)?;
    }
    Ok(())
}

pub(crate) fn a_cleared_request_ends_no_run(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("2:", "call qword ptr [0x400ff8]", "jmp 2b"))?;
    let (one, other) = (guest.vcpu.interrupter(), guest.vcpu.interrupter());
    for _ in 0..3 {
        one.request();
        other.request();
        one.clear();
        guest.ring()?;
    }
    one.request();
    other.clear();
    guest.vcpu.settle()?;
    guest.ring().map(drop)
}

pub(crate) fn an_interrupter_outlives_its_vcpu(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("2:", "call qword ptr [0x400ff8]", "jmp 2b");
    let interrupter = Guest::new(hypervisor, code)?.vcpu.interrupter();
    interrupter.request();
    let mut next = Guest::new(hypervisor, code)?;
    next.ring()?;
    interrupter.clear();
    next.ring().map(drop)
}

pub(crate) fn a_request_concerns_one_vcpu(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("call qword ptr [0x400ff8]");
    let (mut one, mut other) = (Guest::new(hypervisor, code)?, Guest::new(hypervisor, code)?);
    one.vcpu.interrupter().request();
    other.ring()?;
    one.expect_exit(&Exit::Interrupted)
}

pub(crate) fn a_spinning_guest_is_ended_at_any_moment(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, spin())?;
    guest.map(SOMEWHERE, FLAG, WRITE);
    let mut numbers = Numbers::new(1);
    for _ in 0..ROUNDS {
        guest.ram.write_u64(offset(FLAG), 0)?;
        guest.go(CODE);
        guest.set(|regs| (regs.rdi, regs.rcx) = (SOMEWHERE.0, ROUNDS_LEFT));
        let canceller = Canceller::new(&guest, numbers.below(LONGEST_DELAY))?;
        canceller.strike_during(|_| guest.expect_exit(&Exit::Interrupted))?;
        guest.vcpu.interrupter().clear();
    }
    Ok(())
}

pub(crate) fn a_guest_between_exits_is_ended_at_any_moment(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!("2:", "inc rbx", "call qword ptr [0x400ff8]", "jmp 2b");
    let mut guest = Guest::new(hypervisor, code)?;
    let mut numbers = Numbers::new(2);
    let mut rung = 0_u64;
    for _ in 0..ROUNDS {
        let canceller = Canceller::new(&guest, numbers.below(LONGEST_DELAY))?;
        canceller.strike_during(|struck| {
            while !ended(&mut guest, struck)? {
                rung += 1;
                expect("how often the guest has rung", guest.vcpu.regs().rbx, rung)?;
            }
            Ok(())
        })?;
        guest.vcpu.interrupter().clear();
        rung += 1;
        expect("how often the guest has rung, after resuming", guest.ring()?.rbx, rung)?;
    }
    Ok(())
}

pub(crate) fn a_guest_that_touches_memory_is_ended_at_any_moment(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let code = assemble!(
        "2:",
        "mov rax, rdi",
        "mov rcx, 64",
        "inc rbx",
        "3:",
        "mov [rax], rbx",
        "add rax, 4096",
        "dec rcx",
        "jnz 3b",
        "call qword ptr [0x400ff8]",
        "jmp 2b",
    );
    let mut guest = Guest::new(hypervisor, code)?;
    guest.map_pages(SOMEWHERE, 0, PAGES, WRITE);
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    let mut numbers = Numbers::new(3);
    let mut round = 0_u64;
    for _ in 0..ROUNDS / 2 {
        guest.ram.discard(offset(0), PAGES * PAGE_SIZE)?;
        let canceller = Canceller::new(&guest, numbers.below(LONGEST_DELAY))?;
        canceller.strike_during(|struck| {
            while !ended(&mut guest, struck)? {
                round += 1;
                check_pages(&guest.ram, round)?;
                guest.ram.discard(offset(0), PAGES * PAGE_SIZE)?;
            }
            Ok(())
        })?;
        guest.vcpu.interrupter().clear();
        round += 1;
        expect("the guest's round, after resuming", guest.ring()?.rbx, round)?;
        check_pages(&guest.ram, round)?;
    }
    Ok(())
}

pub(crate) fn signals_without_a_request_harm_nothing(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    // Adds up rcx.
    let code = assemble!("2:", "add rbx, rcx", "dec rcx", "jnz 2b", "call qword ptr [0x400ff8]");
    let mut guest = Guest::new(hypervisor, code)?;
    let count = 20_000_000_u64;
    guest.set(|regs| regs.rcx = count);
    let kick = Kick::to_this_thread()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Bounded: where signals come faster than a guest can be entered, it would never make progress.
            for _ in 0..SIGNALS {
                kick.send();
                thread::yield_now();
            }
        });
        loop {
            match guest.vcpu.run() {
                Ok(Exit::Interrupted) => {}
                Ok(_) => break Ok(()),
                Err(error) => break Err(error),
            }
        }
    })?;
    signal::handle_pending();
    expect("the sum", guest.vcpu.regs().rbx, count * (count + 1) / 2)
}

pub(crate) fn a_signal_reaches_a_vcpu_on_whatever_thread_it_runs(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, spin())?;
    guest.map(SOMEWHERE, FLAG, WRITE);
    for _ in 0..4 {
        guest.ram.write_u64(offset(FLAG), 0)?;
        guest.go(CODE);
        guest.set(|regs| (regs.rdi, regs.rcx) = (SOMEWHERE.0, ROUNDS_LEFT));
        let ended: Result<(), Failure> = thread::scope(|scope| {
            let runner = thread::Builder::new().spawn_scoped(scope, || {
                let canceller = Canceller::new(&guest, 0)?;
                canceller.strike_during(|_| guest.expect_exit(&Exit::Interrupted))?;
                guest.vcpu.interrupter().clear();
                Ok(())
            })?;
            runner.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
        });
        ended?;
    }
    Ok(())
}

/// Runs until the guest leaves. Returns `false` at an exit of its own, which must not come after the request.
fn ended(guest: &mut Guest, struck: &AtomicBool) -> Result<bool, Failure> {
    loop {
        let before = struck.load(Ordering::SeqCst);
        let exit = guest.vcpu.run()?;
        if exit == Exit::Interrupted {
            return Ok(true);
        }
        let is_own = exit != Exit::ManyWritten;
        require("a run that began after the request", !before, "Interrupted", exit)?;
        if is_own {
            return Ok(false);
        }
    }
}

fn check_pages(ram: &Region, expected: u64) -> Result<(), Failure> {
    for page in 0..PAGES {
        expect(format_args!("what was stored in page {page}"), ram.read_u64(offset(page))?, expected)?;
    }
    Ok(())
}

/// Spins until the signal is on its way, then for another [`ROUNDS_LEFT`] rounds, and rings.
fn spin() -> &'static [u8] {
    assemble!("2:", "cmp qword ptr [rdi], 0", "je 2b", "3:", "dec rcx", "jnz 3b", "call qword ptr [0x400ff8]")
}

/// How many signals come while a guest computes.
const SIGNALS: usize = 1000;

/// How often requests are made at a random moment.
const ROUNDS: usize = 100;

const ROUNDS_LEFT: u64 = 1 << 32;

/// Pages that a guest touches.
const PAGES: usize = FLAG;
