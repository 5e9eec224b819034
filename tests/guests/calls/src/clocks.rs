//! What a guest finds on its clocks.

use std::time::{Duration, Instant, SystemTime};

use ampoule_guest::export;

/// Reads the monotonic clock so many times. How often it was earlier than before, which is never, and how many nanoseconds
/// it went forward from the first to the last.
#[export]
fn read_clock(times: u32) -> (u32, u64) {
    let first = Instant::now();
    let (mut last, mut back) = (first, 0);
    for _ in 0..times {
        let now = Instant::now();
        back += u32::from(now < last);
        last = now;
    }
    (back, (last - first).as_nanos() as u64)
}

/// The time on a clock in nanoseconds, by the C library.
#[export]
fn clock_by_library(clock: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written.
    assert_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
    nanoseconds(time.tv_sec, time.tv_nsec)
}

/// The time on a clock in nanoseconds, by a system call.
#[export]
fn clock_by_system_call(clock: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written.
    assert_eq!(unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &mut time) }, 0);
    nanoseconds(time.tv_sec, time.tv_nsec)
}

/// Reads a clock in both ways in turn, so many times. How often one was earlier than the one before, and the longest time
/// between two, in nanoseconds.
#[export]
fn clock_in_both_ways(clock: i32, times: u32) -> (u32, u64) {
    let mut last = clock_by_library(clock);
    let (mut back, mut longest) = (0, 0);
    for _ in 0..times {
        for read in [clock_by_system_call, clock_by_library] {
            let now = read(clock);
            back += u32::from(now < last);
            longest = longest.max(now.saturating_sub(last));
            last = now;
        }
    }
    (back, longest)
}

/// The time of day in seconds, by all functions that tell it: two of the standard library and of C's library each, and as
/// many system calls.
#[export]
fn times_of_day() -> Vec<u64> {
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut coarse = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut called = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: all places are there to be written.
    let (by_library, by_call) = unsafe {
        libc::gettimeofday(&mut time, std::ptr::null_mut());
        libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut coarse);
        libc::syscall(libc::SYS_gettimeofday, &mut called, 0);
        (libc::time(std::ptr::null_mut()), libc::syscall(libc::SYS_time, 0))
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    vec![now, time.tv_sec as u64, coarse.tv_sec as u64, called.tv_sec as u64, by_library as u64, by_call as u64]
}

/// What `clock_getres` says of a clock in nanoseconds, by the C library and by the system call.
#[export]
fn clock_resolutions(clock: i32) -> (u64, u64) {
    let mut times = [libc::timespec { tv_sec: 0, tv_nsec: 0 }; 2];
    // SAFETY: both places are there to be written.
    unsafe {
        assert_eq!(libc::clock_getres(clock, &mut times[0]), 0);
        assert_eq!(libc::syscall(libc::SYS_clock_getres, clock, &mut times[1]), 0);
    }
    (nanoseconds(times[0].tv_sec, times[0].tv_nsec), nanoseconds(times[1].tv_sec, times[1].tv_nsec))
}

/// How many nanoseconds go by on the monotonic clock while this sleeps for so many milliseconds.
#[export]
fn time_asleep(milliseconds: u64) -> u64 {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(milliseconds));
    start.elapsed().as_nanos() as u64
}

/// The processor on which this runs, by the C library.
#[export]
fn current_processor() -> i32 {
    // SAFETY: it has no arguments.
    unsafe { libc::sched_getcpu() }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    seconds as u64 * 1_000_000_000 + nanoseconds as u64
}
