//! What the personality takes from the host: the time, and random bytes.

use std::io;
use std::time::Duration;

/// A clock of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostClock {
    Realtime,
    Monotonic,
    MonotonicRaw,
    Boottime,
    Tai,
}

/// The time on a clock since its zero. A clock that is before its zero shows zero.
pub(super) fn now(clock: HostClock) -> Duration {
    let clock = match clock {
        HostClock::Realtime => libc::CLOCK_REALTIME,
        HostClock::Monotonic => libc::CLOCK_MONOTONIC,
        HostClock::MonotonicRaw => libc::CLOCK_MONOTONIC_RAW,
        HostClock::Boottime => libc::CLOCK_BOOTTIME,
        HostClock::Tai => libc::CLOCK_TAI,
    };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec of ours to write to. Every Linux that has KVM has these clocks; if the call failed all
    // the same, `time` would stay zero.
    unsafe { libc::clock_gettime(clock, &mut time) };
    match (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) {
        (Ok(seconds), Ok(nanoseconds)) => Duration::new(seconds, nanoseconds),
        _ => Duration::ZERO,
    }
}

/// Fills `into` from the host's random source. Waits, after a boot, until that has been seeded.
pub(super) fn fill_random(into: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < into.len() {
        let rest = &mut into[done..];
        // SAFETY: `rest` is ours to write `rest.len()` bytes to.
        let filled = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(filled) {
            Ok(filled) => done += filled,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}
