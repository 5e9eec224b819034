//! Instructions that only the host's side may execute.

use std::arch::asm;

use ampoule_guest::export;

/// Executes one privileged instruction, by name, without the standard library's handler, which would have it executed again.
#[export]
fn privileged(instruction: &str) -> bool {
    // SAFETY: to have no handler is always possible.
    unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    // SAFETY: none. Every instruction here is meant to fault.
    unsafe {
        match instruction {
            "hlt" => asm!("hlt"),
            "cli" => asm!("cli"),
            "sti" => asm!("sti"),
            "in" => asm!("in al, 0x10", out("al") _),
            "mov from cr0" => asm!("mov {}, cr0", out(reg) _),
            "mov to cr3" => asm!("mov cr3, {}", in(reg) 0u64),
            "mov to dr7" => asm!("mov dr7, {}", in(reg) 0u64),
            "rdmsr" => asm!("rdmsr", in("ecx") 0xc000_0082u32, out("eax") _, out("edx") _),
            "wrmsr" => asm!("wrmsr", in("ecx") 0xc000_0082u32, in("eax") 0, in("edx") 0),
            "lgdt" => asm!("lgdt [{}]", in(reg) &[0u64; 2]),
            "lidt" => asm!("lidt [{}]", in(reg) &[0u64; 2]),
            "ltr" => asm!("ltr {0:x}", in(reg) 0x40u64),
            "invlpg" => asm!("invlpg [{}]", in(reg) 0u64),
            "invd" => asm!("invd"),
            "wbinvd" => asm!("wbinvd"),
            "clts" => asm!("clts"),
            "swapgs" => asm!("swapgs"),
            "sysretq" => asm!("sysretq"),
            "iretq to ring 0" => asm!(
                "mov {0}, rsp", "push 0x18", "push {0}", "pushfq", "push 0x10", "lea {0}, [rip]", "push {0}", "iretq",
                out(reg) _
            ),
            "xsetbv" => asm!("xsetbv", in("ecx") 0, in("eax") 1, in("edx") 0),
            "int 0x20" => asm!("int 0x20"),
            "ud2" => asm!("ud2"),
            "int3" => asm!("int3"),
            "single step" => asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop"),
            "misaligned" => asm!(
                "pushfq", "or qword ptr [rsp], 0x40000", "popfq", "mov {0}, [rsp + 1]", out(reg) _
            ),
            "simd" => asm!(
                "ldmxcsr [{0}]", "xorps xmm0, xmm0", "divss xmm0, xmm0", in(reg) &0u32, out("xmm0") _
            ),
            "x87" => asm!(
                "fninit", "fldcw [{0}]", "fldz", "fldz", "fdivp", "fwait", in(reg) &0x0340u16,
                out("st(0)") _, out("st(1)") _
            ),
            "divide" => asm!("div {0:e}", in(reg) 0u32, inout("eax") 1u32 => _, inout("edx") 0u32 => _),
            "non-canonical" => asm!("mov {0}, [{0}]", inout(reg) 0x8000_0000_0000_0000u64 => _),
            _ => return false,
        }
    }
    true
}

/// Writes to an I/O port.
#[export]
fn output_to_port(port: u16) -> bool {
    // SAFETY: none. The instruction is meant to fault, or to leave the guest through a port that is not the guest's to use.
    unsafe { asm!("out dx, al", in("dx") port, in("al") 0u8) };
    true
}

/// Makes a system call that asks for I/O privilege in the flags with which it returns, then uses a port.
#[export]
fn raise_io_privilege() -> u64 {
    let flags: u64;
    // SAFETY: the flags are saved by the system call into r11 and restored from it; `getpid` changes nothing else.
    unsafe {
        asm!(
            "pushfq",
            "or qword ptr [rsp], 0x3000",
            "popfq",
            "syscall",
            "pushfq",
            "pop {flags}",
            flags = out(reg) flags,
            inout("rax") 39u64 => _,
            out("rcx") _,
            out("r11") _,
        );
    }
    flags
}
