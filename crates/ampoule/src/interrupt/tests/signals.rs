//! The signal: which one it is, who may have it, and what is left alone.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use super::guest::{Guest, NO_LIMITS, Step, meanwhile, wait_until};
use super::process::in_own_process;
use crate::interrupt::{InterruptHandle, InterruptSignal, InterruptSignalError, Interruption, KillOutcome, TimeLimits};

#[test]
fn by_default_it_is_number_40() {
    in_own_process(module_path!(), "by_default_it_is_number_40", || {
        assert_eq!(handler(40), libc::SIG_DFL);
        let _guest = Guest::new();
        assert_ne!(handler(40), libc::SIG_DFL);
        let others = (1..=64).filter(|signal| *signal != 40 && ![32, 33, libc::SIGSEGV, libc::SIGBUS].contains(signal));
        for signal in others {
            assert!([libc::SIG_DFL, libc::SIG_IGN].contains(&handler(signal)), "signal {signal}");
        }
    });
}

#[test]
fn the_application_can_choose_one_before_the_first_sandbox() {
    in_own_process(module_path!(), "the_application_can_choose_one_before_the_first_sandbox", || {
        InterruptSignal::Number(libc::SIGUSR1).install().unwrap();
        InterruptSignal::Number(libc::SIGUSR1).install().unwrap();
        let mut guest = Guest::new();
        let killer = kill_when_running(&guest);
        assert_eq!(guest.call(NO_LIMITS, &mut [Step::Spin]), Err(Interruption::Killed));
        killer.join().unwrap();
        assert_eq!(guest.call(deadline(5), &mut [Step::Spin]), Err(Interruption::Deadline));
        assert_eq!(handler(40), libc::SIG_DFL);
        let error = InterruptSignal::Default.install().unwrap_err();
        assert!(matches!(error, InterruptSignalError::Decided { signal: Some(libc::SIGUSR1) }), "{error}");
    });
}

#[test]
fn a_signal_that_the_application_handles_is_left_to_it() {
    in_own_process(module_path!(), "a_signal_that_the_application_handles_is_left_to_it", || {
        handle(40, of_application);
        let error = InterruptSignal::Number(40).install().unwrap_err();
        assert!(matches!(error, InterruptSignalError::InUse { signal: 40 }), "{error}");
        assert_eq!(handler(40), of_application as *const () as usize);
        InterruptSignal::Number(libc::SIGUSR2).install().unwrap();
        let _guest = Guest::new();
        assert_eq!(handler(40), of_application as *const () as usize);
    });
}

#[test]
fn by_default_signals_that_others_handle_or_ignore_are_passed_over() {
    in_own_process(module_path!(), "by_default_signals_that_others_handle_or_ignore_are_passed_over", || {
        handle(40, of_application);
        // SAFETY: ignoring a signal has no preconditions.
        unsafe { libc::signal(41, libc::SIG_IGN) };
        let mut guest = Guest::new();
        InterruptSignal::Default.install().unwrap();
        InterruptSignal::Number(42).install().unwrap();
        assert_eq!(handler(40), of_application as *const () as usize);
        assert_eq!(handler(41), libc::SIG_IGN);
        assert_eq!(handler(43), libc::SIG_DFL);
        let killer = kill_when_running(&guest);
        assert_eq!(guest.call(NO_LIMITS, &mut [Step::Spin]), Err(Interruption::Killed));
        killer.join().unwrap();
        assert_eq!(guest.call(deadline(5), &mut [Step::Spin]), Err(Interruption::Deadline));
    });
}

#[test]
fn where_others_have_all_signals_the_error_names_them() {
    in_own_process(module_path!(), "where_others_have_all_signals_the_error_names_them", || {
        for signal in 40..=64 {
            handle(signal, of_application);
        }
        let error = InterruptSignal::Default.install().unwrap_err();
        assert!(matches!(error, InterruptSignalError::AllInUse { first: 40, last: 64 }), "{error}");
        InterruptSignal::Number(39).install().unwrap();
        let mut guest = Guest::new();
        assert_eq!(guest.call(deadline(5), &mut [Step::Spin]), Err(Interruption::Deadline));
    });
}

#[test]
fn signals_that_cannot_do_it_are_refused() {
    in_own_process(module_path!(), "signals_that_cannot_do_it_are_refused", || {
        for signal in [libc::SIGSEGV, libc::SIGILL, libc::SIGABRT] {
            let error = InterruptSignal::Number(signal).install().unwrap_err();
            assert!(matches!(error, InterruptSignalError::ReportsFaults { .. }), "{error}");
        }
        for signal in [libc::SIGKILL, libc::SIGSTOP, 0, -1, 32, 33, 65] {
            let error = InterruptSignal::Number(signal).install().unwrap_err();
            assert!(matches!(error, InterruptSignalError::Unusable { .. }), "{signal}: {error}");
        }
        InterruptSignal::Default.install().unwrap();
    });
}

