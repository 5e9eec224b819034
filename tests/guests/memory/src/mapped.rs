//! What a guest does with memory of the host's.

use std::arch::asm;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ampoule_guest::{Mapped, export};

/// The sum of all bytes.
#[export]
fn mapped_sum(bytes: Mapped<'_>) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// The sum of bytes that are passed instead.
#[export]
fn passed_sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// The sums of the bytes of several.
#[export]
fn mapped_sums(one: Mapped<'_>, another: Mapped<'_>) -> (u64, u64) {
    (mapped_sum(one), mapped_sum(another))
}

#[export]
fn mapped_byte(bytes: Mapped<'_>, at: u64) -> Option<u8> {
    bytes.get(at as usize).copied()
}

/// Writes a byte, which may end the guest.
#[export]
fn mapped_write(bytes: Mapped<'_>, at: u64, value: u8) {
    assert!(at < bytes.len() as u64);
    // SAFETY: the byte is one of the mapping's, and nobody borrows it. The write may fault.
    unsafe { bytes.as_mut_ptr().add(at as usize).write_volatile(value) };
}

/// Runs the function that the bytes are, which may end the guest.
#[export]
fn mapped_run(code: Mapped<'_>) -> u64 {
    // SAFETY: the host says that it is a function. The call may fault.
    let function: extern "C" fn() -> u64 = unsafe { std::mem::transmute(code.bytes().as_ptr()) };
    function()
}

/// All bytes of a file, as the standard library reads them.
#[export]
fn read_file(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| error.to_string())
}

/// The names in a directory, in order.
#[export]
fn names_in(path: &str) -> Result<Vec<String>, String> {
    let names = std::fs::read_dir(path).and_then(|entries| {
        let name = |entry: std::io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        entries.map(name).collect::<std::io::Result<Vec<_>>>()
    });
    names.map_err(|error| error.to_string()).map(|mut names| {
        names.sort();
        names
    })
}

/// Keeps a file open, and maps so many bytes of it (`mmap`): where.
#[export]
fn map_file(path: &str, len: u64) -> Result<u64, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mapped = raw_system_call(SYS_MMAP, [0, len, PROT_READ, MAP_SHARED, file.as_raw_fd() as u64]);
    *OPEN.lock().unwrap() = Some(file);
    u64::try_from(mapped).map_err(|_| std::io::Error::from_raw_os_error(-mapped as i32).to_string())
}

/// Reads the file that was kept open from its start.
#[export]
fn reread_file() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    let read = OPEN.lock().unwrap().as_ref().expect("a file is open").read_at(&mut bytes, 0);
    bytes.truncate(read.expect("it can be read"));
    bytes
}

/// Where the bytes are, to be looked for in a later call.
#[export]
fn mapped_address(bytes: Mapped<'_>) -> u64 {
    LAST.store(bytes.bytes().as_ptr().addr() as u64, Ordering::Relaxed);
    LAST.load(Ordering::Relaxed)
}

/// Where they were in the last call of that.
#[export]
fn last_mapped_address() -> u64 {
    LAST.load(Ordering::Relaxed)
}

/// Sums the bytes up and then ends in some way, or never.
#[export]
fn mapped_end(bytes: Mapped<'_>, how: &str) -> u64 {
    mapped_address(bytes);
    match how {
        "return" => mapped_sum(bytes),
        "panic" => panic!("{}", mapped_sum(bytes)),
        // SAFETY: none. It is to fault.
        "fault" => unsafe { std::ptr::read_volatile(std::ptr::without_provenance::<u64>(8)) },
        _ => loop {
            std::hint::spin_loop();
        },
    }
}

/// Makes a system call with the address of a byte and a length as the arguments behind the first. Its result.
#[export]
fn mapped_call(number: u64, first: u64, bytes: Mapped<'_>, at: u64, len: u64, last: u64) -> i64 {
    system_call(number, [first, bytes.bytes().as_ptr().addr() as u64 + at, len, last])
}

/// The same, with them as the first.
#[export]
fn mapped_change(number: u64, bytes: Mapped<'_>, len: u64, third: u64) -> i64 {
    system_call(number, [bytes.bytes().as_ptr().addr() as u64, len, third, 0x32])
}

fn system_call(number: u64, [first, second, third, fourth]: [u64; 4]) -> i64 {
    raw_system_call(number, [first, second, third, fourth, -1_i64 as u64])
}

fn raw_system_call(number: u64, arguments: [u64; 5]) -> i64 {
    let result;
    // SAFETY: what the calls of the tests do is known to fail or to touch nothing but the mapped memory.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as i64 => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") 0,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

static LAST: AtomicU64 = AtomicU64::new(0);
static OPEN: Mutex<Option<std::fs::File>> = Mutex::new(None);

// Linux's `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/mman-common.h`.
const SYS_MMAP: u64 = 9;
const PROT_READ: u64 = 1;
const MAP_SHARED: u64 = 1;
