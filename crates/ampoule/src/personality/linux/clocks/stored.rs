//! Clocks as a record of a stored snapshot, and back.
//!
//! No clock that counts from the machine's start goes back, on whatever host the process continues: where the host's is behind
//! what the process can have read, the process's own is ahead of it from then on. The time of day is the host's.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{ClockConfig, Clocks, LATEST, OwnTime, Page, Time, Waiting, since_epoch, to_nanos};
use crate::bad_record::BadRecord;
use crate::clock::Clock;
use crate::personality::linux::calibration::Calibration;
use crate::personality::linux::host::{self, HostClock};

/// The clocks of a process.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::personality::linux) struct ClocksRecord {
    time: TimeRecord,
    /// The time of the process's own since its start.
    own: Duration,
    unshown: Duration,
    waited: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
enum TimeRecord {
    /// The host's, of which the process has read no later time since the machine's start.
    Host(Duration),
    /// A time that stands, with the time of day and that since the machine's start.
    Standing(ClockRecord, Duration, Duration),
}

/// How a time stands; the time of day that was set, since 1970.
#[derive(Debug, Serialize, Deserialize)]
enum ClockRecord {
    Frozen(Duration),
    FrozenInCalls,
    Virtual(Duration),
}

impl Clocks {
    pub(in crate::personality::linux) fn record(&self) -> ClocksRecord {
        let time = match self.time {
            Time::Host(_) => {
                let now = host::now(HostClock::Monotonic).saturating_add(self.ahead);
                let floor = self.page.map_or(0, |page| page.content.floor);
                TimeRecord::Host(now.max(Duration::from_nanos(floor)))
            }
            Time::Standing { clock, time_of_day, monotonic } => {
                let clock = match clock {
                    Clock::Frozen(at) => ClockRecord::Frozen(since_epoch(at)),
                    Clock::Virtual(at) => ClockRecord::Virtual(since_epoch(at)),
                    Clock::FrozenInCalls | Clock::Real => ClockRecord::FrozenInCalls,
                };
                TimeRecord::Standing(clock, time_of_day, monotonic)
            }
        };
        ClocksRecord { time, own: self.own_time(), unshown: self.unshown, waited: self.waited }
    }

    /// The clocks of a record, which are suspended, and how they are to be made; `config` says what the host is like.
    pub(in crate::personality::linux) fn of_record(
        record: &ClocksRecord,
        config: ClockConfig,
    ) -> Result<(Self, Clock), BadRecord> {
        let ClocksRecord { time, own, unshown, waited } = record;
        let mut durations = vec![*own, *unshown, *waited];
        let mut ahead = Duration::ZERO;
        let mut floor = 0;
        let (time, clock) = match time {
            TimeRecord::Host(latest) => {
                durations.push(*latest);
                ahead = latest.saturating_sub(host::now(HostClock::Monotonic));
                floor = to_nanos(*latest);
                let reads_counter = config.shares_counter && config.page.is_some();
                (Time::Host(reads_counter.then(|| Calibration::begin(to_nanos(ahead)))), Clock::Real)
            }
            TimeRecord::Standing(clock, time_of_day, monotonic) => {
                durations.extend([*time_of_day, *monotonic]);
                let (clock, set) = match clock {
                    ClockRecord::Frozen(at) => (Clock::Frozen(of_epoch(*at)), *at),
                    ClockRecord::FrozenInCalls => (Clock::FrozenInCalls, Duration::ZERO),
                    ClockRecord::Virtual(at) => (Clock::Virtual(of_epoch(*at)), *at),
                };
                durations.push(set);
                (Time::Standing { clock, time_of_day: *time_of_day, monotonic: *monotonic }, clock)
            }
        };
        let are_possible = durations.iter().all(|duration| *duration <= LATEST);
        BadRecord::unless(are_possible, "table of clocks", "a time is later than any clock shows")?;
        let page = config.page.map(|at| Page { at, content: Default::default(), is_written: false });
        let clocks = Self {
            time,
            own: OwnTime::Suspended { at: *own },
            page: page.map(|page| page.with_floor(floor)),
            unshown: *unshown,
            waited: *waited,
            wait: Waiting::default(),
            idle_ticks: 0,
            rests_since: None,
            ahead,
        };
        Ok((clocks, clock))
    }
}

/// A time of day of the record; a later one than any clock shows is refused.
fn of_epoch(since: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}
