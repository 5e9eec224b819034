//! Clocks and sleeping.

use std::time::Duration;

use ampoule_vmm::GuestVirt;

use crate::address_space::AddressSpace;
use crate::personality::Outcome;

use super::errno::Errno;
use super::host::{self, HostClock};
use super::int;
use super::record::Record;

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
    let now = now(process, int(clock))?;
    write_timespec(space, into, now)
}

pub(super) fn clock_getres(
    process: ProcessClock,
    space: &mut AddressSpace,
    clock: u64,
    into: u64,
) -> Result<u64, Errno> {
    let clock = int(clock);
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
        let timeval = timeval(Record::<16>::new(), 0, now);
        space.write(GuestVirt(into), timeval.as_bytes())?;
    }
    if zone != 0 {
        space.write(GuestVirt(zone), &[0; 8])?;
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
        let tms = Record::<32>::new().u64(0, ticks(process.now()));
        space.write(GuestVirt(into), tms.as_bytes())?;
    }
    Ok(ticks(host::now(HostClock::Monotonic)))
}

pub(super) fn getrusage(process: ProcessClock, space: &mut AddressSpace, who: u64, into: u64) -> Result<u64, Errno> {
    let user_time = match int(who) {
        RUSAGE_SELF | RUSAGE_THREAD => process.now(),
        RUSAGE_CHILDREN => Duration::ZERO,
        _ => return Err(Errno::EINVAL),
    };
    let usage = timeval(Record::<144>::new(), 0, user_time);
    space.write(GuestVirt(into), usage.as_bytes())?;
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
    let clock = int(clock);
    let now = now(process, clock)?;
    if !matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_PROCESS_CPUTIME_ID | CLOCK_BOOTTIME | CLOCK_TAI) {
        return Err(if clock == CLOCK_THREAD_CPUTIME_ID { Errno::EINVAL } else { Errno::EOPNOTSUPP });
    }
    let request = read_timespec(space, request)?;
    let absolute = int(flags) & TIMER_ABSTIME != 0;
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
    let seconds = space.read_u64(GuestVirt(at))? as i64;
    let nanoseconds = space.read_u64(GuestVirt(at.wrapping_add(8)))?;
    match (u64::try_from(seconds), u32::try_from(nanoseconds)) {
        (Ok(seconds), Ok(nanoseconds)) if nanoseconds < NANOS_PER_SECOND => Ok(Duration::new(seconds, nanoseconds)),
        _ => Err(Errno::EINVAL),
    }
}

/// A length of time that `select` is given. More microseconds than a second has are taken too.
pub(super) fn read_timeval(space: &AddressSpace, at: u64) -> Result<Duration, Errno> {
    let seconds = space.read_u64(GuestVirt(at))? as i64;
    let microseconds = space.read_u64(GuestVirt(at.wrapping_add(8)))? as i64;
    match (u64::try_from(seconds), u64::try_from(microseconds)) {
        (Ok(seconds), Ok(microseconds)) => {
            Ok(Duration::from_secs(seconds).saturating_add(Duration::from_micros(microseconds)))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn write_timespec(space: &mut AddressSpace, into: u64, time: Duration) -> Result<u64, Errno> {
    let timespec = Record::<16>::new().u64(0, time.as_secs()).u64(8, time.subsec_nanos().into());
    space.write(GuestVirt(into), timespec.as_bytes())?;
    Ok(0)
}

fn timeval<const N: usize>(record: Record<N>, offset: usize, time: Duration) -> Record<N> {
    record.u64(offset, time.as_secs()).u64(offset + 8, time.subsec_micros().into())
}

fn now(process: ProcessClock, clock: i32) -> Result<Duration, Errno> {
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

/// The unit of `times`: what the auxiliary vector's `AT_CLKTCK` of 100 per second says.
const MILLIS_PER_TICK: u32 = 10;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

// Linux's `include/uapi/linux/time.h` and `resource.h`.
const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;
const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
const CLOCK_MONOTONIC_RAW: i32 = 4;
const CLOCK_REALTIME_COARSE: i32 = 5;
const CLOCK_MONOTONIC_COARSE: i32 = 6;
const CLOCK_BOOTTIME: i32 = 7;
const CLOCK_TAI: i32 = 11;
const TIMER_ABSTIME: i32 = 1;
const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;
