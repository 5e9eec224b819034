//! `InterruptHandle::kill` ends the call that is running, and no other.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ampoule::{CallError, InterruptHandle, KillOutcome, Poison, Sandbox, Termination};
use ampoule_tests::{calls_image, calls_sandbox, hostile_sandbox};

/// Kills the handle's call as soon as one is running.
fn kill_soon(handle: InterruptHandle) -> thread::JoinHandle<KillOutcome> {
    thread::spawn(move || {
        while !handle.is_running() {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(2));
        handle.kill()
    })
}

fn assert_killed<R>(result: Result<R, CallError>) {
    let error = result.err().expect("the call is killed");
    assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
}

/// A sandbox whose host function `notify` is this closure, which is given the sandbox's own handle.
fn with_notify(mut notify: impl FnMut(&InterruptHandle) + Send + 'static) -> Sandbox {
    let (send, receive) = mpsc::channel::<InterruptHandle>();
    let mut handle = None;
    let sandbox = Sandbox::builder(&calls_image())
        .host_fn("notify", move || notify(handle.get_or_insert_with(|| receive.recv().unwrap())))
        .host_fn("add", |a: u32, b: u32| a + b)
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap();
    send.send(sandbox.interrupt_handle()).unwrap();
    sandbox
}

#[test]
fn a_spinning_guest_is_killed_from_another_thread() {
    let mut sandbox = calls_sandbox();
    for _ in 0..20 {
        let killer = kill_soon(sandbox.interrupt_handle());
        assert_killed(sandbox.call::<()>("spin", ()));
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
        assert!(matches!(
            sandbox.call::<()>("empty", ()),
            Err(CallError::Poisoned { cause: Poison::Ended(Termination::Killed) })
        ));
        sandbox.reset().unwrap();
        sandbox.call::<()>("empty", ()).unwrap();
    }
}

#[test]
fn guests_that_leave_all_the_time_are_killed() {
    let mut sandbox = calls_sandbox();
    for function in ["notify_for_ever", "read_the_clock_for_ever"] {
        let killer = kill_soon(sandbox.interrupt_handle());
        assert_killed(sandbox.call::<()>(function, ()));
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
        sandbox.reset().unwrap();
    }
}

#[test]
fn a_sleeping_guest_is_killed() {
    let mut sandbox = calls_sandbox();
    let killer = kill_soon(sandbox.interrupt_handle());
    assert_killed(sandbox.call::<()>("sleep", (600_000u64,)));
    assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
}

#[test]
fn a_kill_between_calls_does_nothing() {
    let mut sandbox = calls_sandbox();
    let handle = sandbox.interrupt_handle();
    for _ in 0..10 {
        assert_eq!(handle.kill(), KillOutcome::NotRunning);
        assert!(!handle.is_running());
        sandbox.call::<()>("empty", ()).unwrap();
    }
    drop(sandbox);
    assert_eq!(handle.kill(), KillOutcome::NotRunning);
}

#[test]
fn a_kill_inside_a_host_function_takes_effect_when_it_returns() {
    let (send, receive) = mpsc::channel();
    let mut sandbox = with_notify(move |handle| {
        let inside = handle.is_in_host_function();
        send.send((inside, handle.kill(), handle.kill())).unwrap();
    });
    assert_killed(sandbox.call::<()>("notify_host", (2u32,)));
    assert_eq!(receive.recv().unwrap(), (true, KillOutcome::Killed, KillOutcome::AlreadyEnding));
    assert!(receive.try_recv().is_err(), "the guest went on after the kill");
}

#[test]
fn a_running_call_is_told_from_later_ones() {
    let (send, receive) = mpsc::channel();
    let mut sandbox = with_notify(move |handle| send.send(handle.running_call().unwrap()).unwrap());
    sandbox.call::<()>("notify_host", (1u32,)).unwrap();
    let first = receive.recv().unwrap();
    assert!(!first.is_running());
    let killer = thread::spawn(move || first.kill());
    sandbox.call::<()>("sleep", (20u64,)).unwrap();
    assert_eq!(killer.join().unwrap(), KillOutcome::NotRunning);
}

#[test]
fn a_sandbox_that_has_moved_is_killed_where_it_runs() {
    let sandbox = calls_sandbox();
    let handle = sandbox.interrupt_handle();
    let mut sandbox = thread::spawn(move || {
        let mut sandbox = sandbox;
        sandbox.call::<()>("empty", ()).unwrap();
        sandbox
    })
    .join()
    .unwrap();
    sandbox.call::<()>("empty", ()).unwrap();
    let caller = thread::spawn(move || assert_killed(sandbox.call::<()>("spin", ())));
    assert_eq!(kill_soon(handle).join().unwrap(), KillOutcome::Killed);
    caller.join().unwrap();
}

#[test]
fn kills_hit_the_sandbox_that_they_are_meant_for() {
    let mut bystander = calls_sandbox();
    let mut victim = hostile_sandbox();
    let handle = victim.interrupt_handle();
    let caller = thread::spawn(move || assert_killed(victim.call::<()>("spin", ())));
    let killer = kill_soon(handle);
    while !killer.is_finished() {
        assert_eq!(bystander.call::<u32>("count_on_host", (3u32,)).unwrap(), 3);
    }
    assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
    caller.join().unwrap();
    assert_eq!(bystander.call::<u32>("count_on_host", (3u32,)).unwrap(), 3);
}

#[test]
fn a_storm_of_kills_ends_no_call_without_saying_so() {
    let mut sandbox = calls_sandbox();
    let handle = sandbox.interrupt_handle();
    let (stop, stopped) = mpsc::channel::<()>();
    let storm = thread::spawn(move || {
        let mut killed = 0;
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            killed += u32::from(handle.kill() == KillOutcome::Killed);
            thread::sleep(Duration::from_micros(200));
        }
        killed
    });
    let mut ended = 0;
    for _ in 0..2000 {
        match sandbox.call::<()>("empty", ()) {
            Ok(()) => {}
            Err(error) => {
                assert_killed::<()>(Err(error));
                ended += 1;
                sandbox.reset().unwrap();
            }
        }
    }
    stop.send(()).unwrap();
    assert_eq!(storm.join().unwrap(), ended);
}
