//! Random numbers, and clocks.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use ampoule_guest::export;

#[export]
fn random_number() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: writes to the array, at most its length.
    let read = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(read, 8, "the host has random numbers");
    u64::from_ne_bytes(bytes)
}

/// A number that depends on the keys of a new hasher. The standard library draws them once for each thread, and counts up
/// from there.
#[export]
fn hasher_keys() -> u64 {
    RandomState::new().hash_one(0)
}

/// A number from the guest's own generator, which it renews after a restore.
#[export]
fn own_number() -> u64 {
    let mut state = GENERATOR.get();
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    GENERATOR.set(state);
    state
}

#[export]
fn generation() -> u64 {
    ampoule_guest::generation()
}

/// How often the hook has run since the state that the guest was restored to.
#[export]
fn hook_runs() -> u32 {
    HOOK_RUNS.get()
}

/// Nanoseconds of a clock.
#[export]
fn clock(number: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time and nothing else.
    assert_eq!(unsafe { libc::clock_gettime(number, &mut time) }, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The processor's time-stamp counter.
#[export]
fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}

pub(crate) fn prepare() {
    seed();
    ampoule_guest::on_restore(|| {
        seed();
        HOOK_RUNS.set(HOOK_RUNS.get() + 1);
    });
}

fn seed() {
    GENERATOR.set(random_number() | 1);
}

thread_local! {
    static GENERATOR: Cell<u64> = const { Cell::new(1) };
    static HOOK_RUNS: Cell<u32> = const { Cell::new(0) };
}
