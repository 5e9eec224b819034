//! The clocks of a process, and the page from which it reads them without a system call.
//!
//! With the host's time, the page says how to come from the processor's counter to the time, and is good for a second at
//! most. Then the guest makes the system call, and the host writes a new one. What the guest finds in the page and what its
//! system calls say is one time:
//!
//! - The host answers from the page that it writes, so that no later reading is before the answer.
//! - No new page shows a time before the latest that anybody can have read from the old one.
//! - A guest that has slept finds that all of the time has passed, whatever the page would have shown.

mod stored;

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
use super::timers::Now;

pub(super) use stored::ClocksRecord;

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
    own: OwnTime,
    page: Option<Page>,
    /// How long the process has waited with clocks that do not show it.
    unshown: Duration,
    /// For how long of its time it has waited.
    waited: Duration,
    wait: Waiting,
    /// For how many ticks of the host's counter it has been idle between calls of the host, as far as that is not in `waited`.
    idle_ticks: u64,
    /// Where the counter stood when the last call was over, since when the process is idle.
    rests_since: Option<u64>,
    /// By how much its clocks that count from the machine's start are ahead of the host's, where they are these: since it was
    /// stored on a host whose clocks were later.
    ahead: Duration,
}

/// The wait of a system call, which is served again after each part of it.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    /// When it ends, in the time of timers, and what the page shows then at least.
    end: Option<(Duration, u64)>,
    /// When the part of it began that the host waits for.
    part: Option<Duration>,
    /// How long it takes until something else ends it.
    interruption: Option<Duration>,
    /// Whether something else may end it of which nobody knows when.
    is_open: bool,
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

/// The process's own time: that since its start. The time that it spends in a snapshot does not count, nor does that between
/// going back to one and the next call. Where it has not waited it has had the processor, which it shares with nobody.
#[derive(Clone, Copy, Debug)]
enum OwnTime {
    /// It runs since this moment of the monotonic clock.
    Running { since: Duration },
    /// It stands at this time.
    Suspended { at: Duration },
}

impl Clocks {
    pub(super) fn new(ClockConfig { clock, page, shares_counter }: ClockConfig) -> Self {
        let standing = |time_of_day| Time::Standing { clock, time_of_day, monotonic: START };
        let time = match clock {
            Clock::Real => Time::Host((shares_counter && page.is_some()).then(|| Calibration::begin(0))),
            Clock::Frozen(at) | Clock::Virtual(at) => standing(since_epoch(at)),
            Clock::FrozenInCalls => standing(host::now(HostClock::Realtime)),
        };
        let page = page.map(|at| Page { at, content: TimePage::default(), is_written: false });
        let own = OwnTime::Suspended { at: Duration::ZERO };
        let (unshown, waited, wait) = (Duration::ZERO, Duration::ZERO, Waiting::default());
        let ahead = Duration::ZERO;
        calibration::begin();
        let (idle_ticks, rests_since) = (0, None);
        let mut clocks = Self { time, own, page, unshown, waited, wait, idle_ticks, rests_since, ahead };
        clocks.own = OwnTime::Running { since: clocks.monotonic() };
        clocks
    }

    /// The clocks as they are now, to be [resumed](Self::resume) later.
    pub(super) fn suspended(&self) -> Self {
        let page = self.page.map(|page| page.with_floor(page.latest()));
        let own = OwnTime::Suspended { at: self.own_time() };
        let (waited, wait) = (self.waited_until(self.time_of_timers()), Waiting::default());
        let (idle_ticks, rests_since) = (0, None);
        Self { time: self.time.clone(), own, page, waited, wait, idle_ticks, rests_since, ..*self }
    }

    /// Goes back to clocks that were suspended. The host's time goes on as it does.
    pub(super) fn restore(&mut self, suspended: &Self) {
        let before = std::mem::replace(self, suspended.clone());
        let is_like = before.ahead == self.ahead;
        if let (Time::Host(_), Time::Host(_), true) = (&before.time, &self.time, is_like) {
            let floor = self.page.map_or(0, |page| page.content.floor);
            self.time = before.time;
            // Its own floor may be the end of a sleep, which the guest has not begun yet.
            self.page = before.page.map(|page| page.with_floor(floor));
        }
    }

