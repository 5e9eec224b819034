//! Machine code of the guests.

use ampoule_vmm::DOORBELL;

use crate::guest::{DATA, NOWHERE};

/// `mov r9, DOORBELL; mov rdi, DATA; mov r10, NOWHERE`: what the other instructions use.
pub(crate) fn set_up() -> Vec<u8> {
    [&[0x49, 0xb9][..], &DOORBELL.0.to_le_bytes(), &[0x48, 0xbf], &DATA.0.to_le_bytes(), &[0x49, 0xba]]
        .concat()
        .into_iter()
        .chain(NOWHERE.0.to_le_bytes())
        .collect()
}

/// `mov rdi, ..`
pub(crate) fn mov_rdi(value: u64) -> Vec<u8> {
    [&[0x48, 0xbf][..], &value.to_le_bytes()].concat()
}

/// `mov rax, ..`
pub(crate) fn mov_rax(value: u64) -> Vec<u8> {
    [&[0x48, 0xb8][..], &value.to_le_bytes()].concat()
}

/// `mov ecx, ..`
pub(crate) fn mov_ecx(value: u32) -> Vec<u8> {
    [&[0xb9][..], &value.to_le_bytes()].concat()
}

/// `jmp` to the offset `to` from the offset `from`.
pub(crate) fn jump(from: usize, to: usize) -> Vec<u8> {
    let displacement = to as i32 - (from as i32 + 5);
    [&[0xe9][..], &displacement.to_le_bytes()].concat()
}

/// `call r9`
pub(crate) const RING: [u8; 3] = [0x41, 0xff, 0xd1];
pub(crate) const SYSCALL: [u8; 2] = [0x0f, 0x05];
pub(crate) const UD2: [u8; 2] = [0x0f, 0x0b];
pub(crate) const INT3: [u8; 1] = [0xcc];
pub(crate) const NOP: [u8; 1] = [0x90];
/// `xor edx, edx; xor eax, eax; div edx`, the last of which is two bytes long.
pub(crate) const DIVIDE_BY_ZERO: [u8; 6] = [0x31, 0xd2, 0x31, 0xc0, 0xf7, 0xf2];
/// `mov al, [r10]`
pub(crate) const READ: [u8; 3] = [0x41, 0x8a, 0x02];
/// `mov [r10], al`
pub(crate) const WRITE: [u8; 3] = [0x41, 0x88, 0x02];
/// `jmp r10`
pub(crate) const JUMP: [u8; 3] = [0x41, 0xff, 0xe2];
/// `out 0x11, al`
pub(crate) const OUT: [u8; 2] = [0xe6, 0x11];
/// `in al, 0x11`
pub(crate) const IN: [u8; 2] = [0xe4, 0x11];
/// `inc r12`
pub(crate) const INC_R12: [u8; 3] = [0x49, 0xff, 0xc4];
/// `inc qword [rdi]`
pub(crate) const INC_MEMORY: [u8; 3] = [0x48, 0xff, 0x07];
/// `mov [rdi], al; add rdi, 0x1000; loop` back to it: writes to ECX pages.
pub(crate) const WRITE_TO_PAGES: [u8; 11] = [0x88, 0x07, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0xe2, 0xf5];
/// `mov r13, fs:[0]`
pub(crate) const READ_FS: [u8; 9] = [0x64, 0x4c, 0x8b, 0x2c, 0x25, 0, 0, 0, 0];
/// `mov r14, gs:[0]`
pub(crate) const READ_GS: [u8; 9] = [0x65, 0x4c, 0x8b, 0x34, 0x25, 0, 0, 0, 0];
/// `add r13, fs:[0]`
pub(crate) const ADD_FS: [u8; 9] = [0x64, 0x4c, 0x03, 0x2c, 0x25, 0, 0, 0, 0];
/// `movq xmm0, rax`
pub(crate) const RAX_TO_XMM0: [u8; 5] = [0x66, 0x48, 0x0f, 0x6e, 0xc0];
/// `movq xmm1, rax`
pub(crate) const RAX_TO_XMM1: [u8; 5] = [0x66, 0x48, 0x0f, 0x6e, 0xc8];
/// `paddq xmm1, xmm0`
pub(crate) const ADD_XMM: [u8; 4] = [0x66, 0x0f, 0xd4, 0xc8];
/// `movdqu [rdi + 16], xmm1`
pub(crate) const STORE_XMM: [u8; 5] = [0xf3, 0x0f, 0x7f, 0x4f, 0x10];
pub(crate) const STC: [u8; 1] = [0xf9];
/// `adc r14, 0`
pub(crate) const ADD_CARRY: [u8; 4] = [0x49, 0x83, 0xd6, 0x00];
/// `fnstcw [rdi]; stmxcsr [rdi + 4]`
pub(crate) const STORE_CONTROL: [u8; 6] = [0xd9, 0x3f, 0x0f, 0xae, 0x5f, 0x04];
/// `ldmxcsr [rdi + 4]`
pub(crate) const LOAD_MXCSR: [u8; 4] = [0x0f, 0xae, 0x57, 0x04];
