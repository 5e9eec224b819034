//! A guest that maps, unmaps and protects memory all over its address space, and checks that it finds there what it wrote.

mod buffers;
mod image;
mod mapped;
mod model;
mod patterns;
mod program;

use ampoule_guest::export;

/// Reads a byte, which may end the guest.
#[export]
fn probe_read(at: u64) -> u8 {
    // SAFETY: none. The read may fault.
    unsafe { std::ptr::read_volatile(at as *const u8) }
}

/// Writes a byte, which may end the guest.
#[export]
fn probe_write(at: u64, value: u8) {
    // SAFETY: none. The write may fault.
    unsafe { std::ptr::write_volatile(at as *mut u8, value) };
}

/// Jumps to an address, which may end the guest.
#[export]
fn probe_execute(at: u64) {
    // SAFETY: none. The jump may fault.
    let function: extern "C" fn() = unsafe { std::mem::transmute(at as *const ()) };
    function();
}

/// Does nothing.
#[export]
fn empty() {}

ampoule_guest::main!();

const PAGE: u64 = 4096;
