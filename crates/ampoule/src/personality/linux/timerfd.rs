//! `timerfd`: a timer that is a file, which becomes readable when it expires.
//!
//! As with other timers, what it misses until it is read counts then.

use std::time::Duration;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_REALTIME_ALARM, EPOLLIN, EPOLLRDNORM,
    O_NONBLOCK, O_RDWR, TFD_CLOEXEC, TFD_NONBLOCK, TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET,
};
use serde::{Deserialize, Serialize};

use crate::address_space::AddressSpace;
use crate::bad_record::BadRecord;
use crate::personality::Outcome;

use super::clocks::Clocks;
use super::descriptors::{Descriptors, FileId, Object, OpenFile};
use super::errno::Errno;
use super::files::Place;
use super::queues;
use super::timers::{Schedule, ScheduleRecord, itimerspec_bytes, read_itimerspec};
use super::{time, uint};

#[derive(Clone, Copy, Debug)]
pub(super) struct TimerFile {
    clock: u32,
    schedule: Schedule,
    /// Whether it has expired since it was last read.
    has_expired: bool,
}

/// A timer of a stored snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TimerFileRecord {
    clock: u32,
    schedule: ScheduleRecord,
    has_expired: bool,
}

impl TimerFile {
    pub(super) fn record(&self) -> TimerFileRecord {
        let Self { clock, schedule, has_expired } = *self;
        TimerFileRecord { clock, schedule: schedule.record(), has_expired }
    }

    pub(super) fn of_record(record: &TimerFileRecord) -> Result<Self, BadRecord> {
        let TimerFileRecord { clock, schedule, has_expired } = record;
        let is_known = matches!(*clock, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME);
        BadRecord::unless(is_known, "timer", "it goes by a clock that no timer has")?;
        Ok(Self { clock: *clock, schedule: Schedule::of_record(schedule)?, has_expired: *has_expired })
    }

    /// Takes note of the time, and says whether it has just expired.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        let expires = !self.has_expired && self.schedule.left(now).is_some_and(|left| left.is_zero());
        self.has_expired |= expires;
        expires
    }

    /// How long it takes until it becomes readable.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        if self.has_expired { None } else { self.schedule.left(now) }
    }

    pub(super) fn events(&self) -> u32 {
        if self.has_expired { EPOLLIN | EPOLLRDNORM } else { 0 }
    }
}

/// `timerfd_create`.
pub(super) fn create(descriptors: &mut Descriptors, clock: u64, flags: u64) -> Result<u64, Errno> {
    let (clock, flags) = (uint(clock), uint(flags));
    if flags & !(TFD_CLOEXEC | TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    match clock {
        CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME => {}
        // They would wake the machine.
        CLOCK_REALTIME_ALARM | CLOCK_BOOTTIME_ALARM => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    let timer = TimerFile { clock, schedule: Schedule::default(), has_expired: false };
    let file = OpenFile { object: Object::Timer, flags: O_RDWR | flags & O_NONBLOCK, position: 0 };
    descriptors.open_timer(file, timer, flags & TFD_CLOEXEC != 0)
}

/// `timerfd_settime`.
pub(super) fn settime(
    descriptors: &mut Descriptors,
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    [number, flags, new, old]: [u64; 4],
) -> Result<u64, Errno> {
    let [first, interval] = read_itimerspec(space, new)?;
    let flags = uint(flags);
    if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let now = clocks.now_of_timers().time;
    let timer = timer_mut(descriptors, number)?;
    let before = timer.schedule.shown(now, timer.has_expired);
    let is_absolute = flags & TFD_TIMER_ABSTIME != 0;
    let first = if first.is_zero() { None } else { Some(time::from_now(clocks, timer.clock, first, is_absolute)?) };
    timer.schedule = Schedule::new(now, first, interval);
    timer.has_expired = false;
    if old != 0 {
        space.write(GuestVirt(old), &itimerspec_bytes(before))?;
    }
    Ok(0)
}

/// `timerfd_gettime`.
pub(super) fn gettime(
    descriptors: &mut Descriptors,
    clocks: &Clocks,
    space: &mut AddressSpace,
    [number, into]: [u64; 2],
) -> Result<u64, Errno> {
    let timer = timer_mut(descriptors, number)?;
    let shown = timer.schedule.shown(clocks.now_of_timers().time, timer.has_expired);
    space.write(GuestVirt(into), &itimerspec_bytes(shown))?;
    Ok(0)
}

/// Reads how often it has expired since it was last read.
pub(super) fn read(
    descriptors: &mut Descriptors,
    clocks: &Clocks,
    space: &mut AddressSpace,
    (file, id): (OpenFile, FileId),
    places: &[Place],
) -> Result<Outcome, Errno> {
    let place = places.iter().find(|place| place.len > 0).filter(|place| place.len >= 8).ok_or(Errno::EINVAL)?;
    let timer = descriptors.timer_mut(id);
    if !timer.has_expired {
        return queues::would_wait(file.is_non_blocking());
    }
    let count = timer.schedule.take(clocks.now_of_timers().time);
    timer.has_expired = false;
    space.write(GuestVirt(place.at), &count.to_le_bytes())?;
    Ok(Outcome::Return(8))
}

fn timer_mut(descriptors: &mut Descriptors, number: u64) -> Result<&mut TimerFile, Errno> {
    let id = descriptors.id(number)?;
    match descriptors.file(id).object {
        Object::Timer => Ok(descriptors.timer_mut(id)),
        _ => Err(Errno::EINVAL),
    }
}
