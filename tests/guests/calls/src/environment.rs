//! What `std` offers in a sandbox, and what it does not.

use std::ffi::CString;
use std::time::{Duration, Instant, SystemTime};

use ampoule_guest::export;

#[export]
fn print(text: &str) {
    print!("{text}");
}

#[export]
fn print_error(text: &str) {
    eprint!("{text}");
}

/// Prints lines to both streams in turn.
#[export]
fn print_lines(pairs: u32) {
    for line in 0..pairs {
        println!("line {line} of standard output");
        eprintln!("line {line} of standard error");
    }
}

/// Writes to standard output by so many system calls, without the C library.
#[export]
fn write_by_system_call(text: &str, times: u32) {
    for _ in 0..times {
        // SAFETY: reads the text, at most its length.
        unsafe { libc::syscall(libc::SYS_write, libc::STDOUT_FILENO, text.as_ptr(), text.len()) };
    }
}

/// Writes to standard output so many times by the C library's `write`.
#[export]
fn write_by_the_c_library(text: &str, times: u32) {
    for _ in 0..times {
        // SAFETY: reads the text, at most its length.
        unsafe { libc::write(libc::STDOUT_FILENO, text.as_ptr().cast(), text.len()) };
    }
}

/// Prints with C's own streams.
#[export]
fn print_by_printf(text: &str) {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: the format takes one string; with no stream named, all are flushed.
    unsafe {
        libc::printf(c"%s".as_ptr(), text.as_ptr());
        libc::fflush(std::ptr::null_mut());
    }
}

/// Writes a text to standard output, and then one as long from where nothing can be read.
#[export]
fn write_and_write_from_nowhere(text: &str) {
    write_by_the_c_library(text, 1);
    // SAFETY: none. The read is to fault.
    unsafe { libc::write(libc::STDOUT_FILENO, std::ptr::without_provenance(8), text.len()) };
}

/// Prints by the standard library, and in between by a system call of its own.
#[export]
fn print_between_system_calls() {
    println!("staged 1");
    write_by_system_call("system call 1\n", 1);
    eprintln!("staged 2");
    write_by_system_call("system call 2\n", 1);
    println!("staged 3");
}

/// Prints to standard output, to standard error, and again to standard output, and does not return thereafter.
#[export]
fn print_and_end(end: &str) {
    println!("first");
    eprintln!("second");
    println!("third");
    match end {
        "fault" => crate::fault(),
        "abort" => abort(),
        "panic" => panic!("after the text"),
        "second panic" => crate::panics_twice(),
        "exit" => exit(3),
        "sleep" => crate::sleep(3_600_000),
        _ => crate::spin(),
    }
}

/// What the C library's `write` returns for standard output, and `errno` after it, which is -1 before.
#[export]
fn write_and_errno(text: &[u8]) -> (i64, i32) {
    // SAFETY: reads the text, at most its length; `errno` is this thread's own.
    unsafe {
        *libc::__errno_location() = -1;
        let written = libc::write(libc::STDOUT_FILENO, text.as_ptr().cast(), text.len());
        (written as i64, *libc::__errno_location())
    }
}

/// Has standard output go where standard error goes, prints to it, closes it, and prints again. Text comes before each of the
/// two system calls and after it.
#[export]
fn redirect_and_close() {
    let print = |text: &str| {
        // SAFETY: reads the text, at most its length.
        unsafe { libc::write(libc::STDOUT_FILENO, text.as_ptr().cast(), text.len()) };
    };
    print("to standard output\n");
    // SAFETY: the descriptors are used by this function only.
    unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) };
    print("redirected\n");
    // SAFETY: as above.
    unsafe { libc::close(libc::STDOUT_FILENO) };
    print("lost\n");
}

#[export]
fn close_stdout() {
    // SAFETY: nothing is printed in between.
    unsafe { libc::close(libc::STDOUT_FILENO) };
}

#[export]
fn arguments() -> Vec<String> {
    std::env::args().collect()
}

#[export]
fn variables() -> Vec<(String, String)> {
    std::env::vars().collect()
}

#[export]
fn open_file(path: &str) -> Result<(), std::io::Error> {
    std::fs::File::open(path).map(drop)
}

#[export]
fn create_file(path: &str) -> Result<(), std::io::Error> {
    std::fs::File::create(path).map(drop)
}

#[export]
fn connect(address: &str) -> Result<(), std::io::Error> {
    std::net::TcpStream::connect(address).map(drop)
}

#[export]
fn start_thread() -> Result<(), std::io::Error> {
    std::thread::Builder::new().spawn(|| ()).map(drop)
}

#[export]
fn start_process(program: &str) -> Result<(), std::io::Error> {
    std::process::Command::new(program).spawn().map(drop)
}

#[export]
fn read_stdin() -> Result<usize, std::io::Error> {
    std::io::Read::read(&mut std::io::stdin(), &mut [0; 16])
}

/// Seconds since 1970, and whether the monotonic clock goes forward over a sleep of `sleep_ms`.
#[export]
fn clocks(sleep_ms: u64) -> (u64, bool) {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(sleep_ms));
    let advanced = start.elapsed() >= Duration::from_millis(sleep_ms);
    (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(), advanced)
}

/// Fills blocks of memory of many sizes and checks them.
#[export]
fn exercise_memory(rounds: u32) -> bool {
    (0..rounds).all(|round| {
        let blocks: Vec<Vec<u8>> =
            [16, 1000, 70_000, 300_000].map(|size| vec![round as u8; size + round as usize]).to_vec();
        blocks.iter().all(|block| block.iter().all(|byte| *byte == round as u8))
    })
}

/// Asks for more memory than there is, and lives on.
#[export]
fn allocate_too_much() -> bool {
    let mut huge: Vec<u8> = Vec::new();
    huge.try_reserve(1 << 40).is_err()
}

/// A number that depends on the hasher's random keys.
#[export]
fn hasher_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(1)
}

#[export]
fn exit(code: i32) {
    std::process::exit(code);
}

#[export]
fn abort() {
    std::process::abort();
}
