//! Segment descriptors, gates and the task state segment, in the formats of the AMD64 Architecture Programmer's Manual,
//! volume 2, sections 4.7 and 4.8 (descriptors) and 12.2.5 (task state segment).

use crate::x86_64::registers::Segment;

use super::code::{STUB_SIZE, VECTORS};

/// STAR: `syscall` loads CS with 0x10 and SS with 0x18, `sysretq` CS with 0x23 + 16 and SS with 0x23 + 8.
pub(super) const STAR: u64 = (KERNEL_CODE as u64) << 32 | SYSRET_BASE << 48;

/// Limit of the global descriptor table: the last byte of the task state segment's descriptor.
pub(super) const GDT_LIMIT: u16 = TASK + 15;

/// Limit of the interrupt descriptor table. Software interrupts beyond it are general-protection faults.
pub(super) const IDT_LIMIT: u16 = IDT_SIZE as u16 - 1;

/// The global descriptor table, for a task state segment at the virtual address `tss`. There is no 32-bit code segment.
pub(super) fn gdt(tss: u64) -> [u8; GDT_SIZE] {
    let limit = TSS_LIMIT as u64;
    let task_low = limit & 0xffff
        | (tss & 0xff_ffff) << 16
        | (PRESENT | BUSY_TASK as u64) << 40
        | (limit >> 16) << 48
        | (tss >> 24 & 0xff) << 56;
    let mut table = [0; GDT_SIZE];
    for (selector, descriptor) in [
        (KERNEL_CODE, flat(CODE, 0, LONG)),
        (KERNEL_DATA, flat(DATA, 0, DEFAULT_32)),
        (USER_DATA, flat(DATA, 3, DEFAULT_32)),
        (USER_CODE, flat(CODE, 3, LONG)),
        (TASK, task_low),
        (TASK + 8, tss >> 32),
    ] {
        let at = (selector & !3) as usize;
        table[at..at + 8].copy_from_slice(&descriptor.to_le_bytes());
    }
    table
}

/// The interrupt descriptor table, for exception stubs from the virtual address `stubs` on. Ring 3 may use `int3` and
/// `into`; every other software interrupt is a general-protection fault.
pub(super) fn idt(stubs: u64) -> [u8; IDT_SIZE] {
    let mut table = [0; IDT_SIZE];
    for (vector, gate) in (0..VECTORS).zip(table.chunks_exact_mut(GATE_SIZE)) {
        let stub = stubs + vector as u64 * STUB_SIZE as u64;
        let privilege = if matches!(vector, 3 | 4) { 3 } else { 0 };
        let low = stub & 0xffff
            | (KERNEL_CODE as u64) << 16
            | IST_1 << 32
            | (PRESENT | INTERRUPT_GATE | privilege << 5) << 40
            | (stub >> 16 & 0xffff) << 48;
        gate[..8].copy_from_slice(&low.to_le_bytes());
        gate[8..].copy_from_slice(&(stub >> 32).to_le_bytes());
    }
    table
}

/// The task state segment: every stack pointer is `stack`, and ring 3 may use only `ports` (below 256).
pub(super) fn tss(stack: u64, ports: &[u16]) -> [u8; TSS_SIZE] {
    let mut segment = [0; TSS_SIZE];
    let ring_stacks = (0..3).map(|ring| 4 + 8 * ring);
    let interrupt_stacks = (0..7).map(|ist| 36 + 8 * ist);
    for at in ring_stacks.chain(interrupt_stacks) {
        segment[at..at + 8].copy_from_slice(&stack.to_le_bytes());
    }
    segment[102..104].copy_from_slice(&(BITMAP as u16).to_le_bytes());
    segment[BITMAP..].fill(0xff);
    for port in ports {
        segment[BITMAP + *port as usize / 8] &= !(1 << (port % 8));
    }
    segment
}

/// CS of user code.
pub(super) fn user_code() -> Segment {
    Segment { long: true, ..user_segment(USER_CODE, CODE) }
}

/// All other segment registers of user code.
pub(super) fn user_data() -> Segment {
    Segment { default_32: true, ..user_segment(USER_DATA, DATA) }
}

/// The task register, for a task state segment at the virtual address `base`.
pub(super) fn task(base: u64) -> Segment {
    Segment { selector: TASK, base, limit: TSS_LIMIT, kind: BUSY_TASK, present: true, ..Segment::default() }
}

/// The local descriptor table register: there is none.
pub(super) fn no_ldt() -> Segment {
    Segment { kind: LDT, unusable: true, ..Segment::default() }
}

fn user_segment(selector: u16, kind: u8) -> Segment {
    Segment {
        selector,
        limit: u32::MAX,
        kind,
        code_or_data: true,
        privilege: 3,
        present: true,
        granular: true,
        ..Segment::default()
    }
}

/// A descriptor of the whole address space.
fn flat(kind: u8, privilege: u64, mode: u64) -> u64 {
    let access = PRESENT | CODE_OR_DATA | privilege << 5 | kind as u64;
    0xffff | access << 40 | (0xf | GRANULAR | mode) << 48
}

const KERNEL_CODE: u16 = 0x10;
const KERNEL_DATA: u16 = 0x18;
const SYSRET_BASE: u64 = 0x23;
pub(in crate::x86_64) const USER_DATA: u16 = 0x2b;
pub(in crate::x86_64) const USER_CODE: u16 = 0x33;
const TASK: u16 = 0x40;

const GDT_SIZE: usize = GDT_LIMIT as usize + 1;
const GATE_SIZE: usize = 16;
const IDT_SIZE: usize = VECTORS as usize * GATE_SIZE;

/// Offset of the I/O permission bitmap: right after the fixed part.
const BITMAP: usize = 0x68;

/// One bit for each of 256 ports, and the byte of ones that has to follow.
const TSS_SIZE: usize = BITMAP + 256 / 8 + 1;

const TSS_LIMIT: u32 = TSS_SIZE as u32 - 1;

// Types. The accessed bits are set, so the processor need not write the table.
const CODE: u8 = 0xb;
const DATA: u8 = 0x3;
const LDT: u8 = 0x2;
const BUSY_TASK: u8 = 0xb;
const INTERRUPT_GATE: u64 = 0xe;

// Bits of the access byte.
const PRESENT: u64 = 1 << 7;
const CODE_OR_DATA: u64 = 1 << 4;

// Bits beside the upper limit.
const GRANULAR: u64 = 1 << 7;
const DEFAULT_32: u64 = 1 << 6;
const LONG: u64 = 1 << 5;

/// The gate's field that selects the first stack of the interrupt stack table.
const IST_1: u64 = 1;
