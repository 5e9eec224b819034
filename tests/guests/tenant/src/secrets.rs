//! Hiding a pattern in all memory that there is, and finding it.

use std::arch::asm;
use std::hint::black_box;
use std::ptr;
use std::slice;

use ampoule_abi::layout::{OutputHeader, OutputStream, PRINTED_OFFSET};
use ampoule_guest::{export, import};

use crate::{info_page, info_page_address};

/// Words of the host's.
#[import]
fn words_of_host(count: u32, word: u64) -> Vec<u64>;

/// Makes the host write this many words into the outbound area.
#[export]
fn ask_for_words(count: u32, word: u64) -> usize {
    words_of_host(count, word).len()
}

/// Writes a pattern over all memory that the guest can have: variables, the stack's unused part, the program break, mappings
/// until no more are given, the guest's message line, and the whole output and outbound areas. Returns the bytes written.
#[export]
fn plant(pattern: u64) -> u64 {
    let stack = plant_below_the_stack_pointer(pattern);
    let heap = grow_the_heap();
    // SAFETY: the variable is used nowhere else; the areas may be written by the guest, and this call's result is written
    // over the outbound area's start later.
    let areas: Vec<&mut [u64]> = unsafe {
        let info = info_page();
        vec![
            words(&raw mut VARIABLES as u64, size_of::<[u64; 8192]>() as u64),
            // The line and both areas lie side by side.
            words(info.guest_line, info.output + info.output_len - info.guest_line),
            heap,
        ]
    };
    let mut written = stack;
    for words in areas.into_iter().chain(take_all_memory()) {
        words.fill(pattern);
        written += words.len() as u64 * 8;
    }
    // SAFETY: the number may be written by the guest. Nothing was printed.
    unsafe { ptr::write_volatile((info_page().guest_line as usize + PRINTED_OFFSET) as *mut u64, 0) };
    written
}

/// Like `plant`, then ends with an invalid instruction while the pattern is in every general and vector register.
#[export]
fn plant_and_fault(pattern: u64) {
    plant(pattern);
    // SAFETY: none. It does not return.
    unsafe {
        asm!(
            "movq xmm0, rax", "punpcklqdq xmm0, xmm0",
            "movaps xmm1, xmm0", "movaps xmm7, xmm0", "movaps xmm8, xmm0", "movaps xmm15, xmm0",
            "mov rbx, rax", "mov rcx, rax", "mov rdx, rax", "mov rsi, rax", "mov rdi, rax", "mov rbp, rax",
            "mov r8, rax", "mov r9, rax", "mov r10, rax", "mov r11, rax", "mov r12, rax", "mov r13, rax",
            "mov r14, rax", "mov r15, rax", "ud2",
            in("rax") pattern,
            options(noreturn)
        );
    }
}

/// Like `plant`, then spins.
#[export]
fn plant_and_spin(pattern: u64) {
    plant(pattern);
    crate::spin();
}

/// Puts the pattern into the output area, twice as text for standard output, and once more as text that is not finished; claims
/// neither text, or the first one. Then it spins.
#[export]
fn begin_to_print_and_spin(pattern: u64, claim: bool) {
    let info = info_page();
    let record = |length| OutputHeader { stream: OutputStream::Stdout as u16, length }.to_bytes();
    let first = [&record(16)[..], &pattern.to_le_bytes(), &pattern.to_le_bytes()].concat();
    let both = [&first[..], &record(16), &pattern.to_le_bytes()].concat();
    // SAFETY: the area and the number may be written by the guest, and nothing is printed meanwhile.
    unsafe {
        ptr::copy_nonoverlapping(both.as_ptr(), info.output as *mut u8, both.len());
        let claimed = if claim { first.len() as u32 } else { 0 };
        ptr::write_volatile((info.guest_line as usize + PRINTED_OFFSET) as *mut u32, claimed);
    }
    crate::spin();
}

/// Prints a short text, and then a page of the stack that was never touched: the stack grows while the record is made.
#[export]
fn print_while_the_stack_grows() {
    let print = |from: u64, len: usize| {
        // SAFETY: the stack reaches this far down, as soon as something there is touched.
        unsafe { libc::write(libc::STDOUT_FILENO, from as *const libc::c_void, len) };
    };
    print(b"before\n".as_ptr() as u64, 7);
    print((stack_pointer() - STACK_DEPTH) & !4095, 4096);
    print(b"after\n".as_ptr() as u64, 6);
}

