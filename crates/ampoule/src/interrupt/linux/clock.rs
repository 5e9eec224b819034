//! Clocks and points in time.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// A clock that the kernel keeps.
#[derive(Copy, Clone, Debug)]
pub(in crate::interrupt) struct Clock(libc::clockid_t);

impl Clock {
    /// Wall-clock time, that of [`std::time::Instant`]: it stands still while the machine is suspended.
    pub(in crate::interrupt) const MONOTONIC: Clock = Clock(libc::CLOCK_MONOTONIC);

    /// CPU time of the calling thread. Other threads can read it, too; it has no meaning once the thread has ended.
    pub(in crate::interrupt) fn of_this_thread() -> Clock {
        let mut id = libc::CLOCK_THREAD_CPUTIME_ID;
        // SAFETY: the thread exists, and `id` is writable. The call cannot fail for the calling thread.
        unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut id) };
        Clock(id)
    }

    /// The same, for the calling thread only: it need not be looked for.
    pub(in crate::interrupt) const THIS_THREAD: Clock = Clock(libc::CLOCK_THREAD_CPUTIME_ID);

    /// Meaningless if the clock is that of a thread that has ended.
    pub(in crate::interrupt) fn now(self) -> Moment {
        let mut now = MaybeUninit::<libc::timespec>::zeroed();
        // SAFETY: `now` is writable and big enough, and valid from the start, so also if the call fails.
        let now = unsafe {
            libc::clock_gettime(self.0, now.as_mut_ptr());
            now.assume_init()
        };
        Moment(now.tv_sec as u64 * NANOSECONDS + now.tv_nsec as u64)
    }
}

/// A point in time on one of the clocks, in nanoseconds since the clock's beginning.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::interrupt) struct Moment(u64);

impl Moment {
    /// Later than every moment that a clock reaches.
    pub(in crate::interrupt) const NEVER: Moment = Moment(i64::MAX as u64);

    pub(in crate::interrupt) fn after(self, duration: Duration) -> Moment {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(nanoseconds)).min(Moment::NEVER)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub(in crate::interrupt) fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The next moment after this one that is a whole number of periods, in nanoseconds, after the clock's beginning.
    pub(in crate::interrupt) fn next_multiple_of(self, period: u64) -> Moment {
        Moment((self.0 / period + 1).saturating_mul(period)).min(Moment::NEVER)
    }

    pub(in crate::interrupt) const fn from_nanoseconds(nanoseconds: u64) -> Moment {
        Moment(nanoseconds)
    }

    pub(in crate::interrupt) const fn nanoseconds(self) -> u64 {
        self.0
    }

    pub(super) fn timespec(self) -> libc::timespec {
        libc::timespec { tv_sec: (self.0 / NANOSECONDS) as i64, tv_nsec: (self.0 % NANOSECONDS) as i64 }
    }
}

/// A clock that one thread sets and others read.
#[derive(Debug)]
pub(in crate::interrupt) struct AtomicClock(AtomicI32);

impl AtomicClock {
    pub(in crate::interrupt) const fn new(clock: Clock) -> AtomicClock {
        AtomicClock(AtomicI32::new(clock.0))
    }

    pub(in crate::interrupt) fn load(&self) -> Clock {
        Clock(self.0.load(Ordering::Relaxed))
    }

    pub(in crate::interrupt) fn store(&self, clock: Clock) {
        self.0.store(clock.0, Ordering::Relaxed);
    }
}

/// Per second.
const NANOSECONDS: u64 = 1_000_000_000;
