//! Access to memory that a guest may be changing at the same time.
//!
//! The accesses are assembly, which the compiler has to take as an unknown mixture of single accesses: it can neither
//! repeat, merge nor invent one, and concurrent access to the same bytes is as defined as that of relaxed atomics.

use std::arch::asm;

/// Copies `from` to guest memory. To be inlined where the compiler knows that these are as many bytes as a register has: that is
/// one instruction then.
///
/// # Safety
///
/// `to` is writable for this many bytes, which do not overlap with `from`.
#[inline]
pub(crate) unsafe fn write(from: &[u8], to: *mut u8) {
    macro_rules! store {
        ($number:ident, $bytes:expr, $class:ident, $format:literal, $pointer:literal) => {
            // SAFETY: the caller's promise.
            unsafe {
                asm!(
                    concat!("mov ", $pointer, " ptr [{to}], {value", $format, "}"),
                    value = in($class) $number::from_ne_bytes($bytes),
                    to = in(reg) to,
                    options(nostack, preserves_flags),
                )
            }
        };
    }
    match *from {
        [a] => store!(u8, [a], reg_byte, "", "byte"),
        [a, b] => store!(u16, [a, b], reg, ":x", "word"),
        [a, b, c, d] => store!(u32, [a, b, c, d], reg, ":e", "dword"),
        [a, b, c, d, e, f, g, h] => store!(u64, [a, b, c, d, e, f, g, h], reg, "", "qword"),
        // SAFETY: the caller's promise.
        _ => unsafe { bytes(from.as_ptr(), to, from.len()) },
    }
}

/// Copies guest memory to `to`. To be inlined where the compiler knows that these are as many bytes as a register has: that is one
/// instruction then.
///
/// # Safety
///
/// `from` is readable for this many bytes, which do not overlap with `to`.
#[inline]
pub(crate) unsafe fn read(from: *const u8, to: &mut [u8]) {
    macro_rules! load {
        ($number:ident, $class:ident, $format:literal, $pointer:literal) => {{
            let value: $number;
            // SAFETY: the caller's promise.
            unsafe {
                asm!(
                    concat!("mov {value", $format, "}, ", $pointer, " ptr [{from}]"),
                    value = out($class) value,
                    from = in(reg) from,
                    options(nostack, preserves_flags, readonly),
                );
            }
            to.copy_from_slice(&value.to_ne_bytes());
        }};
    }
    match to.len() {
        1 => load!(u8, reg_byte, "", "byte"),
        2 => load!(u16, reg, ":x", "word"),
        4 => load!(u32, reg, ":e", "dword"),
        8 => load!(u64, reg, "", "qword"),
        // SAFETY: the caller's promise.
        _ => unsafe { bytes(from, to.as_mut_ptr(), to.len()) },
    }
}

/// Copies `len` bytes. Where they are so few that `rep movsb` would take most of its time to begin, they are moved by two halves
/// that may overlap.
///
/// # Safety
///
/// `from` is readable and `to` writable for `len` bytes, and the two ranges do not overlap.
#[inline]
pub(crate) unsafe fn bytes(from: *const u8, to: *mut u8, len: usize) {
    macro_rules! first_and_last {
        ($class:ident, $format:literal, $move:literal, $pointer:literal, $size:literal) => {
            // SAFETY: the caller's promise; there are at least `$size` bytes.
            unsafe {
                asm!(
                    concat!($move, " {first", $format, "}, ", $pointer, " ptr [{from}]"),
                    concat!($move, " {last", $format, "}, ", $pointer, " ptr [{from} + {len} - ", $size, "]"),
                    concat!($move, " ", $pointer, " ptr [{to}], {first", $format, "}"),
                    concat!($move, " ", $pointer, " ptr [{to} + {len} - ", $size, "], {last", $format, "}"),
                    first = out($class) _,
                    last = out($class) _,
                    from = in(reg) from,
                    to = in(reg) to,
                    len = in(reg) len,
                    options(nostack, preserves_flags),
                )
            }
        };
    }
    match len {
        16..=32 => first_and_last!(xmm_reg, "", "movups", "xmmword", 16),
        8..16 => first_and_last!(reg, "", "mov", "qword", 8),
        4..8 => first_and_last!(reg, ":e", "mov", "dword", 4),
        2..4 => first_and_last!(reg, ":x", "mov", "word", 2),
        1 => first_and_last!(reg_byte, "", "mov", "byte", 1),
        0 => {}
        33..=FEW => {
            first_and_last!(xmm_reg, "", "movups", "xmmword", 16);
            // SAFETY: the caller's promise; these are all bytes but the first and the last 16.
            unsafe { bytes(from.add(16), to.add(16), len - 32) };
        }
        // SAFETY: the caller's promise.
        _ => unsafe { many_bytes(from, to, len) },
    }
}

/// As [`bytes`], where they are more than a few.
///
/// # Safety
///
/// As for [`bytes`]; there are at least as many as a cache line has.
unsafe fn many_bytes(mut from: *const u8, mut to: *mut u8, mut len: usize) {
    // The processor is faster where it writes whole cache lines.
    let first = to.addr().next_multiple_of(CACHE_LINE) - to.addr();
    // SAFETY: the caller's promise; these are the first bytes, less than a cache line has, and then the rest. The direction flag
    // is clear by the calling convention.
    unsafe {
        bytes(from, to, first);
        (from, to, len) = (from.add(first), to.add(first), len - first);
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
    if len <= FEW {
        // SAFETY: the caller's promise; there are as many zeros.
        return unsafe { bytes([0; FEW].as_ptr(), to, len) };
    }
    // SAFETY: as above; the direction flag is clear by the calling convention.
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
#[inline]
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

const CACHE_LINE: usize = 64;

/// Up to so many bytes, single moves are faster than `rep movsb` and `rep stosb`, which take some 10 ns to begin.
const FEW: usize = 256;
