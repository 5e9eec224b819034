//! Which time guests find, and that all ways of reading it agree.

use std::time::{Duration, SystemTime};

use ampoule::{Clock, ClockError, Sandbox};
use ampoule_tests::{calls_builder, calls_sandbox, calls_spawn};

#[test]
fn a_guest_finds_the_hosts_time() {
    let mut sandbox = calls_sandbox();
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME, libc::CLOCK_TAI, COARSE] {
        for function in ["clock_by_library", "clock_by_system_call"] {
            let before = host_time(clock);
            let read: u64 = sandbox.call(function, (clock,)).unwrap();
            let after = host_time(clock);
            assert!(
                (before - TOLERANCE..=after + TOLERANCE).contains(&read),
                "{function}({clock}): {before} {read} {after}"
            );
        }
    }
}

#[test]
fn a_clock_never_goes_back_however_it_is_read() {
    let mut sandbox = calls_sandbox();
    for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME, libc::CLOCK_REALTIME] {
        let (back, _): (u32, u64) = sandbox.call("clock_in_both_ways", (clock, 500u32)).unwrap();
        assert_eq!(back, 0, "clock {clock}");
    }
    let (back, _): (u32, u64) = sandbox.call("read_clock", (1_000_000u32,)).unwrap();
    assert_eq!(back, 0);
}

#[test]
fn a_clock_goes_on_after_a_restore_and_in_a_spawned_sandbox() {
    let mut sandbox = calls_sandbox();
    let snapshot = sandbox.snapshot().unwrap();
    let mut spawned = calls_spawn(snapshot.builder()).build().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        for sandbox in [&mut sandbox, &mut spawned] {
            let now: u64 = sandbox.call("clock_by_library", (libc::CLOCK_MONOTONIC,)).unwrap();
            assert!(now + TOLERANCE >= last && now <= host_time(libc::CLOCK_MONOTONIC) + TOLERANCE);
            last = now;
            sandbox.restore(&snapshot).unwrap();
        }
    }
}

#[test]
fn a_restore_during_a_long_sleep_leaves_the_clock_where_it_should_be() {
    let mut sandbox = calls_sandbox();
    let call = ampoule::Call::new("sleep", (3_600_000u64,)).deadline(Duration::from_millis(20));
    sandbox.call_with::<(), _>(call).unwrap_err();
    sandbox.reset().unwrap();
    for function in ["clock_by_library", "clock_by_system_call"] {
        let now: u64 = sandbox.call(function, (libc::CLOCK_MONOTONIC,)).unwrap();
        assert!(now <= host_time(libc::CLOCK_MONOTONIC) + TOLERANCE, "{function}");
    }
}

#[test]
fn a_sleep_takes_the_time_that_it_should() {
    let mut sandbox = calls_sandbox();
    for milliseconds in [1u64, 2, 5] {
        let asleep: u64 = sandbox.call("time_asleep", (milliseconds,)).unwrap();
        assert!(asleep >= milliseconds * 1_000_000, "{asleep}");
    }
}

#[test]
fn what_is_known_without_asking_is_what_the_system_calls_say() {
    let mut sandbox = calls_sandbox();
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, COARSE, libc::CLOCK_PROCESS_CPUTIME_ID] {
        let (by_library, by_system_call): (u64, u64) = sandbox.call("clock_resolutions", (clock,)).unwrap();
        assert_eq!(by_library, by_system_call, "clock {clock}");
    }
    assert_eq!(sandbox.call::<i32>("current_processor", ()).unwrap(), 0);
}

