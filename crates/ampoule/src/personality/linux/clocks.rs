//! The clocks of a process, and the page from which it reads them without a system call.
//!
//! With the host's time, the page says how to come from the processor's counter to the time, and is good for a second at
//! most. Then the guest makes the system call, and the host writes a new one. What the guest finds in the page and what its
//! system calls say is one time:
//!
//! - The host answers from the page that it writes, so that no later reading is before the answer.
//! - No new page shows a time before the latest that anybody can have read from the old one.
//! - A guest that has slept finds that all of the time has passed, whatever the page would have shown.

use std::time::{Duration, SystemTime};

use ampoule_vmm::GuestVirt;
use ampoule_vmm::vdso::{CLOCKS, TIME_OF_DAY, TimePage, counter};
use linux_raw_sys::general::{
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI,
};

use crate::address_space::AddressSpace;
use crate::clock::Clock;
use crate::personality::Outcome;

use super::calibration::{self, Calibration};
use super::host::{self, HostClock};

/// What a process is told about its clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockConfig {
    /// Which time it finds.
    pub(crate) clock: Clock,
    /// Where it reads its [`TimePage`], if it can.
    pub(crate) page: Option<GuestVirt>,
    /// Whether it reads the counter by which the host's clocks go.
    pub(crate) shares_counter: bool,
}

/// The clocks of a process.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    time: Time,
    processor: ProcessorTime,
    page: Option<Page>,
}

#[derive(Clone, Debug)]
enum Time {
    /// The host's, which the process reads by itself where this is calibrated.
    Host(Option<Calibration>),
    /// It stands, but for what moves it.
    Standing { clock: Clock, time_of_day: Duration, monotonic: Duration },
}

/// The page that the process reads.
#[derive(Clone, Copy, Debug)]
struct Page {
    at: GuestVirt,
    content: TimePage,
    /// Whether this is what stands there.
    is_written: bool,
}

/// The processor time of the process: that since its start, as it shares its processor with nobody. The time that it spends
/// in a snapshot does not count, nor does that between going back to one and the next call.
#[derive(Clone, Copy, Debug)]
enum ProcessorTime {
    /// It runs since this moment of the monotonic clock.
    Running { since: Duration },
    /// It stands at this time.
    Suspended { at: Duration },
}

impl Clocks {
    pub(super) fn new(ClockConfig { clock, page, shares_counter }: ClockConfig) -> Self {
        let standing = |time_of_day| Time::Standing { clock, time_of_day, monotonic: START };
        let time = match clock {
            Clock::Real => Time::Host((shares_counter && page.is_some()).then(Calibration::begin)),
            Clock::Frozen(at) | Clock::Virtual(at) => standing(since_epoch(at)),
            Clock::FrozenInCalls => standing(host::now(HostClock::Realtime)),
        };
        let page = page.map(|at| Page { at, content: TimePage::default(), is_written: false });
        let mut clocks = Self { time, processor: ProcessorTime::Suspended { at: Duration::ZERO }, page };
        clocks.processor = ProcessorTime::Running { since: clocks.monotonic() };
        clocks
    }

    /// The clocks as they are now, to be [resumed](Self::resume) later.
    pub(super) fn suspended(&self) -> Self {
        let page = self.page.map(|page| page.with_floor(page.latest()));
        Self { time: self.time.clone(), processor: ProcessorTime::Suspended { at: self.processor_time() }, page }
    }

    /// Goes back to clocks that were suspended. The host's time goes on as it does.
    pub(super) fn restore(&mut self, suspended: &Self) {
        let before = std::mem::replace(self, suspended.clone());
        if let (Time::Host(_), Time::Host(_)) = (&before.time, &self.time) {
            let floor = self.page.map_or(0, |page| page.content.floor);
            self.time = before.time;
            // Its own floor may be the end of a sleep, which the guest has not begun yet.
            self.page = before.page.map(|page| page.with_floor(floor));
        }
    }

    /// Goes on for a call of the host.
    pub(super) fn resume(&mut self, space: &AddressSpace) {
        if let Time::Standing { clock: Clock::FrozenInCalls, time_of_day, monotonic } = &mut self.time {
            *time_of_day = host::now(HostClock::Realtime);
            *monotonic = host::now(HostClock::Monotonic);
        }
        if let ProcessorTime::Suspended { at } = self.processor {
            self.processor = ProcessorTime::Running { since: self.monotonic().saturating_sub(at) };
        }
        if !self.is_page_good() {
            self.renew();
        }
        self.write_page(space);
    }

    /// The time on a clock.
    pub(super) fn now(&mut self, clock: HostClock) -> Duration {
        match (&self.time, clock) {
            (Time::Standing { time_of_day, .. }, HostClock::Realtime | HostClock::Tai) => *time_of_day,
            (Time::Standing { monotonic, .. }, _) => *monotonic,
            // It is no part of the page: it does not go at the pace of the others.
            (Time::Host(None), _) | (Time::Host(_), HostClock::MonotonicRaw) => host::now(clock),
            (Time::Host(Some(_)), _) => {
                self.renew();
                let index = match clock {
                    HostClock::Realtime => TIME_OF_DAY,
                    HostClock::Boottime => CLOCK_BOOTTIME as usize,
                    HostClock::Tai => CLOCK_TAI as usize,
                    HostClock::Monotonic | HostClock::MonotonicRaw => CLOCK_MONOTONIC as usize,
                };
                let content = self.page.map_or_else(TimePage::default, |page| page.content);
                Duration::from_nanos(content.floor.wrapping_add(content.offsets[index]))
            }
        }
    }

