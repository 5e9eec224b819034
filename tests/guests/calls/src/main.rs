//! A well-behaved guest for the tests of calls: every kind of argument and result, host calls, errors, panics, and the
//! parts of `std` that work in a sandbox.

mod clocks;
mod environment;
mod pages;
mod values;

use std::cell::Cell;

use ampoule_guest::{HostError, export, import};

/// Adds on the host.
#[import]
fn add(a: u32, b: u32) -> u32;

/// A host function that may fail.
#[import]
fn parse(text: &str) -> Result<u32, HostError>;

/// Gives bytes to the host and takes others.
#[import]
fn transform(bytes: &[u8]) -> Result<Vec<u8>, HostError>;

/// A host function without arguments or result.
#[import]
fn notify();

#[export]
fn empty() {}

/// Adds `n` ones with `n` host calls.
#[export]
fn count_on_host(n: u32) -> u32 {
    (0..n).fold(0, |sum, _| add(sum, 1))
}

#[export]
fn notify_host(times: u32) {
    for _ in 0..times {
        notify();
    }
}

/// Notifies the host in two ways.
#[export]
fn print_and_notify(times: u32) {
    for number in 0..times {
        println!("notification {number}");
        notify();
    }
}

/// Calls the host forever.
#[export]
fn notify_for_ever() {
    loop {
        notify();
    }
}

/// Makes system calls forever.
#[export]
fn read_the_clock_for_ever() {
    loop {
        std::hint::black_box(std::time::Instant::now());
    }
}

#[export]
fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

/// Reads the null page.
#[export]
fn fault() {
    let null = std::hint::black_box(std::ptr::null::<u8>());
    // SAFETY: none. The read is meant to fault.
    unsafe { std::ptr::read_volatile(null) };
}

#[export]
fn sleep(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

/// Handles the host's error.
#[export]
fn parse_or_reason(text: &str) -> String {
    match parse(text) {
        Ok(number) => format!("number {number}"),
        Err(error) => format!("error: {error}"),
    }
}

/// Passes the host's error on.
#[export]
fn parse_or_fail(text: &str) -> Result<u32, HostError> {
    parse(text)
}

/// Does not handle the host's failure.
#[export]
fn add_or_panic() -> u32 {
    add(1, 2)
}

#[export]
fn transform_on_host(len: u32) -> Result<usize, HostError> {
    transform(&vec![7; len as usize]).map(|bytes| bytes.len())
}

/// Whether arguments that are borrowed by the guest stay as they are while it calls the host.
#[export]
fn arguments_survive_host_calls(bytes: &[u8]) -> bool {
    let before = bytes.to_vec();
    for _ in 0..3 {
        let _ = transform(&[0xff; 5000]);
    }
    before == bytes
}

#[export]
fn divide(a: u32, b: u32) -> Result<u32, String> {
    a.checked_div(b).ok_or_else(|| format!("{a} cannot be divided by zero"))
}

#[export]
fn panics(message: &str) {
    panic!("{message}");
}

/// Returns an error with this text.
#[export]
fn fails_with(message: &str) -> Result<(), String> {
    Err(message.to_owned())
}

#[export]
fn panics_with_a_value() {
    std::panic::panic_any(42u32);
}

/// Panics, and panics again while it unwinds: Rust aborts.
#[export]
fn panics_twice() {
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("while unwinding");
        }
    }
    let _guard = PanicsOnDrop;
    panic!("first");
}

/// Catches a panic, and then ends for another reason.
#[export]
fn catches_a_panic_and_ends(end: &str) {
    extern "C" fn cannot_unwind() {
        panic!("not caught");
    }
    let caught = std::panic::catch_unwind(|| panic!("caught"));
    assert!(caught.is_err());
    match end {
        "abort" => std::process::abort(),
        "memory" => drop(std::hint::black_box(vec![1u8; 1 << 40])),
        _ => cannot_unwind(),
    }
}

thread_local! {
    static COUNTER: Cell<u32> = const { Cell::new(0) };
}

/// State that lives from call to call.
#[export]
fn increment() -> u32 {
    COUNTER.set(COUNTER.get() + 1);
    COUNTER.get()
}

#[export(name = "renamed-function")]
fn has_another_name() -> &'static str {
    "renamed"
}

#[export("renamed.shortly")]
fn has_another_name_too() -> &'static str {
    "renamed shortly"
}

fn prepare() {
    if let Ok(text) = std::env::var("PRINT_AT_START") {
        print!("{text}");
    }
    if std::env::var_os("SPIN_AT_START").is_some() {
        spin();
    }
    COUNTER.set(100);
}

ampoule_guest::main!(prepare);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exported_functions_are_ordinary_functions() {
        assert_eq!(divide(6, 3), Ok(2));
        let _add = ampoule_guest::testing::provide("add", |a: u32, b: u32| a + b);
        assert_eq!(count_on_host(3), 3);
    }
}
