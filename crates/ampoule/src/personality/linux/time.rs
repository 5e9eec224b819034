//! System calls that read clocks and that sleep.

use std::time::Duration;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI, CLOCK_THREAD_CPUTIME_ID, RUSAGE_CHILDREN, RUSAGE_SELF,
    RUSAGE_THREAD, TIMER_ABSTIME, rusage, timespec, timeval, timezone,
};

use crate::address_space::AddressSpace;
use crate::personality::Outcome;

use super::clocks::Clocks;
use super::errno::Errno;
use super::host::HostClock;
use super::structure::{read_fields, to_bytes};
use super::timers::nanos;
use super::{int, uint};

pub(super) fn clock_gettime(
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    clock: u64,
    into: u64,
) -> Result<u64, Errno> {
    let now = now(clocks, uint(clock))?;
    write_timespec(space, into, now)
}

pub(super) fn clock_getres(clocks: &mut Clocks, space: &mut AddressSpace, clock: u64, into: u64) -> Result<u64, Errno> {
    let clock = uint(clock);
    now(clocks, clock)?;
    if into == 0 {
        return Ok(0);
    }
    let coarse = matches!(clock, CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE);
    let resolution = if coarse { COARSE_RESOLUTION } else { RESOLUTION };
    write_timespec(space, into, resolution)
}

pub(super) fn gettimeofday(clocks: &mut Clocks, space: &mut AddressSpace, into: u64, zone: u64) -> Result<u64, Errno> {
    if into != 0 {
        let now = clocks.now(HostClock::Realtime);
        let now = to_bytes!(timeval { tv_sec: now.as_secs() as i64, tv_usec: now.subsec_micros().into() });
        space.write(GuestVirt(into), &now)?;
    }
    if zone != 0 {
        space.write(GuestVirt(zone), &[0; size_of::<timezone>()])?;
    }
    Ok(0)
}

pub(super) fn time(clocks: &mut Clocks, space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
    let seconds = clocks.now(HostClock::Realtime).as_secs();
    if into != 0 {
        space.write(GuestVirt(into), &seconds.to_le_bytes())?;
    }
    Ok(seconds)
}

pub(super) fn times(clocks: &mut Clocks, space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
    let ticks = |duration: Duration| (duration.as_millis() / u128::from(MILLIS_PER_TICK)) as u64;
    if into != 0 {
        let times = to_bytes!(Times { user: ticks(clocks.processor_time()) });
        space.write(GuestVirt(into), &times)?;
    }
    Ok(ticks(clocks.now(HostClock::Monotonic)))
}

pub(super) fn getrusage(clocks: &Clocks, space: &mut AddressSpace, who: u64, into: u64) -> Result<u64, Errno> {
    let user_time = match (uint(who), int(who)) {
        (RUSAGE_SELF | RUSAGE_THREAD, _) => clocks.processor_time(),
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

pub(super) fn nanosleep(clocks: &mut Clocks, space: &AddressSpace, duration: u64) -> Result<Outcome, Errno> {
    Ok(clocks.wait(read_timespec(space, duration)?, 0))
}

pub(super) fn clock_nanosleep(
    clocks: &mut Clocks,
    space: &AddressSpace,
    [clock, flags, request]: [u64; 3],
) -> Result<Outcome, Errno> {
    let clock = uint(clock);
    let now = now(clocks, clock)?;
    if !matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_PROCESS_CPUTIME_ID | CLOCK_BOOTTIME | CLOCK_TAI) {
        return Err(if clock == CLOCK_THREAD_CPUTIME_ID { Errno::EINVAL } else { Errno::EOPNOTSUPP });
    }
    let request = read_timespec(space, request)?;
    let absolute = uint(flags) & TIMER_ABSTIME != 0;
    Ok(clocks.wait(if absolute { request.saturating_sub(now) } else { request }, 0))
}

/// How long until `deadline` on the clock that a futex uses.
pub(super) fn until(clocks: &mut Clocks, deadline: Duration, realtime: bool) -> Duration {
    let clock = if realtime { HostClock::Realtime } else { HostClock::Monotonic };
    deadline.saturating_sub(clocks.now(clock))
}

/// How many nanoseconds from now on a moment is, and negative where it is over: that on this clock, if it is absolute; otherwise
/// it is that long from now on.
pub(super) fn from_now(clocks: &mut Clocks, clock: u32, moment: Duration, is_absolute: bool) -> Result<i128, Errno> {
    let now = if is_absolute { now(clocks, clock)? } else { Duration::ZERO };
    Ok(nanos(moment) - nanos(now))
}

/// Writes what is left of a sleep, where a program wants it.
pub(super) fn write_rest(space: &mut AddressSpace, into: u64, rest: Duration) -> Result<(), Errno> {
    if into == 0 { Ok(()) } else { write_timespec(space, into, rest).map(drop) }
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

fn now(clocks: &mut Clocks, clock: u32) -> Result<Duration, Errno> {
    let clock = match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE => HostClock::Realtime,
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_COARSE => HostClock::Monotonic,
        CLOCK_MONOTONIC_RAW => HostClock::MonotonicRaw,
        CLOCK_BOOTTIME => HostClock::Boottime,
        CLOCK_TAI => HostClock::Tai,
        CLOCK_PROCESS_CPUTIME_ID | CLOCK_THREAD_CPUTIME_ID => return Ok(clocks.processor_time()),
        _ => return Err(Errno::EINVAL),
    };
    Ok(clocks.now(clock))
}

/// `struct tms` (Linux's `include/linux/times.h`).
#[repr(C)]
struct Times {
    user: u64,
    system: u64,
    user_of_children: u64,
    system_of_children: u64,
}

/// What a clock's time is a multiple of, and that of a coarse one, for which Linux gives the length of its own ticks.
pub(super) const RESOLUTION: Duration = Duration::from_nanos(1);
pub(super) const COARSE_RESOLUTION: Duration = Duration::from_millis(4);

/// The unit of `times`: what the auxiliary vector's `AT_CLKTCK` of 100 per second says.
const MILLIS_PER_TICK: u32 = 10;
const NANOS_PER_SECOND: u32 = 1_000_000_000;
