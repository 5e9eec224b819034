//! A runtime of tokio's in a guest: timers, channels, and what waits for files.

use std::time::SystemTime;

use ampoule::{Builder, CallError, Clock, EndlessWait, FaultKind, Image, Sandbox, Termination};

fn builder() -> Builder {
    Sandbox::builder(&Image::embedded(ampoule::include_guest!("tasks")).unwrap())
}

#[test]
fn tasks_sleep_and_send() {
    // On the host's clock the time that it takes to begin to sleep would count.
    let mut sandbox = builder().clock(Clock::Virtual(SystemTime::UNIX_EPOCH)).build().unwrap();
    assert_eq!(sandbox.call::<Vec<u32>>("sleep_sort", (vec![3u32, 1, 2],)).unwrap(), [1, 2, 3]);
    let mut sandbox = builder().build().unwrap();
    assert!(sandbox.call::<bool>("finishes_in_time", (1u64, 3_600_000u64)).unwrap());
    assert!(!sandbox.call::<bool>("finishes_in_time", (3_600_000u64, 1u64)).unwrap());
    assert!(sandbox.call::<u64>("time_asleep", (5u64,)).unwrap() >= 5);
}

#[test]
fn tasks_wait_for_pipes() {
    let mut sandbox = builder().build().unwrap();
    for len in [0u32, 1, 5_000, 300_000] {
        let sum = (0..len).map(|index| u64::from(index as u8)).sum::<u64>();
        assert_eq!(sandbox.call::<(u32, u64)>("send_through_pipe", (len,)).unwrap(), (len, sum));
    }
}

#[test]
fn tasks_wait_for_sockets() {
    let mut sandbox = builder().build().unwrap();
    let text = "a text that is longer than what a socket holds\n".repeat(10_000);
    assert!(sandbox.call::<String>("send_there_and_back", (&text,)).unwrap() == text);
}

#[test]
fn a_runtime_goes_back_to_a_snapshot_with_all_that_it_waits_for() {
    let mut sandbox = builder().build().unwrap();
    assert!(sandbox.call::<bool>("finishes_in_time", (1u64, 3_600_000u64)).unwrap());
    let snapshot = sandbox.snapshot().unwrap();
    let mut spawned = snapshot.spawn().unwrap();
    for sandbox in [&mut sandbox, &mut spawned] {
        for _ in 0..2 {
            assert_eq!(sandbox.call::<(u32, u64)>("send_through_pipe", (1u32,)).unwrap(), (1, 0));
            assert_eq!(sandbox.call::<Vec<u32>>("sleep_sort", (vec![2u32, 1],)).unwrap(), [1, 2]);
            sandbox.restore(&snapshot).unwrap();
        }
    }
}

#[test]
fn a_runtime_with_a_virtual_clock_waits_for_nothing() {
    let mut sandbox = builder().clock(Clock::Virtual(SystemTime::UNIX_EPOCH)).build().unwrap();
    let day = 86_400_000;
    // The runtime rounds its timers up to milliseconds.
    let asleep: u64 = sandbox.call("time_asleep", (day,)).unwrap();
    assert!((day..day + 5).contains(&asleep), "{asleep}");
    assert_eq!(
        sandbox.call::<Vec<u32>>("sleep_sort", (vec![30_000_000u32, 10_000_000],)).unwrap(),
        [10_000_000, 30_000_000]
    );
    assert!(!sandbox.call::<bool>("finishes_in_time", (2 * day, day)).unwrap());
}

#[test]
fn a_runtime_that_waits_for_ever_is_reported() {
    let mut sandbox = builder().build().unwrap();
    let error = sandbox.call::<()>("wait_for_ever", ()).unwrap_err();
    let CallError::Terminated { cause: Termination::Fault(fault), .. } = &error else { panic!("{error}") };
    assert_eq!(*fault.kind(), FaultKind::Deadlocked(EndlessWait::Files), "{error}");
}