    /// Goes on for a call of the host.
    pub(super) fn resume(&mut self, space: &AddressSpace) {
        if let Some(began) = self.rests_since.take() {
            self.idle_ticks = self.idle_ticks.saturating_add(counter().saturating_sub(began));
        }
        if let Time::Standing { clock: Clock::FrozenInCalls, time_of_day, monotonic } = &mut self.time {
            *time_of_day = host::now(HostClock::Realtime);
            *monotonic = host::now(HostClock::Monotonic);
        }
        if let OwnTime::Suspended { at } = self.own {
            self.own = OwnTime::Running { since: self.monotonic().saturating_sub(at) };
        }
        if !self.is_page_good() {
            self.renew();
        }
        self.write_page(space);
    }

    /// Takes note that the host's call is over. Until the next one the process is idle, unless it waits anyway.
    #[inline]
    pub(super) fn rests(&mut self) {
        if self.wait.part.is_none() && !self.stand() {
            self.rests_since = Some(counter());
        }
    }

    /// Counts among its waits for how long it has been idle, which takes a look at a clock that most calls do without.
    pub(super) fn count_idle(&mut self) {
        if self.idle_ticks > 0 {
            self.waited = self.waited.saturating_add(calibration::duration_of(self.idle_ticks));
            self.idle_ticks = 0;
        }
    }

