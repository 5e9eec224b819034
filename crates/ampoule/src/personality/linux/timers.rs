//! Timers that send signals: `alarm`, `setitimer` and `timer_create`.
//!
//! They go by the process's own time (`Clocks::timer_time`), which stands while the process is in a snapshot, so that a timer
//! has as much time left after a restore as before it. A timer whose signal has not been taken yet does not expire again: what
//! it misses counts when the signal is taken.

mod stored;

use std::collections::BTreeMap;
use std::time::Duration;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    __kernel_old_itimerval, CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME, CLOCK_TAI,
    CLOCK_THREAD_CPUTIME_ID, ITIMER_PROF, ITIMER_REAL, ITIMER_VIRTUAL, SIGALRM, SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD,
    SIGEV_THREAD_ID, SIGPROF, SIGVTALRM, TIMER_ABSTIME, itimerspec,
};

use crate::address_space::AddressSpace;

use super::clocks::Clocks;
use super::errno::Errno;
use super::process::ProcessId;
use super::signals::{Info, Signals, Target, bit};
use super::structure::{from_bytes, to_bytes};
use super::{int, time, uint};

pub(super) use stored::{ScheduleRecord, TimerIdRecord, TimersRecord};

/// The timers of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    /// Those of `setitimer`, by their numbers.
    intervals: [Schedule; 3],
    created: BTreeMap<i32, Timer>,
    /// The number of the next one that is created.
    next: i32,
}

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerId {
    /// One of `setitimer`.
    Interval(usize),
    /// One of `timer_create`.
    Created(i32),
}

/// A timer of `timer_create`.
#[derive(Clone, Copy, Debug)]
struct Timer {
    clock: u32,
    /// The signal and the value that goes with it; `None` where it sends none.
    signal: Option<(i32, u64)>,
    target: Target,
    schedule: Schedule,
    /// By how many times it had expired more when its last signal was taken.
    overrun: i32,
}

/// When a timer expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    /// In nanoseconds of the time that it goes by. It can be before the beginning of that time.
    next: Option<i128>,
    /// Zero for one that expires once.
    interval: Duration,
}

/// The times that timers go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// The process's own time.
    pub(super) time: Duration,
    /// That for which it has run.
    pub(super) processor: Duration,
}

impl Schedule {
    /// Expires so many nanoseconds from now on, or before now, or never where `first` is none.
    pub(super) fn new(now: Duration, first: Option<i128>, interval: Duration) -> Self {
        Self { next: first.map(|first| nanos(now) + first), interval }
    }

    /// The time left until it expires; zero if it has.
    pub(super) fn left(self, now: Duration) -> Option<Duration> {
        let left = u128::try_from(self.next? - nanos(now)).unwrap_or(0);
        Some(Duration::from_nanos_u128(left))
    }

    /// Takes its expirations, and returns how many there were.
    pub(super) fn take(&mut self, now: Duration) -> u64 {
        let Some(next) = self.next.filter(|next| *next <= nanos(now)) else { return 0 };
        if self.interval.is_zero() {
            self.next = None;
            return 1;
        }
        let count = (nanos(now) - next) / nanos(self.interval) + 1;
        self.next = Some(next + count * nanos(self.interval));
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// What a program learns of it: the time left, which is not nothing as long as it is to expire, and its interval.
    pub(super) fn shown(mut self, now: Duration, is_taken: bool) -> [Duration; 2] {
        if is_taken && !self.interval.is_zero() {
            self.take(now);
        }
        let left = self.left(now).map_or(Duration::ZERO, |left| left.max(Duration::from_nanos(1)));
        [left, self.interval]
    }
}

impl Timers {
    /// Whether any is to expire.
    pub(super) fn are_armed(&self) -> bool {
        self.schedules().any(|(_, schedule)| schedule.next.is_some())
    }

    /// Sends the signals of those that have expired.
    pub(super) fn expire(&mut self, now: Now, signals: &mut Signals) {
        for (number, schedule) in self.intervals.iter_mut().enumerate() {
            let (id, signal) = (TimerId::Interval(number), INTERVAL_SIGNALS[number]);
            if schedule.left(now.of_interval(number)).is_some_and(|left| left.is_zero()) && !signals.waits(id) {
                if signals.is_ignored(signal) || schedule.interval.is_zero() {
                    schedule.take(now.of_interval(number));
                }
                signals.send_of_timer(Target::Process, Info::from_kernel(signal), id);
            }
        }
        for (number, timer) in &mut self.created {
            let (id, now) = (TimerId::Created(*number), now.of(timer.clock));
            if timer.schedule.left(now).is_some_and(|left| left.is_zero()) && !signals.waits(id) {
                let Some((signal, value)) = timer.signal else {
                    timer.schedule.take(now);
                    continue;
                };
                if signals.is_ignored(signal) {
                    timer.schedule.take(now);
                }
                signals.send_of_timer(timer.target, Info::of_timer(signal, *number, value), id);
            }
        }
    }

