//! Access to memory that a guest may be changing at the same time.
//!
//! The accesses are assembly, which the compiler has to take as an unknown mixture of single accesses: it can neither
//! repeat, merge nor invent one, and concurrent access to the same bytes is as defined as that of relaxed atomics.

use std::arch::asm;

/// Copies `len` bytes.
///
/// # Safety
///
/// `from` is readable and `to` writable for `len` bytes, and the two ranges do not overlap.
pub(crate) unsafe fn bytes(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Writes zeros over `len` bytes.
///
/// # Safety
///
/// `to` is writable for `len` bytes.
pub(crate) unsafe fn zero(to: *mut u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") len => _,
            inout("rdi") to => _,
            in("al") 0u8,
            options(nostack, preserves_flags),
        );
    }
}

/// How many of `len` bytes are zero up to the first that is not, rounded down to a multiple of 64.
///
/// # Safety
///
/// `from` is readable for `len` bytes and a multiple of 16; `len` is a multiple of 64 and not zero.
pub(crate) unsafe fn leading_zeros(from: *const u8, len: usize) -> usize {
    let rest: usize;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "pxor {zero}, {zero}",
            "2:",
            "movdqa {bytes}, xmmword ptr [{from}]",
            "por {bytes}, xmmword ptr [{from} + 16]",
            "por {bytes}, xmmword ptr [{from} + 32]",
            "por {bytes}, xmmword ptr [{from} + 48]",
            "pcmpeqb {bytes}, {zero}",
            "pmovmskb {mask:e}, {bytes}",
            "cmp {mask:e}, 0xffff",
            "jne 3f",
            "add {from}, 64",
            "sub {len}, 64",
            "jnz 2b",
            "3:",
            zero = out(xmm_reg) _,
            bytes = out(xmm_reg) _,
            mask = out(reg) _,
            from = inout(reg) from => _,
            len = inout(reg) len => rest,
            options(nostack, readonly),
        );
    }
    len - rest
}

/// Reads eight bytes in one access.
///
/// # Safety
///
/// `from` is readable for eight bytes.
pub(crate) unsafe fn load_u64(from: *const u8) -> u64 {
    let value: u64;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "mov {value}, qword ptr [{from}]",
            value = out(reg) value,
            from = in(reg) from,
            options(nostack, preserves_flags, readonly),
        );
    }
    value
}

/// Writes eight bytes in one access.
///
/// # Safety
///
/// `to` is writable for eight bytes.
pub(crate) unsafe fn store_u64(to: *mut u8, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "mov qword ptr [{to}], {value}",
            to = in(reg) to,
            value = in(reg) value,
            options(nostack, preserves_flags),
        );
    }
}