    pub(super) fn processor_time(&self) -> Duration {
        match self.processor {
            ProcessorTime::Running { since } => self.monotonic().saturating_sub(since),
            ProcessorTime::Suspended { at } => at,
        }
    }

    /// Waits so long, where there is anything to wait for, and then gives a result.
    pub(super) fn wait(&mut self, duration: Duration, result: u64) -> Outcome {
        if duration.is_zero() {
            return Outcome::Return(result);
        }
        if matches!(self.time, Time::Standing { clock: Clock::Virtual(_), .. }) {
            self.advance(duration);
        }
        match self.time {
            Time::Standing { .. } => Outcome::Return(result),
            Time::Host(_) => {
                self.renew();
                if let Some(page) = &mut self.page {
                    // The guest, which has one thread, reads nothing before all of it has passed.
                    page.content.floor = page.content.floor.saturating_add(to_nanos(duration));
                    page.is_written = false;
                }
                Outcome::Sleep { duration, result }
            }
        }
    }

    /// Lets time pass on clocks that stand, and says whether they do.
    pub(super) fn advance(&mut self, by: Duration) -> bool {
        match &mut self.time {
            Time::Standing { clock: Clock::Frozen(_) | Clock::Virtual(_), time_of_day, monotonic } => {
                *time_of_day = time_of_day.saturating_add(by).min(LATEST);
                *monotonic = monotonic.saturating_add(by).min(LATEST);
                self.renew();
                true
            }
            Time::Standing { .. } | Time::Host(_) => false,
        }
    }

    /// Writes the page, if it has changed.
    pub(super) fn write_page(&mut self, space: &AddressSpace) {
        if let Some(page) = self.page.as_mut().filter(|page| !page.is_written) {
            page.content.sequence = page.content.sequence.wrapping_add(1);
            space.write_window(page.at, &page.content.to_bytes());
            page.is_written = true;
        }
    }

    /// Whether the process can read the time from what was last written, so far as it ever can, and for some time to come.
    fn is_page_good(&self) -> bool {
        match (&self.time, &self.page) {
            (Time::Host(Some(_)), Some(page)) => Calibration::is_good(&page.content),
            (Time::Standing { clock: Clock::FrozenInCalls, .. }, _) => false,
            (Time::Standing { .. }, Some(page)) => page.content.clocks != 0,
            (Time::Host(None), _) | (_, None) => true,
        }
    }

    /// Brings the page up to date.
    fn renew(&mut self) {
        let Some(page) = &mut self.page else { return };
        match &mut self.time {
            Time::Host(Some(calibration)) => calibration.renew(&mut page.content),
            Time::Host(None) => return,
            Time::Standing { time_of_day, monotonic, .. } => {
                let offset = to_nanos(*time_of_day).wrapping_sub(to_nanos(*monotonic));
                let mut offsets = [0; CLOCKS];
                TIMES_OF_DAY.into_iter().for_each(|clock| offsets[clock] = offset);
                let base = to_nanos(*monotonic);
                page.content =
                    TimePage { clocks: IN_PAGE, base, offsets, sequence: page.content.sequence, ..TimePage::default() };
            }
        }
        page.is_written = false;
    }

    fn monotonic(&self) -> Duration {
        match self.time {
            Time::Standing { monotonic, .. } => monotonic,
            Time::Host(_) => host::now(HostClock::Monotonic),
        }
    }
}

impl Page {
    /// The latest time, but for the offset of a clock, that can have been read so far.
    fn latest(&self) -> u64 {
        calibration::latest(&self.content, counter())
    }

    /// The page for a guest that has read no time later than this one.
    fn with_floor(self, floor: u64) -> Self {
        Self { content: TimePage { floor, ..self.content }, is_written: false, ..self }
    }
}

/// A time of day; one before 1970 is taken for the beginning of that year.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(LATEST)
}

/// A length of time in the unit of the page, which holds some 584 years.
fn to_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The clocks whose time stands in the page, as a set of bits.
pub(super) const IN_PAGE: u64 = 1 << CLOCK_REALTIME
    | 1 << CLOCK_MONOTONIC
    | 1 << CLOCK_REALTIME_COARSE
    | 1 << CLOCK_MONOTONIC_COARSE
    | 1 << CLOCK_BOOTTIME
    | 1 << CLOCK_TAI;

/// Those of them that show a time of day.
const TIMES_OF_DAY: [usize; 3] = [CLOCK_REALTIME as usize, CLOCK_REALTIME_COARSE as usize, CLOCK_TAI as usize];

/// What a monotonic clock that stands begins with: not zero, which programs take for no time at all.
const START: Duration = Duration::from_secs(1);

/// The latest time that clocks come to that stand: in the year 2262.
const LATEST: Duration = Duration::from_nanos(i64::MAX as u64);

const _: () = assert!(CLOCK_REALTIME as usize == TIME_OF_DAY && (CLOCK_TAI as usize) < CLOCKS);

#[cfg(test)]
mod tests {
    use ampoule_vmm::address_map::SHARED_BASE;

    use super::*;

    #[test]
    fn what_was_read_before_a_snapshot_is_the_least_that_is_read_after_it() {
        let config = ClockConfig { clock: Clock::Real, page: Some(SHARED_BASE), shares_counter: true };
        let mut clocks = Clocks::new(config);
        // As after a pace that was too fast, by far more than any is.
        let ahead = clocks.now(HostClock::Monotonic) + Duration::from_secs(60);
        clocks.page.as_mut().unwrap().content.base = to_nanos(ahead);
        let suspended = clocks.suspended();
        for mut another in [Clocks::new(config), suspended.suspended()] {
            another.now(HostClock::Monotonic);
            another.restore(&suspended);
            assert!(another.now(HostClock::Monotonic) >= ahead);
        }
    }
}
