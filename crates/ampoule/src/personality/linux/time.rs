//! Clocks and sleeping.

use std::time::Duration;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI, CLOCK_THREAD_CPUTIME_ID, RUSAGE_CHILDREN, RUSAGE_SELF,
    RUSAGE_THREAD, TIMER_ABSTIME, rusage, timespec, timeval, timezone,
};

use crate::address_space::AddressSpace;
use crate::personality::Outcome;

use super::errno::Errno;
use super::host::{self, HostClock};
use super::structure::{read_fields, to_bytes};
use super::{int, uint};

/// The processor time of the process: that since its start, as it shares its processor with nobody. The time that it spends in
/// a snapshot does not count, nor does that between going back to one and the next call.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProcessClock {
    /// It runs since this moment of the monotonic clock.
    Running { since: Duration },
    /// It stands at this time.
    Suspended { at: Duration },
}

impl ProcessClock {
    pub(super) fn start() -> Self {
        Self::Running { since: host::now(HostClock::Monotonic) }
    }

    pub(super) fn suspended(self) -> Self {
        Self::Suspended { at: self.now() }
    }

    /// Lets it run from now on, if it stands.
    pub(super) fn resume(&mut self) {
        if let Self::Suspended { at } = *self {
            *self = Self::Running { since: host::now(HostClock::Monotonic).saturating_sub(at) };
        }
    }

    pub(super) fn now(self) -> Duration {
        match self {
            Self::Running { since } => host::now(HostClock::Monotonic).saturating_sub(since),
            Self::Suspended { at } => at,
        }
    }
}

pub(super) fn clock_gettime(
    process: ProcessClock,
    space: &mut AddressSpace,
    clock: u64,
    into: u64,
) -> Result<u64, Errno> {
    let now = now(process, uint(clock))?;
    write_timespec(space, into, now)
}

pub(super) fn clock_getres(
    process: ProcessClock,
    space: &mut AddressSpace,
    clock: u64,
    into: u64,
) -> Result<u64, Errno> {
    let clock = uint(clock);
    now(process, clock)?;
    if into == 0 {
        return Ok(0);
    }
    let coarse = matches!(clock, CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE);
    let resolution = if coarse { Duration::from_millis(4) } else { Duration::from_nanos(1) };
    write_timespec(space, into, resolution)
}

pub(super) fn gettimeofday(space: &mut AddressSpace, into: u64, zone: u64) -> Result<u64, Errno> {
    if into != 0 {
        let now = host::now(HostClock::Realtime);
        let now = to_bytes!(timeval { tv_sec: now.as_secs() as i64, tv_usec: now.subsec_micros().into() });
        space.write(GuestVirt(into), &now)?;
    }
    if zone != 0 {
        space.write(GuestVirt(zone), &[0; size_of::<timezone>()])?;
    }
    Ok(0)
}

pub(super) fn time(space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
    let seconds = host::now(HostClock::Realtime).as_secs();
    if into != 0 {
        space.write(GuestVirt(into), &seconds.to_le_bytes())?;
    }
    Ok(seconds)
}

pub(super) fn times(process: ProcessClock, space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
    let ticks = |duration: Duration| (duration.as_millis() / u128::from(MILLIS_PER_TICK)) as u64;
    if into != 0 {
        let times = to_bytes!(Times { user: ticks(process.now()) });
        space.write(GuestVirt(into), &times)?;
    }
    Ok(ticks(host::now(HostClock::Monotonic)))
}

pub(super) fn getrusage(process: ProcessClock, space: &mut AddressSpace, who: u64, into: u64) -> Result<u64, Errno> {
    let user_time = match (uint(who), int(who)) {
        (RUSAGE_SELF | RUSAGE_THREAD, _) => process.now(),
        (_, RUSAGE_CHILDREN) => Duration::ZERO,
        _ => return Err(Errno::EINVAL),
    };
    let usage = to_bytes!(rusage {
        ru_utime.tv_sec: user_time.as_secs() as i64,
        ru_utime.tv_usec: user_time.subsec_micros().into(),
    });
    space.write(GuestVirt(into), &usage)?;
    Ok(0)
}

