//! Accessing memory that the guest must not access.

use std::arch::asm;
use std::hint::black_box;

use ampoule_guest::export;

#[export]
fn read(address: u64) -> u8 {
    // SAFETY: none. The read is meant to fault.
    unsafe { std::ptr::read_volatile(address as *const u8) }
}

#[export]
fn write(address: u64, value: u8) {
    // SAFETY: none. The write is meant to fault.
    unsafe { std::ptr::write_volatile(address as *mut u8, value) }
}

/// Jumps to an address.
#[export]
fn execute(address: u64) {
    // SAFETY: none. The jump is meant to fault.
    let function: extern "C" fn() = unsafe { std::mem::transmute(address as *const ()) };
    function();
}

/// Jumps to an address as if it were called, with this return address, or with a stack pointer at which nothing is.
#[export]
fn jump(address: u64, return_address: Option<u64>) {
    // SAFETY: none. What happens is what is being tested.
    unsafe {
        match return_address {
            Some(return_address) => {
                asm!("push {}", "jmp {}", in(reg) return_address, in(reg) address, options(noreturn))
            }
            None => asm!("mov rsp, 8", "jmp {}", in(reg) address, options(noreturn)),
        }
    }
}

/// Addresses of some of the guest's own memory, by name.
#[export]
fn address_of(what: &str) -> u64 {
    static CONSTANT: [u64; 4] = [1, 2, 3, 4];
    static VARIABLE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(5);
    let local = 0u64;
    match what {
        "code" => address_of as fn(&str) -> u64 as usize as u64,
        "constant" => black_box(&raw const CONSTANT) as u64,
        "variable" => black_box(&raw const VARIABLE) as u64,
        "stack" => black_box(&raw const local) as u64,
        "heap" => Box::leak(Box::new(0xc3c3_c3c3_u64)) as *mut u64 as u64,
        "info page" => info_page(),
        _ => 0,
    }
}

#[export]
fn overflow_the_stack(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { overflow_the_stack(depth + 1).wrapping_add(frame[(depth % 64) as usize]) }
}

/// Has a frame of so many bytes, and writes to the end of it, without having touched what is in between: as C does that is
/// compiled without stack probes.
#[export]
fn use_a_frame(bytes: u64) {
    // SAFETY: none. The write is to fault where the stack is not so large; otherwise nothing is in use there.
    unsafe {
        asm!(
            "mov {saved}, rsp",
            "sub rsp, {bytes}",
            "mov byte ptr [rsp], 1",
            "mov rsp, {saved}",
            saved = out(reg) _,
            bytes = in(reg) bytes,
        );
    }
}

/// Overwrites its own frame and those above it, return addresses and all.
#[export]
fn smash_the_stack(value: u8) {
    let mut buffer = [0u8; 16];
    let start = black_box(buffer.as_mut_ptr());
    for offset in 0..4096 {
        // SAFETY: none. The write beyond the buffer is what is being tested.
        unsafe { std::ptr::write_volatile(start.add(offset), value) };
    }
}

/// Allocates and touches memory until there is none.
#[export]
fn allocate_for_ever() -> usize {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    loop {
        blocks.push(vec![1; 1 << 20]);
        black_box(&blocks);
    }
}

/// Writes a `ret` into fresh memory, makes it executable if it can, and runs it.
#[export]
fn generate_code() -> i32 {
    // SAFETY: the memory is the function's own; it becomes code only where `mprotect` says so.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        page.cast::<u8>().write(0xc3);
        if libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC) != 0 {
            return std::io::Error::last_os_error().raw_os_error().unwrap_or(-1);
        }
        let function: extern "C" fn() = std::mem::transmute(page);
        function();
    }
    0
}

/// Address of the page that tells the guest about its host.
pub(crate) fn info_page() -> u64 {
    // SAFETY: `getauxval` has no preconditions.
    unsafe { libc::getauxval(ampoule_abi::layout::AT_AMPOULE) }
}
