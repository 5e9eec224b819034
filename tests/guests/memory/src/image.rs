//! Pages of the image that nothing uses, of code and of constants, whose protection can be changed.

use std::arch::global_asm;

use ampoule_guest::export;

use crate::PAGE;
use crate::buffers::{protect, toggle};

/// Where the pages of code lie.
#[export]
pub(crate) fn code() -> u64 {
    unsafe extern "C" {
        static memory_guest_code: [u8; (CODE_PAGES * PAGE) as usize];
    }
    &raw const memory_guest_code as u64
}

/// Where the constants lie.
#[export]
pub(crate) fn constants() -> u64 {
    std::hint::black_box(&raw const CONSTANTS) as u64
}

/// Makes all pages of code writable, writes to them, and changes the first one's protection another `toggles` times.
#[export]
fn make_code_writable(toggles: u64) {
    make_writable(code(), CODE_PAGES, toggles);
}

/// Does the same to the constants.
#[export]
fn make_constants_writable(toggles: u64) {
    make_writable(constants(), CONSTANT_PAGES, toggles);
}

/// Writes a function that returns 1337 to a page of code, and calls it.
#[export]
fn replace_code(page: u64) -> u32 {
    let at = code() + page * PAGE;
    for (offset, byte) in (0..).zip([0xb8, 0x39, 0x05, 0x00, 0x00, 0xc3]) {
        crate::probe_write(at + offset, byte);
    }
    // SAFETY: none. There is the function only where the write should not have been allowed.
    let function: extern "C" fn() -> u32 = unsafe { std::mem::transmute(at as *const ()) };
    function()
}

fn make_writable(at: u64, pages: u64, toggles: u64) {
    protect(at, pages, libc::PROT_READ | libc::PROT_WRITE);
    for page in 0..pages {
        crate::probe_write(at + page * PAGE, b'A');
    }
    toggle(at, toggles);
}

// Pages of breakpoints, between the functions of the program.
global_asm!(
    ".pushsection .text.memory_guest_code, \"ax\"",
    ".balign 4096",
    ".globl memory_guest_code",
    "memory_guest_code:",
    ".fill 4 * 4096, 1, 0xcc",
    ".popsection",
);

#[repr(C, align(4096))]
struct Constants([u8; (CONSTANT_PAGES * PAGE) as usize]);

static CONSTANTS: Constants = Constants([b'c'; (CONSTANT_PAGES * PAGE) as usize]);

const CODE_PAGES: u64 = 4;
const CONSTANT_PAGES: u64 = 6;
