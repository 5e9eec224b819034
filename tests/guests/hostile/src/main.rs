//! A guest that does its worst: every function tries to break out of the sandbox, to break the host, or to break the rules
//! of the ABI.

mod memory;
mod privileged;
mod protocol;

use ampoule_guest::export;

/// Makes any system call.
#[export]
fn system_call(number: u64, arguments: [u64; 6]) -> u64 {
    let result;
    // SAFETY: none. What a system call does to the guest is what is being tested; the registers are those of the
    // x86-64 system-call convention.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// Whether it still works.
#[export]
fn alive() -> bool {
    true
}

#[export]
fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

#[export]
fn print_for_ever() {
    loop {
        println!("{}", "x".repeat(1000));
    }
}

ampoule_guest::main!();
