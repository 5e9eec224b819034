//! The table of moments at `InterruptHandle`, and races of kills with calls, moves and drops.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::guest::{Guest, NO_LIMITS, Step, meanwhile, wait_until};
use crate::interrupt::{InterruptHandle, Interruption, KillOutcome, RunningCall};

#[test]
fn a_guest_that_spins_is_killed_and_can_be_called_again() {
    let mut guest = Guest::new();
    for _ in 0..20 {
        let killer = meanwhile(&guest, |handle| {
            wait_until(|| handle.is_running());
            handle.kill()
        });
        assert_eq!(guest.call(NO_LIMITS, &mut [Step::Spin]), Err(Interruption::Killed));
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
        assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
    }
}

#[test]
fn a_kill_while_no_call_runs_affects_none() {
    let mut guest = Guest::new();
    let handle = guest.handle();
    assert_eq!(handle.kill(), KillOutcome::NotRunning);
    assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
    assert_eq!(handle.kill(), KillOutcome::NotRunning);
    assert!(handle.running_call().is_none());
    assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
}

#[test]
fn a_call_killed_before_entry_does_not_enter_the_guest() {
    let guest = Guest::new();
    let call = guest.interruptor.begin(NO_LIMITS).unwrap();
    assert_eq!(guest.handle().kill(), KillOutcome::Killed);
    assert_eq!(guest.interruptor.check(), Err(Interruption::Killed));
    assert_eq!(call.finish(), Err(Interruption::Killed));
    assert_eq!(guest.runs(), 0);
}

#[test]
fn a_kill_between_the_check_and_the_entry_is_not_lost() {
    let mut guest = Guest::new();
    let call = guest.interruptor.begin(NO_LIMITS).unwrap();
    assert_eq!(guest.interruptor.check(), Ok(()));
    assert_eq!(meanwhile(&guest, |handle| handle.kill()).join().unwrap(), KillOutcome::Killed);
    assert!(guest.is_left_at_once());
    assert_eq!(call.finish(), Err(Interruption::Killed));
    assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
}

#[test]
fn a_kill_after_the_last_exit_takes_the_result_until_the_call_is_finished() {
    let mut guest = Guest::new();
    let call = guest.interruptor.begin(NO_LIMITS).unwrap();
    guest.ring().unwrap();
    assert_eq!(guest.handle().kill(), KillOutcome::Killed);
    assert_eq!(call.finish(), Err(Interruption::Killed));
    assert_eq!(guest.handle().kill(), KillOutcome::NotRunning);
    assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
}

#[test]
fn a_host_function_runs_to_its_end_when_its_call_is_killed() {
    let mut guest = Guest::new();
    let killed = Arc::new(AtomicBool::new(false));
    let killer = meanwhile(&guest, {
        let killed = Arc::clone(&killed);
        move |handle| {
            wait_until(|| handle.is_in_host_function());
            assert_eq!(handle.kill(), KillOutcome::Killed);
            assert_eq!(handle.kill(), KillOutcome::AlreadyEnding);
            killed.store(true, Ordering::Release);
        }
    });
    let mut reached_end = false;
    let mut waits = || {
        wait_until(|| killed.load(Ordering::Acquire));
        reached_end = true;
    };
    let mut unreachable = || panic!("the guest was entered again");
    let result = guest.call(NO_LIMITS, &mut [Step::Host(&mut waits), Step::Host(&mut unreachable)]);
    assert_eq!(result, Err(Interruption::Killed));
    assert!(reached_end);
    killer.join().unwrap();
}

#[test]
fn a_host_function_can_kill_its_own_call() {
    let mut guest = Guest::new();
    let handle = guest.handle();
    let mut kills = || {
        assert!(handle.is_in_host_function());
        assert_eq!(handle.kill(), KillOutcome::Killed);
    };
    assert_eq!(guest.call(NO_LIMITS, &mut [Step::Host(&mut kills), Step::Spin]), Err(Interruption::Killed));
    assert!(!handle.is_in_host_function());
}

#[test]
fn a_guest_that_sleeps_is_killed() {
    let mut guest = Guest::new();
    let killer = meanwhile(&guest, |handle| {
        wait_until(|| handle.is_running());
        handle.kill()
    });
    let result = guest.call(NO_LIMITS, &mut [Step::Sleep(Duration::MAX)]);
    assert_eq!(result, Err(Interruption::Killed));
    assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
}

#[test]
fn a_call_is_told_from_the_one_after_it() {
    let mut guest = Guest::new();
    let handle = guest.handle();
    let mut first: Option<RunningCall> = None;
    guest.call(NO_LIMITS, &mut [Step::Host(&mut || first = handle.running_call())]).unwrap();
    let first = first.unwrap();
    assert!(!first.is_running());
    let mut kills_first = || {
        assert!(handle.is_running() && !first.is_running() && !first.is_in_host_function());
        assert_eq!(first.kill(), KillOutcome::NotRunning);
    };
    assert_eq!(guest.call(NO_LIMITS, &mut [Step::Host(&mut kills_first)]), Ok(()));
}

