//! A shared object of the tests with a copy of Ampoule of its own, as a plugin of an application may have one.
//!
//! A process that loads several files with this content has several copies. None knows of the others.

use std::thread;
use std::time::Duration;

use ampoule::{Call, CallError, ExceededLimit, KillOutcome, Sandbox, Termination};
use ampoule_tests::calls_builder;

/// Whether a guest that spins is taken out by a kill, by the signal that this copy of the library has.
#[unsafe(no_mangle)]
pub extern "C" fn ampoule_test_plugin_kills() -> bool {
    let Some(mut sandbox) = sandbox() else { return false };
    let handle = sandbox.interrupt_handle();
    let killer = thread::spawn(move || {
        while !handle.is_running() {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(2));
        handle.kill()
    });
    let result = sandbox.call::<()>("spin", ());
    killer.join().is_ok_and(|outcome| outcome == KillOutcome::Killed)
        && matches!(result, Err(CallError::Terminated { cause: Termination::Killed, .. }))
}

/// Whether a guest that spins is taken out when its deadline passes.
#[unsafe(no_mangle)]
pub extern "C" fn ampoule_test_plugin_keeps_a_deadline() -> bool {
    let Some(mut sandbox) = sandbox() else { return false };
    let deadline = Duration::from_millis(5);
    let result = sandbox.call_with::<(), _>(Call::new("spin", ()).deadline(deadline));
    let exceeded = Termination::LimitExceeded(ExceededLimit::Deadline(deadline));
    matches!(result, Err(CallError::Terminated { cause, .. }) if cause.to_string() == exceeded.to_string())
}

/// Whether a number of calls return, none of which anybody ends.
#[unsafe(no_mangle)]
pub extern "C" fn ampoule_test_plugin_returns(calls: u32) -> bool {
    let Some(mut sandbox) = sandbox() else { return false };
    let deadline = Duration::from_secs(3600);
    (0..calls).all(|_| sandbox.call_with::<(), _>(Call::new("empty", ()).deadline(deadline)).is_ok())
}

fn sandbox() -> Option<Sandbox> {
    calls_builder().build().inspect_err(|error| eprintln!("{error}")).ok()
}