    /// Takes note that a timer's signal is taken. Returns how many times more it has expired.
    pub(super) fn signal_taken(&mut self, id: TimerId, now: Now) -> i32 {
        match id {
            TimerId::Interval(number) => {
                self.intervals[number].take(now.of_interval(number));
                0
            }
            TimerId::Created(number) => {
                let Some(timer) = self.created.get_mut(&number) else { return 0 };
                let more = timer.schedule.take(now.of(timer.clock)).saturating_sub(1);
                timer.overrun = i32::try_from(more).unwrap_or(i32::MAX);
                timer.overrun
            }
        }
    }

    /// How long it takes, if nothing else happens, until a signal of a timer has an effect: while the process waits, or runs.
    pub(super) fn next_effect(&self, now: Now, signals: &Signals, waits: bool) -> Option<Duration> {
        let effective = self.schedules().filter(|(id, _)| {
            let Some((signal, clock)) = self.signal(*id) else { return false };
            // One that waits already is not sent again, or changes nothing.
            let waits_already = signals.waits(*id) || signals.waiting() & bit(signal) != 0;
            let has_effect = !signals.is_ignored(signal) && !waits_already;
            let goes = !(waits && is_processor_time(clock));
            has_effect && goes && (waits || !signals.is_blocked(signal))
        });
        let left = effective.filter_map(|(id, schedule)| {
            let (_, clock) = self.signal(id)?;
            schedule.left(now.of(clock))
        });
        left.min()
    }

    fn schedules(&self) -> impl Iterator<Item = (TimerId, Schedule)> {
        let intervals = self.intervals.iter().enumerate();
        let intervals = intervals.map(|(number, schedule)| (TimerId::Interval(number), *schedule));
        intervals.chain(self.created.iter().map(|(number, timer)| (TimerId::Created(*number), timer.schedule)))
    }

    /// The signal that a timer sends, and the clock that it goes by.
    fn signal(&self, id: TimerId) -> Option<(i32, u32)> {
        match id {
            TimerId::Interval(0) => Some((INTERVAL_SIGNALS[0], CLOCK_MONOTONIC)),
            TimerId::Interval(number) => Some((INTERVAL_SIGNALS[number], CLOCK_PROCESS_CPUTIME_ID)),
            TimerId::Created(number) => {
                let timer = self.created.get(&number)?;
                Some((timer.signal?.0, timer.clock))
            }
        }
    }
}

/// A length of time in nanoseconds. It is less than 2 to the power of 94, which leaves room for sums.
pub(super) fn nanos(duration: Duration) -> i128 {
    duration.as_nanos() as i128
}

impl Now {
    fn of(self, clock: u32) -> Duration {
        if is_processor_time(clock) { self.processor } else { self.time }
    }

