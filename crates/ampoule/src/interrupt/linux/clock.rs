//! Clocks and points in time.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock by which a call can be limited.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::interrupt) enum Clock {
    /// Wall-clock time, that of [`std::time::Instant`]: it stands still while the machine is suspended.
    Monotonic,
    /// CPU time of the calling thread.
    ThreadCpu,
}

impl Clock {
    pub(in crate::interrupt) const ALL: [Clock; 2] = [Clock::Monotonic, Clock::ThreadCpu];

    pub(super) fn id(self) -> libc::clockid_t {
        match self {
            Clock::Monotonic => libc::CLOCK_MONOTONIC,
            Clock::ThreadCpu => libc::CLOCK_THREAD_CPUTIME_ID,
        }
    }

    /// Safe in a signal handler.
    pub(in crate::interrupt) fn now(self) -> Moment {
        let mut now = MaybeUninit::<libc::timespec>::zeroed();
        // SAFETY: `now` is writable and big enough. The call cannot fail, since every kernel that has KVM has both clocks;
        // if it did, `now` would still be a valid `timespec` of zeros.
        let now = unsafe {
            libc::clock_gettime(self.id(), now.as_mut_ptr());
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

    pub(super) fn timespec(self) -> libc::timespec {
        libc::timespec { tv_sec: (self.0 / NANOSECONDS) as i64, tv_nsec: (self.0 % NANOSECONDS) as i64 }
    }
}

/// A moment that a signal handler may read while its thread changes it.
#[derive(Debug)]
pub(in crate::interrupt) struct AtomicMoment(AtomicU64);

impl AtomicMoment {
    pub(in crate::interrupt) const fn new(moment: Moment) -> AtomicMoment {
        AtomicMoment(AtomicU64::new(moment.0))
    }

    pub(in crate::interrupt) fn load(&self) -> Moment {
        Moment(self.0.load(Ordering::Relaxed))
    }

    pub(in crate::interrupt) fn store(&self, moment: Moment) {
        self.0.store(moment.0, Ordering::Relaxed);
    }
}

/// Per second.
const NANOSECONDS: u64 = 1_000_000_000;
