//! Tests that need a process of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use super::guest::{Guest, NO_LIMITS, Step, meanwhile, wait_until};
use crate::interrupt::{Interruption, Interruptor, KillOutcome, TimeLimits};

/// Runs `body` in a process in which no other test runs. `test` is the name of the calling test in `module`.
pub(super) fn in_own_process(module: &str, test: &str, body: impl FnOnce()) {
    if std::env::var_os(IN_OWN_PROCESS).is_some() {
        return body();
    }
    let (_crate, module) = module.split_once("::").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("{module}::{test}")])
        .env(IN_OWN_PROCESS, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn a_warm_call_without_limits_makes_no_system_call_of_its_own() {
    let mut guest = Guest::new();
    guest.call(NO_LIMITS, &mut []).unwrap();
    let limits = TimeLimits { deadline: Some(Duration::from_secs(3600)), cpu_time: None };
    guest.call(limits, &mut []).unwrap();
    let status = in_fork(|| {
        // SAFETY: from here on every system call but `read`, `write` and `exit` kills the child.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) }, 0);
        for _ in 0..10 {
            call_without_guest(&guest.interruptor);
        }
        // SAFETY: the child has no other thread. `_exit` would use another system call.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    assert_eq!(status, 0, "wait status");
}

#[test]
fn limits_work_in_a_child_process_that_is_forked_after_their_first_use() {
    let mut guest = Guest::new();
    let limits = TimeLimits { deadline: Some(Duration::from_millis(1)), cpu_time: Some(Duration::from_millis(1)) };
    guest.call(limits, &mut [Step::Spin]).unwrap_err();
    let status = in_fork(|| {
        let mut own = Guest::new();
        let deadline = TimeLimits { cpu_time: None, ..limits };
        assert_eq!(own.call(deadline, &mut [Step::Spin]), Err(Interruption::Deadline));
        let cpu_time = TimeLimits { deadline: None, ..limits };
        assert_eq!(own.call(cpu_time, &mut [Step::Spin]), Err(Interruption::CpuTime));
    });
    assert_eq!(status, 0, "wait status");
}

#[test]
fn a_kill_in_a_child_does_not_reach_the_parents_guest() {
    let mut guest = Guest::new();
    let handle = guest.handle();
    // Only a guest that is never entered needs it.
    let limits = TimeLimits { deadline: Some(Duration::from_secs(30)), cpu_time: None };
    for _ in 0..3 {
        let call = guest.interruptor.begin(limits).unwrap();
        let running = handle.running_call().unwrap();
        let status = in_fork(|| {
            assert_eq!(handle.kill(), KillOutcome::NotRunning);
            assert_eq!(running.kill(), KillOutcome::NotRunning);
            assert!(!handle.is_running() && !running.is_running());
        });
        assert!(running.is_running());
        assert_eq!(guest.ring(), Ok(()));
        assert_eq!(call.finish(), Ok(()));
        assert_eq!(status, 0, "wait status");
    }
}

#[test]
fn a_child_that_is_forked_while_another_thread_calls_can_kill_and_returns() {
    let mut guest = Guest::new();
    let killer = meanwhile(&guest, |handle| {
        wait_until(|| handle.is_running());
        let running = handle.running_call().unwrap();
        let status = in_fork(|| {
            assert_eq!(handle.kill(), KillOutcome::NotRunning);
            assert_eq!(running.kill(), KillOutcome::NotRunning);
        });
        assert_eq!(handle.kill(), KillOutcome::Killed);
        status
    });
    assert_eq!(guest.call(NO_LIMITS, &mut [Step::Spin]), Err(Interruption::Killed));
    assert_eq!(killer.join().unwrap(), 0, "wait status");
    assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
}

#[test]
fn handles_of_a_childs_own_guests_work() {
    let _parents = Guest::new();
    let status = in_fork(|| {
        let mut own = Guest::new();
        let killer = meanwhile(&own, |handle| {
            wait_until(|| handle.is_running());
            handle.kill()
        });
        assert_eq!(own.call(NO_LIMITS, &mut [Step::Spin]), Err(Interruption::Killed));
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
        assert_eq!(own.call(NO_LIMITS, &mut []), Ok(()));
    });
    assert_eq!(status, 0, "wait status");
}

#[test]
fn a_limit_that_cannot_be_watched_is_refused() {
    in_own_process(module_path!(), "a_limit_that_cannot_be_watched_is_refused", || {
        let mut guest = Guest::new();
        exhaust_address_space();
        let limits = TimeLimits { deadline: Some(Duration::from_secs(3600)), cpu_time: None };
        let error = guest.interruptor.begin(limits).unwrap_err();
        assert_eq!(error.reason.raw_os_error(), Some(libc::EAGAIN));
        assert!(!guest.handle().is_running());
        assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
    });
}

/// Leaves no room for another thread's stack.
fn exhaust_address_space() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `none` lives during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const none) }, 0);
}

fn call_without_guest(interruptor: &Interruptor) {
    let call = interruptor.begin(NO_LIMITS).unwrap();
    let result: Result<(), Interruption> = interruptor.check().and_then(|()| interruptor.in_host_function(|| ()));
    assert!(result.is_ok());
    assert!(call.finish().is_ok());
}

/// The wait status of a child process that runs `body` and then exits, with status 0 unless that panics.
fn in_fork(body: impl FnOnce()) -> libc::c_int {
    // SAFETY: the child's only thread runs `body`, which uses nothing that another thread may have locked but for the C
    // library's memory, which can be used in a child, and never returns into the test harness. It ends after a minute at the
    // latest.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::alarm(60);
            let has_failed = catch_unwind(AssertUnwindSafe(body)).is_err();
            libc::_exit(has_failed.into());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    }
}

const IN_OWN_PROCESS: &str = "AMPOULE_TEST_IN_OWN_PROCESS";