/// The addresses of words whose complement is `complement`, in all memory that the guest can read: its image, heap and
/// stack, the mailbox, what else the host shows it (`more`, as start and end), and all memory that it is given when it asks.
#[export]
fn find(complement: u64, more: Vec<(u64, u64)>) -> Vec<u64> {
    let info = info_page();
    let mut ranges = more;
    ranges.extend([(info_page_address() as u64, info.output + info.output_len), stack()]);
    let image = image();
    let image_end = image.iter().map(|segment| segment.1).max().expect("the image has segments");
    ranges.extend(image);
    // SAFETY: `sbrk` with 0 changes nothing.
    ranges.push((image_end, unsafe { libc::sbrk(0) } as u64));
    let mut found = Vec::with_capacity(MOST_FOUND);
    for (start, end) in ranges {
        search(complement, start, end, &mut found);
    }
    let fresh = take_all_memory();
    for words in &fresh {
        let start = words.as_ptr() as u64;
        search(complement, start, start + words.len() as u64 * 8, &mut found);
    }
    for words in fresh {
        // SAFETY: the mapping is not used any more.
        unsafe { libc::munmap(words.as_mut_ptr().cast(), words.len() * 8) };
    }
    found
}

/// Maps memory until there is none left.
pub(crate) fn take_all_memory() -> Vec<&'static mut [u64]> {
    let mut taken = Vec::with_capacity(4096);
    let mut len = 1 << 20;
    while len >= 4096 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the memory is new and is never given back.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            len /= 2;
        } else {
            // SAFETY: as above.
            taken.push(unsafe { words(at as u64, len as u64) });
        }
    }
    taken
}

fn search(complement: u64, start: u64, end: u64, found: &mut Vec<u64>) {
    for at in (start.next_multiple_of(8)..end & !7).step_by(8) {
        // SAFETY: the caller names memory that can be read. The search itself never holds the pattern, only its complement.
        let word = unsafe { ptr::read_volatile(at as *const u64) };
        if black_box(!word) == complement && found.len() < MOST_FOUND {
            found.push(at);
        }
    }
}

/// Moves the program break up by so little that no page table changes.
fn grow_the_heap() -> &'static mut [u64] {
    // SAFETY: what lies between the old break and the new one belongs to the caller.
    unsafe {
        let start = libc::sbrk(HEAP_GROWTH);
        if start as usize == usize::MAX {
            &mut []
        } else {
            words((start as u64).next_multiple_of(8), HEAP_GROWTH as u64 - 8)
        }
    }
}

/// Overwrites the stack below the stack pointer, downwards, as it grows.
#[inline(never)]
fn plant_below_the_stack_pointer(pattern: u64) -> u64 {
    let here = stack_pointer();
    for below in (RED_ZONE..STACK_DEPTH).step_by(8) {
        // SAFETY: below the red zone nothing is in use; the stack grows by the fault of the first write.
        unsafe { ptr::write_volatile((here - below) as *mut u64, pattern) };
    }
    STACK_DEPTH - RED_ZONE
}

fn stack_pointer() -> u64 {
    let rsp;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack)) };
    rsp
}

/// The stack, from as far below the stack pointer as `plant` writes to the start block.
fn stack() -> (u64, u64) {
    // SAFETY: the address is that of the random bytes, which lie in the start block.
    let start_block = unsafe { libc::getauxval(libc::AT_RANDOM) };
    ((stack_pointer() - STACK_DEPTH) & !7, start_block & !7)
}

/// The image's segments, in whole pages.
fn image() -> Vec<(u64, u64)> {
    unsafe extern "C" {
        static __ehdr_start: libc::Elf64_Ehdr;
    }
    // SAFETY: the linker puts the symbol at the start of the image, whose headers are part of its first segment.
    let (start, segments) = unsafe {
        let header = &raw const __ehdr_start;
        let segments = (header as usize + (*header).e_phoff as usize) as *const libc::Elf64_Phdr;
        (header as u64, slice::from_raw_parts(segments, (*header).e_phnum.into()))
    };
    let loaded = segments.iter().filter(|segment| segment.p_type == libc::PT_LOAD);
    loaded
        .map(|segment| {
            let (from, to) = (start + segment.p_vaddr, start + segment.p_vaddr + segment.p_memsz);
            (from & !4095, to.next_multiple_of(4096))
        })
        .collect()
}

/// # Safety
///
/// The words may be written and are used by nobody else.
unsafe fn words(at: u64, len: u64) -> &'static mut [u64] {
    // SAFETY: as the caller promises.
    unsafe { slice::from_raw_parts_mut(at as *mut u64, len as usize / 8) }
}

static mut VARIABLES: [u64; 8192] = [0; 8192];

const STACK_DEPTH: u64 = 1 << 20;
const RED_ZONE: u64 = 256;
const HEAP_GROWTH: isize = 256 << 10;
const MOST_FOUND: usize = 64;
