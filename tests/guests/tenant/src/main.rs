//! A guest that hides things wherever it can, and looks for what others have hidden; and one whose whole state a model can
//! follow.

mod chance;
mod process;
mod registers;
mod secrets;
mod state;

use ampoule_abi::layout::{AT_AMPOULE, InfoPage};
use ampoule_guest::export;

/// Prints without any buffering in the guest.
#[export]
fn print(text: &str) {
    for descriptor in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: the text is that long.
        unsafe { libc::write(descriptor, text.as_ptr().cast(), text.len()) };
    }
}

#[export]
fn fault() {
    // SAFETY: none. The read is meant to fault.
    unsafe { std::ptr::read_volatile(std::hint::black_box(std::ptr::null::<u8>())) };
}

#[export]
fn exit() {
    std::process::exit(3);
}

#[export]
fn panic(message: &str) {
    panic!("{message}");
}

/// Panics where it cannot unwind, in both panics with this message.
#[export]
fn abort_with(message: &str) {
    struct PanicsOnDrop<'a>(&'a str);
    impl Drop for PanicsOnDrop<'_> {
        fn drop(&mut self) {
            panic!("{}", self.0);
        }
    }
    let _guard = PanicsOnDrop(message);
    panic!("{message}");
}

#[export]
fn abort() {
    std::process::abort();
}

#[export]
fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

/// Uses this much stack.
#[export]
fn recurse(frames: u32) -> u64 {
    let frame = std::hint::black_box([u64::from(frames); 512]);
    if frames == 0 { 0 } else { recurse(frames - 1).wrapping_add(frame[frames as usize % 512]) }
}

#[export]
fn give_bytes(len: u32, value: u8) -> Vec<u8> {
    vec![value; len as usize]
}

#[export]
fn take_bytes(_bytes: &[u8]) {}

ampoule_guest::main!(chance::prepare);

/// What the host says about itself.
fn info_page() -> InfoPage {
    // SAFETY: the page can be read.
    unsafe { std::ptr::read(info_page_address()) }
}

fn info_page_address() -> *const InfoPage {
    // SAFETY: the host passes the address of the page in the auxiliary vector.
    unsafe { libc::getauxval(AT_AMPOULE) as *const InfoPage }
}
