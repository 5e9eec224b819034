//! What `docs/guide/pages/limits.md` shows.

use std::error::Error;
use std::thread;
use std::time::Duration;

use ampoule::{Call, CallError, ExceededLimit, KillOutcome, Limits, Termination};

use super::shop;

#[test]
fn limits_hold_for_every_call_and_a_call_can_have_its_own() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop()
        .memory_limit(32 << 20)
        .limits(Limits::new().deadline(Duration::from_secs(5)).output(64 << 10).host_calls(1000))
        .build()?;

    let call = Call::new("spins", ()).deadline(Duration::from_millis(50));
    let error = sandbox.call_with::<(), _>(call).unwrap_err();
    let CallError::Terminated { cause: Termination::LimitExceeded(limit), .. } = error else {
        return Err(error.into());
    };
    assert_eq!(limit, ExceededLimit::Deadline(Duration::from_millis(50)));
    sandbox.reset()?;
    Ok(())
}

#[test]
fn a_guest_that_needs_too_much_memory_ends_and_says_so() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().memory_limit(32 << 20).stderr(ampoule::Output::discard()).build()?;
    let error = sandbox.call::<usize>("takes_memory", (64usize,)).unwrap_err();
    assert!(error.poisons());
    assert!(error.to_string().contains("memory_limit"), "{error}");
    Ok(())
}

#[test]
fn any_thread_can_end_a_call() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let handle = sandbox.interrupt_handle();
    let killer = thread::spawn(move || {
        while handle.kill() != KillOutcome::Killed {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let error = sandbox.call::<()>("spins", ()).unwrap_err();
    assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }));
    killer.join().expect("the killer does not panic");
    Ok(())
}
