//! A guest whose ends a debugger looks into: built without optimization and with all debug information.

use std::arch::asm;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use ampoule_guest::{export, import};

/// Waits on the host.
#[import]
fn wait();

/// Something on the stack.
#[derive(Debug)]
struct Order {
    number: u32,
    price: f64,
    item: &'static str,
}

/// How often [`crash`] was called.
#[unsafe(no_mangle)]
static CALLS: AtomicU32 = AtomicU32::new(0);

/// Ends in the way that `how` names, `depth` calls below.
#[export]
fn crash(how: &str, depth: u32) -> u64 {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let order = Order { number: 4711, price: 12.5, item: "lamp" };
    let heap: Box<[u64; 4]> = Box::new([0x0123_4567_89ab_cdef, 2, 3, 4]);
    descend(how, depth, &order, &heap)
}

#[inline(never)]
fn descend(how: &str, depth: u32, order: &Order, heap: &[u64; 4]) -> u64 {
    let left = depth.checked_sub(1);
    match left {
        Some(left) => descend(how, left, order, heap) + 1,
        None => stumble(how, order, heap),
    }
}

#[inline(never)]
fn stumble(how: &str, order: &Order, heap: &[u64; 4]) -> u64 {
    let doubled = black_box(order.number * 2);
    black_box((order.price, order.item));
    match how {
        "null" => read(black_box(0)) + u64::from(doubled), // null
        "divide" => divide(black_box(0)),
        "undefined" => undefined(),
        "breakpoint" => breakpoint(),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "spin" => spin(),
        "wait" => {
            wait();
            heap[0]
        }
        "registers" => registers(),
        "stack" => without_a_stack(),
        _ => heap[0] + u64::from(doubled),
    }
}

#[inline(never)]
fn read(address: usize) -> u64 {
    // SAFETY: none. That the address is not readable is the purpose.
    unsafe { std::ptr::with_exposed_provenance::<u64>(address).read_volatile() }
}

#[inline(never)]
fn divide(by: u64) -> u64 {
    let result;
    // SAFETY: a division touches nothing but its registers; by zero it ends the guest.
    unsafe { asm!("div {}", in(reg) by, inlateout("rax") 1_u64 => result, inlateout("rdx") 0_u64 => _) };
    result
}

#[inline(never)]
fn undefined() -> ! {
    // SAFETY: the instruction ends the guest.
    unsafe { asm!("ud2", options(noreturn)) }
}

#[inline(never)]
fn breakpoint() -> u64 {
    // SAFETY: the instruction ends the guest.
    unsafe { asm!("int3") };
    0
}

#[inline(never)]
fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Gives every register a value of its own, and faults.
#[inline(never)]
fn registers() -> ! {
    static WIDE: [u8; 32] = [
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xb0, 0xb1,
        0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xbf,
    ];
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX; the register is as wide as the constant.
        unsafe { asm!("vmovdqu ymm7, [{}]", in(reg) WIDE.as_ptr(), out("ymm7") _) };
    }
    // SAFETY: the code sets registers and then ends the guest by a store to address 16.
    unsafe {
        asm!(
            "movdqu xmm5, [rax]",
            "fninit",
            "fldpi",
            "mov rbx, 0x1b1b1b1b",
            "mov rcx, 0x1c1c1c1c",
            "mov rdx, 0x1d1d1d1d",
            "mov rsi, 0x51515151",
            "mov rdi, 0x61616161",
            "mov r8, 0x80808080",
            "mov r9, 0x90909090",
            "mov r10, 0x10101010",
            "mov r11, 0x11111111",
            "mov r12, 0x12121212",
            "mov r13, 0x13131313",
            "mov r14, 0x14141414",
            "mov r15, 0x15151515",
            "mov rax, 16",
            "stc",
            "mov qword ptr [rax], 0",
            in("rax") WIDE.as_ptr(),
            options(noreturn),
        )
    }
}

/// Faults with a stack pointer that points to nothing.
#[inline(never)]
fn without_a_stack() -> ! {
    // SAFETY: the code ends the guest.
    unsafe { asm!("mov rsp, 0x4141414141414141", "xor eax, eax", "mov [rax], rax", options(noreturn)) }
}

/// Maps `mappings` single pages with gaps between them, writes every other one, and returns where the first is.
#[export]
fn scatter(mappings: u64) -> u64 {
    let pages = (0..mappings).map(|index| map(SCATTERED + 2 * PAGE * index, PAGE, READ_WRITE));
    for (index, page) in pages.enumerate() {
        if index % 2 == 0 {
            // SAFETY: the page was just mapped, and is nobody else's.
            unsafe { std::ptr::with_exposed_provenance_mut::<u64>(page as usize).write_volatile(index as u64 + 1) };
        }
    }
    SCATTERED
}

/// Maps so many bytes of zeros, and returns where they are.
#[export]
fn reserve(bytes: u64) -> u64 {
    map(SCATTERED, bytes, READ_WRITE)
}

/// Writes a byte, which may end the guest.
#[export]
fn store(at: u64, value: u32) {
    // SAFETY: none. The write may fault.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(at as usize).write_volatile(value as u8) };
}

/// Makes every other page of a constant unreadable.
#[export]
fn hide_constants() {
    static CONSTANTS: [u8; 200 * PAGE as usize] = [7; 200 * PAGE as usize];
    let start = (black_box(&CONSTANTS).as_ptr() as u64).next_multiple_of(PAGE);
    for index in (0..199).step_by(2) {
        // SAFETY: nobody reads these pages.
        let result = unsafe { system_call(MPROTECT, [start + PAGE * index, PAGE, 0, 0, 0, 0]) };
        assert_eq!(result, 0);
    }
}

fn map(at: u64, bytes: u64, protection: u64) -> u64 {
    // SAFETY: it maps fresh pages, where nothing is mapped.
    let mapped = unsafe { system_call(MMAP, [at, bytes, protection, PRIVATE_ANONYMOUS_FIXED, u64::MAX, 0]) };
    assert_eq!(mapped, at, "as many pages as were asked for");
    mapped
}

/// # Safety
/// As for the system call.
unsafe fn system_call(number: u64, [a, b, c, d, e, f]: [u64; 6]) -> u64 {
    let result;
    // SAFETY: the registers are those of the convention for system calls; the rest is the caller's.
    unsafe {
        asm!(
            "syscall", inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f, out("rcx") _, out("r11") _,
        )
    };
    result
}

const PAGE: u64 = 4096;
const SCATTERED: u64 = 0x10_0000_0000;

// Linux's numbers.
const MMAP: u64 = 9;
const MPROTECT: u64 = 10;
const READ_WRITE: u64 = 3;
const PRIVATE_ANONYMOUS_FIXED: u64 = 0x02 | 0x20 | 0x10;

ampoule_guest::main!();