/// The remaining time is never asked for: nothing but its end ends a sleep.
pub(super) fn nanosleep(space: &AddressSpace, duration: u64) -> Result<Outcome, Errno> {
    Ok(sleep(read_timespec(space, duration)?, 0))
}

pub(super) fn clock_nanosleep(
    process: ProcessClock,
    space: &AddressSpace,
    [clock, flags, request]: [u64; 3],
) -> Result<Outcome, Errno> {
    let clock = uint(clock);
    let now = now(process, clock)?;
    if !matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_PROCESS_CPUTIME_ID | CLOCK_BOOTTIME | CLOCK_TAI) {
        return Err(if clock == CLOCK_THREAD_CPUTIME_ID { Errno::EINVAL } else { Errno::EOPNOTSUPP });
    }
    let request = read_timespec(space, request)?;
    let absolute = uint(flags) & TIMER_ABSTIME != 0;
    Ok(sleep(if absolute { request.saturating_sub(now) } else { request }, 0))
}

/// Waits, where there is anything to wait for.
pub(super) fn sleep(duration: Duration, result: u64) -> Outcome {
    if duration.is_zero() { Outcome::Return(result) } else { Outcome::Sleep { duration, result } }
}

/// How long until `deadline` on the clock that a futex uses.
pub(super) fn until(deadline: Duration, realtime: bool) -> Duration {
    let clock = if realtime { HostClock::Realtime } else { HostClock::Monotonic };
    deadline.saturating_sub(host::now(clock))
}

pub(super) fn uptime() -> Duration {
    host::now(HostClock::Boottime)
}

pub(super) fn read_timespec(space: &AddressSpace, at: u64) -> Result<Duration, Errno> {
    let (seconds, nanoseconds) = read_fields!(space, at, timespec { tv_sec, tv_nsec })?;
    match (u64::try_from(seconds), u32::try_from(nanoseconds)) {
        (Ok(seconds), Ok(nanoseconds)) if nanoseconds < NANOS_PER_SECOND => Ok(Duration::new(seconds, nanoseconds)),
        _ => Err(Errno::EINVAL),
    }
}

/// A length of time that `select` is given. More microseconds than a second has are accepted too.
pub(super) fn read_timeval(space: &AddressSpace, at: u64) -> Result<Duration, Errno> {
    let (seconds, microseconds) = read_fields!(space, at, timeval { tv_sec, tv_usec })?;
    match (u64::try_from(seconds), u64::try_from(microseconds)) {
        (Ok(seconds), Ok(microseconds)) => {
            Ok(Duration::from_secs(seconds).saturating_add(Duration::from_micros(microseconds)))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn write_timespec(space: &mut AddressSpace, into: u64, time: Duration) -> Result<u64, Errno> {
    let time = to_bytes!(timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() });
    space.write(GuestVirt(into), &time)?;
    Ok(0)
}

fn now(process: ProcessClock, clock: u32) -> Result<Duration, Errno> {
    let clock = match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE => HostClock::Realtime,
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_COARSE => HostClock::Monotonic,
        CLOCK_MONOTONIC_RAW => HostClock::MonotonicRaw,
        CLOCK_BOOTTIME => HostClock::Boottime,
        CLOCK_TAI => HostClock::Tai,
        CLOCK_PROCESS_CPUTIME_ID | CLOCK_THREAD_CPUTIME_ID => return Ok(process.now()),
        _ => return Err(Errno::EINVAL),
    };
    Ok(host::now(clock))
}

/// `struct tms` (Linux's `include/linux/times.h`).
#[repr(C)]
struct Times {
    user: u64,
    system: u64,
    user_of_children: u64,
    system_of_children: u64,
}

/// The unit of `times`: what the auxiliary vector's `AT_CLKTCK` of 100 per second says.
const MILLIS_PER_TICK: u32 = 10;
const NANOS_PER_SECOND: u32 = 1_000_000_000;
