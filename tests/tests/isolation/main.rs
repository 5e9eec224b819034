//! Nothing that a tenant leaves behind reaches the next one: not after a restore or a reset, whatever the tenant was doing,
//! and not in another sandbox of the same snapshot.

mod chance;
mod memory;
mod output;
mod process;
mod registers;

use std::time::Duration;

use ampoule::{Call, CallError, Limits, Sandbox, Snapshot};
use ampoule_tests::tenant_spawn;

/// The ways to another tenant after a snapshot was taken.
const WAYS_TO_THE_NEXT: [fn(&mut Sandbox, &Snapshot); 3] = [
    |sandbox, snapshot| sandbox.restore(snapshot).unwrap(),
    |sandbox, snapshot| {
        sandbox.restore(snapshot).unwrap();
        sandbox.restore(snapshot).unwrap();
    },
    |sandbox, snapshot| *sandbox = spawn(snapshot),
];

fn spawn(snapshot: &Snapshot) -> Sandbox {
    tenant_spawn(snapshot).build().unwrap()
}

/// Calls a function that does not return by itself, for a little while.
fn run_for_a_while(sandbox: &mut Sandbox, call: Call<'_, impl ampoule::Arguments>) {
    // Time of the processor, so that the guest gets as far on a machine that is busy with something else.
    end(sandbox.call_with::<(), _>(call.limits(Limits::new().cpu_time(Duration::from_millis(50)))));
}

/// Expects that a call ends the guest.
fn end<R>(result: Result<R, CallError>) {
    let error = result.err().expect("the call ends the guest");
    assert!(matches!(error, CallError::Terminated { .. }), "{error}");
}
