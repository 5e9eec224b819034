//! How to come from the processor's counter to the time on the host's clocks.
//!
//! The kernel knows that exactly and tells nobody. So the pace is measured, between a moment some time ago and now: two
//! readings that are 50 ns wrong make an error of no more than 7 µs where it is relied on for 64 times as long as it was
//! measured, and the time is taken from the host's clocks again after a second at the latest.

use std::sync::OnceLock;
use std::time::Duration;

use ampoule_vmm::vdso::{TIME_OF_DAY, TimePage, nanoseconds};
use linux_raw_sys::general::{CLOCK_BOOTTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI};

use super::clocks::IN_PAGE;
use super::host::{self, HostClock};

/// What was measured so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calibration {
    /// The moment from which on the pace is measured.
    since: Moment,
    /// The one that takes its place, once it is [`LONG`] ago: the kernel corrects the pace of its clocks now and then.
    next: Moment,
    /// By how many nanoseconds the process's clocks that count from the machine's start are ahead of the host's.
    ahead: u64,
}

/// What the host's clocks and the counter show at one moment, in nanoseconds and ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    counter: u64,
    monotonic: u64,
    time_of_day: u64,
    boottime: u64,
    tai: u64,
}

impl Calibration {
    /// Begins with the first moment that this process has looked at. The guest's clocks that count from the machine's start are
    /// so many nanoseconds ahead of the host's.
    pub(super) fn begin(ahead: u64) -> Self {
        let since = begin();
        Self { since, next: since, ahead }
    }

    /// Makes a page say what the time is, and not before the latest time that can have been read from it.
    pub(super) fn renew(&mut self, page: &mut TimePage) {
        let now = Moment::now();
        if (now.suspended().wrapping_sub(self.since.suspended()) as i64).unsigned_abs() > LONG_READING {
            // It depends on the processor whether it has counted meanwhile.
            *self = Self { since: now, next: now, ahead: self.ahead };
        }
        let (base, boottime) = (now.monotonic.saturating_add(self.ahead), now.boottime.saturating_add(self.ahead));
        let floor = base.max(latest(page, now.counter));
        let was_set = page.floor != 0;
        for (clock, time) in [
            (TIME_OF_DAY, now.time_of_day),
            (CLOCK_REALTIME_COARSE as usize, now.time_of_day),
            (CLOCK_BOOTTIME as usize, boottime),
            (CLOCK_TAI as usize, now.tai),
        ] {
            let offset = time.wrapping_sub(base);
            // The clocks are read one after another. What that differs by is no step of theirs.
            if !was_set || (offset.wrapping_sub(page.offsets[clock]) as i64).unsigned_abs() > JITTER {
                page.offsets[clock] = offset;
            }
        }
        page.counter = now.counter;
        page.base = base;
        page.floor = floor;
        (page.clocks, page.multiplier, page.ticks) = match self.pace(&now) {
            Some(Pace { multiplier, ticks }) => (IN_PAGE, multiplier, ticks),
            None => (0, 0, 0),
        };
        if now.monotonic.saturating_sub(self.next.monotonic) > LONG {
            (self.since, self.next) = (self.next, now);
        }
    }

    /// Whether a page is good for a while yet, and no better one can be made.
    pub(super) fn is_good(page: &TimePage) -> bool {
        let passed = ampoule_vmm::vdso::counter().wrapping_sub(page.counter);
        let is_measured_well = nanoseconds(page.ticks, page.multiplier) >= SECOND - SECOND / 100;
        page.clocks != 0 && passed <= page.ticks / 2 && is_measured_well
    }

    /// The pace of the counter and how long to rely on it; `None` if that is not known yet.
    fn pace(&self, now: &Moment) -> Option<Pace> {
        let measured = now.monotonic.checked_sub(self.since.monotonic).filter(|measured| *measured >= SHORT)?;
        let ticks = now.counter.checked_sub(self.since.counter).filter(|ticks| *ticks > 0)?;
        let multiplier = u64::try_from((u128::from(measured) << 32) / u128::from(ticks)).ok()?;
        let good_for = measured.saturating_mul(RELIANCE).min(SECOND);
        let ticks = u64::try_from((u128::from(good_for) << 32) / u128::from(multiplier.max(1))).ok()?;
        (multiplier > 0 && ticks < MOST_TICKS).then_some(Pace { multiplier, ticks })
    }
}

/// The first moment that this process has looked at, which is now where it has looked at none.
pub(super) fn begin() -> Moment {
    *FIRST.get_or_init(Moment::now)
}

/// How long so many ticks take, all of them since the [first moment](begin).
pub(super) fn duration_of(ticks: u64) -> Duration {
    let (first, now) = (begin(), host::now(HostClock::Monotonic));
    let passed = now.saturating_sub(Duration::from_nanos(first.monotonic)).as_nanos();
    let counted = u128::from(ampoule_vmm::vdso::counter().saturating_sub(first.counter).max(1));
    let nanos = passed.saturating_mul(u128::from(ticks)) / counted;
    Duration::from_nanos(u64::try_from(nanos.min(passed)).unwrap_or(u64::MAX))
}

static FIRST: OnceLock<Moment> = OnceLock::new();

/// How fast the counter goes.
struct Pace {
    /// Nanoseconds for each tick, times 2^32.
    multiplier: u64,
    /// For how many ticks from now on this holds.
    ticks: u64,
}

impl Moment {
    /// Now, as exactly as a process can know it that may be interrupted.
    fn now() -> Self {
        let mut attempts = (0..ATTEMPTS).map(|_| Self::measured());
        let (mut best, mut width) = Self::measured();
        while width > NARROW
            && let Some((moment, other)) = attempts.next()
        {
            if other < width {
                (best, width) = (moment, other);
            }
        }
        best
    }