#[test]
fn without_a_signal_calls_end_at_the_guests_next_exit() {
    in_own_process(module_path!(), "without_a_signal_calls_end_at_the_guests_next_exit", || {
        InterruptSignal::None.install().unwrap();
        let mut guest = Guest::new();
        assert_eq!(handler(40), libc::SIG_DFL);
        let handle = guest.handle();
        let mut kills = || assert_eq!(handle.kill(), KillOutcome::Killed);
        assert_eq!(guest.call(NO_LIMITS, &mut [Step::Host(&mut kills), Step::Spin]), Err(Interruption::Killed));

        let mut waits = || wait_until(|| handle.0.state.open().is_none());
        let exhausted = [
            (Interruption::Deadline, deadline(5)),
            (Interruption::CpuTime, TimeLimits { deadline: None, cpu_time: Some(Duration::from_millis(5)) }),
        ];
        for (interruption, limits) in exhausted {
            assert_eq!(guest.call(limits, &mut [Step::Host(&mut waits), Step::Spin]), Err(interruption));
        }
        assert_eq!(guest.call(deadline(5), &mut [Step::Sleep(Duration::MAX)]), Err(Interruption::Deadline));

        let killer = kill_when_running(&guest);
        assert_eq!(guest.call(NO_LIMITS, &mut [Step::Sleep(Duration::MAX)]), Err(Interruption::Killed));
        killer.join().unwrap();
        assert_eq!(guest.call(deadline(3_600_000), &mut []), Ok(()));
    });
}

#[test]
fn a_thread_that_blocks_all_signals_can_be_taken_out_of_its_guest() {
    std::thread::spawn(|| {
        let mut all = MaybeUninit::uninit();
        // SAFETY: `sigfillset` initializes the set.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), ptr::null_mut());
        }
        let mut guest = Guest::new();
        let killer = kill_when_running(&guest);
        assert_eq!(guest.call(NO_LIMITS, &mut [Step::Spin]), Err(Interruption::Killed));
        killer.join().unwrap();
        assert_eq!(guest.call(deadline(5), &mut [Step::Spin]), Err(Interruption::Deadline));
    })
    .join()
    .unwrap();
}

#[test]
fn the_signal_ends_no_call_when_it_comes_from_elsewhere() {
    let mut guest = Guest::new();
    // SAFETY: has no preconditions.
    let caller = unsafe { libc::pthread_self() };
    let sender = meanwhile(&guest, move |handle| {
        wait_until(|| handle.is_running());
        for _ in 0..100 {
            // SAFETY: the calling thread waits for this one before it ends.
            assert_eq!(unsafe { libc::pthread_kill(caller, libc::SIGRTMIN() + 6) }, 0);
            std::thread::yield_now();
        }
        handle.kill()
    });
    let limits = TimeLimits { deadline: Some(Duration::from_secs(3600)), cpu_time: Some(Duration::from_secs(3600)) };
    assert_eq!(guest.call(limits, &mut [Step::Spin]), Err(Interruption::Killed));
    assert_eq!(sender.join().unwrap(), KillOutcome::Killed);
}

#[test]
fn a_handler_on_the_calling_thread_can_kill() {
    static HANDLE: OnceLock<InterruptHandle> = OnceLock::new();
    extern "C" fn kill(_: libc::c_int) {
        HANDLE.get().unwrap().kill();
    }
    let mut guest = Guest::new();
    HANDLE.set(guest.handle()).unwrap();
    let signal = libc::SIGRTMIN() + 20;
    handle(signal, kill);
    // SAFETY: has no preconditions.
    let caller = unsafe { libc::pthread_self() };
    let sender = meanwhile(&guest, move |handle| {
        wait_until(|| handle.is_running());
        // SAFETY: the calling thread waits for this one before it ends.
        assert_eq!(unsafe { libc::pthread_kill(caller, signal) }, 0);
    });
    assert_eq!(guest.call(NO_LIMITS, &mut [Step::Spin]), Err(Interruption::Killed));
    sender.join().unwrap();
    assert_eq!(guest.call(NO_LIMITS, &mut []), Ok(()));
}

extern "C" fn of_application(_: libc::c_int) {}

fn kill_when_running(guest: &Guest) -> std::thread::JoinHandle<KillOutcome> {
    meanwhile(guest, |handle| {
        wait_until(|| handle.is_running());
        handle.kill()
    })
}

fn deadline(milliseconds: u64) -> TimeLimits {
    TimeLimits { deadline: Some(Duration::from_millis(milliseconds)), cpu_time: None }
}

fn handler(signal: libc::c_int) -> libc::sighandler_t {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `action` is writable, and valid from the start.
    unsafe {
        assert_eq!(libc::sigaction(signal, ptr::null(), action.as_mut_ptr()), 0, "signal {signal}");
        action.assume_init().sa_sigaction
    }
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: the handlers in this file do only what a signal handler may do.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = handler as *const () as usize;
        assert_eq!(libc::sigaction(signal, &raw const action, ptr::null_mut()), 0);
    }
}
