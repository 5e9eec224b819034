//! The machine code of the stubs.

use crate::address::PAGE_SIZE;

use super::descriptors::USER_DATA;
use super::{DOORBELL_PORT, EXCEPTION_PORT, SYSCALL_PORT, resume};

/// How many exceptions there are.
pub(super) const VECTORS: u8 = 32;

/// The stub of exception `n` begins at `n` times this offset.
pub(super) const STUB_SIZE: usize = 8;

/// The size of `out imm8, al`.
pub(super) const OUT_SIZE: u64 = 2;

/// Where `syscall` arrives. RCX and R11 are as the instruction left them unless the host changed them.
pub(super) const SYSCALL_STUB: [u8; 5] = [
    OUT_IMM8_AL,
    SYSCALL_PORT as u8,
    // sysretq
    0x48,
    0x0f,
    0x07,
];

/// The doorbell.
pub(super) const DOORBELL: [u8; 3] = [
    OUT_IMM8_AL,
    DOORBELL_PORT as u8,
    // ret
    0xc3,
];

/// The resume stub, for the virtual address `at` and a state area at the virtual address `state`, less than 2 GiB away: it
/// loads the segment registers with the user's data segment, and from that area the bases of FS and GS, all state
/// components, then RAX, RDX and RIP. It changes no flag and uses no stack.
///
/// The segment registers are loaded because some hypervisors neither see nor set the selectors that ring 3 loads, so that
/// these would survive a restore.
pub(super) fn resume_stub(at: u64, state: u64) -> ResumeStub {
    let mut code = Vec::new();
    let mut add = |instruction: &[u8], operand: Option<usize>| {
        code.extend(instruction);
        if let Some(operand) = operand {
            let behind = at + (code.len() + size_of::<i32>()) as u64;
            let displacement = (state + operand as u64).wrapping_sub(behind) as i32;
            code.extend(displacement.to_le_bytes());
        }
        code.len() as u64
    };
    add(&LOAD_FS_GS, None);
    add(&MOV_RDX, Some(resume::FS_BASE));
    add(&WRFSBASE_RDX, None);
    add(&MOV_RDX, Some(resume::GS_BASE));
    let without_bases = add(&WRGSBASE_RDX, None);
    add(&LOAD_DS_ES, None);
    add(&ALL_COMPONENTS, None);
    add(&XRSTOR64, Some(0));
    add(&MOV_RAX, Some(resume::RAX));
    add(&MOV_RDX, Some(resume::RDX));
    add(&JMP, Some(resume::RIP));
    ResumeStub { code, without_bases }
}

/// The resume stub's code.
pub(super) struct ResumeStub {
    pub(super) code: Vec<u8>,
    /// Where it begins on a processor on which ring 3 cannot set the bases of FS and GS.
    pub(super) without_bases: u64,
}

/// The stubs of all exceptions, one after another.
pub(super) fn exception_stubs() -> [u8; PAGE_SIZE] {
    let mut page = [INT3; PAGE_SIZE];
    for (vector, stub) in (0..VECTORS).zip(page.chunks_exact_mut(STUB_SIZE)) {
        let code = if has_error_code(vector) { &RETURN_PAST_ERROR_CODE[..] } else { &RETURN[..] };
        stub[0] = OUT_IMM8_AL;
        stub[1] = EXCEPTION_PORT as u8 + vector;
        stub[2..2 + code.len()].copy_from_slice(code);
    }
    page
}

/// A page that holds `code` and traps everywhere else.
pub(super) fn page_of(code: &[u8]) -> [u8; PAGE_SIZE] {
    let mut page = [INT3; PAGE_SIZE];
    page[..code.len()].copy_from_slice(code);
    page
}

/// Whether the processor pushes an error code for an exception (AMD64 Architecture Programmer's Manual, volume 2, section
/// 8.2).
pub(super) fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

/// `mov eax, USER_DATA; mov fs, eax; mov gs, eax`
const LOAD_FS_GS: [u8; 9] = [0xb8, USER_DATA as u8, 0x00, 0x00, 0x00, 0x8e, 0xe0, 0x8e, 0xe8];

/// `wrfsbase rdx`
const WRFSBASE_RDX: [u8; 5] = [0xf3, 0x48, 0x0f, 0xae, 0xd2];

/// `wrgsbase rdx`
const WRGSBASE_RDX: [u8; 5] = [0xf3, 0x48, 0x0f, 0xae, 0xda];

/// `mov eax, USER_DATA; mov ds, eax; mov es, eax`
const LOAD_DS_ES: [u8; 9] = [0xb8, USER_DATA as u8, 0x00, 0x00, 0x00, 0x8e, 0xd8, 0x8e, 0xc0];

/// `mov eax, -1; cdq`: all bits of the mask in EDX:EAX.
const ALL_COMPONENTS: [u8; 6] = [0xb8, 0xff, 0xff, 0xff, 0xff, 0x99];

// Instructions whose operand's distance from the next instruction follows.

/// `xrstor64 [rip + ..]`
const XRSTOR64: [u8; 4] = [0x48, 0x0f, 0xae, 0x2d];

/// `mov rax, [rip + ..]`
const MOV_RAX: [u8; 3] = [0x48, 0x8b, 0x05];

/// `mov rdx, [rip + ..]`
const MOV_RDX: [u8; 3] = [0x48, 0x8b, 0x15];

/// `jmp [rip + ..]`
const JMP: [u8; 2] = [0xff, 0x25];

const OUT_IMM8_AL: u8 = 0xe6;

const INT3: u8 = 0xcc;

/// `iretq`
const RETURN: [u8; 2] = [0x48, 0xcf];

/// `add rsp, 8; iretq`
const RETURN_PAST_ERROR_CODE: [u8; 6] = [0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf];
