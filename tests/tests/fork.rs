//! A process that is forked while it has sandboxes: they are its own, and the child makes others.

use std::sync::mpsc;
use std::time::Duration;

use ampoule::{
    Blame, Call, CallError, InterruptHandle, KillOutcome, Pool, PoolError, RestoreError, Sandbox, SnapshotError,
    Termination,
};
use ampoule_tests::child::in_child;
use ampoule_tests::{calls_image, calls_sandbox, calls_spawn};
use ampoule_vmm::HypervisorError;

#[test]
fn a_sandbox_of_the_parent_is_refused_in_a_child_and_goes_on_in_the_parent() {
    let mut sandbox = calls_sandbox();
    let first = increment(&mut sandbox);
    let snapshot = sandbox.snapshot().unwrap();
    assert_eq!(increment(&mut sandbox), first + 1);
    let refused = in_child(|| {
        let error = sandbox.call::<u32>("increment", ()).unwrap_err();
        assert!(matches!(&error, CallError::Terminated { cause, .. } if is_forked(cause)), "{error}");
        assert_eq!(error.blame(), Blame::Caller);
        assert!(error.to_string().contains("a child has to make its own"), "{error}");
        let error = sandbox.restore(&snapshot).unwrap_err();
        assert!(matches!(&error, RestoreError::Hypervisor(it) if matches!(**it, HypervisorError::Forked)), "{error}");
        let error = sandbox.reset().unwrap_err();
        assert!(matches!(&error, RestoreError::Hypervisor(it) if matches!(**it, HypervisorError::Forked)), "{error}");
    });
    assert_eq!(increment(&mut sandbox), first + 2);
    sandbox.restore(&snapshot).unwrap();
    assert_eq!(increment(&mut sandbox), first + 1);
    sandbox.reset().unwrap();
    assert_eq!(increment(&mut sandbox), first);
    assert_eq!(refused, 0);
}

#[test]
fn a_snapshot_of_the_parents_sandbox_cannot_be_taken_in_a_child() {
    let mut sandbox = calls_sandbox();
    let first = increment(&mut sandbox);
    let refused = in_child(|| {
        let error = sandbox.snapshot().unwrap_err();
        assert!(matches!(&error, SnapshotError::Hypervisor(it) if matches!(**it, HypervisorError::Forked)), "{error}");
    });
    assert_eq!(refused, 0);
    let snapshot = sandbox.snapshot().unwrap();
    assert_eq!(increment(&mut calls_spawn(snapshot.builder()).build().unwrap()), first + 1);
}

#[test]
fn pages_that_the_guest_wrote_are_put_back_whatever_a_child_does() {
    let mut sandbox = calls_sandbox();
    let first = increment(&mut sandbox);
    let snapshot = sandbox.snapshot().unwrap();
    // Often enough that the dirty pages are looked through, and some are given back.
    for _ in 0..4 {
        assert_eq!(increment(&mut sandbox), first + 1);
        let child = in_child(|| {
            for _ in 0..20 {
                assert!(sandbox.restore(&snapshot).is_err());
            }
        });
        sandbox.restore(&snapshot).unwrap();
        assert_eq!(child, 0);
    }
    assert_eq!(increment(&mut sandbox), first + 1);
}

#[test]
fn a_child_that_drops_the_parents_sandbox_leaves_it_alone() {
    let mut sandbox = Some(calls_sandbox());
    let child = in_child(|| drop(sandbox.take()));
    assert_eq!(child, 0);
    increment(&mut sandbox.unwrap());
}

#[test]
fn a_child_has_sandboxes_of_its_own() {
    let mut parents = calls_sandbox();
    let first = increment(&mut parents);
    let snapshot = parents.snapshot().unwrap();
    let child = in_child(|| {
        let mut built = calls_sandbox();
        assert_eq!(increment(&mut built), first);
        let mut spawned = calls_spawn(snapshot.builder()).build().unwrap();
        assert_eq!(increment(&mut spawned), first + 1);
        spawned.restore(&snapshot).unwrap();
        assert_eq!(increment(&mut spawned), first + 1);
        // The child has its own copy of what the parent had, and takes snapshots of its own.
        let second = built.snapshot().unwrap();
        assert_eq!(increment(&mut calls_spawn(second.builder()).build().unwrap()), first + 1);
    });
    assert_eq!(child, 0);
    assert_eq!(increment(&mut parents), first + 1);
}

#[test]
fn time_limits_and_kills_end_calls_of_a_childs_own_sandboxes() {
    let mut parents = calls_sandbox();
    let spin = || Call::new("spin", ()).deadline(Duration::from_millis(1));
    // The thread that watches limits is the parent's.
    parents.call_with::<(), _>(spin()).unwrap_err();
    let child = in_child(|| {
        let mut sandbox = calls_sandbox();
        let error = sandbox.call_with::<(), _>(spin()).unwrap_err();
        assert!(matches!(error, CallError::Terminated { cause: Termination::LimitExceeded(_), .. }), "{error}");
        sandbox.reset().unwrap();
        let handle = sandbox.interrupt_handle();
        std::thread::scope(|scope| {
            scope.spawn(|| while handle.kill() != KillOutcome::Killed {});
            let error = sandbox.call::<()>("spin", ()).unwrap_err();
            assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
        });
    });
    assert_eq!(child, 0);
    parents.reset().unwrap();
    increment(&mut parents);
}

#[test]
fn a_kill_in_a_child_finds_no_call_of_the_parents_running() {
    let mut sandbox = with_notify(|handle| {
        let call = handle.running_call().unwrap();
        let child = in_child(|| {
            assert_eq!(handle.kill(), KillOutcome::NotRunning);
            assert_eq!(call.kill(), KillOutcome::NotRunning);
            assert!(!handle.is_running() && !call.is_running() && handle.running_call().is_none());
            assert!(!handle.is_in_host_function() && !call.is_in_host_function());
        });
        assert_eq!(child, 0);
        assert!(call.is_running());
    });
    for _ in 0..3 {
        sandbox.call::<()>("notify_host", (1u32,)).unwrap();
    }
}

#[test]
fn a_pool_of_the_parent_is_refused_in_a_child_which_makes_another_one() {
    let snapshot = calls_sandbox().snapshot().unwrap();
    let make = || Pool::builder(&snapshot).size(2).spawn_with(calls_spawn).build().unwrap();
    let pool = make();
    let mut taken = Some(pool.take().unwrap());
    let child = in_child(|| {
        for refused in [pool.take(), pool.try_take(), pool.take_timeout(Duration::from_secs(3600))] {
            assert!(matches!(refused, Err(PoolError::Forked)));
        }
        let sandbox = taken.as_mut().unwrap();
        assert!(matches!(sandbox.call::<u32>("increment", ()), Err(CallError::Terminated { .. })));
        drop(taken.take());
        let own = make();
        for _ in 0..4 {
            let sandboxes = [own.take().unwrap(), own.take().unwrap()];
            for mut sandbox in sandboxes {
                increment(&mut sandbox);
            }
        }
    });
    assert_eq!(child, 0);
    increment(taken.as_mut().unwrap());
    drop(taken);
    assert_eq!(pool.stats().taken, 0);
}

fn increment(sandbox: &mut Sandbox) -> u32 {
    sandbox.call("increment", ()).unwrap()
}

fn is_forked(cause: &Termination) -> bool {
    matches!(cause, Termination::Hypervisor(error) if matches!(**error, HypervisorError::Forked))
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
