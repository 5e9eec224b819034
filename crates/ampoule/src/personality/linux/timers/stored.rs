//! Timers as a record of a stored snapshot, and back. They go by the process's own time, which stands in a snapshot.

use std::time::Duration;

use linux_raw_sys::general::{CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_TAI};
use serde::{Deserialize, Serialize};

use super::{MOST_TIMERS, Schedule, Timer, TimerId, Timers, is_processor_time};
use crate::bad_record::BadRecord;
use crate::personality::linux::signals::Target;

/// The timers of a process.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::personality::linux) struct TimersRecord {
    intervals: [ScheduleRecord; 3],
    created: Vec<(i32, TimerRecord)>,
    next: i32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::personality::linux) struct ScheduleRecord {
    /// In nanoseconds of the time that it goes by.
    next: Option<i128>,
    interval: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
struct TimerRecord {
    clock: u32,
    signal: Option<(i32, u64)>,
    to_process: bool,
    schedule: ScheduleRecord,
    overrun: i32,
}

/// Which timer has sent a signal: one of `setitimer`, or one of `timer_create`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::personality::linux) enum TimerIdRecord {
    Interval(u8),
    Created(i32),
}

impl Timers {
    pub(in crate::personality::linux) fn record(&self) -> TimersRecord {
        let created = |(number, timer): (&i32, &Timer)| {
            let Timer { clock, signal, target, schedule, overrun } = *timer;
            let to_process = target == Target::Process;
            (*number, TimerRecord { clock, signal, to_process, schedule: schedule.record(), overrun })
        };
        TimersRecord {
            intervals: self.intervals.each_ref().map(|schedule| schedule.record()),
            created: self.created.iter().map(created).collect(),
            next: self.next,
        }
    }

    pub(in crate::personality::linux) fn of_record(record: &TimersRecord) -> Result<Self, BadRecord> {
        let TimersRecord { intervals: [real, virtual_time, profiling], created, next } = record;
        check(created.len() <= MOST_TIMERS && *next >= 0, "there are too many")?;
        let created = created.iter().map(|(number, timer)| {
            let TimerRecord { clock, signal, to_process, schedule, overrun } = timer;
            let is_known = matches!(*clock, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_TAI);
            check(is_known || is_processor_time(*clock), "one goes by a clock that no timer has")?;
            check(signal.is_none_or(|(signal, _)| (1..=64).contains(&signal)), "one sends what is no signal")?;
            check(*number >= 0 && *overrun >= 0, "a number is negative")?;
            let target = if *to_process { Target::Process } else { Target::Thread };
            let schedule = Schedule::of_record(schedule)?;
            Ok((*number, Timer { clock: *clock, signal: *signal, target, schedule, overrun: *overrun }))
        });
        Ok(Self {
            intervals: [
                Schedule::of_record(real)?,
                Schedule::of_record(virtual_time)?,
                Schedule::of_record(profiling)?,
            ],
            created: created.collect::<Result<_, _>>()?,
            next: *next,
        })
    }
}

impl Schedule {
    pub(in crate::personality::linux) fn record(self) -> ScheduleRecord {
        ScheduleRecord { next: self.next, interval: self.interval }
    }

    pub(in crate::personality::linux) fn of_record(record: &ScheduleRecord) -> Result<Self, BadRecord> {
        // Sums of lengths of time stay far below this.
        check(record.next.is_none_or(|next| next.unsigned_abs() < 1 << 100), "one expires later than any can")?;
        Ok(Self { next: record.next, interval: record.interval })
    }
}

impl TimerId {
    pub(in crate::personality::linux) fn record(self) -> TimerIdRecord {
        match self {
            Self::Interval(number) => TimerIdRecord::Interval(number as u8),
            Self::Created(number) => TimerIdRecord::Created(number),
        }
    }

    pub(in crate::personality::linux) fn of_record(record: TimerIdRecord) -> Result<Self, BadRecord> {
        match record {
            TimerIdRecord::Interval(number) => {
                check(number < 3, "there is no such timer")?;
                Ok(Self::Interval(number.into()))
            }
            TimerIdRecord::Created(number) => Ok(Self::Created(number)),
        }
    }
}

fn check(holds: bool, problem: &'static str) -> Result<(), BadRecord> {
    BadRecord::unless(holds, "table of timers", problem)
}
