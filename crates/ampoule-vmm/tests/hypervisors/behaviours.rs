//! What a guest can be seen to do, in the words of the table in `docs/hypervisors.md`.

use std::arch::x86_64::{__cpuid, __cpuid_count};

use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::probe::Outcome;
use ampoule_vmm::x86_64::shim::{DOORBELL, DOORBELL_PORT};
use ampoule_vmm::{BaselineError, Hypervisor, Statistics};

use crate::guest::{End, Guest};

/// A behaviour's name in the table, and how it is observed.
pub(crate) type Behaviour = (&'static str, fn() -> String);

pub(crate) const BEHAVIOURS: &[Behaviour] = &[
    ("ring of `syscall`", || capabilities().syscall.to_string()),
    ("`syscall` with EFER.SCE clear", syscall_switched_off),
    ("`out`, allowed by the bitmap of a busy task", bitmap_of_busy_task),
    ("`out`, allowed by the bitmap of an available task", bitmap_of_available_task),
    ("`out` to a denied port at I/O privilege level 3", || at_io_privilege(&[0xe6, 0x80])),
    ("`cli` at I/O privilege level 3", || at_io_privilege(&[0xfa])),
    ("`in` from an allowed port", || run(&[0xe4, DOORBELL_PORT as u8])),
    ("`rep outsb` of four bytes to an allowed port", string_output),
    ("instruction pointer at an exit by `out`", pointer_at_exit),
    ("`int 0x80`", || run(&[0xcd, 0x80])),
    ("`int 6`", || run(&[0xcd, 0x06])),
    ("`int 14`", || run(&[0xcd, 0x0e])),
    ("`int1`", || run(&[0xf1])),
    ("`push` with a stack pointer that is no address", stray_stack),
    ("misaligned access with the alignment check on", misaligned),
    ("SIMD exception that is not masked", || run(&SIMD_DIVISION)),
    ("resume flag in the frame of `ud2`", resume_flag),
    ("exception without a descriptor table", no_table),
    ("`rdfsbase`", || run(&[0xf3, 0x48, 0x0f, 0xae, 0xc0])),
    ("`wrfsbase`", || run(&[0xf3, 0x48, 0x0f, 0xae, 0xd0])),
    ("FSGSBASE by CPUID", || String::from(if capabilities().fsgsbase { "present" } else { "absent" })),
    ("XCR0, by `xgetbv`", xcr0),
    ("AVX-512, which is hidden from guests", avx_512),
    ("what is beyond a baseline of the processor", baseline),
    ("`rdpid`", rdpid),
    ("`rdtscp`", || run(&[0x0f, 0x01, 0xf9])),
    ("`rdtsc` with CR4.TSD set", counter_disabled),
    ("`rdrand`", || run(&[0x0f, 0xc7, 0xf0])),
    ("`rdpmc`", || run(&[0x0f, 0x33])),
    ("`sgdt`", || prevented_by_umip(&[0x0f, 0x01, 0x44, 0x24, 0xe0])),
    ("`sidt`", || prevented_by_umip(&[0x0f, 0x01, 0x4c, 0x24, 0xe0])),
    ("`sldt`", || prevented_by_umip(&[0x0f, 0x00, 0xc0])),
    ("`smsw`", || prevented_by_umip(&[0x0f, 0x01, 0xe0])),
    ("`str`", || prevented_by_umip(&[0x0f, 0x00, 0xc8])),
    ("`vmcall`", || hypercall(&[0x0f, 0x01, 0xc1])),
    ("`vmmcall`", || hypercall(&[0x0f, 0x01, 0xd9])),
    ("`cpuid` in the kernel's `exits`", || exits_of([0x0f, 0xa2])),
    ("`rdtsc` in the kernel's `exits`", || exits_of([0x0f, 0x31])),
    ("`out` in the kernel's `exits`", || counted(|statistics| statistics.exits)),
    ("`out` in the kernel's `io_exits`", || counted(|statistics| statistics.io_exits)),
];

fn capabilities() -> ampoule_vmm::x86_64::capabilities::Capabilities {
    *Kvm::shared().expect("these tests need KVM").capabilities()
}

/// What guests find that are to have `x86-64-v2`, which every processor with virtualization has, and all servers more.
fn baseline() -> String {
    let kvm = Kvm::shared().expect("these tests need KVM");
    match kvm.with_baseline("x86-64-v2".parse().expect("it is a level")) {
        Ok(_) => "hidden".to_owned(),
        Err(BaselineError::NotHidden { .. }) => "found".to_owned(),
        Err(other) => other.to_string(),
    }
}

fn run(code: &[u8]) -> String {
    describe(Guest::new(code).end())
}

fn describe(end: End) -> String {
    match end {
        End::Rang => "executes".to_owned(),
        End::SystemCall => "system call".to_owned(),
        End::Exception(vector) => match NAMES.iter().find(|(number, _)| *number == vector) {
            Some((_, name)) => (*name).to_owned(),
            None => format!("exception {vector}"),
        },
        End::Out { elements: 1 } => "exit".to_owned(),
        End::Out { elements } => format!("exit with {elements} elements"),
        End::In => "exit".to_owned(),
        End::Shutdown => "shutdown".to_owned(),
        End::Other => "other exit".to_owned(),
    }
}

fn counter_disabled() -> String {
    let mut guest = Guest::new(&[0x0f, 0x31]);
    guest.set_special(|special| special.cr4 |= CR4_TSD);
    describe(guest.end())
}

/// Of an instruction that shows a register of ring 0.
fn prevented_by_umip(code: &[u8]) -> String {
    let found = run(code);
    let expected = if capabilities().umip { "#GP" } else { "executes" };
    if found == expected { "#GP where UMIP is announced".to_owned() } else { found }
}

fn syscall_switched_off() -> String {
    let mut guest = Guest::new(&[0x0f, 0x05]);
    guest.set_special(|special| special.efer &= !EFER_SCE);
    describe(guest.end())
}

/// The way that is tried first when the device is opened.
fn bitmap_of_busy_task() -> String {
    let kvm = Kvm::shared().expect("these tests need KVM");
    let trials = kvm.detection().trials.as_ref().expect("the device could be opened");
    trials.ports[0].outcome.map_or_else(String::new, |outcome: Outcome| outcome.to_string())
}

fn bitmap_of_available_task() -> String {
    let mut guest = Guest::new(&[0xe6, DOORBELL_PORT as u8]);
    guest.set_special(|special| special.tr.kind = AVAILABLE_TASK);
    describe(guest.end())
}

fn at_io_privilege(code: &[u8]) -> String {
    let mut guest = Guest::new(code);
    guest.set(|regs| regs.rflags |= IOPL_3);
    describe(guest.end())
}

fn string_output() -> String {
    let mut guest = Guest::new(&[0xf3, 0x6e]);
    guest.set(|regs| (regs.rsi, regs.rcx, regs.rdx) = (regs.rsp, 4, DOORBELL_PORT.into()));
    describe(guest.end())
}

fn pointer_at_exit() -> String {
    let mut guest = Guest::new(&[]);
    assert_eq!(guest.end(), End::Rang);
    let rip = guest.vcpu.regs().rip;
    String::from(if rip == DOORBELL.0 { "at the instruction" } else { "behind it" })
}

fn stray_stack() -> String {
    let mut guest = Guest::new(&[0x50]);
    guest.set(|regs| regs.rsp = 1 << 63);
    describe(guest.end())
}

fn misaligned() -> String {
    // mov rax, [rdi + 1]
    let mut guest = Guest::new(&[0x48, 0x8b, 0x47, 0x01]);
    guest.set(|regs| regs.rflags |= ALIGNMENT_CHECK);
    describe(guest.end())
}

fn resume_flag() -> String {
    let mut guest = Guest::new(&[0x0f, 0x0b]);
    assert_eq!(guest.end(), End::Exception(6));
    String::from(if guest.frame(6).rflags & RESUME_FLAG != 0 { "set" } else { "clear" })
}

fn no_table() -> String {
    let mut guest = Guest::new(&[0x0f, 0x0b]);
    guest.set_special(|special| special.idt.limit = 0);
    describe(guest.end())
}

fn xcr0() -> String {
    let mut guest = Guest::new(&[0x0f, 0x01, 0xd0]);
    match guest.end() {
        End::Rang => {
            let regs = guest.vcpu.regs();
            let set = regs.rdx << 32 | regs.rax & 0xffff_ffff;
            // SAFETY: a guest has just executed the instruction on this processor.
            let own = unsafe { std::arch::x86_64::_xgetbv(0) };
            let is_known = set == guest.capabilities.xcr0 || set == own;
            String::from(if is_known { "as the host has set it, or as in this process" } else { "another" })
        }
        end => describe(end),
    }
}

/// `vpxord zmm0, zmm0, zmm0`
fn avx_512() -> String {
    as_the_processor(&[0x62, 0xf1, 0x7d, 0x48, 0xef, 0xc0], std::arch::is_x86_feature_detected!("avx512f"))
}

/// `rdpid rax`; leaf 7 of CPUID tells of it.
fn rdpid() -> String {
    let (most, leaf) = (__cpuid(0).eax, __cpuid_count(7, 0));
    as_the_processor(&[0xf3, 0x0f, 0xc7, 0xf8], most >= 7 && leaf.ecx & 1 << 22 != 0)
}

/// Whether an instruction does in a guest what it does in this process.
fn as_the_processor(code: &[u8], exists: bool) -> String {
    match (Guest::new(code).end(), exists) {
        (End::Rang, true) | (End::Exception(6), false) => "as in this process".to_owned(),
        (end, _) => describe(end),
    }
}

fn hypercall(code: &[u8]) -> String {
    let mut guest = Guest::new(code);
    match guest.end() {
        End::Rang => format!("answers {}", guest.vcpu.regs().rax as i64),
        end => describe(end),
    }
}

/// Whether the kernel counts an instruction of two bytes as an exit.
fn exits_of(instruction: [u8; 2]) -> String {
    // mov r8d, 100; 1: xor eax, eax; the instruction; dec r8d; jnz 1b
    let [first, second] = instruction;
    let code = [0x41, 0xb8, 100, 0, 0, 0, 0x31, 0xc0, first, second, 0x41, 0xff, 0xc8, 0x75, 0xf7];
    // Interrupts of the host count too.
    let least = (0..5).map(|_| Guest::new(&code).statistics_of_rings(1)?.exits).min().flatten();
    String::from(match least {
        Some(100..) => "counted",
        Some(_) => "not counted",
        None => "not known",
    })
}

/// Whether one of the kernel's statistics has every ring of the doorbell.
fn counted(statistic: fn(Statistics) -> Option<u64>) -> String {
    const RINGS: u32 = 10;
    let least = (0..5).map(|_| Guest::new(&[]).statistics_of_rings(RINGS).and_then(statistic)).min().flatten();
    match least {
        Some(0) => "not counted".to_owned(),
        Some(exits) if exits == u64::from(RINGS) => "counted".to_owned(),
        Some(exits) => format!("{exits} of {RINGS}"),
        None => "not known".to_owned(),
    }
}

/// `push 0; ldmxcsr [rsp]; divss xmm0, xmm0`
const SIMD_DIVISION: [u8; 10] = [0x6a, 0x00, 0x0f, 0xae, 0x14, 0x24, 0xf3, 0x0f, 0x5e, 0xc0];

/// Exceptions (AMD64 Architecture Programmer's Manual, volume 2, section 8.2).
const NAMES: [(u8, &str); 9] =
    [(1, "#DB"), (6, "#UD"), (8, "#DF"), (11, "#NP"), (12, "#SS"), (13, "#GP"), (14, "#PF"), (17, "#AC"), (19, "#XF")];

// Bits of control registers (AMD64 Architecture Programmer's Manual, volume 2, sections 3.1.3 and 3.1.7).
const CR4_TSD: u64 = 1 << 2;
const EFER_SCE: u64 = 1;

/// The type of a 64-bit task state segment that is not busy.
const AVAILABLE_TASK: u8 = 9;

// Flags (the same, section 3.1.6).
const IOPL_3: u64 = 3 << 12;
const RESUME_FLAG: u64 = 1 << 16;
const ALIGNMENT_CHECK: u64 = 1 << 18;