    /// The time on a clock.
    pub(super) fn now(&mut self, clock: HostClock) -> Duration {
        match (&self.time, clock) {
            (Time::Standing { time_of_day, .. }, HostClock::Realtime | HostClock::Tai) => *time_of_day,
            (Time::Standing { monotonic, .. }, _) => *monotonic,
            // It is no part of the page: it does not go at the pace of the others.
            (Time::Host(None), HostClock::Monotonic | HostClock::Boottime)
            | (Time::Host(_), HostClock::MonotonicRaw) => host::now(clock).saturating_add(self.ahead),
            (Time::Host(None), _) => host::now(clock),
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

    /// For how long the process has had the processor.
    pub(super) fn processor_time(&self) -> Duration {
        self.now_of_timers().processor
    }

    /// The times that timers go by. Where the clocks stand, theirs goes on whenever the process waits, shown or not.
    pub(super) fn now_of_timers(&self) -> Now {
        let time = self.time_of_timers();
        Now { time, processor: time.saturating_sub(self.waited_until(time)) }
    }

    /// Serves a system call, perhaps again after a part of its wait. Something else ends that after so much time, if it does.
    pub(super) fn serve(&mut self, interruption: Option<Duration>) {
        self.count_idle();
        self.wait_ends();
        self.wait.interruption = interruption;
    }

    /// Says whether something may end the wait at any time.
    pub(super) fn may_be_interrupted_any_time(&mut self, whether: bool) {
        self.wait.is_open = whether;
    }

    /// Ends the wait of the system call that is being served at once.
    pub(super) fn interrupt(&mut self) {
        self.wait.interruption = Some(Duration::ZERO);
    }

    /// How long it takes until something else ends the wait of the system call that is being served.
    pub(super) fn interruption(&self) -> Option<Duration> {
        self.wait.interruption
    }

    /// Takes note that the host waits, before the system call is served again or is over.
    pub(super) fn wait_begins(&mut self) {
        self.wait.part = Some(self.time_of_timers());
    }

    /// Takes note that the host has waited, if it has.
    pub(super) fn wait_ends(&mut self) {
        if self.wait.part.is_some() {
            self.waited = self.waited_until(self.time_of_timers());
            self.wait.part = None;
        }
    }

    /// Ends the system call, and returns how much of its wait is left.
    pub(super) fn served(&mut self) -> Option<Duration> {
        let (end, _) = self.wait.end.take()?;
        Some(end.saturating_sub(self.time_of_timers()))
    }

    /// Waits so long, where there is anything to wait for, and then gives a result.
    pub(super) fn wait(&mut self, duration: Duration, result: u64) -> Outcome {
        if duration.is_zero() {
            return Outcome::Return(result);
        }
        let (end, floor) = self.end_of_wait(duration);
        // The first time it is all that was asked for.
        let left = match self.wait.end.replace((end, floor)) {
            Some(_) => end.saturating_sub(self.time_of_timers()),
            None => duration,
        };
        if left.is_zero() {
            self.renew();
            self.show_at_least(floor);
            return Outcome::Return(result);
        }
        if let Some(interruption) = self.wait.interruption.filter(|interruption| *interruption < left) {
            return Outcome::Pause { duration: interruption };
        }
        if self.stand() {
            self.pass(left);
            return Outcome::Return(result);
        }
        if self.wait.is_open {
            return Outcome::Pause { duration: left };
        }
        self.renew();
        // The guest, which has one thread, reads nothing before all of it has passed.
        let floor = self.page.map_or(0, |page| page.content.floor.saturating_add(to_nanos(left)).max(floor));
        self.show_at_least(floor);
        Outcome::Sleep { duration: left, result }
    }

    /// Waits for standard input, where anything else that ends the wait does not come before: the end of a time, which gives 0,
    /// or what [interrupts](Self::interruption) it. Where the clocks stand, such a time passes at once.
    pub(super) fn wait_for_input(&mut self, limit: Option<Duration>) -> Outcome {
        match (limit, self.wait.interruption) {
            (Some(duration), _) if self.stand() || duration.is_zero() => return self.wait(duration, 0),
            (None, Some(duration)) if self.stand() => return Outcome::Pause { duration },
            _ => {}
        }
        let Some(duration) = limit else { return Outcome::AwaitInput };
        let (end, floor) = self.end_of_wait(duration);
        let left = end.saturating_sub(self.now_of_timers().time);
        self.wait.end = Some((end, floor));
        if left.is_zero() {
            self.renew();
            self.show_at_least(floor);
            return Outcome::Return(0);
        }
        self.wait.interruption = Some(self.wait.interruption.map_or(left, |other| other.min(left)));
        Outcome::AwaitInput
    }

    /// When the wait of the system call ends that is being served, and what the page shows then at least, where it waits so long.
    fn end_of_wait(&mut self, duration: Duration) -> (Duration, u64) {
        if let Some(known) = self.wait.end {
            return known;
        }
        self.renew();
        let floor = self.page.map_or(0, |page| page.content.floor.saturating_add(to_nanos(duration)));
        (self.time_of_timers().saturating_add(duration), floor)
    }

    /// Whether time does not pass by itself.
    pub(super) fn stand(&self) -> bool {
        matches!(self.time, Time::Standing { .. })
    }

    /// Lets the time of a wait pass on clocks that stand, whether they show it or not.
    pub(super) fn pass(&mut self, by: Duration) {
        match self.time {
            Time::Standing { clock: Clock::Virtual(_), monotonic, .. } => {
                self.advance(by);
                // At the end of all times the clock stands, but not the timers.
                let shown = self.monotonic().saturating_sub(monotonic);
                self.unshown = self.unshown.saturating_add(by.saturating_sub(shown));
            }
            _ => self.unshown = self.unshown.saturating_add(by),
        }
        self.waited = self.waited.saturating_add(by);
    }

    /// Makes the page of the host's time show no less than that.
    fn show_at_least(&mut self, floor: u64) {
        if self.stand() {
            return;
        }
        if let Some(page) = self.page.as_mut().filter(|page| page.content.floor < floor) {
            page.content.floor = floor;
            page.is_written = false;
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

    fn own_time(&self) -> Duration {
        match self.own {
            OwnTime::Running { since } => self.monotonic().saturating_sub(since),
            OwnTime::Suspended { at } => at,
        }
    }

    fn time_of_timers(&self) -> Duration {
        self.own_time().saturating_add(self.unshown)
    }

    /// For how long the process has waited by this moment in the time of timers.
    fn waited_until(&self, now: Duration) -> Duration {
        let part = self.wait.part.map_or(Duration::ZERO, |began| now.saturating_sub(began));
        let rest = self.rests_since.map_or(0, |began| counter().saturating_sub(began));
        let idle = match self.idle_ticks.saturating_add(rest) {
            0 => Duration::ZERO,
            ticks => calibration::duration_of(ticks),
        };
        self.waited.saturating_add(part).saturating_add(idle)
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