    /// For how long the host has been suspended, in all.
    fn suspended(&self) -> u64 {
        self.boottime.wrapping_sub(self.monotonic)
    }

    /// The moment, and for how many ticks it has lasted.
    fn measured() -> (Self, u64) {
        let nanos = |clock| u64::try_from(host::now(clock).as_nanos()).unwrap_or(u64::MAX);
        let counter = ampoule_vmm::vdso::counter();
        let monotonic = nanos(HostClock::Monotonic);
        let (time_of_day, boottime, tai) =
            (nanos(HostClock::Realtime), nanos(HostClock::Boottime), nanos(HostClock::Tai));
        let width = ampoule_vmm::vdso::counter().saturating_sub(counter);
        (Self { counter, monotonic, time_of_day, boottime, tai }, width)
    }
}

/// The latest time, but for the offset of a clock, that a guest can have read from a page when the counter stands at
/// `counter`.
pub(super) fn latest(page: &TimePage, counter: u64) -> u64 {
    let ticks = counter.saturating_sub(page.counter).min(page.ticks);
    page.base.saturating_add(nanoseconds(ticks, page.multiplier)).max(page.floor)
}

const SECOND: u64 = 1_000_000_000;

/// The shortest time over which a pace is measured, in nanoseconds, and how many times as long it is relied on.
const SHORT: u64 = 100_000;
const RELIANCE: u64 = 64;

/// After so many nanoseconds the pace is measured from a later moment on.
const LONG: u64 = 16 * SECOND;

/// More ticks than any processor counts in a second.
const MOST_TICKS: u64 = 1 << 36;

/// By how much readings of two clocks differ that are made one right after another, at most; in nanoseconds.
const JITTER: u64 = 10_000;

/// The readings of a moment are not so many nanoseconds apart, and every suspension is longer.
const LONG_READING: u64 = 1_000_000;

/// A moment that lasts no more ticks than this was not interrupted: some four readings of a clock take 100 ns.
const NARROW: u64 = 2_000;

/// How often to try for such a moment.
const ATTEMPTS: u32 = 4;

#[cfg(test)]
mod tests {
    use ampoule_vmm::vdso::CLOCKS;

    use super::*;

    #[test]
    fn no_page_shows_less_than_the_one_before_could() {
        let mut calibration = Calibration::begin(0);
        let mut page = TimePage::default();
        for _ in 0..1000 {
            let could_be_read = latest(&page, ampoule_vmm::vdso::counter());
            let offsets = page.offsets;
            calibration.renew(&mut page);
            let least = page.elapsed_to(page.counter).unwrap();
            assert!(least >= could_be_read, "{least} after {could_be_read}");
            assert!(offsets == page.offsets || offsets == [0; CLOCKS], "no clock was set meanwhile");
        }
    }

    #[test]
    fn clocks_that_are_ahead_of_the_hosts_stay_so_and_the_time_of_day_is_the_hosts() {
        let mut calibration = Calibration::begin(1000 * SECOND);
        let mut page = TimePage::default();
        calibration.renew(&mut page);
        let now = Moment::now();
        assert!(page.base.abs_diff(now.monotonic + 1000 * SECOND) < 100 * SECOND);
        assert!(page.base.wrapping_add(page.offsets[TIME_OF_DAY]).abs_diff(now.time_of_day) < 100 * SECOND);
    }

    #[test]
    fn the_pace_is_that_of_the_hosts_clocks() {
        let mut calibration = Calibration::begin(0);
        let mut page = TimePage::default();
        while page.clocks == 0 {
            calibration.renew(&mut page);
        }
        let start = page;
        while host::now(HostClock::Monotonic).as_nanos() < u128::from(start.base + reliance(&start) / 2) {}
        let shown = start.elapsed_to(ampoule_vmm::vdso::counter());
        let now = host::now(HostClock::Monotonic).as_nanos() as u64;
        // Where this thread was interrupted for long, the page is no longer good, as it should be.
        assert!(shown.is_none_or(|shown| shown.abs_diff(now) < SECOND / 100), "{shown:?}, and it is {now}");
    }

    #[test]
    fn no_pace_is_measured_across_a_suspension_of_the_host() {
        let now = Moment::now();
        let (monotonic, boottime) = (now.monotonic - SECOND / 100, now.boottime.wrapping_sub(SECOND / 10));
        let before = Moment { counter: now.counter.saturating_sub(SECOND / 10), monotonic, boottime, ..now };
        let mut calibration = Calibration { since: before, next: before, ahead: 0 };
        let mut page = TimePage::default();
        calibration.renew(&mut page);
        assert_eq!(page.clocks, 0, "the pace is not known yet");
        while page.clocks == 0 {
            calibration.renew(&mut page);
        }
    }

    #[test]
    fn what_could_be_read_ends_where_a_page_does() {
        let page = TimePage { counter: 1000, ticks: 100, multiplier: 2 << 32, base: 5000, ..TimePage::default() };
        assert_eq!(latest(&page, 900), 5000);
        assert_eq!(latest(&page, 1010), 5020);
        assert_eq!(latest(&page, 1_000_000), 5200);
        assert_eq!(latest(&TimePage { floor: 6000, ..page }, 1010), 6000);
    }

    /// For how many nanoseconds a page is good.
    fn reliance(page: &TimePage) -> u64 {
        nanoseconds(page.ticks, page.multiplier)
    }
}