#[test]
fn in_a_storm_of_kills_each_one_hits_the_call_that_it_says() {
    const CALLS: usize = 3000;
    let mut guest = Guest::new();
    let over = Arc::new(AtomicBool::new(false));
    let killers: Vec<_> = (0..4)
        .map(|pace| {
            let over = Arc::clone(&over);
            meanwhile(&guest, move |handle| {
                let mut killed = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    if let Some(call) = handle.running_call()
                        && call.kill() == KillOutcome::Killed
                    {
                        killed.push(call.number);
                    }
                    (0..pace).for_each(|_| thread::yield_now());
                }
                killed
            })
        })
        .collect();
    let mut ended = HashSet::new();
    for index in 0..CALLS {
        let call = guest.interruptor.begin(NO_LIMITS).unwrap();
        let number = guest.handle().running_call().unwrap().number;
        // Every other guest never ends by itself.
        let served = if index % 2 == 0 { guest.spin() } else { guest.ring() };
        let finished = call.finish();
        assert!(served.is_ok() || served == finished);
        if finished == Err(Interruption::Killed) {
            ended.insert(number);
        }
    }
    over.store(true, Ordering::Relaxed);
    let killed: Vec<_> = killers.into_iter().flat_map(|killer| killer.join().unwrap()).collect();
    assert_eq!(killed.len(), ended.len(), "no call is killed twice");
    assert_eq!(HashSet::from_iter(killed), ended);
    assert!(ended.len() >= CALLS / 2);
    assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
}

#[test]
fn a_handle_stays_with_a_sandbox_that_moves_to_another_thread() {
    let mut guest = Guest::new();
    let handle = guest.handle();
    for _ in 0..3 {
        guest.call(NO_LIMITS, &mut []).unwrap();
        guest = thread::scope(|scope| {
            let elsewhere = scope.spawn(move || {
                assert_eq!(guest.call(NO_LIMITS, &mut [Step::Spin]), Err(Interruption::Killed));
                guest
            });
            wait_until(|| handle.is_running());
            assert_eq!(handle.kill(), KillOutcome::Killed);
            elsewhere.join().unwrap()
        });
    }
}

#[test]
fn a_handle_outlives_its_sandbox() {
    let guest = Guest::new();
    let handle = guest.handle();
    drop(guest);
    assert_eq!(handle.kill(), KillOutcome::NotRunning);
    assert!(!handle.is_running());
    assert!(!handle.is_in_host_function());
}

#[test]
fn a_sandbox_can_be_dropped_while_others_try_to_kill_it() {
    for _ in 0..50 {
        let mut guest = Guest::new();
        let dropped = Arc::new(AtomicBool::new(false));
        let killers = [(); 2].map(|()| {
            let dropped = Arc::clone(&dropped);
            meanwhile(&guest, move |handle: InterruptHandle| {
                while !dropped.load(Ordering::Acquire) {
                    handle.kill();
                }
                handle.kill()
            })
        });
        let _ = guest.call(NO_LIMITS, &mut []);
        drop(guest);
        dropped.store(true, Ordering::Release);
        for killer in killers {
            assert_eq!(killer.join().unwrap(), KillOutcome::NotRunning);
        }
    }
}

#[test]
fn a_kill_of_the_outer_call_leaves_the_inner_one_alone() {
    let (mut outer, mut inner) = (Guest::new(), Guest::new());
    let handle = outer.handle();
    let mut inner_result = None;
    let mut calls_inner = || {
        let mut kills_outer = || assert_eq!(handle.kill(), KillOutcome::Killed);
        inner_result = Some(inner.call(NO_LIMITS, &mut [Step::Host(&mut kills_outer), Step::Host(&mut || ())]));
    };
    let result = outer.call(NO_LIMITS, &mut [Step::Host(&mut calls_inner), Step::Spin]);
    assert_eq!(result, Err(Interruption::Killed));
    assert_eq!(inner_result, Some(Ok(())));
}

#[test]
fn a_kill_of_the_inner_call_leaves_the_outer_one_alone() {
    let (mut outer, mut inner) = (Guest::new(), Guest::new());
    let killer = meanwhile(&inner, |handle| {
        wait_until(|| handle.is_running());
        handle.kill()
    });
    let mut inner_result = None;
    let mut calls_inner = || inner_result = Some(inner.call(NO_LIMITS, &mut [Step::Spin]));
    assert_eq!(outer.call(NO_LIMITS, &mut [Step::Host(&mut calls_inner)]), Ok(()));
    assert_eq!(inner_result, Some(Err(Interruption::Killed)));
    killer.join().unwrap();
}

#[test]
fn a_call_ends_when_a_host_function_panics() {
    let mut guest = Guest::new();
    let handle = guest.handle();
    let mut panics = || panic!("on purpose");
    let unwound = catch_unwind(AssertUnwindSafe(|| guest.call(NO_LIMITS, &mut [Step::Host(&mut panics)])));
    assert!(unwound.is_err());
    assert!(!handle.is_running());
    assert_eq!(handle.kill(), KillOutcome::NotRunning);
    assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
}
