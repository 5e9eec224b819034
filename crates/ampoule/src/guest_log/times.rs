//! When something has happened in a guest, on the host's clock.
//!
//! A guest gives the time of a record as the processor's counter shows it, whatever its own clocks show. The host reads that
//! counter and its clock when it lets the guest run and when it takes the records: what lies in between is a matter of
//! proportion. A guest may claim any time, and is believed none outside of these two moments, and none before that of the
//! record before.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use ampoule_vmm::vdso::counter;

/// When that happened in a guest of which the subscriber of the `tracing` log is told at the moment, on this thread.
///
/// Records of a guest wait for its next exit, so a subscriber that looks at the clock when it is told of them finds a later
/// time. This is the right one, on the host's clock: of the beginning and the end of a guest's span, of when it is entered and
/// left, and of what is logged in it. `None` where the log is told of anything else, such as of what the host itself does, for
/// which it is now.
///
/// ```
/// # use std::time::SystemTime;
/// /// What a layer takes for the time of an event.
/// fn time() -> SystemTime {
///     ampoule::guest_time().unwrap_or_else(SystemTime::now)
/// }
/// # assert!(ampoule::guest_time().is_none() && time() <= SystemTime::now());
/// ```
///
/// The time is that between two exits of the guest by the processor's counter. Where the hypervisor gives guests a counter
/// of their own, it is as exact as these exits.
pub fn guest_time() -> Option<SystemTime> {
    TOLD.get()
}

/// Does something while the log is told of what has happened in a guest at this time.
pub(super) fn telling<R>(time: SystemTime, action: impl FnOnce() -> R) -> R {
    /// The time before, which counts again even when a subscriber panics.
    struct Before(Option<SystemTime>);
    impl Drop for Before {
        fn drop(&mut self) {
            TOLD.set(self.0);
        }
    }
    let _before = Before(TOLD.replace(Some(time)));
    action()
}

/// What the counter and the clock show at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    counter: u64,
    time: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { counter: counter(), time: SystemTime::now() }
    }
}

/// The times of a guest's records.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// When the guest was let run, or when records were taken before those that are taken now.
    since: Option<Moment>,
    /// When those of the last time were taken, if any were since the guest was let run.
    taken: Option<Moment>,
    /// What the counter showed at the last record.
    latest: u64,
}

impl Times {
    /// The guest is let run, and may make records.
    pub(super) fn begin(&mut self) {
        let since = Moment::now();
        *self = Self { since: Some(since), taken: None, latest: since.counter };
    }

    /// The guest is let run again, after the host has done something that has a span of its own.
    pub(super) fn go_on(&mut self) {
        if self.since.is_some() {
            self.begin();
        }
    }

    /// It is not expected to make any.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// The time of a record that was made when the counter showed this, and is taken now.
    pub(super) fn of(&mut self, counter: u64, now: Moment) -> SystemTime {
        if let Some(taken) = self.taken.replace(now).filter(|taken| taken.counter != now.counter) {
            self.since = self.since.and(Some(taken));
            self.latest = self.latest.max(taken.counter);
        }
        let Some(since) = self.since else { return now.time };
        let counter = counter.min(now.counter).max(self.latest);
        self.latest = counter;
        let ticks = u128::from(now.counter.saturating_sub(since.counter)).max(1);
        let passed = u128::from(counter.saturating_sub(since.counter)).min(ticks);
        let elapsed = now.time.duration_since(since.time).unwrap_or_default();
        let nanos = elapsed.as_nanos() * passed / ticks;
        since.time + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Nanoseconds since 1970.
pub(super) fn since_epoch(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

thread_local! {
    static TOLD: Cell<Option<SystemTime>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two seconds after `BEGIN`, with 2,000 ticks between them.
    fn taken() -> (Times, Moment) {
        let times = Times { since: Some(Moment { counter: 1000, time: BEGIN }), taken: None, latest: 1000 };
        (times, Moment { counter: 3000, time: BEGIN + Duration::from_secs(2) })
    }

    const BEGIN: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn a_record_has_its_part_of_the_time_between_two_moments() {
        let (mut times, now) = taken();
        let of = [1000, 1500, 1501, 3000].map(|counter| times.of(counter, now).duration_since(BEGIN).unwrap());
        assert_eq!(of, [0, 500, 501, 2000].map(Duration::from_millis));
    }

    #[test]
    fn no_record_is_outside_of_the_two_moments_or_before_the_one_before_it() {
        let (mut times, now) = taken();
        let of = [0, 2000, 1200, u64::MAX, 2000].map(|counter| times.of(counter, now).duration_since(BEGIN).unwrap());
        assert_eq!(of, [0, 1000, 1000, 2000, 2000].map(Duration::from_millis));
        // Where the host's clock is set back, time stands.
        let back = Moment { counter: 4000, time: BEGIN };
        assert_eq!(times.of(3500, back), now.time);
    }

    #[test]
    fn records_that_are_taken_later_have_later_times_whatever_the_counters_pace_was() {
        let (mut times, now) = taken();
        assert_eq!(times.of(3000, now), now.time);
        // Half as fast from now on.
        let later = Moment { counter: 4000, time: now.time + Duration::from_secs(2) };
        let of = [0, 3000, 3500, 4000].map(|counter| times.of(counter, later).duration_since(now.time).unwrap());
        assert_eq!(of, [0, 0, 1, 2].map(Duration::from_secs));
    }

    #[test]
    fn the_time_of_a_guest_that_nobody_expects_records_of_is_now() {
        let (mut times, now) = taken();
        times.end();
        times.go_on();
        assert_eq!(times.of(1500, now), now.time);
    }

    #[test]
    fn the_log_is_told_a_time_for_as_long_as_it_is_told_of_the_guest() {
        assert_eq!(guest_time(), None);
        let told = telling(BEGIN, || {
            let _ =
                std::panic::catch_unwind(|| telling(BEGIN + Duration::from_secs(1), || panic!("as a subscriber may")));
            guest_time()
        });
        assert_eq!((told, guest_time()), (Some(BEGIN), None));
    }
}