    fn of_interval(self, number: usize) -> Duration {
        if number == ITIMER_REAL as usize { self.time } else { self.processor }
    }
}

/// `alarm`: the seconds that were left of the one before.
pub(super) fn alarm(timers: &mut Timers, now: Now, signals: &Signals, seconds: u64) -> u64 {
    let first = Duration::from_secs(u64::from(uint(seconds)));
    let first = Some(first).filter(|first| !first.is_zero());
    let schedule = &mut timers.intervals[ITIMER_REAL as usize];
    let [left, _] = schedule.shown(now.time, signals.waits(TimerId::Interval(ITIMER_REAL as usize)));
    *schedule = Schedule::new(now.time, first.map(nanos), Duration::ZERO);
    match left.as_secs() {
        0 if !left.is_zero() => 1,
        whole => whole + u64::from(left.subsec_millis() >= 500),
    }
}

/// `setitimer`.
pub(super) fn setitimer(
    timers: &mut Timers,
    now: Now,
    signals: &Signals,
    space: &mut AddressSpace,
    [which, new, old]: [u64; 3],
) -> Result<u64, Errno> {
    let number = interval_number(which)?;
    // Nothing to read is no time at all.
    let [first, interval] = if new == 0 { [Duration::ZERO; 2] } else { read_itimerval(space, new)? };
    if old != 0 {
        getitimer(timers, now, signals, space, which, old)?;
    }
    let first = Some(first).filter(|first| !first.is_zero());
    timers.intervals[number] = Schedule::new(now.of_interval(number), first.map(nanos), interval);
    Ok(0)
}

/// `getitimer`.
pub(super) fn getitimer(
    timers: &Timers,
    now: Now,
    signals: &Signals,
    space: &mut AddressSpace,
    which: u64,
    into: u64,
) -> Result<u64, Errno> {
    let number = interval_number(which)?;
    let is_taken = signals.waits(TimerId::Interval(number));
    let [left, interval] = timers.intervals[number].shown(now.of_interval(number), is_taken);
    // What is left is not nothing.
    let left = left.max(if left.is_zero() { left } else { Duration::from_micros(1) });
    let value = to_bytes!(__kernel_old_itimerval {
        it_interval.tv_sec: interval.as_secs() as i64,
        it_interval.tv_usec: interval.subsec_micros().into(),
        it_value.tv_sec: left.as_secs() as i64,
        it_value.tv_usec: left.subsec_micros().into(),
    });
    space.write(GuestVirt(into), &value)?;
    Ok(0)
}

/// `timer_create`.
pub(super) fn create(
    timers: &mut Timers,
    own: ProcessId,
    space: &mut AddressSpace,
    [clock, event, into]: [u64; 3],
) -> Result<u64, Errno> {
    let clock = match uint(clock) {
        clock if is_own_processor_time(clock) => CLOCK_PROCESS_CPUTIME_ID,
        clock => clock,
    };
    let is_known = matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_TAI);
    if !is_known && !is_processor_time(clock) {
        return Err(Errno::EINVAL);
    }
    let number = timers.next;
    let (signal, target) = match event {
        0 => (Some((SIGALRM as i32, number as u64)), Target::Process),
        at => read_event(space, at, own)?,
    };
    if timers.created.len() >= MOST_TIMERS {
        return Err(Errno::EAGAIN);
    }
    space.write(GuestVirt(into), &number.to_le_bytes())?;
    timers.next = timers.next.wrapping_add(1) & i32::MAX;
    timers.created.insert(number, Timer { clock, signal, target, schedule: Schedule::default(), overrun: 0 });
    Ok(0)
}

/// `timer_settime`.
pub(super) fn settime(
    timers: &mut Timers,
    clocks: &mut Clocks,
    signals: &Signals,
    space: &mut AddressSpace,
    [number, flags, new, old]: [u64; 4],
) -> Result<u64, Errno> {
    if new == 0 {
        return Err(Errno::EINVAL);
    }
    let [first, interval] = read_itimerspec(space, new)?;
    let before = shown(timers, clocks.now_of_timers(), signals, number)?;
    let now = clocks.now_of_timers();
    let timer = timers.created.get_mut(&int(number)).ok_or(Errno::EINVAL)?;
    let is_absolute = uint(flags) & TIMER_ABSTIME != 0;
    let first = if first.is_zero() { None } else { Some(time::from_now(clocks, timer.clock, first, is_absolute)?) };
    timer.schedule = Schedule::new(now.of(timer.clock), first, interval);
    timer.overrun = 0;
    if old != 0 {
        space.write(GuestVirt(old), &itimerspec_bytes(before))?;
    }
    Ok(0)
}

/// `timer_gettime`.
pub(super) fn gettime(
    timers: &Timers,
    now: Now,
    signals: &Signals,
    space: &mut AddressSpace,
    [number, into]: [u64; 2],
) -> Result<u64, Errno> {
    let shown = shown(timers, now, signals, number)?;
    space.write(GuestVirt(into), &itimerspec_bytes(shown))?;
    Ok(0)
}

/// `timer_getoverrun`.
pub(super) fn getoverrun(timers: &Timers, number: u64) -> Result<u64, Errno> {
    timers.created.get(&int(number)).map(|timer| timer.overrun as u64).ok_or(Errno::EINVAL)
}

/// `timer_delete`.
pub(super) fn delete(timers: &mut Timers, number: u64) -> Result<u64, Errno> {
    timers.created.remove(&int(number)).map(|_| 0).ok_or(Errno::EINVAL)
}