#[test]
fn a_frozen_clock_shows_one_time_in_every_way() {
    let mut sandbox = calls_builder().clock(Clock::Frozen(moment())).build().unwrap();
    assert_eq!(sandbox.call::<Vec<u64>>("times_of_day", ()).unwrap(), [SECONDS; 6]);
    let (back, forward): (u32, u64) = sandbox.call("read_clock", (1000u32,)).unwrap();
    assert_eq!((back, forward), (0, 0));
    for clock in
        [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_MONOTONIC_RAW, libc::CLOCK_PROCESS_CPUTIME_ID]
    {
        let (back, longest): (u32, u64) = sandbox.call("clock_in_both_ways", (clock, 10u32)).unwrap();
        assert_eq!((back, longest), (0, 0), "clock {clock}");
    }
    assert_eq!(sandbox.call::<u64>("time_asleep", (3_600_000u64,)).unwrap(), 0, "a sleep is over at once");
    sandbox.advance_clock(Duration::from_secs(60)).unwrap();
    assert_eq!(sandbox.call::<Vec<u64>>("times_of_day", ()).unwrap(), [SECONDS + 60; 6]);
}

#[test]
fn a_virtual_clock_goes_on_by_what_the_guest_sleeps_and_the_host_adds() {
    let mut sandbox = calls_builder().clock(Clock::Virtual(moment())).build().unwrap();
    let snapshot = sandbox.snapshot().unwrap();
    let times = |sandbox: &mut Sandbox| sandbox.call::<Vec<u64>>("times_of_day", ()).unwrap();
    for _ in 0..2 {
        assert_eq!(times(&mut sandbox), [SECONDS; 6]);
        assert_eq!(sandbox.call::<u64>("time_asleep", (3_600_000u64,)).unwrap(), 3_600_000_000_000);
        assert_eq!(times(&mut sandbox), [SECONDS + 3_600; 6]);
        sandbox.advance_clock(Duration::from_secs(60)).unwrap();
        assert_eq!(times(&mut sandbox), [SECONDS + 3_660; 6]);
        // The time is a part of what is gone back to.
        sandbox.restore(&snapshot).unwrap();
    }
    let mut spawned = calls_spawn(snapshot.builder()).build().unwrap();
    assert_eq!(times(&mut spawned), [SECONDS; 6]);
}

#[test]
fn a_clock_that_is_frozen_in_calls_shows_when_the_call_began() {
    let mut sandbox = calls_builder().clock(Clock::FrozenInCalls).build().unwrap();
    let mut last = 0;
    for _ in 0..2 {
        let (back, forward): (u32, u64) = sandbox.call("read_clock", (1000u32,)).unwrap();
        assert_eq!((back, forward), (0, 0));
        let before = host_time(libc::CLOCK_MONOTONIC);
        let now: u64 = sandbox.call("clock_by_library", (libc::CLOCK_MONOTONIC,)).unwrap();
        assert!(now >= before && now > last);
        last = now;
    }
    assert_eq!(sandbox.advance_clock(Duration::from_secs(1)), Err(ClockError::HostTime));
}

#[test]
fn the_hosts_time_is_not_to_be_advanced() {
    assert_eq!(calls_sandbox().advance_clock(Duration::from_secs(1)), Err(ClockError::HostTime));
}

#[test]
fn times_that_clocks_do_not_reach_are_taken_for_the_nearest() {
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let mut sandbox = calls_builder().clock(Clock::Virtual(before)).build().unwrap();
    assert_eq!(sandbox.call::<Vec<u64>>("times_of_day", ()).unwrap(), [0; 6]);
    sandbox.advance_clock(Duration::MAX).unwrap();
    let last = i64::MAX as u64 / 1_000_000_000;
    assert_eq!(sandbox.call::<Vec<u64>>("times_of_day", ()).unwrap(), [last; 6]);
}

/// The time on a clock of the host's in nanoseconds.
fn host_time(clock: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written.
    assert_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

const COARSE: i32 = libc::CLOCK_REALTIME_COARSE;

/// By how much a guest's clock may differ from the host's, in nanoseconds: coarse clocks of the host are late by a tick.
const TOLERANCE: u64 = 10_000_000;

const SECONDS: u64 = 1_234_567_890;

fn moment() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS)
}
