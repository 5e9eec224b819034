//! System calls that a filter refuses to the process, with errors that say what to do about it.

use std::thread;
use std::time::Duration;

use ampoule::{
    BuildError, Call, CallError, InterruptSignal, InterruptSignalError, KillOutcome, SnapshotError, Termination,
};
use ampoule_tests::{calls_builder, tenant_builder};

use crate::exhaustion::in_a_process_of_its_own;
use crate::seccomp::{refuse, refuse_to_all, without};
use crate::{MEMORY, disturb, state};

#[test]
fn a_filter_that_refuses_files_in_memory_is_told_as_such() {
    in_a_process_of_its_own("refusals::a_filter_that_refuses_files_in_memory_is_told_as_such", || {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let mut sandbox = tenant_builder().memory_limit(MEMORY).build().unwrap();
            disturb(&mut sandbox);
            let before = state(&mut sandbox);
            let error = without(libc::SYS_memfd_create, errno, || sandbox.snapshot().unwrap_err());
            assert!(matches!(error, SnapshotError::Memory(_)), "{error}");
            let text = error.to_string();
            assert!(text.contains("`memfd_create`: ") && text.contains("seccomp"), "{text}");
            assert!(!text.contains("ulimit"), "{text}");
            assert_eq!(state(&mut sandbox), before);
            sandbox.snapshot().unwrap();
        }
    });
}

#[test]
fn a_filter_that_refuses_random_bytes_is_an_error_of_the_build() {
    in_a_process_of_its_own("refusals::a_filter_that_refuses_random_bytes_is_an_error_of_the_build", || {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let error = without(libc::SYS_getrandom, errno, || calls_builder().build().unwrap_err());
            assert!(matches!(error, BuildError::Random(_)), "{error}");
            assert!(error.to_string().contains("`getrandom`"), "{error}");
        }
        calls_builder().build().unwrap();
    });
}

#[test]
fn without_the_right_to_signal_nothing_is_installed_and_no_sandbox_is_built() {
    in_a_process_of_its_own(
        "refusals::without_the_right_to_signal_nothing_is_installed_and_no_sandbox_is_built",
        || {
            for errno in [libc::EPERM, libc::ENOSYS] {
                let error = without(libc::SYS_tgkill, errno, || calls_builder().build().unwrap_err());
                assert!(
                    matches!(error, BuildError::Signal(InterruptSignalError::Refused { signal: 40, .. })),
                    "{error}"
                );
                let text = error.to_string();
                assert!(text.contains("`tgkill`") && text.contains("`InterruptSignal::None.install()`"), "{text}");
            }
            // Nothing was decided; once it is, building a sandbox without that right is an error too.
            InterruptSignal::Number(libc::SIGUSR1).install().unwrap();
            calls_builder().build().unwrap();
            let error = without(libc::SYS_tgkill, libc::EPERM, || calls_builder().build().unwrap_err());
            assert!(matches!(error, BuildError::Signal(InterruptSignalError::Refused { .. })), "{error}");
        },
    );
}

#[test]
fn a_kill_that_may_not_signal_says_so_and_another_one_ends_the_call() {
    in_a_process_of_its_own("refusals::a_kill_that_may_not_signal_says_so_and_another_one_ends_the_call", || {
        let mut sandbox = calls_builder().build().unwrap();
        let handle = sandbox.interrupt_handle();
        // A kill that comes before the guest is entered needs no signal, so one attempt may not be enough.
        let has_refused = (0..20).any(|_| {
            let outcomes = thread::scope(|scope| {
                let killer = scope.spawn(|| {
                    while !handle.is_running() {
                        thread::yield_now();
                    }
                    thread::sleep(Duration::from_millis(10));
                    [without(libc::SYS_tgkill, libc::EPERM, || handle.kill()), handle.kill()]
                });
                let error = sandbox.call::<()>("spin", ()).unwrap_err();
                assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
                killer.join().unwrap()
            });
            sandbox.reset().unwrap();
            sandbox.call::<()>("empty", ()).unwrap();
            outcomes == [KillOutcome::Unreachable, KillOutcome::AlreadyEnding]
        });
        assert!(has_refused, "no kill was refused its signal");
    });
}

#[test]
fn a_time_limit_that_could_not_be_enforced_is_refused() {
    in_a_process_of_its_own("refusals::a_time_limit_that_could_not_be_enforced_is_refused", || {
        let mut sandbox = calls_builder().build().unwrap();
        let limited = || Call::new("empty", ()).deadline(Duration::from_secs(3600));
        thread::scope(|scope| {
            scope.spawn(|| {
                refuse(libc::SYS_tgkill, libc::ENOSYS);
                let error = sandbox.call_with::<(), _>(limited()).unwrap_err();
                assert!(matches!(error, CallError::LimitsUnwatched { .. }), "{error}");
                assert!(error.to_string().contains("`tgkill`"), "{error}");
                sandbox.call::<()>("empty", ()).unwrap();
            });
        });
        sandbox.call_with::<(), _>(limited()).unwrap();
    });
}

#[test]
fn a_filter_that_comes_later_is_noticed_by_the_first_limit_that_it_spoils() {
    in_a_process_of_its_own("refusals::a_filter_that_comes_later_is_noticed_by_the_first_limit_that_it_spoils", || {
        let mut sandbox = calls_builder().build().unwrap();
        let notified = Call::new("notify_for_ever", ()).deadline(Duration::from_millis(20));
        sandbox.call_with::<(), _>(Call::new("empty", ()).deadline(Duration::from_secs(3600))).unwrap();
        refuse_to_all(libc::SYS_tgkill, libc::EPERM);
        // The guest exits all the time, so that the limit holds without a signal.
        let error = sandbox.call_with::<(), _>(notified).unwrap_err();
        assert!(matches!(error, CallError::Terminated { cause: Termination::LimitExceeded(_), .. }), "{error}");
        sandbox.reset().unwrap();
        let mut noticed = false;
        for _ in 0..100 {
            let call = Call::new("read_the_clock_for_ever", ()).deadline(Duration::from_millis(5));
            match sandbox.call_with::<(), _>(call).unwrap_err() {
                CallError::LimitsUnwatched { reason, .. } => {
                    assert_eq!(reason.raw_os_error(), Some(libc::EPERM));
                    noticed = true;
                    break;
                }
                error => {
                    assert!(matches!(error, CallError::Terminated { .. }), "{error}");
                    sandbox.reset().unwrap();
                }
            }
        }
        assert!(noticed, "a limit passed a hundred times while the guest was running, and nobody noticed");
    });
}
