//! Deadlines and CPU time.

use std::time::{Duration, Instant};

use super::guest::{Guest, NO_LIMITS, Step, meanwhile, wait_until};
use crate::interrupt::{Interruption, KillOutcome, TimeLimits};

#[test]
fn a_deadline_ends_a_guest_that_spins_and_no_later_call() {
    let mut guest = Guest::new();
    for _ in 0..5 {
        assert_eq!(guest.call(deadline(5 * MS), &mut [Step::Spin]), Err(Interruption::Deadline));
        assert_eq!(guest.call(NO_LIMITS, &mut [Step::Sleep(10 * MS)]), Ok(()));
    }
}

#[test]
fn a_cpu_time_limit_ends_a_guest_that_spins_and_no_later_call() {
    let mut guest = Guest::new();
    for _ in 0..3 {
        assert_eq!(guest.call(cpu_time(10 * MS), &mut [Step::Spin]), Err(Interruption::CpuTime));
        let mut spins = || spin_for(20 * MS);
        assert_eq!(guest.call(NO_LIMITS, &mut [Step::Host(&mut spins)]), Ok(()));
    }
}

#[test]
fn sleeping_costs_no_cpu_time() {
    let mut guest = Guest::new();
    assert_eq!(guest.call(cpu_time(200 * MS), &mut [Step::Sleep(300 * MS)]), Ok(()));
}

#[test]
fn of_two_limits_the_one_that_is_reached_first_counts() {
    let mut guest = Guest::new();
    let limits = |deadline, cpu_time| TimeLimits { deadline: Some(deadline), cpu_time: Some(cpu_time) };
    assert_eq!(guest.call(limits(5 * MS, HOUR), &mut [Step::Spin]), Err(Interruption::Deadline));
    assert_eq!(guest.call(limits(HOUR, 5 * MS), &mut [Step::Spin]), Err(Interruption::CpuTime));
}

#[test]
fn a_call_without_time_does_not_enter_the_guest() {
    let mut guest = Guest::new();
    assert_eq!(guest.call(deadline(Duration::ZERO), &mut []), Err(Interruption::Deadline));
    assert_eq!(guest.call(cpu_time(Duration::ZERO), &mut []), Err(Interruption::CpuTime));
    assert_eq!(guest.runs(), 0);
}

#[test]
fn a_limit_beyond_all_time_is_none() {
    let mut guest = Guest::new();
    let endless = TimeLimits { deadline: Some(Duration::MAX), cpu_time: Some(Duration::MAX) };
    assert_eq!(guest.call(endless, &mut [Step::Sleep(MS)]), Ok(()));
}

#[test]
fn a_deadline_cuts_a_sleep_short() {
    let mut guest = Guest::new();
    assert_eq!(guest.call(deadline(5 * MS), &mut [Step::Sleep(Duration::MAX)]), Err(Interruption::Deadline));
}

/// Tries with ever longer limits, until the machine was fast enough for the call to come as far as it was meant to.
fn with_enough_time(mut attempt: impl FnMut(Duration) -> bool) {
    assert!((0..12).any(|doublings| attempt(5 * MS * (1 << doublings))), "no limit was long enough");
}

#[test]
fn a_deadline_that_passes_in_a_host_function_counts_when_it_returns() {
    with_enough_time(|limit| {
        let mut guest = Guest::new();
        let mut reached_end = false;
        let mut overruns = || {
            spin_for(2 * limit);
            reached_end = true;
        };
        let result = guest.call(deadline(limit), &mut [Step::Host(&mut overruns), Step::Spin]);
        assert_eq!(result, Err(Interruption::Deadline));
        reached_end
    });
}

#[test]
fn a_call_with_a_deadline_can_be_killed() {
    let mut guest = Guest::new();
    let killer = meanwhile(&guest, |handle| {
        wait_until(|| handle.is_running());
        handle.kill()
    });
    let limits = TimeLimits { deadline: Some(HOUR), cpu_time: Some(HOUR) };
    assert_eq!(guest.call(limits, &mut [Step::Spin]), Err(Interruption::Killed));
    assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
}

#[test]
fn deadlines_that_pass_about_when_the_call_ends_do_not_reach_the_next_call() {
    let mut guest = Guest::new();
    for microseconds in (0..400).cycle().take(4000) {
        let limits = deadline(Duration::from_micros(microseconds));
        let result = guest.call(limits, &mut []);
        assert!(matches!(result, Ok(()) | Err(Interruption::Deadline)), "{result:?}");
        assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
    }
}

#[test]
fn the_outer_calls_deadline_leaves_the_inner_call_alone() {
    with_enough_time(|limit| {
        let (mut outer, mut inner) = (Guest::new(), Guest::new());
        let mut inner_result = None;
        let mut calls_inner = || {
            let mut spins = || spin_for(2 * limit);
            inner_result = Some(inner.call(NO_LIMITS, &mut [Step::Host(&mut spins), Step::Host(&mut || ())]));
        };
        let result = outer.call(deadline(limit), &mut [Step::Host(&mut calls_inner), Step::Spin]);
        assert_eq!(result, Err(Interruption::Deadline));
        assert!(matches!(inner_result, None | Some(Ok(()))), "{inner_result:?}");
        inner_result.is_some()
    });
}

#[test]
fn nested_calls_have_a_deadline_each() {
    // Whichever passes first.
    for (outer_share, inner_share) in [(8, 1), (1, 4)] {
        with_enough_time(|limit| {
            let (mut outer, mut inner) = (Guest::new(), Guest::new());
            let mut inner_result = None;
            let mut calls_inner = || inner_result = Some(inner.call(deadline(inner_share * limit), &mut [Step::Spin]));
            let steps = &mut [Step::Host(&mut calls_inner), Step::Spin];
            assert_eq!(outer.call(deadline(outer_share * limit), steps), Err(Interruption::Deadline));
            assert!(matches!(inner_result, None | Some(Err(Interruption::Deadline))), "{inner_result:?}");
            inner_result.is_some()
        });
    }
}

#[test]
fn an_inner_calls_limits_do_not_outlive_it() {
    let (mut outer, mut inner) = (Guest::new(), Guest::new());
    let mut calls_inner = || assert_eq!(inner.call(deadline(200 * MS), &mut []), Ok(()));
    let result = outer.call(deadline(HOUR), &mut [Step::Host(&mut calls_inner), Step::Sleep(250 * MS)]);
    assert_eq!(result, Ok(()));
}

#[test]
fn limits_go_with_the_sandbox_to_another_thread() {
    let mut guest = Guest::new();
    for _ in 0..3 {
        guest = std::thread::spawn(move || {
            assert_eq!(guest.call(deadline(5 * MS), &mut [Step::Spin]), Err(Interruption::Deadline));
            assert_eq!(guest.call(cpu_time(5 * MS), &mut [Step::Spin]), Err(Interruption::CpuTime));
            guest
        })
        .join()
        .unwrap();
    }
}

fn deadline(limit: Duration) -> TimeLimits {
    TimeLimits { deadline: Some(limit), cpu_time: None }
}

fn cpu_time(limit: Duration) -> TimeLimits {
    TimeLimits { deadline: None, cpu_time: Some(limit) }
}

fn spin_for(duration: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        std::hint::spin_loop();
    }
}

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