fn shown(timers: &Timers, now: Now, signals: &Signals, number: u64) -> Result<[Duration; 2], Errno> {
    let timer = timers.created.get(&int(number)).ok_or(Errno::EINVAL)?;
    let is_taken = timer.signal.is_none() || signals.waits(TimerId::Created(int(number)));
    Ok(timer.schedule.shown(now.of(timer.clock), is_taken))
}

/// `struct sigevent`: the signal with its value, if there is to be one, and whom it is sent to.
fn read_event(space: &AddressSpace, at: u64, own: ProcessId) -> Result<(Option<(i32, u64)>, Target), Errno> {
    let bytes = space.read_array::<EVENT_LEN>(GuestVirt(at))?;
    let word = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let value = u64::from(word(0) as u32) | u64::from(word(4) as u32) << 32;
    let (signal, how, thread) = (word(8), word(12) as u32, word(16));
    let has_number = (1..=64).contains(&signal);
    match how {
        SIGEV_NONE => Ok((None, Target::Process)),
        SIGEV_SIGNAL | SIGEV_THREAD if has_number => Ok((Some((signal, value)), Target::Process)),
        SIGEV_THREAD_ID if has_number && own.is(thread) && thread != 0 => Ok((Some((signal, value)), Target::Thread)),
        _ => Err(Errno::EINVAL),
    }
}

/// `struct itimerspec`: the time until it expires, and the interval.
pub(super) fn read_itimerspec(space: &AddressSpace, at: u64) -> Result<[Duration; 2], Errno> {
    let interval = time::read_timespec(space, at)?;
    Ok([time::read_timespec(space, at.wrapping_add(16))?, interval])
}

pub(super) fn itimerspec_bytes([left, interval]: [Duration; 2]) -> [u8; size_of::<itimerspec>()] {
    to_bytes!(itimerspec {
        it_interval.tv_sec: interval.as_secs() as i64,
        it_interval.tv_nsec: interval.subsec_nanos().into(),
        it_value.tv_sec: left.as_secs() as i64,
        it_value.tv_nsec: left.subsec_nanos().into(),
    })
}

/// `struct itimerval`, as above.
fn read_itimerval(space: &AddressSpace, at: u64) -> Result<[Duration; 2], Errno> {
    let bytes = space.read_array::<{ 2 * TIMEVAL_LEN }>(GuestVirt(at))?;
    let time = |bytes: &[u8]| {
        let (seconds, micros) = from_bytes!(bytes, linux_raw_sys::general::timeval { tv_sec, tv_usec });
        match (u64::try_from(seconds), u32::try_from(micros)) {
            (Ok(seconds), Ok(micros)) if micros < 1_000_000 => Ok(Duration::new(seconds, micros * 1000)),
            _ => Err(Errno::EINVAL),
        }
    };
    Ok([time(&bytes[TIMEVAL_LEN..])?, time(&bytes[..TIMEVAL_LEN])?])
}

fn interval_number(which: u64) -> Result<usize, Errno> {
    match uint(which) {
        which @ (ITIMER_REAL | ITIMER_VIRTUAL | ITIMER_PROF) => Ok(which as usize),
        _ => Err(Errno::EINVAL),
    }
}

fn is_processor_time(clock: u32) -> bool {
    matches!(clock, CLOCK_PROCESS_CPUTIME_ID | CLOCK_THREAD_CPUTIME_ID)
}

/// Whether this is a clock that shows the processor time of a process or thread by its number, and that is the caller's own: 0
/// (Linux's `include/linux/posix-timers.h`).
fn is_own_processor_time(clock: u32) -> bool {
    !(clock as i32 >> CLOCK_KIND_BITS) == 0 && clock & CLOCK_KIND != CLOCK_OF_FILE
}

/// A clock's number has the process's above these bits, inverted.
const CLOCK_KIND_BITS: u32 = 3;
const CLOCK_KIND: u32 = 0b11;
const CLOCK_OF_FILE: u32 = 0b11;

/// By the number of the timer of `setitimer`.
const INTERVAL_SIGNALS: [i32; 3] = [SIGALRM as i32, SIGVTALRM as i32, SIGPROF as i32];

/// How many timers a process can create.
const MOST_TIMERS: usize = 64;

/// What is read of `struct sigevent`: the value, the signal, how, and the thread.
const EVENT_LEN: usize = 20;

const TIMEVAL_LEN: usize = size_of::<linux_raw_sys::general::timeval>();
